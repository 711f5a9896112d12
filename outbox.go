package atrium

import (
	"context"
	"net"
	"sync"
	"time"
)

const (
	// writeChunk is the most that one write hands to the network: TLS's record size, and small enough that the
	// end of each write is a sign of life from a slow peer.
	writeChunk = 16 << 10
	// maxPongs bounds the bytes of pongs that wait to leave. A peer that sends pings faster than it reads gets
	// its latest ping answered (RFC 6455 §5.5.3).
	maxPongs = 4 << 10
	// stallTimeout is how long the kernel may take no byte before a peer with a full queue is given up.
	stallTimeout = 5 * time.Second
	// kernelWait is how long a write lasts before the drainer counts as waiting for the kernel.
	kernelWait = 20 * time.Millisecond
	// keptFrames bounds the capacity that an empty queue keeps.
	keptFrames = 16
)

// outbox is the write queue of one connection: whole frames, encoded already and never changed again, in one
// order. Pings and pongs overtake data at the next frame boundary; the close frame goes last.
//
// Only the connection's own drainer writes: a goroutine that exists while there is something to write. So push,
// called under a room's lock, makes no system call. It says whether the queue needs a writer; the caller owes it a
// wake, soon, when it has let go of its locks. Between the two the caller is the queue's owner, after that the
// drainer is: queued bytes always have one.
type outbox struct {
	nc    net.Conn
	limit int // bytes (MaxQueued)

	mu       sync.Mutex
	queue    [][]byte // queue[head:] waits
	head     int
	partial  []byte // the unwritten rest of a frame whose beginning was written
	pongs    []byte // whole frames
	pings    []byte // whole frames
	last     []byte // the close frame, until it is written
	bytes    int    // of all the above, and of what is being written
	draining bool   // there is a drainer, or somebody owes a wake
	closing  bool   // no more data is accepted
	err      error  // why nothing will be written any more; nil while something may
	writing  int64  // nanotime when the write in progress began; 0: none
	progress int64  // nanotime when the kernel last took something, or began to be asked

	room chan struct{} // made by who waits for room, closed when there is some
	end  chan struct{} // made by who waits for the end, closed when nothing will be written any more
}

// verdict is what became of a pushed frame.
type verdict uint8

const (
	queued     verdict = iota
	overLimit          // queued, but the queue is over its limit: look at stalled again in stallTimeout
	refused            // the connection is closing or closed
	tooSlow            // not queued: the peer does not keep up
	notWaiting         // not queued: volatile, and the drainer waits for the kernel
)

// noStallLimit is for pushers that wait for room themselves.
const noStallLimit = true

// push queues one frame. A true wake obliges the caller to call wake.
//
// The frame is refused as tooSlow if more than four times the limit is queued, or more than the limit while the
// kernel took nothing for stallTimeout, unless patient is set.
func (o *outbox) push(frame []byte, patient bool) (v verdict, wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return refused, false
	}
	if !patient && o.bytes > o.limit {
		if o.bytes/4 > o.limit || o.stalledFor(stallTimeout) {
			return tooSlow, false
		}
		v = overLimit
	}
	o.queue = append(o.queue, frame)
	return v, o.added(frame)
}

// pushVolatile is push for a frame that is better dropped than late: it is, while a drainer waits for the kernel.
func (o *outbox) pushVolatile(frame []byte) (v verdict, wake bool) {
	o.mu.Lock()
	waiting := o.stalledFor(kernelWait)
	o.mu.Unlock()
	if waiting {
		return notWaiting, false
	}
	return o.push(frame, false)
}

// pushPing queues a ping ahead of all data.
func (o *outbox) pushPing(frame []byte) (queued, wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return false, false
	}
	o.pings = append(o.pings, frame...)
	return true, o.added(frame)
}

// pushPong queues a pong ahead of all data.
func (o *outbox) pushPong(frame []byte) (wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return false
	}
	if len(o.pongs)+len(frame) > maxPongs {
		o.bytes -= len(o.pongs)
		o.pongs = o.pongs[:0]
	}
	o.pongs = append(o.pongs, frame...)
	return o.added(frame)
}

// pushClose queues the close frame behind everything, and lets nothing follow it. It does so once; later calls
// change nothing.
func (o *outbox) pushClose(frame []byte) (wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return false
	}
	o.closing = true
	o.last = frame
	o.signal(&o.room)
	return o.added(frame)
}

// added accounts for a frame and reports whether the queue needs a wake. o.mu is held, as in all below that say
// nothing else.
func (o *outbox) added(frame []byte) (wake bool) {
	o.bytes += len(frame)
	if o.draining {
		return false
	}
	o.draining = true
	o.progress = nanotime()
	return true
}

// wake starts the drainer that a push asked for. It is called without locks.
func (o *outbox) wake() { go o.drain() }

// drain writes until there is nothing left to write. It is called without locks.
func (o *outbox) drain() {
	var buf *[]byte // taken only if frames are copied together
	for {
		chunk := o.take(&buf)
		if chunk == nil {
			break
		}
		n, err := o.nc.Write(chunk)
		o.wrote(n, err)
	}
	if buf != nil {
		drainBuffers.Put(buf)
	}
}

var drainBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeChunk)
	return &b
}}

// take returns what to write next: a frame or a piece of one, where it lies, or as many whole frames as go into
// a buffer, or nil, after which the caller no longer is the drainer. It locks.
func (o *outbox) take(buf **[]byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = 0
	if o.err != nil {
		o.draining = false
		return nil
	}
	chunk := o.next(buf)
	if chunk == nil {
		o.draining = false
		if cap(o.queue) > keptFrames {
			o.queue = nil
		}
		o.pongs, o.pings = nil, nil
		if o.closing {
			o.fail(ErrClosed)
		}
		return nil
	}
	o.writing = nanotime()
	return chunk
}

func (o *outbox) next(buf **[]byte) []byte {
	if len(o.partial) > 0 {
		chunk := o.partial[:min(len(o.partial), writeChunk)]
		if o.partial = o.partial[len(chunk):]; len(o.partial) == 0 {
			o.partial = nil
		}
		return chunk
	}
	waiting, control := len(o.queue)-o.head, len(o.pongs)+len(o.pings)+len(o.last)
	if waiting+control == 0 {
		return nil
	}
	if waiting == 1 && control == 0 {
		return o.begin(o.pop())
	}
	if *buf == nil {
		*buf = drainBuffers.Get().(*[]byte)
	}
	chunk := append(append((**buf)[:0], o.pongs...), o.pings...)
	o.pongs, o.pings = o.pongs[:0], o.pings[:0]
	for o.head < len(o.queue) {
		if frame := o.queue[o.head]; len(chunk)+len(frame) > writeChunk {
			if len(chunk) > 0 {
				return chunk
			}
			return o.begin(o.pop())
		}
		chunk = append(chunk, o.pop()...)
	}
	chunk = append(chunk, o.last...)
	o.last = nil
	return chunk
}

// begin returns the first chunk of a frame and keeps the rest.
func (o *outbox) begin(frame []byte) []byte {
	if len(frame) > writeChunk {
		o.partial = frame[writeChunk:]
		frame = frame[:writeChunk]
	}
	return frame
}

// pop takes the first frame off the queue; nil if there is none.
func (o *outbox) pop() []byte {
	if o.head == len(o.queue) {
		return nil
	}
	frame := o.queue[o.head]
	o.queue[o.head] = nil
	o.head++
	if o.head == len(o.queue) {
		o.queue, o.head = o.queue[:0], 0
	} else if o.head >= keptFrames && o.head > len(o.queue)/2 {
		o.queue = o.queue[:copy(o.queue, o.queue[o.head:])]
		clear(o.queue[len(o.queue):cap(o.queue)])
		o.head = 0
	}
	return frame
}

// wrote accounts for a write. It locks.
func (o *outbox) wrote(n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n > 0 {
		o.progress = nanotime()
	}
	if err != nil {
		o.fail(err)
		return
	}
	if o.err == nil {
		o.bytes -= n
		if o.bytes < max(o.limit/2, 1) {
			o.signal(&o.room)
		}
	}
}

// abandon drops what is queued, except for a frame whose beginning is written. It locks.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for frame := o.pop(); frame != nil; frame = o.pop() {
		o.bytes -= len(frame)
	}
	o.bytes -= len(o.pongs) + len(o.pings)
	o.pongs, o.pings = nil, nil
}

// stop ends writing for good; what is queued is dropped. It locks.
func (o *outbox) stop(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail(err)
}

func (o *outbox) fail(err error) {
	if o.err != nil {
		return
	}
	o.err = err
	o.queue, o.head, o.partial, o.pongs, o.pings, o.last, o.bytes = nil, 0, nil, nil, nil, nil, 0
	o.signal(&o.room)
	o.signal(&o.end)
}

func (o *outbox) signal(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

// stalledFor reports whether a write in progress has made no progress for d.
func (o *outbox) stalledFor(d time.Duration) bool {
	return o.writing != 0 && nanotime()-max(o.writing, o.progress) >= int64(d)
}

// overdue reports whether the peer is a slow consumer by now: over the limit and stalled. If it is over the limit
// only, look says when to look again, by nanotime; otherwise look is 0. It locks.
func (o *outbox) overdue() (slow bool, look int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.bytes <= o.limit || o.err != nil {
		return false, 0
	}
	return o.stalledFor(stallTimeout), max(o.writing, o.progress) + int64(stallTimeout)
}

// buffered returns how many bytes are queued or being written. It locks.
func (o *outbox) buffered() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// waitForRoom waits until less than the limit is queued: if the queue is full, until half of it has gone. It locks.
func (o *outbox) waitForRoom(ctx context.Context) error { return o.waitBelow(ctx, o.limit) }

// waitUntilHalf waits until less than half the limit is queued. It locks.
func (o *outbox) waitUntilHalf(ctx context.Context) error { return o.waitBelow(ctx, max(o.limit/2, 1)) }

func (o *outbox) waitBelow(ctx context.Context, bound int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		o.mu.Lock()
		if o.closing || o.err != nil {
			o.mu.Unlock()
			return o.closedError()
		}
		if o.bytes < bound {
			o.mu.Unlock()
			return nil
		}
		if o.room == nil {
			o.room = make(chan struct{})
		}
		room := o.room
		o.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closed returns a channel that is closed when nothing will be written any more. It locks.
func (o *outbox) closed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil {
		o.end = make(chan struct{})
		if o.err != nil {
			end := o.end
			close(o.end)
			o.end = nil
			return end
		}
	}
	return o.end
}

// closedError is the error of a call that comes too late. It locks.
func (o *outbox) closedError() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil || o.err == ErrClosed {
		return ErrClosed
	}
	return &CloseError{Code: StatusAbnormalClosure, Err: o.err}
}
