package atrium

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// inboxOwner handles one event for each value it gets, and notes which.
type inboxOwner struct {
	gate    chan struct{}
	handled []int64 // by the inbox's goroutine; read when the bubble is still
}

func (o *inboxOwner) emptied() {}

func (o *inboxOwner) handle(in incoming, _ handling) {
	<-o.gate
	o.handled = append(o.handled, in.ackID)
}

func newTestInbox(maxCount, maxBytes int) (*queue[incoming], *inboxOwner) {
	o := &inboxOwner{gate: make(chan struct{}, 10_000)}
	return &queue[incoming]{handler: o, reading: new(reading), maxCount: maxCount, maxBytes: maxBytes}, o
}

func (o *inboxOwner) pass(n int) {
	for range n {
		o.gate <- struct{}{}
	}
	synctest.Wait()
}

// pushing pushes in the background.
func (b *queue[T]) pushing(in T) <-chan itemVerdict {
	result := make(chan itemVerdict, 1)
	go func() { result <- b.push(in) }()
	synctest.Wait()
	return result
}

// isRunning reports whether the inbox's goroutine exists.
func (b *queue[T]) isRunning() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running
}

func wantPaused(t *testing.T, b *queue[incoming], pushed <-chan itemVerdict, paused bool) {
	t.Helper()
	if got := len(pushed) == 0; got != paused || b.reading.paused() != paused {
		t.Fatalf("the push waits: %t, %d beginnings and ends; want %t", got, b.reading.pauses.Load(), paused)
	}
}

func TestInboxOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(10, 1<<20)
		const n = 1000
		o.pass(n)
		want := make([]int64, n)
		for i := range want {
			want[i] = int64(i)
			if r := b.push(incoming{eventData: eventData{ackID: int64(i)}}); r != itemTaken {
				t.Fatalf("push %d: %v", i, r)
			}
		}
		synctest.Wait()
		if !slices.Equal(o.handled, want) {
			t.Errorf("handled %v", o.handled)
		}
		if b.isRunning() || b.items.items != nil || b.bytes != 0 {
			t.Errorf("idle, but running %t, %d items, %d bytes", b.running, b.items.len(), b.bytes)
		}
	})
}

// A full inbox holds up the pusher until it is half empty.
func TestInboxBounds(t *testing.T) {
	tests := []struct {
		name               string
		maxCount, maxBytes int
	}{
		{"events", 8, 1 << 20},
		{"bytes", 1 << 20, 8 * (incomingOverhead + 100)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, o := newTestInbox(test.maxCount, test.maxBytes)
				in := incoming{eventData: eventData{name: "0123456789", args: args{json: make([]byte, 90)}}}
				for i := range 8 {
					wantPaused(t, b, b.pushing(in), false)
					if !b.isRunning() {
						t.Fatalf("nobody handles event %d", i)
					}
				}
				before := b.reading.pauses.Load()
				ninth := b.pushing(in)
				wantPaused(t, b, ninth, true)
				o.pass(3)
				wantPaused(t, b, ninth, true)
				o.pass(1)
				wantPaused(t, b, ninth, false)
				if r := <-ninth; r != itemTaken {
					t.Errorf("push: %v", r)
				}
				if paused, pauses := b.reading.pause(); paused || pauses == before {
					t.Errorf("the pause is not told: %t, %d", paused, pauses)
				}
				o.pass(5)
				if len(o.handled) != 9 || b.isRunning() {
					t.Errorf("handled %d, running %t", len(o.handled), b.running)
				}
			})
		})
	}
}

// An event larger than the bound goes through when nothing else is there.
func TestInboxLargeEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(8, 100)
		wantPaused(t, b, b.pushing(incoming{eventData: eventData{args: args{json: make([]byte, 1000)}}}), false)
		second := b.pushing(incoming{})
		wantPaused(t, b, second, true)
		o.pass(2)
		wantPaused(t, b, second, false)
	})
}

// While an answer is waited for, events behind which it may stand are taken, up to twice the
// bounds.
func TestInboxWhileCalling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(4, 1<<20)
		for range 4 {
			b.push(incoming{})
		}
		fifth := b.pushing(incoming{})
		wantPaused(t, b, fifth, true)
		b.reading.calls.Add(+1)
		b.reading.recheck()
		synctest.Wait()
		wantPaused(t, b, fifth, false)
		for range 3 {
			if r := b.push(incoming{}); r != itemTaken {
				t.Fatalf("push: %v", r)
			}
		}
		if r := b.push(incoming{}); r != itemRefused {
			t.Errorf("beyond twice the bounds: %v", r)
		}
		b.reading.calls.Add(-1)
		b.reading.recheck()
		ninth := b.pushing(incoming{})
		wantPaused(t, b, ninth, true)
		o.pass(9)
		wantPaused(t, b, ninth, false)
		if len(o.handled) != 9 {
			t.Errorf("handled %d", len(o.handled))
		}
	})
}

func TestInboxPushLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(2, 1<<20)
		b.push(incoming{eventData: eventData{ackID: 1}})
		b.push(incoming{eventData: eventData{ackID: 2}})
		third := b.pushing(incoming{eventData: eventData{ackID: 3}})
		wantPaused(t, b, third, true)
		b.pushLast(incoming{eventData: eventData{ackID: 99}})
		synctest.Wait()
		wantPaused(t, b, third, false)
		if r := <-third; r != itemIgnored {
			t.Errorf("a waiting push: %v", r)
		}
		if r := b.push(incoming{eventData: eventData{ackID: 4}}); r != itemIgnored {
			t.Errorf("a later push: %v", r)
		}
		o.pass(3)
		if want := []int64{1, 2, 99}; !slices.Equal(o.handled, want) || b.isRunning() {
			t.Errorf("handled %v, want %v; running %t", o.handled, want, b.running)
		}
	})
}

func TestInboxBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(1, 1<<20)
		b.push(incoming{})
		second := b.pushing(incoming{})
		wantPaused(t, b, second, true)
		b.bound(2, 1<<20)
		synctest.Wait()
		wantPaused(t, b, second, false)
		o.pass(2)
	})
}

func TestInboxCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, o := newTestInbox(8, 1<<20)
		for range 4 {
			b.push(incoming{})
		}
		for range 10_000 { // never empty
			b.push(incoming{})
			o.pass(1)
		}
		b.mu.Lock()
		capacity := cap(b.items.items)
		b.mu.Unlock()
		if capacity > 32 {
			t.Errorf("capacity %d for at most 8 events", capacity)
		}
		o.pass(4)
	})
}

// While a handler blocks, its client is not read from beyond the bounds; afterwards all that it
// sent is handled, in order, and nobody is left waiting.
func TestInboxHoldsUpTheClient(t *testing.T) {
	for _, options := range []Options{{Limits: Limits{InboxEvents: 4}}, {Limits: Limits{InboxBytes: 4 * (incomingOverhead + 1005)}}} {
		overKinds(t, func(t *testing.T, k kind) {
			noLeaks(t)
			const n = 3000 // 3 MB are more than the network takes
			h := newHub(t, options)
			gate, done := make(chan struct{}), make(chan struct{})
			handled := 0
			h.Handle("block", func(*Event) { <-gate })
			On(h, "e", func(_ *Socket, text string) error {
				if !strings.HasPrefix(text, fmt.Sprint(handled, "x")) {
					t.Errorf("event %d is %.10s", handled, text)
				}
				if handled++; handled == n {
					close(done)
				}
				return nil
			})
			p := serve(t, k, h).peer(t)
			s := p.arrive(h)
			eventually(t, "its connect to be over", func() bool { return s.inbox.waiting() == 0 })
			keepLittle(p.nc)
			keepLittle(s.session.conn.Load().nc)
			p.send(p.frame(opText, `{"event":"block"}`))
			for i := range n / 10 { // ten to a segment
				var segment []byte
				for j := range 10 {
					text := fmt.Sprint(10*i+j, "x")
					segment = append(segment, p.frame(opText, `{"event":"e","data":"`+text+strings.Repeat("x", 1000-len(text))+`"}`)...)
				}
				p.send(segment)
			}
			sent := p.sent()
			eventually(t, "the reader to pause", func() bool { return s.session.reading.paused() })
			if got := s.inbox.waiting(); got != 4 && options.Limits.InboxEvents > 0 || got != 5 && options.Limits.InboxBytes > 0 {
				t.Errorf("%d events are waiting", got) // "block" is small
			}
			select {
			case <-sent:
				t.Error("the client could send everything")
			default:
			}
			close(gate)
			within(t, done, "all events")
			eventually(t, "the inbox to go", func() bool { return !s.inbox.isRunning() && s.inbox.waiting() == 0 })
			within(t, sent, "the client")
		})
	}
}

// keepLittle makes the kernel's buffers small.
func keepLittle(nc net.Conn) {
	if c, ok := nc.(*tls.Conn); ok {
		nc = c.NetConn()
	}
	if c, ok := nc.(*net.TCPConn); ok {
		c.SetReadBuffer(64 << 10)
		c.SetWriteBuffer(64 << 10)
	}
}

// A client that is not read from does not count as silent: its heartbeat is suspended, and begins
// anew when it is read from again.
func TestInboxSuspendsTheHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: Limits{InboxEvents: 2}})
		left := leavings(h)
		gate := make(chan struct{})
		h.Handle("e", func(e *Event) { <-gate; e.Reply() })
		p := serve(t, overPipe, h).peer(t)
		p.accepted()
		go func() {
			for i := range 5 {
				p.send(p.frame(opText, fmt.Sprintf(`{"event":"e","id":%d}`, i)))
			}
		}()
		<-time.After(time.Hour)
		if len(left) > 0 {
			t.Fatalf("left: %s", <-left)
		}
		close(gate)
		resumed := time.Now()
		p.want(opPing, "") // it waited for the network
		for i := range 5 {
			p.want(opText, fmt.Sprintf(`{"id":%d}`, i))
		}
		// And now the client is silent, which is its own fault.
		for {
			hd, m := p.readWithin(time.Hour)
			if hd.Opcode == opPing {
				continue
			}
			if hd.Opcode != opClose || m != closePayload(StatusPolicyViolation, "ping timeout") {
				t.Errorf("got %v %q", hd.Opcode, m)
			}
			break
		}
		o := h.options
		if took := time.Since(resumed); took < o.Timeouts.Ping || took > o.Timeouts.PingInterval+2*o.Timeouts.Ping {
			t.Errorf("timed out after %v", took)
		}
		wantReason(t, left, ReasonPingTimeout)
	})
}

// readWithin is next for a frame that may take longer.
func (p *peer) readWithin(d time.Duration) (frameHeader, string) {
	p.t.Helper()
	for deadline := time.Now().Add(d); ; {
		hd, m, err := p.read()
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(deadline) {
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return hd, m
	}
}

// The answer to a Call may stand behind many events: they are taken up to twice the bounds. Who
// sends more floods.
func TestInboxFlooded(t *testing.T) {
	for _, more := range []int{7, 8} { // with the one that asks, eight is twice the bound
		t.Run(fmt.Sprint(more), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Limits: Limits{InboxEvents: 4}})
				left := leavings(h)
				answers := make(chan error, 1)
				handled := 0
				h.Handle("ask", func(e *Event) {
					_, err := Call[int](context.Background(), e.Socket(), "q")
					answers <- err
				})
				h.Handle("e", func(*Event) { handled++ })
				p := serve(t, overPipe, h).peer(t)
				p.accepted()
				p.send(p.frame(opText, `{"event":"ask"}`))
				p.want(opText, asking(0))
				for i := range more {
					// What is wrong waits in line like all else.
					p.send(p.frame(opText, []string{`{"event":"e"}`, `nonsense`}[i%2]))
				}
				p.send(p.frame(opText, `{"id":0,"data":1}`))
				synctest.Wait()
				err := <-answers
				if more < 8 {
					if err != nil {
						t.Error(err)
					}
					p.send(p.frame(opText, `{"event":"e","id":5}`))
					for range more / 2 {
						if _, m := p.next(); !strings.Contains(m, "expected a JSON object") {
							t.Errorf("got %s", m)
						}
					}
					p.want(opText, `{"id":5}`)
					return
				}
				if !errors.Is(err, ErrDisconnected) {
					t.Errorf("the call: %v", err)
				}
				// The Call ends a moment before the close frame is queued: a few answers may come
				// ahead of that.
				op, m := p.next()
				for strings.Contains(m, "expected a JSON object") {
					op, m = p.next()
				}
				if op.Opcode != opClose || m != closePayload(StatusPolicyViolation, "too many events are waiting") {
					t.Errorf("got %v %q", op.Opcode, m)
				}
				wantReason(t, left, ReasonForcedServerClose)
				if handled != 4 {
					t.Errorf("%d of the events taken were handled", handled)
				}
			})
		})
	}
}

// A handler that asks its own client while the reader pauses gets its answer: the pause ends.
func TestInboxCallEndsThePause(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Limits: Limits{InboxEvents: 2}})
		gate := make(chan struct{})
		OnCall(h, "ask", func(s *Socket, _ any) (int, error) {
			<-gate
			return Call[int](s.Context(), s, "q")
		})
		h.Handle("e", func(*Event) {})
		p := serve(t, k, h).peer(t)
		s := p.arrive(h)
		for _, text := range []string{`{"event":"ask","id":1}`, `{"event":"e","id":2}`, `{"event":"e","id":3}`, `{"id":0,"data":41}`} {
			p.send(p.frame(opText, text))
		}
		eventually(t, "the reader to pause", func() bool { return s.session.reading.paused() })
		close(gate)
		for _, text := range []string{asking(0), `{"id":1,"data":41}`, `{"id":2}`, `{"id":3}`} {
			p.want(opText, text)
		}
	})
}

// A client whose input never ends leaves the processor to others after a number of its messages,
// though its reading and its handling let each other go on all the time.
func TestFloodLeavesTurns(t *testing.T) {
	noLeaks(t)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	h := newHub(t, Options{})
	var handled atomic.Int64
	h.Handle("flood", func(*Event) { handled.Add(1) })
	message := maskedText(`{"event":"flood"}`)
	nc := &flood{scriptedConn: &scriptedConn{segments: [][]byte{bytes.Repeat(message, smallBuffer/len(message))}, again: true}}
	s := h.newPlain(newConn(nc, connConfig{}), &Handshake{}, context.Background())
	h.quota.acquire("")
	if a := (admitted{hub: h}); !a.begin(s.session) {
		t.Fatal("the hub does not take it in")
	}
	eventually(t, "the flood", func() bool { return handled.Load() > 0 })
	for range 100 {
		before := handled.Load()
		runtime.Gosched()
		if n := handled.Load() - before; n > 4*maxTurn {
			t.Fatalf("%d messages of the flood were handled before another goroutine had its turn", n)
		}
	}
	nc.Close()
}

// flood is a connection on which the same comes again and again until it is closed.
type flood struct {
	*scriptedConn
	over atomic.Bool
}

func (f *flood) Read(p []byte) (int, error) {
	if f.over.Load() {
		return 0, io.EOF
	}
	return f.scriptedConn.Read(p)
}

func (f *flood) Close() error {
	f.over.Store(true)
	return nil
}

// Who handles what waits leaves the processor to others, too, though nobody else is to be let go
// on.
func TestInboxLeavesTurns(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const n = 100 * maxTurn
	b := &queue[incoming]{reading: new(reading), maxCount: n, maxBytes: noBound}
	var handled atomic.Int64
	b.handler = handlerFunc[incoming](func(incoming) { handled.Add(1) })
	for range n {
		b.push(incoming{})
	}
	runtime.Gosched()
	if n := handled.Load(); n > 10*maxTurn { // one, and a few if this goroutine was interrupted before
		t.Errorf("%d are handled after one turn", n)
	}
	emptyInbox(t, b)
}
