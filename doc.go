// Package atrium is a real-time event hub that lives inside a Go program: mount it on a net/http mux, and browsers
// and other clients share rooms, broadcasts and acknowledgements over one endpoint.
//
//	h := atrium.New(atrium.Options{})
//
//	h.Use(func(s *atrium.Socket) error { // every client passes here first
//		var auth struct{ Token string }
//		if err := s.Handshake().Bind(&auth); err != nil {
//			return err
//		}
//		user, ok := userOf(auth.Token) // the token says who it is, not the client
//		if !ok {
//			return atrium.Errorf("Auth failed") // shown to the client
//		}
//		s.Set("user", user)
//		return s.Join("user:"+user.ID, "room:lobby")
//	})
//	atrium.OnCall(h, "send", func(s *atrium.Socket, m Message) (Receipt, error) {
//		room := "room:" + m.Room
//		if !s.In(room) { // no client may speak where it is not
//			return Receipt{}, atrium.Errorf("room: you are not in it")
//		}
//		if err := h.To(room).Emit("message", m); err != nil { // to all in the room; s.To leaves the sender out
//			return Receipt{}, err
//		}
//		return Receipt{At: time.Now()}, nil // the acknowledgement
//	})
//
//	mux := http.NewServeMux()
//	mux.Handle("/ws", h)
//	srv := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
//
// # Model
//
// A [Hub] is an http.Handler. Each client it accepts is a [Socket]. A Socket may be in any number of rooms, which
// exist while they have members. A [Target], such as h.To("a", "b").Except(id), says whom an event is for. [On] and
// [OnCall] register typed handlers: arguments are decoded from JSON, validated if they have a Validate() error
// method, and what the handler returns is the acknowledgement; [OnAck] is for one that comes later. [Call] asks a
// client and waits for its answer.
//
// # Clients
//
// Anything that has a WebSocket is a client. A text message is one JSON object:
//
//	{"event":"send","data":{"room":"lobby","text":"hi"},"id":7}   an event; with an id, an answer is wanted
//	{"id":7,"data":{"at":"…"}}                                    the answer
//	{"id":7,"error":{"message":"text: expected some"}}            or what was wrong
//	{"event":"error","data":{"event":"send","message":"…"}}       the same where no answer was wanted
//
// Several arguments travel as "args":[…] in place of "data". Ids are integers from 0 to 2^53−1; either side may
// ask. The hub's first message is {"event":"connect","data":{"sid":"…"}}. A client that offers the subprotocol
// "atrium" is expected to send {"event":"connect","data":auth} before that, and auth is what [Handshake.Bind]
// decodes; one that offers none is connected at once. A refused client gets
// {"event":"connect_error","data":{"message":"…"}}, then close code 1008. In a page:
//
//	const ws = new WebSocket("wss://example.com/ws", "atrium")
//	ws.onopen = () => ws.send(JSON.stringify({event: "connect", data: {token}}))
//	ws.onmessage = (m) => { const {event, data, id, error} = JSON.parse(m.data); … }
//
// Socket.IO clients of versions 3 and 4 connect unchanged; a request with the query EIO=4 is one. Mount the hub at
// "/socket.io/", where they look for it. They may have a socket in each [Namespace]; plain clients are in "/".
// [ClientScript] serves a client of that kind for browsers, which reconnects by itself.
//
// # The other end
//
// A [Client] is a connection to a hub, or to a Socket.IO server, that comes back by itself. [On], [OnCall] and [Call] are
// for both ends, so that message types are shared:
//
//	c := atrium.NewClient("https://example.com", atrium.ClientOptions{Auth: auth})
//	atrium.On(c, "message", func(_ *atrium.Client, m Message) error { return show(m) })
//	if err := c.Connect(ctx); err != nil {
//		return err // an *Error if the server does not want us
//	}
//	receipt, err := atrium.Call[Receipt](ctx, c, "send", Message{Room: "lobby", Text: "hi"})
//
// # Rooms from clients
//
// All that To, Except, Join and Leave take are names in one space: rooms, the room of a user ("user:7"), the ids of sockets.
// Nothing in the package asks whether a client may name one. So a handler that gets a room's name from a client puts a
// prefix of its own before it ("room:"+name), which keeps all other names out of reach; asks [Socket.In] before it emits
// there; and decides who may join before it calls [Socket.Join]. Without these three lines anyone writes to anyone.
//
// # What holds
//
// A socket's functions run one at a time, in order: Use, OnConnect, its events as they came, OnDisconnect. They
// may block; nobody else waits for them. What one goroutine emits to one socket arrives in that order, whether it
// was for the socket, a room or everyone. Emit never waits for a network. A client that does not read is given up
// when its queue is full ([Options.MaxQueued]) and delays nobody. A panic in a handler costs its socket only, and so does
// runtime.Goexit. After [Socket.Leave] has returned, nothing more arrives through the room.
//
// # Many machines
//
// Hubs with the same [Bus] are one, as far as rooms, broadcasts, calls and lists of sockets go ([Options.Bus]). Between
// them each event arrives at most once, in order for one goroutine and one kind of target, and local delivery waits for
// nobody. What is asked of the others and not answered is a [ClusterError]. CLUSTER.md has the whole of it.
//
// # What is refused
//
// By default the package is strict, about everything a peer sends:
//
//	pages of another origin                      403         RFC 6455 §10.2
//	a malformed handshake                        4xx, 505    RFC 6455 §4.2.1
//	headers over 64 KiB, by a Hub                431
//	connections over a bound that you set        503, 429
//	more than 10,000 that are not accepted yet   503
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
//
// Bad JSON, unknown events, wrong types and the like are answered with an error that says what was expected, and the
// connection lives on. Every limit stands in [Options].
//
// # Without a hub
//
// [Upgrade], [Dial] and [Conn] are a WebSocket implementation by themselves.
//
// # Tests
//
// Package atriumtest has a server in memory, whose heartbeats and time-outs take no time in a bubble of testing/synctest.
// GUIDE.md shows tests of handlers, and goes on by task from here.
package atrium
