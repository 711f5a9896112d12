package atrium

import (
	"bytes"
	"runtime"
	"strconv"
	"testing"
)

// heapBytes returns how much of the heap is in use.
func heapBytes() int {
	runtime.GC()
	runtime.GC() // the pools let go of what they have at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// A bound in bytes is one of memory, also where each item has next to none: what is counted is half to twice what it
// takes.
func TestBoundsCountMemory(t *testing.T) {
	const bound = 4 << 20
	// Each function fills something with the smallest items up to the bound, and returns what is counted and what holds
	// them.
	tests := map[string]func(t *testing.T) (counted int, holder any){
		"acknowledgements to a WebSocket": func(t *testing.T) (int, any) {
			m := newMailbox(t, newHub(t, Options{}))
			out := &m.session.conn.out
			for out.limit = bound; out.takes() < bound; {
				m.answer(1, arguments{})
			}
			t.Cleanup(m.drop)
			return out.takes(), m
		},
		"events to a WebSocket": func(t *testing.T) (int, any) {
			m := newMailbox(t, newHub(t, Options{}))
			out := &m.session.conn.out
			for out.limit = bound; out.takes() < bound; {
				m.Emit("x")
			}
			t.Cleanup(m.drop)
			return out.takes(), m
		},
		"packets to one that polls": func(t *testing.T) (int, any) {
			codec := new(socketIOCodec)
			p := newPolling(newHub(t, Options{}).sessions, codec, bound)
			for p.cost() < bound {
				p.session.sendText(codec.appendAck(newFrame(48), "/", 1, arguments{}))
			}
			return p.cost(), p
		},
		"events of a plain client": func(t *testing.T) (int, any) {
			return fillInbox(t, bound, func(s *session) { s.codec.receive(s, OpText, []byte(`{"event":"x"}`)) })
		},
		"events of a Client": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{})
			handling, goOn := make(chan bool, 1), make(chan bool)
			c.HandleAny(func(*Event) { blockOnce(handling, goOn) })
			c.inbox.bound(noBound, bound)
			l := newLink(c, newConn(&script{}, connConfig{}), nil)
			for c.inbox.held() < bound {
				var parts assembler
				p, _, _ := parts.take(enginePacket{kind: engineMessage, data: []byte(`2["x"]`)}, bound)
				l.event(p)
			}
			within(t, handling, "the first event")
			t.Cleanup(func() { close(goOn); emptyInbox(t, &c.inbox) })
			return c.inbox.held(), c
		},
		"messages of a MemoryBus": func(t *testing.T) (int, any) {
			q := &queue[[]byte]{limit: bound, running: true} // nobody takes them
			for q.push([]byte{'x'}, 1) {
			}
			return q.bytes, q
		},
		"messages to a Bus": func(t *testing.T) (int, any) {
			q := &queue[outgoing]{limit: bound, running: true}
			message := (&clusterMessage{kind: clusterEvent, from: "12345", namespace: "/", event: "x"}).encode()
			for q.push(outgoing{topic: "t", msg: bytes.Clone(message)}, 1+len(message)) {
			}
			return q.bytes, q
		},
		"notices of other nodes": func(t *testing.T) (int, any) {
			q := &queue[clusterMessage]{limit: bound, running: true}
			message := (&clusterMessage{kind: clusterNotice, from: "12345", event: "x", args: []byte("1"), n: 1}).encode()
			for {
				m, ok := parseClusterMessage(message)
				if !ok {
					t.Fatal("a message is malformed")
				}
				m.args = bytes.Clone(m.args)
				if !q.push(m, m.size()) {
					return q.bytes, q
				}
			}
		},
		"events kept for Recovery": func(t *testing.T) (int, any) {
			l := newLounge(t, overPipe, Options{Recovery: Recovery{MaxBytes: bound}})
			l.enter(t, "") // who may come back
			r := l.main().recovery
			for number := uint64(0); number == 0 || r.dropped == 0; number++ { // until the first goes
				l.To("room-" + strconv.FormatUint(number, 10)).Emit("x")
			}
			return r.bytes, r
		},
		"what a Client keeps to be sent": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{Offline: bound})
			for c.Emit("x") == nil {
			}
			return c.unsent.size, c
		},
		"what a Client keeps to be sent, with attachments": func(t *testing.T) (int, any) {
			c := NewClient("http://example.com", ClientOptions{Offline: bound})
			b := Binary("x")
			for c.Emit("x", b, b, b, b, b, b, b, b, b, b) == nil {
			}
			return c.unsent.size, c
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
			if took > 2*counted || counted > 2*took {
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

func emptyInbox(t *testing.T, b *inbox) {
	eventually(t, "the inbox to be empty", func() bool { return b.waiting() == 0 })
}

// held is what the waiting and the handled take.
func (b *inbox) held() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes
}
