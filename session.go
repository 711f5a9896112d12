package atrium

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// closeMode returns what is done with what is queued for a client that is disconnected for the
// reason.
func (reason Reason) closeMode() closeMode {
	switch reason {
	case ReasonSlowConsumer, ReasonPingTimeout:
		return dropQueued
	case ReasonShutdown:
		return deliverAll // Shutdown's ctx is the bound
	}
	return deliverQueued
}

// sessionShared is what all sessions of a hub share, beside its options and log.
type sessionShared struct {
	clock       *wheel
	flusher     *flusher
	taps        taps // changed under Hub.mu
	counters    counters
	timeouts    timeouts
	compression compression                 // before any handshake
	windows     [protocols][16]atomic.Int32 // by windowBits: how many clients have agreed on compression
}

// agreements yields the different compressions that clients have agreed on at the moment. Their
// windows count one by one, because which of the two deflated forms a client gets depends on
// whether the message fits into its window.
func (c *sessionShared) agreements(yield func(protocol, compression) bool) {
	for wire := range c.windows {
		for bits := range c.windows[wire] {
			if c.windows[wire][bits].Load() > 0 {
				z := c.compression
				z.windowBits = int8(bits)
				if !yield(protocol(wire), z) {
					return
				}
			}
		}
	}
}

const (
	// maxQueuedBeforeConnect is what counts as Limits.QueuedBytes then. A slow consumer has four
	// times as much.
	maxQueuedBeforeConnect = maxBeforeConnect / 4
	// socketOverhead is what a socket counts as that waits to be accepted: itself, its namespace
	// and a goroutine.
	socketOverhead = 4 << 10
)

// session is the life of one client's connection. It reads the connection, has its codec hand what
// came to the sockets, keeps the heartbeat and notices the end. One goroutine, Conn.serve, reads.
type session struct {
	conn     atomic.Pointer[Conn] // nil while the client polls
	poll     *polling             // of a client that polls, or has upgraded from it
	protocol protocol             // the codec's
	shard    uint16               // of the hub's counters
	watched  atomic.Bool          // limitSilence was called for conn
	reading  reading
	events   eventRate // used by the reader only
	hub      *Hub
	codec    codec
	timer    timer
	live     liveEntry

	ended atomic.Bool  // the client has left, or was made to; no socket is added any more
	parts atomic.Int32 // what still runs; see part

	mu sync.Mutex // guards:
	sessionSockets
	heartbeat sessionHeartbeat
}

// sessionSockets are the sockets of a session.
type sessionSockets struct {
	sockets []*Socket             // those removed are among them until their functions have all returned
	early   map[*Socket]earlyList // of those that enter; nil if there are none
}

// earlyList holds events for a socket that enters its rooms, until its connect message is queued.
type earlyList struct {
	events []wireForm
	bytes  int // that they take of memory
}

// earlyOverhead is what an event takes there beside its bytes.
const earlyOverhead = 256

// codec is a protocol of events over messages.
type codec interface {
	// protocol is the form in which the client gets events.
	protocol() protocol
	// request is what the client connected with.
	request() *Handshake
	// begin is called before the first message is received.
	begin(s *session)
	// receive handles one message.
	receive(s *session, op opcode, p []byte)

	// refuse tells a client that its socket is not connected, and why; disconnect, that it was
	// disconnected. Each has the socket leave, and decides whether the connection goes on.
	refuse(s *Socket, message string, data []byte)
	disconnect(s *Socket, reason Reason, status closeStatus)
}

// closeStatus is the status code and the reason that a client is told when its socket is
// disconnected, in RFC 6455's words. The zero value says nothing beyond the Reason.
type closeStatus struct {
	Code   StatusCode `json:"code"`
	Reason string     `json:"reason"`
}

// newSession makes a session that reads conn, or one of a client that polls, whose transport is
// still to be set.
func newSession(h *Hub, conn *Conn, codec codec) *session {
	s := &session{hub: h, codec: codec, protocol: codec.protocol(), heartbeat: newSessionHeartbeat(nanotime(), &h.sessions.timeouts)}
	s.shard = uint16(h.sessions.counters.next.Add(1))
	s.parts.Store(1)
	s.reading.pending.Store(true)
	if conn != nil {
		s.attach(conn)
	}
	s.timer.fire = s.check
	return s
}

// attach makes conn the session's transport, and what it reads.
func (s *session) attach(conn *Conn) {
	conn.handler = s
	s.conn.Store(conn)
}

// maxSockets bounds a client's sockets, those included that have left and whose functions have not
// all returned: each may cost a goroutine, a namespace and a full inbox.
const maxSockets = 100

// crowded reports whether the client may have no more sockets. Only the goroutine that reads the
// connection calls it, and adds sockets.
func (s *session) crowded() bool { return s.parts.Load() > maxSockets } // one part is the reading

// accepted lifts the bounds that hold until a client is accepted. It may be called under locks.
func (s *session) accepted() {
	limits := &s.hub.options.Limits
	s.onTransport(func(t transport) { t.permit(limits.MessageBytes, limits.QueuedBytes) })
	if s.reading.pending.CompareAndSwap(true, false) {
		s.hub.accepted()
		s.reading.recheck()
	}
}

// add makes the socket one of the session's. It reports false if the session has ended.
func (s *session) add(socket *Socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		return false
	}
	s.parts.Add(1)
	s.sockets = append(s.sockets, socket)
	return true
}

// remove takes the socket out of its namespace, so that the client may connect another to it. It
// reports false if the socket was removed before.
func (s *session) remove(socket *Socket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	removed := !socket.removed && slices.Contains(s.sockets, socket)
	socket.removed = true
	return removed
}

// finished notes that all functions of the socket have returned. A socket that was not removed
// stays in the list, for DisconnectClient on a client that is away.
func (s *session) finished(socket *Socket) {
	s.reading.holds(-socketOverhead)
	s.mu.Lock()
	if i := slices.Index(s.sockets, socket); i >= 0 && socket.removed {
		s.sockets = slices.Delete(s.sockets, i, i+1)
	}
	s.mu.Unlock()
	s.part()
}

// socketIn returns the client's socket in the namespace of that name, nil if it has none.
func (s *session) socketIn(namespace string) *Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, socket := range s.sockets {
		if socket.ns.name == namespace && !socket.removed {
			return socket
		}
	}
	return nil
}

// liveSockets returns the client's sockets but those that were removed.
func (s *session) liveSockets() []*Socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.sockets), func(socket *Socket) bool { return socket.removed })
}

// handling yields what the client's sockets are handling, those included that have left.
func (s *session) handling(yield func(socket *Socket, in incoming, since int64)) {
	s.mu.Lock()
	sockets := slices.Clone(s.sockets)
	s.mu.Unlock()
	for _, socket := range sockets {
		if in, since, ok := socket.inbox.current(); ok {
			yield(socket, in, since)
		}
	}
}

// start begins to serve the client, in a goroutine of its own.
func (s *session) start() {
	s.countWindow(+1)
	s.hub.sessions.clock.scheduleBefore(&s.timer, s.heartbeat.nextCheck(s.heartbeat.born, &s.hub.sessions.timeouts, s.observe()))
	if s.ended.Load() {
		s.hub.sessions.clock.stop(&s.timer)
	}
	s.codec.begin(s)
	if conn := s.conn.Load(); conn != nil {
		go conn.serve()
	}
}

// receive implements messageHandler.
func (s *session) receive(op opcode, p []byte) error {
	if op != opContinuation {
		conn := s.conn.Load()
		s.reading.last = !conn.moreInput.Load()
		if s.protocol == plainProtocol || !isEnginePong(op, p) {
			conn.received.messages.Add(1)
		}
		s.codec.receive(s, op, p)
	}
	return nil
}

// claimed implements messageHandler.
func (s *session) claimed() inbox { return s.reading.takeClaimed() }

// readEnded implements messageHandler: it ends the session after its connection.
func (s *session) readEnded() {
	s.countWindow(-1)
	conn := s.conn.Load()
	reason := conn.endReason()
	if e, ok := errors.AsType[*CloseError](conn.in.err); ok && conn.in.violated && !s.ended.Load() {
		if reason == ReasonMessageTooBig {
			s.logTooBig(e.Reason, &oversized{bytes: conn.in.remaining, limit: conn.readLimit.Load()})
		} else {
			s.logViolation(e.Reason)
		}
	}
	s.end(reason, noCloseFrame, "")
	conn.finish()
	s.hub.connectionClosed(s)
	s.part()
}

// moreEvents implements messageHandler.
func (s *session) moreEvents() bool { return s.reading.more.Load() }

func (s *session) countWindow(change int32) {
	if z := s.transport().agreed(); z.agreed() {
		s.hub.sessions.windows[s.protocol][z.windowBits].Add(change)
	}
}

// noCloseFrame stands for no close frame: the connection has ended, or is closing.
const noCloseFrame StatusCode = 0

// end disconnects the client, once: its sockets leave delivery at once, what is queued and the
// close frame are still sent, events already received are still handled, and after them the
// leaving. It does not wait. It reports false if the session has ended before.
func (s *session) end(reason Reason, code StatusCode, text string) bool {
	if !s.ended.CompareAndSwap(false, true) {
		return false
	}
	s.hub.sessions.counters.ended(reason)
	s.hub.sessions.clock.stop(&s.timer)
	sockets := s.liveSockets()
	if reason.blames() && len(sockets) > 0 {
		s.hub.log.lately.add("disconnected a client: "+string(reason), sockets[0].handshake.remote,
			append([]any{clientText("problem", text)}, sockets[0].logged()...)...)
	}
	for _, socket := range sockets {
		socket.leave(reason)
	}
	s.onTransport(func(t transport) { t.close(code, text, reason.closeMode()) })
	return true
}

// letGo ends the session as soon as all that was received is handled and answered. Until then
// nothing more is received, except while a Call to the client is pending; see queue.push.
func (s *session) letGo() {
	s.reading.draining.Store(true)
	s.endIfAnswered()
}

// endIfAnswered ends a session that was let go, unless it still owes its client something. It is
// called whenever that may have changed.
func (s *session) endIfAnswered() {
	if s.reading.draining.Load() && !s.busy() {
		s.endShutdown()
	}
}

// busy reports whether something that was received is not handled and answered yet.
func (s *session) busy() bool {
	return slices.ContainsFunc(s.liveSockets(), func(socket *Socket) bool {
		return !socket.inbox.idle() || socket.calls.owed.Load() > 0
	})
}

// endShutdown ends the session in a way after which every kind of client comes back by itself, to
// another process: with a close frame that says so, and Engine.IO's close packet to one that polls.
// Socket.IO's clients do not after Socket.IO's own packet.
func (s *session) endShutdown() {
	s.end(ReasonShutdown, StatusServiceRestart, string(ReasonShutdown))
}

// part notes that one part of the session has ended: the reading, a probe of a WebSocket, or the
// handling of a socket.
func (s *session) part() {
	if s.parts.Add(-1) == 0 {
		s.hub.remove(s)
	}
}

// counters returns where the session counts.
func (s *session) counters() *counterShard { return s.hub.sessions.counters.shard(uint32(s.shard)) }

// push queues a message, and may be called under a room's lock. If wake is true the caller must
// wake the transport, and after pushTooSlow, end the session.
func (s *session) push(f *wireForm, volatile bool, by pusher) (v pushResult, wake bool) {
	t := s.transport()
	v, wake = t.push(f, volatile, by)
	if v == pushRefused && t != s.transport() { // the client has upgraded meanwhile
		v, wake = s.transport().push(f, volatile, by)
	}
	if v == pushOverLimit {
		s.hub.sessions.clock.scheduleBefore(&s.timer, nanotime()+int64(stallTimeout))
	}
	return v, wake
}

// sendText sends a payload, which is in newFrame's buffer, as a text message.
func (s *session) sendText(b []byte) {
	f := wireForms.Get().(*wireForm)
	f.set(b)
	s.send(f)
}

// sendPacket sends a packet in the form of the client's protocol.
func (s *session) sendPacket(p packet) {
	f := wireForms.Get().(*wireForm)
	f.encode(s.protocol, p, nil)
	s.send(f)
}

// send sends a message, compressed from the threshold on, and releases it. That may take a while.
func (s *session) send(f *wireForm) {
	if z := s.transport().agreed(); len(f.payload) >= int(z.threshold) {
		f.deflate(z)
	}
	v, wake := s.push(f, false, forEmitter)
	f.release()
	s.pushed(wake, v == pushTooSlow)
}

// pushed does what is owed after a push, without locks.
func (s *session) pushed(wake, slow bool) {
	if wake {
		s.transport().wake()
	}
	if slow {
		s.endSlow()
	}
}

// pushEarly has an event, which has come by one of the socket's rooms, wait for its connect
// message, a volatile one too: the wait is short. It reports false if that is queued by now. It may
// be called under a room's lock.
func (s *session) pushEarly(socket *Socket, f *wireForm) (v pushResult, waits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if socket.state.Load() != socketPending {
		return 0, false
	}
	if s.early == nil {
		s.early = make(map[*Socket]earlyList)
	}
	early := s.early[socket]
	if early.bytes > s.hub.options.Limits.QueuedBytes {
		return pushTooSlow, true
	}
	s.early[socket] = earlyList{append(early.events, *f), early.bytes + len(f.whole) + earlyOverhead}
	return pushQueued, true
}

// pushConnect queues the socket's connect message, and behind it what has waited for that, and
// makes the socket a connected one: in one step, so that nothing is ever ahead of the message.
func (s *session) pushConnect(socket *Socket, f *wireForm) (wake, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, wake = s.push(f, false, forEmitter)
	for _, event := range s.early[socket].events {
		v, w := s.push(&event, false, forBroadcast)
		wake, slow = wake || w, slow || v == pushTooSlow
	}
	if delete(s.early, socket); len(s.early) == 0 {
		s.early = nil
	}
	socket.state.Store(socketConnected)
	return wake, slow
}
