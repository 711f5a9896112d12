package atrium

import "bytes"

// plainSubprotocol is what a plain client offers that wants to authenticate: it sends its connect
// message first.
const plainSubprotocol = "atrium"

// plainCodec is the protocol of a client that knows nothing but JSON: see proto_plain.go. Such a
// client has one socket.
type plainCodec struct {
	socket *Socket
	asked  bool // the client has asked to connect; used by the reader only
}

// protocol implements codec.
func (c *plainCodec) protocol() protocol { return plainProtocol }

// request implements codec.
func (c *plainCodec) request() *Handshake { return c.socket.handshake }

// begin implements codec: it asks to connect for a client that does not do so itself.
func (c *plainCodec) begin(s *session) {
	if s.conn.Load().Subprotocol() != plainSubprotocol {
		c.asked = true
		c.socket.enterAtOnce()
		c.socket.receive(incoming{kind: incomingConnect})
	}
}

// receive implements codec.
func (c *plainCodec) receive(s *session, op opcode, p []byte) {
	switch {
	case s.ended.Load():
		// What comes after the close is ignored.
	case op == opBinary:
		const problem = "expected text messages: a plain client sends JSON"
		s.logViolation(problem)
		s.end(ReasonParseError, StatusUnsupportedData, problem)
	case !c.asked:
		c.receiveConnect(p)
	default:
		c.receiveEnvelope(p)
	}
}

// receiveConnect handles the first message of a client that authenticates.
func (c *plainCodec) receiveConnect(p []byte) {
	c.asked = true
	e, problem := parseEnvelope(p)
	if problem == nil && (e.name != "connect" || e.ackID != noID || e.args.n > 1) {
		problem = Errorf(`expected {"event":"connect","data":…} as the first message`)
	}
	if problem != nil {
		c.refuse(c.socket, problem.Message, nil)
		return
	}
	e.args.json = bytes.Clone(e.args.json)
	c.socket.receive(incoming{kind: incomingConnect, eventData: e.eventData})
}

// receiveEnvelope handles a message of a client that has asked to connect. What is wrong with it is
// told in its turn, so that the connect message stays the first.
func (c *plainCodec) receiveEnvelope(p []byte) {
	e, problem := parseEnvelope(p)
	switch {
	case problem != nil && e.name == "":
		e.ackID = noID // perhaps of an acknowledgement; it is not ours to answer
	case problem == nil && e.name == "":
		if c.socket.acknowledge(e.ackID, e.args, e.fail) {
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
		in.args.json = bytes.Clone(e.args.json)
	}
	c.socket.receive(in)
}

// refuse implements codec: without its only socket the client has nothing.
func (c *plainCodec) refuse(s *Socket, message string, data []byte) {
	s.session.sendPacket(newPacket(packetConnectError, s.ns.name, "", errorBody("", message, data)))
	s.session.end(ReasonServerDisconnect, StatusPolicyViolation, "refused")
}

// disconnect implements codec.
func (c *plainCodec) disconnect(s *Socket, reason Reason, status closeStatus) {
	if status.Code == 0 {
		status = closeStatus{StatusNormalClosure, string(reason)}
	}
	s.session.end(reason, status.Code, status.Reason)
}
