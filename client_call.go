package atrium

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// clientCall is a question of a Client's to its server.
type clientCall struct {
	id      int64
	parcel  *parcel
	order   int64      // in which it was accepted
	sent    bool       // at least once
	retries int        // how often again
	done    chan Reply // has room for the one that there will be
}

// clientCalls are the calls that wait for an answer, or to be sent.
type clientCalls struct {
	next    int64 // id; they begin at 0 and are never used twice
	order   int64
	waiting map[int64]*clientCall
}

// call implements Caller.
func (c *Client) call(ctx context.Context, event string, args []any) Reply {
	if err := ctx.Err(); err != nil {
		return Reply{Err: timedOut(err)}
	}
	k := &clientCall{done: make(chan Reply, 1)}
	c.mu.Lock()
	k.id = c.calls.next
	c.calls.next++
	c.mu.Unlock()
	m, err := c.encode(event, args, k.id)
	if err != nil {
		return Reply{Err: err}
	}
	m.call, k.parcel = k, m

	c.reading.calls.Add(1) // the answer may stand behind events that the inbox has no room for
	c.inbox.recheck()
	defer c.reading.calls.Add(-1)
	if err := c.send(m); err != nil {
		return Reply{Err: err}
	}
	var limit <-chan time.Time
	if _, ok := ctx.Deadline(); !ok {
		timer := time.NewTimer(c.options.CallTimeout)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case r := <-k.done:
		return r
	case <-limit:
		err = ErrTimeout
	case <-ctx.Done():
		err = timedOut(ctx.Err())
	}
	c.forget(k)
	return Reply{Err: err}
}

// accepted notes that a parcel will be sent, and sent that it was. c.mu is held.
func (c *Client) accepted(m *parcel) {
	k := m.call
	if k == nil || c.calls.waiting[k.id] != nil {
		return
	}
	if c.calls.waiting == nil {
		c.calls.waiting = make(map[int64]*clientCall)
	}
	c.calls.waiting[k.id] = k
	k.order = c.calls.order
	c.calls.order++
}

func (c *Client) sent(m *parcel) {
	c.accepted(m)
	if m.call != nil {
		m.call.sent = true
	}
}

// forget drops a call whose caller waits no more. If it was not sent yet, it will not be.
func (c *Client) forget(k *clientCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(k)
	c.unsent.remove(func(m *parcel) bool { return m.call == k })
}

// remove takes a call off those that wait. c.mu is held.
func (c *Client) remove(k *clientCall) {
	delete(c.calls.waiting, k.id)
	if len(c.calls.waiting) == 0 {
		c.calls.waiting = nil
	}
}

// acknowledge takes the server's answer. One that nobody waits for changes nothing.
func (c *Client) acknowledge(p packet) {
	c.mu.Lock()
	k := c.calls.waiting[p.ackID]
	if k == nil || !k.sent {
		c.mu.Unlock()
		return
	}
	c.remove(k)
	c.mu.Unlock()
	k.done <- newReply(p.args, failure(p))
}

// resend puts the calls that were sent, and will be again, in front of what waits to be sent, and returns those that
// will not. c.mu is held.
func (c *Client) resend() (failed []*clientCall) {
	var again []*parcel
	for _, k := range c.sentCalls() {
		if k.retries == c.options.CallRetries {
			c.remove(k)
			failed = append(failed, k)
			continue
		}
		k.retries++
		again = append(again, k.parcel)
	}
	waiting := c.unsent.parcels
	c.unsent = unsent{}
	for _, m := range slices.Concat(again, waiting) {
		c.unsent.add(m)
	}
	return failed
}

// abandonCalls gives up the calls that were sent, or all of them. c.mu is held.
func (c *Client) abandonCalls(all bool) (failed []*clientCall) {
	if all {
		for _, k := range c.calls.waiting {
			failed = append(failed, k)
		}
	} else {
		failed = c.sentCalls()
	}
	for _, k := range failed {
		c.remove(k)
	}
	c.unsent.remove(func(m *parcel) bool { return m.call != nil && c.calls.waiting[m.call.id] == nil })
	return failed
}

// sentCalls lists the calls that were sent, in the order in which they were accepted. c.mu is held.
func (c *Client) sentCalls() []*clientCall {
	var sent []*clientCall
	for _, k := range c.calls.waiting {
		if k.sent {
			sent = append(sent, k)
		}
	}
	slices.SortFunc(sent, func(a, b *clientCall) int { return cmp.Compare(a.order, b.order) })
	return sent
}

func failCalls(calls []*clientCall, err error) {
	for _, k := range calls {
		k.done <- Reply{Err: err}
	}
}
