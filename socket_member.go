package atrium

import "time"

// member is a socket, or what is kept of one whose client is away (see Recovery), that a Join,
// Leave or Disconnect acts on. The client may go, or come back as another socket, meanwhile: so
// each method looks up what the member is now, under the recovery's lock.
type member struct {
	ns     *Namespace
	socket *Socket // what was found; nil if the client was away
	kept   *kept   // what was found if the client was away
}

func (s *Socket) member() member { return member{ns: s.ns, socket: s} }

func (m member) id() string {
	if m.socket != nil {
		return m.socket.id
	}
	return m.kept.id
}

// now returns the member's present socket or, if its client is away, what is kept of it; neither if
// it has gone for good. The caller holds the recovery's lock.
func (m member) now() (s *Socket, away *kept) {
	k := m.kept
	if m.socket != nil {
		k = m.socket.kept
	}
	if k == nil { // it is not connected yet, or cannot come back
		return m.socket, nil
	}
	if s = m.ns.socket(k.id); s != nil || k.gone {
		return s, nil
	}
	return nil, k
}

// join puts the member into the rooms: all of them or, with an error, none.
func (m member) join(names roomNames) error {
	if err := names.fit(m.id(), m.ns.hub.options.Limits.Rooms); err != nil {
		return err
	}
	m.ns.recovery.lock()
	defer m.ns.recovery.unlock()
	s, away := m.now()
	switch {
	case s != nil:
		return s.joinRooms(names.rooms)
	case away != nil:
		added, err := roomsToJoin(away.rooms, names.rooms, m.ns.hub.options.Limits.Rooms)
		m.ns.recovery.joinAway(away, added)
		m.ns.subscribe(added)
		return err
	}
	return nil
}

// leave takes the member out of the rooms.
func (m member) leave(rooms []string) {
	m.ns.recovery.lock()
	s, away := m.now()
	var wake, slow bool
	switch {
	case s != nil:
		wake, slow = s.leaveRooms(rooms)
	case away != nil:
		m.ns.recovery.leaveAway(away, rooms)
	}
	m.ns.recovery.unlock()
	if wake || slow {
		s.session.pushed(wake, slow)
	}
}

// disconnect disconnects the member, for good.
func (m member) disconnect(status closeStatus) {
	if s := m.dismiss(); s != nil {
		s.session.codec.disconnect(s, ReasonServerDisconnect, status)
	}
}

// dismiss keeps the client from coming back, and returns the socket to disconnect, if there is one.
func (m member) dismiss() *Socket {
	m.ns.recovery.lock()
	defer m.ns.recovery.unlock()
	s, k := m.now()
	if s != nil {
		k = s.kept
	}
	if k != nil {
		m.ns.recovery.forget(k)
	}
	return s
}

// disconnectAt schedules the member's disconnect at the time t, in place of an earlier time; none
// if t is zero.
func (m member) disconnectAt(t time.Time) {
	m.ns.recovery.lock()
	defer m.ns.recovery.unlock()
	s, k := m.now()
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		k = s.kept
	}
	var expiry **timer
	switch {
	case k != nil && !k.gone:
		expiry, m = &k.expiry, member{ns: m.ns, kept: k}
	case k == nil && s != nil && !s.hasLeft():
		expiry = &s.expiry
	default:
		return
	}
	clock := m.ns.hub.sessions.clock
	if *expiry != nil {
		clock.stop(*expiry)
		*expiry = nil
	}
	if !t.IsZero() {
		*expiry = m.expireAt(after(time.Until(t)))
	}
}

// expireAt sets a timer that disconnects the member.
func (m member) expireAt(when int64) *timer {
	t := &timer{fire: func() { m.disconnect(closeStatus{}) }}
	m.ns.hub.sessions.clock.schedule(t, when)
	return t
}

// members lists the members of the target, those whose clients are away, too. The list is made
// under the recovery's lock: clients that come or go meanwhile are not missed.
func (t Target) members() []member {
	r := t.ns.recovery
	r.lock()
	defer r.unlock()
	var list []member
	t.each(func(s *Socket) { list = append(list, s.member()) })
	if r != nil {
		r.eachAway(t.recipients(), func(k *kept) { list = append(list, member{ns: t.ns, kept: k}) })
	}
	return list
}
