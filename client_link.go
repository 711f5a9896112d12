package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// maxEngineHandshake bounds the message that a server begins with, in bytes. It has some 120.
const maxEngineHandshake = 16 << 10

// link is one connection of a Client, from the WebSocket's handshake to its end. Conn.serve reads
// it, and calls the methods of messageHandler.
type link struct {
	client  *Client
	conn    *Conn
	auth    []byte         // the object of the CONNECT packet
	outcome chan attempted // of the attempt; has room for one

	// Used by the reader only:
	parts    assembler
	recovers bool  // events may have an offset: see Recovery
	wrong    error // how the server broke the protocol

	received atomic.Int64 // nanotime when a whole frame was last received

	// Guarded by client.mu:
	phase     linkPhase // changed by the reader only
	over      bool      // nothing is sent any more
	reason    Reason    // why, once the link was connected
	heartbeat clientHeartbeat
	timer     *time.Timer // calls checkHeartbeat; nil before the Engine.IO handshake
	reads     uint32      // see replays
}

// linkPhase says how far the handshakes of a link are.
type linkPhase uint8

const (
	linkDialed    linkPhase = iota // the server's Engine.IO handshake is awaited
	linkGreeted                    // the answer to Socket.IO's CONNECT is awaited
	linkConnected                  // the server has let the client in
)

// awaited names what the server has to send next.
func (p linkPhase) awaited() string {
	if p == linkDialed {
		return "the Engine.IO handshake"
	}
	return "the answer to Socket.IO's CONNECT"
}

func newLink(c *Client, conn *Conn, auth []byte) *link {
	l := &link{client: c, conn: conn, auth: auth, outcome: make(chan attempted, 1)}
	conn.readLimit.Store(maxEngineHandshake)
	conn.handler = l
	return l
}

// readEnded implements messageHandler.
func (l *link) readEnded() {
	l.client.detach(l)
	if l.timer != nil {
		l.timer.Stop() // checkHeartbeat does not start it again, because the link is over
	}
	l.conn.finish()
	l.client.busy.Done()
}

// claimed implements messageHandler: a Client's inbox gets items from others than the reader, too.
func (l *link) claimed() inbox { return nil }

// moreEvents implements messageHandler.
func (l *link) moreEvents() bool { return l.client.reading.more.Load() }

// errOver makes Conn.serve end the reading of a connection that is closing.
var errOver = errors.New("atrium: the connection is over")

// receive implements messageHandler.
func (l *link) receive(op opcode, p []byte) error {
	l.received.Store(nanotime())
	if op == opContinuation {
		return nil
	}
	m, err := parseEngine(op, p, nil)
	switch {
	case l.phase == linkDialed:
		if err != nil || m.binary || m.kind != engineOpen {
			return l.fail(fmt.Errorf(`expected an Engine.IO handshake, such as 0{"sid":…}, got %.60q`, p))
		}
		return l.greet(m.data)
	case err != nil:
	case m.kind == engineMessage:
		var done bool
		var packet packet
		o := &l.client.options
		packet, done, err = l.parts.add(m, attachmentLimits{o.MaxAttachments, int(o.Dial.MaxMessageBytes)})
		if done && err == nil {
			return l.receivePacket(packet)
		}
	case m.kind == enginePing:
		// A ping with data, "2probe", is for an upgrade, which this client never makes. Its pong
		// has the data, too.
		l.write(&parcel{text: appendEngine(nil, enginePong, m.data)})
	case m.kind == engineClose:
		return l.end(ReasonTransportClose)
	case m.kind == engineNoop:
	default:
		err = Errorf("expected no packet of type %c, which is not a server's to send", m.kind)
	}
	if err != nil {
		return l.fail(err)
	}
	return nil
}

// fail ends the connection because the server broke the protocol.
func (l *link) fail(err error) error {
	l.wrong = fmt.Errorf("%w: %w", ErrProtocol, err)
	l.drop(ReasonParseError)
	l.conn.beginClose(StatusPolicyViolation, err.Error(), deliverQueued)
	return errOver
}

// drop records that the link is over, so that nothing more is sent on it, and why. The first reason
// stays. The caller ends the connection.
func (l *link) drop(reason Reason) {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if !l.over {
		l.over, l.reason = true, reason
	}
	if c.link == l {
		c.link = nil
	}
}

// cut ends the connection without a closing handshake.
func (l *link) cut(reason Reason) {
	l.drop(reason)
	_ = l.conn.CloseNow()
}

// end ends the connection with a closing handshake.
func (l *link) end(reason Reason) error {
	l.drop(reason)
	l.conn.beginClose(StatusNormalClosure, "", deliverQueued)
	return errOver
}

// greet handles the server's Engine.IO handshake and sends Socket.IO's CONNECT.
func (l *link) greet(handshake []byte) error {
	var h struct {
		Sid          string `json:"sid"`
		PingInterval int64  `json:"pingInterval"` // milliseconds, as the next
		PingTimeout  int64  `json:"pingTimeout"`
		MaxPayload   int64  `json:"maxPayload"` // bytes; older servers do not send it
	}
	if err := json.Unmarshal(handshake, &h); err != nil {
		return l.fail(decodeError(err, "the Engine.IO handshake"))
	}
	switch most := maxHeartbeat.Milliseconds(); {
	case h.Sid == "":
		return l.fail(errors.New("the Engine.IO handshake: sid: expected some"))
	case h.PingInterval < 1 || h.PingInterval > most:
		return l.fail(fmt.Errorf("the Engine.IO handshake: pingInterval: expected 1 to %d milliseconds, got %d", most, h.PingInterval))
	case h.PingTimeout < 1 || h.PingTimeout > most:
		return l.fail(fmt.Errorf("the Engine.IO handshake: pingTimeout: expected 1 to %d milliseconds, got %d", most, h.PingTimeout))
	case h.MaxPayload < 0:
		return l.fail(fmt.Errorf("the Engine.IO handshake: maxPayload: expected some bytes, got %d", h.MaxPayload))
	}
	limit := time.Duration(h.PingInterval+h.PingTimeout) * time.Millisecond
	c := l.client
	c.mu.Lock()
	l.phase, l.reads = linkGreeted, l.conn.reads.Load()
	c.maxMessage = int(min(h.MaxPayload, noBound))
	l.heartbeat = newClientHeartbeat(limit, l.signs())
	l.timer = time.AfterFunc(min(limit, lookInterval), l.checkHeartbeat)
	c.mu.Unlock()
	l.conn.readLimit.Store(c.options.Dial.MaxMessageBytes)
	l.write(newParcel(newPacket(packetConnect, c.options.Namespace, "", l.auth)))
	return nil
}

// receivePacket handles one whole packet. It ignores those of other namespaces.
func (l *link) receivePacket(p packet) error {
	c := l.client
	if p.namespace != c.options.Namespace {
		return nil
	}
	switch p.kind {
	case packetConnect:
		var in struct{ Sid, Pid string }
		if err := json.Unmarshal(p.args.json, &in); err != nil || in.Sid == "" {
			return l.fail(fmt.Errorf(`expected the socket's id, such as {"sid":"…"}, got %.60q; has it version 2 of Socket.IO?`, p.args.json))
		}
		l.recovers = in.Pid != ""
		if !c.attach(l, in.Sid, in.Pid) {
			return l.fail(fmt.Errorf("the namespace %q: connected twice", p.namespace))
		}
	case packetConnectError:
		refused := connectError(p.args.json)
		if l.phase == linkConnected {
			return l.fail(fmt.Errorf("refused after it was connected: %w", refused))
		}
		l.outcome <- attempted{refused, true}
		return l.end(ReasonServerDisconnect)
	case packetDisconnect:
		return l.end(ReasonServerDisconnect)
	case packetAck:
		c.acknowledge(p)
	case packetEvent:
		return l.receiveEvent(p)
	}
	return nil
}

// connectError returns the error that a server refuses a client with.
func connectError(data []byte) *Error {
	var refused struct {
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if json.Unmarshal(data, &refused) != nil {
		_ = json.Unmarshal(data, &refused.Message) // Socket.IO allows a string, too; anything else is quoted below
	}
	e := &Error{Message: refused.Message}
	if e.Message == "" {
		e.Message = fmt.Sprintf("refused: %.200s", data)
	}
	if refused.Data != nil {
		e.Data = refused.Data
	}
	return e
}

// receiveEvent pushes an event to the inbox.
func (l *link) receiveEvent(p packet) error {
	if reservedEvent(p.name) {
		return l.fail(fmt.Errorf("event: %q is reserved", p.name))
	}
	c := l.client
	offset := ""
	if p.ackID == noID && l.recovers {
		offset = takeOffset(&p.args)
	}
	e := &Event{sender: l, eventData: p.eventData}
	note := func() { c.handle(e) }
	if p.refused != nil {
		note = func() { e.ReplyError(p.refused) }
	}
	switch c.inbox.push(incoming{kind: incomingNote, eventData: p.eventData, note: note}) {
	case itemRefused:
		c.log.warn("atrium: the server sends far faster than its events are handled", clientText("event", p.name))
		return l.end(ReasonTransportError)
	case itemTaken:
		if offset != "" {
			l.noteOffset(offset) // not before: the server has to send again what the inbox has not taken
		}
	}
	return nil
}

// noteOffset notes the offset of an event that the inbox has taken, unless it has waited for room
// there until the client had another connection.
func (l *link) noteOffset(offset string) {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil || c.link == l {
		c.recovery.offset = offset
	}
}

// reply implements sender. An acknowledgement is sent only on the connection that its event came
// by.
func (l *link) reply(id int64, answer args) {
	c := l.client
	ack := packet{kind: packetAck, namespace: c.options.Namespace, eventData: eventData{args: answer, ackID: id}}
	m := newParcel(ack)
	c.mu.Lock()
	err := c.tooBig(m)
	c.mu.Unlock()
	if err != nil {
		c.log.warn("atrium: an answer is bigger than the server takes", loggedFailure(err)...)
		ack.args = ackError(err.Error(), nil)
		m = newParcel(ack)
	}
	l.write(m)
}

// maxAttachments implements sender.
func (l *link) maxAttachments() int { return l.client.options.MaxAttachments }

// replyError implements sender. Without an acknowledgement there is no way to tell a server.
func (l *link) replyError(event string, id int64, message string, data []byte) {
	if id == noID {
		l.client.log.warn("atrium: an event could not be handled", clientText("event", event), clientText("error", message))
		return
	}
	l.reply(id, ackError(message, data))
}

// logger implements sender.
func (l *link) logger(event string) *slog.Logger {
	return l.client.options.Logger.With(clientText("event", event))
}

// write sends what the server waits for. If the server does not read, write ends the connection.
func (l *link) write(m *parcel) {
	l.client.mu.Lock()
	v, wake := pushRefused, false
	if !l.over {
		v, wake = l.conn.out.push(l.frames(m), forEmitter)
	}
	l.client.mu.Unlock()
	if wake {
		l.conn.wake()
	}
	if v == pushTooSlow {
		l.cut(ReasonTransportError)
	}
}

// push queues a parcel in the outbox and reports whether it was queued; its call, if it has one,
// waits for the answer then. If wake is true, the caller must wake the connection. client.mu is
// held.
func (l *link) push(m *parcel) (sent, wake bool) {
	var v pushResult
	if m.volatile {
		v, wake = l.conn.out.pushVolatile(l.frames(m), forWriter)
	} else {
		v, wake = l.conn.out.push(l.frames(m), forWriter)
	}
	if sent = v == pushQueued || v == pushOverLimit; sent {
		l.client.queue.accept(m, true)
	}
	return sent, wake
}

// frames encodes a parcel's messages as frames, one behind the other.
func (l *link) frames(m *parcel) []byte {
	c := l.conn
	b := c.frame(opText, m.text, len(m.text) >= int(c.compression.threshold))
	for _, attachment := range m.attachments {
		b = append(b, c.frame(opBinary, attachment, false)...)
	}
	return b
}
