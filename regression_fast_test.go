package atrium

// Bugs of the write queue and of the heartbeat that were found once; each test is named after its bug, and says how it
// was mended.

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// BUG: a client that reads a long message slowly, but steadily, is disconnected with "ping timeout": its ping waits in
// the queue for the end of the frame, and the time-out counts from when it was queued. A megabyte at 16 KB a second is
// enough, with the default options too.
// Fix: while the network takes bytes ahead of the ping, the time-out begins anew.
func TestBugPingTimeoutOfAPingThatHasNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{Ping: 4 * time.Second}})
		left := leavings(h)
		p := serve(t, overPipe, h).peer(t).accepted()
		text := strings.Repeat("x", 1<<20)
		if err := h.Emit("long", text); err != nil {
			t.Fatal(err)
		}
		p.nc.SetReadDeadline(time.Time{})
		for range len(text) / writeChunk {
			<-time.After(time.Second)
			if _, err := io.CopyN(io.Discard, p.in, writeChunk); err != nil {
				t.Fatalf("%v; the client was disconnected: %v", err, <-left)
			}
		}
		if rest, err := p.in.ReadString('}'); err != nil || !strings.HasSuffix(rest, `x"}`) {
			t.Fatalf("%.100q, %v", rest, err)
		}
		p.want(OpPing, "") // it leaves now, and is not answered
		p.wantClose(StatusPolicyViolation, "ping timeout")
		wantReason(t, left, ReasonPingTimeout)
	})
}

// BUG: a queue that was long once, and does not run empty, keeps its room for good, and goes through all of it whenever
// it makes use of the room in front again. After a backlog of 800,000 small frames, 20 MB, pop took 10 µs a frame under
// the outbox's lock.
// Fix: in pop, let go of room that is far too much.
func TestBugOutboxKeepsTheRoomOfABacklog(t *testing.T) {
	o := &outbox{limit: 1 << 30}
	frame := numberedFrame(OpBinary, 0, 8)
	const backlog, left = 100_000, 100
	for range backlog {
		o.push(frame, forWriter)
	}
	for o.frames.len() > left {
		o.pop()
	}
	if cap(o.frames.items) > 10*left {
		t.Errorf("%d frames wait in a queue with room for %d", left, cap(o.frames.items))
	}
	for n := left; ; n-- {
		if got := o.pop(); got == nil {
			if n != 0 {
				t.Errorf("%d frames are lost", n)
			}
			break
		}
	}
}

// BUG: a reader that has handled an event and then a control frame that came with it waits on the stack that the event
// has made larger, 4 KB instead of 2, and does so until the next event, however many pongs come: readMessage waits by
// itself when it has dealt with a control frame.
// Fix: for the session, readMessage returns instead, and the reader is replaced.
func TestBugReaderWaitsDeepAfterAControlFrame(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	p := serve(t, overTCP, h).peer(t).accepted()
	for range 20 {
		p.send([]byte(string(p.frame(OpText, `{"event":"unknown"}`)) + string(p.frame(OpPing, "behind it"))))
		for range 2 {
			p.next()
		}
		eventually(t, "the reader to wait", func() bool {
			for _, g := range packageGoroutines() {
				if strings.Contains(g, "(*Conn).serve(") && strings.Contains(g, "IO wait") {
					if strings.Contains(g, "(*Conn).handleInput(") {
						t.Fatalf("the reader waits deep in its stack:\n%s", g)
					}
					return true
				}
			}
			return false
		})
	}
}
