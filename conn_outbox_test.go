package atrium

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// outboxModel is what an outbox should be, in lists that are obviously right.
type outboxModel struct {
	t    *testing.T
	seed uint64
	r    *rand.Rand
	o    outbox
	g    *gatedConn

	frames             int // made so far
	data, pings, pongs [][]byte
	last               []byte
	bytes              int
	owed               bool // a wake is
	closing, failed    bool
	parsed             int  // of g.handed, in frames
	begun              bool // the frame behind that has been, and is still the first of data
	ended              bool
}

func (m *outboxModel) errorf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: "+format, append([]any{m.seed}, args...)...)
}

func (m *outboxModel) frame(op opcode, n int) []byte {
	m.frames++
	return numberedFrame(op, m.frames, n)
}

// added notes a frame that the outbox took, and checks that it asked for a writer if and only if
// there is none. A broadcast does not ask twice.
func (m *outboxModel) added(list *[][]byte, frame []byte, by pusher, wake bool) {
	m.t.Helper()
	*list = append(*list, frame)
	m.bytes += len(frame)
	if want := m.g.current == nil && !(by == forBroadcast && m.owed); wake != want {
		m.errorf("wake is %t, want %t", wake, want)
	}
	m.owed = m.owed || wake
}

// cost is what counts against the limit: each frame that waits takes more than its bytes.
func (m *outboxModel) cost() int {
	waiting := len(m.data)
	if m.begun {
		waiting--
	}
	if m.last != nil {
		waiting++
	}
	return m.bytes + waiting*frameOverhead
}

func (m *outboxModel) stalledFor(d time.Duration) bool {
	return m.g.current != nil && time.Since(m.g.began) >= d
}

func (m *outboxModel) push() {
	size := []int{8, 100, 1000, 4000, writeChunk - 4, writeChunk, 3 * writeChunk, 100_000}[m.r.IntN(8)]
	frame := m.frame(opBinary, size)
	by, volatile := pusher(m.r.IntN(3)), m.r.IntN(4) == 0
	if volatile && by == forWriter {
		by = forEmitter
	}
	var want, got pushResult
	var wake bool
	switch {
	case m.closing || m.failed:
		want = pushRefused
	case m.cost() > 4*m.o.limit, m.cost() > m.o.limit && m.stalledFor(stallTimeout):
		want = pushTooSlow
	case m.cost() > m.o.limit:
		want = pushOverLimit
	}
	if volatile {
		if m.stalledFor(kernelWait) {
			want = pushDropped
		}
		got, wake = m.o.pushVolatile(frame, by)
	} else {
		if by == forWriter && want != pushRefused {
			want = pushQueued
		}
		got, wake = m.o.push(frame, by)
	}
	if got != want {
		m.errorf("push(volatile=%t, by=%d) with %d bytes queued: verdict %d, want %d", volatile, by, m.cost(), got, want)
	}
	if got <= pushOverLimit {
		m.added(&m.data, frame, by, wake)
	} else if wake {
		m.errorf("a wake for nothing")
	}
}

func (m *outboxModel) pushControl() {
	if m.r.IntN(2) == 0 {
		frame := m.frame(opPing, m.r.IntN(126))
		queued, wake := m.o.pushControl(opPing, frame)
		if queued == (m.closing || m.failed) {
			m.errorf("queued is %t on a ping", queued)
		}
		if queued {
			m.added(&m.pings, frame, forEmitter, wake)
		}
		return
	}
	for range 1 << m.r.IntN(6) {
		frame := m.frame(opPong, 125)
		_, wake := m.o.pushControl(opPong, frame)
		if m.closing || m.failed {
			if wake {
				m.errorf("a wake for nothing")
			}
			continue
		}
		if size(m.pongs)+len(frame) > maxPongs {
			m.bytes -= size(m.pongs)
			m.pongs = nil // the latest is answered
		}
		m.added(&m.pongs, frame, forEmitter, wake)
	}
}

func size(frames [][]byte) (n int) {
	for _, f := range frames {
		n += len(f)
	}
	return n
}

func (m *outboxModel) end() {
	m.data, m.pings, m.pongs, m.last, m.bytes, m.failed = nil, nil, nil, nil, 0, true
	m.parsed, m.begun = len(m.g.handed), false
}

func (m *outboxModel) step() {
	switch n := m.r.IntN(100); {
	case n < 45:
		m.push()
	case n < 55:
		m.pushControl()
	case n < 70:
		if m.owed {
			m.owed = false
			m.o.wake()
		}
	case n < 90:
		if m.g.current != nil {
			if !m.failed {
				m.bytes -= len(m.g.current)
			}
			m.g.pass()
		}
	case n < 96:
		<-time.After([]time.Duration{1, kernelWait - 1, kernelWait, stallTimeout - 1, stallTimeout}[m.r.IntN(5)])
	case n == 96 && m.r.IntN(3) == 0 && !m.closing:
		m.o.abandon()
		kept := m.data[:0]
		if m.begun {
			kept = m.data[:1]
		}
		m.bytes -= size(m.data) - size(kept) + size(m.pings) + size(m.pongs)
		m.data, m.pings, m.pongs = kept, nil, nil
	case n == 97 && m.r.IntN(3) == 0:
		frame := m.frame(opClose, 8)
		wake := m.o.pushClose(frame, nil)
		if m.closing || m.failed {
			if wake {
				m.errorf("a wake for nothing")
			}
			break
		}
		m.closing = true
		var last [][]byte
		m.added(&last, frame, forEmitter, wake)
		m.last = frame
	case n == 98 && m.r.IntN(5) == 0 && m.g.current != nil:
		m.g.let <- admission{m.r.IntN(len(m.g.current) + 1), errors.New("connection reset")}
		m.end()
	case n == 99 && m.r.IntN(5) == 0:
		m.o.stop(net.ErrClosed)
		m.end()
	}
	m.check()
}

// check compares the outbox with the model, when all that can happen has happened.
func (m *outboxModel) check() {
	m.t.Helper()
	synctest.Wait()
	m.parse()
	if got := m.o.status().bytes; got != m.bytes {
		m.errorf("%d bytes are accounted for, want %d", got, m.bytes)
	}
	m.o.mu.Lock()
	state := m.o.state
	m.o.mu.Unlock()
	want := writerIdle
	switch {
	case m.g.current != nil:
		want = writerWriting
	case m.owed:
		want = writerScheduled
	}
	if state != want {
		m.errorf("state is %d, want %d", state, want)
	}
	at := m.o.status().slowAt
	if slow := at != 0 && at <= nanotime(); slow != (m.cost() > m.o.limit && m.stalledFor(stallTimeout)) {
		m.errorf("overdue is %t with %d bytes of %d", slow, m.cost(), m.o.limit)
	}
	if len(m.g.current) > 2*writeChunk {
		m.errorf("a write of %d bytes", len(m.g.current))
	}
	if !m.owed && m.g.current == nil && (m.bytes != 0 || len(m.data)+len(m.pings)+len(m.pongs)+len(m.last) > 0) {
		m.errorf("%d bytes are queued and have no owner", m.bytes)
	}
	if m.closing && m.bytes == 0 && !m.owed && m.g.current == nil {
		m.failed = true // the close frame has left: it is over
	}
	select {
	case <-m.o.closed():
		if !m.failed {
			m.errorf("closed is closed")
		}
	default:
		if m.failed {
			m.errorf("closed is open")
		}
	}
}

// parse looks at what was newly handed to the network: frames, whole and in order. Where a frame
// begins, what should be before it must have been.
func (m *outboxModel) parse() {
	m.t.Helper()
	for m.parsed < len(m.g.handed) {
		rest := m.g.handed[m.parsed:]
		h, n, err := parseHeader(rest)
		if err != nil || n == 0 {
			m.errorf("no frame at %d: %x", m.parsed, rest[:min(len(rest), 20)])
		}
		if m.ended || m.failed {
			m.errorf("a %v after the end", h.Opcode)
		}
		var list *[][]byte
		switch h.Opcode {
		case opBinary:
			list = &m.data
			if !m.begun && len(m.pings)+len(m.pongs) > 0 {
				m.errorf("data went ahead of %d pings and %d pongs", len(m.pings), len(m.pongs))
			}
		case opPing:
			list = &m.pings
		case opPong:
			list = &m.pongs
		case opClose:
			if len(m.data)+len(m.pings)+len(m.pongs) > 0 || m.last == nil {
				m.errorf("the close frame is not last")
			}
			list = &[][]byte{m.last}
			m.last, m.ended = nil, true
		default:
			m.errorf("a torn frame: %v", h)
		}
		if len(*list) == 0 {
			m.errorf("a %v that nobody pushed", h.Opcode)
		}
		frame := (*list)[0]
		n = min(len(rest), len(frame))
		if !bytes.Equal(rest[:n], frame[:n]) {
			m.errorf("a %v is not the one that is due, or not as it was pushed", h.Opcode)
		}
		if m.begun = n < len(frame); m.begun {
			return
		}
		*list = (*list)[1:]
		m.parsed += n
	}
}

func TestOutboxModel(t *testing.T) {
	seen := map[string]int{} // that the schedules reach what they are for
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			m := &outboxModel{t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 7)), g: newGatedConn()}
			m.o.nc, m.o.limit = m.g, 1000<<m.r.IntN(9)
			for range 250 {
				m.step()
			}
			seen["frames"] += m.frames
			seen["writes"] += len(m.g.writes)
			if m.owed {
				m.owed = false
				m.o.wake()
			}
			for m.check(); m.g.current != nil; m.check() {
				if !m.failed {
					m.bytes -= len(m.g.current)
				}
				m.g.pass()
			}
			if m.bytes != 0 {
				m.errorf("%d bytes are left", m.bytes)
			}
			switch {
			case m.ended:
				seen["closed"]++
			case m.failed:
				seen["failed"]++
			default:
				seen["open"]++
			}
		})
	}
	t.Log(seen)
	for _, end := range []string{"closed", "failed", "open"} {
		if seen[end] < 4 {
			t.Errorf("%d outboxes were %s at the end: the schedules do not test much", seen[end], end)
		}
	}
}

// pushAndWake pushes frames that are owed nothing else.
func pushAndWake(t *testing.T, o *outbox, frames ...[]byte) {
	t.Helper()
	for _, f := range frames {
		v, wake := o.push(f, forWriter)
		if v != pushQueued {
			t.Fatalf("verdict %d", v)
		}
		if wake {
			o.wake()
		}
	}
	synctest.Wait()
}

func newTestOutbox(limit int) (*outbox, *gatedConn) {
	g := newGatedConn()
	return &outbox{nc: g, limit: limit}, g
}

// While a write waits, small frames gather and leave in few writes, of a chunk at most.
func TestOutboxCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g := newTestOutbox(1 << 20)
		pushAndWake(t, o, numberedFrame(opBinary, 0, 100))
		var want []byte
		for i := range 1000 {
			frame := numberedFrame(opBinary, i, 100)
			want = append(want, frame...)
			pushAndWake(t, o, frame)
		}
		g.passAll()
		if !bytes.HasSuffix(g.passed, want) {
			t.Error("the bytes are not those pushed")
		}
		if most := 1 + len(want)/(writeChunk-102) + 1; len(g.writes) > most {
			t.Errorf("%d writes, at most %d were expected", len(g.writes), most)
		}
		for _, w := range g.writes {
			if len(w) > writeChunk {
				t.Errorf("a write of %d bytes", len(w))
			}
		}
	})
}

// A frame larger than a chunk is not copied, wherever in the queue it is, and control frames wait
// for its end.
func TestOutboxLargeFrame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, ahead := range []int{0, 1, 5} {
			o, g := newTestOutbox(1 << 20)
			pushAndWake(t, o, numberedFrame(opBinary, 0, 8)) // it is being written
			for i := range ahead {
				pushAndWake(t, o, numberedFrame(opBinary, i, 8))
			}
			large := numberedFrame(opBinary, 99, 5*writeChunk+10)
			small := numberedFrame(opBinary, 100, 8)
			pushAndWake(t, o, large, small)
			g.pass()
			if ahead > 0 {
				g.pass()
			}
			ping := numberedFrame(opPing, 0, 8)
			if _, wake := o.pushControl(opPing, ping); wake {
				t.Error("a wake while there is a drainer")
			}
			written := len(g.handed) - len(g.current)
			for at := 0; at < len(large); {
				if &g.current[0] != &large[at] {
					t.Fatalf("%d frames ahead: the bytes at %d are a copy, or others", ahead, at)
				}
				at += len(g.current)
				g.pass()
			}
			g.passAll()
			if want := slices.Concat(large, ping, small); !bytes.Equal(g.passed[written:], want) {
				t.Errorf("%d frames ahead: not the large frame, the ping, the small frame", ahead)
			}
		}
	})
}

// Both bounds of a slow consumer, on the clock.
func TestOutboxTooSlow(t *testing.T) {
	const limit = 10_000
	frame := numberedFrame(opBinary, 1, 1000)
	want := func(t *testing.T, o *outbox, want pushResult) {
		t.Helper()
		got, wake := o.push(frame, forEmitter)
		if got != want {
			t.Errorf("with %d bytes queued: verdict %d, want %d", o.status().cost, got, want)
		}
		if wake {
			o.wake()
		}
		synctest.Wait()
	}
	t.Run("row 75/over the limit and stalled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o, g := newTestOutbox(limit)
			for o.status().cost <= limit {
				want(t, o, pushQueued)
			}
			want(t, o, pushOverLimit)
			<-time.After(stallTimeout - 1)
			if left := o.status().slowAt - nanotime(); left != 1 {
				t.Errorf("slow in %d ns, want 1", left)
			}
			want(t, o, pushOverLimit)
			<-time.After(1)
			if left := o.status().slowAt - nanotime(); left != 0 {
				t.Errorf("slow in %d ns, want 0", left)
			}
			want(t, o, pushTooSlow)
			g.pass() // the kernel took something: that is life, though the rest is still too much
			want(t, o, pushOverLimit)
			g.passAll()
			if at := o.status().slowAt; at != 0 {
				t.Errorf("an empty outbox is slow at %d", at)
			}
		})
	})
	t.Run("row 75/four times over the limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o, g := newTestOutbox(limit)
			for o.status().cost <= limit {
				want(t, o, pushQueued)
			}
			for o.status().cost <= 4*limit {
				want(t, o, pushOverLimit)
			}
			want(t, o, pushTooSlow)
			if v, _ := o.push(frame, forWriter); v != pushQueued {
				t.Errorf("a patient push: verdict %d", v)
			}
			g.passAll()
		})
	})
	t.Run("row 75/stalled and within the limit", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o, g := newTestOutbox(limit)
			want(t, o, pushQueued)
			<-time.After(10 * stallTimeout)
			want(t, o, pushQueued)
			g.passAll()
		})
	})
}

// A volatile frame is dropped from when a write has waited for kernelWait until that write is over.
// To wait for a wake does not count.
func TestOutboxVolatile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g := newTestOutbox(10_000)
		frame := numberedFrame(opBinary, 1, 10)
		want := func(want pushResult) (wake bool) {
			t.Helper()
			v, wake := o.pushVolatile(frame, forEmitter)
			if v != want {
				t.Errorf("verdict %d, want %d", v, want)
			}
			return wake
		}
		if !want(pushQueued) {
			t.Error("no wake")
		}
		<-time.After(time.Second)
		want(pushQueued)
		o.wake()
		synctest.Wait()
		want(pushQueued)
		<-time.After(kernelWait - 1)
		want(pushQueued)
		<-time.After(1)
		want(pushDropped)
		g.pass()
		want(pushQueued)
		g.passAll()
		if n := len(g.passed) / len(frame); n != 5 {
			t.Errorf("%d frames left, want 5", n)
		}
	})
}

func TestOutboxWaits(t *testing.T) {
	const limit, n = 100_000, 9996 // frames of 10,000 bytes
	const room, half = 1, 2        // parts of the limit
	rows := []struct {
		part   int
		queued int // frames, each of which leaves alone
		passes int // of them leave before the waiter goes on
	}{
		{room, 0, 0},
		{room, 9, 0},
		{room, 10, 6}, // until less than half is queued
		{room, 15, 11},
		{half, 4, 0},
		{half, 5, 1},
		{half, 10, 6},
	}
	for _, row := range rows {
		synctest.Test(t, func(t *testing.T) {
			o, g := newTestOutbox(limit)
			for i := range row.queued {
				pushAndWake(t, o, numberedFrame(opBinary, i, n))
			}
			done := make(chan error, 3)
			for range cap(done) {
				go func() { done <- o.waitBelow(context.Background(), row.part) }()
			}
			synctest.Wait()
			// All but the first frame would leave together: what is queued is let out by hand.
			for pass := 0; pass < row.passes; pass++ {
				if len(done) > 0 {
					t.Fatalf("1/%d with %d queued: went on after %d had left, not %d", row.part, row.queued, pass, row.passes)
				}
				o.mu.Lock()
				o.pop()
				o.mu.Unlock()
				o.wrote(10_000, nil, false)
				synctest.Wait()
			}
			if len(done) != cap(done) {
				t.Fatalf("1/%d with %d queued: %d went on after %d had left", row.part, row.queued, len(done), row.passes)
			}
			for range cap(done) {
				if err := <-done; err != nil {
					t.Errorf("1/%d with %d queued: %v", row.part, row.queued, err)
				}
			}
			o.stop(net.ErrClosed)
			g.passAll()
		})
	}

	for _, part := range []int{room, half} {
		ends := []struct {
			name string
			end  func(o *outbox, g *gatedConn, cancel func())
			want error
		}{
			{"its context ends", func(o *outbox, g *gatedConn, cancel func()) { cancel() }, context.Canceled},
			{"the close frame is pushed", func(o *outbox, g *gatedConn, cancel func()) { o.pushClose(numberedFrame(opClose, 1, 8), nil) }, ErrClosed},
			{"writing is stopped", func(o *outbox, g *gatedConn, cancel func()) { o.stop(net.ErrClosed) }, net.ErrClosed},
			{"a write fails", func(o *outbox, g *gatedConn, cancel func()) { g.let <- admission{50, net.ErrClosed} }, net.ErrClosed},
		}
		for _, end := range ends {
			synctest.Test(t, func(t *testing.T) {
				o, g := newTestOutbox(limit)
				for i := range 10 {
					pushAndWake(t, o, numberedFrame(opBinary, i, n))
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				errs := make(chan error, 3)
				for range cap(errs) {
					go func() { errs <- o.waitBelow(ctx, part) }()
				}
				synctest.Wait()
				if len(errs) > 0 {
					t.Fatalf("did not wait for 1/%d: %v", part, <-errs)
				}
				end.end(o, g, cancel)
				synctest.Wait()
				if len(errs) != cap(errs) {
					t.Fatalf("%d waiters for 1/%d were released when %s", len(errs), part, end.name)
				}
				for range cap(errs) {
					if err := <-errs; !errors.Is(err, end.want) || end.want != context.Canceled && !errors.Is(err, ErrClosed) {
						t.Errorf("waiting for 1/%d, %s: %v, want %v", part, end.name, err, end.want)
					}
				}
				cancel()
				if err := o.waitBelow(ctx, part); err != context.Canceled {
					t.Errorf("waiting for 1/%d with a cancelled context: %v", part, err)
				}
				g.passAll()
			})
		}
	}
}

// A write that fails ends everything: what is queued is let go, what waits is released, nothing is
// written again, and a moment later the network connection is closed, for its reader.
func TestOutboxWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g := newTestOutbox(1000)
		closed := o.closed()
		for i := range 10 {
			pushAndWake(t, o, numberedFrame(opBinary, i, 500))
		}
		reset := errors.New("connection reset")
		g.let <- admission{100, reset}
		synctest.Wait()
		select {
		case <-closed:
		default:
			t.Error("who waits for the end is not released")
		}
		if n := o.status().bytes; n != 0 || o.frames.items != nil || o.state != writerIdle {
			t.Errorf("left: %d bytes, %d frames, state %d", n, o.frames.len(), o.state)
		}
		err := o.closedError()
		if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != StatusAbnormalClosure || !errors.Is(err, reset) {
			t.Errorf("got %v, want 1006 and its cause", err)
		}
		if v, wake := o.push(numberedFrame(opBinary, 0, 8), forEmitter); v != pushRefused || wake {
			t.Errorf("a push after the end: verdict %d, wake %t", v, wake)
		}
		if len(g.writes) != 1 {
			t.Errorf("%d writes, want 1", len(g.writes))
		}
		began := time.Now()
		<-time.After(2 * lingerTimeout)
		synctest.Wait()
		if after := g.closed.Sub(began); after != lingerTimeout {
			t.Errorf("closed after %v, want %v", after, lingerTimeout)
		}
	})
}

// An outbox that has nothing to do holds next to nothing.
func TestOutboxIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g := newTestOutbox(1 << 20)
		for range 3 {
			for i := range 1000 {
				pushAndWake(t, o, numberedFrame(opBinary, i, 8))
			}
			o.pushControl(opPing, numberedFrame(opPing, 1, 8))
			o.pushControl(opPong, numberedFrame(opPong, 1, 8))
			g.passAll()
			if cap(o.frames.items) > keptFrames || o.pings != nil || o.pongs != nil || o.batch != nil || o.state != writerIdle || o.bytes != 0 {
				t.Errorf("an idle outbox keeps a queue of %d, %d bytes of pings, %d of pongs, %d of a frame, state=%d, bytes=%d",
					cap(o.frames.items), cap(o.pings), cap(o.pongs), len(o.frames.items), o.state, o.bytes)
			}
			for _, frame := range o.frames.items[:cap(o.frames.items)] {
				if frame != nil {
					t.Error("an idle outbox keeps a frame")
				}
			}
		}
	})
}
