package atrium

import "sync/atomic"

// seat is the place of one socket in its client's session: its inbox, and the way out.
type seat struct {
	session   *session
	namespace string // its name
	inbox     inbox
	connected atomic.Bool // the owner accepted the client; it stays true
	departed  atomic.Bool // it has left, or was made to
	removed   bool        // another may be in the namespace; guarded by session.mu
}

// owner is a Socket as its seat sees it.
type owner interface {
	handler
	// acknowledge takes the answer to a Call. It runs where the connection is read, and the answer is
	// good until it returns. It reports whether a call with that id was ever made.
	acknowledge(id int64, answer args, fail *Error) bool
	// leave takes the socket out of delivery, at once.
	leave(reason Reason)
}

// owner returns who sits there.
func (p *seat) owner() owner { return p.inbox.handler.(owner) }

// sit gives the owner a seat in the session. It reports false if the session has ended.
func (p *seat) sit(s *session, namespace string, o owner) bool {
	p.session, p.namespace = s, namespace
	p.inbox.handler, p.inbox.reading = o, &s.reading
	p.inbox.maxCount, p.inbox.maxBytes = s.config.inboxEvents, maxBeforeConnect
	s.reading.holds(seatOverhead)
	return s.add(p)
}

// take puts something that was received into the inbox; see inbox.push. It is for who reads the connection.
func (p *seat) take(in incoming) {
	if p.inbox.push(in) == flooded {
		p.session.end(ReasonForcedServerClose, StatusPolicyViolation, "too many events are waiting")
	}
}

// accept queues what tells the client that it is connected, and lifts the bounds for those who are not. A pid is what it
// may come back with; see Recovery. A true wake obliges the caller to wake the connection's outbox.
func (p *seat) accept(id, pid string) (wake bool) {
	s := p.session
	s.letIn()
	p.inbox.bound(s.config.inboxEvents, s.config.inboxBytes)
	var f wireForm
	f.set(s.codec.appendConnected(newFrame(96), p.namespace, id, pid))
	wake, _ = s.push(&f, false, forEmitter)
	p.connected.Store(true)
	return wake
}

// refuse tells the client that it is not, and why.
func (p *seat) refuse(message string, data []byte) {
	b := newFrame(64 + len(message) + len(data))
	p.session.codec.refuse(p, p.session.codec.appendRefused(b, p.namespace, message, data))
}

// push queues a message, and may be called under a room's lock; see session.push.
func (p *seat) push(m *message) (wake, slow bool) {
	return p.session.push(m.form(p.session.wire), m.volatile, forBroadcast)
}

// answer sends an acknowledgement, unless the client has been told that the socket is gone.
func (p *seat) answer(id int64, answer args) {
	if p.departed.Load() {
		return
	}
	f := wireForms.Get().(*wireForm)
	f.set(p.session.codec.appendAck(newFrame(48+len(answer.json)), p.namespace, id, answer))
	if p.session.wire == socketIOProtocol {
		f.attach(answer)
	}
	p.session.send(f)
	f.release()
}

// answerError tells the client what was wrong with an event: in its acknowledgement if it asked for one, else in
// an event named error. Likewise unless the socket is gone.
func (p *seat) answerError(event string, id int64, message string, data []byte) {
	if p.departed.Load() {
		return
	}
	b := newFrame(64 + len(event) + len(message) + len(data))
	p.session.sendText(p.session.codec.appendError(b, p.namespace, event, id, message, data))
}

// depart takes the socket out of delivery, once, and lets it handle that after what it has received.
func (p *seat) depart(reason Reason) {
	if p.departed.CompareAndSwap(false, true) {
		p.owner().leave(reason)
		p.inbox.pushLast(incoming{kind: incomingLeave, reason: reason})
	}
}

// vacate is for when the owner has handled its leaving.
func (p *seat) vacate() {
	p.session.reading.holds(-seatOverhead)
	p.session.reading.freed()
	p.session.forget(p)
	p.session.part()
}
