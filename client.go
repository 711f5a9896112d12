package atrium

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Client is the other end: a connection to a Hub, or to any server of Socket.IO 3 or 4, that comes back by itself
// when it breaks. It speaks Socket.IO protocol v5 over a WebSocket.
//
// Register handlers first, with On, OnCall and the methods below, and then call Connect, so that nothing which the
// server says first is missed. What is emitted while there is no connection waits for the next one. The handlers, and
// the functions given to OnConnect, OnDisconnect, OnConnectError and OnState, run one at a time, in order, in a goroutine that
// exists while there is work. They may block, Call and Close. The server is not read from while 256 events wait.
//
// A server that is silent for longer than its ping interval and its ping time-out together is gone. After a sleep of the
// machine, which shows by its clocks, the server is sent a WebSocket ping, and has 10 seconds to answer. A clock that
// somebody sets ends no connection.
//
// All methods may be called from any goroutine at any time.
type Client struct {
	registry *registry[*Client]
	options  ClientOptions
	address  string // of the WebSocket
	wrong    error  // what is wrong with the URL or the options

	inbox   queue[incoming]
	reading reading
	busy    sync.WaitGroup // who reads a connection, and who reconnects

	// mu may be held while the lock of an outbox or of the inbox is taken. It guards:
	mu         sync.Mutex
	state      State
	closing    bool  // Close was called
	link       *link // the connection; nil unless the server has let the client in
	attempts   attempts
	id         string
	recovery   clientRecovery
	maxMessage int // what the server takes, in bytes; 0: it has not said
	queue      clientQueue
}

// NewClient returns a client of the server at the URL, whose scheme is http, https, ws or wss. Its path is the endpoint;
// none, or "/", means "/socket.io/", where Socket.IO servers have it. Its query is sent along. It is Connect that says
// what is wrong with the URL, and nothing happens before that.
func NewClient(url string, options ClientOptions) *Client {
	c := &Client{registry: newRegistry[*Client](), options: options.normalize(), state: StateClosed}
	c.options.Logger = guardedLogger(c.options.Logger)
	if c.address, c.wrong = webSocketURL(url); c.wrong == nil {
		c.wrong = c.options.check(c.address)
	}
	c.inbox.handler, c.inbox.reading = (*clientInbox)(c), &c.reading
	c.inbox.maxCount, c.inbox.maxBytes = maxClientInboxEvents, maxClientInboxBytes
	return c
}

const (
	// maxClientInboxEvents and maxClientInboxBytes bound what was received and not yet handled.
	maxClientInboxEvents = 256
	maxClientInboxBytes  = 1 << 20
)

// Handle registers the handler of an event in its raw form; On, OnCall and OnAck are the typed ones. An acknowledgement
// that the server asked for and that the handler neither gave nor took along (Event.Later) is sent empty when it
// returns. A name that is reserved, too long, or registered already makes Handle panic.
//
// From a Node server with recovery, events have one argument more, behind the others: their offset, a string. That of
// a Hub is taken off.
func (c *Client) Handle(event string, f func(*Event)) {
	mustFunc(f == nil, "Handle")
	c.registry.register(event, func(_ *Client, e *Event) { f(e) })
}

// register makes a Client a Registrar.
func (c *Client) register(event string, f func(*Client, *Event)) { c.registry.register(event, f) }

// HandleAny adds a function that sees every event, before the event's own handler.
func (c *Client) HandleAny(f func(*Event)) {
	mustFunc(f == nil, "HandleAny")
	c.registry.update(func(r *functions[*Client]) { r.any = append(r.any, f) })
}

// OnConnect adds a function that is called each time the client is connected, which may be the place to join rooms and
// to ask for what was missed, unless Recovered. What had been waiting to be sent is sent before that.
func (c *Client) OnConnect(f func(*Client)) {
	mustFunc(f == nil, "OnConnect")
	c.registry.update(func(r *functions[*Client]) { r.onConnect = append(r.onConnect, f) })
}

// OnDisconnect adds a function that is called each time a client that was connected is so no more, after the last of
// the events that had come. The client connects again, after all reasons but ReasonServerDisconnect and
// ReasonClientDisconnect.
func (c *Client) OnDisconnect(f func(*Client, Reason)) {
	mustFunc(f == nil, "OnDisconnect")
	c.registry.update(func(r *functions[*Client]) { r.onDisconnect = append(r.onDisconnect, f) })
}

// OnConnectError adds a function that is called after each attempt to connect that failed, with an error as Connect
// returns it. If it is the last, because the server has refused the client or ClientOptions.MaxAttempts have failed, State
// is StateClosed by then. While 256 events wait to be handled these errors are only logged.
func (c *Client) OnConnectError(f func(*Client, error)) {
	mustFunc(f == nil, "OnConnectError")
	c.registry.update(func(r *functions[*Client]) { r.onConnectError = append(r.onConnectError, f) })
}

// OnState adds a function that is called with each new State.
func (c *Client) OnState(f func(*Client, State)) {
	mustFunc(f == nil, "OnState")
	c.registry.update(func(r *functions[*Client]) { r.onState = append(r.onState, f) })
}

// State returns the state: StateClosed before Connect, after Close and when the client has stopped; StateConnecting
// while it tries to connect and between two attempts; StateOpen; StateClosing while Close waits.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// ID returns the id of the Socket at the server; "" before the first connection. After a disconnect it is the last one.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Recovered reports whether the latest connection went on with the socket of the one before: with the same id and rooms,
// and with all events that were missed, which are handled before OnConnect. See Recovery.
func (c *Client) Recovered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recovery.recovered
}

// Emit sends an event, or keeps it to be sent when the client is connected. It does not wait. An event that was given to
// a connection which then broke may be lost: what must arrive is for Call.
//
// The errors are ErrClosed after Close, ErrBufferFull if too much is waiting, ErrMessageTooBig if the server has said
// that it takes no such message, ErrReserved and others for what cannot be sent at all.
func (c *Client) Emit(event string, args ...any) error {
	m, err := c.encode(event, args, noID)
	if err != nil {
		return err
	}
	return c.send(m)
}

// Volatile returns the server for events that may be lost, because the next one replaces them, such as positions: while the
// client is not connected, or the network takes nothing, they are dropped.
func (c *Client) Volatile() ClientTarget { return ClientTarget{c} }

// ClientTarget is what Client.Volatile returns.
type ClientTarget struct{ c *Client }

// Emit sends an event, or drops it. Its errors are those of Client.Emit, but for ErrBufferFull.
func (t ClientTarget) Emit(event string, args ...any) error {
	c := t.c
	m, err := c.encode(event, args, noID)
	if err != nil {
		return err
	}
	m.volatile = true
	return c.send(m)
}

// encode makes a parcel of an event.
func (c *Client) encode(event string, args []any, id int64) (*parcel, error) {
	m, err := newMessage(c.options.Namespace, event, args, c.options.MaxAttachments)
	if err != nil {
		return nil, err
	}
	defer m.release()
	m.ackID = id
	return newParcel(packet{kind: packetEvent, namespace: m.namespace, eventData: m.eventData}), nil
}

// newParcel encodes a packet. It does not keep p.args.
func newParcel(p packet) *parcel {
	m := &parcel{text: appendMessagePacket(make([]byte, 0, 32+len(p.namespace)+len(p.name)+len(p.args.json)), p)}
	for _, at := range p.args.attachments {
		m.attachments = append(m.attachments, appendAttachment(nil, p.args.json, at))
	}
	return m
}

// send sends a parcel or keeps it for later.
func (c *Client) send(m *parcel) error {
	c.mu.Lock()
	if l := c.link; l != nil && l.heartbeat.due(nanotime(), time.Now().UnixNano()) {
		c.mu.Unlock()
		l.checkHeartbeat()
		c.mu.Lock()
	}
	l, wake, err := c.sendLocked(m)
	c.mu.Unlock()
	if wake {
		l.conn.wake()
	}
	return err
}

// sendLocked is send for who holds c.mu. A true wake obliges the caller to wake l's outbox.
func (c *Client) sendLocked(m *parcel) (l *link, wake bool, err error) {
	if c.closing {
		return nil, false, ErrClosed
	}
	if err := c.tooBig(m); err != nil {
		return nil, false, err
	}
	if l = c.link; l != nil && l.usable() {
		if queued := l.conn.out.takes(); queued+m.size() > l.conn.out.limit && !m.volatile {
			return nil, false, fmt.Errorf("%w: %d bytes", ErrBufferFull, queued)
		}
		sent, wake := l.push(m, forWriter)
		if sent {
			c.queue.accept(m, true)
			return l, wake, nil
		}
	}
	switch {
	case m.volatile:
		return nil, false, nil
	case c.queue.size+m.size() > c.options.MaxOfflineBytes:
		return nil, false, fmt.Errorf("%w: %d bytes, while not connected", ErrBufferFull, c.queue.size)
	}
	c.queue.push(m)
	return nil, false, nil
}

// tooBig returns an error if the server has said that it does not take such a message: it would hang up. c.mu is held.
func (c *Client) tooBig(m *parcel) error {
	size := len(m.text)
	for _, attachment := range m.attachments {
		size = max(size, len(attachment))
	}
	if c.maxMessage > 0 && size > c.maxMessage {
		return fmt.Errorf("%w: %d bytes, and the server takes %d", ErrMessageTooBig, size, c.maxMessage)
	}
	return nil
}

// clientInbox is a Client as its inbox sees it. All that comes is a note.
type clientInbox Client

// handle implements handler.
func (c *clientInbox) handle(in incoming) { in.note() }

// tell queues f, which calls the application's functions of that name, behind the events that have come. It waits if too
// many wait already.
func (c *Client) tell(name string, f func()) {
	note := incoming{kind: incomingNote, note: func() { c.runFunction(name, f) }}
	if c.inbox.push(note) != itemTaken {
		c.inbox.put(note) // of these there are few: one push, which waits, for each connection
	}
}

// run calls f, which calls the handlers of an event. A panic is logged, and the event answered with an error.
func (c *Client) run(e *Event, f func()) {
	guard(f, func(what ...any) {
		e.fail("internal error", nil)
		e.sender.logger(e.name).Error("atrium: a handler panicked", what...)
	})
}

// runFunction calls f, which calls the application's functions of that name, other than handlers. A panic is logged.
func (c *Client) runFunction(name string, f func()) {
	guard(f, c.panicked(name))
}

// panicked returns what tells the log that a function of the application has panicked.
func (c *Client) panicked(name string) func(what ...any) {
	return func(what ...any) {
		c.options.Logger.Error("atrium: a handler panicked", append([]any{slog.String("function", name)}, what...)...)
	}
}

// handle calls the handlers of an event.
func (c *Client) handle(e *Event) {
	if !c.registry.dispatch(c, e) && e.ackID != noID {
		e.ReplyError(Errorf("event: %q is not one that this client knows", e.name))
	}
}
