package atrium

import (
	"bytes"
	"fmt"
	"math/bits"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// heapBytes returns how much of the heap is in use.
func heapBytes() int {
	runtime.GC()
	runtime.GC() // the pools let go of what they have at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A bound in bytes is one of memory, also where each item has next to none: what is counted is half
// to twice what it takes. It is counted for words of 8 bytes; where they have 4, half as much may
// be taken.
func TestBoundsCountMemory(t *testing.T) {
	const bound = 4 << 20
	// Each function fills something with the smallest items up to the bound, and returns what is
	// counted and what holds them.
	tests := map[string]func(t *testing.T) (counted int, holder any){
		"acknowledgements to a WebSocket": func(t *testing.T) (int, any) {
			m := newMailbox(t, newHub(t, Options{}))
			out := &m.session.conn.Load().out
			for out.limit = bound; out.status().cost < bound; {
				m.reply(1, args{})
			}
			t.Cleanup(m.drop)
			return out.status().cost, m
		},
		"events to a WebSocket": func(t *testing.T) (int, any) {
			m := newMailbox(t, newHub(t, Options{}))
			out := &m.session.conn.Load().out
			for out.limit = bound; out.status().cost < bound; {
				m.Emit("x")
			}
			t.Cleanup(m.drop)
			return out.status().cost, m
		},
		"packets to one that polls": func(t *testing.T) (int, any) {
			codec := &socketIOCodec{handshake: new(Handshake)}
			p := newPolling(newHub(t, Options{Limits: Limits{QueuedBytes: bound}}), codec)
			p.permit(1<<20, bound)
			for p.cost() < bound {
				p.session.sendPacket(packet{kind: packetAck, namespace: "/", eventData: dataOf("", "", 0, 1)})
			}
			return p.cost(), p
		},
		"events of a plain client": func(t *testing.T) (int, any) {
			return fillInbox(t, bound, func(s *session) { s.codec.receive(s, opText, []byte(`{"event":"x"}`)) })
		},
		"events of a Client": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{})
			handling, goOn := make(chan bool, 1), make(chan bool)
			c.HandleAny(func(*Event) { blockOnce(handling, goOn) })
			c.inbox.bound(noBound, bound)
			l := newLink(c, newConn(&scriptedConn{}, connConfig{}), nil)
			for c.inbox.held() < bound {
				var parts assembler
				p, _, _ := parts.add(enginePacket{kind: engineMessage, data: []byte(`2["x"]`)}, attachmentLimits{defaultMaxAttachments, bound})
				l.receiveEvent(p)
			}
			within(t, handling, "the first event")
			t.Cleanup(func() { close(goOn); emptyInbox(t, &c.inbox) })
			return c.inbox.held(), c
		},
		"messages of a MemoryBus": func(t *testing.T) (int, any) {
			q := newQueue(bound, func(busMessage) {})
			for q.running = true; q.offer(bytes.Clone([]byte{'x'})) == itemTaken; { // nobody handles them
			}
			return q.bytes, q
		},
		"messages to a Bus": func(t *testing.T) (int, any) {
			q := newQueue(bound, func(outgoing) {})
			q.running = true
			message := (&clusterMessage{kind: clusterEvent, from: "12345", namespace: "/", eventData: eventData{name: "x"}}).encode()
			for q.offer(outgoing{topic: "t", msg: bytes.Clone(message)}) == itemTaken {
			}
			return q.bytes, q
		},
		"notices of other nodes": func(t *testing.T) (int, any) {
			q := newQueue(bound, func(clusterMessage) {})
			q.running = true
			message := (&clusterMessage{kind: clusterNotice, from: "12345", eventData: dataOf("x", "1", 1, noID)}).encode()
			for {
				m, ok := parseClusterMessage(message)
				if !ok {
					t.Fatal("a message is malformed")
				}
				m.args.json = bytes.Clone(m.args.json)
				if q.offer(m) != itemTaken {
					return q.bytes, q
				}
			}
		},
		"events kept for Recovery": func(t *testing.T) (int, any) {
			l := newRecoveryHub(t, overPipe, Options{Recovery: Recovery{MaxBytes: bound}})
			l.enter(t, "") // who may come back
			r := l.recovery
			for number := uint64(0); number == 0 || r.dropped == 0; number++ { // until the first goes
				l.To("room-" + strconv.FormatUint(number, 10)).Emit("x")
			}
			return r.bytes, r
		},
		"what a Client keeps to be sent": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{MaxOfflineBytes: bound})
			for c.Emit("x") == nil {
			}
			return c.queue.size, c
		},
		"what a Client keeps to be sent, with attachments": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{MaxOfflineBytes: bound})
			b := Binary("x")
			for c.Emit("x", b, b, b, b, b, b, b, b, b, b) == nil {
			}
			return c.queue.size, c
		},
	}
	for name, fill := range tests {
		t.Run(name, func(t *testing.T) {
			before := heapBytes()
			counted, holder := fill(t)
			took := heapBytes() - before
			runtime.KeepAlive(holder)
			t.Logf("%d bytes are counted, %d taken: %.2f times", counted, took, float64(took)/float64(counted))
			if counted < bound*9/10 {
				t.Errorf("only %d bytes are counted", counted)
			}
			if took > 2*counted || counted > 128/bits.UintSize*took {
				t.Errorf("%d bytes are counted, %d taken", counted, took)
			}
		})
	}
}

// fillInbox has a client's first event block, and receives others until the bound.
func fillInbox(t *testing.T, bound int, receive func(*session)) (counted int, holder any) {
	h := newHub(t, Options{})
	handling, goOn := make(chan bool, 1), make(chan bool)
	h.HandleAny(func(*Event) { blockOnce(handling, goOn) })
	m := newMailbox(t, h)
	m.session.codec.(*plainCodec).asked = true
	m.inbox.bound(noBound, bound)
	for m.inbox.held() < bound && !m.session.ended.Load() {
		receive(m.session)
	}
	within(t, handling, "the first event")
	t.Cleanup(func() { close(goOn); emptyInbox(t, &m.inbox); m.drop() })
	return m.inbox.held(), m
}

// blockOnce is a handler that says when it is first called, and blocks until goOn is closed.
func blockOnce(handling chan<- bool, goOn <-chan bool) {
	select {
	case handling <- true:
	default:
	}
	<-goOn
}

func emptyInbox(t *testing.T, b *queue[incoming]) {
	eventually(t, "the inbox to be empty", func() bool { return b.waiting() == 0 })
}

// held is what the waiting and the handled take.
func (b *queue[T]) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}

// Until somebody lets a client in, its sockets in all namespaces have one bound together; its
// reader waits beyond it, and nothing is lost.
func TestPendingClientIsBounded(t *testing.T) {
	noLeaks(t)
	goOn := make(chan bool)
	h := newHub(t, Options{})
	h.OfFunc(func(string) bool { return true }).Use(func(*Socket) error { <-goOn; return nil })
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		s := h.list()[0]
		token := strings.Repeat("x", 3000)
		said := make(chan bool)
		go func() {
			defer close(said)
			for i := range maxSockets {
				c.say(fmt.Sprintf(`40/n%d,{"token":"%s"}`, i, token))
			}
		}()
		eventually(t, "the reader to wait", func() bool { return s.reading.paused() })
		if held, most := int(s.reading.held.Load()), maxBeforeConnect+2*socketOverhead; held > most {
			t.Errorf("%d bytes are held, want at most %d", held, most)
		}
		if n := len(s.liveSockets()); n > maxBeforeConnect/socketOverhead {
			t.Errorf("%d sockets wait to be let in", n)
		}
		for range maxSockets {
			goOn <- true
		}
		<-said
		for range maxSockets {
			if m := c.hear(); !strings.HasPrefix(m, "40/n") {
				t.Errorf("got %s", m)
			}
		}
		c.say("1")
		eventually(t, "the client to go", func() bool { return len(h.list()) == 0 })
	})
}

// What is queued for a client that nobody has let in is bounded, too: it is a slow consumer long
// before another is.
func TestRefusalsAreBounded(t *testing.T) {
	codec := &socketIOCodec{handshake: new(Handshake)}
	h := newHub(t, Options{})
	p := newPolling(h, codec)
	h.quota.acquire("")
	h.add(p.session, "")
	most := 0
	for n := 0; !p.session.ended.Load(); n++ {
		if n == maxBeforeConnect {
			t.Fatalf("%d refusals are queued", n)
		}
		p.session.sendPacket(newPacket(packetConnectError, "/x", "", errorBody("", "Invalid namespace", nil)))
		most = max(most, p.cost())
	}
	if most > maxBeforeConnect+1000 {
		t.Errorf("%d bytes were queued", most)
	}
}

// The attachments of a client that nobody has let in are bounded together, not only each of them.
func TestAttachmentsBeforeConnectAreBounded(t *testing.T) {
	noLeaks(t)
	goOn := make(chan bool)
	h := newHub(t, Options{})
	h.Use(func(*Socket) error { <-goOn; return nil })
	t.Cleanup(func() { close(goOn) })
	c := serve(t, overTCP, h).socketIO(t)
	c.send("40")
	c.send(`52-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	for range 2 {
		if err := c.Write(t.Context(), MessageBinary, make([]byte, maxBeforeConnect*2/3)); err != nil {
			t.Fatal(err)
		}
	}
	c.wantClosed(StatusPolicyViolation)
}

// Clients that nobody has let in yet have a bound of their own: one more is told to come again,
// until one is accepted, refused, or gone.
func TestMaxPending(t *testing.T) {
	noLeaks(t)
	outcome := make(chan error)
	h := newHub(t, Options{Limits: Limits{Pending: 2}})
	h.Use(func(s *Socket) error {
		select {
		case err := <-outcome:
			return err
		case <-s.Context().Done():
			return s.Context().Err()
		}
	})
	srv := serve(t, overTCP, h)
	come := func() net.Conn {
		nc, _ := srv.upgrade(t)
		return nc
	}
	wantRefused := func() {
		t.Helper()
		r := request(t, srv.raw(t), handshakeHead+"\r\n")
		if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
			t.Errorf("one more gets %s, Retry-After: %q", r.Status, r.Header.Get("Retry-After"))
		}
	}
	wantRoom := func() {
		t.Helper()
		eventually(t, "room for another", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.quota.pending < 2
		})
	}
	come()
	leaves := come()
	wantRefused()
	leaves.Close()
	wantRoom()
	come()
	wantRefused()
	for _, err := range []error{nil, Errorf("no")} {
		outcome <- err
		wantRoom()
		come()
		wantRefused()
	}
	r := request(t, srv.raw(t), "GET /?EIO=4&transport=polling HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("one more that polls gets %s, Retry-After: %q", r.Status, r.Header.Get("Retry-After"))
	}
}

// newFilledHub makes a hub with a bound of 100,000 bytes for all clients together. fill connects a
// client that does not read, and emits so many kilobytes to it; left gets who has left, and why.
func newFilledHub(t *testing.T) (fill func(kilobytes int) *Socket, left chan string) {
	h := newHub(t, Options{Limits: Limits{TotalQueuedBytes: 100_000}, Timeouts: Timeouts{PingInterval: time.Hour}})
	left = make(chan string, 10)
	h.OnDisconnect(func(s *Socket, why Reason) { left <- s.ID() + " " + string(why) })
	srv := serve(t, overPipe, h)
	return func(kilobytes int) *Socket {
		s := srv.peer(t).arrive(h)
		for range kilobytes {
			s.Emit("e", strings.Repeat("x", 900))
		}
		return s
	}, left
}

// Beyond the bound for all clients together those with most waiting are disconnected, and nobody
// else.
func TestMaxQueuedTotal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fill, left := newFilledHub(t)
		fill(20)
		fill(30)
		<-time.After(time.Minute)
		if len(left) > 0 {
			t.Fatalf("within the bound %s", <-left)
		}
		most, next := fill(60), fill(48)
		<-time.After(5 * time.Second)
		want := []string{most.ID() + " slow consumer", next.ID() + " slow consumer"}
		for range want {
			if got := within(t, left, "leaving"); !slices.Contains(want, got) {
				t.Errorf("left: %s, want %q", got, want)
			}
		}
		<-time.After(time.Minute)
		if len(left) > 0 {
			t.Errorf("too many are disconnected: %s", <-left)
		}
	})
}

// What is queued for a client that is being disconnected counts until it has left: others make
// room.
func TestMaxQueuedTotalCountsWhoLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fill, left := newFilledHub(t)
		leaving, staying := fill(60), fill(48)
		leaving.Disconnect()
		<-time.After(3 * time.Second) // a stalled one is cut after five
		for _, want := range []string{
			leaving.ID() + " " + string(ReasonServerDisconnect),
			staying.ID() + " " + string(ReasonSlowConsumer),
		} {
			if got := within(t, left, want); got != want {
				t.Errorf("left: %s, want %s", got, want)
			}
		}
	})
}

// What waits for clients that poll counts, too.
func TestMaxQueuedTotalOfPolling(t *testing.T) {
	h := newHub(t, Options{Limits: Limits{TotalQueuedBytes: 100_000}})
	p := newPolling(h, &socketIOCodec{handshake: new(Handshake)})
	h.quota.acquire("")
	h.add(p.session, "")
	p.session.accepted()
	for p.status().cost <= 100_000 {
		p.session.sendText(append(newFrame(10), '6'))
	}
	h.backlog.look()
	if !p.session.ended.Load() {
		t.Error("the client is still connected")
	}
}
