package atrium

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"
)

// Options configure a Hub. The zero value is useful. A negative number or duration, here or in the
// structs that are fields, and an entry of a list that can never have an effect, make New panic.
type Options struct {
	// AllowedOrigins lists the web origins whose pages may connect, besides the hub's own: an exact
	// one ("https://app.example.com"), all subdomains of a host ("https://*.example.com"), "null",
	// "file://", or "*" for any. Zero means same origin only. See UpgradeOptions.AllowedOrigins.
	AllowedOrigins []string
	// Accept, if set, runs before a connection is upgraded, for every kind of client, and may look
	// at the whole request: cookies, client certificates, the path. An error refuses the client
	// over HTTP; if it is an *Error with its message and Status, otherwise with 403 and no more.
	// With the status 429 or 503 a Retry-After header of 10 seconds goes along. The context
	// returned is, without its cancellation, the parent of Socket.Context; nil means
	// context.Background. Accept may be called from many goroutines at a time. Its panics, and
	// those of ClientKey, are net/http's, which closes the connection. Zero means that all are
	// accepted.
	//
	// A page does not see why its WebSocket was refused: browsers hide the status and the body, and
	// Socket.IO's client in a browser reports "websocket error" or "xhr poll error". So that a user
	// learns of it, put what was found into the context in Accept, and refuse in Use:
	//
	//	Accept: func(r *http.Request) (context.Context, error) {
	//		user, err := userOf(r)
	//		return context.WithValue(r.Context(), userKey{}, found{user, err}), nil
	//	}
	//	…
	//	hub.Use(func(s *atrium.Socket) error {
	//		found := s.Context().Value(userKey{}).(found)
	//		if found.err != nil {
	//			return atrium.Errorf("Log in again") // a connect_error event with this message
	//		}
	//		s.Set("user", found.user)
	//		return nil
	//	})
	Accept func(*http.Request) (context.Context, error)

	// Subprotocols lists what the hub agrees to if a WebSocket client of any kind offers it, best
	// first (RFC 6455 §1.9). Browsers close a connection for which they have offered subprotocols
	// and none was agreed on. A page may send a token so, which it cannot as a header: new
	// WebSocket(url, ["bearer", token]) wants "bearer" in the list, and the token is the header's
	// second value: see Handshake.Header, or the request in Accept. It is never logged.
	//
	// A plain client may also offer "atrium", which is chosen before all others and means that it
	// sends its connect message first. Handshake.Subprotocol has what was chosen. A name that is no
	// token (RFC 9110 §5.6.2) makes New panic. Zero means no other than "atrium".
	Subprotocols []string

	// ClientKey says whose request it is, for Limits.ConnectionsPerClient. Behind a proxy it should
	// return what the proxy says of the client, as ForwardedClient does, or a user's name. It may
	// be called from many goroutines at a time. Zero means the IP address of RemoteAddr, of an IPv6
	// address its first 64 bits, which are what one client may choose from.
	ClientKey func(*http.Request) string

	// DrainRate is how many clients a second Hub.Shutdown disconnects, so that they come to the
	// next process one after another: set it below what that one can let in. Shutdown goes faster
	// if its context does not last that long. Zero means 1,000.
	DrainRate int

	// ReplaceOldest lets a client in whose user has as many sockets as Limits.SocketsPerUser
	// allows, and disconnects the one of them that has been connected longest, in the way of
	// DisconnectWith(1008, "connected elsewhere"): OnDisconnect is told ReasonReplaced. Zero means
	// that the client is refused.
	ReplaceOldest bool

	// Limits bounds what clients can make the hub hold. Zero means the default of each.
	Limits Limits
	// Timeouts bounds how long things may take, and sets how often clients are pinged. Zero means
	// the default of each.
	Timeouts Timeouts
	// Recovery lets Socket.IO clients come back after a broken connection. Zero means off.
	Recovery Recovery

	// Presence says how the members of rooms are told who is there. Zero means the default of each.
	Presence PresenceOptions

	// Bus joins the hub with all others that have the same, in this process (a MemoryBus) or in
	// others (packages redisbus and natsbus): events, Calls, joins and lists of sockets reach the
	// sockets of all of them, unless Target.Local says otherwise. A Bus outlives the hub: what it
	// was made with is to be closed after Shutdown. Zero means that this hub is alone.
	Bus Bus

	// Compression is used with WebSocket clients that offer it, as browsers do. A broadcast is
	// compressed once for all of them that have agreed on the same parameters. Zero means off.
	Compression Compression
	// DisablePollingCompression leaves what is sent to polling clients as it is, so that a handler
	// around the hub or a proxy can compress it, or so that nothing does. Zero means that responses
	// of 1 KiB and more are compressed with gzip for clients that accept it, unless a handler
	// around the hub has set Content-Encoding, or Vary: Accept-Encoding, before.
	DisablePollingCompression bool

	// Logger gets what the operator of a server should know. LOGS.md lists each entry with its
	// level, its attributes and what to do:
	//
	//	Error  panics of the application's functions, with their stacks; errors that clients see as
	//	       "internal error"; a Bus that fails
	//	Warn   what was refused, and which option or header to set; clients that were disconnected
	//	       because they broke a rule or a limit, or did not take what was sent; many that went
	//	       silent at a time; what Shutdown waits for; what Recovery cannot save or use
	//	Info   a Bus that works again
	//	Debug  each connect and disconnect of a socket; clients that Accept or Use refused
	//
	// Of what clients can cause, 5 entries with the same message are written a minute; the next has
	// the number of the others, as "left_out". Entries have a request's path and remote address,
	// its Origin and Host, but never its query, cookies, other headers or auth value; what clients
	// have chosen is cut, and one line. If its handler panics, or ends its goroutine, the entry is
	// lost, and nothing else. Zero means slog.Default().
	Logger *slog.Logger
}

// Limits are the bounds of a Hub on what clients can make it hold. In each zero means the default.
type Limits struct {
	// Connections bounds the connections at a time, those included that are not accepted yet. One
	// more is refused with 503, before Accept is asked. Zero means no bound but the operating
	// system's, which does not hold for clients that poll: between their requests they need no open
	// file.
	Connections int
	// ConnectionsPerClient bounds the connections at a time that have the same Options.ClientKey.
	// One more is refused with 429, before Accept is asked. Zero means no bound.
	ConnectionsPerClient int
	// Pending bounds the connections at a time that are not accepted yet: from the handshake,
	// Accept included, until the Use functions have passed or the client has gone. One more is
	// refused with 503 and Retry-After, before Accept is asked. Each may hold some 300 KB until
	// Timeouts.Connect. One client alone can be all of them, unless ConnectionsPerClient is set.
	// Zero means 10,000.
	Pending int

	// MessageBytes bounds a received message; a larger one ends the connection with status 1009, or
	// the session of a client that polls with the HTTP status 413, and the socket with
	// ReasonMessageTooBig. Until a client is accepted, 64 KiB hold, for a message with its
	// attachments, too. Zero means 1 MiB.
	MessageBytes int64
	// Attachments bounds the Binary values of an event or an acknowledgement, in either direction.
	// A Socket.IO client that sends more is told in the acknowledgement that it asked for, or else
	// in an event named error, and stays; to send more is an error of Emit, Call and Reply. Clients
	// have the same bound, and are to be given another one with it: client.js its maxAttachments, a
	// Client its MaxAttachments, Socket.IO's own clients a parser whose Decoder has the option
	// maxAttachments. They hang up when there are more. Zero means 10, as there.
	Attachments int
	// Rooms bounds the rooms that one socket is in. Zero means 1000.
	Rooms int
	// SocketsPerUser bounds the sockets that one user (Socket.SetUser) has in a namespace at a time
	// on this hub: on a cluster each node counts its own. One more is refused, when its Use
	// functions have passed, with a message that says so; with Options.ReplaceOldest the oldest
	// ends instead. Clients that are away (Options.Recovery) do not count, and one that comes back
	// when others have its place begins anew, to be refused like others. What a broken connection
	// has left counts until that is noticed, but not against the client that comes back to it by
	// Recovery. Zero means no bound.
	SocketsPerUser int

	// Presence bounds the sockets that are present in a room, on all nodes: see Socket.Present. Of
	// more, which may come all the same, the members are told only how many there are, until there
	// are a tenth less than that again. So they are of those whose keys and infos take more than
	// half of QueuedBytes, as a client that enters is sent all. Those who have gone, and may be
	// back within PresenceOptions.Grace, count with them for both bounds. Zero means 10,000.
	Presence int
	// PresencePerSecond bounds how often Present may be called for a socket, in all its rooms
	// together, for long. After a pause that of ten seconds may come at a time, so that a client
	// which connects may be present in many rooms at once: 200 by the default. Beyond it Present
	// returns an error. Zero means 20.
	PresencePerSecond int

	// InboxEvents bounds the events of one socket that were received and not yet handled. While
	// they are that many, its client is not read from. A Socket.IO client may have up to 100
	// sockets, in as many namespaces. Zero means 256.
	InboxEvents int
	// InboxBytes bounds the same events in bytes of memory: each counts as its bytes and 256. Zero
	// means 1 MiB.
	InboxBytes int
	// EventsPerSecond bounds how many events a client may send a second for long, to all its
	// sockets together, and EventBurst how many at a time after a pause. Acknowledgements are no
	// events. The first event over the bound is answered with an error that names it, in the
	// acknowledgement if one was asked for, else in an event named error; then the connection ends
	// with status 1008, and its sockets with ReasonForcedServerClose. A client that was not
	// accepted yet gets the status alone: nothing goes ahead of its connect message. What came
	// before is still handled.
	//
	// Set it well above what an honest client sends, since a network that stalls brings the events
	// of seconds at once: 100 for a chat, 1,000 for a game that sends each move. Zero means no
	// bound: a client that sends faster than its events are handled is read more slowly, and costs
	// others processor time alone.
	EventsPerSecond int
	// EventBurst is described with EventsPerSecond. Zero means as many as EventsPerSecond.
	EventBurst int
	// Calls bounds the Calls to one socket that wait for its acknowledgement: one more fails at
	// once with ErrTooManyCalls. It also bounds a socket's events whose handlers have taken the
	// acknowledgement along (Event.Later, OnAck) and not sent it: while there are as many, each
	// further event is answered with an error. An Ack that the application has dropped counts until
	// the garbage collector finds it. Zero means 1,000.
	Calls int

	// QueuedBytes bounds what waits to be sent to one client, in bytes of memory: each message
	// counts as what it has on the wire and 96 bytes, which is about what it takes. A client with
	// more than that waiting whose network took nothing for 5 seconds, or with more than four times
	// as much, is a slow consumer and is disconnected with status 1008. Zero means 4 MiB.
	QueuedBytes int
	// TotalQueuedBytes bounds what waits to be sent to all clients together, counted as for
	// QueuedBytes. It is checked about once a second; beyond it, the clients with most waiting are
	// disconnected as slow consumers until an eighth of it is free. What is queued for one that is
	// being disconnected counts until it has left. A broadcast counts once for each client that it
	// waits for, though they share most of its memory: so set it well above what the broadcasts of
	// a second make. Zero means no bound but QueuedBytes for each.
	TotalQueuedBytes int
}

// Timeouts are a Hub's bounds on how long things may take. In each zero means the default.
type Timeouts struct {
	// PingInterval is the time between two pings to a client, and from its handshake to the first
	// at least: that one comes up to a quarter of Ping later, so that clients that come together
	// are not pinged together. Zero means 25 seconds.
	PingInterval time.Duration
	// Ping is how long a client may send nothing at all after a ping before it counts as gone;
	// after the first ping, what that was late is taken off. Linux is told, too: it cuts a client
	// that was pinged and whose network takes nothing of what is sent for PingInterval and Ping
	// together, even while it sends. After the process stood still, with its machine or for want of
	// processor time, nobody is ended for silence until Ping is over: what clients have sent
	// meanwhile is still to be read. Zero means 20 seconds.
	Ping time.Duration
	// Connect is how long a client may take from the handshake until it is accepted: its connect
	// message, if it sends one, and the Use functions. Zero means 45 seconds.
	Connect time.Duration
	// Message is how long a message may take from its first byte to its last. Zero means 60
	// seconds.
	Message time.Duration
	// Call is how long a Call waits whose context has no deadline. Zero means 10 seconds.
	Call time.Duration
	// Close bounds how long what is queued for a client that is disconnected, by Disconnect or
	// because of what it sent, may take to leave. As long as the client takes it: one whose network
	// takes nothing for 5 seconds is cut earlier. Shutdown has its context for that instead, and of
	// slow consumers the queue is dropped. The client's close frame has a second after ours has
	// left. Zero means 30 seconds.
	Close time.Duration
	// Drain is how long Hub.Serve lets Shutdown, and that of the http.Server after it, take
	// together; a Bus may add two seconds to it, and Recovery.Save 10. What stops the process must
	// wait longer: Kubernetes kills it 30 seconds after the signal (terminationGracePeriodSeconds),
	// Docker after 10. Zero means 15 seconds.
	Drain time.Duration
}

// normalize puts the defaults in place of zeros.
func (o Options) normalize() Options {
	_, origins := parseOrigins(o.AllowedOrigins)
	must("Options.", cmp.Or(
		setDefault(&o.Timeouts.PingInterval, 25*time.Second, "Timeouts.PingInterval"),
		setDefault(&o.Timeouts.Ping, 20*time.Second, "Timeouts.Ping"),
		setDefault(&o.Timeouts.Connect, 45*time.Second, "Timeouts.Connect"),
		setDefault(&o.Timeouts.Message, 60*time.Second, "Timeouts.Message"),
		setDefault(&o.Timeouts.Call, 10*time.Second, "Timeouts.Call"),
		setDefault(&o.Timeouts.Close, defaultCloseTimeout, "Timeouts.Close"),
		setDefault(&o.Timeouts.Drain, 15*time.Second, "Timeouts.Drain"),
		setDefault(&o.Presence.Interval, 100*time.Millisecond, "Presence.Interval"),
		setDefault(&o.Presence.Grace, 2*time.Second, "Presence.Grace"),
		setDefault(&o.DrainRate, 1000, "DrainRate"),
		setDefault(&o.Limits.MessageBytes, defaultReadLimit, "Limits.MessageBytes"),
		setDefault(&o.Limits.Attachments, defaultMaxAttachments, "Limits.Attachments"),
		setDefault(&o.Limits.QueuedBytes, defaultMaxQueued, "Limits.QueuedBytes"),
		setDefault(&o.Limits.TotalQueuedBytes, noBound, "Limits.TotalQueuedBytes"),
		setDefault(&o.Limits.Rooms, 1000, "Limits.Rooms"),
		setDefault(&o.Limits.SocketsPerUser, noBound, "Limits.SocketsPerUser"),
		setDefault(&o.Limits.Presence, 10_000, "Limits.Presence"),
		setDefault(&o.Limits.PresencePerSecond, 20, "Limits.PresencePerSecond"),
		setDefault(&o.Limits.InboxEvents, 256, "Limits.InboxEvents"),
		setDefault(&o.Limits.InboxBytes, 1<<20, "Limits.InboxBytes"),
		setDefault(&o.Limits.EventsPerSecond, 0, "Limits.EventsPerSecond"),
		setDefault(&o.Limits.EventBurst, o.Limits.EventsPerSecond, "Limits.EventBurst"),
		setDefault(&o.Limits.Calls, 1000, "Limits.Calls"),
		setDefault(&o.Limits.Connections, noBound, "Limits.Connections"),
		setDefault(&o.Limits.Pending, 10_000, "Limits.Pending"),
		setDefault(&o.Limits.ConnectionsPerClient, noBound, "Limits.ConnectionsPerClient"),
		setDefault(&o.Recovery.MaxDisconnection, 0, "Recovery.MaxDisconnection"),
		setDefault(&o.Recovery.MaxBytes, 16<<20, "Recovery.MaxBytes"),
		o.Recovery.check(),
		o.Compression.check(),
		checkSubprotocols(o.Subprotocols),
		origins,
	))
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// tick is the grain of the hub's clock: a 64th of the ping interval, or less where a shorter
// time-out needs it.
func (o *Options) tick() time.Duration {
	shortest := min(o.Timeouts.Ping, o.Timeouts.Connect, o.Timeouts.Message, o.Timeouts.Call)
	if o.Recovery.MaxDisconnection > 0 {
		shortest = min(shortest, o.Recovery.MaxDisconnection)
	}
	if o.Bus != nil {
		shortest = min(shortest, nodeTimeout)
	}
	return min(o.Timeouts.PingInterval/64, shortest/16)
}
