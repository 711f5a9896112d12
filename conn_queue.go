package atrium

import "sync"

const (
	// writeChunk is the most that one write hands to the network: TLS's record size, and small
	// enough that the end of each write is a sign of life from a slow peer.
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

// frameQueue holds the frames that wait to be written, and takes them apart into chunks for single
// writes. Pings and pongs overtake data at the next frame boundary. It has no lock: an outbox
// guards it.
type frameQueue struct {
	frames  fifo[[]byte] // that wait
	partial []byte       // the unwritten rest of a frame whose beginning was written
	pongs   []byte       // whole frames
	pings   []byte       // whole frames
	bytes   int          // of all the above, and of what is being written
}

// add queues a frame behind all data.
func (q *frameQueue) add(frame []byte) {
	q.frames.push(frame)
	q.bytes += len(frame)
}

// addPing queues a ping ahead of all data.
func (q *frameQueue) addPing(frame []byte) {
	q.pings = append(q.pings, frame...)
	q.bytes += len(frame)
}

// addPong queues a pong ahead of all data. If too many wait, it takes their place.
func (q *frameQueue) addPong(frame []byte) {
	if len(q.pongs)+len(frame) > maxPongs {
		q.bytes -= len(q.pongs)
		q.pongs = q.pongs[:0]
	}
	q.pongs = append(q.pongs, frame...)
	q.bytes += len(frame)
}

// cost returns how much memory the queue takes, in bytes. Small frames take more than their bytes.
func (q *frameQueue) cost() int { return q.bytes + q.frames.len()*frameOverhead }

// next returns what to write next: a frame or a piece of one, where it lies, or as many whole
// frames as go into a buffer; nil if there is nothing. It takes the buffer from the pool if it
// needs one. The bytes count until they are written: see wrote of outbox.
func (q *frameQueue) next(buf **[]byte) []byte {
	if len(q.partial) > 0 {
		chunk := q.partial[:min(len(q.partial), writeChunk)]
		if q.partial = q.partial[len(chunk):]; len(q.partial) == 0 {
			q.partial = nil
		}
		return chunk
	}
	waiting, control := q.frames.len(), len(q.pongs)+len(q.pings)
	if waiting+control == 0 {
		return nil
	}
	if waiting == 1 && control == 0 {
		return q.begin(q.pop())
	}
	if *buf == nil {
		*buf = drainBuffers.Get().(*[]byte)
	}
	chunk := append(append((**buf)[:0], q.pongs...), q.pings...)
	q.pongs, q.pings = q.pongs[:0], q.pings[:0]
	for q.frames.len() > 0 {
		if frame := *q.frames.at(0); len(chunk)+len(frame) > writeChunk {
			if len(chunk) > 0 {
				return chunk
			}
			return q.begin(q.pop())
		}
		chunk = append(chunk, q.pop()...)
	}
	return chunk
}

// begin returns the first chunk of a frame and keeps the rest.
func (q *frameQueue) begin(frame []byte) []byte {
	if len(frame) > writeChunk {
		q.partial = frame[writeChunk:]
		frame = frame[:writeChunk]
	}
	return frame
}

// pop takes the first frame off the queue; nil if there is none.
func (q *frameQueue) pop() []byte {
	frame, _ := q.frames.pop()
	q.frames.shrink(8 * keptFrames)
	return frame
}

// dropWaiting drops what waits, but not the rest of a frame whose beginning was written.
func (q *frameQueue) dropWaiting() {
	for frame := q.pop(); frame != nil; frame = q.pop() {
		q.bytes -= len(frame)
	}
	q.bytes -= len(q.pongs) + len(q.pings)
	q.pongs, q.pings = nil, nil
}

// shrink gives back the room of an empty queue, but for a few frames'.
func (q *frameQueue) shrink() {
	q.frames.shrink(keptFrames)
	q.pongs, q.pings = nil, nil
}

// drainBuffers are for chunks of several frames.
var drainBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeChunk)
	return &b
}}

func releaseBuffer(buf *[]byte) {
	if buf != nil {
		drainBuffers.Put(buf)
	}
}
