package atrium

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// blockedHub is a hub for one client, whose handler blocks until the gate is opened.
func blockedHub(t *testing.T) (h *Hub, left <-chan Reason, open func()) {
	h = newHub(t, Options{Limits: Limits{Connections: 1, InboxEvents: 4}, Timeouts: Timeouts{PingInterval: 64 * time.Millisecond, Ping: 64 * time.Millisecond}})
	left = leavings(h)
	gate := make(chan struct{})
	open = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open) // a test that has failed must not hold up the next
	h.OnConnect(func(s *Socket) { s.Join("lobby") })
	h.Handle("block", func(*Event) { <-gate })
	return h, left, open
}

// wantClientGone expects the client to have left everything but its handler.
func wantClientGone(t *testing.T, h *Hub, left <-chan Reason, open func()) {
	t.Helper()
	eventually(t, "the client to leave its room", func() bool {
		n, _ := h.To("lobby").Count(context.Background())
		return n == 0
	})
	eventually(t, "its place to be free", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.quota.total == 0
	})
	if len(left) > 0 {
		t.Errorf("OnDisconnect ran while the handler did: %s", <-left)
	}
	open()
	within(t, left, "OnDisconnect")
}

// A client that has filled its inbox is not read from. When it goes, that is noticed nevertheless,
// and not only when its handler returns: it leaves its rooms and frees its place.
func TestGhostWhoseHandlerBlocks(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h, left, open := blockedHub(t)
		p := serve(t, k, h).peer(t)
		s := p.arrive(h)
		go io.Copy(io.Discard, p.nc) // with nothing unread its end is orderly
		for range 10 {
			p.send(p.frame(opText, `{"event":"block"}`))
		}
		eventually(t, "the reader to pause", s.session.reading.paused)
		p.nc.Close()
		wantClientGone(t, h, left, open)
	})
}

// The same by polling: it is the POST that waits.
func TestGhostThatPolls(t *testing.T) {
	noLeaks(t)
	for _, gets := range []bool{false, true} {
		t.Run(fmt.Sprintf("a GET waits: %t", gets), func(t *testing.T) {
			h, left, open := blockedHub(t)
			e := serve(t, overTCP, h).joined(t)
			s := h.sockets(1)[0]
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var requests sync.WaitGroup
			requests.Go(func() {
				e.request(ctx, "POST", e.query(), strings.Repeat("42[\"block\"]\x1e", 9)+`42["block"]`)
			})
			eventually(t, "the POST to wait", s.session.reading.paused)
			if gets {
				requests.Go(func() { e.request(ctx, "GET", e.query(), "") })
			}
			cancel()
			wantClientGone(t, h, left, open)
			requests.Wait()
		})
	}
}

// A client that is slow because its handler is, but there, stays: for hours, and whether it reads
// meanwhile or not. What it has sent is handled in the end.
func TestSlowHandlerIsNoGhost(t *testing.T) {
	for _, reads := range []bool{false, true} {
		t.Run(fmt.Sprintf("it reads: %t", reads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{Limits: Limits{InboxEvents: 4}})
				left := leavings(h)
				gate := make(chan struct{})
				handled := make(chan struct{}, 10)
				h.Handle("block", func(*Event) { <-gate; handled <- struct{}{} })
				p := serve(t, overPipe, h).peer(t)
				p.arrive(h)
				pings := 0
				if reads {
					go func() {
						for {
							hd, m, err := p.read()
							if err != nil {
								return
							}
							if hd.Opcode == opPing {
								pings++
								p.send(p.frame(opPong, m)) // which waits behind the events
							}
						}
					}()
				}
				for range 10 {
					p.send(p.frame(opText, `{"event":"block"}`))
				}
				<-time.After(10 * time.Hour)
				if len(left) > 0 {
					t.Fatalf("left: %s", <-left)
				}
				// Not more than it would be without the pause, times two or so.
				if most := int(10*time.Hour/h.options.Timeouts.Ping) * 2; pings > most+1 {
					t.Errorf("%d pings in ten hours", pings)
				}
				close(gate)
				for range 10 {
					<-handled
				}
				p.nc.Close()
				wantReason(t, left, ReasonTransportClose)
			})
		})
	}
}
