package atrium

import (
	"context"
	"fmt"
	"log/slog"
)

// The life of a Socket: what its client sends is queued in its inbox and handled there, from the
// connect to the leaving.

// The states of a Socket, in their order. A refused socket has left without having been connected.
const (
	socketPending int32 = iota // the Use functions have not all returned
	socketConnected
	socketLeft
	socketRefused
)

// isConnected reports whether the socket is delivered to.
func (s *Socket) isConnected() bool { return s.state.Load() == socketConnected }

// wasConnected reports whether the socket is connected, or was before it left: what was received by
// then is handled nevertheless.
func (s *Socket) wasConnected() bool {
	state := s.state.Load()
	return state == socketConnected || state == socketLeft
}

// hasLeft reports whether the socket has left, or was refused.
func (s *Socket) hasLeft() bool { return s.state.Load() >= socketLeft }

const pidLength = 20 // characters, all random

// newSocket makes a socket of the session's client, which is still to be added to the session.
func newSocket(ns *Namespace, session *session, handshake *Handshake, base context.Context) *Socket {
	s := &Socket{id: newSocketID(ns.hub.node), ns: ns, session: session, handshake: handshake, ctx: base}
	s.inbox.handler, s.inbox.reading = s, &session.reading
	s.inbox.maxCount, s.inbox.maxBytes = session.hub.options.Limits.InboxEvents, maxBeforeConnect
	session.reading.holds(socketOverhead)
	return s
}

// receive queues something that the client has sent; see queue.push. The goroutine that reads the
// connection calls it.
func (s *Socket) receive(in incoming) {
	if in.kind != incomingConnect {
		s.session.counters().events.Add(1)
	}
	if limits := &s.ns.hub.options.Limits; limits.EventsPerSecond > 0 && in.kind != incomingConnect &&
		!s.session.events.take(nanotime(), limits.EventsPerSecond, limits.EventBurst) {
		s.endTooFast(in, limits.EventsPerSecond)
		return
	}
	if in.kind == incomingEvent {
		s.record(tappedEvent, false, in.eventData)
	}
	if s.inbox.push(in) == itemRefused {
		s.ns.hub.log.warn("atrium: a client sends far faster than its events are handled", s.logged(clientText("event", in.name),
			hint("Limits.InboxEvents and InboxBytes are the limits; while a Call waits for the client they are twice as large"))...)
		s.session.end(ReasonForcedServerClose, StatusPolicyViolation, "too many events are waiting")
	}
}

// endTooFast ends the session because of an event over Limits.EventsPerSecond.
func (s *Socket) endTooFast(in incoming, limit int) {
	s.ns.hub.log.warn("atrium: a client sent too many events", s.logged(slog.Int("limit", limit), clientText("event", in.name),
		hint("Limits.EventsPerSecond is the limit"))...)
	problem := fmt.Sprintf("too many events: expected at most %d a second", limit)
	if s.isConnected() { // nothing goes ahead of the connect message
		s.replyError(in.name, in.ackID, problem, nil)
	}
	s.session.end(ReasonForcedServerClose, StatusPolicyViolation, problem)
}

// owe counts acknowledgements of the socket's events that are to come later.
func (s *Socket) owe(change int32) {
	s.calls.owed.Add(change)
	s.session.endIfAnswered()
}

// refuseOwed refuses an event because as many acknowledgements as may are to come later.
func (s *Socket) refuseOwed(e *Event, limit int) {
	s.ns.hub.log.warn("atrium: refused an event over Limits.Calls", s.logged(slog.Int("limit", limit), clientText("event", e.name),
		hint("the handlers of so many of the socket's events have called Later, or are OnAck's, and not replied yet"))...)
	e.ReplyError(Errorf("too many events wait for their acknowledgements: expected at most %d", limit))
}

// Socket returns the socket that the event came from. It is nil if the event came to a Client.
func (e *Event) Socket() *Socket {
	s, _ := e.sender.(*Socket)
	return s
}

// handle implements handler: it calls the application's functions for one item of the inbox and
// recovers their panics.
func (s *Socket) handle(in incoming, at handling) {
	var e *Event
	if in.kind == incomingEvent {
		e = &Event{sender: s, eventData: in.eventData}
		defer s.session.counters().handled(at)
	}
	if in.kind == incomingLeave {
		defer s.finished()
	}
	guard(func() { s.run(in, e) }, func(what ...any) {
		s.ns.hub.sessions.counters.panics.Add(1)
		s.loggerOf(in).Error("atrium: a handler panicked", what...)
		if e != nil {
			e.fail("internal error", nil)
		}
		s.session.end(ReasonForcedServerClose, StatusInternalError, "internal error")
	})
}

// countError counts an error that an event is answered with.
func (s *Socket) countError() { s.ns.hub.sessions.counters.errors.Add(1) }

// emptied implements handler.
func (s *Socket) emptied() { s.session.endIfAnswered() }

// finished is called when all functions of the socket have returned.
func (s *Socket) finished() {
	if s.allowReturn() {
		s.expired()
	}
	s.ns.hub.release(s.ns)
	s.session.finished(s)
}

// run calls the functions for the item; e is the event if it is one.
func (s *Socket) run(in incoming, e *Event) {
	if in.kind == incomingConnect {
		s.connect(in.args.json)
		return
	}
	if !s.wasConnected() {
		return
	}
	switch in.kind {
	case incomingEvent:
		if limit := s.ns.hub.options.Limits.Calls; int(s.calls.owed.Load()) >= limit {
			s.refuseOwed(e, limit)
		} else if !s.ns.askPresence(s, e) && !s.ns.registry.dispatch(s, e) {
			e.ReplyError(Errorf("event: %q is not one that this server knows", e.name))
		}
	case incomingProblem:
		s.replyError(in.name, in.ackID, string(in.args.json), nil)
	case incomingLeave:
		s.logDisconnected(in.reason)
		for _, f := range s.ns.registry.current.Load().onDisconnect {
			f(s, in.reason)
		}
	}
}

// logger implements sender.
func (s *Socket) logger(event string) *slog.Logger {
	return s.ns.hub.options.Logger.With(s.logged(clientText("event", event))...)
}

// functionLogger is logger for a function that is not called for an event.
func (s *Socket) functionLogger(name string) *slog.Logger {
	return s.ns.hub.options.Logger.With(s.logged(slog.String("function", name))...)
}

// loggerOf returns the logger for the function that is running for the item.
func (s *Socket) loggerOf(in incoming) *slog.Logger {
	switch {
	case in.kind == incomingLeave:
		return s.functionLogger("OnDisconnect")
	case in.kind != incomingConnect:
		return s.logger(in.name)
	case s.wasConnected():
		return s.functionLogger("OnConnect")
	}
	return s.functionLogger("Use")
}

// maxAttachments implements sender.
func (s *Socket) maxAttachments() int { return s.ns.hub.options.Limits.Attachments }

// connect lets the client in, unless enterAtOnce has, and calls the OnConnect functions.
func (s *Socket) connect(auth []byte) {
	functions := s.ns.registry.current.Load()
	if !s.wasConnected() {
		s.handshake.auth = auth
		if !s.comeBack(auth) && !s.letIn(functions.use) {
			return
		}
	}
	s.logConnected()
	for _, f := range functions.onConnect {
		f(s)
	}
}

// letIn calls the Use functions and then connects the client, or refuses it.
func (s *Socket) letIn(functions []func(*Socket) error) bool {
	for _, use := range functions {
		if err := errorOf(use(s)); err != nil {
			s.ns.hub.sessions.counters.refused[refusedUse].Add(1)
			s.logRefused(err)
			message, data := publicError(err, s.functionLogger("Use"))
			s.ns.hub.log.lately.add("refused a client by a Use function", s.handshake.remote,
				clientText("namespace", s.ns.name), clientText("message", message))
			s.session.codec.refuse(s, message, data)
			return false
		}
	}
	return s.enter()
}

// enterAtOnce connects a client that sends no auth value, if there is no Use function to ask and no
// Bus to wait for.
func (s *Socket) enterAtOnce() {
	if len(s.ns.registry.current.Load().use) == 0 && s.ns.hub.cluster == nil {
		s.enter()
	}
}

// enter puts the socket into delivery, and into the rooms that it joined in Use. It reports false
// if the client has gone meanwhile, or is refused because its user has as many sockets as may be.
func (s *Socket) enter() bool {
	s.awaitTopics(nil)
	r := s.ns.recovery
	r.lock()
	s.mu.Lock()
	left := s.hasLeft()
	in := !left && s.acquirePlace(userAmong(s.rooms))
	var wake, slow bool
	if in {
		if r != nil && s.session.protocol == socketIOProtocol {
			s.keep(r.open(randomText(pidLength), s.id, s.session))
		}
		wake, slow = s.enterLocked()
	}
	s.mu.Unlock()
	r.unlock()
	if !in && !left {
		s.refusePlace()
		return false
	}
	s.session.pushed(wake, slow)
	return in
}

// enterLocked is enter for callers with the locks, the recovery's and s.mu. The connect message is
// queued when the socket is in its rooms: a client that has it may tell others to emit to them.
// What comes by the rooms until then waits, and follows it. The caller owes session.pushed.
func (s *Socket) enterLocked() (wake, slow bool) {
	s.session.accepted()
	s.inbox.bound(s.session.hub.options.Limits.InboxEvents, s.session.hub.options.Limits.InboxBytes)
	s.ns.enter(s)
	s.userCame()
	for i, m := range s.rooms {
		s.rooms[i].room = s.ns.join(s, m.name)
		if m.present != nil {
			s.ns.present(s.id, m.name, m.present)
		}
	}
	data := appendQuoted([]byte(`{"sid":`), s.id)
	if s.kept != nil {
		data = appendQuoted(append(data, `,"pid":`...), s.kept.pid)
	}
	var f wireForm
	f.encode(s.session.protocol, newPacket(packetConnect, s.ns.name, "", append(data, '}')), nil)
	return s.session.pushConnect(s, &f)
}

// push queues an event that a target has for the socket; see session.push. If the connect message
// is not queued yet, the event waits for it.
func (s *Socket) push(f *wireForm, volatile bool) (v pushResult, wake bool) {
	if s.state.Load() == socketPending {
		if v, waits := s.session.pushEarly(s, f); waits {
			return v, false
		}
	}
	return s.session.push(f, volatile, forBroadcast)
}

// leave takes the socket out of delivery, once, and has the leaving handled after what was received
// before.
func (s *Socket) leave(reason Reason) {
	r := s.ns.recovery
	r.lock()
	s.mu.Lock()
	first := !s.hasLeft()
	if first {
		s.leaveLocked(reason)
	}
	s.mu.Unlock()
	r.unlock()
	if first {
		s.record(tappedLeft, false, eventData{name: string(reason), ackID: noID})
		s.ns.hub.sessions.counters.unanswered.Add(uint64(s.calls.close()))
		s.inbox.pushLast(incoming{kind: incomingLeave, reason: reason})
	}
}

// leaveLocked is leave for callers with the locks, the recovery's and s.mu.
func (s *Socket) leaveLocked(reason Reason) {
	state := socketRefused
	if s.isConnected() {
		state = socketLeft
		s.ns.hub.sessions.counters.leave(reason)
		s.ns.exit(s)
		s.releasePlace()
		handedOver := s.handsOver(reason)
		if !handedOver {
			s.userLeft()
		}
		for i, m := range s.rooms {
			s.ns.leave(s, m.room, handedOver)
			s.rooms[i].room = nil
		}
	}
	s.state.Store(state)
	if s.kept != nil {
		s.ns.recovery.leave(s.kept, reason, s.stays())
	}
	if s.cancel != nil {
		s.cancel()
	}
	if s.expiry != nil {
		s.ns.hub.sessions.clock.stop(s.expiry)
	}
}

// reply implements sender.
func (s *Socket) reply(id int64, answer args) {
	s.send(packet{kind: packetAck, eventData: eventData{args: answer, ackID: id}})
}

// replyError implements sender: without an acknowledgement the client gets an event named error.
func (s *Socket) replyError(event string, id int64, message string, data []byte) {
	p := newPacket(packetEvent, s.ns.name, "error", errorBody(event, message, data))
	if id != noID {
		p = packet{kind: packetAck, eventData: eventData{args: ackError(message, data), ackID: id}, failed: true}
	}
	s.send(p)
}

// send sends a packet, unless the socket has left.
func (s *Socket) send(p packet) {
	if s.hasLeft() {
		return
	}
	p.namespace = s.ns.name
	kind := tappedEvent
	if p.kind == packetAck {
		kind = tappedAck
	}
	s.record(kind, true, p.eventData)
	s.session.sendPacket(p)
}
