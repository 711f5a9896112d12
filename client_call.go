package atrium

import (
	"context"
	"time"
)

// call implements Caller.
func (c *Client) call(ctx context.Context, event string, args []any) Reply {
	if err := ctx.Err(); err != nil {
		return Reply{Err: timedOut(err)}
	}
	c.mu.Lock()
	id := c.queue.nextID
	c.queue.nextID++
	c.mu.Unlock()
	m, err := c.encode(event, args, id)
	if err != nil {
		return Reply{Err: err}
	}
	k := &clientCall{id: id, parcel: m, done: make(chan Reply, 1)}
	m.call = k

	c.reading.called(+1) // the reply may be behind events that the inbox has no room for
	defer c.reading.called(-1)
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
	c.mu.Lock()
	c.queue.cancel(k)
	c.mu.Unlock()
	return Reply{Err: err}
}

// acknowledge handles the server's answer to a Call. It ignores one that nobody waits for.
func (c *Client) acknowledge(p packet) {
	c.mu.Lock()
	k := c.queue.answered(p.ackID)
	c.mu.Unlock()
	if k != nil {
		k.done <- newReply(p.args, failure(p))
	}
}

// failCalls gives calls, which are removed from the queue already, an error.
func failCalls(calls []*clientCall, err error) {
	for _, k := range calls {
		k.done <- Reply{Err: err}
	}
}
