package atrium

// Bugs of the write queue and of the heartbeat that were found once; each test is named after its bug, and says how it
// was mended.

import "testing"

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
	for len(o.queue)-o.head > left {
		o.pop()
	}
	if cap(o.queue) > 10*left {
		t.Errorf("%d frames wait in a queue with room for %d", left, cap(o.queue))
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
