package atrium

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"slices"
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

// overPlain is overKinds without TLS, for long tables: its handshakes take longer than all else in
// them, and its connections go the way of a pipe's.
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

// testCertificate is valid whenever: the first who asks may do so in a synctest bubble, where it is
// the year 2000.
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

// upgrade performs the opening handshake with additional header lines and returns the connection
// and what the server sent behind its response.
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

func bodyOf(t testing.TB, r answer) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// handshake returns a raw opening handshake. Changes are header lines: each replaces the lines of
// that name, one that begins with "+" is added to them, and "-Name" removes them.
func handshake(first string, changes ...string) string {
	lines := []string{"Host: example.com", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}
	for _, change := range changes {
		added, more := strings.CutPrefix(change, "+")
		removed, _ := strings.CutPrefix(change, "-")
		name, _, _ := strings.Cut(removed, ":")
		if !more {
			lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+":") })
		}
		if removed == change {
			lines = append(lines, added)
		}
	}
	return first + "\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

const get = "GET /path?query HTTP/1.1"

// url returns the address to dial, with a path and query.
func (s *server) url(rest string) string {
	switch s.kind.name {
	case overPipe.name:
		return "ws://localhost" + rest
	case overTLS.name:
		return "wss://" + s.hostport() + rest
	}
	return "ws://" + s.hostport() + rest
}

// hostport returns the server's address by its name.
func (s *server) hostport() string {
	_, port, _ := net.SplitHostPort(s.listener.Addr().String())
	return net.JoinHostPort("localhost", port)
}

// trusting returns opts with what it takes to reach the server: its certificate, or its pipe.
func (s *server) trusting(opts DialOptions) DialOptions {
	if opts.TLSConfig == nil {
		opts.TLSConfig = &tls.Config{RootCAs: testRoots()}
	}
	if s.kind.name == overPipe.name && opts.DialContext == nil {
		opts.DialContext = func(context.Context, string, string) (net.Conn, error) { return s.kind.dial(s.listener) }
	}
	return opts
}

// dial dials the server; the test has ten seconds for it.
func (s *server) dial(t testing.TB, rest string, opts DialOptions) (*Conn, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, resp, err := Dial(ctx, s.url(rest), s.trusting(opts))
	if c != nil {
		t.Cleanup(func() { c.CloseNow() })
	}
	if (c == nil) == (err == nil) {
		t.Fatalf("Dial returned %v and %v", c, err)
	}
	return c, resp, err
}

func testRoots() *x509.CertPool {
	certificate, err := x509.ParseCertificate(testCertificate().Certificate[0])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	return roots
}

// dialScript starts a server that leaves each connection to talk, and closes it afterwards. The
// test ends when all of them have ended.
func dialScript(t testing.TB, k kind, talk func(nc net.Conn)) *server {
	l := k.listen(t)
	var talks sync.WaitGroup
	talks.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			talks.Go(func() {
				defer nc.Close()
				talk(nc)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		talks.Wait()
	})
	return &server{k, l}
}

// answering starts a server that answers every request with what answer makes of the right
// Sec-WebSocket-Accept.
func answering(t testing.TB, k kind, answer func(accept string) string) *server {
	return dialScript(t, k, func(nc net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			return
		}
		io.WriteString(nc, answer(acceptKey(r.Header.Get("Sec-WebSocket-Key"))))
		io.Copy(io.Discard, nc) // until the client has gone
	})
}

// switching is the head of a right answer, with additional lines.
func switching(accept string, lines ...string) string {
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n"
	for _, line := range lines {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

// echoHandler sends every message back.
func echoHandler(opts UpgradeOptions) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, opts)
		if err != nil {
			return
		}
		defer c.Close(StatusNormalClosure, "") // CloseNow would overtake the answer to a close frame
		for {
			op, p, err := c.Read(context.Background())
			if err != nil || c.Write(context.Background(), op, p) != nil {
				return
			}
		}
	})
}

// netConns returns the client's and the server's end of a connection.
func (k kind) netConns(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l := k.listen(t)
	accepted := make(chan net.Conn, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			close(accepted)
			return
		}
		if nc, ok := nc.(*tls.Conn); ok {
			nc.Handshake() // the dialer waits for it; an error shows in what follows
		}
		accepted <- nc
	}()
	client, err := k.dial(l)
	if err != nil {
		t.Fatal(err)
	}
	server = within(t, accepted, "Accept")
	l.Close()
	t.Cleanup(func() {
		client.Close()
		server.Close()
	})
	return client, server
}

// scriptedConn is a network connection in memory: reads return its segments and then its end; what
// is written is kept, if it keeps.
type scriptedConn struct {
	net.Conn // nil: nothing else is called
	segments [][]byte
	end      error // nil: io.EOF
	again    bool  // the last segment comes again and again
	reads    int

	mu      sync.Mutex
	keep    bool
	written []byte
	writes  int
}

func (s *scriptedConn) Read(p []byte) (int, error) {
	s.reads++
	if len(s.segments) == 0 {
		return 0, cmp.Or(s.end, io.EOF)
	}
	n := copy(p, s.segments[0])
	if rest := s.segments[0][n:]; len(rest) > 0 {
		if s.again {
			panic("a segment that comes again must fit the read")
		}
		s.segments[0] = rest
	} else if !s.again {
		s.segments = s.segments[1:]
	}
	return n, nil
}

func (s *scriptedConn) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.keep {
		s.written = append(s.written, p...)
	}
	return len(p), nil
}

func (s *scriptedConn) Close() error { return nil }

func (s *scriptedConn) SetDeadline(time.Time) error { return nil }

func (s *scriptedConn) SetReadDeadline(time.Time) error { return nil }

func (s *scriptedConn) SetWriteDeadline(time.Time) error { return nil }

// write writes all of text to nc.
func write(t testing.TB, nc net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(nc, text); err != nil {
		t.Fatal(err)
	}
}
