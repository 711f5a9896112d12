package atrium

// The deadlines of a session: the heartbeat, the time-outs of connecting and of messages, and the slow consumer.

// check looks at all the session's deadlines. It is the timer's fire, and for whoever has noticed that time has passed.
func (s *session) check() {
	s.checking.Lock()
	defer s.checking.Unlock()
	if s.ended.Load() {
		return
	}
	now := nanotime()
	c := s.config
	if s.reading.pending.Load() && now-s.born >= int64(c.connectTimeout) {
		s.end(ReasonForcedServerClose, StatusPolicyViolation, "connect timeout")
		return
	}
	if since := s.transport.unfinished(); since != 0 && now-since >= int64(c.messageTimeout) {
		s.end(ReasonForcedServerClose, StatusPolicyViolation, "message timeout")
		return
	}
	if slow, _ := s.transport.overdue(); slow {
		s.endSlow()
		return
	}
	if s.awaiting {
		heard := s.transport.heard()
		switch {
		case heard != s.heard:
			s.awaiting = false
			s.pingAt += int64(c.pingInterval)
		case s.reading.pausedSince(s.pauses):
			// It was we who did not read. The time-out begins anew; but a client that has gone is noticed by writing.
			s.pingAt, s.pauses = now, s.reading.pauses.Load()
			if !s.probe() {
				s.endUnwritable()
				return
			}
		case s.ahead != s.transport.ahead():
			// The ping waits for the end of a long frame, which the client reads. The time-out begins anew.
			s.pingAt, s.ahead = now, s.transport.ahead()
		case now >= s.pongBy():
			s.end(ReasonPingTimeout, StatusPolicyViolation, string(ReasonPingTimeout))
			return
		}
	}
	if !s.awaiting && now >= s.pingAt {
		s.awaiting, s.pingAt, s.heard, s.pauses = true, now, s.transport.heard(), s.reading.pauses.Load()
		s.ahead = s.transport.ahead()
		if !s.ping() && s.transport.open() {
			s.endUnwritable()
			return
		}
	}
	c.clock.scheduleBefore(&s.timer, s.nextCheck(now))
}

// pongBy is when the answer to the ping that is awaited has to be there, or anything else: the ping time-out after the
// ping. What the first ping was late, by its spread and by the clock's two ticks, is taken off, so that a client that says
// nothing at all is gone when it expects to be.
func (s *session) pongBy() int64 {
	c := s.config
	from := s.pingAt
	if first := s.born + int64(c.pingInterval); from <= first+c.firstPingSpread()+2*c.clock.tick {
		from = first
	}
	return from + int64(c.pingTimeout)
}

// endUnwritable ends a session because writing has failed and reading does not notice.
func (s *session) endUnwritable() { s.end(ReasonTransportError, StatusInternalError, "") }

// probe sees to it that something is on its way to a client that is not read from: to write to one that has gone fails
// sooner or later. It reports false if that has happened.
func (s *session) probe() bool {
	return s.transport.buffered() > 0 || s.ping() || !s.transport.open()
}

// ping queues a ping; the pings that are due at a time leave like a broadcast.
func (s *session) ping() bool {
	queued, wake := s.transport.pushPing(s.codec.ping())
	if wake {
		s.config.flusher.add(s.transport)
	}
	return queued
}

// nextCheck is when to look again.
func (s *session) nextCheck(now int64) int64 {
	c := s.config
	next := s.pingAt
	if s.awaiting {
		// An answer that has come, early or late, must not make the next ping late.
		intervals := (now-s.pingAt)/int64(c.pingInterval) + 1
		next = min(next+intervals*int64(c.pingInterval), s.pongBy())
		if s.reading.paused() {
			// The peer's TCP refuses a first ping, and only then writing a second fails: see probe.
			next = min(next, s.pingAt+int64(c.pingTimeout)/2)
		}
	}
	next = min(next, now+int64(c.messageTimeout))
	if s.reading.pending.Load() {
		next = min(next, s.born+int64(c.connectTimeout))
	}
	if since := s.transport.unfinished(); since != 0 {
		next = min(next, since+int64(c.messageTimeout))
	}
	if _, look := s.transport.overdue(); look != 0 {
		next = min(next, look)
	}
	return next
}
