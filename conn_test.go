package atrium

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

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
				if err := c.Write(context.Background(), MessageBinary, []byte(numbered(i, n))); err != nil {
					t.Error(err)
				}
			}
		}()
		for i, n := range sizes {
			p.want(opBinary, numbered(i, n))
		}
	})
}

func TestWriteManyGoroutines(t *testing.T) {
	const writers, each = 8, 150
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{MaxQueuedBytes: 4 << 10}) // so that they wait, too
		for w := range writers {
			go func() {
				for i := range each {
					if err := c.Write(context.Background(), MessageText, fmt.Appendf(nil, "%d %d %s", w, i, strings.Repeat("y", i*7%500))); err != nil {
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
			if _, err := fmt.Sscanf(text, "%d %d", &w, &i); err != nil || h.Opcode != opText || !strings.HasSuffix(text, " "+strings.Repeat("y", i*7%500)) {
				t.Fatalf("got %v %q", h, text)
			}
			if seen[w] != i {
				t.Fatalf("writer %d: message %d came when %d was due", w, i, seen[w])
			}
			seen[w]++
			keys[h.Key]++
		}
		// Row 22: the key is fresh for every frame (RFC 6455 §5.3). Of 1200 random ones two may be
		// the same.
		if s.client && len(keys) < writers*each-5 {
			t.Errorf("row 22: only %d different masking keys in %d frames", len(keys), writers*each)
		}
	})
}

func TestWriteWaits(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		const size = 32 << 10
		c, p := s.start(t, UpgradeOptions{MaxQueuedBytes: 2 * size})
		n := fill(t, c, size)

		cancelled, cancel := context.WithCancel(context.Background())
		cancel()
		if err := c.Write(cancelled, MessageText, []byte("never")); err != context.Canceled {
			t.Errorf("a cancelled context: %v", err)
		}

		// One that waits goes on when there is room.
		waiting := make(chan error, 1)
		go func() { waiting <- c.Write(limited(t), MessageText, []byte("patient")) }()
		for i := range n {
			p.want(opBinary, numbered(i, size))
		}
		if err := within(t, waiting, "Write with room"); err != nil {
			t.Error(err)
		}
		p.want(opText, "patient") // and nothing of those that returned an error
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
		if err := c.Write(cancelled, MessageText, []byte("never")); err != context.Canceled {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		wantAlive(t, c, p)
	})
}

// A waiting Write goes on when half of the queue has gone, and not before: writers and network take
// turns.
func TestWriteResumesAtHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const frame = 1000 // 996 bytes and a header of 4
		c, p := startPipe(t, false, UpgradeOptions{MaxQueuedBytes: 8 * frame})
		p.in = bufio.NewReaderSize(p.nc, 16) // a pipe's write ends when it was read to its end
		mustWrite(t, c, opBinary, numbered(0, frame-4))
		synctest.Wait() // it is being written, and alone
		done := 1
		go func() {
			for i := 1; i < 30; i++ {
				if c.Write(context.Background(), MessageBinary, []byte(numbered(i, frame-4))) != nil {
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
		p.want(opBinary, numbered(0, frame-4))
		synctest.Wait() // the other seven leave together, in one write: they are not gone before it ends
		if done != 8 {
			t.Fatalf("%d writes after one frame left, want 8", done)
		}
		for i := 1; i < 8; i++ {
			p.want(opBinary, numbered(i, frame-4))
		}
		synctest.Wait()
		if done != 16 {
			t.Fatalf("%d writes when the queue was empty again, want 16", done)
		}
		for i := 8; i < 30; i++ {
			p.want(opBinary, numbered(i, frame-4))
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
			if err := c.Write(limited(t), MessageBinary, message); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(before, message) {
				t.Error("Write has changed its argument")
			}
			for i := range message {
				message[i] = '!'
			}
			p.want(opBinary, string(before))
		}
	})
}

func TestWriteOpcode(t *testing.T) {
	c, p := startPipe(t, false, UpgradeOptions{})
	for op := range opcode(20) {
		if op == opText || op == opBinary {
			continue
		}
		if err := c.Write(limited(t), MessageType(op), []byte("x")); err == nil || errors.Is(err, ErrClosed) {
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
			p.send(p.frame(opClose, closePayload(1000, "")))
			c.Close(StatusNormalClosure, "")
		}},
		{"CloseNow", func(t *testing.T, c *Conn, p *peer) { c.CloseNow() }},
		{"the peer's close", func(t *testing.T, c *Conn, p *peer) {
			p.send(p.frame(opClose, closePayload(1000, "")))
			wantClosed(t, c, 1000)
		}},
		{"a violation", func(t *testing.T, c *Conn, p *peer) {
			p.send(p.frame(opContinuation, ""))
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
				if err := c.Write(limited(t), MessageText, []byte("late")); !errors.Is(err, ErrClosed) {
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
				c, p := s.start(t, UpgradeOptions{MaxQueuedBytes: 10_000})
				fill(t, c, 10_000)
				waiting := make(chan error, 3)
				for range cap(waiting) {
					go func() {
						for { // a slow kernel may have room for a few
							if err := c.Write(context.Background(), MessageBinary, make([]byte, 10_000)); err != nil {
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
		c, p := s.start(t, UpgradeOptions{MaxQueuedBytes: 1000})
		for i := range 3 { // each waits for the one before it
			go c.Write(context.Background(), MessageBinary, []byte(numbered(i, 300_000)))
			p.want(opBinary, numbered(i, 300_000))
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
			if h.Opcode != opPing {
				t.Fatalf("got %v, want a ping", h.Opcode)
			}
			return payload
		}

		// Answered.
		first := ping(limited(t))
		payload := wantPing()
		p.send(p.frame(opPong, payload))
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
		p.send(p.frame(opPong, late), p.frame(opText, "still here"))
		if got := within(t, texts, "a message behind the late pong"); got != "still here" {
			t.Errorf("got %q", got)
		}

		// Row 16: a peer may answer the latest of several pings only (RFC 6455 §5.5.3). Pongs that
		// answer nothing release nobody (row 15).
		var pings []<-chan error
		var payloads []string
		for range 3 {
			pings = append(pings, ping(limited(t)))
			payloads = append(payloads, wantPing())
		}
		p.send(p.frame(opPong, ""), p.frame(opPong, "12345678x"), p.frame(opPong, payload), p.frame(opPong, "1234567"), p.frame(opPong, payloads[0]), p.frame(opText, "mark"))
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
		p.send(p.frame(opPong, payloads[2]))
		for _, done := range pings[1:] {
			if err := within(t, done, "a Ping that a later pong answers"); err != nil {
				t.Error(err)
			}
		}

		// The end of the connection while it waits.
		last := ping(limited(t))
		wantPing()
		p.send(p.frame(opClose, closePayload(1000, "")))
		p.wantClose(1000, "")
		if err := within(t, last, "a Ping on a connection that closes"); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
		within(t, ended, "the reader")
		if len(c.pings.waiting) != 0 {
			t.Errorf("%d pings are remembered", len(c.pings.waiting))
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
				if h, _ := p.next(); h.Opcode != opPing {
					t.Fatalf("got %v, want a ping", h.Opcode)
				}
				switch how {
				case "Close":
					p.send(p.frame(opClose, ""))
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

// BenchmarkWrite queues small messages that the network takes at once.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{32, 1024, 64 << 10} {
		for _, client := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/client=%t", size, client), func(b *testing.B) {
				nc := &scriptedConn{}
				c := newConn(nc, connConfig{client: client})
				message := make([]byte, size)
				ctx := context.Background()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := c.Write(ctx, MessageBinary, message); err != nil {
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

// BenchmarkEcho sends messages back and forth over TCP, against the least that any server must do:
// read, unmask, write. In "burst" sixteen messages are under way at a time.
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
				one := encodeFrame(frameHeader{Fin: true, Opcode: opBinary, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: size}, strings.Repeat("e", size))
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
			h, head, err := parseHeader(in[r:w])
			if err != nil || head == 0 || int64(w-r-head) < h.Length {
				break
			}
			payload := in[r+head : r+head+int(h.Length)]
			mask(payload, h.Key, 0)
			h.Masked = false
			out = append(appendHeader(out, h), payload...)
			r += head + len(payload)
		}
		w = copy(in, in[r:w])
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}
