package atrium

import (
	"encoding/json"
	"strconv"
)

// Recovered reports whether the client came back after its connection broke, and the socket has the
// ID, rooms and values that it had before. See Recovery.
func (s *Socket) Recovered() bool { return s.recovered }

// deliverRecoverably is deliver for a namespace with recovery. It compresses under the lock,
// because the offset is part of what is compressed.
func (t Target) deliverRecoverably(m *message, d *delivery) {
	r := t.ns.recovery
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.only != nil && (t.only.kept == nil || t.only.kept.gone) { // a plain client, or one that is gone for good
		t.deliver(m, d)
		return
	}
	if r.inherited[m.mark] {
		m.above = r.ns.hub.succession.first
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

// current returns the live Socket with the id of s, which is another if the client has come back; s
// itself if there is none.
func (n *Namespace) current(s *Socket) *Socket {
	if n.recovery != nil {
		if now := n.socket(s.id); now != nil {
			return now
		}
	}
	return s
}

// comeBack makes the socket continue as the one that the client asks for. It reports false if the
// client is a new one.
func (s *Socket) comeBack(auth []byte) bool {
	r := s.ns.recovery
	if r == nil || s.session.protocol != socketIOProtocol || len(auth) == 0 {
		return false
	}
	var asked struct {
		PID    string  `json:"pid"`
		Offset *string `json:"offset"`
	}
	if json.Unmarshal(auth, &asked) != nil || asked.PID == "" {
		return false
	}
	count := &s.ns.hub.sessions.counters.recovery
	count.tried.Add(1)
	back := s.comeBackAs(asked.PID, asked.Offset)
	switch {
	case back:
		count.recovered.Add(1)
	case !s.hasLeft():
		count.anew.Add(1)
	}
	return back
}

// comeBackAs is comeBack for a client that has asked for it.
func (s *Socket) comeBackAs(pid string, offset *string) bool {
	r := s.ns.recovery
	awaited := s.ns.hub.succession.pending.Load()
	k, handled, stale := r.claim(pid, s)
	if k == nil && awaited && s.ns.hub.awaitPredecessor(s.Context()) {
		k, handled, stale = r.claim(pid, s)
	}
	if k == nil {
		return false
	}
	if stale != nil && stale != s.session {
		// The client has left that connection, which was not noticed.
		stale.end(ReasonTransportClose, noCloseFrame, "")
		stale.closeNow()
	}
	select {
	case <-handled: // the functions of one id run one at a time
	case <-s.Context().Done():
	}
	return s.reenter(k, offset)
}

// reenter is enter for a socket whose client comes back. What the client has missed goes first.
func (s *Socket) reenter(k *kept, offset *string) bool {
	s.awaitTopics(k)
	r := s.ns.recovery
	r.mu.Lock()
	s.mu.Lock()
	wake, slow, in := s.reenterLocked(k, offset)
	s.mu.Unlock()
	r.mu.Unlock()
	s.session.pushed(wake, slow)
	return in
}

func (s *Socket) reenterLocked(k *kept, offset *string) (wake, slow, in bool) {
	r := s.ns.recovery
	if k.claim != s { // a newer connection of the client
		return false, false, false
	}
	if s.hasLeft() {
		k.claim = nil
		r.park(k)
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
	if !s.acquirePlace(userAmong(k.rooms)) { // it is refused when the Use functions have passed
		r.forget(k)
		return false, false, false
	}
	s.assume(k)
	s.session.accepted() // the bounds of a client that is not accepted yet are too small for what it has missed
	for _, f := range missed {
		v, w := s.session.push(f, false, forBroadcast)
		wake, slow = wake || w, slow || v == pushTooSlow
	}
	s.session.counters().deliveries.Add(uint64(len(missed)))
	r.resume(k, s.session, sent)
	w, tooSlow := s.enterLocked()
	return wake || w, slow || tooSlow, true
}

// keep makes k what is kept of the socket: the two share the values, and k gets the expiry. The
// caller holds the locks, the recovery's and s.mu.
func (s *Socket) keep(k *kept) {
	s.kept = k
	k.values = s.madeValues()
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

// stays lists the rooms. The caller holds s.mu.
func (s *Socket) stays() []stay {
	list := make([]stay, len(s.rooms))
	for i, m := range s.rooms {
		list[i] = m.stay
	}
	return list
}

// allowReturn lets the client come back as another socket: the functions of this one have all
// returned. It reports whether the client has gone for good.
func (s *Socket) allowReturn() (gone bool) {
	r := s.ns.recovery
	r.lock()
	defer r.unlock()
	s.mu.Lock()
	k := s.kept
	s.mu.Unlock()
	if k == nil {
		return s.wasConnected()
	}
	close(k.handled)
	return k.gone && !k.saved
}
