//go:build unix

package atrium

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sockets are the kinds of connection that have the fast path. pair returns the two ends of one.
var sockets = []struct {
	name string
	pair func(t *testing.T) (near, far net.Conn)
}{
	{"tcp", func(t *testing.T) (net.Conn, net.Conn) { return socketPair(t, listenTCP(t)) }},
	{"unix", func(t *testing.T) (net.Conn, net.Conn) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
		if err != nil {
			t.Fatal(err)
		}
		return socketPair(t, l)
	}},
}

func socketPair(t *testing.T, l net.Listener) (near, far net.Conn) {
	t.Helper()
	defer l.Close()
	near, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// overSockets runs a test of the fast path's own layer, over each kind of socket.
func overSockets(t *testing.T, test func(t *testing.T, f *fastIO, near, far net.Conn)) {
	for _, s := range sockets {
		t.Run(s.name, func(t *testing.T) {
			near, far := s.pair(t)
			f := new(fastIO)
			if !f.open(near) {
				t.Fatalf("%T has no fast path", near)
			}
			test(t, f, near, far)
		})
	}
}

// wants waits and expects these bytes in a pooled buffer.
func (f *fastIO) wants(t *testing.T, want string) {
	t.Helper()
	n, pooled, err := f.wait(nil, 0)
	if err != nil || pooled == nil || string((*pooled)[:n]) != want {
		t.Fatalf("got %d bytes, %v; want %q", n, err, want)
	}
	releaseBuffer(pooled)
}

func (f *fastIO) wantsError(t *testing.T, want error) {
	t.Helper()
	if n, pooled, err := f.wait(nil, 0); !errors.Is(err, want) || n != 0 || pooled != nil || f.pooled != nil {
		t.Fatalf("got %d bytes, %v; want %v and no buffer", n, err, want)
	}
}

// Only what nothing is wrapped around has the fast path: a wrapper wants to see the bytes.
func TestReadyOnlyBareSockets(t *testing.T) {
	near, far := socketPair(t, listenTCP(t))
	pipe, _ := net.Pipe()
	for _, nc := range []net.Conn{struct{ net.Conn }{near}, struct{ *net.TCPConn }{far.(*net.TCPConn)}, pipe, nil} {
		if c := newConn(nc, connConfig{}); c.out.fast != nil {
			t.Errorf("%T has the fast path", nc)
		}
	}
	if c := newConn(near, connConfig{}); c.out.fast == nil {
		t.Error("*net.TCPConn has no fast path")
	}
}

// Bytes that came before anybody waited, between two waits, and after a wait that was given up are
// all found, though the poller reports each arrival only once.
func TestReadyEdgeAlreadyArrived(t *testing.T) {
	overSockets(t, func(t *testing.T, f *fastIO, near, far net.Conn) {
		write(t, far, "before")
		f.wants(t, "before")
		// More than one read takes: the rest brings no new edge.
		long := strings.Repeat("x", smallBuffer) + "rest"
		write(t, far, long)
		f.wants(t, long[:smallBuffer])
		f.wants(t, "rest")
		// The wait ends by its deadline; what comes while nobody waits is an edge that nobody sees.
		near.SetReadDeadline(longAgo)
		f.wantsError(t, os.ErrDeadlineExceeded)
		write(t, far, "meanwhile")
		f.wantsError(t, os.ErrDeadlineExceeded)
		near.SetReadDeadline(time.Time{})
		f.wants(t, "meanwhile")
		// Into the caller's own memory, a byte at a time.
		write(t, far, "abc")
		for _, want := range "abc" {
			var p [1]byte
			if n, pooled, err := f.wait(p[:], 0); n != 1 || pooled != nil || err != nil || rune(p[0]) != want {
				t.Fatalf("%d, %v, %q", n, err, p)
			}
		}
		// A wait that has begun is woken, again and again.
		go func() {
			for range 100 {
				io.WriteString(far, "x")
			}
			far.Close()
		}()
		n := 0
		for {
			m, pooled, err := f.wait(nil, 0)
			if err != nil {
				break
			}
			releaseBuffer(pooled)
			n += m
		}
		if n != 100 {
			t.Errorf("%d bytes of 100 came", n)
		}
	})
}

// The end of the stream arrives in one event with the last bytes.
func TestReadyEndWithData(t *testing.T) {
	overSockets(t, func(t *testing.T, f *fastIO, near, far net.Conn) {
		write(t, far, "last words")
		far.Close()
		f.wants(t, "last words")
		f.wantsError(t, io.EOF)
		f.wantsError(t, io.EOF)
	})
	// And so does a WebSocket: a message, the close frame and the FIN in one segment.
	for _, s := range sockets {
		near, far := s.pair(t)
		c := newConn(near, connConfig{readLimit: 100, maxQueued: 100})
		write(t, far, maskedFrame(opText, "hello")+maskedFrame(opClose, "\x03\xe8bye"))
		far.Close()
		if _, p, err := c.Read(t.Context()); err != nil || string(p) != "hello" {
			t.Errorf("%s: %q, %v", s.name, p, err)
		}
		wantClosed(t, c, StatusNormalClosure)
	}
}

// Close from another goroutine ends a wait and a write, and waits for neither.
func TestReadyCloseWhileWaiting(t *testing.T) {
	overSockets(t, func(t *testing.T, f *fastIO, near, far net.Conn) {
		ended := make(chan error, 1)
		go func() {
			_, _, err := f.wait(nil, 0)
			ended <- err
		}()
		waitUntilParked(t, "(*fastIO).wait")
		near.Close()
		if err := within(t, ended, "the reader"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the reader got %v", err)
		}
		f.wantsError(t, net.ErrClosed)
		if n, err := f.write([]byte("x"), false); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write: %d, %v", n, err)
		}
	})
	for _, s := range sockets {
		near, far := s.pair(t)
		c := newConn(near, connConfig{readLimit: 100, maxQueued: 1 << 20})
		ended := make(chan error, 1)
		go func() {
			_, _, err := c.Read(context.Background())
			ended <- err
		}()
		waitUntilParked(t, "(*fastIO).wait")
		// Meanwhile a drainer waits for the kernel.
		for c.out.status().bytes == 0 {
			c.Write(t.Context(), MessageBinary, make([]byte, 100_000))
		}
		c.CloseNow()
		if err := within(t, ended, "Read"); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Read got %v", s.name, err)
		}
		waitUntilGone(t, "(*outbox).drain")
		far.Close()
	}
}

// A closed connection's file descriptor becomes another's: what is done with the first never
// touches the second.
func TestReadyDescriptorReuse(t *testing.T) {
	for _, s := range sockets {
		t.Run(s.name, func(t *testing.T) {
			reused := false
			for range 100 {
				near, _ := s.pair(t)
				c := newConn(near, connConfig{readLimit: 1 << 20, maxQueued: 1 << 20})
				old := descriptor(t, near)
				c.CloseNow()
				second, other := s.pair(t)
				reused = reused || descriptor(t, second) == old || descriptor(t, other) == old
				write(t, other, "for the second")
				write(t, second, "for the other")
				var wg sync.WaitGroup
				wg.Go(func() { c.Read(t.Context()) })
				wg.Go(func() { c.Write(t.Context(), MessageText, []byte("for nobody")) })
				wg.Go(func() { c.fast.write([]byte("for nobody"), false) })
				wg.Go(func() { c.Close(StatusNormalClosure, "") })
				wg.Wait()
				second.Close()
				if got, err := io.ReadAll(other); string(got) != "for the other" {
					t.Fatalf("the other got %q, %v", got, err)
				}
			}
			if !reused {
				t.Error("no descriptor was used again: this tests nothing")
			}
		})
	}
}

func descriptor(t *testing.T, nc net.Conn) (fd uintptr) {
	t.Helper()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(n uintptr) { fd = n })
	return fd
}

// A write takes what the kernel has room for, and says how much; with no room it is over at once.
func TestReadyShortWrites(t *testing.T) {
	overSockets(t, func(t *testing.T, f *fastIO, near, far net.Conn) {
		keepLittle(near)
		data := make([]byte, 8<<20)
		rand.NewChaCha8([32]byte{1}).Read(data)
		n, err := f.write(data, false)
		if n <= 0 || n >= len(data) || err != nil {
			t.Fatalf("%d bytes of %d, %v", n, len(data), err)
		}
		for {
			m, err := f.write(data[n:], false)
			if err != nil {
				t.Fatal(err)
			}
			if n += m; m == 0 {
				break // EAGAIN
			}
		}
		if f.from != nil {
			t.Error("what was written is held")
		}
		got := make([]byte, n)
		if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, data[:n]) {
			t.Errorf("other bytes arrived (%v)", err)
		}
		if m, err := f.write([]byte("x"), false); m != 1 || err != nil {
			t.Errorf("with room again: %d, %v", m, err)
		}
		near.SetWriteDeadline(longAgo)
		if m, err := f.write([]byte("x"), true); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("past the deadline: %d, %v", m, err)
		}
		near.SetWriteDeadline(time.Time{})
		far.Close()
		eventually(t, "the write to fail", func() bool { _, err := f.write([]byte("x"), false); return err != nil })
	})
}

// While the kernel takes no more there is one drainer, others only queue, none of them waits, and
// all of it arrives in order, whatever the sizes.
func TestReadyWriteWhileDraining(t *testing.T) {
	for _, s := range sockets {
		t.Run(s.name, func(t *testing.T) {
			noLeaks(t)
			waitUntilGone(t, "(*outbox).drain") // of earlier tests
			near, far := s.pair(t)
			keepLittle(near)
			c := newConn(near, connConfig{readLimit: 100, maxQueued: 1 << 30})
			defer c.CloseNow()
			r := rand.New(rand.NewPCG(1, 2))
			const writers, each = 4, 100
			var sizes [writers][each]int
			for i := range sizes {
				for j := range sizes[i] {
					sizes[i][j] = 2 + []int{0, 50, 5000, 40_000, 200_000}[r.IntN(5)]
				}
			}
			var wg sync.WaitGroup
			for i := range writers {
				wg.Go(func() {
					for j, n := range sizes[i] {
						p := bytes.Repeat([]byte{byte(i)}, n)
						p[1] = byte(j)
						if err := c.Write(context.Background(), MessageBinary, p); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait() // nobody reads: a writer that waited for the network would wait for ever
			waitUntilParked(t, "(*outbox).drain(")
			if stacks := strings.Join(packageGoroutines(), ""); strings.Count(stacks, "(*outbox).drain(") != 1 {
				t.Errorf("more than one drainer:\n%s", stacks)
			}
			peer := newConn(far, connConfig{client: true, readLimit: 1 << 20, maxQueued: 100})
			defer peer.CloseNow()
			var next [writers]int
			for range writers * each {
				_, p, err := peer.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				i := p[0]
				if j := next[i]; p[1] != byte(j) || len(p) != sizes[i][j] || bytes.Count(p, p[:1]) < len(p)-1 {
					t.Fatalf("message %d of writer %d: number %d, %d bytes", j, i, p[1], len(p))
				}
				next[i]++
			}
			eventually(t, "nothing to be left", func() bool { return c.out.status().bytes == 0 })
			waitUntilGone(t, "(*outbox).drain")
		})
	}
}

// With nothing in the way a message is written where Write is called: when Write returns, the
// kernel has it.
func TestReadyWritesDirectly(t *testing.T) {
	for _, s := range sockets {
		t.Run(s.name, func(t *testing.T) {
			near, far := s.pair(t)
			c := newConn(near, connConfig{readLimit: 100, maxQueued: 1 << 20})
			defer c.CloseNow()
			peer := new(fastIO)
			peer.open(far)
			for range 1000 {
				if err := c.Write(t.Context(), MessageText, []byte("x")); err != nil || c.out.status().bytes != 0 {
					t.Fatalf("%v, %d bytes queued", err, c.out.status().bytes)
				}
				far.SetReadDeadline(time.Now().Add(patience))
				peer.wants(t, "\x81\x01x")
			}
		})
	}
}

// A Conn that waits, or waited until its context ended, holds no buffer.
func TestReadyIdleHoldsNoBuffer(t *testing.T) {
	for _, s := range sockets {
		near, far := s.pair(t)
		c := newConn(near, connConfig{readLimit: 100, maxQueued: 100})
		write(t, far, maskedFrame(opText, "hello"))
		if _, p, err := c.Read(t.Context()); err != nil || string(p) != "hello" {
			t.Fatalf("%q, %v", p, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, _, err := c.Read(ctx)
			done <- err
		}()
		waitUntilParked(t, "(*fastIO).wait")
		cancel()
		if err := <-done; err != context.Canceled || c.in.buf != nil || c.in.pooled != nil {
			t.Errorf("%s: %v, %d bytes held", s.name, err, len(c.in.buf))
		}
		c.CloseNow()
	}
}

// A session's reader waits on a stack that has never run deep: after each message another goroutine
// waits in its place.
func TestReadyReaderReplaced(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	OnCall(h, "deep", func(s *Socket, n int) (int, error) { return deep(n), nil })
	c := serve(t, overTCP, h).connect(t, nil)
	c.settle()
	reader := func() (id string) {
		id, _, _ = strings.Cut(waitingReader(t), " [")
		return id
	}
	before := reader()
	for range 10 {
		c.send(`{"event":"deep","data":1000,"id":1}`)
		c.want(`{"id":1,"data":1000}`)
		after := reader()
		if after == before {
			t.Fatalf("%s waits again", after)
		}
		before = after
	}
	if s := c.socket(h); s.session.conn.Load().out.fast == nil {
		t.Error("no fast path")
	}
}

func deep(n int) int {
	if n == 0 {
		runtime.Gosched()
		return 0
	}
	return deep(n-1) + 1
}
