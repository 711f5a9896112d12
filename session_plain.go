package atrium

// plainSubprotocol is what a plain client offers that wants to authenticate: it sends its connect message first.
const plainSubprotocol = "atrium"

// plainCodec is the protocol of a client that knows nothing but JSON: see envelope.go. Such a client has one socket.
type plainCodec struct {
	seat  *seat
	asked bool // the client has asked to connect; the reader's own
}

// begin implements codec: it asks to connect for a client that does not do so itself.
func (c *plainCodec) begin(s *session) {
	if s.conn.Subprotocol() != plainSubprotocol {
		c.asked = true
		c.seat.take(incoming{kind: incomingConnect})
	}
}

// receive implements codec.
func (c *plainCodec) receive(s *session, op Opcode, p []byte) {
	switch {
	case s.ended.Load():
		// The closing handshake is under way; what still comes is nobody's.
	case op == OpBinary:
		const problem = "expected text messages: a plain client sends JSON"
		s.logViolation(ReasonParseError, problem)
		s.end(ReasonParseError, StatusUnsupportedData, problem)
	case !c.asked:
		c.receiveConnect(p)
	default:
		c.receiveEnvelope(p)
	}
}

// receiveConnect takes the first message of a client that authenticates.
func (c *plainCodec) receiveConnect(p []byte) {
	c.asked = true
	e, problem := parseEnvelope(p)
	if problem == nil && (e.name != "connect" || e.ackID != noID || e.args.n > 1) {
		problem = Errorf(`expected {"event":"connect","data":…} as the first message`)
	}
	if problem != nil {
		c.seat.refuse(problem.Message, nil)
		return
	}
	e.args = e.args.clone()
	c.seat.take(incoming{kind: incomingConnect, eventData: e.eventData})
}

// receiveEnvelope takes a message of a client that has asked to connect. What is wrong with it is told in its turn,
// so that the connect message stays the first.
func (c *plainCodec) receiveEnvelope(p []byte) {
	e, problem := parseEnvelope(p)
	switch {
	case problem != nil && e.name == "":
		e.ackID = noID // perhaps of an acknowledgement; it is not ours to answer
	case problem == nil && e.name == "":
		if c.seat.owner().acknowledge(e.ackID, e.args, e.fail) {
			return
		}
		problem = Errorf("id: expected the id of a call, %d is none", e.ackID)
		e.ackID = noID
	case problem == nil && reservedEvent(e.name):
		problem = Errorf("event: %q is reserved", e.name)
	}
	in := incoming{kind: incomingEvent, eventData: e.eventData}
	if problem != nil {
		in.kind, in.args = incomingProblem, args{json: []byte(problem.Message)}
	} else {
		in.args = e.args.clone()
	}
	c.seat.take(in)
}

// refuse implements codec: without its only socket the client has nothing.
func (c *plainCodec) refuse(p *seat, b []byte) {
	p.session.sendText(b)
	p.session.end(ReasonServerDisconnect, StatusPolicyViolation, "refused")
}

// vacated implements codec.
func (c *plainCodec) vacated(p *seat, reason Reason, status closeStatus) {
	if status.Code == 0 {
		status = closeStatus{StatusNormalClosure, string(reason)}
	}
	p.session.end(reason, status.Code, status.Reason)
}

func (c *plainCodec) appendConnected(b []byte, _, id, _ string) []byte {
	data := append(appendQuoted([]byte(`{"sid":`), id), '}')
	return appendEvent(b, eventData{"connect", args{json: data, n: 1}, noID})
}

func (c *plainCodec) appendRefused(b []byte, _, message string, data []byte) []byte {
	body := append(appendMessage([]byte{'{'}, message, data), '}')
	return appendEvent(b, eventData{"connect_error", args{json: body, n: 1}, noID})
}

func (c *plainCodec) appendAck(b []byte, _ string, id int64, answer args) []byte {
	return appendAck(b, id, answer)
}

func (c *plainCodec) appendError(b []byte, _, event string, id int64, message string, data []byte) []byte {
	if id != noID {
		return appendAckError(b, id, message, data)
	}
	return appendErrorEvent(b, event, message, data)
}

// emptyPing is RFC 6455's.
var emptyPing = &wireForm{whole: AppendHeader(nil, Header{Fin: true, Opcode: OpPing})}

// ping implements codec.
func (c *plainCodec) ping() *wireForm { return emptyPing }
