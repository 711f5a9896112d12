//go:build unix

package atrium

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// scriptedRaw is a socket that takes so many bytes at each write and, when these numbers are used
// up, everything.
type scriptedRaw struct {
	syscall.RawConn // nil: nothing else is called
	f               *fastIO
	takes           []int
	got             []byte
	offered         [][]byte // what was given to each write
}

func (r *scriptedRaw) Control(func(uintptr)) error { return r.Write(nil) }

func (r *scriptedRaw) Write(func(uintptr) bool) error {
	for {
		n := len(r.f.from)
		r.offered = append(r.offered, r.f.from)
		if len(r.takes) > 0 {
			n, r.takes = min(n, r.takes[0]), r.takes[1:]
		}
		r.got = append(r.got, r.f.from[:n]...)
		r.f.wrote, r.f.writeErr = int32(n), 0
		if n == 0 {
			r.f.writeErr = syscall.EAGAIN
		}
		if n > 0 || !r.f.waits {
			return nil
		}
	}
}

// newScriptedWriter returns a Conn whose socket takes so many bytes at each write.
func newScriptedWriter(takes ...int) (*Conn, *scriptedRaw) {
	c := newConn(&scriptedConn{}, connConfig{})
	r := &scriptedRaw{f: &c.fast, takes: takes}
	c.fast.raw = r
	c.out.fast = &c.fast
	return c, r
}

// drained waits until everything was written.
func (c *Conn) drained(t *testing.T) {
	t.Helper()
	eventually(t, "everything to be written", func() bool {
		c.out.mu.Lock()
		defer c.out.mu.Unlock()
		return c.out.state == writerIdle && c.out.bytes == 0
	})
}

// Wherever the kernel stops to take a frame, the rest of that frame is next, then a ping that came
// meanwhile, then the next frame. The caller may change the message as soon as Write has returned.
func TestReadyLargeWriteStopsAnywhere(t *testing.T) {
	for _, size := range []int{200, largeBuffer - 20, largeBuffer - 10, largeBuffer, 3 * largeBuffer} {
		want := encodeFrame(frameHeader{Fin: true, Opcode: opBinary, Length: int64(size)}, strings.Repeat("x", size))
		behind := slices.Concat(numberedFrame(opPing, 1, 8), encodeFrame(frameHeader{Fin: true, Opcode: opText, Length: 3}, "end"))
		for _, stop := range []int{0, 1, 5, size / 2, largeBuffer - 1, largeBuffer, largeBuffer + 1, len(want) - 1} {
			if stop >= len(want) {
				continue
			}
			takes := []int{stop, 0, 7, 0, 0, 1}
			if stop > largeBuffer { // the second write stops
				takes = slices.Insert(takes, 0, largeBuffer)
				takes[1] -= largeBuffer
			}
			c, r := newScriptedWriter(takes...)
			p := bytes.Repeat([]byte{'x'}, size)
			if err := c.Write(t.Context(), MessageBinary, p); err != nil {
				t.Fatal(err)
			}
			clear(p)
			if _, wake := c.out.pushControl(opPing, numberedFrame(opPing, 1, 8)); wake {
				c.wake()
			}
			c.drained(t)
			if err := c.Write(t.Context(), MessageText, []byte("end")); err != nil {
				t.Fatal(err)
			}
			c.drained(t)
			if want := append(bytes.Clone(want), behind...); !bytes.Equal(r.got, want) {
				t.Errorf("%d bytes, the first write of which stops after %d: %d bytes arrived, or others", size, stop, len(r.got))
			}
		}
	}
}

// A message that the kernel takes at once is copied to no memory of its own, whatever its size.
func TestReadyWriteDoesNotAllocate(t *testing.T) {
	for _, size := range []int{64, 16 << 10, 1 << 20} {
		c, r := newScriptedWriter()
		p := make([]byte, size)
		least := 1.0
		for range 50 { // the race detector makes pools forget one in four
			least = min(least, testing.AllocsPerRun(1, func() {
				r.got, r.offered = r.got[:0], r.offered[:0]
				if err := c.Write(context.Background(), MessageBinary, p); err != nil {
					t.Error(err)
				}
			}))
		}
		if least > 0 {
			t.Errorf("%d bytes: %v allocations", size, least)
		}
	}
}

// What the drainer waits with takes the memory that it needs, not a buffer.
func TestReadyDrainerWaitsWithLittle(t *testing.T) {
	c, r := newScriptedWriter(5, 0, 0)
	if err := c.Write(t.Context(), MessageBinary, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	c.drained(t)
	for _, p := range r.offered[1:] {
		if cap(p) > 128 {
			t.Errorf("%d bytes wait in %d", len(p), cap(p))
		}
	}
}

// Messages that are written while more input is at hand leave together, also if they are long, and
// as soon as a buffer is full.
func TestReadyBatch(t *testing.T) {
	const size, n = 15 << 10, 10
	c, r := newScriptedWriter()
	c.moreInput.Store(true)
	c.out.later = true // there is a goroutine already, that will wake, and does not
	for range n {
		if err := c.Write(t.Context(), MessageBinary, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	c.out.wake()
	c.drained(t)
	if writes := len(r.offered); len(r.got) != n*(size+4) || writes != 3 {
		t.Errorf("%d writes of %d bytes in all", writes, len(r.got))
	}
}

// While the drainer waits nothing is added to the batch: the memory of a peer that takes nothing is
// what is queued for it. What is dropped gives the buffer back.
func TestReadyBatchOnlyForAWriter(t *testing.T) {
	c, _ := newScriptedWriter()
	c.out.state = writerWriting // somebody is
	if err := c.Write(t.Context(), MessageBinary, make([]byte, 10)); err != nil || c.out.batch != nil || c.out.frames.len() != 1 {
		t.Errorf("%v, a batch of %v, %d frames", err, c.out.batch, c.out.frames.len())
	}
	c, _ = newScriptedWriter()
	c.moreInput.Store(true)
	c.out.later = true
	if err := c.Write(t.Context(), MessageBinary, make([]byte, 10)); err != nil || c.out.batch == nil {
		t.Fatalf("%v, no batch", err)
	}
	c.out.abandon()
	if c.out.batch != nil || c.out.bytes != 0 {
		t.Errorf("a batch of %v, %d bytes", c.out.batch, c.out.bytes)
	}
	c.out.wake()
	c.drained(t)
}

// A Conn that waits holds no buffer, whatever it has read, and of a frame that has begun no more
// than twice what has come.
func TestReadyHoldsWhatCame(t *testing.T) {
	header := func(length int64) string {
		return string(appendHeader(nil, frameHeader{Fin: true, Rsv1: true, Opcode: opBinary, Masked: true, Length: length}))
	}
	whole := maskedFrame(opBinary, strings.Repeat("x", 100_000))
	tests := []struct {
		name  string
		sent  []string // each is read before the next is sent
		bytes int      // of the message in progress
		held  int      // of the read buffer, while it waits
	}{
		{"whole messages", []string{whole, whole + whole}, 0, 0},
		{"a header", []string{header(1 << 20)}, 0, 0},
		{"a header behind much", []string{whole, header(1 << 20)}, 0, 0},
		{"part of a header behind much", []string{whole + whole, whole + header(1 << 20)[:5]}, 0, smallBuffer},
		{"a byte behind much", []string{whole, header(1<<20) + "x"}, 1, 0},
		{"a byte at a time", append([]string{header(1 << 20)}, strings.Split(strings.Repeat("x", 50), "")...), 50, 0},
		{"kilobytes at a time", append([]string{header(1 << 20)}, slices.Repeat([]string{strings.Repeat("x", 3000)}, 50)...), 150_000, 0},
		{"much at a time", []string{header(1 << 20), strings.Repeat("x", 200_000), strings.Repeat("x", 200_000)}, 400_000, 0},
	}
	for _, test := range tests {
		near, far := socketPair(t, listenTCP(t))
		// A compressed message, which is not begun in a caller's buffer, is left as it is.
		c := newConn(near, connConfig{compression: compression{deflateParams: deflateParams{windowBits: 15}}})
		held := -1
		c.fast.raw = readObserver{c.fast.raw, func() { held = len(c.in.buf) }}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			for {
				if _, _, err := c.Read(ctx); err != nil {
					done <- err
					return
				}
			}
		}()
		for _, s := range test.sent {
			write(t, far, s)
			eventually(t, "it to be read", func() bool { return !unread(t, near) })
			waitUntilParked(t, "(*fastIO).wait")
		}
		cancel()
		if err := <-done; err != context.Canceled {
			t.Fatal(err)
		}
		in := &c.in
		if in.message.size() != test.bytes || memoryOf(&in.message) > 2*test.bytes+smallBuffer || held != test.held {
			t.Errorf("%s: %d bytes in %d, and a buffer of %d", test.name, in.message.size(), memoryOf(&in.message), held)
		}
		c.CloseNow()
	}
}

// readObserver is a socket of which each wait for input is observed.
type readObserver struct {
	syscall.RawConn
	before func()
}

func (o readObserver) Read(f func(uintptr) bool) error {
	o.before()
	return o.RawConn.Read(f)
}

// memoryOf returns how much memory a message takes.
func memoryOf(m *partial) int {
	n := cap(m.head)
	if m.more != nil {
		n += len(*m.more) * largeBuffer
	}
	return n
}

// unread reports whether the kernel has bytes that were not read.
func unread(t *testing.T, nc net.Conn) bool {
	t.Helper()
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var peeked error
	err = raw.Control(func(fd uintptr) { _, _, peeked = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK) })
	if err != nil {
		t.Fatal(err)
	}
	return !errors.Is(peeked, syscall.EAGAIN)
}
