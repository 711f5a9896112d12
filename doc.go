// Package atrium is a real-time event hub for Go programs: mount it on a net/http mux, and browsers
// and other clients share rooms, broadcasts and acknowledgements over one endpoint.
//
//	h := atrium.New(atrium.Options{})
//
//	h.Use(func(s *atrium.Socket) error { // called first for every client
//		var auth struct{ Token string }
//		if err := s.Handshake().Bind(&auth); err != nil {
//			return err
//		}
//		user, ok := userOf(auth.Token) // identified by the token, not by what the client says
//		if !ok {
//			return atrium.Errorf("Auth failed") // shown to the client
//		}
//		s.Set("user", user)
//		if err := s.SetUser(user.ID); err != nil {
//			return err
//		}
//		return s.Join("room:lobby")
//	})
//	atrium.OnCall(h, "send", func(s *atrium.Socket, m Message) (Receipt, error) {
//		room := "room:" + m.Room
//		if !s.In(room) { // a client may only emit to its own rooms
//			return Receipt{}, atrium.Errorf("room: you are not in it")
//		}
//		if err := h.To(room).Emit("message", m); err != nil { // s.To excepts the sender
//			return Receipt{}, err
//		}
//		return Receipt{At: time.Now()}, nil // the acknowledgement
//	})
//
//	mux := http.NewServeMux()
//	mux.Handle("/ws", h)
//	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
//	err := h.Serve(ctx, srv, nil) // until ctx ends, by signal.NotifyContext for example
//
// # Model
//
// A [Hub] is an http.Handler. Each client it accepts is a [Socket]. A Socket may be in any number
// of rooms, which exist while they have members. A [Target], such as h.To("a", "b").Except(id), is
// a set of sockets to emit to. [On] and [OnCall] register typed handlers: arguments are decoded
// from JSON and validated if they have a Validate() error method, and the result of the handler is
// the acknowledgement; [OnAck] is for handlers that reply later. [Call] sends an event to a client
// and waits for its acknowledgement.
//
// # Clients
//
// Anything that has a WebSocket can be a client. Each text message is one JSON object:
//
//	{"event":"send","data":{"room":"lobby","text":"hi"},"id":7}   an event; the id asks for an acknowledgement
//	{"id":7,"data":{"at":"…"}}                                    the acknowledgement
//	{"id":7,"error":{"message":"text: expected some"}}            the acknowledgement with an error
//	{"event":"error","data":{"event":"send","message":"…"}}       an error of an event without an id
//
// Several arguments are sent as "args":[…] in place of "data". Ids are integers from 0 to 2^53−1;
// both sides may ask for acknowledgements. The hub's first message is
// {"event":"connect","data":{"sid":"…"}}. A client that offers the subprotocol "atrium" is expected
// to send {"event":"connect","data":auth} before that, and auth is what [Handshake.Bind] decodes;
// one that offers none is connected at once. A refused client gets
// {"event":"connect_error","data":{"message":"…"}}, then close code 1008. In a page:
//
//	const ws = new WebSocket("wss://example.com/ws", "atrium")
//	ws.onopen = () => ws.send(JSON.stringify({event: "connect", data: {token}}))
//	ws.onmessage = (m) => { const {event, data, id, error} = JSON.parse(m.data); … }
//
// Socket.IO clients of versions 3 and 4 connect unchanged; their requests have the query EIO=4.
// Mount the hub at "/socket.io/", their default path. They may have a socket in each [Namespace];
// plain clients are in "/". [ClientScript] serves a small Socket.IO client for browsers, which
// reconnects by itself.
//
// # The other end
//
// A [Client] is a connection to a hub, or to a Socket.IO server, that reconnects by itself. [On],
// [OnCall] and [Call] work at both ends, so that both can share message types:
//
//	c := atrium.NewClient("https://example.com", atrium.ClientOptions{Auth: auth})
//	atrium.On(c, "message", func(_ *atrium.Client, m Message) error { return show(m) })
//	if err := c.Connect(ctx); err != nil {
//		return err // an *Error if the server refuses the client
//	}
//	receipt, err := atrium.Call[Receipt](ctx, c, "send", Message{Room: "lobby", Text: "hi"})
//
// # Rooms from clients
//
// To, Except, Join and Leave take names of one name space: rooms, those of your own among them
// ("staff"), and ids of sockets. The package does not check whether a client may use a name. So a
// handler that gets the name of a room from a client puts a prefix before it ("room:"+name), which
// excludes all other names; checks [Socket.In] before it emits to the room; and checks who may join
// before it calls [Socket.Join]. Without these three checks every client can reach every other.
//
// # Users
//
// A user may have several sockets: tabs, devices. [Socket.SetUser], called in Use, says whose a
// socket is; then h.ToUser("7") is a target as h.To("room") is, on every node, and
// h.To("room").ExceptUser("7") leaves that user's sockets out. No name of a room reaches a user,
// and no id of a user a room. [Limits].SocketsPerUser bounds how many sockets one has, and
// [Options].ReplaceOldest says which of them must go.
//
// # Who is here
//
// [Socket.Present] says that a socket is in a room as a key, a user say, with an info. The members
// of the room are told by an event named presence: all who are there when they enter, and then what
// changes, gathered for [PresenceOptions.Interval]. Its data is one of
//
//	{"room":"r","version":7,"state":[{"key":"Ada","infos":[{"typing":true}]},…]}   all
//	{"room":"r","version":8,"joined":[…],"changed":[…],"left":["Bob"]}             what has changed
//	{"room":"r","version":9,"count":12345}     too many for a list ([Limits.Presence]): this many sockets
//
// in which joined and changed are as state: keys, each with the infos of its sockets. What there is
// none of is left out. A long state is sent in parts, with "part":0,"parts":3 and so on. The
// version of a change is that of the event before it and 1 more. A client that has missed one sends
// {"event":"presence","data":{"room":"r"}} and is told all; so does one that comes late, or back:
// it may not be in the room any more. The members who ask are answered once a second. Who is not in
// the room, or leaves it, is told that nobody is there. [Client.Presence] and presence in client.js
// do all that. An application that uses presence should give no event of its own that name; if it
// handles one, the hub does not answer.
//
// # Guarantees
//
// The callbacks of a socket run one at a time, in order: Use, OnConnect, its events in the order
// received, OnDisconnect. They may block without delaying other sockets. What one goroutine emits
// to one socket arrives in that order, whether it is for the socket, a room or everyone. Emit never
// waits for the network. A client that does not read is disconnected when its queue is full
// ([Limits.QueuedBytes]), and delays no other. A panic or runtime.Goexit in a handler disconnects
// its client only. After [Socket.Leave] has returned, the socket gets no more events of the room.
//
// # Many machines
//
// Hubs with the same [Bus] share rooms, broadcasts, calls and lists of sockets ([Options.Bus]).
// Between hubs each event arrives at most once, in order for one goroutine and one kind of target;
// local delivery does not wait for other hubs. If a hub does not respond to a request, the error is
// a [ClusterError]. CLUSTER.md has the details.
//
// # What is refused
//
// By default the package strictly validates everything that a peer sends:
//
//	pages of another origin                      403         RFC 6455 §10.2
//	a malformed handshake                        4xx, 505    RFC 6455 §4.2.1
//	headers over 64 KiB, by a Hub                431
//	connections over a bound that you set        503, 429
//	more than 10,000 that are not accepted yet   503
//	clients that come during Shutdown            503
//	unmasked client frames                       close 1002  RFC 6455 §5.1
//	reserved bits and opcodes                    close 1002  RFC 6455 §5.2
//	a length not in its shortest form            close 1002  RFC 6455 §5.2
//	fragments out of order                       close 1002  RFC 6455 §5.4
//	fragmented or long control frames            close 1002  RFC 6455 §5.5
//	a close code that must not be sent           close 1002  RFC 6455 §7.4
//	text, or a close reason, that is not UTF-8   close 1007  RFC 6455 §8.1
//	a message over the limit, 1 MiB              close 1009  RFC 6455 §10.4
//	binary messages to a plain endpoint          close 1003  RFC 6455 §7.4.1
//	an offer of compression with parameters that
//	  are unknown, come twice or are out of range  declined  RFC 7692 §7.1
//	an answer like that, or one not offered      Dial fails  RFC 7692 §7.1, RFC 6455 §4.1
//	RSV1 but on a compressed message's first
//	  frame, compression being agreed on         close 1002  RFC 7692 §6
//	a message over the limit when inflated       close 1009  RFC 6455 §10.4
//	what is not deflate data                     close 1007  RFC 7692 §7.2.2
//	text that is not UTF-8 when inflated         close 1007  RFC 6455 §8.1
//	a message that takes over 60 seconds         close 1008
//	silence for 45 seconds, pings included       close 1008
//	events over a bound that you set             close 1008
//
// For invalid JSON, unknown events, wrong types and the like the client gets an error that says
// what was expected, and stays connected. All limits are in [Options].
//
// # Without a hub
//
// [Upgrade], [Dial] and [Conn] are a WebSocket implementation that can be used without a hub.
//
// # Tests
//
// Package atriumtest has a server in memory: in a bubble of testing/synctest heartbeats and
// time-outs take no time. GUIDE.md shows tests of handlers, and other tasks.
package atrium
