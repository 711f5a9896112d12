package atrium

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// socketIOCodec is Socket.IO protocol v5 over Engine.IO protocol v4: see proto_socketio.go and
// proto_engineio.go. Such a client has a socket in each namespace that it connects to.
type socketIOCodec struct {
	handshake *Handshake
	base      context.Context // of the client's sockets
	sid       string          // the Engine.IO session's id: a secret between its client and us
	parts     assembler       // used by the reader only
	left      recentlyLeft
}

func newSocketIOCodec(r *http.Request, base context.Context, subprotocol string) *socketIOCodec {
	return &socketIOCodec{handshake: newHandshake(r, subprotocol), base: base, sid: randomText(socketIDLength)}
}

// recentlyLeft are the namespaces that the server has disconnected the client from. Packets for
// them that were already in flight are ignored, and no violation. A namespace that the client
// connects to again stays in the list, since the server cannot know when the client has learned of
// the disconnect.
type recentlyLeft struct {
	mu    sync.Mutex // guards:
	names []string   // oldest first
}

// maxRecentlyLeft bounds that list. A client may be disconnected from all its namespaces at once.
const maxRecentlyLeft = maxSockets

func (l *recentlyLeft) add(namespace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch at := slices.Index(l.names, namespace); {
	case at >= 0:
		l.names = slices.Delete(l.names, at, at+1)
	case len(l.names) == maxRecentlyLeft:
		l.names = slices.Delete(l.names, 0, 1)
	}
	l.names = append(l.names, namespace)
}

func (l *recentlyLeft) has(namespace string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.names, namespace)
}

// protocol implements codec.
func (c *socketIOCodec) protocol() protocol { return socketIOProtocol }

// request implements codec.
func (c *socketIOCodec) request() *Handshake { return c.handshake }

// begin implements codec: it sends the Engine.IO handshake.
func (c *socketIOCodec) begin(s *session) {
	b := append(newFrame(128), `0{"sid":`...)
	b = appendQuoted(b, c.sid)
	b = append(b, `,"upgrades":[`...)
	if s.conn.Load() == nil {
		b = append(b, `"websocket"`...)
	}
	b = append(b, `],"pingInterval":`...)
	b = strconv.AppendInt(b, int64(s.hub.options.Timeouts.PingInterval/time.Millisecond), 10)
	b = append(b, `,"pingTimeout":`...)
	b = strconv.AppendInt(b, int64(s.hub.options.Timeouts.Ping/time.Millisecond), 10)
	b = append(b, `,"maxPayload":`...)
	b = strconv.AppendInt(b, s.hub.options.Limits.MessageBytes, 10)
	s.sendText(append(b, '}'))
}

// receive implements codec.
func (c *socketIOCodec) receive(s *session, op opcode, p []byte) {
	packet, err := parseEngine(op, p, nil)
	if err == nil {
		err = c.receiveEngine(s, packet)
	}
	if err != nil {
		s.endViolated(err)
	}
}

// receiveEngine handles one packet. Its error ends the session: no client that follows the protocol
// sends such a packet.
//
// A pong may say "probe", as client.js does to find out whether its connection has outlived a
// sleep. Engine.IO has nothing for that: pings are the server's. To other servers it is a pong like
// others; here a noop answers it.
func (c *socketIOCodec) receiveEngine(s *session, p enginePacket) *Error {
	switch {
	case s.ended.Load():
		// What comes after the close is ignored.
	case p.kind == engineMessage:
		limits := attachmentLimits{s.hub.options.Limits.Attachments, int(s.hub.options.Limits.MessageBytes)}
		if s.reading.pending.Load() {
			limits.bytes = min(limits.bytes, maxBeforeConnect)
		}
		whole, done, err := c.parts.add(p, limits)
		if err != nil || !done {
			return err
		}
		return c.receivePacket(s, whole)
	case p.kind == engineClose:
		s.end(ReasonTransportClose, StatusNormalClosure, "")
	case p.kind == enginePing:
		return &Error{Message: "packet: expected no ping, which is the server's to send"}
	case p.kind == enginePong && string(p.data) == "probe":
		s.sendText(append(newFrame(1), byte(engineNoop)))
	case p.kind == enginePong:
		s.pong()
	}
	return nil
}

// receivePacket handles a packet that is complete.
func (c *socketIOCodec) receivePacket(s *session, p packet) *Error {
	to := s.socketIn(p.namespace)
	if p.kind == packetConnect {
		if to != nil {
			return Errorf("namespace: %q is connected already", p.namespace)
		}
		return c.connect(s, p)
	}
	if to == nil {
		if c.left.has(p.namespace) {
			return nil // it was in flight when the server disconnected the socket
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
			// socket.io-parser lets such a name pass, so that it costs the event and not the
			// connection.
			in.name, problem = "", errEventName()
		}
		if problem != nil {
			in.kind, in.args = incomingProblem, args{json: []byte(problem.Message)}
		}
		to.receive(in)
	case packetAck:
		to.acknowledge(p.ackID, p.args, failure(p))
	case packetDisconnect:
		s.remove(to)
		to.leave(ReasonClientDisconnect)
	default:
		return &Error{Message: "packet: expected a type that is a client's"}
	}
	return nil
}

// connect makes a socket in the namespace that the client asks for, which the Use functions then
// let in or refuse.
func (c *socketIOCodec) connect(s *session, p packet) *Error {
	refuse := func(message string) *Error {
		s.sendPacket(newPacket(packetConnectError, p.namespace, "", errorBody("", message, nil)))
		return nil
	}
	if s.crowded() {
		s.hub.log.lately.add("refused a client one more namespace", c.handshake.remote, clientText("namespace", p.namespace))
		s.hub.log.warn("atrium: refused a client one more namespace", s.logged(clientText("namespace", p.namespace), slog.Int("limit", maxSockets))...)
		return refuse(fmt.Sprintf("namespace: expected at most %d for one client", maxSockets))
	}
	n := s.hub.enterable(p.namespace)
	if n == nil {
		s.hub.log.lately.add("refused a client an unknown namespace", c.handshake.remote, clientText("namespace", p.namespace))
		s.hub.log.warn("atrium: refused a client an unknown namespace", s.logged(clientText("namespace", p.namespace),
			hint("Hub.Of makes one, Hub.OfFunc many"))...)
		return refuse("Invalid namespace")
	}
	handshake := *c.handshake // each socket has its own auth value
	socket := newSocket(n, s, &handshake, c.base)
	if !s.add(socket) {
		s.hub.release(n)
		return nil
	}
	socket.receive(incoming{kind: incomingConnect, eventData: p.eventData})
	return nil
}

// refuse implements codec: the connection goes on, and the client may ask again as soon as it is
// told.
func (c *socketIOCodec) refuse(s *Socket, message string, data []byte) {
	removed := s.session.remove(s)
	s.leave(ReasonServerDisconnect)
	if removed {
		s.session.sendPacket(newPacket(packetConnectError, s.ns.name, "", errorBody("", message, data)))
	}
}

// disconnect implements codec: the client stays in its other namespaces. One that is not connected
// yet is refused. A DISCONNECT packet has no payload, so that the status travels in an event ahead
// of it.
func (c *socketIOCodec) disconnect(s *Socket, reason Reason, status closeStatus) {
	s.leave(reason)
	c.left.add(s.ns.name)
	if !s.session.remove(s) {
		return
	}
	var data []byte
	if status.Code != 0 {
		data = status.appendJSON(nil)
	}
	if !s.wasConnected() {
		message := cmp.Or(status.Reason, string(ReasonServerDisconnect))
		s.session.sendPacket(newPacket(packetConnectError, s.ns.name, "", errorBody("", message, data)))
		return
	}
	if data != nil {
		s.session.sendPacket(newPacket(packetEvent, s.ns.name, "disconnect_reason", data))
	}
	s.session.sendPacket(newPacket(packetDisconnect, s.ns.name, "", nil))
}

func (s closeStatus) appendJSON(b []byte) []byte {
	b = strconv.AppendUint(append(b, `{"code":`...), uint64(s.Code), 10)
	return append(appendQuoted(append(b, `,"reason":`...), s.Reason), '}')
}
