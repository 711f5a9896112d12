//go:build unix

package atrium

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// fastIO reads and writes a plain TCP or Unix socket without holding memory while it waits, and
// without waiting when there is nothing to wait for. It does by syscall.RawConn what net.Conn
// cannot: a read that takes its buffer when there is something to put into it, and a write that
// returns when the kernel takes no more.
//
// The callbacks run under the lock of the file descriptor. Each makes one system call and nothing
// else; above all nothing in them closes the connection, which would wait for that lock.
type fastIO struct {
	raw syscall.RawConn // nil: this connection has no fast path

	// Made once, so that reading and writing do not allocate.
	readable, writable func(fd uintptr) bool

	// The read in progress, the reader's own.
	into    []byte     // where to read to; nil: into a pooled buffer
	pool    *sync.Pool // of such buffers
	pooled  *[]byte    // that buffer, if something was read into it
	read    int32      // the kernel reads no more at a time than an int32 holds
	waited  bool       // the kernel had nothing at first
	readErr syscall.Errno

	// The write in progress, the outbox's writer's own.
	from     []byte
	waits    bool // until the kernel takes something
	last     bool // only the end of the stream follows, and soon
	wrote    int32
	writeErr syscall.Errno
}

// open prepares the fast path if the connection can have it: if it is exactly a TCP or Unix socket,
// and nothing around one, which might want to see the bytes.
func (f *fastIO) open(nc net.Conn) bool {
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		if f.raw, err = nc.SyscallConn(); err == nil {
			err = f.raw.Control(limitUnsent)
		}
	case *net.UnixConn:
		f.raw, err = nc.SyscallConn()
	default:
		return false
	}
	if err != nil {
		f.raw = nil
		return false
	}
	f.readable, f.writable = f.readOnce, f.writeOnce
	return true
}

// readOnce is called when the socket may be readable. It always tries, also before the first wait:
// an edge that has come already does not come again.
func (f *fastIO) readOnce(fd uintptr) bool {
	p, pooled := f.into, (*[]byte)(nil)
	if p == nil {
		pooled = f.pool.Get().(*[]byte)
		p = *pooled
	}
	for {
		n, err := syscall.Read(int(fd), p)
		f.read = int32(n)
		if f.readErr, _ = err.(syscall.Errno); f.readErr != syscall.EINTR {
			break
		}
	}
	if pooled != nil {
		if f.read > 0 {
			f.pooled = pooled
		} else {
			releaseBuffer(pooled)
		}
	}
	f.waited = f.waited || f.readErr == syscall.EAGAIN
	return f.readErr != syscall.EAGAIN
}

// wait reads into p or, if p is nil, into a pooled buffer for about size bytes, which it returns.
// It waits until there is something.
func (f *fastIO) wait(p []byte, size int) (n int, pooled *[]byte, err error) {
	f.into, f.pooled, f.waited = p, nil, false
	_, f.pool = bufferSize(size)
	err = f.raw.Read(f.readable)
	f.into, pooled, f.pooled = nil, f.pooled, nil
	switch {
	case err != nil:
		return 0, nil, err
	case f.readErr != 0:
		return 0, nil, f.readErr
	case f.read == 0:
		return 0, nil, io.EOF
	}
	return int(f.read), pooled, nil
}

// writeOnce makes one attempt, whether the socket is writable or not. It reports false to be called
// again when the socket is.
func (f *fastIO) writeOnce(fd uintptr) bool {
	for {
		write := syscall.Write
		if f.last {
			write = writeLast
		}
		n, err := write(int(fd), f.from)
		f.wrote = int32(n)
		if f.writeErr, _ = err.(syscall.Errno); f.writeErr != syscall.EINTR {
			return f.writeErr != syscall.EAGAIN || !f.waits
		}
	}
}

// rawWrite is the callback of a write that does not wait. It is pooled, so that a connection holds
// nothing for it.
type rawWrite struct {
	f  *fastIO
	do func(fd uintptr) // has f write once
}

var rawWrites = sync.Pool{New: func() any {
	w := new(rawWrite)
	w.do = func(fd uintptr) { w.f.writeOnce(fd) }
	return w
}}

// write writes as much of p as the kernel takes at once. If that is nothing and wait says so, it
// waits until the kernel takes something. Otherwise it needs no more of RawConn than the file
// descriptor: RawConn.Write has the poller make ready for a wait.
func (f *fastIO) write(p []byte, wait bool) (n int, err error) {
	f.from, f.waits = p, wait
	if wait {
		err = f.raw.Write(f.writable)
	} else {
		w := rawWrites.Get().(*rawWrite)
		w.f = f
		err = f.raw.Control(w.do)
		w.f = nil
		rawWrites.Put(w)
	}
	f.from = nil
	switch {
	case err != nil:
		return 0, err
	case f.writeErr == syscall.EAGAIN:
		return 0, nil
	case f.writeErr != 0:
		return 0, f.writeErr
	}
	return int(f.wrote), nil
}
