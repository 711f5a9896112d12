package atrium

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// socketIOCodec is Socket.IO protocol v5 over Engine.IO protocol v4: see proto_socketio.go and proto_engineio.go. Such a client has a
// socket in each namespace that it connects to.
type socketIOCodec struct {
	host    host
	sid     string    // the Engine.IO session's id: a secret between its client and us
	parts   assembler // the reader's own
	emptied emptied
}

// emptied are the namespaces that the server has disconnected the client from: what it sends there before it knows is
// no violation. Those that it connects to again stay, so that nobody has to say when it knew.
type emptied struct {
	mu    sync.Mutex // guards:
	names []string   // the last of them
}

// maxEmptied bounds the names that are kept. A client can hear of all its namespaces at once.
const maxEmptied = maxSeats

func (e *emptied) add(namespace string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch at := slices.Index(e.names, namespace); {
	case at >= 0:
		e.names = slices.Delete(e.names, at, at+1) // it is the latest news
	case len(e.names) == maxEmptied:
		e.names = slices.Delete(e.names, 0, 1)
	}
	e.names = append(e.names, namespace)
}

func (e *emptied) has(namespace string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.names, namespace)
}

// host is where a Socket.IO client's sockets come from.
type host interface {
	// seat makes a socket in the namespace and gives it a seat in the session: nil if the session has ended. The
	// error says why there is none.
	seat(s *session, namespace string) (*seat, *Error)
}

// begin implements codec: it sends the Engine.IO handshake.
func (c *socketIOCodec) begin(s *session) {
	b := append(newFrame(128), `0{"sid":`...)
	b = appendQuoted(b, c.sid)
	b = append(b, `,"upgrades":[`...)
	if s.conn == nil {
		b = append(b, `"websocket"`...)
	}
	b = append(b, `],"pingInterval":`...)
	b = strconv.AppendInt(b, int64(s.config.pingInterval/time.Millisecond), 10)
	b = append(b, `,"pingTimeout":`...)
	b = strconv.AppendInt(b, int64(s.config.pingTimeout/time.Millisecond), 10)
	b = append(b, `,"maxPayload":`...)
	b = strconv.AppendInt(b, s.config.maxMessageSize, 10)
	s.sendText(append(b, '}'))
}

// enginePingForm is Engine.IO's ping.
var enginePingForm = func() *wireForm {
	f := new(wireForm)
	f.set(appendEngine(newFrame(1), enginePing, nil))
	f.textPackets() // it is shared by all who poll
	return f
}()

// ping implements codec.
func (c *socketIOCodec) ping() *wireForm { return enginePingForm }

// receive implements codec.
func (c *socketIOCodec) receive(s *session, op Opcode, p []byte) {
	packet := enginePacket{kind: engineMessage, binary: true, data: p}
	var err *Error
	if op == OpText {
		packet, err = parseEngine(p, nil)
	}
	if err == nil {
		err = c.receiveEngine(s, packet)
	}
	if err != nil {
		s.endViolated(err)
	}
}

// receiveEngine deals with one packet. Its error ends the session: no client that follows the protocol sends such a
// packet.
//
// A pong may say "probe", as client.js does to find out whether its connection has outlived a sleep. Engine.IO has
// nothing for that: pings are the server's. To other servers it is a pong like others; here a noop answers it.
func (c *socketIOCodec) receiveEngine(s *session, p enginePacket) *Error {
	switch {
	case s.ended.Load():
		// It is closing; what still comes is nobody's.
	case p.kind == engineMessage:
		return c.receiveMessage(s, p)
	case p.kind == engineClose:
		s.end(ReasonTransportClose, StatusNormalClosure, "")
	case p.kind == enginePing:
		return &Error{Message: "packet: expected no ping, which is the server's to send"}
	case p.kind == enginePong && string(p.data) == "probe":
		s.sendText(append(newFrame(1), byte(engineNoop)))
	}
	return nil
}

// receiveMessage deals with one message: a packet, or a part of one.
func (c *socketIOCodec) receiveMessage(s *session, m enginePacket) *Error {
	p, done, err := c.parts.take(m, attachmentLimits{s.config.maxAttachments, int(s.messageSize())})
	if err != nil || !done {
		return err
	}
	return c.receivePacket(s, p)
}

// receivePacket deals with a packet that is complete.
func (c *socketIOCodec) receivePacket(s *session, p packet) *Error {
	to := s.seatIn(p.namespace)
	if p.kind == packetConnect {
		if to != nil {
			return Errorf("namespace: %q is connected already", p.namespace)
		}
		return c.connect(s, p)
	}
	if to == nil {
		if c.emptied.has(p.namespace) {
			return nil // it crossed the news
		}
		return Errorf("namespace: %q is not connected", p.namespace)
	}
	switch p.kind {
	case packetEvent:
		if reservedEvent(p.name) {
			return Errorf("event: %q is reserved", p.name)
		}
		in := incoming{kind: incomingEvent, eventData: p.eventData}
		problem := p.refused
		if p.name == "" || len(p.name) > maxEventName {
			// socket.io-parser lets such a name pass, so that it costs the event and not the connection.
			in.name, problem = "", errEventName()
		}
		if problem != nil {
			in.kind, in.args = incomingProblem, args{json: []byte(problem.Message)}
		}
		to.take(in)
	case packetAck:
		to.owner().acknowledge(p.ackID, p.args, failure(p))
	case packetDisconnect:
		s.remove(to)
		to.depart(ReasonClientDisconnect)
	default:
		return &Error{Message: "packet: expected a type that is a client's"}
	}
	return nil
}

// connect seats the client in a namespace.
func (c *socketIOCodec) connect(s *session, p packet) *Error {
	at, err := c.host.seat(s, p.namespace)
	switch {
	case err != nil:
		s.sendText(c.appendRefused(newFrame(64), p.namespace, err.Message, nil))
	case at != nil:
		at.take(incoming{kind: incomingConnect, eventData: p.eventData})
	}
	return nil
}

// refuse implements codec: the client stays, and may ask again as soon as it knows.
func (c *socketIOCodec) refuse(p *seat, b []byte) {
	removed := p.session.remove(p)
	p.depart(ReasonServerDisconnect)
	if removed {
		p.session.sendText(b)
	}
}

// vacated implements codec: the client stays in its other namespaces. One that was still being let in is refused. A
// DISCONNECT packet has no payload, so that the status travels in an event ahead of it.
func (c *socketIOCodec) vacated(p *seat, reason Reason, status closeStatus) {
	p.depart(reason)
	c.emptied.add(p.namespace)
	if !p.session.remove(p) {
		return
	}
	told := status.Code != 0
	if !p.connected.Load() {
		message, data := cmp.Or(status.Reason, string(reason)), []byte(nil)
		if told {
			data = status.appendJSON(nil)
		}
		p.session.sendText(c.appendRefused(newFrame(64+len(message)+len(data)), p.namespace, message, data))
		return
	}
	if told {
		data := status.appendJSON(nil)
		event := eventData{"disconnect_reason", args{json: data, n: 1}, noID}
		p.session.sendText(appendMessagePacket(newFrame(64+len(data)), packet{kind: packetEvent, namespace: p.namespace, eventData: event}))
	}
	p.session.sendText(appendMessagePacket(newFrame(32), newPacket(packetDisconnect, p.namespace, nil)))
}

func (s closeStatus) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"code":`...), uint64(s.Code), 10)
	return append(appendQuoted(append(b, `,"reason":`...), s.Reason), '}')
}

func (c *socketIOCodec) appendConnected(b []byte, namespace, id, pid string) []byte {
	data := appendQuoted([]byte(`{"sid":`), id)
	if pid != "" {
		data = appendQuoted(append(data, `,"pid":`...), pid)
	}
	data = append(data, '}')
	return appendMessagePacket(b, newPacket(packetConnect, namespace, data))
}

func (c *socketIOCodec) appendRefused(b []byte, namespace, message string, data []byte) []byte {
	body := append(appendMessage([]byte{'{'}, message, data), '}')
	return appendMessagePacket(b, newPacket(packetConnectError, namespace, body))
}

func (c *socketIOCodec) appendAck(b []byte, namespace string, id int64, answer args) []byte {
	return appendMessagePacket(b, packet{kind: packetAck, namespace: namespace, eventData: eventData{args: answer, ackID: id}})
}

func (c *socketIOCodec) appendError(b []byte, namespace, event string, id int64, message string, data []byte) []byte {
	if id != noID {
		return c.appendAck(b, namespace, id, ackError(message, data))
	}
	body := appendErrorBody(nil, event, message, data)
	report := eventData{"error", args{json: body, n: 1}, noID}
	return appendMessagePacket(b, packet{kind: packetEvent, namespace: namespace, eventData: report})
}
