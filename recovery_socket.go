package atrium

import (
	"encoding/json"
	"strconv"
	"sync/atomic"
)

// newRecovery returns nil if there is none.
func newRecovery(h *Hub, n *Namespace) *recovery {
	o := &h.options
	if o.Recovery.MaxDisconnection == 0 {
		return nil
	}
	r := &recovery{
		clock:     h.sessions.clock,
		stays:     int64(o.Recovery.MaxDisconnection),
		remembers: int64(min(o.Recovery.MaxDisconnection+o.PingInterval+o.PingTimeout, endless)),
		maxBytes:  int64(o.Recovery.MaxBytes),
		total:     new(atomic.Int64),
		maxMissed: o.MaxQueued,
		hold:      func() { h.retain(n.name) },
		release:   func() { h.release(n) },
		sessions:  make(map[string]*kept),
		absent:    make(map[string]*kept),
	}
	r.timer.fire = r.sweep
	return r
}

// Recovered reports whether the client came back after its connection broke, and the socket has the ID, rooms and
// values that it had before. See Recovery.
func (s *Socket) Recovered() bool { return s.recovered }

// deliverRecoverably is deliver for a namespace with recovery. It compresses under the lock, because the offset is part of
// what is compressed.
func (t Target) deliverRecoverably(m *message, d *delivery) {
	r := t.ns.recovery
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.only != nil && (t.only.kept == nil || t.only.kept.gone) { // a plain client, or one that is gone for good
		t.deliver(m, d)
		return
	}
	numbered := r.number(m)
	t.deliver(m, d)
	if numbered && !m.volatile {
		r.keep(m, t.recipients())
	}
}

func (t Target) recipients() recipients {
	to := recipients{scoped: t.scoped, rooms: t.rooms, except: t.except}
	if t.only != nil {
		to.only = t.only.id
	}
	if t.sender != nil {
		to.sender = t.sender.id
	}
	return to
}

// present returns the socket that s is now: another, if its client has come back.
func (n *Namespace) present(s *Socket) *Socket {
	if n.recovery == nil || s == nil {
		return s
	}
	if now := n.socket(s.id); now != nil {
		return now
	}
	return s
}

// comeBack has the socket continue the session that the client asks for, and reports whether it does. If it does not,
// the client is a new one.
func (s *Socket) comeBack(auth []byte) bool {
	r := s.ns.recovery
	if r == nil || !s.session.codec.recovers() || len(auth) == 0 {
		return false
	}
	var asked struct {
		PID    string  `json:"pid"`
		Offset *string `json:"offset"`
	}
	if json.Unmarshal(auth, &asked) != nil || asked.PID == "" {
		return false
	}
	k, stale := r.claim(asked.PID)
	if k == nil {
		return false
	}
	if stale != nil {
		// The client has left that connection, and we have not noticed.
		stale.end(ReasonTransportClose, noCloseFrame, "")
		stale.closeNow()
	}
	select {
	case <-k.handled: // the functions of one id run one at a time
	case <-s.Context().Done():
	}
	return s.reenter(k, asked.Offset)
}

// reenter is enter for a socket that continues a claimed session. What the client has missed goes first.
func (s *Socket) reenter(k *kept, offset *string) bool {
	r := s.ns.recovery
	r.mu.Lock()
	s.mu.Lock()
	wake, slow, in := s.reenterLocked(k, offset)
	s.mu.Unlock()
	r.mu.Unlock()
	s.awaitAll()
	if wake {
		s.session.transport().wake()
	}
	if slow {
		s.session.endSlow()
	}
	return in
}

func (s *Socket) reenterLocked(k *kept, offset *string) (wake, slow, in bool) {
	r := s.ns.recovery
	if s.hasLeft() {
		r.unclaim(k)
		return false, false, false
	}
	number := k.start // the client has got nothing yet
	if offset != nil {
		var err error
		if number, err = strconv.ParseUint(*offset, 10, 64); err != nil {
			r.forget(k)
			return false, false, false
		}
	}
	missed, sent, ok := r.missed(k, number)
	if !ok || k.expiry != nil && k.expiry.when <= nanotime() {
		r.forget(k)
		return false, false, false
	}
	s.assume(k)
	for _, f := range missed {
		w, tooSlow := s.session.push(f, false, forBroadcast)
		wake, slow = wake || w, slow || tooSlow
	}
	r.resume(k, s.session, sent)
	return s.enterLocked() || wake, slow, true
}

// keep makes k what is kept of the socket, which shares its values and hands its expiry over. The locks are held, the
// recovery's and s.mu.
func (s *Socket) keep(k *kept) {
	s.kept = k
	v := s.lockValues()
	v.mu.Unlock()
	k.values = v
	if s.expiry != nil {
		when := s.expiry.when
		s.ns.hub.sessions.clock.stop(s.expiry)
		s.expiry, k.expiry = nil, member{ns: s.ns, kept: k}.expireAt(when)
	}
}

// assume gives the socket what is kept of it.
func (s *Socket) assume(k *kept) {
	s.kept, s.id, s.recovered = k, k.id, true
	s.values.Store(k.values)
	s.rooms = make([]membership, len(k.rooms))
	for i, room := range k.rooms {
		s.rooms[i].stay = room
	}
}

// stays lists the rooms. s.mu is held.
func (s *Socket) stays() []stay {
	list := make([]stay, len(s.rooms))
	for i, m := range s.rooms {
		list[i] = m.stay
	}
	return list
}

// handOver lets another socket continue the session: the functions of this one have all returned.
func (s *Socket) handOver() {
	s.mu.Lock()
	k := s.kept
	s.mu.Unlock()
	if k != nil {
		close(k.handled)
	}
}
