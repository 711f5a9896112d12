package atrium

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium/atriumtest"
)

// A kind is a way to connect: the same behaviour is tested over all of them.
type kind struct {
	name   string
	listen func(t testing.TB) net.Listener
	dial   func(l net.Listener) (net.Conn, error)
}

var (
	overPipe = kind{"pipe", func(testing.TB) net.Listener { return atriumtest.Listen() }, dialPipe}
	overTCP  = kind{"tcp", listenTCP, dialTCP}
	overTLS  = kind{"tls", listenTLS, dialTLS}
	kinds    = []kind{overPipe, overTCP, overTLS}
)

// overKinds runs a test once for each kind of connection.
func overKinds(t *testing.T, test func(t *testing.T, k kind)) { over(t, kinds, test) }

// overPlain is overKinds without TLS, for long tables: its handshakes take longer than all else in them, and its
// connections go the way of a pipe's.
func overPlain(t *testing.T, test func(t *testing.T, k kind)) {
	over(t, []kind{overPipe, overTCP}, test)
}

func over(t *testing.T, kinds []kind, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func listenTCP(t testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dialTCP(l net.Listener) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }

// testCertificate is valid whenever: the first who asks may do so in a synctest bubble, where it is the year 2000.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func listenTLS(t testing.TB) net.Listener {
	return tls.NewListener(listenTCP(t), &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
}

func dialTLS(l net.Listener) (net.Conn, error) {
	return tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // a test's own certificate
}

// dialPipe opens a connection in memory, which testing/synctest understands.
func dialPipe(l net.Listener) (net.Conn, error) {
	return l.(*atriumtest.Listener).DialContext(context.Background(), "pipe", "")
}

// server is an http.Server with one handler.
type server struct {
	kind     kind
	listener net.Listener
}

// serve starts a server that ends with the test.
func serve(t testing.TB, k kind, handler http.Handler) *server {
	return serveWith(t, k, handler, 10*time.Second)
}

// serveWith is serve with a ReadHeaderTimeout.
func serveWith(t testing.TB, k kind, handler http.Handler, headers time.Duration) *server {
	l := k.listen(t)
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: headers, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(l)
	}()
	t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return &server{k, l}
}

// raw opens a network connection to the server.
func (s *server) raw(t testing.TB) net.Conn {
	t.Helper()
	nc, err := s.kind.dial(s.listener)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

const handshakeHead = "GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// upgrade performs the opening handshake with additional header lines and returns the connection and what the
// server sent behind its response.
func (s *server) upgrade(t testing.TB, lines ...string) (net.Conn, []byte) {
	t.Helper()
	nc := s.raw(t)
	r := request(t, nc, handshakeHead+strings.Join(append(lines, "", ""), "\r\n"))
	if r.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(r.Body)
		t.Fatalf("handshake: %s %s", r.Status, body)
	}
	return nc, r.rest
}

type answer struct {
	*http.Response
	rest []byte // read behind the response's head
}

// request writes a raw request and reads the response.
func request(t testing.TB, nc net.Conn, raw string) answer {
	t.Helper()
	go io.WriteString(nc, raw) // a pipe takes as much as the other end reads
	br := bufio.NewReader(nc)
	r, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	rest, _ := br.Peek(br.Buffered())
	return answer{r, rest}
}

// conn connects a client.
func (s *server) conn(t testing.TB, lines ...string) *Conn {
	t.Helper()
	nc, early := s.upgrade(t, lines...)
	c := newConn(nc, connConfig{client: true, readLimit: 64 << 20, maxQueued: 64 << 20, early: early})
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// client is a plain client of a Hub.
type client struct {
	*Conn
	t   testing.TB
	sid string
}

// connect connects a plain client; unless auth is nil, with that first.
func (s *server) connect(t testing.TB, auth any, lines ...string) *client {
	t.Helper()
	if auth != nil {
		lines = append(lines, "Sec-WebSocket-Protocol: atrium")
	}
	c := &client{s.conn(t, lines...), t, ""}
	if auth != nil {
		c.emit("connect", auth)
	}
	var hello struct{ Sid string }
	c.expect("connect", &hello)
	c.sid = hello.Sid
	return c
}

// send sends a text as it is.
func (c *client) send(text string) {
	c.t.Helper()
	if err := c.Write(context.Background(), OpText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) emit(event string, data any) {
	c.t.Helper()
	b, err := json.Marshal(map[string]any{"event": event, "data": data})
	if err != nil {
		c.t.Fatal(err)
	}
	c.send(string(b))
}

// next returns the next message as it came. A client that hears nothing for ten seconds has failed.
func (c *client) next() string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, p, err := c.Read(ctx)
	if err != nil {
		c.t.Fatalf("waiting for a message: %v", err)
	}
	return string(p)
}

// want expects the next message to be this one.
func (c *client) want(message string) {
	c.t.Helper()
	if got := c.next(); got != message {
		c.t.Fatalf("got  %s\nwant %s", got, message)
	}
}

// settled is the answer that settle waits for.
const settled = `{"id":999,"error":{"message":"event: \"settle\" is not one that this server knows"}}`

// settle waits until the hub has handled all that it got from the client before, OnConnect included.
func (c *client) settle() {
	c.t.Helper()
	c.send(`{"event":"settle","id":999}`)
	c.want(settled)
}

// expect expects the next message to be an event, whose data it decodes.
func (c *client) expect(event string, data any) {
	c.t.Helper()
	var m struct {
		Event string
		Data  json.RawMessage
	}
	raw := c.next()
	if err := json.Unmarshal([]byte(raw), &m); err != nil || m.Event != event {
		c.t.Fatalf("got %s, want the event %q (%v)", raw, event, err)
	}
	if err := json.Unmarshal(m.Data, data); err != nil {
		c.t.Fatal(err)
	}
}

// wantClosed expects the connection to end with the code, with nothing before it.
func (c *client) wantClosed(code StatusCode) {
	c.t.Helper()
	wantClosed(c.t, c.Conn, code)
}

func wantClosed(t testing.TB, c *Conn, code StatusCode) *CloseError {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, p, err := c.Read(ctx)
	e, ok := errors.AsType[*CloseError](err)
	if !ok || e.Code != code {
		t.Fatalf("got %q, %v; want the connection to be closed with status %d", p, err, code)
	}
	return e
}

// newHub returns a hub that is shut down, and must leave nothing behind, at the test's end.
func newHub(t testing.TB, options Options) *Hub {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	h := New(options)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil && !errors.Is(err, ErrBus) { // a test may have its Bus fail
			t.Error(err)
		}
		h.sessions.clock.mu.Lock()
		defer h.sessions.clock.mu.Unlock()
		h.Namespace.checkEmpty(t)
	})
	return h
}

// checkEmpty checks that nobody has left anything in the namespace.
func (n *Namespace) checkEmpty(t testing.TB) {
	t.Helper()
	n.mu.RLock()
	defer n.mu.RUnlock()
	if len(n.byID) != 0 || len(n.rooms) != 0 || n.everyone.count() != 0 {
		t.Errorf("left in the namespace: %d sockets, %d rooms, %d members", len(n.byID), len(n.rooms), n.everyone.count())
	}
}

// noLeaks fails the test if goroutines of this package are left when everything else is cleaned up. Call it first.
func noLeaks(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			left := packageGoroutines()
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			<-time.After(time.Millisecond)
		}
	})
}

// packageGoroutines returns the stacks of goroutines that run this package's code, but not its tests.
func packageGoroutines() []string {
	stacks := make([]byte, 16<<10)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 4*len(stacks))
	}
	var left []string
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "atrium.(*") && !strings.Contains(stack, "atrium.noLeaks") && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return left
}

// within fails the test if the channel is not ready in ten seconds.
func within[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out: %s", what)
		panic("unreachable")
	}
}
