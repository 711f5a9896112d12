package atrium

import (
	"context"
	"sync"
)

func (s *Socket) call(ctx context.Context, event string, args []any) Reply {
	replies, err := s.alone().Call(ctx, event, args...)
	switch {
	case err != nil:
		return Reply{Err: err}
	case len(replies) == 0:
		return Reply{Err: ErrDisconnected}
	}
	return replies[0]
}

// Call sends an event to each socket and waits for all their answers: one Reply a socket, in no particular order,
// some perhaps with an error of their own. It waits until ctx ends, or for Options.CallTimeout if ctx has no
// deadline; the sockets that did not answer in time say so in their replies. Call's own error is the caller's
// mistake, as with Emit, or a *ClusterError beside the replies that there are. Volatile has no effect on it.
func (t Target) Call(ctx context.Context, event string, args ...any) ([]Reply, error) {
	m, err := newMessage(t.ns.name, event, args, t.ns.hub.options.MaxAttachments)
	if err != nil {
		return nil, err
	}
	defer m.release()
	t.ns.emitted(m)
	return t.callEverywhere(ctx, m)
}

// call calls the sockets of this node.
func (t Target) call(ctx context.Context, m *message) []Reply {
	h := t.ns.hub
	c := &call{id: h.calls.Add(1) - 1, done: make(chan struct{})}
	m.ackID = c.id
	t.deflate(m)
	d := deliveries.Get().(*delivery)
	c.mu.Lock()
	t.each(func(s *Socket) {
		if c.expect(s) {
			d.push(s, m)
		}
	})
	c.sealed = true
	c.finishIfComplete()
	c.mu.Unlock()
	d.finish(h.sessions.flusher)
	deliveries.Put(d)

	if _, ok := ctx.Deadline(); !ok {
		clock := h.sessions.clock
		limit := timer{fire: func() { c.giveUp(ErrTimeout) }}
		clock.schedule(&limit, after(h.options.CallTimeout))
		defer clock.stop(&limit)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.giveUp(timedOut(ctx.Err()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.replies
}

// call is one question and its answers.
type call struct {
	id   int64
	done chan struct{} // closed when there is nothing to wait for any more

	// mu may be held while the locks of rooms, pendingCalls and inboxes are taken. It guards:
	mu      sync.Mutex
	sockets []*Socket // replies[i] is sockets[i]'s; nil once it is in
	replies []Reply
	waiting int
	sealed  bool // all who are asked are known
}

// expect adds a socket whose answer is waited for; it reports false if the socket has left. c.mu is held.
func (c *call) expect(s *Socket) bool {
	i := len(c.replies)
	if !s.calls.add(c, i) {
		c.sockets = append(c.sockets, nil)
		c.replies = append(c.replies, Reply{SocketID: s.id, Err: ErrDisconnected})
		return false
	}
	s.session.called(+1)
	c.sockets = append(c.sockets, s)
	c.replies = append(c.replies, Reply{SocketID: s.id})
	c.waiting++
	return true
}

// answered puts in the i-th reply, unless it is in already.
func (c *call) answered(i int, r Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer(i, r)
	c.finishIfComplete()
}

func (c *call) answer(i int, r Reply) {
	s := c.sockets[i]
	if s == nil {
		return
	}
	c.sockets[i] = nil
	r.SocketID = c.replies[i].SocketID
	c.replies[i] = r
	c.waiting--
	s.session.called(-1)
}

// giveUp ends the wait for all who have not answered.
func (c *call) giveUp(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.sockets {
		if s != nil {
			s.calls.take(c.id)
			c.answer(i, Reply{Err: err})
		}
	}
	c.finishIfComplete()
}

func (c *call) finishIfComplete() {
	if c.sealed && c.waiting == 0 {
		c.sealed = false
		close(c.done)
	}
}

// pendingCalls are the calls that wait for one socket's answer.
type pendingCalls struct {
	mu     sync.Mutex // guards:
	byID   map[int64]pendingCall
	closed bool
}

// pendingCall is a call and the socket's place in it.
type pendingCall struct {
	call  *call
	index int
}

func (p *pendingCalls) add(c *call, index int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	if p.byID == nil {
		p.byID = make(map[int64]pendingCall)
	}
	p.byID[c.id] = pendingCall{c, index}
	return true
}

// take removes a call and returns it; its call is nil if there is none with that id.
func (p *pendingCalls) take(id int64) pendingCall {
	p.mu.Lock()
	defer p.mu.Unlock()
	pending := p.byID[id]
	delete(p.byID, id)
	if len(p.byID) == 0 {
		p.byID = nil
	}
	return pending
}

// fail ends all calls because the socket has gone, and lets none be added.
func (p *pendingCalls) fail() {
	p.mu.Lock()
	pending := p.byID
	p.byID, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range pending {
		c.call.answered(c.index, Reply{Err: ErrDisconnected})
	}
}

// acknowledge takes the client's answer to a call, on the goroutine that reads the connection; the answer is good until it
// returns. An answer to a call that is over, or that another socket was asked, changes nothing. It reports false if there
// never was a call with that id.
func (s *Socket) acknowledge(id int64, answer args, fail *Error) bool {
	if id >= s.ns.hub.calls.Load() {
		return false
	}
	pending := s.calls.take(id)
	if pending.call == nil {
		return true
	}
	pending.call.answered(pending.index, newReply(answer, fail))
	return true
}
