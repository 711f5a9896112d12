package atrium

import (
	"cmp"
	"time"
)

// sessionFigures are what is known of one client's connection at a moment.
type sessionFigures struct {
	protocol  string // "plain" or "socket.io"
	transport string // "websocket" or "polling"
	opened    time.Time
	received  traffic       // from the client since then, by both transports; see TrafficStats
	sent      traffic       // to the client
	queued    int           // bytes that wait to be sent
	roundTrip time.Duration // of the last ping that was answered; 0: none was yet
}

// figures returns what is known of the session's connection. It takes the lock of the transport's
// queue for a moment, and may be called at any time, also when the session has ended.
func (s *session) figures() sessionFigures {
	f := sessionFigures{
		protocol:  s.protocol.String(),
		transport: "polling",
		opened:    clockStart.Add(time.Duration(s.heartbeat.born)),
	}
	if t := s.poll; t != nil {
		f.received, f.sent = t.counts.received.load(), t.counts.sent.load()
		f.roundTrip = t.counts.roundTrip.last()
	}
	if conn := s.conn.Load(); conn != nil {
		f.transport = "websocket"
		f.received = f.received.plus(conn.received.load())
		f.roundTrip = cmp.Or(conn.pings.heartbeat.last(), f.roundTrip)
	}
	status := s.transport().status()
	f.sent, f.queued = f.sent.plus(status.sent), status.bytes
	return f
}
