package atrium

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// newDebugLog is newLog with all levels.
func newDebugLog() (*slog.Logger, *logBuffer) {
	l := new(logBuffer)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})), l
}

// unhijackable hides its ResponseWriter's Hijack, as many middlewares do.
type unhijackable struct{ http.ResponseWriter }

// wrapper has an Unwrap method, as it should.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// secret stands in each request where applications have secrets. It must not get into the log.
const secret = "s3cr3t"

// Each refusal is logged once, with what the operator needs to know, and with no secret.
func TestRefusalsAreLogged(t *testing.T) {
	noLeaks(t)
	plain := func(changes ...string) string { return handshake("GET /ws?token="+secret+" HTTP/1.1", changes...) }
	engine := func(method, query string, changes ...string) string {
		return handshake(method+" /socket.io/?token="+secret+"&"+query+" HTTP/1.1", changes...)
	}
	const poll = "EIO=4&transport=polling"
	full := func(o *Options) { o.Limits.Connections, o.Limits.ConnectionsPerClient = 1, 1 }
	for _, row := range []struct {
		name    string
		options func(*Options)
		before  func(t *testing.T, h *Hub, srv *server)
		wrap    func(http.ResponseWriter) http.ResponseWriter
		request string
		status  int
		want    []string // in the entry
	}{
		{name: "origin", request: plain("Origin: https://app.example.net"), status: 403,
			want: []string{"level=WARN", `"atrium: refused an origin"`, "origin=https://app.example.net", "host=example.com", "AllowedOrigins", "path=/ws"}},
		{name: "origin, the proxy drops the port", request: plain("Origin: https://example.com:8443"), status: 403,
			want: []string{"origin=https://example.com:8443", "host=example.com", "differ in the port", "$http_host"}},
		{name: "origin, polling", request: engine("GET", poll, "Origin: null"), status: 403,
			want: []string{`"atrium: refused an origin"`, "origin=null", "path=/socket.io/"}},
		{name: "cross-site", request: plain("Sec-Fetch-Site: cross-site"), status: 403,
			want: []string{"level=WARN", `"atrium: refused a cross-site request without an Origin"`}},
		{name: "no Upgrade", request: plain("-Upgrade"), status: 426,
			want: []string{"level=WARN", `"atrium: refused a malformed WebSocket handshake"`, "no Upgrade: websocket header", "proxy"}},
		{name: "a bad key", request: plain("Sec-WebSocket-Key: x"), status: 400,
			want: []string{"Sec-WebSocket-Key header of 16 bytes"}},
		{name: "no Upgrade, Socket.IO", request: engine("GET", "EIO=4&transport=websocket", "-Connection"), status: 400,
			want: []string{`"atrium: refused a malformed WebSocket handshake"`, "Connection: Upgrade", "proxy"}},
		{name: "EIO=3", request: engine("GET", "EIO=3&transport=polling"), status: 400,
			want: []string{"level=WARN", `"atrium: refused a version of Engine.IO"`, "version=3", "EIO=4", "version 3 and later"}},
		{name: "no EIO", request: engine("GET", "transport=websocket"), status: 400,
			want: []string{`"atrium: refused a version of Engine.IO"`, `version=""`}},
		{name: "transport", request: engine("GET", "EIO=4&transport=webtransport"), status: 400,
			want: []string{"level=WARN", `"atrium: refused a malformed Engine.IO request"`, "Transport unknown"}},
		{name: "method", request: engine("PUT", poll), status: 400,
			want: []string{`"atrium: refused a malformed Engine.IO request"`, "Bad handshake method"}},
		{name: "unknown session", request: engine("GET", poll+"&sid="+secret), status: 400,
			want: []string{"level=WARN", `"atrium: refused a request of an unknown session"`, "sticky sessions"}},
		{name: "headers", request: plain("X-Large: " + strings.Repeat("x", 65<<10)), status: 431,
			want: []string{"level=WARN", `"atrium: refused a request with large headers"`, "limit=65536"}},
		{name: "Connections", options: func(o *Options) { full(o); o.Limits.ConnectionsPerClient = 9 }, request: plain(), status: 503,
			before: func(t *testing.T, h *Hub, srv *server) { srv.connect(t, nil) },
			want:   []string{"level=WARN", `"atrium: refused a client over Limits.Connections"`, "limit=1"}},
		{name: "ConnectionsPerClient", request: engine("GET", poll), status: 429,
			options: func(o *Options) { full(o); o.Limits.Connections = 9 },
			before:  func(t *testing.T, h *Hub, srv *server) { srv.connect(t, nil) },
			want:    []string{"level=WARN", `"atrium: refused a client over Limits.ConnectionsPerClient"`, "client=127.0.0.1", "limit=1", "ClientKey"}},
		{name: "Accept refuses", request: plain(), status: 401,
			options: func(o *Options) {
				o.Accept = func(*http.Request) (context.Context, error) { return nil, &Error{Message: "log in first", Status: 401} }
			},
			want: []string{"level=DEBUG", `"atrium: Options.Accept refused a client"`, "log in first", "status=401"}},
		{name: "Accept fails", request: engine("GET", poll), status: 403,
			options: func(o *Options) {
				o.Accept = func(*http.Request) (context.Context, error) { return nil, errors.New("the database is away") }
			},
			want: []string{"level=ERROR", `"atrium: Options.Accept failed"`, "the database is away", "status=403"}},
		{name: "Shutdown", request: plain(), status: 503,
			before: func(t *testing.T, h *Hub, srv *server) { h.Shutdown(t.Context()) },
			want:   []string{"level=DEBUG", `"atrium: refused a client during Shutdown"`}},
		{name: "no Hijack", request: plain(), status: 501,
			wrap: func(w http.ResponseWriter) http.ResponseWriter { return wrapper{unhijackable{w}} },
			want: []string{"level=WARN", `"atrium: a ResponseWriter does not hand its connection over to a WebSocket"`, "writer=atrium.unhijackable", "Unwrap", "stay with polling"}},
		{name: "no Hijack, Socket.IO", request: engine("GET", "EIO=4&transport=websocket"), status: 501,
			wrap: func(w http.ResponseWriter) http.ResponseWriter { return unhijackable{w} },
			want: []string{"writer=atrium.unhijackable", "path=/socket.io/"}},
		{name: "subprotocol", request: plain("Sec-WebSocket-Protocol: bearer, " + secret), status: 101,
			want: []string{"level=WARN", `"atrium: no offered subprotocol is known"`, "offered=2", "known=[atrium]", "Options.Subprotocols"}},
		{name: "subprotocol, Socket.IO", request: engine("GET", "EIO=4&transport=websocket", "Sec-WebSocket-Protocol: "+secret), status: 101,
			options: func(o *Options) { o.Subprotocols = []string{"bearer"} },
			want:    []string{"offered=1", "known=[bearer]"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			var options Options
			if row.options != nil {
				row.options(&options)
			}
			var out *logBuffer
			options.Logger, out = newDebugLog()
			h := newHub(t, options)
			srv := serve(t, overTCP, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if row.wrap != nil {
					w = row.wrap(w)
				}
				h.ServeHTTP(w, r)
			}))
			if row.before != nil {
				row.before(t, h, srv)
			}
			raw := strings.Replace(row.request, "\r\n\r\n", "\r\nCookie: session="+secret+"\r\nAuthorization: Bearer "+secret+"\r\n\r\n", 1)
			a := request(t, srv.raw(t), raw)
			if a.StatusCode != row.status {
				t.Errorf("%s, want %d", a.Status, row.status)
			}
			if retry := a.Header.Get("Retry-After"); (retry != "") != (row.status == 429 || row.status == 503) {
				t.Errorf("%d with Retry-After %q", row.status, retry)
			}
			lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out.String()), "\n"), func(line string) bool {
				return strings.Contains(line, `"atrium: a socket `)
			})
			if len(lines) != 1 {
				t.Fatalf("%d log entries, want one: %q", len(lines), lines)
			}
			for _, want := range append(row.want, "remote=127.0.0.1:") {
				if !strings.Contains(lines[0], want) {
					t.Errorf("the log says\n%s\nwant %s", lines[0], want)
				}
			}
			if strings.Contains(lines[0], secret) {
				t.Errorf("the log has the secret:\n%s", lines[0])
			}
		})
	}
}

// A Socket.IO client that cannot upgrade because of a wrapper polls for ever: the log says why.
func TestRefusedUpgradeOfPollingIsLogged(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newEcho(t, Options{Logger: logger})
	srv := serve(t, overTCP, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(unhijackable{w}, r) }))
	e := srv.joined(t)
	r := request(t, srv.raw(t), strings.Replace(handshakeHead, "GET / ", "GET /socket.io/?EIO=4&transport=websocket&sid="+e.sid+" ", 1)+"\r\n")
	if r.StatusCode != 501 {
		t.Errorf("%s, want 501", r.Status)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "writer=atrium.unhijackable") || !strings.Contains(got, "stay with polling") {
		t.Errorf("the log says %q", got)
	}
	e.post(`42["message","still here"]`).want(t, 200, "ok")
	e.get().want(t, 200, `42["message-back","still here"]`)
	e.leave()
}

// Who asks for an unknown namespace is refused, and the log says what to do.
func TestUnknownNamespaceIsLogged(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newEcho(t, Options{Logger: logger})
	e := serve(t, overTCP, h).polls(t)
	e.post("40/typo,").want(t, 200, "ok")
	e.get().want(t, 200, `44/typo,{"message":"Invalid namespace"}`)
	if got := out.String(); !strings.Contains(got, "namespace=/typo") || !strings.Contains(got, "OfFunc") {
		t.Errorf("the log says %q", got)
	}
	e.leave()
}

// What anybody can cause is limited.
func TestRefusalsAreLimited(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newHub(t, Options{Logger: logger})
	srv := serve(t, overTCP, h)
	for range 3 * logBurst {
		request(t, srv.raw(t), handshake(get, "Origin: https://app.example.net"))
	}
	if got := strings.Count(out.String(), "\n"); got != logBurst {
		t.Errorf("%d entries, want %d", got, logBurst)
	}
}

// Upgrade has no log: its error names the wrapper.
func TestUpgradeNamesWrapperWithoutHijack(t *testing.T) {
	noLeaks(t)
	results := make(chan error, 1)
	srv := serve(t, overTCP, http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := Upgrade(wrapper{w}, r, UpgradeOptions{})
		results <- err
	}), time.Hour, ""))
	a := request(t, srv.raw(t), handshake(get))
	if body := bodyOf(t, a); a.StatusCode != 501 || strings.Contains(body, "timeoutWriter") {
		t.Errorf("%s: %s", a.Status, body)
	}
	if err := within(t, results, "Upgrade"); err == nil || !strings.Contains(err.Error(), "*http.timeoutWriter") {
		t.Errorf("the error %v does not name the wrapper", err)
	}
}

// A refusal by Accept that is one for the moment says when to come again.
func TestAcceptRetryAfter(t *testing.T) {
	noLeaks(t)
	for status, want := range map[int]string{0: "", 401: "", 429: "10", 503: "10"} {
		h := newHub(t, Options{Accept: func(*http.Request) (context.Context, error) { return nil, &Error{Message: "not now", Status: status} }})
		srv := serve(t, overTCP, h)
		a := request(t, srv.raw(t), handshake(get))
		e := srv.engine(t).get()
		if got := a.Header.Get("Retry-After"); got != want || e.header.Get("Retry-After") != want {
			t.Errorf("%d: Retry-After %q and %q, want %q", status, got, e.header.Get("Retry-After"), want)
		}
	}
}

// A client may offer a token beside a subprotocol that the hub agrees to, as browsers have no other
// way to send one.
func TestTokenSubprotocol(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newHub(t, Options{Subprotocols: []string{"bearer", "chat"}, Logger: logger})
	h.Use(func(s *Socket) error {
		_, token, _ := strings.Cut(s.Handshake().Header().Get("Sec-WebSocket-Protocol"), "bearer, ")
		s.Set("token", token)
		return nil
	})
	atConnect := make(chan [2]string, 1)
	h.OnConnect(func(s *Socket) {
		token, _ := Value[string](s, "token")
		atConnect <- [2]string{s.Handshake().Subprotocol(), token}
	})
	srv := serve(t, overTCP, h)
	for _, row := range []struct {
		name, path, offers string
		chosen, token      string
	}{
		{"plain", "/", "bearer, " + secret, "bearer", secret},
		{"the best of several", "/", "chat, bearer, " + secret, "bearer", secret},
		{"none", "/", "", "", ""},
		{"unknown", "/", "soap", "", ""},
		{"atrium first", "/", "bearer, " + secret + ", atrium", "atrium", secret + ", atrium"},
		{"Socket.IO", "/?EIO=4&transport=websocket", "bearer, " + secret, "bearer", secret},
		{"Socket.IO, unknown", "/?EIO=4&transport=websocket", "atrium", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			var lines []string
			if row.offers != "" {
				lines = []string{"Sec-WebSocket-Protocol: " + row.offers}
			}
			nc := srv.raw(t)
			a := request(t, nc, handshake("GET "+row.path+" HTTP/1.1", lines...))
			if got := a.Header.Get("Sec-WebSocket-Protocol"); a.StatusCode != 101 || got != row.chosen {
				t.Fatalf("%s with the subprotocol %q, want %q", a.Status, got, row.chosen)
			}
			c := &client{newConn(nc, connConfig{client: true, readLimit: 1 << 20, maxQueued: 1 << 20, early: bytes.Clone(a.rest)}), t, ""}
			t.Cleanup(func() { c.CloseNow() })
			switch {
			case row.chosen == "atrium":
				c.send(`{"event":"connect","data":{}}`)
			case row.path != "/":
				c.send("40")
			}
			if got := within(t, atConnect, "OnConnect"); got != [2]string{row.chosen, row.token} {
				t.Errorf("the handshake has %q, want %q and %q", got, row.chosen, row.token)
			}
		})
	}
	if got := out.String(); strings.Contains(got, secret) {
		t.Errorf("the log has the token: %s", got)
	}
}

// A client that upgrades from polling gets the subprotocol that it offers, or a browser would not
// upgrade.
func TestSubprotocolOfUpgrade(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Subprotocols: []string{"bearer"}})
	srv := serve(t, overTCP, h)
	e := srv.joined(t)
	nc := srv.raw(t)
	a := request(t, nc, handshake("GET /socket.io/?EIO=4&transport=websocket&sid="+e.sid+" HTTP/1.1", "Sec-WebSocket-Protocol: bearer, x"))
	if got := a.Header.Get("Sec-WebSocket-Protocol"); a.StatusCode != 101 || got != "bearer" {
		t.Errorf("%s with the subprotocol %q", a.Status, got)
	}
	nc.Close()
	e.post(`42["message","1"]`).want(t, 200, "ok")
	e.leave()
}

// A name of Subprotocols that no client can offer makes New panic.
func TestSubprotocolsOption(t *testing.T) {
	for _, name := range []string{"", "a b", "bearer,token", "ü"} {
		func() {
			defer func() {
				if said, _ := recover().(string); !strings.HasPrefix(said, "atrium: Options.Subprotocols: ") || !strings.Contains(said, "is no token") {
					t.Errorf("%q: New panics with %q", name, said)
				}
			}()
			New(Options{Subprotocols: []string{name}})
		}()
	}
}
