package atrium

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wantEcho says something and expects to hear it again.
func wantEcho(t testing.TB, c *Conn, text string) {
	t.Helper()
	peer := &client{c, t, ""}
	peer.send(text)
	peer.want(text)
}

func TestDial(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		requests := make(chan *http.Request, 1)
		speak := echoHandler(UpgradeOptions{Subprotocols: []string{"v2", "v1"}})
		srv := serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests <- r
			w.Header().Set("X-Answer", "yes")
			speak.ServeHTTP(w, r)
		}))
		c, resp, err := srv.dial(t, "/a%2Fb/%c3%a9?q=1&r=%20", DialOptions{
			Header:          http.Header{"Authorization": {"Bearer x"}, "Host": {"other.example"}, "x-list": {"1", "2"}, "User-Agent": {"test"}},
			Subprotocols:    []string{"v0", "v1", "v2"},
			MaxMessageBytes: 1000,
			MaxQueuedBytes:  2000,
		})
		if err != nil {
			t.Fatal(err)
		}
		r := within(t, requests, "the request")
		type seen struct{ URI, Host, Authorization, UserAgent, List string }
		got := seen{r.RequestURI, r.Host, r.Header.Get("Authorization"), r.UserAgent(), strings.Join(r.Header.Values("X-List"), " ")}
		if d := cmp.Diff(seen{"/a%2Fb/%c3%a9?q=1&r=%20", "other.example", "Bearer x", "test", "1 2"}, got); d != "" {
			t.Error(d)
		}
		if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("X-Answer") != "yes" {
			t.Errorf("the response is %s %v", resp.Status, resp.Header)
		}
		if b, err := io.ReadAll(resp.Body); len(b) != 0 || err != nil {
			t.Errorf("the response's body is %q, %v", b, err)
		}
		if c.Subprotocol() != "v2" {
			t.Errorf("the subprotocol is %q", c.Subprotocol())
		}
		if _, plain := c.NetConn().(*net.TCPConn); plain != (k.name == overTCP.name) {
			t.Errorf("the network connection is a %T", c.NetConn())
		}
		if c.readLimit.Load() != 1000 || c.out.limit != 2000 {
			t.Errorf("the limits are %d and %d", c.readLimit.Load(), c.out.limit)
		}
		wantEcho(t, c, "hello")
		if err := c.Close(StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
}

func TestDialDefaults(t *testing.T) {
	noLeaks(t)
	srv := serve(t, overTCP, echoHandler(UpgradeOptions{}))
	c, _, err := Dial(context.Background(), "ws://"+srv.hostport(), DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if c.readLimit.Load() != defaultReadLimit || c.out.limit != defaultMaxQueued || c.Subprotocol() != "" {
		t.Errorf("limits %d and %d, subprotocol %q", c.readLimit.Load(), c.out.limit, c.Subprotocol())
	}
	wantEcho(t, c, "hello")
}

// The bytes of a request, in RFC 6455's spelling.
func TestDialRequest(t *testing.T) {
	heads := make(chan string, 1)
	srv := dialScript(t, overTCP, func(nc net.Conn) {
		var head strings.Builder
		for br := bufio.NewReader(nc); !strings.HasSuffix(head.String(), "\r\n\r\n"); {
			line, err := br.ReadString('\n')
			if err != nil {
				break
			}
			head.WriteString(line)
		}
		heads <- head.String()
	})
	host := srv.hostport()
	for _, test := range []struct {
		url  string
		opts DialOptions
		want string
	}{
		{"ws://" + host, DialOptions{},
			"GET / HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"},
		{"ws://Ann:se%3Acret@" + host + "?", DialOptions{Header: http.Header{"user-agent": {""}}, Subprotocols: []string{"a", "b"}},
			"GET /? HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Basic QW5uOnNlOmNyZXQ=\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"},
		{"ws://Ann:secret@" + host + "/x", DialOptions{Header: http.Header{"User-Agent": {""}, "authorization": {"Bearer y"}, "host": {"bücher.example:81"}}},
			"GET /x HTTP/1.1\r\nHost: xn--bcher-kva.example:81\r\nAuthorization: Bearer y\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"},
	} {
		if _, _, err := Dial(context.Background(), test.url, test.opts); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want the server to hang up", test.url, err)
		}
		got := within(t, heads, "the request")
		if _, rest, ok := strings.Cut(got, "Sec-WebSocket-Key: "); ok {
			key, _, _ := strings.Cut(rest, "\r\n")
			if !validKey(key) {
				t.Errorf("%s: the key is %q", test.url, key)
			}
			got = strings.Replace(got, key, "KEY", 1)
		}
		if d := cmp.Diff(test.want, got); d != "" {
			t.Errorf("%s:\n%s", test.url, d)
		}
	}
}

// What can be known to be wrong is refused before anything is dialed.
func TestDialRefusesToDial(t *testing.T) {
	wantNotDialed(t, []undialable{
		{"http://h/", DialOptions{}, `ws or wss, not "http"`},
		{"https://h/", DialOptions{}, `ws or wss, not "https"`},
		{"h/path", DialOptions{}, `ws or wss, not ""`},
		{"h:80", DialOptions{}, `ws or wss, not "h"`},
		{"", DialOptions{}, `ws or wss, not ""`},
		{"127.0.0.1:80", DialOptions{}, "begins with ws:// or wss://"},
		{"ws:", DialOptions{}, "no host"},
		{"ws:h", DialOptions{}, "no host"},
		{"ws:///path", DialOptions{}, "no host"},
		{"ws://:80/", DialOptions{}, "no host"},
		{"ws://h:port/", DialOptions{}, "invalid port"},
		{"ws://[::1/", DialOptions{}, "missing ']'"},
		{"ws://h/%zz", DialOptions{}, "invalid URL escape"},
		{"ws://ann:secret@h h/", DialOptions{}, "invalid character"},
		{"ws://ann:secret@h/\r\nX: y", DialOptions{}, "control character"},
		{"ws://h/?a b", DialOptions{}, "a space"},
		{"ws://h/#fragment", DialOptions{}, "no fragment"},
		{"ws://h/#", DialOptions{}, "no fragment"},

		{"ws://h/", header("Upgrade", "h2c"), "Upgrade is not for"},
		{"ws://h/", header("connection", "close"), "Connection is not for"},
		{"ws://h/", header("TE", "trailers"), "Te is not for"},
		{"ws://h/", header("Transfer-Encoding", "chunked"), "Transfer-Encoding is not for"},
		{"ws://h/", header("Content-Length", "7"), "Content-Length is not for"},
		{"ws://h/", header("Proxy-Authorization", "secret"), "Proxy-Authorization is not for"},
		{"ws://h/", header("Sec-WebSocket-Key", "x"), "Sec-Websocket-Key is not for"},
		{"ws://h/", header("sec-websocket-extensions", "x"), "Sec-Websocket-Extensions is not for"},
		{"ws://h/", header("Host", "a", "b"), "not one host"},
		{"ws://h/", header("Host", ""), "not one host"},
		{"ws://h/", header("Host", "a b"), "not one host"},

		{"ws://h/", DialOptions{Subprotocols: []string{"a b"}}, "is no token"},
		{"ws://h/", DialOptions{Subprotocols: []string{"a,b"}}, "is no token"},
		{"ws://h/", DialOptions{Subprotocols: []string{""}}, "is no token"},
		{"ws://h/", DialOptions{Subprotocols: []string{"a", "b", "a"}}, "there twice"},

		{"ws://h/", DialOptions{Proxy: proxyURL("ftp://p/")}, `socks5, not "ftp"`},
		{"ws://h/", DialOptions{Proxy: proxyURL("http://:80/")}, "no host"},
		{"ws://h/", DialOptions{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("none today") }}, "none today"},
	})
}

// Row 46, as a client: nothing is smuggled into the request.
func TestDialSplitting(t *testing.T) {
	wantNotDialed(t, []undialable{
		{"ws://h/", header("X", "secret\r\nY: z"), "the value of X"},
		{"ws://h/", header("X", "secret\nY: z"), "the value of X"},
		{"ws://h/", header("X", "secret\x00"), "the value of X"},
		{"ws://h/", header("X: y\r\nZ", "w"), "is no header name"},
		{"ws://h/", header("", "w"), "is no header name"},
		{"ws://h/", header("Host", "h\r\nX: y"), "the value of Host"},
		{"ws://h/", DialOptions{Subprotocols: []string{"a\r\nX: y"}}, "is no token"},
	})
}

// An undialable is what Dial refuses to try, and what it says.
type undialable struct {
	url  string
	opts DialOptions
	want string
}

func header(name string, values ...string) DialOptions {
	return DialOptions{Header: http.Header{name: values}}
}

func wantNotDialed(t *testing.T, tests []undialable) {
	for _, test := range tests {
		test.opts.DialContext = func(context.Context, string, string) (net.Conn, error) {
			t.Errorf("%q %v: dialed", test.url, test.opts.Header)
			return nil, errors.New("no")
		}
		c, resp, err := Dial(context.Background(), test.url, test.opts)
		if c != nil || resp != nil || err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "atrium: ") {
			t.Errorf("%q %v: %v, want an error with %q", test.url, test.opts.Header, err, test.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\r\n") || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%q %v: the error tells too much: %q", test.url, test.opts.Header, err)
		}
	}
}

// proxyURL is a Proxy function that always returns this one.
func proxyURL(raw string) func(*http.Request) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return http.ProxyURL(u)
}

// What is dialed for a URL.
func TestDialAddress(t *testing.T) {
	for _, test := range []struct{ url, proxy, want string }{
		{"ws://example.com", "", "example.com:80"},
		{"wss://example.com/x", "", "example.com:443"},
		{"WS://example.com:", "", "example.com:80"},
		{"ws://example.com:8080", "", "example.com:8080"},
		{"ws://bücher.example", "", "xn--bcher-kva.example:80"},
		{"ws://[::1]", "", "[::1]:80"},
		{"wss://[2001:db8::1]:81", "", "[2001:db8::1]:81"},
		{"ws://[fe80::1%25eth0]", "", "[fe80::1%eth0]:80"},
		{"ws://example.com", "http://proxy", "proxy:80"},
		{"ws://example.com", "https://proxy", "proxy:443"},
		{"ws://example.com", "socks5://proxy", "proxy:1080"},
		{"ws://example.com", "socks5h://[::1]:81", "[::1]:81"},
	} {
		var got string
		opts := DialOptions{DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
			got = address
			return nil, net.ErrClosed
		}}
		opts.Proxy = func(r *http.Request) (*url.URL, error) {
			if want := map[bool]string{false: "http", true: "https"}[strings.HasPrefix(test.url, "wss")]; r.URL.Scheme != want {
				t.Errorf("%s: Proxy sees the scheme %q", test.url, r.URL.Scheme)
			}
			if test.proxy == "" {
				return nil, nil
			}
			return url.Parse(test.proxy)
		}
		if _, _, err := Dial(context.Background(), test.url, opts); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", test.url, err)
		}
		if got != test.want {
			t.Errorf("%s through %q: dialed %q, want %q", test.url, test.proxy, got, test.want)
		}
	}
}

// Row 45, and what else RFC 6455 §4.1 has a client refuse.
func TestDialAnswers(t *testing.T) {
	head := func(status string, lines ...string) func(string) string {
		return func(accept string) string {
			return "HTTP/1.1 " + status + "\r\n" + strings.ReplaceAll(strings.Join(lines, "\r\n"), "$", accept)
		}
	}
	with := func(lines ...string) func(string) string {
		return func(accept string) string { return switching(accept, lines...) }
	}
	const upgrade, connection, accept = "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: $"
	long := strings.Repeat("é", 1000)
	tests := []struct {
		name        string
		answer      func(accept string) string
		want        string // in the error; "": success
		status      int
		body        string
		subprotocol string
	}{
		{name: "right", answer: with()},
		{name: "spelling", answer: head("101 x", "UPGRADE: WebSocket", "connection: keep-alive", "connection: upgrade", "SEC-WEBSOCKET-ACCEPT:  $ ", "", "")},
		{name: "no reason phrase", answer: head("101", upgrade, connection, accept, "", "")},
		{name: "early hints", answer: func(accept string) string {
			return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + switching(accept)
		}},
		{name: "a subprotocol", answer: with("Sec-WebSocket-Protocol: v1"), subprotocol: "v1"},
		{name: "an empty list of extensions", answer: with("Sec-WebSocket-Extensions:")},

		{name: "status 200", answer: head("200 OK", "Content-Length: 5", "", "hello"),
			status: 200, want: `status "200 OK" instead of 101: "hello"`, body: "hello"},
		{name: "status 204", answer: head("204 No Content", "", ""), status: 204, want: `status "204 No Content"`},
		{name: "status 301", answer: head("301 Moved", "Location: https://new.example/\"", "Content-Length: 0", "", ""),
			status: 301, want: `redirects to "https://new.example/\"", which Dial does not follow`},
		{name: "status 403", answer: head("403 Forbidden", "Content-Length: 2000", "", long),
			status: 403, want: `status "403 Forbidden" instead of 101: "éé`, body: long[:1024]},
		{name: "status 500 with a chunked body", answer: head("500 Oops", "Transfer-Encoding: chunked", "", "3", "abc", "3", "def", "0", "", ""),
			status: 500, want: `"abcdef"`, body: "abcdef"},
		{name: "a broken chunked body", answer: head("500 Oops", "Transfer-Encoding: chunked", "", "3", "abc", "zzz", ""),
			status: 500, want: `"abc"`, body: "abc"},
		{name: "a body with control characters", answer: head("500 \x1b[2J", "Content-Length: 4", "", "\x1b[2J"),
			status: 500, want: `status "500 \x1b[2J" instead of 101: "\x1b[2J"`, body: "\x1b[2J"},
		{name: "HTTP/1.0", answer: func(accept string) string { return strings.Replace(switching(accept), "1.1", "1.0", 1) },
			status: 101, want: "HTTP/1.0"},
		{name: "no Upgrade", answer: head("101 x", connection, accept, "", ""), status: 101, want: `Upgrade header is ""`},
		{name: "another Upgrade", answer: head("101 x", "Upgrade: h2c", connection, accept, "", ""), status: 101, want: `Upgrade header is "h2c"`},
		{name: "two Upgrades", answer: with("Upgrade: h2c"), status: 101, want: `Upgrade header is "websocket, h2c"`},
		{name: "no Connection", answer: head("101 x", upgrade, accept, "", ""), status: 101, want: `Connection header is ""`},
		{name: "another Connection", answer: head("101 x", upgrade, "Connection: notupgrade", accept, "", ""), status: 101, want: `Connection header is "notupgrade"`},
		{name: "no Accept", answer: head("101 x", upgrade, connection, "", ""), status: 101, want: `Sec-WebSocket-Accept header is ""`},
		{name: "wrong Accept", answer: head("101 x", upgrade, connection, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", ""),
			status: 101, want: "does not answer the key"},
		{name: "Accept twice", answer: func(accept string) string { return switching(accept, "Sec-WebSocket-Accept: "+accept) },
			status: 101, want: "does not answer the key"},
		{name: "Accept in another case", answer: func(accept string) string { return switching(strings.ToLower(accept)) },
			status: 101, want: "does not answer the key"},
		{name: "an extension", answer: with("Sec-WebSocket-Extensions: permessage-deflate"), status: 101, want: `not offered: "permessage-deflate"`},
		{name: "another subprotocol", answer: with("Sec-WebSocket-Protocol: v3"), status: 101, want: `subprotocol "v3"`},
		{name: "a subprotocol in another case", answer: with("Sec-WebSocket-Protocol: V1"), status: 101, want: `subprotocol "V1"`},
		{name: "two subprotocols", answer: with("Sec-WebSocket-Protocol: v1, v2"), status: 101, want: `subprotocol "v1, v2"`},
		{name: "two subprotocol headers", answer: with("Sec-WebSocket-Protocol: v1", "Sec-WebSocket-Protocol: v2"), status: 101, want: `subprotocol "v1, v2"`},
		{name: "an empty subprotocol", answer: with("Sec-WebSocket-Protocol:"), status: 101, want: `subprotocol ""`},
	}
	overPlain(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				srv := answering(t, k, test.answer)
				c, resp, err := srv.dial(t, "/", DialOptions{Subprotocols: []string{"v1", "v2"}})
				if test.want == "" {
					if err != nil {
						t.Fatal(err)
					}
					if c.Subprotocol() != test.subprotocol {
						t.Errorf("the subprotocol is %q", c.Subprotocol())
					}
					return
				}
				e, ok := errors.AsType[*HandshakeError](err)
				if !ok || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "atrium: dialing localhost") {
					t.Fatalf("got %T %v, want a HandshakeError with %q", err, err, test.want)
				}
				if e.Response != resp || resp.StatusCode != test.status || resp.Request.Method != http.MethodGet {
					t.Errorf("the response is %+v", resp)
				}
				if body, err := io.ReadAll(resp.Body); string(body) != test.body || err != nil {
					t.Errorf("the body is %q, %v", body, err)
				}
			})
		}
	})
}

func TestHandshakeErrorRetryAfter(t *testing.T) {
	date := func(d time.Duration) string {
		return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Format(http.TimeFormat)
	}
	for _, test := range []struct {
		after, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"120", "", 2 * time.Minute},
		{"0", "", 0},
		{"-1", "", 0},
		{"1.5", "", 0},
		{"soon", "", 0},
		{"9223372036854775807", "", math.MaxInt64 / time.Second * time.Second},
		{"9223372036854775808", "", 0},
		{date(time.Minute), date(0), time.Minute},
		{date(-time.Minute), date(0), 0},
		{date(0), "", 0}, // it has passed
	} {
		e := &HandshakeError{Response: &http.Response{Header: http.Header{"Retry-After": {test.after}, "Date": {test.date}}}}
		if got := e.RetryAfter(); got != test.want {
			t.Errorf("Retry-After: %q, Date: %q: got %v, want %v", test.after, test.date, got, test.want)
		}
	}
}

// Row 45: a subprotocol that was chosen though none was offered.
func TestDialUnofferedSubprotocol(t *testing.T) {
	noLeaks(t)
	srv := answering(t, overTCP, func(accept string) string { return switching(accept, "Sec-WebSocket-Protocol: v1") })
	if _, _, err := srv.dial(t, "/", DialOptions{}); err == nil || !strings.Contains(err.Error(), `subprotocol "v1"`) {
		t.Error(err)
	}
}

// What Upgrade says when it refuses reaches who dials.
func TestDialRefusedByUpgrade(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv := serve(t, k, echoHandler(UpgradeOptions{}))
		_, resp, err := srv.dial(t, "/", DialOptions{Header: http.Header{"Origin": {"https://evil.example"}}})
		if err == nil || !strings.Contains(err.Error(), "AllowedOrigins") || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v, %v", resp, err)
		}
	})
}

// Answers that are no HTTP responses.
func TestDialNoAnswer(t *testing.T) {
	endless := func(start, more string) func(net.Conn) {
		return func(nc net.Conn) {
			_, err := io.WriteString(nc, start)
			for err == nil {
				_, err = io.WriteString(nc, more)
			}
		}
	}
	say := func(answer string) func(net.Conn) { return func(nc net.Conn) { io.WriteString(nc, answer) } }
	for _, test := range []struct {
		name string
		talk func(net.Conn)
		want string
	}{
		{"closed", say(""), "EOF"},
		{"closed within the head", say("HTTP/1.1 101 x\r\nUpgrade: "), "EOF"},
		{"endless headers", endless("HTTP/1.1 101 x\r\n", "X: "+strings.Repeat("y", 1000)+"\r\n"), "over 64 KiB"},
		{"one endless header", endless("HTTP/1.1 101 x\r\nX: ", strings.Repeat("y", 5000)), "over 64 KiB"},
		{"endless status line", endless("HTTP/1.1 101 ", strings.Repeat("y", 5000)), "over 64 KiB"},
		{"endless interim responses", endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"), "over 64 KiB"},
		{"another protocol", say("SSH-2.0-OpenSSH_9.2\r\n\x1b\r\n"), `not HTTP: "malformed HTTP response`},
		{"a broken header", say("HTTP/1.1 101 x\r\nno colon \x1b" + strings.Repeat("x", 1000) + "\r\n\r\n"), "not HTTP"},
		{"a broken status", say("HTTP/1.1 1e2 x\r\n\r\n"), "not HTTP"},
	} {
		overKinds(t, func(t *testing.T, k kind) {
			t.Run(test.name, func(t *testing.T) {
				noLeaks(t)
				srv := dialScript(t, k, func(nc net.Conn) {
					if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
						test.talk(nc)
					}
				})
				_, resp, err := srv.dial(t, "/", DialOptions{})
				if err == nil || resp != nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 500 || strings.Contains(err.Error(), "\x1b") {
					t.Errorf("%v, %v, want an error with %q", resp, err, test.want)
				}
				if _, ok := errors.AsType[*HandshakeError](err); ok {
					t.Errorf("%v is a HandshakeError", err)
				}
			})
		})
	}
}

// Row 47, as a client: frames that come with the head of the answer, or in whatever pieces.
func TestDialEarlyFrames(t *testing.T) {
	frame := func(p string) string {
		return string(appendHeader(nil, frameHeader{Fin: true, Opcode: opText, Length: int64(len(p))})) + p
	}
	texts := []string{"one", strings.Repeat("2", 3000), "", strings.Repeat("4", 70000), "five"}
	var frames string
	for _, text := range texts {
		frames += frame(text)
	}
	overKinds(t, func(t *testing.T, k kind) {
		for _, piece := range []int{1 << 20, 4096, 130, 1} {
			t.Run(strconv.Itoa(piece), func(t *testing.T) {
				noLeaks(t)
				srv := dialScript(t, k, func(nc net.Conn) {
					r, err := http.ReadRequest(bufio.NewReader(nc))
					if err != nil {
						return
					}
					// A length that a 101 response has no right to is no length.
					answer := switching(acceptKey(r.Header.Get("Sec-WebSocket-Key")), "Content-Length: 10")
					if piece == 1 { // once is enough for the rest
						answer += frame("one")
					} else {
						answer += frames
					}
					for b := range slices.Chunk([]byte(answer), piece) {
						if _, err := nc.Write(b); err != nil {
							return
						}
					}
					io.Copy(io.Discard, nc)
				})
				c, _, err := srv.dial(t, "/", DialOptions{})
				if err != nil {
					t.Fatal(err)
				}
				want := texts
				if piece == 1 {
					want = texts[:1]
				}
				for _, text := range want {
					(&client{c, t, ""}).want(text)
				}
			})
		}
	})
}

func TestDialCookies(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		cookies := make(chan string, 1)
		speak := echoHandler(UpgradeOptions{})
		srv := serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			cookies <- r.Header.Get("Cookie")
			if r.URL.Path == "/refused" {
				w.Header().Add("Set-Cookie", "b=2; Path=/")
				http.Error(w, "no", http.StatusUnauthorized)
				return
			}
			w.Header().Set("Set-Cookie", "a=1; Path=/")
			speak.ServeHTTP(w, r)
		}))
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		opts := DialOptions{Jar: jar, Header: http.Header{"Cookie": {"own=0"}}}
		for _, step := range []struct{ path, want string }{
			{"/refused", "own=0"},
			{"/", "own=0; b=2"},
			{"/", "own=0; b=2; a=1"},
		} {
			if _, _, err := srv.dial(t, step.path, opts); (err != nil) != (step.path == "/refused") {
				t.Fatal(err)
			}
			if got := within(t, cookies, "the request"); got != step.want {
				t.Errorf("the cookies are %q, want %q", got, step.want)
			}
		}
		if d := cmp.Diff(http.Header{"Cookie": {"own=0"}}, opts.Header); d != "" {
			t.Errorf("Dial changed its options:\n%s", d)
		}
	})
}

func TestDialTLS(t *testing.T) {
	noLeaks(t)
	l := tls.NewListener(listenTCP(t), &tls.Config{Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"h2", "http/1.1"}})
	srv := serve(t, kind{overTLS.name, func(testing.TB) net.Listener { return l }, nil}, echoHandler(UpgradeOptions{}))
	for _, test := range []struct {
		name   string
		url    string
		config *tls.Config
		want   string // in the error; "": success
	}{
		{"trusted", srv.url("/"), &tls.Config{RootCAs: testRoots(), NextProtos: []string{"h2"}}, ""},
		{"unknown authority", srv.url("/"), nil, "unknown authority"},
		{"unknown authority with a config", srv.url("/"), &tls.Config{}, "unknown authority"},
		{"another name", "wss://" + l.Addr().String(), &tls.Config{RootCAs: testRoots()}, "127.0.0.1"},
		{"the name in the config", "wss://" + l.Addr().String(), &tls.Config{RootCAs: testRoots(), ServerName: "localhost"}, ""},
		{"plain", "ws://" + l.Addr().String(), nil, `"400 Bad Request" instead of 101: "Client sent an HTTP request to an HTTPS server."`},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := test.config.Clone()
			c, _, err := Dial(context.Background(), test.url, DialOptions{TLSConfig: test.config})
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Fatalf("%v, want an error with %q", err, test.want)
				}
				if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok != strings.HasPrefix(test.url, "wss") {
					t.Errorf("%v is a %T", err, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			if got := c.NetConn().(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "http/1.1" {
				t.Errorf("negotiated %q", got)
			}
			if test.config.ServerName != before.ServerName || !slices.Equal(test.config.NextProtos, before.NextProtos) {
				t.Error("Dial changed the config")
			}
			wantEcho(t, c, "hello")
		})
	}
}

// A stage is a point of Dial at which nothing happens any more.
type stage struct {
	name string
	// start starts a server that comes to a stop there, and says so on reached; then on left, when
	// the client has gone. It returns the options to dial localhost with.
	start func(t testing.TB, k kind, reached, left chan<- struct{}) (scheme string, opts DialOptions)
}

// stopping is a stage that a server brings about: it says so much and then no more.
func stopping(name, scheme, proxyScheme string, say func(nc net.Conn)) stage {
	return stage{name, func(t testing.TB, k kind, reached, left chan<- struct{}) (string, DialOptions) {
		srv := dialScript(t, k, func(nc net.Conn) {
			say(nc)
			reached <- struct{}{}
			io.Copy(io.Discard, nc)
			left <- struct{}{}
		})
		opts := DialOptions{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
		opts.DialContext = func(context.Context, string, string) (net.Conn, error) { return srv.kind.dial(srv.listener) }
		if proxyScheme != "" {
			opts.Proxy = proxyURL(proxyScheme + "://user:password@proxy")
		}
		return scheme, opts
	}}
}

var stages = []stage{
	{"dial", func(_ testing.TB, _ kind, reached, left chan<- struct{}) (string, DialOptions) {
		return "ws", DialOptions{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			reached <- struct{}{}
			<-ctx.Done()
			left <- struct{}{}
			return nil, ctx.Err()
		}}
	}},
	stopping("tls", "wss", "", func(net.Conn) {}),
	stopping("proxy", "ws", "http", func(nc net.Conn) { http.ReadRequest(bufio.NewReader(nc)) }),
	stopping("proxy's tls", "ws", "https", func(net.Conn) {}),
	stopping("tls behind the proxy", "wss", "http", func(nc net.Conn) {
		http.ReadRequest(bufio.NewReader(nc))
		io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\n")
	}),
	stopping("socks", "ws", "socks5", func(nc net.Conn) { io.ReadFull(nc, make([]byte, 4)) }),
	stopping("socks password", "ws", "socks5", func(nc net.Conn) {
		io.ReadFull(nc, make([]byte, 4))
		nc.Write([]byte{5, 2})
	}),
	stopping("request", "ws", "", func(nc net.Conn) { nc.Read(make([]byte, 1)) }),
	stopping("handshake", "ws", "", func(nc net.Conn) { http.ReadRequest(bufio.NewReader(nc)) }),
	stopping("head", "ws", "", func(nc net.Conn) {
		http.ReadRequest(bufio.NewReader(nc))
		io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: web")
	}),
}

// unfinished is a stage with an end of its own: the refusal is known, only its body is not all
// there.
var unfinished = stopping("body", "ws", "", func(nc net.Conn) {
	http.ReadRequest(bufio.NewReader(nc))
	io.WriteString(nc, "HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nnot ")
})

func TestDialCancelled(t *testing.T) {
	for _, k := range []kind{overPipe, overTCP} {
		for _, at := range append(stages, unfinished) {
			t.Run(k.name+"/"+at.name, func(t *testing.T) {
				noLeaks(t)
				reached, left := make(chan struct{}, 1), make(chan struct{}, 1)
				scheme, opts := at.start(t, k, reached, left)
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				failed := make(chan error, 1)
				go func() {
					c, _, err := Dial(ctx, scheme+"://localhost/", opts)
					if c != nil {
						t.Error("a connection")
					}
					failed <- err
				}()
				within(t, reached, "coming so far")
				cancel(errors.New("a reason"))
				if err := within(t, failed, "Dial"); !errors.Is(err, context.Canceled) || errors.Is(err, ErrTimeout) {
					t.Errorf("%v, want ctx's error", err)
				}
				within(t, left, "the connection to be closed")
			})
		}
	}
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _, err := Dial(ctx, "ws://localhost/", DialOptions{DialContext: func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialed")
			return nil, net.ErrClosed
		}})
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestDialTimeout(t *testing.T) {
	slow := func(answer string) func(nc net.Conn) { // 49, the other way round
		return func(nc net.Conn) {
			http.ReadRequest(bufio.NewReader(nc))
			for _, b := range []byte(answer) {
				second, cancel := context.WithTimeout(context.Background(), time.Second)
				<-second.Done()
				cancel()
				if _, err := nc.Write([]byte{b}); err != nil {
					return
				}
			}
		}
	}
	for _, at := range append(stages, stopping("slow head", "ws", "", slow("HTTP/1.1 101 Switching Protocols\r\n"))) {
		for _, test := range []struct {
			name           string
			option, onCtx  time.Duration
			lasts          time.Duration
			matches, never error
		}{
			{"default", 0, 0, 10 * time.Second, ErrTimeout, context.DeadlineExceeded},
			{"option", time.Minute, 0, time.Minute, ErrTimeout, context.DeadlineExceeded},
			{"option before ctx", time.Minute, time.Hour, time.Minute, ErrTimeout, context.DeadlineExceeded},
			{"ctx", 0, 3 * time.Second, 3 * time.Second, context.DeadlineExceeded, ErrTimeout},
			{"ctx in the past", 0, -time.Second, 0, context.DeadlineExceeded, ErrTimeout},
		} {
			t.Run(at.name+"/"+test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					scheme, opts := at.start(t, overPipe, make(chan struct{}, 1), make(chan struct{}, 1))
					opts.HandshakeTimeout = test.option
					ctx := context.Background()
					if test.onCtx != 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, test.onCtx)
						defer cancel()
					}
					began := time.Now()
					_, _, err := Dial(ctx, scheme+"://localhost/", opts)
					if !errors.Is(err, test.matches) || errors.Is(err, test.never) || time.Since(began) != test.lasts {
						t.Errorf("%v after %v, want %v after %v", err, time.Since(began), test.matches, test.lasts)
					}
				})
			})
		}
	}
}

// The same by the real clock.
func TestDialTimeoutTCP(t *testing.T) {
	for _, at := range stages {
		t.Run(at.name, func(t *testing.T) {
			noLeaks(t)
			left := make(chan struct{}, 1)
			scheme, opts := at.start(t, overTCP, make(chan struct{}, 1), left)
			opts.HandshakeTimeout = 30 * time.Millisecond
			if _, _, err := Dial(context.Background(), scheme+"://localhost/", opts); !errors.Is(err, ErrTimeout) {
				t.Errorf("%v, want ErrTimeout", err)
			}
			within(t, left, "the connection to be closed")

			scheme, opts = at.start(t, overTCP, make(chan struct{}, 1), left)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
			defer cancel()
			if _, _, err := Dial(ctx, scheme+"://localhost/", opts); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%v, want DeadlineExceeded", err)
			}
			within(t, left, "the connection to be closed")
		})
	}
}

// lateContext has a deadline that has passed, and does not know it yet.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Unix(1, 0), true }

// The network reads the clock too, and may see a deadline pass a moment before the context does.
func TestDialTimeoutSeenFirstByNetwork(t *testing.T) {
	_, _, err := Dial(lateContext{context.Background()}, "ws://localhost/", DialOptions{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, os.ErrDeadlineExceeded },
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A refusal is reported though its body does not end.
func TestDialUnfinishedBody(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Second / 2} {
		synctest.Test(t, func(t *testing.T) {
			scheme, opts := unfinished.start(t, overPipe, make(chan struct{}, 1), make(chan struct{}, 1))
			opts.HandshakeTimeout = timeout
			began := time.Now()
			_, resp, err := Dial(context.Background(), scheme+"://localhost/", opts)
			if _, ok := errors.AsType[*HandshakeError](err); !ok || resp.StatusCode != 403 || !strings.Contains(err.Error(), `"not"`) {
				t.Errorf("%v", err)
			}
			if d := time.Since(began); d > refusalBodyTimeout {
				t.Errorf("after %v", d)
			}
		})
	}
}

// A context that ends after Dial, or a HandshakeTimeout that has passed, is nothing to the Conn.
func TestDialThenCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := serve(t, overPipe, echoHandler(UpgradeOptions{}))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		c, _, err := Dial(ctx, srv.url("/"), srv.trusting(DialOptions{HandshakeTimeout: time.Second}))
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		<-ctx.Done()
		synctest.Wait()
		wantEcho(t, c, "hello")
	})
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv := serve(t, k, echoHandler(UpgradeOptions{}))
		c, _, err := srv.dial(t, "/", DialOptions{}) // which cancels its context
		if err != nil {
			t.Fatal(err)
		}
		wantEcho(t, c, "hello")
	})
}

// splice passes bytes on between two connections until both directions have ended.
func splice(a, b net.Conn) {
	var there sync.WaitGroup
	there.Go(func() {
		io.Copy(b, a)
		b.Close()
	})
	io.Copy(a, b)
	a.Close()
	there.Wait()
}

// httpProxy starts a proxy that knows CONNECT, for who has the password "sesame". It says where it
// connects to.
func httpProxy(t testing.TB, k kind, targets chan<- string) *server {
	return dialScript(t, k, func(nc net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			return
		}
		if want := "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:sesame")); r.Header.Get("Proxy-Authorization") != want {
			io.WriteString(nc, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 9\r\n\r\nwho's it?")
			return
		}
		if r.Method != http.MethodConnect || r.Header.Get("Authorization") != "" {
			io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\n\r\n")
			return
		}
		targets <- r.RequestURI + " " + r.Host
		server, err := net.Dial("tcp", r.RequestURI)
		if err != nil {
			io.WriteString(nc, "HTTP/1.1 502 Bad Gateway\r\n\r\n"+strings.Repeat("no ", 1000))
			return
		}
		io.WriteString(nc, "HTTP/1.1 200 Connection established\r\n\r\n")
		splice(nc, server)
	})
}

// socksProxy is the same, with RFC 1928 and RFC 1929.
func socksProxy(t testing.TB, targets chan<- string) *server {
	return dialScript(t, overTCP, func(nc net.Conn) {
		counted := func() []byte { // a length and so many bytes
			var n [1]byte
			io.ReadFull(nc, n[:])
			b := make([]byte, n[0])
			io.ReadFull(nc, b)
			return b
		}
		take := func(want ...byte) bool {
			got := make([]byte, len(want))
			_, err := io.ReadFull(nc, got)
			return err == nil && bytes.Equal(got, want)
		}
		if !take(5) {
			return
		}
		if !bytes.Contains(counted(), []byte{2}) {
			nc.Write([]byte{5, 0xFF})
			return
		}
		nc.Write([]byte{5, 2})
		if !take(1) {
			return
		}
		if user, password := counted(), counted(); string(user) != "ann" || string(password) != "sesame" {
			nc.Write([]byte{1, 1})
			return
		}
		nc.Write([]byte{1, 0})
		if !take(5, 1, 0, 3) {
			return
		}
		host, port := string(counted()), make([]byte, 2)
		io.ReadFull(nc, port)
		target := net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1])))
		targets <- target + " " + target
		server, err := net.Dial("tcp", target)
		if err != nil {
			nc.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		nc.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 80})
		splice(nc, server)
	})
}

func TestDialProxy(t *testing.T) {
	type proxy struct {
		scheme string
		start  func(t testing.TB, targets chan<- string) *server
	}
	for _, p := range []proxy{
		{"http", func(t testing.TB, targets chan<- string) *server { return httpProxy(t, overTCP, targets) }},
		{"https", func(t testing.TB, targets chan<- string) *server { return httpProxy(t, overTLS, targets) }},
		{"socks5", socksProxy},
		{"socks5h", socksProxy},
	} {
		for _, k := range []kind{overTCP, overTLS} {
			t.Run(p.scheme+"/"+k.name, func(t *testing.T) {
				noLeaks(t)
				targets := make(chan string, 1)
				through := p.start(t, targets)
				srv := serve(t, k, echoHandler(UpgradeOptions{}))
				via := func(user string) DialOptions {
					return DialOptions{Proxy: proxyURL(p.scheme + "://" + user + through.hostport())}
				}
				c, _, err := srv.dial(t, "/", via("ann:sesame@"))
				if err != nil {
					t.Fatal(err)
				}
				if got, want := within(t, targets, "the proxy"), srv.hostport()+" "+srv.hostport(); got != want {
					t.Errorf("the proxy was asked for %q, want %q", got, want)
				}
				if _, plain := c.NetConn().(*net.TCPConn); plain != (p.scheme != "https" && k.name == overTCP.name) {
					t.Errorf("the network connection is a %T", c.NetConn())
				}
				wantEcho(t, c, "hello")
				if err := c.Close(StatusNormalClosure, ""); err != nil {
					t.Error(err)
				}

				for _, user := range []string{"", "ann:wrong@"} {
					_, resp, err := srv.dial(t, "/", via(user))
					if err == nil || !strings.Contains(err.Error(), "the proxy "+through.hostport()+": ") || strings.Contains(err.Error(), "wrong") {
						t.Errorf("as %q: %v", user, err)
					}
					wantProxyRefusal(t, resp, err, p.scheme, 407, "who's it?")
				}

				// A server that is not there.
				nobody := listenTCP(t)
				srv.listener, nobody = nobody, srv.listener
				srv.listener.Close()
				_, resp, err := srv.dial(t, "/", via("ann:sesame@"))
				srv.listener = nobody
				wantProxyRefusal(t, resp, err, p.scheme, 502, strings.Repeat("no ", 1000)[:1024])
			})
		}
	}
}

// wantProxyRefusal expects an error that is a HandshakeError if the proxy can say more than no.
func wantProxyRefusal(t testing.TB, resp *http.Response, err error, scheme string, status int, body string) {
	t.Helper()
	e, ok := errors.AsType[*HandshakeError](err)
	if err == nil || ok != strings.HasPrefix(scheme, "http") {
		t.Fatalf("%T %v", err, err)
	}
	if !ok {
		return
	}
	got, _ := io.ReadAll(resp.Body)
	if e.Response != resp || resp.StatusCode != status || string(got) != body || resp.Request.Method != http.MethodConnect {
		t.Errorf("%s %q", resp.Status, got)
	}
	if !strings.Contains(err.Error(), strconv.Itoa(status)) || !strings.Contains(err.Error(), body[:9]) {
		t.Error(err)
	}
}

// A tunnel carries nothing before the client has spoken: what a proxy adds to its answer is not the
// server's.
func TestDialProxyTalksTooMuch(t *testing.T) {
	noLeaks(t)
	through := dialScript(t, overTCP, func(nc net.Conn) {
		http.ReadRequest(bufio.NewReader(nc))
		io.WriteString(nc, "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n")
		io.Copy(io.Discard, nc)
	})
	_, _, err := Dial(context.Background(), "ws://server.example/", DialOptions{Proxy: proxyURL("http://" + through.hostport())})
	if err == nil || !strings.Contains(err.Error(), "behind its answer") {
		t.Error(err)
	}
}

// An https proxy is verified by its own name, not by the ServerName that the server has.
func TestDialProxyName(t *testing.T) {
	noLeaks(t)
	through := httpProxy(t, overTLS, make(chan string, 1))
	_, _, err := Dial(context.Background(), "wss://server.example/", DialOptions{
		Proxy:     proxyURL("https://ann:wrong@" + through.hostport()),
		TLSConfig: &tls.Config{RootCAs: testRoots(), ServerName: "server.example"},
	})
	if e, ok := errors.AsType[*HandshakeError](err); !ok || e.Response.StatusCode != http.StatusProxyAuthRequired {
		t.Error(err)
	}
}

// The answer comes in the moment in which ctx ends: Dial returns a connection that is whole, or
// ctx's error.
func TestDialCancelRace(t *testing.T) {
	noLeaks(t)
	cancels := make(chan context.CancelFunc, 1)
	srv := dialScript(t, overTCP, func(nc net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			return
		}
		cancel := <-cancels
		io.WriteString(nc, switching(acceptKey(r.Header.Get("Sec-WebSocket-Key"))))
		cancel()
		if _, err := nc.Read(make([]byte, 100)); err == nil {
			io.WriteString(nc, "\x81\x02hi")
			io.Copy(io.Discard, nc)
		}
	})
	for i := range 300 {
		ctx, cancel := context.WithCancel(context.Background())
		cancels <- func() {
			for range i { // up to the time that Dial takes for the answer
				acceptKey("")
			}
			cancel()
		}
		c, _, err := Dial(ctx, srv.url("/"), DialOptions{})
		cancel()
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			continue
		}
		(&client{c, t, ""}).send("hello")
		(&client{c, t, ""}).want("hi")
		c.CloseNow()
	}
}

// answeredConn is a network connection whose other end has said all that it will.
type answeredConn struct {
	net.Conn
	io.Reader
}

func (c answeredConn) Read(p []byte) (int, error)      { return c.Reader.Read(p) }
func (c answeredConn) Write(p []byte) (int, error)     { return len(p), nil }
func (c answeredConn) SetReadDeadline(time.Time) error { return nil }

// Whatever a server answers is a connection or an error, the same in any pieces; and what is behind
// the head of an answer is neither lost nor changed.
func FuzzDialAnswer(f *testing.F) {
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	right := switching(acceptKey(key))
	f.Add([]byte(right))
	f.Add([]byte(switching(acceptKey(key), "Sec-WebSocket-Protocol: v1", "Content-Length: 3") + "\x81\x01x"))
	f.Add([]byte("HTTP/1.1 103 x\r\n\r\n" + right))
	f.Add([]byte("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 302\r\nLocation: /\r\n\r\nx"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		read := func(r io.Reader) string {
			nc := answeredConn{Reader: r}
			req, err := http.NewRequest(http.MethodGet, "http://h/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, br, err := exchange(nc, req)
			if err != nil {
				return "" // whose wording may depend on the pieces
			}
			if reason := checkResponse(resp, key, []string{"v1"}); reason != "" {
				e := newHandshakeError(nc, resp, reason)
				if len(e.Error()) > 8<<10 {
					t.Errorf("an error of %d bytes", len(e.Error()))
				}
				return e.Error()
			}
			if !bytes.Contains(answer, []byte(acceptKey(key))) {
				t.Error("accepted without the right key")
			}
			rest, _ := io.ReadAll(io.MultiReader(io.LimitReader(br, int64(br.Buffered())), r))
			if !bytes.HasSuffix(answer, rest) || len(rest) < len(answer) && !bytes.HasSuffix(answer[:len(answer)-len(rest)], []byte("\n")) {
				t.Errorf("the rest is %q", rest)
			}
			return "accepted, then " + string(rest)
		}
		whole, bytewise := read(bytes.NewReader(answer)), read(iotest.OneByteReader(bytes.NewReader(answer)))
		if whole != bytewise {
			t.Errorf("whole:    %q\nbytewise: %q", whole, bytewise)
		}
	})
}
