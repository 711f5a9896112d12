package atrium

import "time"

const (
	// maxHeartbeat bounds the ping interval and the ping time-out that a server may ask for.
	maxHeartbeat = 24 * time.Hour
	// lookInterval bounds the time between two looks at the heartbeat, so that a sleep of the
	// machine is noticed.
	lookInterval = 5 * time.Second
	// probeTimeout is how long a server may be silent after a sleep and a ping (RFC 6455 §5.5.2): a
	// network that wakes up takes some seconds.
	probeTimeout = 10 * time.Second
)

// clientHeartbeat decides when a Client's server is gone. It is pure: look is told what there is to
// see and says what to do.
//
// Times are nanotime unless they say otherwise. Nobody sets that clock: setting the wall clock ends
// no connection, and hides no dead one.
type clientHeartbeat struct {
	limit      int64 // how long the server may be silent, in nanoseconds
	alive      int64 // when the server was last known to be there, or the client did not read
	probed     int64 // when the server was sent a ping after a sleep; 0 if there was none, or it was answered
	looked     int64 // the latest look
	lookedWall int64 // the same in Unix nanoseconds

	// What the latest look saw.
	reads  uint32
	pauses uint32
}

// clientSigns is what a clientHeartbeat looks at.
type clientSigns struct {
	now      int64
	wall     int64  // now in Unix nanoseconds
	received int64  // when the latest whole frame was received
	partial  bool   // part of a message was received, and the rest was not
	reads    uint32 // successful network reads
	paused   bool   // the client does not read
	pauses   uint32 // beginnings and ends of pauses in reading
	queued   bool   // something is still to be written to the server
}

// newClientHeartbeat returns the heartbeat of a server that may be silent for limit.
func newClientHeartbeat(limit time.Duration, s clientSigns) clientHeartbeat {
	return clientHeartbeat{limit: int64(limit), alive: s.now, looked: s.now, lookedWall: s.wall, reads: s.reads, pauses: s.pauses}
}

// slept reports whether the machine seems to have slept since the latest look. Timers do not run
// then, and it depends on the system which of its clocks go on. A wall clock that was set forward
// looks the same.
func (h *clientHeartbeat) slept(now, wall int64) bool {
	return max(now-h.looked, wall-h.lookedWall) > 2*int64(lookInterval)
}

// goneAt is when the server counts as gone if nothing is received until then.
func (h *clientHeartbeat) goneAt() int64 {
	if h.probed != 0 {
		return min(h.alive+h.limit, h.probed+int64(probeTimeout))
	}
	return h.alive + h.limit
}

// look returns whether to send a WebSocket ping now, and when to look again. If wait is not
// positive, the server is gone.
func (h *clientHeartbeat) look(s clientSigns) (ping bool, wait time.Duration) {
	if s.received > h.alive {
		h.alive, h.probed = s.received, 0
	}
	switch {
	case s.paused:
		// Silence means nothing while the client does not read. A server that has gone is noticed
		// by writing: TCP refuses the first ping, and writing the second fails.
		h.probed = 0
		if s.now-h.alive >= h.limit/2 {
			h.alive, ping = s.now, !s.queued
		}
	case s.pauses != h.pauses, s.partial && s.reads != h.reads:
		h.alive, h.probed = s.now, 0
	}
	slept := h.slept(s.now, s.wall)
	h.looked, h.lookedWall, h.reads, h.pauses = s.now, s.wall, s.reads, s.pauses
	if slept && !s.paused && h.probed == 0 && !s.queued && s.now < h.goneAt() {
		h.probed, ping = s.now, true
	}
	return ping, time.Duration(min(h.goneAt()-s.now, int64(lookInterval)))
}

// signs returns what the heartbeat looks at.
func (l *link) signs() clientSigns {
	paused, pauses := l.client.reading.pause()
	return clientSigns{
		now: nanotime(), wall: time.Now().UnixNano(), received: l.received.Load(), partial: l.conn.partialSince.Load() != 0,
		reads: l.conn.reads.Load(), paused: paused, pauses: pauses, queued: l.conn.out.status().bytes > 0,
	}
}

// checkHeartbeat does what the heartbeat says. It runs when the timer fires, and before a message
// is sent if that is due.
func (l *link) checkHeartbeat() {
	signs := l.signs()
	l.client.mu.Lock()
	if l.over {
		l.client.mu.Unlock()
		return
	}
	ping, wait := l.heartbeat.look(signs)
	if wait > 0 {
		l.timer.Reset(wait)
	}
	l.client.mu.Unlock()
	switch {
	case wait <= 0:
		l.cut(ReasonPingTimeout)
	case ping && !l.conn.pushControl(opPing, nil) && l.conn.State() == StateOpen:
		l.cut(ReasonTransportError)
	}
}
