package atrium

const (
	// writeChunk is the most that one write of the portable path hands to the network: TLS's record
	// size, and small enough that the end of each write is a sign of life from a slow peer. A write
	// of the fast path ends when the kernel has taken something, whatever it was given.
	writeChunk = 16 << 10
	// maxPongs bounds the bytes of pongs that wait to leave. A peer that sends pings faster than it
	// reads gets its latest ping answered (RFC 6455 §5.5.3).
	maxPongs = 4 << 10
	// frameOverhead is what a queued frame takes beside its bytes: its place in the queue, the room
	// that newFrame leaves around the payload, and what the allocator adds.
	frameOverhead = 96
	// keptFrames bounds the capacity that an empty queue keeps.
	keptFrames = 16
)

// frameQueue holds the frames that wait to be written, and gathers small ones into chunks. Pings
// and pongs overtake data that waits. It has no lock: an outbox guards it.
type frameQueue struct {
	batch  *[]byte      // whole frames in a pooled buffer, before the others; nil if there are none
	frames fifo[[]byte] // that wait
	bytes  int          // of all that is queued, and of what is being written
	pongs  []byte       // whole frames
	pings  []byte       // whole frames
}

// add queues a frame behind all data.
func (q *frameQueue) add(frame []byte) {
	q.frames.push(frame)
	q.bytes += len(frame)
}

// addCopy queues a frame of header h and payload p behind all data by copying it to the batch, and
// reports whether that could be done: it has to fit, and nothing may be behind the batch. One that
// begins a batch has it made for at least room bytes.
func (q *frameQueue) addCopy(h frameHeader, p []byte, room int) bool {
	if q.frames.len() > 0 || q.batch != nil && maxHeaderSize+len(p) > cap(*q.batch)-len(*q.batch) {
		return false
	}
	if q.batch == nil {
		q.batch = acquireBuffer(room)
		*q.batch = (*q.batch)[:0]
	}
	h.Length = int64(len(p))
	b := appendHeader(*q.batch, h)
	b = append(b, p...)
	if h.Masked {
		mask(b[len(b)-len(p):], h.Key, 0)
	}
	q.bytes += len(b) - len(*q.batch)
	*q.batch = b
	return true
}

// addControl queues a ping or pong ahead of all data. If too many pongs wait, it takes their
// place.
func (q *frameQueue) addControl(op opcode, frame []byte) {
	list := &q.pings
	if op == opPong {
		list = &q.pongs
		if len(q.pongs)+len(frame) > maxPongs {
			q.bytes -= len(q.pongs)
			q.pongs = q.pongs[:0]
		}
	}
	*list = append(*list, frame...)
	q.bytes += len(frame)
}

// cost returns how much memory the queue takes, in bytes. Small frames take more than their bytes.
func (q *frameQueue) cost() int { return q.bytes + q.frames.len()*frameOverhead }

// next returns what to write next: a frame where it lies, or the batch or as many frames as make up
// to most bytes, in a pooled buffer, which it returns too. The bytes count until they are written:
// see wrote of outbox. If there is nothing next returns nil, and gives back the room for more than
// a few frames.
func (q *frameQueue) next(most int) (chunk []byte, buf *[]byte) {
	waiting, control := q.frames.len(), len(q.pongs)+len(q.pings)
	switch {
	case control > 0:
	case q.batch != nil:
		buf, q.batch = q.batch, nil
		return *buf, buf
	case waiting == 0:
		q.frames.shrink(keptFrames)
		q.pongs, q.pings = nil, nil
		return nil, nil
	case waiting == 1 || len(*q.frames.at(0))+len(*q.frames.at(1)) > most:
		return q.pop(), nil
	}
	buf = acquireBuffer(min(q.bytes, most))
	chunk = append(append((*buf)[:0], q.pongs...), q.pings...)
	q.pongs, q.pings = q.pongs[:0], q.pings[:0]
	for q.batch == nil && q.frames.len() > 0 && len(chunk)+len(*q.frames.at(0)) <= most {
		chunk = append(chunk, q.pop()...)
	}
	return chunk, buf
}

// pop takes the first frame off the queue; nil if there is none.
func (q *frameQueue) pop() []byte {
	frame, _ := q.frames.pop()
	q.frames.shrink(8 * keptFrames)
	return frame
}

// dropWaiting drops what waits, but not what is being written.
func (q *frameQueue) dropWaiting() {
	for frame := q.pop(); frame != nil; frame = q.pop() {
		q.bytes -= len(frame)
	}
	if q.batch != nil {
		q.bytes -= len(*q.batch)
	}
	releaseBuffer(q.batch)
	q.bytes -= len(q.pongs) + len(q.pings)
	q.batch, q.pongs, q.pings = nil, nil, nil
}
