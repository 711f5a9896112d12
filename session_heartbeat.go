package atrium

import "math/rand/v2"

// timeouts are a hub's, and the grain of its clock: a check may be two ticks late.
type timeouts struct {
	Timeouts
	tick int64 // nanoseconds
}

// firstPingSpread is how much later than the interval the first ping may come, in nanoseconds. A
// client waits for it until the interval and the ping timeout have passed.
func (t *timeouts) firstPingSpread() int64 {
	return int64(min(t.PingInterval, t.Ping) / 4)
}

// sessionHeartbeat decides when a client is pinged and when its session has waited too long: for a
// pong, for the client to connect, for the rest of a message, or for a slow consumer. It is a value
// without side effects: session.check tells it what is seen and does what it says.
type sessionHeartbeat struct {
	born         int64  // nanotime at which the session began
	pingAt       int64  // nanotime of the next ping; while awaitingPong, of the last, or of what began its timeout anew
	received     uint32 // sessionSigns.received when the ping was sent
	passedPings  int32  // sessionSigns.passedPings then, or when the timeout last began anew
	pauses       uint32 // sessionSigns.pauses, likewise
	awaitingPong bool
}

// newSessionHeartbeat returns the heartbeat of a session that begins now. Clients that come
// together, after a restart for example, are not pinged together. None is pinged before the
// interval that its handshake has told it.
func newSessionHeartbeat(now int64, t *timeouts) sessionHeartbeat {
	return sessionHeartbeat{born: now, pingAt: now + int64(t.PingInterval) + rand.Int64N(t.firstPingSpread()+1)}
}

// sessionSigns is what a check sees of a session.
type sessionSigns struct {
	transportStatus
	pending bool   // no socket of the client was accepted yet
	pauses  uint32 // reading.pauses
	paused  bool   // the connection is not read at the moment, because an inbox is full
	spared  int64  // nanotime until which nobody is ended for silence, because the process stood still
}

// deadline returns when a client that should have said something by then is ended.
func (seen *sessionSigns) deadline(by int64) int64 { return max(by, seen.spared) }

// heartbeatAction is what a check leads to.
type heartbeatAction uint8

const (
	actNothing heartbeatAction = iota
	actPing
	actConnectTimeout // and this and all that follow end the session
	actMessageTimeout
	actSlowConsumer
	actPingTimeout
)

// next returns what is to be done now. Unless that ends the session, look is the nanotime of the
// next check.
func (h *sessionHeartbeat) next(now int64, t *timeouts, seen sessionSigns) (do heartbeatAction, look int64) {
	switch {
	case seen.pending && now >= seen.deadline(h.born+int64(t.Connect)):
		return actConnectTimeout, 0
	case seen.unfinished != 0 && now >= seen.deadline(seen.unfinished+int64(t.Message)):
		return actMessageTimeout, 0
	case seen.slowAt != 0 && now >= seen.slowAt:
		return actSlowConsumer, 0
	}
	if h.awaitingPong {
		switch {
		case seen.received != h.received: // anything that is received answers the ping
			h.awaitingPong = false
			h.pingAt += int64(t.PingInterval)
		case seen.pauses != h.pauses || seen.paused:
			// The hub did not read. The timeout begins anew, and something has to be on its way to
			// the client: writing to one that has gone fails sooner or later.
			h.pingAt, h.pauses = now, seen.pauses
			if seen.bytes == 0 {
				do = actPing
			}
		case seen.passedPings != h.passedPings:
			// The ping waits for the end of a long frame, which the client reads. The timeout
			// begins anew.
			h.pingAt, h.passedPings = now, seen.passedPings
		case now >= seen.deadline(h.pongBy(t)):
			return actPingTimeout, 0
		}
	}
	if !h.awaitingPong && now >= h.pingAt {
		h.awaitingPong, h.pingAt = true, now
		h.received, h.passedPings, h.pauses = seen.received, seen.passedPings, seen.pauses
		do = actPing
	}
	return do, h.nextCheck(now, t, seen)
}

// pongBy returns when the ping timeout ends. What the first ping was late, by its spread and by the
// clock's two ticks, is taken off, so that a client that sends nothing at all is gone when it
// expects to be.
func (h *sessionHeartbeat) pongBy(t *timeouts) int64 {
	from := h.pingAt
	if first := h.born + int64(t.PingInterval); from <= first+t.firstPingSpread()+2*t.tick {
		from = first
	}
	return from + int64(t.Ping)
}

// nextCheck returns when to look again.
func (h *sessionHeartbeat) nextCheck(now int64, t *timeouts, seen sessionSigns) int64 {
	next := h.pingAt
	if h.awaitingPong {
		// An answer that has come, early or late, must not make the next ping late.
		intervals := (now-h.pingAt)/int64(t.PingInterval) + 1
		next = min(next+intervals*int64(t.PingInterval), seen.deadline(h.pongBy(t)))
		if seen.paused {
			// The peer's TCP answers a first ping with a reset, and only then does writing a second
			// fail.
			next = min(next, h.pingAt+int64(t.Ping)/2)
		}
	}
	next = min(next, now+int64(t.Message))
	if seen.pending {
		next = min(next, seen.deadline(h.born+int64(t.Connect)))
	}
	if seen.unfinished != 0 {
		next = min(next, seen.deadline(seen.unfinished+int64(t.Message)))
	}
	if seen.slowAt != 0 {
		next = min(next, seen.slowAt)
	}
	return next
}

// observe returns what a check sees.
func (s *session) observe() sessionSigns {
	paused, pauses := s.reading.pause()
	sessions := &s.hub.sessions
	spared := sessions.clock.lastStall() + int64(sessions.timeouts.Ping)
	return sessionSigns{s.transport().status(), s.reading.pending.Load(), pauses, paused, spared}
}

// check enforces the session's deadlines. It runs when the timer fires, and may be called at any
// time.
func (s *session) check() {
	if s.ended.Load() {
		return
	}
	s.mu.Lock()
	now := nanotime()
	do, look := s.heartbeat.next(now, &s.hub.sessions.timeouts, s.observe())
	s.mu.Unlock()
	switch do {
	case actConnectTimeout:
		s.endLate("connect timeout", "Timeouts.Connect", s.hub.options.Timeouts.Connect)
		return
	case actMessageTimeout:
		s.endLate("message timeout", "Timeouts.Message", s.hub.options.Timeouts.Message)
		return
	case actSlowConsumer:
		s.endSlow()
		return
	case actPingTimeout:
		if s.end(ReasonPingTimeout, StatusPolicyViolation, string(ReasonPingTimeout)) {
			s.hub.noteSilent()
		}
		return
	case actPing:
		if !s.ping() {
			return
		}
	}
	s.hub.sessions.clock.scheduleBefore(&s.timer, look)
}

// pingForms are the pings of RFC 6455 and of Engine.IO. Anything that is received answers one.
var pingForms = func() (forms [protocols]*wireForm) {
	forms[plainProtocol] = &wireForm{whole: appendHeader(nil, frameHeader{Fin: true, Opcode: opPing})}
	f := new(wireForm)
	f.set(appendEngine(newFrame(1), enginePing, nil))
	f.textPackets() // it is shared by all who poll
	forms[socketIOProtocol] = f
	return forms
}()

// pong notes a pong of Engine.IO. One that comes by another transport than its ping is not timed.
func (s *session) pong() {
	if conn := s.conn.Load(); conn != nil {
		conn.pings.heartbeat.pong()
	} else {
		s.poll.counts.roundTrip.pong()
	}
}

// ping queues a ping; the pings that are due at a time leave like a broadcast. If it cannot be
// queued although nobody has begun to close the connection, writing has failed and reading has not
// noticed: ping ends the session and reports false.
func (s *session) ping() bool {
	if conn := s.conn.Load(); conn != nil && s.watched.CompareAndSwap(false, true) {
		// Not in the handshake: clients come by the thousand, and most that go do so before a ping.
		timeouts := &s.hub.options.Timeouts
		limitSilence(conn.nc, timeouts.PingInterval+timeouts.Ping)
	}
	queued, wake := false, false
	s.onTransport(func(t transport) {
		if !queued {
			queued, wake = t.pushPing(pingForms[s.protocol])
		}
	})
	if wake {
		s.hub.sessions.flusher.add(s.transport())
	}
	if queued || !s.transport().status().open {
		return true
	}
	s.end(ReasonTransportError, StatusInternalError, "")
	return false
}
