package fuzz

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// patience is how long an execution may take. What is right takes milliseconds; after ten seconds
// go test would give up without a word.
const patience = 5 * time.Second

// guard watches one execution, which calls what it returns at its end: it ends the process if the
// execution hangs, and fails the test if goroutines are left.
func guard(t *testing.T) (done func()) {
	before := runtime.NumGoroutine()
	dog := time.AfterFunc(patience, func() {
		debug.SetTraceback("all")
		panic("an execution hangs")
	})
	return func() {
		dog.Stop()
		for start := time.Now(); runtime.NumGoroutine() > before; runtime.Gosched() { // they are on their way out
			if time.Since(start) > patience/2 {
				stacks := make([]byte, 1<<16)
				t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
			}
		}
	}
}

// medium is what connections are made of. A Conn treats the two differently: it reads and writes
// sockets when they are ready, and anything else in the portable way.
type medium bool

const (
	overPipe   medium = false
	overSocket medium = true
)

// network makes connections that have both ends here. There is one for all executions of a target.
type network struct {
	sockets net.Listener
}

func newNetwork(f *testing.F) *network {
	dir, err := os.MkdirTemp("", "atrium") // f.TempDir is too long a name for a socket
	if err != nil {
		f.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		l.Close()
		os.RemoveAll(dir)
	})
	return &network{l}
}

// connect returns the two ends of a new connection.
func (n *network) connect(t testing.TB, m medium) (near, far net.Conn) {
	if m == overPipe {
		return net.Pipe()
	}
	near, err := net.Dial("unix", n.sockets.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = n.sockets.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// hangUp ends the sending direction, and on a pipe, which has no such thing, both.
func hangUp(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		return
	}
	nc.Close()
}

// server is a net/http server of connections that are handed to it.
type server struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func serve(f *testing.F, handler http.Handler) *server {
	s := &server{accept: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	srv.SetKeepAlivesEnabled(false)
	over := make(chan struct{})
	go func() {
		defer close(over)
		srv.Serve(s)
	}()
	f.Cleanup(func() {
		srv.Close()
		<-over
	})
	return s
}

func (s *server) Accept() (net.Conn, error) {
	select {
	case nc := <-s.accept:
		return nc, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *server) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

func (s *server) Addr() net.Addr { return &net.UnixAddr{Name: "here", Net: "unix"} }

// upgrader is a server that makes a Conn of each connection.
type upgrader struct {
	*server
	options  atrium.UpgradeOptions // set before a connection is handed over
	upgraded chan *atrium.Conn
}

func newUpgrader(f *testing.F) *upgrader {
	u := &upgrader{upgraded: make(chan *atrium.Conn)}
	u.server = serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := atrium.Upgrade(w, r, u.options)
		if err != nil {
			panic(fmt.Sprintf("Upgrade: %v", err)) // in net/http's log, and the execution hangs
		}
		u.upgraded <- conn
	}))
	return u
}

// role is which end of a connection a Conn is.
type role bool

const (
	asServer role = false
	asClient role = true
)

// peer is the raw other end of a Conn.
type peer struct {
	net.Conn
	in *bufio.Reader // what the Conn sends
}

const (
	request = "GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	response = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)

// level turns compression on, or leaves it off.
func level(compression bool) atrium.Compression {
	if compression {
		return atrium.Compression{Level: 1}
	}
	return atrium.Compression{}
}

// extensions is the header line for compression, both as an offer and as an answer.
func extensions(compression bool) string {
	if !compression {
		return ""
	}
	return "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
}

// open makes a Conn and its peer. send runs in a goroutine of its own and writes all that the peer
// sends, beginning with head, which is its part of the handshake.
func (u *upgrader) open(t *testing.T, n *network, m medium, r role, limit int, compression bool, send func(nc net.Conn, head string)) (*atrium.Conn, *peer) {
	near, far := n.connect(t, m)
	p := &peer{near, bufio.NewReaderSize(near, 512)}
	if r == asServer {
		u.options = atrium.UpgradeOptions{MaxMessageBytes: int64(limit), Compression: level(compression)}
		u.accept <- far
		go send(near, request+extensions(compression)+"\r\n")
		p.readHead(t)
		return <-u.upgraded, p
	}
	go func() {
		req, err := http.ReadRequest(p.in)
		if err != nil {
			panic(err)
		}
		send(near, response+acceptKey(req.Header.Get("Sec-WebSocket-Key"))+"\r\n"+extensions(compression)+"\r\n")
	}()
	return dial(t, far, atrium.DialOptions{MaxMessageBytes: int64(limit), Compression: level(compression)}), p
}

// dial makes a client's Conn of a network connection.
func dial(t testing.TB, nc net.Conn, options atrium.DialOptions) *atrium.Conn {
	options.Proxy = noProxy
	options.DialContext = func(context.Context, string, string) (net.Conn, error) { return nc, nil }
	conn, _, err := atrium.Dial(context.Background(), "ws://here/", options)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// acceptKey is RFC 6455 §4.2.2, item 5.4.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// readHead reads the response up to its empty line.
func (p *peer) readHead(t *testing.T) {
	for first := true; ; first = false {
		line, err := p.in.ReadString('\n')
		switch {
		case err != nil || first && !strings.HasPrefix(line, "HTTP/1.1 101 "):
			t.Fatalf("the handshake is answered with %q, %v", line, err)
		case line == "\r\n":
			return
		}
	}
}

// readAll reads what the Conn sends until it closes, and answers a close frame with goodbye and by
// hanging up.
func (p *peer) readAll(goodbye []byte) []byte {
	defer p.Close()
	var sent []byte
	seen := 0 // the frames before it are whole
	buf := make([]byte, 4096)
	for {
		n, err := p.in.Read(buf)
		sent = append(sent, buf[:n]...)
		if err != nil {
			return sent
		}
		for {
			h, size, state := slowHeader(sent[seen:])
			if state != wholeHeader || h.Length > int64(len(sent)-seen-size) {
				break
			}
			seen += size + int(h.Length)
			if h.Opcode == opClose {
				p.Write(goodbye)
				hangUp(p.Conn)
			}
		}
	}
}

// asCloseError is for errors that must be one.
func asCloseError(t *testing.T, err error) *atrium.CloseError {
	e, ok := errors.AsType[*atrium.CloseError](err)
	if !ok {
		t.Errorf("a Conn ended with %v, which is no CloseError", err)
		return &atrium.CloseError{}
	}
	return e
}
