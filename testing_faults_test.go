package atrium

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// breakage is what happens to a connection of a faultNet.
type breakage int

const (
	noBreakage breakage = iota
	breakReset          // both ends see a reset; what is on its way against the direction is lost
	breakLost           // the same, and the write that was cut short reports success, as a kernel's does
	breakEnd            // both ends see the end of the stream, as from a proxy that goes away
	breakHalf           // the reader of the direction sees the end, and may go on writing
	breakStall          // nothing arrives any more, and nobody is told
	breakWrite          // a write fails once, with a time-out, having written a part; the next would succeed
	breakRead           // a read fails once, with a time-out; the next would succeed
	breakages  int      = iota
)

func (b breakage) String() string {
	return [...]string{"none", "reset", "lost", "end", "half", "stall", "write", "read"}[b]
}

// The directions of a connection.
const (
	toServer = iota // what the client sends
	toClient        // what the server sends
)

// A fault is one breakage, after exactly so many bytes of a direction. The bytes of all connections
// since the fault was planned count together.
type fault struct {
	kind breakage
	dir  int
	at   int
}

func (f fault) String() string {
	return fmt.Sprintf("%v after byte %d %s", f.kind, f.at, [...]string{"up", "down"}[f.dir])
}

// shape is how a faultNet treats the bytes that do arrive. The zero value is a network without
// peculiarities.
type shape struct {
	seed   uint64
	piece  int           // the most bytes that a read returns, at random; 0: what there is
	buffer int           // bytes that a direction takes before a write waits; 0: 64 KiB
	delay  time.Duration // the most that a read takes, at random
}

// shapeOf returns a random shape; that of the first seed has no peculiarities.
func shapeOf(seed uint64) shape {
	if seed == 1 {
		return shape{}
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	one := func(of ...int) int { return of[rng.IntN(len(of))] }
	s := shape{seed, one(0, 1, 3, 500), one(0, 1, 60, 2000), time.Duration(one(0, 0, 1, 30)) * time.Millisecond}
	if s.piece > 0 || s.buffer > 0 {
		s.delay = min(s.delay, time.Millisecond) // or a handshake would take too long
	}
	return s
}

// faultNet is a network in memory whose connections break as planned. Its connections have buffers,
// as TCP's have, so that what was written may never arrive; and they know resets: who closes with
// input unread, or is written to after closing, resets the connection. It works in a bubble.
type faultNet struct {
	shape   shape
	arrive  chan net.Conn
	done    chan struct{}
	closing sync.Once

	mu      sync.Mutex // guards all below, and all of the connections:
	planned fault
	passed  [2]int    // bytes since the fault was planned
	at      time.Time // when it came
	wires   []*wire
	dialed  int
}

// wire is one connection.
type wire struct {
	net     *faultNet
	changed sync.Cond
	streams [2]stream
	ends    [2]faultConn
}

// stream is one direction of a wire.
type stream struct {
	rng     *rand.Rand
	buf     []byte
	lost    int   // bytes that were taken and will not arrive
	silent  bool  // what comes is lost
	fin     bool  // behind buf there is the end
	err     error // behind buf there is this
	refused error // of writes
}

// faultConn is one end of a wire.
type faultConn struct {
	*wire
	side            int // the direction that this end writes
	closed          bool
	readBy, writeBy time.Time
	timers          [2]*time.Timer
}

func newFaultNet(s shape) *faultNet {
	if s.buffer == 0 {
		s.buffer = 64 << 10
	}
	return &faultNet{shape: s, arrive: make(chan net.Conn), done: make(chan struct{})}
}

// over returns a kind whose connections are of the network.
func (n *faultNet) over() kind {
	return kind{"faults", func(testing.TB) net.Listener { return n }, func(net.Listener) (net.Conn, error) { return n.dial() }}
}

// plan arms a fault, instead of one that has not come yet, and begins to count. It returns the
// bytes since the plan before, and when its fault has come, if it has.
func (n *faultNet) plan(f fault) (passed [2]int, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	passed, at = n.passed, n.at
	n.planned, n.passed, n.at = f, [2]int{}, time.Time{}
	if f.kind == breakWrite {
		return passed, at // it comes in a write
	}
	for _, w := range slices.Clone(n.wires) {
		n.strike(w, f.dir)
	}
	return passed, at
}

// Accept implements net.Listener.
func (n *faultNet) Accept() (net.Conn, error) {
	select {
	case nc := <-n.arrive:
		return nc, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *faultNet) Close() error {
	n.closing.Do(func() { close(n.done) })
	return nil
}

// Addr implements net.Listener.
func (n *faultNet) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// dial opens a connection.
func (n *faultNet) dial() (net.Conn, error) {
	w := &wire{net: n}
	w.changed.L = &n.mu
	n.mu.Lock()
	n.dialed++
	for dir := range w.streams {
		w.streams[dir].rng = rand.New(rand.NewPCG(n.shape.seed, uint64(2*n.dialed+dir)))
		w.ends[dir] = faultConn{wire: w, side: dir}
	}
	n.wires = append(n.wires, w)
	if n.planned.kind != breakWrite {
		n.strike(w, n.planned.dir)
	}
	n.mu.Unlock()
	select {
	case n.arrive <- &w.ends[toClient]:
		return &w.ends[toServer], nil
	case <-n.done:
		return nil, syscall.ECONNREFUSED
	}
}

// room returns how many of m bytes may pass in a direction before the fault. The lock is held, here
// and below.
func (n *faultNet) room(dir, m int) int {
	if n.planned.kind == noBreakage || n.planned.dir != dir {
		return m
	}
	return min(m, n.planned.at-n.passed[dir])
}

// strike lets the fault come if it is time for it. It reports whether it did.
func (n *faultNet) strike(w *wire, dir int) bool {
	f := n.planned
	if f.kind == noBreakage || f.dir != dir || n.passed[dir] < f.at {
		return false
	}
	n.planned, n.at = fault{}, time.Now()
	forth, back := &w.streams[dir], &w.streams[1-dir]
	switch f.kind {
	case breakReset, breakLost:
		w.reset(forth, false)
		w.reset(back, true)
	case breakEnd:
		for i := range w.streams {
			w.streams[i].fin, w.streams[i].refused = true, syscall.EPIPE
		}
	case breakHalf:
		forth.fin, forth.refused = true, syscall.EPIPE
	case breakStall:
		forth.silent, back.silent = true, true
		back.lost += len(back.buf)
		back.buf = nil
	case breakRead:
		forth.silent, forth.err = true, os.ErrDeadlineExceeded
	}
	w.changed.Broadcast()
	return true
}

// reset ends a direction.
func (w *wire) reset(s *stream, drop bool) {
	s.err, s.refused = syscall.ECONNRESET, syscall.ECONNRESET
	if drop {
		s.buf = nil
	}
	w.changed.Broadcast()
}

// Read implements net.Conn.
func (c *faultConn) Read(p []byte) (int, error) {
	n, s := c.net, &c.streams[1-c.side]
	n.mu.Lock()
	defer n.mu.Unlock()
	var until time.Time // when what has come may be read
	for delayed := n.shape.delay == 0; ; {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case passed(c.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0 && !delayed:
			delayed = true
			pause := time.Duration(s.rng.Int64N(int64(n.shape.delay)))
			until = time.Now().Add(pause)
			time.AfterFunc(pause, c.wakeAll)
			continue
		case len(s.buf) > 0 && time.Now().Before(until):
			// wait
		case len(s.buf) > 0:
			if n.shape.piece > 0 {
				p = p[:min(len(p), 1+s.rng.IntN(n.shape.piece))]
			}
			m := copy(p, s.buf)
			s.buf = s.buf[m:]
			c.changed.Broadcast()
			return m, nil
		case s.err != nil:
			return 0, s.err
		case s.fin:
			return 0, io.EOF
		}
		c.changed.Wait()
	}
}

// Write implements net.Conn.
func (c *faultConn) Write(p []byte) (written int, err error) {
	n, s := c.net, &c.streams[c.side]
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(p) > 0 {
		kind := n.planned.kind
		room := min(len(p), n.shape.buffer-len(s.buf)-s.lost)
		switch {
		case c.closed:
			return written, net.ErrClosed
		case passed(c.writeBy):
			return written, os.ErrDeadlineExceeded
		case s.refused != nil:
			return written, s.refused
		case c.ends[1-c.side].closed && !s.silent: // the peer's kernel answers with a reset
			c.reset(&c.streams[1-c.side], true)
			s.refused = syscall.EPIPE
			return written + len(p), nil
		case room == 0:
			c.changed.Wait()
			continue
		}
		room = n.room(c.side, room)
		if s.silent {
			s.lost += room
		} else {
			s.buf = append(s.buf, p[:room]...)
		}
		p = p[room:]
		written += room
		n.passed[c.side] += room
		c.changed.Broadcast()
		if n.strike(c.wire, c.side) {
			switch kind {
			case breakLost:
				return written + len(p), nil
			case breakWrite:
				return written, os.ErrDeadlineExceeded
			}
		}
	}
	return written, nil
}

// Close implements net.Conn.
func (c *faultConn) Close() error {
	n := c.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	out, in := &c.streams[c.side], &c.streams[1-c.side]
	if len(in.buf) > 0 && !out.silent {
		c.reset(out, true)
		c.reset(in, true)
	}
	out.fin = out.fin || !out.silent
	for _, timer := range c.timers {
		if timer != nil {
			timer.Stop()
		}
	}
	c.changed.Broadcast()
	if c.ends[1-c.side].closed {
		n.wires = slices.DeleteFunc(n.wires, func(w *wire) bool { return w == c.wire })
	}
	return nil
}

// CloseWrite is that of a TCPConn.
func (c *faultConn) CloseWrite() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	s := &c.streams[c.side]
	if c.closed || s.refused != nil {
		return syscall.EPIPE
	}
	s.fin, s.refused = !s.silent, syscall.EPIPE
	c.changed.Broadcast()
	return nil
}

func passed(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

// setDeadline wakes whoever waits when the time has come.
func (c *faultConn) setDeadline(by *time.Time, timer **time.Timer, when time.Time) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if *timer != nil {
		(*timer).Stop()
	}
	*by = when
	if c.closed {
		return
	}
	c.changed.Broadcast()
	if wait := time.Until(when); !when.IsZero() && wait > 0 {
		*timer = time.AfterFunc(wait, c.wakeAll)
	}
}

// wakeAll has whoever waits look again.
func (w *wire) wakeAll() {
	w.net.mu.Lock()
	defer w.net.mu.Unlock()
	w.changed.Broadcast()
}

// SetReadDeadline implements net.Conn.
func (c *faultConn) SetReadDeadline(when time.Time) error {
	c.setDeadline(&c.readBy, &c.timers[0], when)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *faultConn) SetWriteDeadline(when time.Time) error {
	c.setDeadline(&c.writeBy, &c.timers[1], when)
	return nil
}

// SetDeadline implements net.Conn.
func (c *faultConn) SetDeadline(when time.Time) error {
	c.SetReadDeadline(when)
	return c.SetWriteDeadline(when)
}

// LocalAddr implements net.Conn.
func (c *faultConn) LocalAddr() net.Addr { return c.net.Addr() }

// RemoteAddr implements net.Conn.
func (c *faultConn) RemoteAddr() net.Addr { return c.net.Addr() }

// faultRounds is how often the tests of faults repeat what they do with random numbers: once, or as
// the environment's ATRIUM_FAULTS says. ATRIUM_SEED is the first seed, to repeat a failure.
func faultRounds(t testing.TB) (seeds []uint64) {
	first, rounds := uint64(1), 1
	var err error
	if v := os.Getenv("ATRIUM_FAULTS"); v != "" {
		if rounds, err = strconv.Atoi(v); err != nil {
			t.Fatalf("ATRIUM_FAULTS: %v", err)
		}
	}
	if v := os.Getenv("ATRIUM_SEED"); v != "" {
		if first, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("ATRIUM_SEED: %v", err)
		}
	}
	for i := range rounds {
		seeds = append(seeds, first+uint64(i))
	}
	return seeds
}
