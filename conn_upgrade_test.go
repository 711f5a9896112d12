package atrium

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// An upgraded is what Upgrade returned.
type upgraded struct {
	conn *Conn
	err  error
}

// serveUpgrade starts a server whose handler is Upgrade, behind what before does, and hands over
// its results.
func serveUpgrade(t testing.TB, k kind, opts UpgradeOptions, before func(http.ResponseWriter)) (*server, <-chan upgraded) {
	results := make(chan upgraded, 1)
	return serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before != nil {
			before(w)
		}
		c, err := Upgrade(w, r, opts)
		if c != nil {
			t.Cleanup(func() { c.CloseNow() })
		}
		results <- upgraded{c, err}
	})), results
}

// wantRefused checks that a request got a status and one plain sentence, and the handler the same
// in an error.
func wantRefused(t testing.TB, a answer, got upgraded, status int) (sentence string) {
	t.Helper()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		t.Error(err)
	}
	sentence = strings.TrimSuffix(string(body), "\n")
	if a.StatusCode != status {
		t.Errorf("status %d, want %d (%s)", a.StatusCode, status, sentence)
	}
	if len(sentence) < 20 || strings.ContainsAny(sentence, "\r\n<>") || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("%s body %q is not one plain sentence", a.Header.Get("Content-Type"), body)
	}
	if got.conn != nil || got.err == nil || !strings.Contains(got.err.Error(), sentence) {
		t.Errorf("Upgrade: %v, %v; want an error that says %q", got.conn, got.err, sentence)
	}
	return sentence
}

func TestUpgradeRefuses(t *testing.T) {
	const version = "Sec-Websocket-Version"
	rows := []struct {
		name    string
		request string
		status  int
		header  [2]string // wanted in the answer
	}{
		{"36 HTTP 1.0", handshake("GET / HTTP/1.0"), 505, [2]string{}},
		{"37 POST", handshake("POST / HTTP/1.1"), 405, [2]string{"Allow", "GET"}},
		{"37 PUT", handshake("PUT / HTTP/1.1"), 405, [2]string{"Allow", "GET"}},
		{"39 notupgrade", handshake(get, "Connection: notupgrade"), 426, [2]string{"Upgrade", "websocket"}},
		{"39 upgradenot", handshake(get, "Connection: keep-alive, upgradenot"), 426, [2]string{"Upgrade", "websocket"}},
		{"39 no Connection", handshake(get, "-Connection"), 426, [2]string{"Upgrade", "websocket"}},
		{"40 no Upgrade", handshake(get, "-Upgrade"), 426, [2]string{"Upgrade", "websocket"}},
		{"40 h2c", handshake(get, "Upgrade: h2c"), 426, [2]string{"Upgrade", "websocket"}},
		{"40 websockets", handshake(get, "Upgrade: websockets"), 426, [2]string{"Upgrade", "websocket"}},
		{"41 key absent", handshake(get, "-Sec-WebSocket-Key"), 400, [2]string{}},
		{"41 key empty", handshake(get, "Sec-WebSocket-Key:"), 400, [2]string{}},
		{"41 key not base64", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="), 400, [2]string{}},
		{"41 key of base64url", handshake(get, "Sec-WebSocket-Key: dGhl-_NhbXBsZSBub25jZQ=="), 400, [2]string{}},
		{"41 key of 15 bytes", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"), 400, [2]string{}},
		{"41 key of 17 bytes", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTE="), 400, [2]string{}},
		{"41 key of 18 bytes", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZTEy"), 400, [2]string{}},
		{"41 key without padding", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"), 400, [2]string{}},
		{"41 key twice", handshake(get, "+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, [2]string{}},
		{"42 version absent", handshake(get, "-Sec-WebSocket-Version"), 426, [2]string{version, "13"}},
		{"42 version 8", handshake(get, "Sec-WebSocket-Version: 8"), 426, [2]string{version, "13"}},
		{"42 version 14", handshake(get, "Sec-WebSocket-Version: 14"), 426, [2]string{version, "13"}},
		{"42 version 013", handshake(get, "Sec-WebSocket-Version: 013"), 426, [2]string{version, "13"}},
		{"42 versions 13, 8", handshake(get, "Sec-WebSocket-Version: 13, 8"), 426, [2]string{version, "13"}},
		{"42 version twice", handshake(get, "+Sec-WebSocket-Version: 13"), 426, [2]string{version, "13"}},
		{"48 Content-Length", handshake(get, "Content-Length: 9") + "\x81\x83\x01\x02\x03\x04abc", 400, [2]string{}},
		{"48 chunked", handshake(get, "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n", 400, [2]string{}},
	}
	overPlain(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv, results := serveUpgrade(t, k, UpgradeOptions{}, nil)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				a := request(t, srv.raw(t), row.request)
				wantRefused(t, a, within(t, results, "Upgrade"), row.status)
				if name := row.header[0]; name != "" && a.Header.Get(name) != row.header[1] {
					t.Errorf("%s: %q, want %q", name, a.Header.Get(name), row.header[1])
				}
			})
		}
	})
}

func TestUpgradeAccepts(t *testing.T) {
	manyOffers := strings.Repeat("permessage-deflate; client_max_window_bits; a=\"b\", ", 5000) + "x"
	rows := []struct {
		name    string
		request string
	}{
		{"plain", handshake(get)},
		{"38 keep-alive, Upgrade", handshake(get, "Connection: keep-alive, Upgrade")},
		{"38 UPGRADE", handshake(get, "Connection: UPGRADE")},
		{"38 no space", handshake(get, "Connection: keep-alive,upgrade")},
		{"38 several lines", handshake(get, "Connection: keep-alive", "+Connection: Upgrade")},
		{"38 empty elements", handshake(get, "Connection: , ,\tUpgrade ,")},
		{"40 websocket, h2c", handshake(get, "Upgrade: websocket, h2c")},
		{"40 h2c, WebSocket", handshake(get, "Upgrade: h2c, WebSocket")},
		{"40 several lines", handshake(get, "Upgrade: h2c", "+Upgrade: WEBSOCKET")},
		{"41 key with other trailing bits", handshake(get, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==")},
		{"48 Content-Length 0", handshake(get, "Content-Length: 0")},
		{"50 unclosed quote", handshake(get, `Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits="15`)},
		{"50 thousands of offers", handshake(get, "Sec-WebSocket-Extensions: "+manyOffers)},
		{"50 thousands of quotes", handshake(get, "Sec-WebSocket-Extensions: "+strings.Repeat(`"`, 100_000))},
		{"header names in lower case", strings.NewReplacer("Sec-WebSocket", "sec-websocket", "Upgrade:", "upgrade:", "Connection:", "connection:").Replace(handshake(get))},
	}
	overPlain(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv, results := serveUpgrade(t, k, UpgradeOptions{}, nil)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				nc := srv.raw(t)
				a := request(t, nc, row.request)
				got := within(t, results, "Upgrade")
				if got.err != nil {
					t.Fatal(got.err)
				}
				want := http.Header{"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}} // RFC 6455 §1.3
				if strings.Contains(row.name, "trailing bits") {
					want["Sec-Websocket-Accept"] = a.Header["Sec-Websocket-Accept"]
				}
				if a.Status != "101 Switching Protocols" || len(a.Header) != len(want) {
					t.Errorf("%s %v", a.Status, a.Header)
				}
				for name := range want {
					if !slices.Equal(a.Header[name], want[name]) {
						t.Errorf("%s: %q, want %q", name, a.Header[name], want[name])
					}
				}
				if c := got.conn; c.Subprotocol() != "" || c.State() != StateOpen || c.NetConn() == nil {
					t.Errorf("subprotocol %q, state %v, network connection %v", c.Subprotocol(), c.State(), c.NetConn())
				}
				wantAlive(t, got.conn, newPeer(t, nc, a.rest, true))
			})
		}
	})
}

// Row 43. Without an option, a page may connect to where it came from.
func TestUpgradeOrigin(t *testing.T) {
	const (
		plain  = "plain"
		secure = "TLS"
		both   = ""
	)
	rows := []struct {
		name    string
		over    string
		host    string
		origin  []string // header lines
		allowed []string
		ok      bool
	}{
		{"same", plain, "example.com", []string{"Origin: http://example.com"}, nil, true},
		{"same over TLS", secure, "example.com", []string{"Origin: https://example.com"}, nil, true},
		{"https on plain: TLS ended at a proxy", plain, "example.com", []string{"Origin: https://example.com"}, nil, true},
		{"http on TLS", secure, "example.com", []string{"Origin: http://example.com"}, nil, false},
		{"default port of http in the host", plain, "example.com:80", []string{"Origin: http://example.com"}, nil, true},
		{"default port of http in the origin", plain, "example.com", []string{"Origin: http://example.com:80"}, nil, true},
		{"default port of https in the host", both, "example.com:443", []string{"Origin: https://example.com"}, nil, true},
		{"default port of https in the origin", both, "example.com", []string{"Origin: https://example.com:443"}, nil, true},
		{"default port of the other scheme", both, "example.com:80", []string{"Origin: https://example.com"}, nil, false},
		{"same other port", plain, "example.com:8080", []string{"Origin: http://example.com:8080"}, nil, true},
		{"other port", both, "example.com:8080", []string{"Origin: https://example.com"}, nil, false},
		{"other port in the origin", both, "example.com", []string{"Origin: https://example.com:8443"}, nil, false},
		{"upper-case origin", both, "example.com", []string{"Origin: HTTPS://EXAMPLE.Com"}, nil, true},
		{"upper-case host", both, "Example.COM", []string{"Origin: https://example.com"}, nil, true},
		{"foreign", both, "example.com", []string{"Origin: https://evil.example"}, nil, false},
		{"subdomain", both, "example.com", []string{"Origin: https://a.example.com"}, nil, false},
		{"parent domain", both, "a.example.com", []string{"Origin: https://example.com"}, nil, false},
		{"host as a suffix", both, "example.com", []string{"Origin: https://evilexample.com"}, nil, false},
		{"host as a prefix", both, "example.com", []string{"Origin: https://example.com.evil.example"}, nil, false},
		{"host as user", both, "example.com", []string{"Origin: https://example.com@evil.example"}, nil, false},
		{"user at the host", both, "example.com", []string{"Origin: https://evil@example.com"}, nil, false},
		{"path", both, "example.com", []string{"Origin: https://example.com/path"}, nil, false},
		{"query", both, "example.com", []string{"Origin: https://example.com?q"}, nil, false},
		{"other scheme", both, "example.com", []string{"Origin: chrome-extension://example.com"}, nil, false},
		{"no scheme", both, "example.com", []string{"Origin: example.com"}, nil, false},
		{"null", both, "example.com", []string{"Origin: null"}, nil, false},
		{"empty", both, "example.com", []string{"Origin:"}, nil, false},
		{"not a URL", both, "example.com", []string{"Origin: https://exa%mple.com"}, nil, false},
		{"two the same", both, "example.com", []string{"Origin: https://example.com", "+Origin: https://example.com"}, nil, false},
		{"two in one line", both, "example.com", []string{"Origin: https://example.com https://evil.example"}, nil, false},
		{"two, any allowed", both, "example.com", []string{"Origin: https://a.example", "+Origin: https://b.example"}, []string{"*"}, false},
		{"IPv6", both, "[::1]", []string{"Origin: https://[::1]"}, nil, true},
		{"IPv6, another spelling", both, "[0:0:0:0:0:0:0:1]:443", []string{"Origin: https://[::1]"}, nil, true},
		{"IPv6, upper case", both, "[2001:DB8::A]:8443", []string{"Origin: https://[2001:db8:0::a]:8443"}, nil, true},
		{"IPv6, another address", both, "[::1]", []string{"Origin: https://[::2]"}, nil, false},
		{"IPv4", both, "127.0.0.1:3000", []string{"Origin: https://127.0.0.1:3000"}, nil, true},
		{"localhost is a name", both, "127.0.0.1", []string{"Origin: https://localhost"}, nil, false},
		{"absent", both, "example.com", nil, nil, true},
		{"absent, none", both, "example.com", []string{"Sec-Fetch-Site: none"}, nil, true},
		{"absent, same-origin", both, "example.com", []string{"Sec-Fetch-Site: same-origin"}, nil, true},
		{"absent, cross-site", both, "example.com", []string{"Sec-Fetch-Site: cross-site"}, nil, false},
		{"absent, cross-site, others allowed", both, "example.com", []string{"Sec-Fetch-Site: cross-site"}, []string{"https://a.example"}, false},
		{"absent, cross-site, any allowed", both, "example.com", []string{"Sec-Fetch-Site: cross-site"}, []string{"*"}, true},
		{"cross-site by its own account is judged by the origin", both, "example.com", []string{"Origin: https://a.example", "Sec-Fetch-Site: cross-site"}, []string{"https://a.example"}, true},

		{"allowed", both, "example.com", []string{"Origin: https://a.example"}, []string{"https://b.example", "https://a.example"}, true},
		{"allowed, other case and port spelled out", both, "example.com", []string{"Origin: https://a.example"}, []string{"HTTPS://A.Example:443"}, true},
		{"allowed, other scheme", both, "example.com", []string{"Origin: http://a.example"}, []string{"https://a.example"}, false},
		{"allowed, other port", both, "example.com", []string{"Origin: https://a.example:444"}, []string{"https://a.example"}, false},
		{"allowed http on TLS", both, "example.com", []string{"Origin: http://localhost:3000"}, []string{"http://localhost:3000"}, true},
		{"allowed extension", both, "example.com", []string{"Origin: chrome-extension://abcdef"}, []string{"chrome-extension://abcdef"}, true},
		{"allowed others keep the own one", both, "example.com", []string{"Origin: https://example.com"}, []string{"https://a.example"}, true},
		{"allowed subdomains", both, "example.com", []string{"Origin: https://x.a.example"}, []string{"https://*.a.example"}, true},
		{"allowed subdomains, deep", both, "example.com", []string{"Origin: https://y.x.A.example"}, []string{"https://*.a.Example"}, true},
		{"allowed subdomains, not the domain", both, "example.com", []string{"Origin: https://a.example"}, []string{"https://*.a.example"}, false},
		{"allowed subdomains, suffix", both, "example.com", []string{"Origin: https://evila.example"}, []string{"https://*.a.example"}, false},
		{"allowed subdomains, prefix", both, "example.com", []string{"Origin: https://x.a.example.evil.example"}, []string{"https://*.a.example"}, false},
		{"allowed subdomains, other scheme", both, "example.com", []string{"Origin: http://x.a.example"}, []string{"https://*.a.example"}, false},
		{"allowed subdomains, other port", both, "example.com", []string{"Origin: https://x.a.example:444"}, []string{"https://*.a.example"}, false},
		{"allowed subdomains at a port", both, "example.com", []string{"Origin: https://x.a.example:444"}, []string{"https://*.a.example:444"}, true},
		{"any", both, "example.com", []string{"Origin: https://evil.example"}, []string{"*"}, true},
		{"any, null", both, "example.com", []string{"Origin: null"}, []string{"*"}, true},
		{"null, listed", both, "example.com", []string{"Origin: null"}, []string{"null"}, true},
		{"null, others listed", both, "example.com", []string{"Origin: null"}, []string{"https://a.example", "file://"}, false},
		{"file, listed", both, "example.com", []string{"Origin: file://"}, []string{"file://"}, true},
		{"file", both, "example.com", []string{"Origin: file://"}, nil, false},
		{"of a WebSocket's scheme: Starscream", plain, "example.com", []string{"Origin: ws://example.com"}, nil, true},
		{"of a WebSocket's scheme over TLS", both, "example.com:443", []string{"Origin: wss://example.com"}, nil, true},
		{"of a WebSocket's scheme, another host", both, "example.com", []string{"Origin: wss://evil.example"}, nil, false},
	}
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		for _, row := range rows {
			if row.over != both && (row.over == secure) != (k.name == "tls") {
				continue
			}
			t.Run(row.name, func(t *testing.T) {
				srv, results := serveUpgrade(t, k, UpgradeOptions{AllowedOrigins: row.allowed}, nil)
				a := request(t, srv.raw(t), handshake(get, append([]string{"Host: " + row.host}, row.origin...)...))
				got := within(t, results, "Upgrade")
				if row.ok {
					if a.StatusCode != 101 || got.err != nil {
						t.Errorf("%s, %v", a.Status, got.err)
					}
					return
				}
				sentence := wantRefused(t, a, got, 403)
				// It names Origin, Host and the option to set.
				for _, line := range row.origin {
					origin, found := strings.CutPrefix(strings.TrimPrefix(line, "+"), "Origin: ")
					if found && (!strings.Contains(sentence, origin) || !strings.Contains(sentence, row.host) || !strings.Contains(sentence, "AllowedOrigins")) {
						t.Errorf("the refusal says %q", sentence)
					}
				}
			})
		}
	})
}

func TestUpgradeSubprotocol(t *testing.T) {
	const offer = "Sec-WebSocket-Protocol: "
	rows := []struct {
		name   string
		ours   []string
		offers []string
		want   string
	}{
		{"none listed, none offered", nil, nil, ""},
		{"none listed", nil, []string{offer + "chat"}, ""},
		{"none offered", []string{"chat"}, nil, ""},
		{"none known", []string{"chat"}, []string{offer + "soap, wamp"}, ""},
		{"one", []string{"chat"}, []string{offer + "chat"}, "chat"},
		{"the server's preference", []string{"v2", "v1"}, []string{offer + "v1, v2"}, "v2"},
		{"the second preference", []string{"v3", "v1"}, []string{offer + "v1, v2"}, "v1"},
		{"case-sensitive", []string{"Chat"}, []string{offer + "chat, CHAT"}, ""},
		{"several lines", []string{"v2", "v1"}, []string{offer + "v1", "+" + offer + "x,v2"}, "v2"},
		{"spaces and empty elements", []string{"chat"}, []string{offer + ", ,\tchat ,"}, "chat"},
		{"part of a name", []string{"chat"}, []string{offer + "chat2, xchat"}, ""},
	}
	overPlain(t, func(t *testing.T, k kind) {
		noLeaks(t)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				srv, results := serveUpgrade(t, k, UpgradeOptions{Subprotocols: row.ours}, nil)
				a := request(t, srv.raw(t), handshake(get, row.offers...))
				got := within(t, results, "Upgrade")
				if got.err != nil {
					t.Fatal(got.err)
				}
				var header []string
				if row.want != "" {
					header = []string{row.want}
				}
				if got.conn.Subprotocol() != row.want || !slices.Equal(a.Header["Sec-Websocket-Protocol"], header) {
					t.Errorf("got %q and the header %q, want %q", got.conn.Subprotocol(), a.Header["Sec-Websocket-Protocol"], row.want)
				}
			})
		}
	})
	// Row 46: a name that could break the response's line, or that nobody can offer, is an error.
	for _, name := range []string{"", "a b", "a,b", "a/b", `"q"`, "ü", "x\r\nInjected: 1"} {
		w := httptest.NewRecorder()
		_, err := Upgrade(w, httptest.NewRequest("GET", "/", nil), UpgradeOptions{Subprotocols: []string{"chat", name}})
		if err == nil || w.Code != 500 || !strings.Contains(err.Error(), "UpgradeOptions.Subprotocols: "+strconv.Quote(name)+" is no token") {
			t.Errorf("row 46: %q: %v, %d", name, err, w.Code)
		}
	}
}

// Headers of the application go with the response; those of the handshake are not its to set, and
// no line break gets through (row 46).
func TestUpgradeResponseHeaders(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv, results := serveUpgrade(t, k, UpgradeOptions{}, func(w http.ResponseWriter) {
			h := w.Header()
			h.Set("X-Request-Id", "42")
			h.Add("Set-Cookie", "a=1")
			h.Add("Set-Cookie", "b=2")
			h.Set("X-Split", "1\r\nInjected: 1")
			h.Set("X-Bare-CR", "1\rInjected: 1")
			h.Set("X-Bare-LF", "1\nInjected: 1")
			h["X-Name\r\nInjected"] = []string{"1"}
			h["X Space"] = []string{"1"}
			h["X-Colon:"] = []string{"1"}
			h[""] = []string{"1"}
			h.Set("Sec-WebSocket-Accept", "forged")
			h.Set("Sec-WebSocket-Protocol", "forged")
			h.Set("Sec-WebSocket-Extensions", "forged")
			h.Set("Connection", "close")
			h.Set("Upgrade", "h2c")
			h.Set("Content-Length", "5")
			h.Set("Transfer-Encoding", "chunked")
		})
		nc := srv.raw(t)
		a := request(t, nc, handshake(get))
		got := within(t, results, "Upgrade")
		if got.err != nil {
			t.Fatal(got.err)
		}
		want := http.Header{
			"Upgrade": {"websocket"}, "Connection": {"Upgrade"}, "Sec-Websocket-Accept": {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
			"X-Request-Id": {"42"}, "Set-Cookie": {"a=1", "b=2"},
		}
		for name := range a.Header {
			if !slices.Equal(a.Header[name], want[name]) {
				t.Errorf("row 46: %s: %q, want %q", name, a.Header[name], want[name])
			}
		}
		if len(a.Header) != len(want) {
			t.Errorf("got %v, want %v", a.Header, want)
		}
		if a.ContentLength > 0 || a.TransferEncoding != nil {
			t.Errorf("the response announces a body: %d, %v", a.ContentLength, a.TransferEncoding)
		}
		wantAlive(t, got.conn, newPeer(t, nc, a.rest, true))
	})
}

// Row 47: what came in the segment of the handshake, or in the next, is not lost.
func TestUpgradeEarlyData(t *testing.T) {
	frames := &peer{client: true}
	stream, want := sample(frames)
	large := strings.Repeat("x", 10_000)
	stream = slices.Concat(stream, frames.frame(opBinary, large))
	want = append(slices.Clone(want), incomingMessage{opBinary, large})
	overPlain(t, func(t *testing.T, k kind) {
		noLeaks(t)
		for _, cut := range []int{0, 1, 2, 11, 12, 13, len(stream) / 2, len(stream) - 1, len(stream)} {
			t.Run(strconv.Itoa(cut), func(t *testing.T) {
				srv, results := serveUpgrade(t, k, UpgradeOptions{}, nil)
				nc := srv.raw(t)
				p := newPeer(t, nc, nil, true)
				p.send(append([]byte(handshake(get)), stream[:cut]...), stream[cut:])
				r, err := http.ReadResponse(p.in, nil)
				if err != nil || r.StatusCode != 101 {
					t.Fatal(r, err)
				}
				got := within(t, results, "Upgrade")
				if got.err != nil {
					t.Fatal(got.err)
				}
				for _, m := range want {
					wantMessage(t, got.conn, m.Op, m.Text)
				}
				p.want(opPong, "ping")
				wantAlive(t, got.conn, p)
			})
		}
	})
}

// The deadlines of an http.Server, which has them set on the connection, are for HTTP: here they
// have passed already.
func TestUpgradeOutlivesServerDeadlines(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv, results := serveUpgrade(t, k, UpgradeOptions{}, func(w http.ResponseWriter) {
			control := http.NewResponseController(w)
			if err := errors.Join(control.SetReadDeadline(longAgo), control.SetWriteDeadline(longAgo)); err != nil {
				t.Error(err)
			}
		})
		nc, early := srv.upgrade(t)
		got := within(t, results, "Upgrade")
		if got.err != nil {
			t.Fatal(got.err)
		}
		texts, _ := readInBackground(got.conn)
		p := newPeer(t, nc, early, true)
		p.send(p.frame(opText, "to a reader that waits"))
		if text := within(t, texts, "the message"); text != "to a reader that waits" {
			t.Errorf("got %q", text)
		}
		mustWrite(t, got.conn, opText, "back")
		p.want(opText, "back")
	})
}

// unwrapped is what well-behaved middleware hands on; opaque, what is not.
type (
	unwrapped struct{ http.ResponseWriter }
	opaque    struct{ http.ResponseWriter }
)

func (w unwrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestUpgradeThroughMiddleware(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		wrapped := func(t *testing.T, wrap func(http.ResponseWriter) http.ResponseWriter) (*server, <-chan upgraded) {
			results := make(chan upgraded, 1)
			return serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c, err := Upgrade(wrap(w), r, UpgradeOptions{})
				if c != nil {
					t.Cleanup(func() { c.CloseNow() })
				}
				results <- upgraded{c, err}
			})), results
		}
		t.Run("with Unwrap", func(t *testing.T) {
			noLeaks(t)
			srv, results := wrapped(t, func(w http.ResponseWriter) http.ResponseWriter {
				return unwrapped{unwrapped{w}}
			})
			nc, early := srv.upgrade(t)
			got := within(t, results, "Upgrade")
			if got.err != nil {
				t.Fatal(got.err)
			}
			wantAlive(t, got.conn, newPeer(t, nc, early, true))
		})
		t.Run("not hijackable", func(t *testing.T) {
			noLeaks(t)
			srv, results := wrapped(t, func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} })
			a := request(t, srv.raw(t), handshake(get))
			wantRefused(t, a, within(t, results, "Upgrade"), 501)
		})
		t.Run("hijacked before", func(t *testing.T) {
			noLeaks(t)
			results := make(chan [2]upgraded, 1)
			srv := serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first, err1 := Upgrade(w, r, UpgradeOptions{})
				second, err2 := Upgrade(w, r, UpgradeOptions{})
				results <- [2]upgraded{{first, err1}, {second, err2}}
			}))
			nc, early := srv.upgrade(t)
			got := within(t, results, "Upgrade")
			if got[0].err != nil || got[1].conn != nil || !strings.Contains(got[1].err.Error(), http.ErrHijacked.Error()) {
				t.Fatalf("got %v", got)
			}
			defer got[0].conn.CloseNow()
			wantAlive(t, got[0].conn, newPeer(t, nc, early, true))
		})
	})
}

// Row 52: over HTTP/2 there is nothing to hijack.
func TestUpgradeHTTP2(t *testing.T) {
	results := make(chan upgraded, 1)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, UpgradeOptions{})
		results <- upgraded{c, err}
	})
	t.Run("GET", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(handler)
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		r, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.ProtoMajor != 2 {
			t.Fatalf("the request went over %s", r.Proto)
		}
		wantRefused(t, answer{Response: r}, <-results, 505)
	})
	t.Run("CONNECT", func(t *testing.T) { // RFC 8441 §4
		w := httptest.NewRecorder()
		handler(w, &http.Request{
			Method: "CONNECT", Proto: "HTTP/2.0", ProtoMajor: 2, Host: "example.com", URL: &url.URL{Path: "/"}, Body: http.NoBody,
			Header: http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}},
		})
		wantRefused(t, answer{Response: w.Result()}, <-results, 505)
	})
}

// hijackable is a ResponseWriter that hands over a given connection.
type hijackable struct {
	*httptest.ResponseRecorder
	nc net.Conn
	rw *bufio.ReadWriter
}

func (h *hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.nc, h.rw, nil }

func upgradeRequest() *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(handshake(get))))
	if err != nil {
		panic(err)
	}
	return r
}

// net/http's two buffers are 8 KB a connection: nothing keeps them, nor the request.
func TestUpgradeLetsGo(t *testing.T) {
	frame := encodeFrame(frameHeader{Fin: true, Opcode: opText, Masked: true, Length: 5}, "early")
	nc := &scriptedConn{segments: [][]byte{frame}, keep: true}
	upgrade := func() (*Conn, []func() bool) {
		reader, writer := bufio.NewReader(nc), bufio.NewWriter(nc)
		reader.Peek(1) // all of the frame is in the buffer now
		buffer, _ := reader.Peek(len(frame))
		r := upgradeRequest()
		held := []func() bool{held(reader), held(writer), held(&buffer[0]), held(r), held(r.URL)}
		c, err := Upgrade(&hijackable{httptest.NewRecorder(), nc, bufio.NewReadWriter(reader, writer)}, r, UpgradeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c, held
	}
	c, held := upgrade()
	for range 3 {
		runtime.GC()
	}
	for i, held := range held {
		if held() {
			t.Errorf("the Conn keeps the %s", []string{"reader", "writer", "reader's buffer", "request", "request's URL"}[i])
		}
	}
	wantMessage(t, c, opText, "early")
	if !bytes.HasPrefix(nc.written, []byte("HTTP/1.1 101 ")) {
		t.Errorf("the answer was %q", nc.written)
	}
}

// Upgrade allocates little besides the Conn, the response and its Sec-WebSocket-Accept. That is
// counted on the portable path, where no other goroutine allocates.
func TestUpgradeAllocates(t *testing.T) {
	nc := &scriptedConn{}
	w := &hijackable{httptest.NewRecorder(), nc, bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc))}
	r := upgradeRequest()
	r.Header.Set("Origin", "http://"+r.Host)
	got := testing.AllocsPerRun(100, func() {
		nc.written = nc.written[:0]
		if _, err := Upgrade(w, r, UpgradeOptions{}); err != nil {
			t.Fatal(err)
		}
	})
	if got > 4 {
		t.Errorf("%v allocations", got)
	}
}

// unwritable is a network connection that fails to be written to.
type unwritable struct {
	scriptedConn
	closed bool
}

func (u *unwritable) Write([]byte) (int, error) { return 0, net.ErrClosed }
func (u *unwritable) Close() error              { u.closed = true; return nil }

func TestUpgradeToAClientThatIsGone(t *testing.T) {
	nc := &unwritable{}
	rw := bufio.NewReadWriter(bufio.NewReader(nc), bufio.NewWriter(nc))
	c, err := Upgrade(&hijackable{httptest.NewRecorder(), nc, rw}, upgradeRequest(), UpgradeOptions{})
	if c != nil || !errors.Is(err, net.ErrClosed) || !nc.closed {
		t.Errorf("got %v, %v; closed: %t", c, err, nc.closed)
	}
}

func TestUpgradeDefaults(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv, results := serveUpgrade(t, k, UpgradeOptions{}, nil)
		nc, early := srv.upgrade(t)
		c, p := within(t, results, "Upgrade").conn, newPeer(t, nc, early, true)
		if c.out.limit != 4<<20 {
			t.Errorf("MaxQueuedBytes is %d, want 4 MiB", c.out.limit)
		}
		largest := strings.Repeat("x", 1<<20)
		p.send(p.frame(opText, largest), rawHeader(0x81, 127, 0, 0, 0, 0, 0, 0x10, 0, 1)(p))
		wantMessage(t, c, opText, largest)
		wantClosed(t, c, StatusMessageTooBig)
		p.nc.Close()
	})
}

// What a session sends first leaves with the response, in one write. A client that a Use function
// is asked about gets the response at once.
func TestUpgradeSendsTheFirstMessageAlong(t *testing.T) {
	const open = `0{"sid":`
	tests := []struct {
		name, query string
		uses        bool
		along       string
	}{
		{"plain", "", false, `{"event":"connect"`},
		{"plain with Use", "", true, ""},
		{"Socket.IO", "?EIO=4&transport=websocket", true, open},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t, Options{})
			asked, let := make(chan struct{}), make(chan struct{})
			if test.uses {
				h.Use(func(*Socket) error { close(asked); <-let; return nil })
			}
			nc := serve(t, overPipe, h).raw(t)
			write(t, nc, strings.Replace(handshakeHead, "GET /", "GET /"+test.query, 1)+"\r\n")
			first := make([]byte, 4096)
			n, err := nc.Read(first) // of a pipe: what was written at once
			if err != nil {
				t.Fatal(err)
			}
			head, rest, _ := strings.Cut(string(first[:n]), "\r\n\r\n")
			if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(rest, test.along) || test.along == "" && rest != "" {
				t.Errorf("got %q", first[:n])
			}
			if test.uses {
				if test.along == open {
					write(t, nc, maskedFrame(opText, "40"))
				}
				within(t, asked, "Use")
				close(let)
			}
		})
	}
}
