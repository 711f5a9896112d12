package atrium

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What cannot be right is said at once, and nothing is dialed.
func TestClientWrongAddress(t *testing.T) {
	for _, test := range []struct {
		url     string
		options ClientOptions
		want    string
	}{
		{"ftp://example.com", ClientOptions{}, `the scheme of a server's URL is http, https, ws or wss, not "ftp"`},
		{"example.com", ClientOptions{}, `the scheme of a server's URL is http, https, ws or wss, not ""`},
		{"localhost:3000", ClientOptions{}, `the scheme of a server's URL is http, https, ws or wss, not "localhost"`},
		{"127.0.0.1:3000", ClientOptions{}, `a server's URL begins with http://, https://, ws:// or wss://`},
		{"http://", ClientOptions{}, `the URL has no host`},
		{"http://example.com/#top", ClientOptions{}, `a WebSocket URL has no fragment`},
		{"http://u:secret@exa mple.com/", ClientOptions{}, `invalid character " " in host name`},
		{"http://example.com/?a=%zz", ClientOptions{}, `the URL's query: invalid URL escape "%zz"`},
		{"http://example.com", ClientOptions{Namespace: "admin"}, `ClientOptions.Namespace: "admin" does not begin with a /`},
		{"http://example.com", ClientOptions{Namespace: "/a,b"}, `ClientOptions.Namespace: "/a,b" does not begin with a / or has a comma`},
		{"http://example.com", ClientOptions{Namespace: "/" + strings.Repeat("x", 300)}, `ClientOptions.Namespace: namespace: expected at most 256 bytes`},
		{"http://example.com", ClientOptions{Auth: "token"}, `ClientOptions.Auth: expected what JSON makes an object of, got string`},
		{"http://example.com", ClientOptions{Auth: func() string { return "" }}, `ClientOptions.Auth: argument 1 cannot be encoded`},
		{"http://example.com", ClientOptions{Dial: DialOptions{Header: http.Header{"Upgrade": {"x"}}}}, `DialOptions.Header: Upgrade is not for the application to set`},
	} {
		test.options.Dial.DialContext = func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%s: dialed", test.url)
			return nil, net.ErrClosed
		}
		c := NewClient(test.url, test.options)
		err := c.Connect(context.Background())
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", test.url, err, test.want)
		}
		if c.State() != StateClosed {
			t.Errorf("%s: %v", test.url, c.State())
		}
	}
}

func TestClientURL(t *testing.T) {
	for from, want := range map[string]string{
		"http://example.com":                     "ws://example.com/socket.io/?EIO=4&transport=websocket",
		"https://example.com/":                   "wss://example.com/socket.io/?EIO=4&transport=websocket",
		"ws://example.com:81/hub":                "ws://example.com:81/hub?EIO=4&transport=websocket",
		"wss://example.com/a/b/?room=x%20y&b=1":  "wss://example.com/a/b/?EIO=4&b=1&room=x+y&transport=websocket",
		"http://example.com?EIO=3&transport=etc": "ws://example.com/socket.io/?EIO=4&transport=websocket",
		"HTTPS://u:p@example.com":                "wss://u:p@example.com/socket.io/?EIO=4&transport=websocket",
	} {
		if got, err := webSocketURL(from); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", from, got, err, want)
		}
	}
}

// What contradicts another option is a mistake that NewClient panics at, as at a negative number.
func TestClientOptionsRefused(t *testing.T) {
	auth := func(context.Context) (any, error) { return nil, nil }
	for want, options := range map[string]ClientOptions{
		"Auth and AuthFunc are both set":               {Auth: 1, AuthFunc: auth},
		"Dial.HandshakeTimeout is set":                 {Dial: DialOptions{HandshakeTimeout: time.Second}},
		"Dial.Compression.Level is 11, and not one of": {Dial: DialOptions{Compression: Compression{Level: 11}}},
		"Backoff.Jitter is 1.5, and not from 0 to 1":   {Backoff: Backoff{Jitter: 1.5}},
	} {
		wantPanic(t, want, "atrium: ClientOptions."+want, func() { NewClient("http://example.com", options) })
	}
}

// What may be at the other end of an address instead of a Socket.IO server. Each is tried again, as
// often as MaxAttempts says, and each error says what was expected and what came.
// TestClientRefusedOverHTTP has those that are not.
func TestClientMeetsSomethingElse(t *testing.T) {
	respond := func(status int, header http.Header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for name, values := range header {
				w.Header()[name] = values
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	says := func(messages ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, err := Upgrade(w, r, UpgradeOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			for _, m := range messages {
				if c.Write(context.Background(), MessageText, []byte(m)) != nil {
					return
				}
			}
			for err == nil {
				_, _, err = c.Read(context.Background())
			}
		}
	}
	refused := func(status int) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*HandshakeError](err)
			return ok && e.Response.StatusCode == status
		}
	}
	is := func(target error) func(error) bool { return func(err error) bool { return errors.Is(err, target) } }
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
		match   func(error) bool
	}{
		{"a page", respond(200, nil, "<h1>Hello"), `status "200 OK" instead of 101: "<h1>Hello"`, refused(200)},
		{"a client too many", respond(429, nil, ""), `status "429 Too Many Requests"`, refused(429)},
		{"nobody", respond(404, nil, "404 page not found"), `status "404 Not Found"`, refused(404)},
		{"a server that is ill", respond(503, nil, "try later"), `"try later"`, refused(503)},
		{"another address", respond(302, http.Header{"Location": {"/elsewhere"}}, ""), `redirects to "/elsewhere"`, refused(302)},
		{"words", says("hello"), `expected an Engine.IO handshake, such as 0{"sid":…}, got "hello"`, is(ErrProtocol)},
		{"a plain hub", says(`{"event":"connect","data":{"sid":"x"}}`), `got "{\"event\":\"connect\"`, is(ErrProtocol)},
		{"an empty message", says(""), `expected an Engine.IO handshake`, is(ErrProtocol)},
		{"a message first", says("40"), `expected an Engine.IO handshake`, is(ErrProtocol)},
		{"half a handshake", says(`0{"sid":"x"`), `the Engine.IO handshake: unexpected end of JSON input`, is(ErrProtocol)},
		{"no sid", says(`0{"pingInterval":1,"pingTimeout":1}`), `sid: expected some`, is(ErrProtocol)},
		{"a sid that is none", says(`0{"sid":7}`), `sid: expected a string, got number`, is(ErrProtocol)},
		{"no ping interval", says(`0{"sid":"x","pingTimeout":1}`), `pingInterval: expected 1 to 86400000 milliseconds, got 0`, is(ErrProtocol)},
		{"a negative ping time-out", says(`0{"sid":"x","pingInterval":1,"pingTimeout":-1}`), `pingTimeout: expected 1 to 86400000 milliseconds, got -1`, is(ErrProtocol)},
		{"an endless ping time-out", says(`0{"sid":"x","pingInterval":1,"pingTimeout":9007199254740991}`), `pingTimeout: expected 1 to`, is(ErrProtocol)},
		{"a ping interval beyond all", says(`0{"sid":"x","pingInterval":1e300,"pingTimeout":1}`), `pingInterval: expected an integer`, is(ErrProtocol)},
		{"a negative limit", says(`0{"sid":"x","pingInterval":1,"pingTimeout":1,"maxPayload":-1}`), `maxPayload: expected some bytes`, is(ErrProtocol)},
		{"a handshake of 20 KB", says(`0{"sid":"` + strings.Repeat("x", 20<<10) + `"}`), `before the Engine.IO handshake`, is(ErrMessageTooBig)},
		{"version 2 of Socket.IO", says(engineHello, "40"), `has it version 2 of Socket.IO?`, is(ErrProtocol)},
		{"no socket id", says(engineHello, `40{"sid":7}`), `expected the socket's id, such as {"sid":"…"}, got "{\"sid\":7}"`, is(ErrProtocol)},
		{"a packet of no type", says(engineHello, "49"), `packet: expected a type from 0 to 6`, is(ErrProtocol)},
		{"an Engine.IO packet of no type", says(engineHello, "x"), `packet: expected a type from 0 to 6, or b`, is(ErrProtocol)},
		{"a client's packet", says(engineHello, "5"), `expected no packet of type 5`, is(ErrProtocol)},
		{"two handshakes", says(engineHello, engineHello), `expected no packet of type 0`, is(ErrProtocol)},
		{"JSON that is none", says(engineHello, "42[\"a\","), `data: `, is(ErrProtocol)},
		{"a reserved event", says(engineHello, `42["disconnect"]`), `event: "disconnect" is reserved`, is(ErrProtocol)},
		{"no attachment", says(engineHello, `451-["a",{"_placeholder":true,"num":0}]`, "40"), `packet: expected an attachment`, is(ErrProtocol)},
		{"an attachment too many", says(engineHello, "bAAAA"), `no attachment is missing`, is(ErrProtocol)},
		{"goodbye", says(engineHello, "1"), `the connection ended before the answer to Socket.IO's CONNECT`, is(ErrClosed)},
		{"a namespace that it leaves at once", says(engineHello, "41"), `the connection ended before the answer to Socket.IO's CONNECT`, is(ErrClosed)},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			errs := newChannel[error]()
			c := serve(t, overTCP, test.handler).client(t, ClientOptions{MaxAttempts: 2})
			c.OnConnectError(func(_ *Client, err error) { errs <- err })
			err := c.Connect(context.Background())
			if err == nil || !strings.Contains(err.Error(), test.want) || !test.match(err) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			for range 2 {
				if heard := within(t, errs, "OnConnectError"); heard.Error() != err.Error() {
					t.Errorf("OnConnectError heard %v", heard)
				}
			}
			if c.State() != StateClosed {
				t.Errorf("afterwards: %v", c.State())
			}
		})
	}
}

// Bytes that are not even HTTP, or end, or do not.
func TestClientMeetsOtherBytes(t *testing.T) {
	for _, test := range []struct {
		name, bytes string
		then        func(net.Conn)
		want        string
	}{
		{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", func(nc net.Conn) { nc.Close() }, "the response is not HTTP"},
		{"nothing", "", func(nc net.Conn) { nc.Close() }, "EOF"},
		{"headers without end", "HTTP/1.1 101 Switching Protocols\r\n", func(nc net.Conn) {
			for {
				if _, err := io.WriteString(nc, "X-More: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, "its head is over 64 KiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, func() (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					defer far.Close()
					http.ReadRequest(bufio.NewReader(far))
					io.WriteString(far, test.bytes)
					test.then(far)
				}()
				return near, nil
			}, ClientOptions{MaxAttempts: 1})
			if err := c.Connect(context.Background()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// An attempt that gets no further is given up after Timeout, and says what it waited for.
func TestClientTimeout(t *testing.T) {
	for _, test := range []struct {
		name string
		says []string
		want string
	}{
		{"silence", nil, "the Engine.IO handshake has not come after 50ms"},
		{"no answer", []string{engineHello}, "the answer to Socket.IO's CONNECT has not come after 50ms"},
		{"another namespace", []string{engineHello, `40/x,{"sid":"x"}`}, "the answer to Socket.IO's CONNECT has not come after 50ms"},
	} {
		overPlain(t, func(t *testing.T, k kind) {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				f := newFakeServer(t, k)
				c := f.client(t, ClientOptions{MaxAttempts: 1, Timeout: 50 * time.Millisecond})
				result := connecting(c)
				s := f.accept(t)
				for _, m := range test.says {
					s.send(m)
				}
				err := within(t, result, "Connect")
				if !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q", err, test.want)
				}
			})
		})
	}
}

// A certificate that nobody vouches for.
func TestClientTLS(t *testing.T) {
	l := listenTLS(t)
	defer l.Close()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, nc); nc.Close() }()
		}
	}()
	c := NewClient("https://"+l.Addr().String(), ClientOptions{MaxAttempts: 2, Backoff: soon})
	defer c.Close()
	err := c.Connect(context.Background())
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		if _, ok := errors.AsType[x509.HostnameError](err); !ok {
			t.Errorf("got %v, want an error of crypto/x509", err)
		}
	}
}

// A refusal is the server's last word: it is not asked again.
func TestClientRefused(t *testing.T) {
	noLeaks(t)
	for _, test := range []struct {
		packet string
		want   Error
	}{
		{`44{"message":"Auth failed"}`, Error{Message: "Auth failed"}},
		{`44{"message":"Auth failed","data":{"code":401}}`, Error{Message: "Auth failed", Data: json.RawMessage(`{"code":401}`)}},
		{`44"no"`, Error{Message: "no"}},
		{`44{"code":1}`, Error{Message: `refused: {"code":1}`}},
		{`44{"message":7}`, Error{Message: `refused: {"message":7}`}},
	} {
		f := newFakeServer(t, overTCP)
		errs := newChannel[error]()
		c := f.client(t, ClientOptions{})
		c.OnConnectError(func(_ *Client, err error) { errs <- err })
		for range 2 { // it may be tried again by hand
			result := connecting(c)
			s := f.accept(t)
			s.send(engineHello)
			s.want("40")
			s.send(test.packet)
			err := within(t, result, "Connect")
			refused, ok := err.(*Error)
			if !ok {
				t.Fatalf("%s: got %v, want an *Error", test.packet, err)
			}
			if diff := cmp.Diff(test.want, *refused); diff != "" {
				t.Errorf("%s: %s", test.packet, diff)
			}
			if err := within(t, errs, "OnConnectError"); err != refused {
				t.Errorf("OnConnectError heard %v", err)
			}
			s.wantClosed(StatusNormalClosure)
			if c.State() != StateClosed {
				t.Errorf("afterwards: %v", c.State())
			}
		}
	}
}

// A client that the server refuses over HTTP gets the server's words, and does not ask again.
func TestClientRefusedOverHTTP(t *testing.T) {
	accept := func(err error) http.Handler {
		return newHub(t, Options{Accept: func(*http.Request) (context.Context, error) { return nil, err }})
	}
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	for _, test := range []struct {
		name    string
		handler http.Handler
		want    Error
	}{
		{"Accept with a status", accept(&Error{Message: "who are you?", Status: 401}), Error{Message: "who are you?", Status: 401}},
		{"Accept without one", accept(Errorf("not you")), Error{Message: "not you", Status: 403}},
		{"Accept with another error", accept(io.EOF), Error{Message: "the server refuses this client", Status: 403}},
		{"an Engine.IO server", answer(403, `{"code":4,"message":"Forbidden"}`), Error{Message: "Forbidden", Status: 403}},
		{"a page", answer(403, "<html>Forbidden</html>"), Error{Message: "403 Forbidden", Status: 403}},
		{"no words", answer(410, ""), Error{Message: "410 Gone", Status: 410}},
		{"bytes", answer(401, "\xff\xfe"), Error{Message: "401 Unauthorized", Status: 401}},
	} {
		t.Run(test.name, func(t *testing.T) {
			errs := newChannel[error]()
			c := serve(t, overTCP, test.handler).client(t, ClientOptions{})
			c.OnConnectError(func(_ *Client, err error) { errs <- err })
			err := c.Connect(t.Context())
			refused, ok := err.(*Error)
			if !ok {
				t.Fatalf("got %v, want an *Error", err)
			}
			behind, ok := errors.AsType[*HandshakeError](err)
			if !ok || behind.Response.StatusCode != test.want.Status {
				t.Errorf("behind it is %v", refused.Err)
			}
			if got := (Error{Message: refused.Message, Status: refused.Status}); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if heard := within(t, errs, "OnConnectError"); heard != err {
				t.Errorf("OnConnectError heard %v", heard)
			}
			if c.State() != StateClosed {
				t.Errorf("afterwards: %v", c.State())
			}
		})
	}
}

// A server that breaks the protocol later on loses the client, which comes back.
func TestClientParseErrors(t *testing.T) {
	noLeaks(t)
	for _, packet := range []string{
		"", "x", "0{}", "3", "5", "4", "49", "40", letIn, "42", "42[]", "42{}", "42[null]", `42["connect"]`, "41{}", `44{"message":"no"}`,
		"43[]", `450-["a"]`, `451-["a",{"_placeholder":true,"num":1}]`, "bAAAA", "b!", `42["a",]`,
	} {
		f := newFakeServer(t, overTCP)
		left := newChannel[Reason]()
		c := f.client(t, ClientOptions{})
		c.OnDisconnect(func(_ *Client, why Reason) { left <- why })
		result := connecting(c)
		s := f.welcome(t)
		if err := within(t, result, "Connect"); err != nil {
			t.Fatal(err)
		}
		s.send(packet)
		if why := within(t, left, "OnDisconnect"); why != ReasonParseError {
			t.Errorf("%q: disconnected for %q", packet, why)
		}
		s.wantClosed(StatusPolicyViolation)
		f.welcome(t)
		eventually(t, "connected again", func() bool { return c.State() == StateOpen })
	}
}

// What a server may say that is nobody's concern.
func TestClientIgnores(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c, s := f.connected(t, ClientOptions{})
	got := newChannel[string]()
	c.HandleAny(func(e *Event) { got <- e.Name() })
	for _, packet := range []string{
		"6", "6noop", `42/other,["no"]`, `41/other,`, `44/other,{"message":"no"}`, `40/other,{"sid":"no"}`, "43/other,0[]",
		"430[]", "4399[1]", "439007199254740991[]", // answers to nothing
		`451-/other,["no",{"_placeholder":true,"num":0}]`, "bAAAA",
		`42["yes"]`,
	} {
		s.send(packet)
	}
	if name := within(t, got, "the event"); name != "yes" {
		t.Errorf("got the event %q", name)
	}
	settleClient(s)
	if c.State() != StateOpen || len(got) > 0 {
		t.Errorf("%v, %d events more", c.State(), len(got))
	}
}

// Answers are matched to their calls, whatever their order; each counts once.
func TestClientAcks(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c, s := f.connected(t, ClientOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	results := make([]chan string, 4)
	for i := range results {
		results[i] = make(chan string, 1)
		go func() {
			v, err := Call[string](ctx, c, "ask", i)
			results[i] <- fmt.Sprintf("%s %v", v, err)
		}()
		s.want(fmt.Sprintf(`42%d["ask",%d]`, i, i))
	}
	s.send(`432["two","and more"]`)
	s.send(`432["again"]`)
	s.send(`430[{"error":{"message":"no","data":1}}]`)
	s.send(`431[]`)
	for i, want := range map[int]string{2: "two <nil>", 0: " no", 1: " <nil>"} {
		if got := within(t, results[i], "an answer"); got != want {
			t.Errorf("call %d: got %q, want %q", i, got, want)
		}
	}
	cancel()
	if got := within(t, results[3], "the end of a context"); got != " context canceled" {
		t.Errorf("got %q", got)
	}
	s.send(`433["late"]`)
	settleClient(s)
	// The answers of applications that look like errors, and are none.
	for i, answer := range []string{`{"error":{"message":"x","more":1}}`, `{"error":{"message":7}}`, `{"error":"x"}`, `{"error":{"data":1}}`} {
		got := make(chan json.RawMessage, 1)
		go func() {
			v, _ := Call[json.RawMessage](context.Background(), c, "ask")
			got <- v
		}()
		s.want(fmt.Sprintf(`42%d["ask"]`, 4+i))
		s.send(fmt.Sprintf(`43%d[%s]`, 4+i, answer))
		if v := within(t, got, "an answer"); string(v) != answer {
			t.Errorf("got %s, want %s", v, answer)
		}
	}
}

// Attachments in both directions, in one namespace among others.
func TestClientAttachments(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c := f.client(t, ClientOptions{Namespace: "/files"})
	On(c, "file", func(c *Client, file struct{ Data []byte }) error {
		return c.Emit("got", Binary(file.Data), map[string]any{"copy": Binary("x")})
	})
	OnCall(c, "twice", func(_ *Client, b []byte) (Binary, error) { return append(b, b...), nil })
	result := connecting(c)
	s := f.accept(t)
	s.send(engineHello)
	s.want("40/files,")
	s.send(`40/files,{"sid":"socket"}`)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	s.send(`451-/files,["file",{"data":{"_placeholder":true,"num":0}}]`)
	s.sendBinary("\x00\xff")
	s.want(`452-/files,["got",{"_placeholder":true,"num":0},{"copy":{"_placeholder":true,"num":1}}]`)
	s.want("\x00\xff")
	s.want("x")
	s.send(`451-/files,7["twice",{"_placeholder":true,"num":0}]`)
	s.send("bYWI=") // base64 is as good
	s.want(`461-/files,7[{"_placeholder":true,"num":0}]`)
	s.want("abab")
}

// The offset of an event is sent back when the client connects again. A Hub's is no argument; one
// of Node's looks like any string, and stays.
func TestClientOffsets(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c := f.client(t, ClientOptions{Auth: map[string]int{"n": 1}})
	got := newChannel[string]()
	c.HandleAny(func(e *Event) { got <- fmt.Sprintf("%s %s", e.Name(), e.Args()) })
	result := connecting(c)
	reply := `40{"sid":"socket","pid":"secret"}`
	connect := func(want, reply string) *client {
		s := f.accept(t)
		s.send(engineHello)
		s.want(want)
		s.send(reply)
		return s
	}
	s := connect(`40{"n":1}`, reply)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	const long = `"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"`
	for _, test := range []struct{ event, got, next string }{
		{"", "", `40{"pid":"secret","n":1}`},
		{`42["a"]`, "a []", `40{"pid":"secret","n":1}`},
		{`42["a",1,"42"]`, "a [1]", `40{"pid":"secret","offset":"42","n":1}`},
		{`42["a","43"]`, "a []", `40{"pid":"secret","offset":"43","n":1}`},
		{`42["a",1, "44" ]`, `a [1]`, `40{"pid":"secret","offset":"44","n":1}`},
		{`42["a",1,"MzUPkW0"]`, `a [1 "MzUPkW0"]`, `40{"pid":"secret","offset":"MzUPkW0","n":1}`},
		{`42["a",1,` + long + `]`, `a [1 ` + long + `]`, `40{"pid":"secret","offset":"MzUPkW0","n":1}`},
		{`451-["a",{"_placeholder":true,"num":0}]`, `a ["MTIz"]`, `40{"pid":"secret","offset":"MzUPkW0","n":1}`},
		{`427["a",1,"x"]`, `a [1 "x"]`, `40{"pid":"secret","offset":"MzUPkW0","n":1}`}, // one that wants an answer has none
	} {
		if test.event != "" {
			s.send(test.event)
			if strings.HasPrefix(test.event, "45") {
				s.sendBinary("123")
			}
			if args := within(t, got, "the event"); args != test.got {
				t.Errorf("%s: got %s, want %s", test.event, args, test.got)
			}
		}
		s.CloseNow()
		s = connect(test.next, reply)
		eventually(t, "recovered", c.Recovered)
	}
	s.CloseNow()
	s = connect(`40{"pid":"secret","offset":"MzUPkW0","n":1}`, `40{"sid":"another","pid":"new"}`)
	eventually(t, "not recovered", func() bool { return !c.Recovered() && c.ID() == "another" })
	s.CloseNow()
	s = connect(`40{"pid":"new","n":1}`, letIn)
	eventually(t, "no recovery", func() bool { return c.ID() == "socket" })
	s.CloseNow()
	connect(`40{"n":1}`, letIn)
}

// A message that the server has said it does not take is refused here, and does not cost the
// connection.
func TestClientMaxPayload(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	c := f.client(t, ClientOptions{CallRetries: 1})
	big := strings.Repeat("x", 100)
	if err := c.Emit("early", big); err != nil { // nobody knows yet
		t.Error(err)
	}
	early := make(chan error, 1)
	go func() {
		_, err := Call[any](context.Background(), c, "early", big)
		early <- err
	}()
	eventually(t, "the call waits", func() bool { return c.unsentParcels() == 2 })
	result := connecting(c)
	s := f.accept(t)
	s.send(`0{"sid":"x","pingInterval":25000,"pingTimeout":20000,"maxPayload":100}`)
	s.want("40")
	s.send(letIn)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	if err := within(t, early, "the call"); !errors.Is(err, ErrMessageTooBig) || !strings.Contains(err.Error(), "115 bytes, and the server takes 100") {
		t.Errorf("Call: got %v", err)
	}
	if err := c.Emit("e", big); !errors.Is(err, ErrMessageTooBig) {
		t.Errorf("Emit: got %v", err)
	}
	if err := c.Emit("e", Binary(big+"x")); !errors.Is(err, ErrMessageTooBig) {
		t.Errorf("Emit of bytes: got %v", err)
	}
	if err := c.Emit("e", big[:90]); err != nil {
		t.Error(err)
	}
	s.want(`42["e","` + big[:90] + `"]`)

	// Nor is an answer.
	OnCall(c, "long", func(*Client, any) (string, error) { return big, nil })
	s.send(`427["long"]`)
	s.want(`437[{"error":{"message":"atrium: message too big: 107 bytes, and the server takes 100"}}]`)
}

// What has more attachments than ClientOptions.MaxAttachments costs the event or the Call, and not
// the connection: a server that recovers what was missed would send it again and again.
func TestClientManyAttachments(t *testing.T) {
	noLeaks(t)
	f := newFakeServer(t, overTCP)
	logger, logged := newLog()
	c, s := f.connected(t, ClientOptions{MaxAttachments: 2, Logger: logger})
	left := reasons(c)
	c.HandleAny(func(e *Event) { t.Errorf("%s came", e.Name()) })
	three := func(text string) {
		s.send(text)
		for range 3 {
			s.sendBinary("x")
		}
	}
	three(`453-["e",{"_placeholder":true,"num":0}]`)
	three(`453-7["e",{"_placeholder":true,"num":0}]`)
	s.want(`437[{"error":{"message":"attachments: expected at most 2, got 3"}}]`)
	if got := logged.String(); !strings.Contains(got, "attachments: expected at most 2, got 3") {
		t.Errorf("logged %q", got)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := Call[any](context.Background(), c, "ask")
		answer <- err
	}()
	s.want(`420["ask"]`)
	three(`463-0[{"_placeholder":true,"num":0}]`)
	if e, ok := errors.AsType[*Error](within(t, answer, "Call")); !ok || e.Message != "attachments: expected at most 2, got 3" {
		t.Errorf("Call: %v", e)
	}
	if err := c.Emit("e", Binary{1}, Binary{2}, Binary{3}); err == nil || !strings.Contains(err.Error(), "3 binary values, more than the 2 that are allowed") {
		t.Errorf("Emit: %v", err)
	}
	settleClient(s)
	if c.State() != StateOpen || len(left) > 0 {
		t.Errorf("%v", c.State())
	}
}

func (c *Client) unsentParcels() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue.parcels)
}

// sentCalls counts the calls that were sent and wait for their answers.
func (c *Client) sentCalls() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.queue.calls {
		if k.sent && !k.waits {
			n++
		}
	}
	return n
}

// FuzzClient sends a client whatever a server may, a message a line, those that begin with a "b"
// and a space as bytes. The client ends the connection, or else it has answered each event that
// wanted an answer, in order, once.
func FuzzClient(f *testing.F) {
	for _, seed := range []string{
		"42[\"e\"]\n2\n427[\"e\",1]",
		"421[\"e\"]\n422[7]\n423[\"e\",{\"a\":[1,2]}]",
		"451-[\"e\",{\"_placeholder\":true,\"num\":0}]\nb \x00\x01\n421[\"e\"]",
		"452-9[\"e\",{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":0}]\nb x\nbAAAA",
		"430[1]\n439[]\n431[{\"error\":{\"message\":\"no\"}}]",
		"42/other,1[\"e\"]\n6\n421[\"e\"]",
		"44{\"message\":\"no\"}", "41", "1", "0{}", "40{\"sid\":\"x\"}", "42[\"connect\"]", "b x", "\xff", "",
		"42[\"e\",\"17\"]\n42[\"e\",\"x\" ]\n421[\"e\",\"17\"]",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, script string) {
		near, far := net.Pipe()
		server := newConn(far, connConfig{})
		c := newClient(t, func() (net.Conn, error) { return nil, io.EOF }, ClientOptions{Backoff: Backoff{Min: time.Hour}})
		handled := make(chan struct{}, 1)
		last := randomText(20) // which no script has in it
		c.HandleAny(func(e *Event) {
			if e.Name() == last {
				handled <- struct{}{}
			}
			for _, arg := range e.Args() {
				if !json.Valid(arg) {
					t.Errorf("the argument %q", arg)
				}
			}
		})
		l := newLink(c, newConn(near, connConfig{client: true}), nil)
		if !l.start() {
			t.Fatal("closed")
		}
		messages := strings.Split(script, "\n")
		go func() {
			ctx := context.Background()
			server.Write(ctx, MessageText, []byte(engineHello))
			server.Write(ctx, MessageText, []byte(`40{"sid":"socket","pid":"pid"}`))
			for _, m := range messages {
				op := opText
				if raw, binary := strings.CutPrefix(m, "b "); binary {
					m, op = raw, opBinary
				}
				server.Write(ctx, MessageType(op), []byte(m))
			}
			server.Write(ctx, MessageText, []byte(`42["`+last+`"]`))
			<-handled // what was asked for before is answered
			server.Write(ctx, MessageText, []byte("2settle"))
		}()
		want := wantedAnswers(messages)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		for settled := false; !settled; {
			_, p, err := server.Read(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q: the client neither goes on nor ends", script)
			}
			if err != nil {
				break // the client has had enough
			}
			m := string(p)
			switch {
			case m == "3settle":
				settled = true
				if len(want) > 0 {
					t.Errorf("%q: no answer to %v", script, want)
				}
			case strings.HasPrefix(m, "43"):
				if len(want) == 0 || !strings.HasPrefix(m, "43"+want[0]+"[") {
					t.Errorf("%q: the answer %s, want one to %v", script, m, want)
					return
				}
				want = want[1:]
			}
		}
		select {
		case handled <- struct{}{}: // for who writes, if it is still there
		default:
		}
		server.CloseNow()
	})
}

// wantedAnswers lists the ids of the events in messages, each of which is a good packet, that want
// an answer.
func wantedAnswers(messages []string) (ids []string) {
	for i, m := range messages {
		head, _, isEvent := strings.Cut(m, "[")
		head = strings.Replace(head, "/,", "", 1) // the main namespace, which may be written
		if !isEvent || len(head) < 2 || head[0] != '4' || strings.Contains(head, "/") {
			continue
		}
		var missing int
		switch head[1] {
		case '2':
			head = head[2:]
		case '5':
			if _, err := fmt.Sscanf(head[2:], "%d-", &missing); err != nil {
				continue
			}
			_, head, _ = strings.Cut(head, "-")
		default:
			continue
		}
		if i+missing >= len(messages) || head == "" {
			continue
		}
		if id, err := strconv.ParseUint(head, 10, 64); err == nil {
			ids = append(ids, strconv.FormatUint(id, 10)) // which drops zeros in front
		}
	}
	return ids
}
