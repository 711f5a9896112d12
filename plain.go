package atrium

import "bytes"

// plainSubprotocol is what a plain client offers that wants to authenticate: it sends its connect message first.
const plainSubprotocol = "atrium"

// receivePlain deals with one message of a plain client.
func (s *session) receivePlain(op Opcode, p []byte) {
	switch {
	case s.ended.Load():
		// The closing handshake is under way; what still comes is nobody's.
	case op == OpBinary:
		s.end(ReasonParseError, StatusUnsupportedData, "expected text messages: a plain client sends JSON")
	case !s.asked:
		s.receiveConnect(p)
	default:
		s.receiveEnvelope(p)
	}
}

// receiveConnect takes the first message of a client that authenticates.
func (s *session) receiveConnect(p []byte) {
	s.asked = true
	e, problem := parseEnvelope(p)
	if problem == nil && (e.event != "connect" || e.id != noID || e.n > 1) {
		problem = Errorf(`expected {"event":"connect","data":…} as the first message`)
	}
	if problem != nil {
		s.refusePlain(problem.Message, nil)
		return
	}
	s.inbox.push(incoming{kind: incomingConnect, args: bytes.Clone(e.args), n: e.n, id: noID})
}

// receiveEnvelope takes a message of a client that has asked to connect. What is wrong with it is told in its turn,
// so that the connect message stays the first.
func (s *session) receiveEnvelope(p []byte) {
	e, problem := parseEnvelope(p)
	switch {
	case problem != nil && e.event == "":
		e.id = noID // perhaps of an acknowledgement; it is not ours to answer
	case problem == nil && e.event == "":
		if s.resident.acknowledge(e.id, e.args, e.n, e.fail) {
			return
		}
		problem = Errorf("id: expected the id of a call, %d is none", e.id)
		e.id = noID
	case problem == nil && reservedEvent(e.event):
		problem = Errorf("event: %q is reserved", e.event)
	}
	in := incoming{kind: incomingEvent, event: e.event, args: bytes.Clone(e.args), n: e.n, id: e.id}
	if problem != nil {
		in.kind, in.args = incomingProblem, []byte(problem.Message)
	}
	if s.inbox.push(in) == flooded {
		s.end(ReasonForcedServerClose, StatusPolicyViolation, "too many events are waiting")
	}
}

// connectedPlain is the frame that tells a client that it is accepted.
func connectedPlain(id string) []byte {
	data := append(appendQuoted([]byte(`{"sid":`), id), '}')
	return sealFrame(appendEvent(newFrame(64), "connect", data, 1, noID), OpText)
}

// refusePlain tells the client that it is not, and ends the session.
func (s *session) refusePlain(message string, data []byte) {
	body := append(appendMessage([]byte{'{'}, message, data), '}')
	s.sendText(appendEvent(newFrame(64+len(body)), "connect_error", body, 1, noID))
	s.end(ReasonServerDisconnect, StatusPolicyViolation, "refused")
}

// answer sends an acknowledgement.
func (s *session) answer(id int64, args []byte, n int) {
	s.sendText(appendAck(newFrame(48+len(args)), id, args, n))
}

// answerError tells the client what was wrong with an event: in its acknowledgement if it asked for one, else in
// an event named error.
func (s *session) answerError(event string, id int64, message string, data []byte) {
	b := newFrame(64 + len(event) + len(message) + len(data))
	if id != noID {
		b = appendAckError(b, id, message, data)
	} else {
		b = appendErrorEvent(b, event, message, data)
	}
	s.sendText(b)
}

// inPlain returns the message in the plain protocol.
func (m *message) inPlain() *wireForm {
	if m.plainForm.whole == nil {
		b := newFrame(64 + len(m.event) + m.args.Len())
		m.plainForm.set(appendEvent(b, m.event, m.args.Bytes(), m.n, m.id))
	}
	return &m.plainForm
}
