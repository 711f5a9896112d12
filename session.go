package atrium

import (
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Reason says why a socket was disconnected. The strings are Socket.IO's where it has one.
type Reason string

// The reasons a socket disconnects for.
const (
	// ReasonServerDisconnect: Socket.Disconnect, DisconnectAt or Target.Disconnect.
	ReasonServerDisconnect Reason = "server namespace disconnect"
	// ReasonShutdown: Hub.Shutdown.
	ReasonShutdown Reason = "server shutting down"
	// ReasonPingTimeout: nothing was heard from the client for Options.PingTimeout after a ping.
	ReasonPingTimeout Reason = "ping timeout"
	// ReasonTransportClose: the client closed the connection, or it was cut.
	ReasonTransportClose Reason = "transport close"
	// ReasonTransportError: the network failed, or the client broke RFC 6455.
	ReasonTransportError Reason = "transport error"
	// ReasonParseError: the client sent what its protocol has no form for.
	ReasonParseError Reason = "parse error"
	// ReasonForcedServerClose: the hub gave up on the client: a handler panicked, or a message took longer than
	// Options.MessageTimeout, or events came far faster than they were handled.
	ReasonForcedServerClose Reason = "forced server close"
	// ReasonSlowConsumer: the client does not read fast enough; see Options.MaxQueued.
	ReasonSlowConsumer Reason = "slow consumer"
)

// sessionConfig is what all sessions of a hub share.
type sessionConfig struct {
	clock          *wheel
	flusher        *flusher
	pingInterval   time.Duration
	pingTimeout    time.Duration
	connectTimeout time.Duration
	messageTimeout time.Duration
	maxMessageSize int64
	inboxEvents    int
	inboxBytes     int

	compression compression      // before any handshake
	windows     [16]atomic.Int32 // by windowBits: the clients with whom compression was agreed on
}

// agreements yields the different compressions that clients have agreed on at the moment.
func (c *sessionConfig) agreements(yield func(compression) bool) {
	for bits := range c.windows {
		if c.windows[bits].Load() > 0 {
			z := c.compression
			z.windowBits = int8(bits)
			if !yield(z) {
				return
			}
		}
	}
}

// maxBeforeConnect bounds a message, and the inbox, in bytes, until the client is accepted.
const maxBeforeConnect = 64 << 10

// session is the life of one client: it reads the connection, hands events to the inbox and acknowledgements to
// their calls, keeps the heartbeat and notices the end. One goroutine, serve, reads. The floor above lives in it
// as its resident.
type session struct {
	config   *sessionConfig
	conn     *Conn
	resident resident
	inbox    *inbox
	timer    timer
	born     int64 // nanotime

	authFirst bool        // the client sends a connect message before anything else
	asked     bool        // it has; the reader's own
	accepted  atomic.Bool // the resident accepted the client
	ended     atomic.Bool // the client has left, or was made to
	parts     atomic.Int32

	// The heartbeat: check's own.
	pingAt   int64 // nanotime of the next ping, or of the one whose pong is awaited
	awaiting bool
	heard    uint32 // the connection's fills when the ping was sent
	pauses   uint32 // the inbox's pauses then
	ahead    int32  // the outbox's aheadOfPings then
}

// resident is a Socket as its session sees it.
type resident interface {
	// handle deals with one incoming thing, in the inbox's goroutine.
	handle(in incoming)
	// acknowledge takes the answer to a Call. It runs where the connection is read, and its arguments are
	// good until it returns. It reports whether a call with that id was ever made.
	acknowledge(id int64, args []byte, n int, fail *Error) bool
	// leave takes the socket out of delivery, at once.
	leave()
	// gone is called when nothing of the session is left.
	gone()
}

func newSession(config *sessionConfig, conn *Conn, r resident, in *inbox) *session {
	s := &session{config: config, conn: conn, resident: r, inbox: in, born: nanotime()}
	in.owner = r
	in.maxCount, in.maxBytes = config.inboxEvents, maxBeforeConnect
	in.more = &conn.out.eventsWait
	s.timer.fire = s.check
	// Clients that come together, after a restart say, are not pinged together.
	s.pingAt = s.born + int64(config.pingInterval)/2 + rand.Int64N(int64(config.pingInterval)/2+1)
	return s
}

// start begins to serve the client, in a goroutine of its own.
func (s *session) start() {
	s.countWindow(+1)
	s.config.clock.scheduleBefore(&s.timer, s.nextCheck(s.born))
	if s.ended.Load() {
		s.config.clock.stop(&s.timer)
	}
	if !s.authFirst {
		s.asked = true
		s.inbox.push(incoming{kind: incomingConnect, id: noID})
	}
	go s.serve()
}

// serve reads the connection until it ends, and then sees to the rest of it.
//
// It waits with next to nothing on its stack. What it does with a message needs more than the 2 KB that a stack
// begins with, and one that has grown does not shrink below 4 KB again; so it goes on as a new goroutine before it
// waits. That costs 0.6 µs a wake-up, and saves half of an idle client's stack.
func (s *session) serve() {
	if s.conn.await() == nil && s.receive() == nil {
		go s.serve()
		return
	}
	s.over()
}

// receive deals with all that is at hand. Its error is that of the connection's end.
func (s *session) receive() error {
	for {
		op, p, err := s.conn.readHere()
		if err != nil {
			return err
		}
		if op != OpContinuation {
			s.receivePlain(op, p)
		}
		if !s.conn.hasInput() {
			return nil
		}
	}
}

// over is the end of reading.
func (s *session) over() {
	s.countWindow(-1)
	s.end(s.endReason(), noCloseFrame, "")
	s.conn.finish()
	s.part()
}

func (s *session) countWindow(change int32) {
	if z := s.conn.compression; z.agreed() {
		s.config.windows[z.windowBits].Add(change)
	}
}

// endReason tells from the error that ended the reading what happened to the connection.
func (s *session) endReason() Reason {
	e, ok := errors.AsType[*CloseError](s.conn.in.err)
	switch {
	case !ok || s.conn.in.violated:
		return ReasonTransportError
	case e.Code != StatusAbnormalClosure, errors.Is(e, io.EOF):
		// A close frame, or a cut, which is how many clients leave.
		return ReasonTransportClose
	}
	return ReasonTransportError
}

// accept queues the first frame that the client gets, which tells it that it is accepted, and lifts the bounds for
// those who are not. A true wake obliges the caller to wake the connection's outbox.
func (s *session) accept(first []byte) (wake bool) {
	s.conn.readLimit.Store(s.config.maxMessageSize)
	s.inbox.bound(s.config.inboxEvents, s.config.inboxBytes)
	wake, _ = s.push(first, false, forEmitter)
	s.accepted.Store(true)
	return wake
}

// noCloseFrame is for connections that are over, or closing, anyway.
const noCloseFrame StatusCode = 0

// end disconnects the client, once: the socket leaves delivery at once, what is queued and the close frame are
// still sent, events already received are still handled, and after them the leaving. It does not wait.
func (s *session) end(reason Reason, code StatusCode, text string) {
	if !s.ended.CompareAndSwap(false, true) {
		return
	}
	s.config.clock.stop(&s.timer)
	s.resident.leave()
	if code != noCloseFrame {
		s.conn.beginClose(code, text, reason == ReasonSlowConsumer)
	}
	s.inbox.pushLast(incoming{kind: incomingLeave, reason: reason})
}

// part notes that one of the session's two parts is over: reading, and handling.
func (s *session) part() {
	if s.parts.Add(1) == 2 {
		s.resident.gone()
	}
}

// push queues a frame, and may be called under a room's lock. A true wake obliges the caller to wake the
// connection's outbox; a true slow, to end the session.
func (s *session) push(frame []byte, volatile bool, by pusher) (wake, slow bool) {
	var v verdict
	if volatile {
		v, wake = s.conn.out.pushVolatile(frame, by)
	} else {
		v, wake = s.conn.out.push(frame, by)
	}
	if v == overLimit {
		s.config.clock.scheduleBefore(&s.timer, nanotime()+int64(stallTimeout))
	}
	return wake, v == tooSlow
}

// send is push and its obligations, for callers without locks.
func (s *session) send(frame []byte, volatile bool) {
	wake, slow := s.push(frame, volatile, forEmitter)
	if wake {
		s.conn.out.wake()
	}
	if slow {
		s.endSlow()
	}
}

// sendText is send for a payload in newFrame's buffer, which it makes a text frame: a compressed one if that is worth
// it. It may take a while.
func (s *session) sendText(b []byte) {
	payload := b[headerRoom:]
	if z := s.conn.compression; len(payload) >= int(z.threshold) {
		if frame := z.frame(Header{Fin: true, Opcode: OpText}, payload); frame != nil {
			s.send(frame, false)
			return
		}
	}
	s.send(sealFrame(b, OpText), false)
}

func (s *session) endSlow() {
	s.end(ReasonSlowConsumer, StatusPolicyViolation, string(ReasonSlowConsumer))
}

// check looks at all the session's deadlines. It is the timer's fire.
func (s *session) check() {
	if s.ended.Load() {
		return
	}
	now := nanotime()
	c := s.config
	if !s.accepted.Load() && now-s.born >= int64(c.connectTimeout) {
		s.end(ReasonForcedServerClose, StatusPolicyViolation, "connect timeout")
		return
	}
	if since := s.conn.partialSince.Load(); since != 0 && now-since >= int64(c.messageTimeout) {
		s.end(ReasonForcedServerClose, StatusPolicyViolation, "message timeout")
		return
	}
	if slow, _ := s.conn.out.overdue(); slow {
		s.endSlow()
		return
	}
	if s.awaiting {
		heard := s.conn.fills.Load()
		switch {
		case heard != s.heard:
			s.awaiting = false
			s.pingAt += int64(c.pingInterval)
		case s.inbox.pausedSince(s.pauses):
			// It was we who did not read. The time-out begins anew.
			s.pingAt, s.pauses = now, s.inbox.pauses.Load()
		case s.ahead != s.conn.out.aheadOfPings():
			// The ping waits for the end of a long frame, which the client reads. The time-out begins anew.
			s.pingAt, s.ahead = now, s.conn.out.aheadOfPings()
		case now-s.pingAt >= int64(c.pingTimeout):
			s.end(ReasonPingTimeout, StatusPolicyViolation, string(ReasonPingTimeout))
			return
		}
	}
	if !s.awaiting && now >= s.pingAt {
		s.awaiting, s.pingAt, s.heard, s.pauses = true, now, s.conn.fills.Load(), s.inbox.pauses.Load()
		s.ahead = s.conn.out.aheadOfPings()
		if !s.ping() && s.conn.State() == StateOpen {
			// Writing has failed, and reading does not notice.
			s.end(ReasonTransportError, StatusInternalError, "")
			return
		}
	}
	c.clock.scheduleBefore(&s.timer, s.nextCheck(now))
}

// ping queues a ping; the pings that are due at a time leave like a broadcast.
func (s *session) ping() bool {
	queued, wake := s.conn.out.pushPing(emptyPing)
	if wake {
		s.config.flusher.add(&s.conn.out)
	}
	return queued
}

// emptyPing is a server's ping. Any byte answers it.
var emptyPing = AppendHeader(nil, Header{Fin: true, Opcode: OpPing})

// nextCheck is when to look again.
func (s *session) nextCheck(now int64) int64 {
	c := s.config
	next := s.pingAt
	if s.awaiting {
		// An answer that has come, early or late, must not make the next ping late.
		intervals := (now-s.pingAt)/int64(c.pingInterval) + 1
		next += min(intervals*int64(c.pingInterval), int64(c.pingTimeout))
	}
	next = min(next, now+int64(c.messageTimeout))
	if !s.accepted.Load() {
		next = min(next, s.born+int64(c.connectTimeout))
	}
	if since := s.conn.partialSince.Load(); since != 0 {
		next = min(next, since+int64(c.messageTimeout))
	}
	if _, look := s.conn.out.overdue(); look != 0 {
		next = min(next, look)
	}
	return next
}
