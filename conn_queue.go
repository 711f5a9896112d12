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
// frames as go into a buffer, which it takes from the pool if it has none. The bytes count until
// they are written: see wrote of outbox. If there is nothing next returns nil, and gives back the
// room for more than a few frames.
func (q *frameQueue) next(buf **[]byte) []byte {
	waiting, control := q.frames.len(), len(q.pongs)+len(q.pings)
	if len(q.partial) == 0 && control == 0 && (waiting == 1 || waiting > 1 && len(*q.frames.at(0)) > writeChunk) {
		q.partial = q.pop()
	}
	if len(q.partial) > 0 {
		chunk := q.partial[:min(len(q.partial), writeChunk)]
		if q.partial = q.partial[len(chunk):]; len(q.partial) == 0 {
			q.partial = nil
		}
		return chunk
	}
	if waiting+control == 0 {
		q.frames.shrink(keptFrames)
		q.pongs, q.pings = nil, nil
		return nil
	}
	if *buf == nil {
		*buf = drainBuffers.Get().(*[]byte)
	}
	chunk := append(append((**buf)[:0], q.pongs...), q.pings...)
	q.pongs, q.pings = q.pongs[:0], q.pings[:0]
	for q.frames.len() > 0 && len(chunk)+len(*q.frames.at(0)) <= writeChunk {
		chunk = append(chunk, q.pop()...)
	}
	return chunk
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

// drainBuffers are for chunks of several frames.
var drainBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, writeChunk)
	return &b
}}
