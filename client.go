package atrium

import (
	"log/slog"
	"sync"
)

// Client is a client of a Hub, or of any server of Socket.IO 3 or 4. It speaks Socket.IO protocol
// v5 over a WebSocket, and connects again by itself when the connection breaks.
//
// Register handlers first, with On, OnCall and the methods below, and then call Connect, so that
// none of the server's first events is missed. What is emitted while there is no connection waits
// for the next one. The handlers, and the functions given to OnConnect, OnDisconnect,
// OnConnectError and OnState, run one at a time, in order, in a goroutine that exists while there
// is work. They may block, Call and Close. The server is not read from while 256 events wait.
//
// A server that is silent for longer than its ping interval and its ping time-out together counts
// as gone. After a sleep of the machine, which its clocks show, the client sends a WebSocket ping,
// and the server has 10 seconds to answer. While the client does not read, it sends pings, so that
// a server that has gone is noticed by writing. Setting the clock ends no connection.
//
// All methods may be called from any goroutine at any time.
type Client struct {
	registry *registry[*Client]
	options  ClientOptions
	log      *limitedLog // options.Logger, for what the server causes
	endpoint endpoint

	inbox   queue[incoming]
	reading reading
	busy    sync.WaitGroup // goroutines that read a connection or reconnect

	// mu is the one lock of a Client and its links. The locks of an outbox and of the inbox may be
	// taken while it is held. It guards the fields of link that say so, and:
	mu         sync.Mutex
	state      State
	closing    bool  // Close was called
	link       *link // that messages are sent on; nil unless the client is connected
	attempts   attempts
	id         string // of the Socket at the server
	recovery   clientRecovery
	maxMessage int // the server's limit of a message, in bytes; 0 if it has told none
	queue      clientQueue
}

// endpoint is what a Client connects to.
type endpoint struct {
	address string // of the WebSocket
	wrong   error  // what is wrong with the URL or the options
}

// NewClient returns a client of the server at the URL, whose scheme is http, https, ws or wss. The
// URL's path is the endpoint; none, or "/", means "/socket.io/", as Socket.IO servers have it. Its
// query is sent along. NewClient does nothing with the network, and leaves it to Connect to return
// what is wrong with the URL.
func NewClient(url string, options ClientOptions) *Client {
	c := &Client{registry: newRegistry[*Client](), options: options.normalize(), state: StateClosed}
	c.options.Logger = guardedLogger(c.options.Logger)
	c.log = newLimitedLog(c.options.Logger)
	if c.endpoint.address, c.endpoint.wrong = webSocketURL(url); c.endpoint.wrong == nil {
		c.endpoint.wrong = c.options.check(c.endpoint.address)
	}
	c.inbox.handler = handlerFunc[incoming](func(in incoming) { in.note() }) // every item is a note
	c.inbox.reading = &c.reading
	c.inbox.maxCount, c.inbox.maxBytes = maxClientInboxEvents, maxClientInboxBytes
	return c
}

const (
	// maxClientInboxEvents and maxClientInboxBytes bound what was received and is not handled yet.
	maxClientInboxEvents = 256
	maxClientInboxBytes  = 1 << 20
	// maxClientReplayBytes bounds the same on a connection that comes back, to which the server may
	// send at once as much as was missed: a hub up to Limits.QueuedBytes. A Call may be pending
	// then, so that the connection has to be read to the end of it.
	maxClientReplayBytes = defaultMaxQueued
)

// Handle registers the handler of an event in its raw form; On, OnCall and OnAck register typed
// ones. If the server asked for an acknowledgement and the handler has neither replied nor called
// Event.Later when it returns, an empty one is sent. Handle panics if the name is reserved, too
// long, or registered already.
//
// Events of a Node server with recovery have one more argument, the last: their offset, a string.
// The offset of a Hub is removed.
func (c *Client) Handle(event string, f func(*Event)) {
	mustFunc(f == nil, "Handle")
	c.registry.register(event, func(_ *Client, e *Event) { f(e) })
}

// register makes a Client a Registrar.
func (c *Client) register(event string, f func(*Client, *Event)) { c.registry.register(event, f) }

// HandleAny adds a function that gets every event, before the event's own handler.
func (c *Client) HandleAny(f func(*Event)) {
	c.registry.add("HandleAny", f == nil, func(r *functions[*Client]) { r.any = append(r.any, f) })
}

// OnConnect adds a function that is called each time the client is connected, which may be the
// place to join rooms and to ask for what was missed, unless Recovered. What had been waiting to be
// sent is sent before that.
func (c *Client) OnConnect(f func(*Client)) {
	c.registry.add("OnConnect", f == nil, func(r *functions[*Client]) { r.onConnect = append(r.onConnect, f) })
}

// OnDisconnect adds a function that is called each time the client is disconnected, after the last
// of the events that were received before. The client connects again after all reasons but
// ReasonServerDisconnect and ReasonClientDisconnect.
func (c *Client) OnDisconnect(f func(*Client, Reason)) {
	c.registry.add("OnDisconnect", f == nil, func(r *functions[*Client]) { r.onDisconnect = append(r.onDisconnect, f) })
}

// OnConnectError adds a function that is called after each attempt to connect that failed, with an
// error as Connect returns it. If it is the last, because the server has refused the client or
// ClientOptions.MaxAttempts have failed, State is StateClosed by then. While 256 events wait to be
// handled these errors are only logged.
func (c *Client) OnConnectError(f func(*Client, error)) {
	c.registry.add("OnConnectError", f == nil, func(r *functions[*Client]) { r.onConnectError = append(r.onConnectError, f) })
}

// OnState adds a function that is called with each new State.
func (c *Client) OnState(f func(*Client, State)) {
	c.registry.add("OnState", f == nil, func(r *functions[*Client]) { r.onState = append(r.onState, f) })
}

// State returns the state: StateClosed before Connect, after Close and when the client has stopped;
// StateConnecting while it tries to connect and between two attempts; StateOpen; StateClosing while
// Close waits.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// ID returns the id of the Socket at the server; "" before the first connection. After a disconnect
// it is the latest one.
func (c *Client) ID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id
}

// Recovered reports whether the latest connection continued the socket of the one before: with the
// same id and rooms, and with all events that were missed, which are handled before OnConnect's
// functions are called. See Recovery.
func (c *Client) Recovered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recovery.recovered
}

// note returns an item of the inbox that calls f, which calls the application's functions of that
// name.
func (c *Client) note(name string, f func(*functions[*Client])) incoming {
	return incoming{kind: incomingNote, note: func() { guard(func() { f(c.registry.current.Load()) }, c.panicked(name)) }}
}

// tell queues a note behind the events that were received. It waits if the inbox is full.
func (c *Client) tell(name string, f func(*functions[*Client])) {
	note := c.note(name, f)
	if c.inbox.push(note) != itemTaken {
		c.inbox.put(note) // bounded: there is one such push, which waits, for each connection
	}
}

// handle calls the handlers of an event. A panic is logged, and the reply is an error.
func (c *Client) handle(e *Event) {
	guard(func() {
		watched := c.watch(e)
		if !c.registry.dispatch(c, e) && !watched && e.ackID != noID {
			e.ReplyError(Errorf("event: %q is not one that this client knows", e.name))
		}
	}, func(what ...any) {
		e.fail("internal error", nil)
		e.sender.logger(e.name).Error("atrium: a handler panicked", what...)
	})
}

// panicked returns a function that logs the panic of the application's function of that name.
func (c *Client) panicked(name string) func(what ...any) {
	return func(what ...any) {
		c.options.Logger.Error("atrium: a handler panicked", append([]any{slog.String("function", name)}, what...)...)
	}
}

// tellError queues the call of OnConnectError's functions. If the inbox is full, the error is only
// logged.
func (c *Client) tellError(err error) {
	note := c.note("OnConnectError", func(r *functions[*Client]) {
		for _, f := range r.onConnectError {
			f(c, err)
		}
	})
	if c.inbox.offer(note) != itemTaken {
		c.log.warn("atrium: could not connect", loggedFailure(err)...)
	}
}
