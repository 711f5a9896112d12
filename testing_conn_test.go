package atrium

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A setup is how a Conn under test comes to be: over a kind of connection and in a role.
type setup struct {
	kind   kind
	client bool // the Conn is the client; otherwise it is the server's, made by Upgrade
}

// overSetups runs a test once for each kind of connection and each role.
func overSetups(t *testing.T, test func(t *testing.T, s setup)) { overKinds(t, inBothRoles(test)) }

// overRoles is overSetups without TLS, for long tables; see overPlain.
func overRoles(t *testing.T, test func(t *testing.T, s setup)) { overPlain(t, inBothRoles(test)) }

func inBothRoles(test func(t *testing.T, s setup)) func(t *testing.T, k kind) {
	return func(t *testing.T, k kind) {
		t.Run("server", func(t *testing.T) { test(t, setup{k, false}) })
		t.Run("client", func(t *testing.T) { test(t, setup{k, true}) })
	}
}

// start connects a Conn and its peer.
func (s setup) start(t testing.TB, opts UpgradeOptions) (*Conn, *peer) {
	t.Helper()
	if s.client {
		near, far := s.kind.netConns(t)
		return startClient(t, near, opts), newPeer(t, far, nil, false)
	}
	conns := make(chan *Conn, 1)
	srv := serve(t, s.kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Upgrade(w, r, opts)
		if err != nil {
			t.Error(err)
			return
		}
		conns <- c
	}))
	nc, early := srv.upgrade(t)
	c := within(t, conns, "Upgrade")
	t.Cleanup(func() { c.CloseNow() })
	return c, newPeer(t, nc, early, true)
}

func startClient(t testing.TB, nc net.Conn, opts UpgradeOptions) *Conn {
	c := newConn(nc, connConfig{client: true, readLimit: opts.MaxMessageBytes, maxQueued: opts.MaxQueuedBytes, closeTimeout: opts.CloseTimeout})
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// startPipe is start for use in a synctest bubble: over net.Pipe, without an HTTP server.
func startPipe(t testing.TB, client bool, opts UpgradeOptions) (*Conn, *peer) {
	near, far := net.Pipe()
	c := startClient(t, near, opts)
	c.client = client
	return c, newPeer(t, far, nil, !client)
}

// A peer is the other end of a Conn under test. It sends what it is told to, legal or not, and
// never reads unless told to. Its methods are for the test's goroutine.
type peer struct {
	t      testing.TB
	nc     net.Conn
	in     *bufio.Reader
	client bool // the peer is the client: its frames are masked, the Conn's are not
	out    chan segment
}

// A segment is what is handed to the network in one write.
type segment struct {
	b    []byte
	left chan struct{} // closed when b was written, if it could be
}

func newPeer(t testing.TB, nc net.Conn, early []byte, client bool) *peer {
	p := &peer{t: t, nc: nc, client: client, out: make(chan segment, 1<<14)}
	p.in = bufio.NewReader(io.MultiReader(bytes.NewReader(early), nc))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := range p.out {
			p.nc.Write(s.b) // a test that cares sees the consequences
			if s.left != nil {
				close(s.left)
			}
		}
	}()
	t.Cleanup(func() {
		close(p.out)
		nc.Close()
		<-done
	})
	return p
}

// send hands segments to the network, in order, and does not wait.
func (p *peer) send(segments ...[]byte) {
	for _, b := range segments {
		p.out <- segment{b: b}
	}
}

// sent is closed when all that send was given is written. On a pipe written means read.
func (p *peer) sent() <-chan struct{} {
	left := make(chan struct{})
	p.out <- segment{left: left}
	return left
}

// untilSent is a context that ends when all that send was given is written.
func (p *peer) untilSent() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	sent := p.sent()
	go func() {
		<-sent
		cancel()
	}()
	return ctx
}

// frame returns a whole message, or a control frame.
func (p *peer) frame(op opcode, payload string) []byte {
	return p.encode(frameHeader{Fin: true, Opcode: op}, payload)
}

// part returns a fragment that others follow.
func (p *peer) part(op opcode, payload string) []byte {
	return p.encode(frameHeader{Opcode: op}, payload)
}

// encode returns any frame; the mask and the length are seen to.
func (p *peer) encode(h frameHeader, payload string) []byte {
	h.Length = int64(len(payload))
	h.Masked, h.Key = p.client, [4]byte{}
	if p.client {
		h.Key = [4]byte{0x37, 0xfa, 0x21, 0x3d} // the one of RFC 6455 §5.7
	}
	return encodeFrame(h, payload)
}

func encodeFrame(h frameHeader, payload string) []byte {
	b := appendHeader(nil, h)
	n := len(b)
	b = append(b, payload...)
	if h.Masked {
		mask(b[n:], h.Key, 0)
	}
	return b
}

// read returns the next frame that the Conn has sent, unmasked.
func (p *peer) read() (frameHeader, string, error) {
	p.nc.SetReadDeadline(time.Now().Add(patience))
	var head []byte
	for {
		b, err := p.in.ReadByte()
		if err != nil {
			if len(head) > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return frameHeader{}, "", err
		}
		head = append(head, b)
		h, n, err := parseHeader(head)
		if err != nil {
			return frameHeader{}, "", err
		}
		if n == 0 {
			continue
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(p.in, payload); err != nil {
			return frameHeader{}, "", err
		}
		if h.Masked == p.client { // RFC 6455 §5.1
			return frameHeader{}, "", fmt.Errorf("masked is %t on a frame to a peer whose client is %t", h.Masked, p.client)
		}
		if h.Masked {
			mask(payload, h.Key, 0)
		}
		return h, string(payload), nil
	}
}

// next is read for a frame that must come.
func (p *peer) next() (frameHeader, string) {
	p.t.Helper()
	h, payload, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for a frame: %v", err)
	}
	return h, payload
}

// want expects the next frame, whole and with no reserved bit.
func (p *peer) want(op opcode, payload string) {
	p.t.Helper()
	h, got := p.next()
	if h.Opcode != op || got != payload || !h.Fin || h.Rsv1 || h.Rsv2 || h.Rsv3 {
		p.t.Fatalf("got %+v %.200q\nwant %v %.200q", h, got, op, payload)
	}
}

// wantClose expects the next frame to be a close frame.
func (p *peer) wantClose(code StatusCode, reason string) {
	p.t.Helper()
	p.want(opClose, closePayload(code, reason))
}

// wantCloseCode is wantClose with any reason.
func (p *peer) wantCloseCode(code StatusCode) {
	p.t.Helper()
	h, got := p.next()
	if h.Opcode != opClose || len(got) < 2 || StatusCode(binary.BigEndian.Uint16([]byte(got))) != code {
		p.t.Fatalf("got %v %q, want a close frame with %d", h.Opcode, got, code)
	}
}

// wantEnd expects the Conn to have closed its side of the network connection in good order, behind
// the last frame.
func (p *peer) wantEnd() {
	p.t.Helper()
	if h, payload, err := p.read(); err != io.EOF {
		p.t.Fatalf("got %v %.200q, %v; want the end", h.Opcode, payload, err)
	}
}

// hangUp closes the peer's end of the network connection when all that it sent is written.
func (p *peer) hangUp() {
	p.t.Helper()
	within(p.t, p.sent(), "what the peer sends")
	p.nc.Close()
}

// leave reads until a close frame or the end, in the background, and then closes the peer's end of
// the network connection.
func (p *peer) leave() {
	go func() {
		defer p.nc.Close()
		for {
			if h, _, err := p.read(); err != nil || h.Opcode == opClose {
				return
			}
		}
	}()
}

// closePayload is written apart from the code under test; 0 stands for none.
func closePayload(code StatusCode, reason string) string {
	if code == 0 {
		return ""
	}
	return string([]byte{byte(code >> 8), byte(code)}) + reason
}

// wantMessage expects the Conn to read this message next.
func wantMessage(t testing.TB, c *Conn, op opcode, text string) {
	t.Helper()
	gotOp, p, err := c.Read(limited(t))
	if err != nil || gotOp != MessageType(op) || string(p) != text {
		t.Fatalf("got %v %.200q, %v\nwant %v %.200q", gotOp, p, err, op, text)
	}
}

func mustWrite(t testing.TB, c *Conn, op opcode, text string) {
	t.Helper()
	if err := c.Write(limited(t), MessageType(op), []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// wantAlive checks that messages still go both ways.
func wantAlive(t testing.TB, c *Conn, p *peer) {
	t.Helper()
	if s := c.State(); s != StateOpen {
		t.Fatalf("the state is %v", s)
	}
	p.send(p.frame(opText, "are you there?"))
	wantMessage(t, c, opText, "are you there?")
	mustWrite(t, c, opText, "yes")
	p.want(opText, "yes")
}

// readInBackground reads the Conn until it ends and hands over what it read.
func readInBackground(c *Conn) (messages <-chan string, end <-chan error) {
	texts, ended := make(chan string, 1<<14), make(chan error, 1)
	go func() {
		for {
			_, p, err := c.Read(context.Background())
			if err != nil {
				ended <- err
				return
			}
			texts <- string(p)
		}
	}()
	waitReading(c)
	return texts, ended
}

// waitReading waits until somebody is in Read.
func waitReading(c *Conn) {
	poll(c.in.reading.Load)
}

// fill queues messages until Write would wait, and returns how many there are; the peer does not
// read.
func fill(t testing.TB, c *Conn, size int) (n int) {
	t.Helper()
	for ; n < 10_000; n++ {
		// What a busy machine makes late was not queued either, so the count is right in any case.
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := c.Write(ctx, MessageBinary, []byte(numbered(n, size)))
		cancel()
		if err == context.DeadlineExceeded {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("Write never waits")
	return 0
}

// peer connects a client that answers nothing by itself.
func (s *server) peer(t testing.TB, lines ...string) *peer {
	t.Helper()
	nc, early := s.upgrade(t, lines...)
	return newPeer(t, nc, early, true)
}

// accepted reads the connect message.
func (p *peer) accepted() *peer {
	p.t.Helper()
	if _, m := p.next(); !strings.HasPrefix(m, `{"event":"connect","data":`) {
		p.t.Fatalf("got %s, want the connect message", m)
	}
	return p
}

func wantClosed(t testing.TB, c *Conn, code StatusCode) *CloseError {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, p, err := c.Read(ctx)
	e, ok := errors.AsType[*CloseError](err)
	if !ok || e.Code != code {
		t.Fatalf("got %q, %v; want the connection to be closed with status %d", p, err, code)
	}
	return e
}

// A gatedConn is a network connection that lets one write at a time through, when the test says so.
// It lives in a synctest bubble: when synctest.Wait returns, a drainer is either in a write or
// gone.
type gatedConn struct {
	net.Conn // nil: nothing else is called
	let      chan admission
	current  []byte // the write in progress, or nil
	began    time.Time
	handed   []byte // all that was given to Write
	passed   []byte // all that Write took
	writes   [][]byte
	closed   time.Time // when it was closed
}

// An admission ends a write: with nil, all of it was taken.
type admission struct {
	n   int
	err error
}

func newGatedConn() *gatedConn { return &gatedConn{let: make(chan admission)} }

func (g *gatedConn) Write(p []byte) (int, error) {
	g.current, g.began = p, time.Now()
	g.handed = append(g.handed, p...)
	g.writes = append(g.writes, p)
	a := <-g.let
	if a.err == nil {
		a.n = len(p)
	}
	g.passed = append(g.passed, p[:a.n]...)
	g.current = nil
	return a.n, a.err
}

func (g *gatedConn) Close() error {
	g.closed = time.Now()
	return nil
}

// pass lets the write in progress through and waits for what the drainer does then.
func (g *gatedConn) pass() {
	g.let <- admission{}
	synctest.Wait()
}

// passAll lets everything through.
func (g *gatedConn) passAll() {
	for synctest.Wait(); g.current != nil; {
		g.pass()
	}
}

// numberedFrame returns a frame of n bytes of payload, at least eight, that says which it is.
func numberedFrame(op opcode, number, n int) []byte {
	payload := make([]byte, max(n, 8))
	binary.BigEndian.PutUint64(payload, uint64(number))
	for i := 8; i < n; i++ {
		payload[i] = byte(number + i)
	}
	return encodeFrame(frameHeader{Fin: true, Opcode: op, Length: int64(len(payload))}, string(payload))
}

// closing calls Close and hands over its result.
func closing(c *Conn, code StatusCode, reason string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- c.Close(code, reason) }()
	return done
}

// maskedFrame returns a client's frame with the payload.
func maskedFrame(op opcode, payload string) string {
	return string(encodeFrame(frameHeader{Fin: true, Opcode: op, Masked: true, Length: int64(len(payload))}, payload))
}
