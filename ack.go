package atrium

import (
	"context"
	"sync"
	"sync/atomic"
)

// call implements Caller.
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

// Call sends an event to each socket and waits for all acknowledgements. It returns one Reply for
// each socket, in no particular order, whose Err says if the socket did not answer. It waits until
// ctx ends, or for Timeouts.Call if ctx has no deadline. The error is a mistake of the caller, as
// with Emit, or a *ClusterError beside the replies that there are. Volatile has no effect on Call.
func (t Target) Call(ctx context.Context, event string, args ...any) ([]Reply, error) {
	m, err := newMessage(t.ns.name, event, args, t.ns.hub.options.Limits.Attachments)
	if err != nil {
		return nil, err
	}
	defer m.release()
	t.ns.emitted(m)
	return t.callEverywhere(ctx, m)
}

// call sends a message to the sockets of this node, and returns their replies.
func (t Target) call(ctx context.Context, m *message) []Reply {
	h := t.ns.hub
	c := &call{id: h.calls.Add(1) - 1, waiting: 1, done: make(chan struct{})}
	m.ackID = c.id
	t.deflate(m)
	d := acquireDelivery(h)
	c.mu.Lock()
	t.each(func(s *Socket) {
		if c.expect(s) {
			d.push(s, m)
		}
	})
	c.settle()
	c.mu.Unlock()
	d.finish(h)

	if _, ok := ctx.Deadline(); !ok {
		clock := h.sessions.clock
		limit := timer{fire: func() { c.giveUp(ErrTimeout) }}
		clock.schedule(&limit, after(h.options.Timeouts.Call))
		defer clock.stop(&limit)
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		c.giveUp(timedOut(ctx.Err()))
		<-c.done // a reply may be on its way
	}
	return c.replies
}

// call is an event that sockets have to acknowledge, with their replies. Each socket that has not
// replied has it among its pending calls. Whoever removes it there sets the reply.
type call struct {
	id   int64
	done chan struct{} // closed when all replies are set; the call does not change any more

	// mu is held while the event is queued for the sockets, under locks of rooms, pendingCalls and
	// inboxes. It guards:
	mu      sync.Mutex
	sockets []*Socket
	replies []Reply // of the sockets, in their order
	waiting int     // missing replies; one more until the event was queued for all sockets
}

// expect adds a socket. It reports false if the socket is not to be asked, and sets the reason as
// the reply. The caller holds c.mu.
func (c *call) expect(s *Socket) bool {
	c.sockets = append(c.sockets, s)
	c.replies = append(c.replies, Reply{SocketID: s.id})
	i := len(c.replies) - 1
	if err := s.calls.add(c, i, s.ns.hub.options.Limits.Calls); err != nil {
		c.replies[i].Err = err
		return false
	}
	s.session.reading.called(+1)
	c.waiting++
	return true
}

// reply sets the i-th reply. The caller has removed the call from the socket's pending calls.
func (c *call) reply(i int, r Reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets[i].session.reading.called(-1)
	r.SocketID = c.replies[i].SocketID
	c.replies[i] = r
	c.settle()
}

// settle counts waiting down. The caller holds c.mu.
func (c *call) settle() {
	if c.waiting--; c.waiting == 0 {
		close(c.done)
	}
}

// giveUp sets err as the reply of the sockets that have not replied. The event was queued for all
// sockets.
func (c *call) giveUp(err error) {
	for i, s := range c.sockets {
		if _, pending := s.calls.remove(c.id); pending {
			s.ns.hub.sessions.counters.unanswered.Add(1)
			c.reply(i, Reply{Err: err})
		}
	}
}

// pendingCalls are the calls that a socket has not replied to yet.
type pendingCalls struct {
	mu     sync.Mutex // guards:
	byID   map[int64]pendingCall
	closed bool // the socket has left

	owed atomic.Int32 // acknowledgements of the socket's events that are to come later; not guarded
}

// pendingCall is a call, and the index of the socket in it.
type pendingCall struct {
	*call
	index int
}

// add adds a call. Its error is ErrDisconnected if the socket has left, or ErrTooManyCalls.
func (p *pendingCalls) add(c *call, index, most int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrDisconnected
	case len(p.byID) >= most:
		return ErrTooManyCalls
	}
	if p.byID == nil {
		p.byID = make(map[int64]pendingCall)
	}
	p.byID[c.id] = pendingCall{c, index}
	return nil
}

// remove removes the call with that id, and reports false if there is none.
func (p *pendingCalls) remove(id int64) (pendingCall, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, ok := p.byID[id]
	delete(p.byID, id)
	if len(p.byID) == 0 {
		p.byID = nil
	}
	return c, ok
}

// close sets ErrDisconnected as the reply to all calls, and lets none be added. It returns how many
// that were. The socket has left.
func (p *pendingCalls) close() (unanswered int) {
	p.mu.Lock()
	pending := p.byID
	p.byID, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range pending {
		c.reply(c.index, Reply{Err: ErrDisconnected})
	}
	return len(pending)
}

// acknowledge handles an acknowledgement from the client, in the goroutine that reads the
// connection. It does not keep answer. It ignores acknowledgements of calls that are over or were
// for another socket, and reports false if there never was a call with that id.
func (s *Socket) acknowledge(id int64, answer args, fail *Error) bool {
	if id >= s.ns.hub.calls.Load() {
		return false
	}
	s.record(tappedAck, false, eventData{args: answer, ackID: id})
	if c, pending := s.calls.remove(id); pending {
		s.ns.hub.sessions.counters.answered.Add(1)
		c.reply(c.index, newReply(answer, fail))
	}
	return true
}
