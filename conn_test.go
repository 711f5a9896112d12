package atrium

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
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
		c, err := Upgrade(w, r, &opts)
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
	c := newConn(nc, connConfig{client: true, readLimit: opts.ReadLimit, maxQueued: opts.MaxQueued, closeTimeout: opts.CloseTimeout})
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

// A peer is the other end of a Conn under test. It sends what it is told to, legal or not, and never reads unless
// told to. Its methods are for the test's goroutine.
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
func (p *peer) frame(op Opcode, payload string) []byte {
	return p.encode(Header{Fin: true, Opcode: op}, payload)
}

// part returns a fragment that others follow.
func (p *peer) part(op Opcode, payload string) []byte {
	return p.encode(Header{Opcode: op}, payload)
}

// encode returns any frame; the mask and the length are seen to.
func (p *peer) encode(h Header, payload string) []byte {
	h.Length = int64(len(payload))
	h.Masked, h.Key = p.client, [4]byte{}
	if p.client {
		h.Key = [4]byte{0x37, 0xfa, 0x21, 0x3d} // the one of RFC 6455 §5.7
	}
	return encodeFrame(h, payload)
}

func encodeFrame(h Header, payload string) []byte {
	b := AppendHeader(nil, h)
	n := len(b)
	b = append(b, payload...)
	if h.Masked {
		Mask(b[n:], h.Key, 0)
	}
	return b
}

// read returns the next frame that the Conn has sent, unmasked.
func (p *peer) read() (Header, string, error) {
	p.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	var head []byte
	for {
		b, err := p.in.ReadByte()
		if err != nil {
			if len(head) > 0 && err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Header{}, "", err
		}
		head = append(head, b)
		h, n, err := ParseHeader(head)
		if err != nil {
			return Header{}, "", err
		}
		if n == 0 {
			continue
		}
		payload := make([]byte, h.Length)
		if _, err := io.ReadFull(p.in, payload); err != nil {
			return Header{}, "", err
		}
		if h.Masked == p.client { // RFC 6455 §5.1
			return Header{}, "", fmt.Errorf("masked is %t on a frame to a peer whose client is %t", h.Masked, p.client)
		}
		if h.Masked {
			Mask(payload, h.Key, 0)
		}
		return h, string(payload), nil
	}
}

// next is read for a frame that must come.
func (p *peer) next() (Header, string) {
	p.t.Helper()
	h, payload, err := p.read()
	if err != nil {
		p.t.Fatalf("waiting for a frame: %v", err)
	}
	return h, payload
}

// want expects the next frame, whole and with no reserved bit.
func (p *peer) want(op Opcode, payload string) {
	p.t.Helper()
	h, got := p.next()
	if h.Opcode != op || got != payload || !h.Fin || h.Rsv1 || h.Rsv2 || h.Rsv3 {
		p.t.Fatalf("got %+v %.200q\nwant %v %.200q", h, got, op, payload)
	}
}

// wantClose expects the next frame to be a close frame.
func (p *peer) wantClose(code StatusCode, reason string) {
	p.t.Helper()
	p.want(OpClose, closePayload(code, reason))
}

// wantCloseCode is wantClose with any reason.
func (p *peer) wantCloseCode(code StatusCode) {
	p.t.Helper()
	h, got := p.next()
	if h.Opcode != OpClose || len(got) < 2 || StatusCode(binary.BigEndian.Uint16([]byte(got))) != code {
		p.t.Fatalf("got %v %q, want a close frame with %d", h.Opcode, got, code)
	}
}

// wantEnd expects the Conn to have closed its side of the network connection in good order, behind the last frame.
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

// leave reads until a close frame or the end, in the background, and then closes the peer's end of the network
// connection.
func (p *peer) leave() {
	go func() {
		defer p.nc.Close()
		for {
			if h, _, err := p.read(); err != nil || h.Opcode == OpClose {
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

// limited is a context for what must happen soon.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// wantMessage expects the Conn to read this message next.
func wantMessage(t testing.TB, c *Conn, op Opcode, text string) {
	t.Helper()
	gotOp, p, err := c.Read(limited(t))
	if err != nil || gotOp != op || string(p) != text {
		t.Fatalf("got %v %.200q, %v\nwant %v %.200q", gotOp, p, err, op, text)
	}
}

func mustWrite(t testing.TB, c *Conn, op Opcode, text string) {
	t.Helper()
	if err := c.Write(limited(t), op, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// wantAlive checks that messages still go both ways.
func wantAlive(t testing.TB, c *Conn, p *peer) {
	t.Helper()
	if s := c.State(); s != StateOpen {
		t.Fatalf("the state is %v", s)
	}
	p.send(p.frame(OpText, "are you there?"))
	wantMessage(t, c, OpText, "are you there?")
	mustWrite(t, c, OpText, "yes")
	p.want(OpText, "yes")
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
	for !c.reading.Load() {
		runtime.Gosched()
	}
}

// numbered returns a message that says which it is, filled up to n bytes.
func numbered(i, n int) string {
	s := fmt.Sprintf("%d:", i)
	return s + strings.Repeat("x", max(0, n-len(s)))
}

func TestWriteOrder(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		// Lengths around each form of the header, the drainer's chunk, and many that share a write.
		sizes := []int{0, 1, 125, 126, 127, writeChunk - 4, writeChunk, writeChunk + 1, 65535, 65536, 200_000}
		for range 300 {
			sizes = append(sizes, 30)
		}
		go func() {
			for i, n := range sizes {
				if err := c.Write(context.Background(), OpBinary, []byte(numbered(i, n))); err != nil {
					t.Error(err)
				}
			}
		}()
		for i, n := range sizes {
			p.want(OpBinary, numbered(i, n))
		}
	})
}

func TestWriteManyGoroutines(t *testing.T) {
	const writers, each = 8, 150
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{MaxQueued: 4 << 10}) // so that they wait, too
		for w := range writers {
			go func() {
				for i := range each {
					if err := c.Write(context.Background(), OpText, fmt.Appendf(nil, "%d %d %s", w, i, strings.Repeat("y", i*7%500))); err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		var seen [writers]int
		keys := map[[4]byte]int{}
		for range writers * each {
			h, text := p.next()
			var w, i int
			if _, err := fmt.Sscanf(text, "%d %d", &w, &i); err != nil || h.Opcode != OpText || !strings.HasSuffix(text, " "+strings.Repeat("y", i*7%500)) {
				t.Fatalf("got %v %q", h, text)
			}
			if seen[w] != i {
				t.Fatalf("writer %d: message %d came when %d was due", w, i, seen[w])
			}
			seen[w]++
			keys[h.Key]++
		}
		// Row 22: the key is fresh for every frame (RFC 6455 §5.3). Of 1200 random ones two may be the same.
		if s.client && len(keys) < writers*each-5 {
			t.Errorf("row 22: only %d different masking keys in %d frames", len(keys), writers*each)
		}
	})
}

// fill queues messages until Write would wait, and returns how many there are; the peer does not read.
func fill(t testing.TB, c *Conn, size int) (n int) {
	t.Helper()
	for ; n < 10_000; n++ {
		// What a busy machine makes late was not queued either, so the count is right in any case.
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := c.Write(ctx, OpBinary, []byte(numbered(n, size)))
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

func TestWriteWaits(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		const size = 32 << 10
		c, p := s.start(t, UpgradeOptions{MaxQueued: 2 * size})
		n := fill(t, c, size)

		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Write(cancelled, OpText, []byte("never")); err != context.Canceled {
			t.Errorf("a cancelled context: %v", err)
		}

		// One that waits goes on when there is room.
		waiting := make(chan error, 1)
		go func() { waiting <- c.Write(limited(t), OpText, []byte("patient")) }()
		for i := range n {
			p.want(OpBinary, numbered(i, size))
		}
		if err := within(t, waiting, "Write with room"); err != nil {
			t.Error(err)
		}
		p.want(OpText, "patient") // and nothing of those that returned an error
		wantAlive(t, c, p)
	})
}

// With a cancelled context nothing is queued, be there room or not.
func TestWriteCancelledContext(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Write(cancelled, OpText, []byte("never")); err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		wantAlive(t, c, p)
	})
}

// A waiting Write goes on when half of the queue has gone, and not before: writers and network take turns.
func TestWriteResumesAtHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frame = 1000 // 996 bytes and a header of 4
		c, p := startPipe(t, false, UpgradeOptions{MaxQueued: 8 * frame})
		p.in = bufio.NewReaderSize(p.nc, 16) // a pipe's write ends when it was read to its end
		mustWrite(t, c, OpBinary, numbered(0, frame-4))
		synctest.Wait() // it is being written, and alone
		done := 1
		go func() {
			for i := 1; i < 30; i++ {
				if c.Write(context.Background(), OpBinary, []byte(numbered(i, frame-4))) != nil {
					return
				}
				done++
			}
		}()
		synctest.Wait()
		// Seven wait behind the first: the ninth would be too many.
		if done != 8 {
			t.Fatalf("%d writes did not wait, want 8", done)
		}
		p.want(OpBinary, numbered(0, frame-4))
		synctest.Wait() // the other seven leave together, in one write: they are not gone before it ends
		if done != 8 {
			t.Fatalf("%d writes after one frame left, want 8", done)
		}
		for i := 1; i < 8; i++ {
			p.want(OpBinary, numbered(i, frame-4))
		}
		synctest.Wait()
		if done != 16 {
			t.Fatalf("%d writes when the queue was empty again, want 16", done)
		}
		for i := 8; i < 30; i++ {
			p.want(OpBinary, numbered(i, frame-4))
		}
	})
}

func TestWriteDoesNotKeepItsArgument(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for _, n := range []int{20, 100_000} {
			message := []byte(numbered(n, n))
			before := bytes.Clone(message)
			if err := c.Write(limited(t), OpBinary, message); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, message) {
				t.Error("Write has changed its argument")
			}
			for i := range message {
				message[i] = '!'
			}
			p.want(OpBinary, string(before))
		}
	})
}

func TestWriteOpcode(t *testing.T) {
	c, p := startPipe(t, false, UpgradeOptions{})
	for op := range Opcode(20) {
		if op == OpText || op == OpBinary {
			continue
		}
		if err := c.Write(limited(t), op, []byte("x")); err == nil || errors.Is(err, ErrClosed) {
			t.Errorf("%v: got %v, want an error of its own", op, err)
		}
	}
	wantAlive(t, c, p) // and nothing was sent
}

func TestWriteAfterTheEnd(t *testing.T) {
	ends := []struct {
		name string
		end  func(t *testing.T, c *Conn, p *peer)
	}{
		{"Close", func(t *testing.T, c *Conn, p *peer) {
			p.send(p.frame(OpClose, closePayload(1000, "")))
			c.Close(StatusNormalClosure, "")
		}},
		{"CloseNow", func(t *testing.T, c *Conn, p *peer) { c.CloseNow() }},
		{"the peer's close", func(t *testing.T, c *Conn, p *peer) {
			p.send(p.frame(OpClose, closePayload(1000, "")))
			wantClosed(t, c, 1000)
		}},
		{"a violation", func(t *testing.T, c *Conn, p *peer) {
			p.send(p.frame(OpContinuation, ""))
			wantClosed(t, c, 1002)
		}},
		{"a cut", func(t *testing.T, c *Conn, p *peer) {
			p.nc.Close()
			wantClosed(t, c, 1006)
		}},
	}
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, e := range ends {
			t.Run(e.name, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				p.leave()
				e.end(t, c, p)
				if err := c.Write(limited(t), OpText, []byte("late")); !errors.Is(err, ErrClosed) {
					t.Errorf("Write: %v, want ErrClosed", err)
				}
				if err := c.Ping(limited(t)); !errors.Is(err, ErrClosed) && err != ErrNotReading {
					t.Errorf("Ping: %v, want ErrClosed or ErrNotReading", err)
				}
			})
		}
	})
}

// Writes that wait for room are released by the end of the connection.
func TestWriteReleased(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, how := range []string{"Close", "CloseNow", "a cut"} {
			t.Run(how, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{MaxQueued: 10_000})
				fill(t, c, 10_000)
				waiting := make(chan error, 3)
				for range cap(waiting) {
					go func() {
						for { // a slow kernel may have room for a few
							if err := c.Write(context.Background(), OpBinary, make([]byte, 10_000)); err != nil {
								waiting <- err
								return
							}
						}
					}()
				}
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					switch how {
					case "Close":
						c.Close(StatusGoingAway, "")
					case "CloseNow":
						c.CloseNow()
					case "a cut":
						p.nc.Close()
						c.Read(context.Background())
					}
				}()
				for range cap(waiting) {
					if err := within(t, waiting, "a Write that waits for room"); !errors.Is(err, ErrClosed) {
						t.Errorf("got %v, want ErrClosed", err)
					}
				}
				p.nc.Close()
				within(t, closed, how)
			})
		}
	})
}

// A message larger than the bound passes when the queue is empty: it could never be sent otherwise.
func TestWriteHuge(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{MaxQueued: 1000})
		for i := range 3 { // each waits for the one before it
			go c.Write(context.Background(), OpBinary, []byte(numbered(i, 300_000)))
			p.want(OpBinary, numbered(i, 300_000))
		}
	})
}

func TestPing(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		if err := c.Ping(limited(t)); err != ErrNotReading {
			t.Fatalf("nobody reads: got %v, want %v", err, ErrNotReading)
		}
		texts, ended := readInBackground(c)

		ping := func(ctx context.Context) <-chan error {
			waitReading(c) // between two Reads Ping finds nobody reading
			done := make(chan error, 1)
			go func() { done <- c.Ping(ctx) }()
			return done
		}
		wantPing := func() string {
			h, payload := p.next()
			if h.Opcode != OpPing {
				t.Fatalf("got %v, want a ping", h.Opcode)
			}
			return payload
		}

		// Answered.
		first := ping(limited(t))
		payload := wantPing()
		p.send(p.frame(OpPong, payload))
		if err := within(t, first, "an answered Ping"); err != nil {
			t.Error(err)
		}

		// A context that ends takes nothing with it; the late pong is ignored.
		ctx, cancel := context.WithCancel(context.Background())
		given := ping(ctx)
		late := wantPing()
		cancel()
		if err := within(t, given, "a Ping given up"); err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		p.send(p.frame(OpPong, late), p.frame(OpText, "still here"))
		if got := within(t, texts, "a message behind the late pong"); got != "still here" {
			t.Errorf("got %q", got)
		}

		// Row 16: a peer may answer the latest of several pings only (RFC 6455 §5.5.3). Pongs that answer nothing
		// release nobody (row 15).
		var pings []<-chan error
		var payloads []string
		for range 3 {
			pings = append(pings, ping(limited(t)))
			payloads = append(payloads, wantPing())
		}
		p.send(p.frame(OpPong, ""), p.frame(OpPong, "12345678x"), p.frame(OpPong, payload), p.frame(OpPong, "1234567"), p.frame(OpPong, payloads[0]), p.frame(OpText, "mark"))
		within(t, texts, "a message behind the pongs")
		if err := within(t, pings[0], "the answered Ping"); err != nil {
			t.Error(err)
		}
		select {
		case err := <-pings[1]:
			t.Errorf("the second of three was released by the pong of the first: %v", err)
		case err := <-pings[2]:
			t.Errorf("the third of three was released by the pong of the first: %v", err)
		default:
		}
		p.send(p.frame(OpPong, payloads[2]))
		for _, done := range pings[1:] {
			if err := within(t, done, "a Ping that a later pong answers"); err != nil {
				t.Error(err)
			}
		}

		// The end of the connection while it waits.
		last := ping(limited(t))
		wantPing()
		p.send(p.frame(OpClose, closePayload(1000, "")))
		p.wantClose(1000, "")
		if err := within(t, last, "a Ping on a connection that closes"); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		within(t, ended, "the reader")
		if len(c.pings) != 0 {
			t.Errorf("%d pings are remembered", len(c.pings))
		}
	})
}

func TestPingEnds(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, how := range []string{"Close", "CloseNow", "a cut"} {
			t.Run(how, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				readInBackground(c)
				done := make(chan error, 1)
				go func() { done <- c.Ping(context.Background()) }()
				if h, _ := p.next(); h.Opcode != OpPing {
					t.Fatalf("got %v, want a ping", h.Opcode)
				}
				switch how {
				case "Close":
					p.send(p.frame(OpClose, ""))
					p.leave()
					c.Close(StatusNormalClosure, "")
				case "CloseNow":
					c.CloseNow()
				case "a cut":
					p.nc.Close()
				}
				if err := within(t, done, "Ping"); !errors.Is(err, ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			})
		}
	})
}

func TestStateString(t *testing.T) {
	var got []string
	for s := range State(5) {
		got = append(got, s.String())
	}
	if want := []string{"CONNECTING", "OPEN", "CLOSING", "CLOSED", "unknown state"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// script is a network connection in memory: reads return its segments and then its end; what is written is
// kept, if it keeps.
type script struct {
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

func (s *script) Read(p []byte) (int, error) {
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

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.keep {
		s.written = append(s.written, p...)
	}
	return len(p), nil
}

func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkWrite queues small messages that the network takes at once.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{32, 1024, 64 << 10} {
		for _, client := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/client=%t", size, client), func(b *testing.B) {
				nc := &script{}
				c := newConn(nc, connConfig{client: client})
				message := make([]byte, size)
				ctx := context.Background()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := c.Write(ctx, OpBinary, message); err != nil {
						b.Fatal(err)
					}
				}
				if err := c.out.waitBelow(ctx, 1); err != nil {
					b.Fatal(err)
				}
				nc.mu.Lock()
				defer nc.mu.Unlock()
				b.ReportMetric(float64(nc.writes)/float64(b.N), "writes/op")
			})
		}
	}
}

// BenchmarkEcho sends messages back and forth over TCP, against the least that any server must do: read, unmask,
// write. In "burst" sixteen messages are under way at a time.
func BenchmarkEcho(b *testing.B) {
	const size = 64
	servers := []struct {
		name string
		echo func(nc net.Conn)
	}{
		{"bare", bareEcho},
		{"conn", func(nc net.Conn) {
			c := newConn(nc, connConfig{})
			buf := make([]byte, 0, 1024)
			for {
				op, p, err := c.ReadInto(context.Background(), buf)
				if err != nil || c.Write(context.Background(), op, p) != nil {
					c.CloseNow()
					return
				}
			}
		}},
	}
	for _, burst := range []int{1, 16} {
		for _, s := range servers {
			b.Run(fmt.Sprintf("%s/burst=%d", s.name, burst), func(b *testing.B) {
				client, server := overTCP.netConns(b)
				go s.echo(server)
				one := encodeFrame(Header{Fin: true, Opcode: OpBinary, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: size}, strings.Repeat("e", size))
				out := bytes.Repeat(one, burst)
				in := make([]byte, (2+size)*burst)
				b.ReportAllocs()
				b.SetBytes(int64(size * burst))
				for b.Loop() {
					if _, err := client.Write(out); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(client, in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// bareEcho answers each read with one write.
func bareEcho(nc net.Conn) {
	defer nc.Close()
	in, out := make([]byte, 4096), make([]byte, 0, 4096)
	w := 0
	for {
		n, err := nc.Read(in[w:])
		if err != nil {
			return
		}
		w += n
		r := 0
		out = out[:0]
		for {
			h, head, err := ParseHeader(in[r:w])
			if err != nil || head == 0 || int64(w-r-head) < h.Length {
				break
			}
			payload := in[r+head : r+head+int(h.Length)]
			Mask(payload, h.Key, 0)
			h.Masked = false
			out = append(AppendHeader(out, h), payload...)
			r += head + len(payload)
		}
		w = copy(in, in[r:w])
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}
