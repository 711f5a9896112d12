package atrium

import "context"

// What is done when a client has gone for good: the functions of OnExpire.

// expiry is something to do in the order in which clients are given up while they are away.
type expiry func()

func (expiry) size() int { return keptOverhead }

// expire has the OnExpire functions called for a client that is gone. If functions of its last
// socket still run, that one calls them when they have returned: see Socket.finished. The caller
// holds the recovery's lock.
func (r *recovery) expire(k *kept) {
	if k.saved || len(r.ns.registry.current.Load().onExpire) == 0 {
		return
	}
	select {
	case <-k.handled:
		r.ns.hub.succession.expiries.put(r.ns.leftSocket(k).expired)
	default:
	}
}

// leftSocket returns a socket that has left, of a client that has gone.
func (n *Namespace) leftSocket(k *kept) *Socket {
	codec := &socketIOCodec{handshake: new(Handshake), base: context.Background()}
	session := newPolling(n.hub, codec).session
	session.ended.Store(true)
	session.poll.state = pollEnded
	s := &Socket{id: k.id, ns: n, session: session, handshake: codec.handshake, ctx: codec.base, kept: k}
	s.state.Store(socketLeft)
	s.calls.closed = true
	s.values.Store(k.values)
	s.rooms = make([]membership, len(k.rooms))
	for i, room := range k.rooms {
		s.rooms[i].stay = room
	}
	return s
}

// expired calls the OnExpire functions.
func (s *Socket) expired() {
	guard(func() {
		for _, f := range s.ns.registry.current.Load().onExpire {
			f(s)
		}
	}, func(what ...any) {
		s.ns.hub.sessions.counters.panics.Add(1)
		s.functionLogger("OnExpire").Error("atrium: a handler panicked", what...)
	})
}

// awaitExpiries waits until the OnExpire functions have returned for all that has expired so far,
// or ctx ends.
func (h *Hub) awaitExpiries(ctx context.Context) {
	done := make(chan struct{})
	h.succession.expiries.put(func() { close(done) })
	select {
	case <-done:
	case <-ctx.Done():
	}
}
