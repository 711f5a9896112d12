package atrium

import (
	"bytes"
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	// stallTimeout is how long the kernel may take no byte before a peer with a full queue is given
	// up.
	stallTimeout = 5 * time.Second
	// kernelWait is how long a write lasts before the drainer counts as waiting for the kernel.
	kernelWait = 20 * time.Millisecond
)

// outbox is the write queue of one connection. It holds whole frames, which are encoded already and
// never changed again, in the order of a frameQueue, with the close frame last.
//
// push only queues, so that it may be called under a room's lock. It reports whether the caller
// must arrange a flush: call wake soon, or hand the connection to a flusher. So exactly one party
// is responsible for queued bytes: the caller of push, then the writer.
//
// There is one writer at a time. On the fast path it is the caller of wake, or of pushCopy with a
// large frame that need not be queued, which makes one or two writes that do not wait; what the
// kernel does not take is left to the drainer. On the portable path only the drainer writes, behind
// the response to the handshake: a goroutine that exists while there is something to write.
type outbox struct {
	mu         sync.Mutex // guards all but fast and nc:
	err        error      // why nothing will be written any more; nil while something may
	state      writerState
	closing    bool    // no more data is accepted
	later      bool    // there is a goroutine that will wake
	blocked    bool    // the kernel has refused bytes, which the drainer is waiting to write
	passed     int32   // see queueStatus.passedPings
	sent       traffic // bytes that the network has taken; messages that were queued, but for a writer's
	limit      int     // of cost (Limits.QueuedBytes)
	frameQueue         // if closing, the last of it is the close frame
	writing    int64   // nanotime when the drainer's write in progress began; 0: none
	ending     *ending // of a closing connection, which goes on to its next step when err is set

	room gate // opens when there is room
	end  gate // opens when nothing will be written any more

	fast *fastIO // nil on the portable path
	nc   net.Conn
}

// writerState says who is responsible for the queued bytes.
type writerState uint8

const (
	writerIdle      writerState = iota // nothing is queued
	writerScheduled                    // a caller of push has to wake; another may do so first
	writerWriting                      // a goroutine is writing, and goes on until the queue is empty
)

// pushResult is what became of a pushed frame.
type pushResult uint8

const (
	pushQueued    pushResult = iota
	pushOverLimit            // queued, but the queue is over its limit: look at the status again in stallTimeout
	pushRefused              // the connection is closing or closed
	pushTooSlow              // not queued: the peer does not keep up
	pushDropped              // not queued: volatile, and the drainer waits for the kernel
)

// pusher says for whom a frame is pushed.
type pusher uint8

const (
	forWriter    pusher = iota // one who has waited for room and wants to write: a peer that stalls is the writer's affair
	forEmitter                 // one who wants to write at once
	forBroadcast               // one of many: a wake is owed only by the first who queues something
)

// push queues one frame. A true wake obliges the caller to call wake.
//
// Except forWriter, the frame is refused as pushTooSlow if more than four times the limit is
// queued, or more than the limit while the kernel took nothing for stallTimeout.
func (o *outbox) push(frame []byte, by pusher) (v pushResult, wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return pushRefused, false
	}
	if cost := o.cost(); by != forWriter && cost > o.limit {
		if cost/4 > o.limit || o.stalledFor(stallTimeout) {
			return pushTooSlow, false
		}
		v = pushOverLimit
	}
	o.add(frame)
	if by != forWriter {
		o.sent.messages++
	}
	fresh := o.state == writerIdle
	wake = o.needsWake()
	return v, wake && (fresh || by != forBroadcast)
}

// pushedMore counts messages that a frame had behind its first: attachments. It locks.
func (o *outbox) pushedMore(messages int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent.messages += uint64(messages)
}

// pushVolatile is push for a frame that is better dropped than late. It is dropped while the
// drainer waits for the kernel.
func (o *outbox) pushVolatile(frame []byte, by pusher) (v pushResult, wake bool) {
	o.mu.Lock()
	waiting := o.blocked || o.stalledFor(kernelWait)
	o.mu.Unlock()
	if waiting {
		return pushDropped, false
	}
	return o.push(frame, by)
}

// pushControl queues a ping or pong ahead of all data.
func (o *outbox) pushControl(op opcode, frame []byte) (queued, wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing || o.err != nil {
		return false, false
	}
	o.addControl(op, frame)
	return true, o.needsWake()
}

// pushClose queues the close frame behind everything, and lets nothing follow it. It does so once;
// later calls change nothing. When all of it has left, or cannot leave, the ending goes on.
func (o *outbox) pushClose(frame []byte, ending *ending) (wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing {
		return false
	}
	o.closing, o.ending = true, ending
	if o.err != nil {
		o.ending.advance(stepAnswer, 0)
		return false
	}
	o.add(frame)
	o.room.open()
	return o.needsWake()
}

// needsWake reports, when a frame has been queued, whether nobody is writing, so that a wake is
// owed. o.mu is held, as in all below that say nothing else.
func (o *outbox) needsWake() bool {
	if o.state == writerWriting {
		return false
	}
	o.state = writerScheduled
	return true
}

// wake has what is queued written, unless a goroutine is writing already. It is called without
// locks, and does not wait for the network.
func (o *outbox) wake() {
	o.mu.Lock()
	claimed := o.state == writerScheduled
	if claimed {
		o.state = writerWriting
	}
	o.mu.Unlock()
	switch {
	case !claimed:
	case o.fast == nil:
		go o.drain(nil)
	default:
		o.flush()
	}
}

// wakeLater has a goroutine of its own call wake; see Conn.wake.
func (o *outbox) wakeLater() {
	o.mu.Lock()
	first := o.state == writerScheduled && !o.later
	o.later = o.later || first
	o.mu.Unlock()
	if !first {
		return
	}
	go func() {
		o.mu.Lock()
		o.later = false
		o.mu.Unlock()
		o.wake()
	}()
}

// pushCopy is push, for a writer, of a frame of header h with a copy of payload p. While nobody is
// writing, a small one is copied to the batch, and on the fast path a large one is written here and
// now: only what the kernel does not take is copied.
func (o *outbox) pushCopy(h frameHeader, p []byte) (v pushResult, wake bool) {
	for try := 0; try < 2; try++ {
		queued := false
		if len(p) <= largeBuffer-maxHeaderSize {
			queued, wake = o.pushBatch(h, p)
		} else if o.fast != nil {
			queued = !h.Masked && o.writeNow(h, p)
		}
		if queued {
			return pushQueued, wake
		}
		o.wake() // what is queued may be all that is in the way
	}
	return o.push(copyFrame(h, p), forWriter)
}

// pushBatch adds a frame to the batch, if that is possible and nobody is writing. It locks.
func (o *outbox) pushBatch(h frameHeader, p []byte) (queued, wake bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := largeBuffer
	if o.fast == nil { // the drainer waits with the batch
		room = maxHeaderSize + len(p)
	}
	if o.state == writerWriting || o.closing || o.err != nil || !o.addCopy(h, p, room) {
		return false, false
	}
	return true, o.needsWake()
}

// writeNow writes a frame that is not queued, unless something is, and reports whether it did. It
// leaves what the kernel does not take without waiting to the drainer.
func (o *outbox) writeNow(h frameHeader, p []byte) bool {
	buf := acquireBuffer(largeBuffer)
	defer releaseBuffer(buf)
	h.Length = int64(len(p))
	chunk := appendHeader((*buf)[:0], h)
	total := len(chunk) + len(p)
	if !o.claim(total) {
		return false
	}
	first := min(len(p), cap(chunk)-len(chunk))
	chunk, p = append(chunk, p[:first]...), p[first:]
	n, err := o.fast.write(chunk, false)
	if n == len(chunk) && len(p) > 0 {
		var more int
		more, err = o.fast.write(p, false)
		n, p = n+more, p[more:]
	}
	chunk = chunk[min(n, len(chunk)):]
	if o.wrote(n, err, n < total) && n < total {
		go o.drain(slices.Concat(chunk, p))
	} else {
		o.flush()
	}
	return true
}

// claim makes the caller the writer of n bytes that are not queued, unless others are. It locks.
func (o *outbox) claim(n int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != writerIdle || o.closing || o.err != nil {
		return false
	}
	o.state = writerWriting
	o.bytes += n
	return true
}

// flush writes what the kernel takes without waiting, and leaves the rest to the drainer, which
// does not wait with a buffer that was filled here. The caller is the writer.
func (o *outbox) flush() {
	// A caller that finds more after each write is writing for others: two rounds are enough.
	for range 2 {
		chunk, buf := o.take(false)
		if chunk == nil {
			return
		}
		n, err := o.fast.write(chunk, false)
		rest := chunk[n:]
		blocked := len(rest) > 0
		if blocked && buf != nil {
			rest = bytes.Clone(rest)
		}
		releaseBuffer(buf)
		if o.wrote(n, err, blocked) && blocked {
			go o.drain(rest)
			return
		}
	}
	go o.drain(nil)
}

// drain writes until there is nothing left to write, waiting for the network as long as it takes:
// first rest, which was taken already, then what is queued. The caller is the writer.
func (o *outbox) drain(rest []byte) {
	var buf *[]byte // that rest lies in
	for {
		if len(rest) > 0 {
			o.waits()
		} else {
			releaseBuffer(buf)
			if rest, buf = o.take(true); rest == nil {
				return
			}
		}
		var n int
		var err error
		if o.fast != nil {
			n, err = o.fast.write(rest, true)
		} else {
			n, err = o.nc.Write(rest[:min(len(rest), writeChunk)])
		}
		rest = rest[n:]
		if !o.wrote(n, err, false) {
			rest = nil
		}
	}
}

// respond writes the response to the handshake and, in the same write, what is queued by now. The
// caller has been the writer from the beginning.
func (o *outbox) respond(response []byte) error {
	o.mu.Lock()
	first, buf := o.next(largeBuffer)
	o.writing = nanotime()
	o.mu.Unlock()
	chunk := append(response, first...)
	releaseBuffer(buf)
	_, err := o.nc.Write(chunk)
	if err != nil {
		first = nil
	}
	o.wrote(len(first), err, false)
	if rest, buf := o.take(true); rest != nil {
		go o.drain(bytes.Clone(rest))
		releaseBuffer(buf)
	}
	return err
}

// waits notes that a write begins that may wait. It locks.
func (o *outbox) waits() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = nanotime()
}

// take returns what to write next, and the pooled buffer that it lies in; nil if there is nothing,
// after which the caller no longer is the writer. mayWait says that the write may wait. It locks.
func (o *outbox) take(mayWait bool) (chunk []byte, buf *[]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = 0
	most := largeBuffer
	if o.fast == nil {
		most = writeChunk
	}
	chunk, buf = o.next(most)
	switch {
	case chunk == nil:
		o.state = writerIdle
		if o.closing {
			o.fail(ErrClosed)
		}
	case mayWait:
		o.writing = nanotime()
	case o.closing && o.ending.fin:
		o.fast.last = len(chunk) == o.bytes
	}
	return chunk, buf
}

// wrote accounts for a write, and reports whether there may be others. blocked says that the kernel
// did not take all of it. If the write has failed, the network connection is closed a moment later:
// the reader may find the peer's last words until then, and must not wait for others. It locks.
func (o *outbox) wrote(n int, err error, blocked bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.blocked = blocked
	o.sent.bytes += uint64(n)
	if err != nil && o.err == nil {
		o.fail(err)
		time.AfterFunc(lingerTimeout, func() { _ = o.nc.Close() })
	}
	if o.err != nil {
		return false
	}
	o.bytes -= n
	if n > 0 && len(o.pings) > 0 {
		o.passed++
	}
	if o.cost() < max(o.limit/2, 1) {
		o.room.open()
	}
	return true
}

// abandon drops what is queued, except for a frame whose beginning is written. It is for before the
// close frame is pushed. It locks.
func (o *outbox) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropWaiting()
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
	if err == ErrClosed {
		o.ending.advance(stepAnswer, answerTimeout)
	} else {
		o.ending.advance(stepAnswer, 0)
	}
	o.frameQueue = frameQueue{}
	o.room.open()
	o.end.open()
}

// stalledFor reports whether the kernel has taken nothing of the drainer's write for d.
func (o *outbox) stalledFor(d time.Duration) bool {
	return o.writing != 0 && nanotime()-o.writing >= int64(d)
}

// queueStatus is what is queued for a peer, and how the peer takes it.
type queueStatus struct {
	bytes       int   // queued or being written
	cost        int   // what the queue takes of memory, in bytes; see Limits.QueuedBytes
	slowAt      int64 // nanotime at which the peer is a slow consumer unless it takes something; 0: within the limit
	passedPings int32 // writes that the network took while a ping waited
	sent        traffic
	since       int64 // nanotime since when the network has taken nothing; 0: nothing waits for it
}

// status returns what is queued. It locks.
func (o *outbox) status() queueStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := queueStatus{bytes: o.bytes, cost: o.cost(), passedPings: o.passed, sent: o.sent, since: o.writing}
	if s.cost > o.limit && o.err == nil {
		s.slowAt = cmp.Or(o.writing, nanotime()) + int64(stallTimeout)
	}
	return s
}

// bound changes the limit. It locks.
func (o *outbox) bound(limit int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.limit = limit
}

// waitBelow waits until less than the limit is queued, divided by part. If it has to wait, it waits
// until less than half is. It locks.
func (o *outbox) waitBelow(ctx context.Context, part int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	closed := false
	err := o.room.await(ctx, &o.mu, func() bool {
		closed = o.closing || o.err != nil
		return closed || o.cost() < max(o.limit/part, 1)
	})
	if closed {
		return o.closedError()
	}
	return err
}

// closed returns a channel that is closed when nothing will be written any more. It locks.
func (o *outbox) closed() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	closed := o.end.wait()
	if o.err != nil {
		o.end.open()
	}
	return closed
}

// progress says how many bytes have still to leave, when the network last took some, by nanotime,
// and why what was queued was not all written; nil if it was, or still may be. It locks.
func (o *outbox) progress() (unsent int, takenAt int64, failure error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	takenAt = o.writing
	if takenAt == 0 {
		takenAt = nanotime()
	}
	if o.err != ErrClosed {
		failure = o.err
	}
	return o.bytes, takenAt, failure
}

// closedBy returns the ending of a closing connection; nil if it is not closing. It locks.
func (o *outbox) closedBy() *ending {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending
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
