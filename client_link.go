package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// maxEngineHandshake bounds the message that a server begins with, in bytes. It has some 120.
	maxEngineHandshake = 16 << 10
)

// link is one connection of a Client, from the WebSocket's handshake to its end. One goroutine, Conn.serve, reads it.
type link struct {
	client  *Client
	conn    *Conn
	auth    []byte         // the CONNECT packet's data
	outcome chan attempted // of the attempt; has room for the one that there will be

	// The reader's own.
	parts    assembler
	recovers bool  // events may have an offset: see Recovery
	wrong    error // what the server broke

	received atomic.Int64 // nanotime when a whole frame was last received

	// Guarded by client.mu:
	phase     linkPhase // changed by the reader only
	over      bool      // it is not to be used any more
	reason    Reason    // why it is over
	heartbeat clientHeartbeat
	timer     *time.Timer // calls checkHeartbeat; nil before the Engine.IO handshake
}

// linkPhase says how far the handshakes of a link are.
type linkPhase uint8

const (
	linkDialed    linkPhase = iota // the server's Engine.IO handshake is awaited
	linkGreeted                    // the answer to Socket.IO's CONNECT is awaited
	linkConnected                  // the server has let the client in
)

func (p linkPhase) awaited() string {
	if p == linkDialed {
		return "the Engine.IO handshake"
	}
	return "the answer to Socket.IO's CONNECT"
}

// attempted is what became of an attempt to connect.
type attempted struct {
	err   error // nil: connected
	final bool  // another attempt would have the same outcome
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
		l.timer.Stop() // for good: checkHeartbeat finds that the link is over
	}
	l.conn.finish()
	l.client.busy.Done()
}

// moreEvents implements messageHandler.
func (l *link) moreEvents() bool { return l.client.reading.more.Load() }

// errOver ends the reading of a connection that is closing.
var errOver = errors.New("atrium: the connection is over")

// receive implements messageHandler.
func (l *link) receive(op Opcode, p []byte) error {
	l.received.Store(nanotime())
	if op == OpContinuation {
		return nil
	}
	m := enginePacket{kind: engineMessage, binary: true, data: p}
	var err *Error
	if op == OpText {
		m, err = parseEngine(p, nil)
	}
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
			return l.packet(packet)
		}
	case m.kind == enginePing:
		// "2probe" is for an upgrade, which nobody makes here; to answer it as well is the protocol's way.
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

// drop records that the link is over, and why. The first reason stays. The caller ends the connection, and the reader
// then calls detach.
func (l *link) drop(reason Reason) {
	l.client.mu.Lock()
	defer l.client.mu.Unlock()
	if !l.over {
		l.over, l.reason = true, reason
	}
}

// cut ends the connection without a closing handshake.
func (l *link) cut(reason Reason) {
	l.drop(reason)
	_ = l.conn.CloseNow()
}

// end ends the connection for the reason, as the server has asked for.
func (l *link) end(reason Reason) error {
	l.drop(reason)
	l.conn.beginClose(StatusNormalClosure, "", deliverQueued)
	return errOver
}

// greet takes the Engine.IO handshake, and asks to be let in.
func (l *link) greet(handshake []byte) error {
	var h struct {
		Sid          string `json:"sid"`
		PingInterval int64  `json:"pingInterval"` // milliseconds, as the next
		PingTimeout  int64  `json:"pingTimeout"`
		MaxPayload   int64  `json:"maxPayload"` // bytes; older servers say nothing of it
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
	l.phase = linkGreeted
	c.maxMessage = int(min(h.MaxPayload, noBound))
	l.heartbeat = newClientHeartbeat(limit, l.signs())
	l.timer = time.AfterFunc(min(limit, lookInterval), l.checkHeartbeat)
	c.mu.Unlock()
	l.conn.readLimit.Store(c.options.Dial.MaxMessageBytes)
	l.write(newParcel(newPacket(packetConnect, c.options.Namespace, l.auth)))
	return nil
}

// packet deals with a packet that is complete. Those of other namespaces are nobody's.
func (l *link) packet(p packet) error {
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
		return l.event(p)
	}
	return nil
}

// connectError is what a server refuses a client with.
func connectError(data []byte) *Error {
	var refused struct {
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
	}
	if json.Unmarshal(data, &refused) != nil {
		_ = json.Unmarshal(data, &refused.Message) // a string, which Socket.IO allows as well, or else quoted below
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

// event puts an event into the inbox.
func (l *link) event(p packet) error {
	if reservedEvent(p.name) {
		return l.fail(fmt.Errorf("event: %q is reserved", p.name))
	}
	c := l.client
	offset := ""
	if p.ackID == noID && l.recovers {
		offset = takeOffset(&p.args)
	}
	e := &Event{sender: l, eventData: p.eventData}
	note := func() { c.run(e, func() { c.handle(e) }) }
	if p.refused != nil {
		note = func() { e.ReplyError(p.refused) }
	}
	switch c.inbox.push(incoming{kind: incomingNote, eventData: p.eventData, note: note}) {
	case itemRefused:
		c.options.Logger.Warn("atrium: the server sends far faster than its events are handled", slog.String("event", p.name))
		return l.end(ReasonTransportError)
	case itemTaken:
		if offset != "" {
			l.noteOffset(offset) // not before: an event that was not taken is one that was missed
		}
	}
	return nil
}

// noteOffset notes the offset of an event that was accepted; not that of one that the inbox had no room for until another
// connection was made.
func (l *link) noteOffset(offset string) {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil || c.link == l {
		c.recovery.offset = offset
	}
}

// reply implements sender. Acknowledgements are for the connection that asked for them.
func (l *link) reply(id int64, answer args) {
	c := l.client
	ack := packet{kind: packetAck, namespace: c.options.Namespace, eventData: eventData{args: answer, ackID: id}}
	m := newParcel(ack)
	c.mu.Lock()
	err := c.tooBig(m)
	c.mu.Unlock()
	if err != nil {
		c.options.Logger.Warn("atrium: an answer is bigger than the server takes", slog.Any("error", err))
		ack.args = ackError(err.Error(), nil)
		m = newParcel(ack)
	}
	l.write(m)
}

// maxAttachments implements sender.
func (l *link) maxAttachments() int { return l.client.options.MaxAttachments }

// replyError implements sender. A server has no event for errors.
func (l *link) replyError(event string, id int64, message string, data []byte) {
	if id == noID {
		l.logger(event).Warn("atrium: an event could not be handled", slog.String("error", message))
		return
	}
	l.reply(id, ackError(message, data))
}

// logger implements sender.
func (l *link) logger(event string) *slog.Logger {
	return l.client.options.Logger.With(slog.String("event", event))
}

// write sends what the server waits for. A server that does not read it is given up.
func (l *link) write(m *parcel) {
	l.client.mu.Lock()
	over, slow, wake := l.over, false, false
	if !over {
		var v pushResult
		v, wake = l.conn.out.push(l.frames(m), forEmitter)
		slow = v == pushTooSlow
	}
	l.client.mu.Unlock()
	if wake {
		l.conn.wake()
	}
	if slow {
		l.cut(ReasonTransportError)
	}
}

// push queues a parcel and reports whether it was queued. A true wake obliges the caller to wake the outbox. client.mu is
// held.
func (l *link) push(m *parcel, by pusher) (sent, wake bool) {
	var v pushResult
	if m.volatile {
		v, wake = l.conn.out.pushVolatile(l.frames(m), by)
	} else {
		v, wake = l.conn.out.push(l.frames(m), by)
	}
	return v == pushQueued || v == pushOverLimit, wake
}

// frames returns a parcel's frames, all in one.
func (l *link) frames(m *parcel) []byte {
	c := l.conn
	var b []byte
	if len(m.text) >= int(c.compression.threshold) {
		b = c.compression.frame(c.header(OpText), m.text)
	}
	if b == nil {
		b = c.frame(OpText, m.text)
	}
	for _, attachment := range m.attachments {
		b = append(b, c.frame(OpBinary, attachment)...)
	}
	return b
}

// usable reports whether messages may be sent on the link. client.mu is held.
func (l *link) usable() bool { return l.phase == linkConnected && !l.over }

// signs returns what the heartbeat looks at.
func (l *link) signs() clientSigns {
	return clientSigns{
		now: nanotime(), wall: time.Now().UnixNano(), received: l.received.Load(), partial: l.conn.partialSince.Load() != 0,
		reads: l.conn.reads.Load(), pauses: l.client.reading.pauses.Load(), queued: l.conn.out.buffered() > 0,
	}
}

// checkHeartbeat does what the heartbeat says. It runs when the timer fires, and before a message is sent if that is due.
func (l *link) checkHeartbeat() {
	signs := l.signs()
	l.client.mu.Lock()
	if l.over {
		l.client.mu.Unlock()
		return
	}
	ping, wait := l.heartbeat.look(signs)
	if wait > 0 {
		l.timer.Reset(wait)
	}
	l.client.mu.Unlock()
	switch {
	case wait <= 0:
		l.cut(ReasonPingTimeout)
	case ping && !l.conn.queuePing(nil) && l.conn.State() == StateOpen:
		l.cut(ReasonTransportError)
	}
}
