package atrium

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// incoming is one thing for a socket, or a Client, to deal with: its connect, an event, its leaving.
type incoming struct {
	kind incomingKind
	// Of a connect, args are the auth value or nothing; of a problem, args.json says what it is, as text.
	eventData
	reason Reason // of leaving
	note   func() // of a note: deals with it
	since  int64  // nanotime when it began to be handled; 0: not yet
}

type incomingKind uint8

const (
	incomingConnect incomingKind = iota
	incomingEvent
	incomingProblem // a message that could not be read
	incomingLeave
	incomingNote // something of a Client's
)

// incomingOverhead is what an event takes beside its bytes: its place in the inbox, which has room for up to twice as
// many, and what the allocator adds; of a Client's events also their note.
const incomingOverhead = 256

// size is what it takes of memory, in bytes.
func (in *incoming) size() int {
	return len(in.name) + in.args.size() + incomingOverhead
}

// reading is what the inboxes of a connection tell each other and its reader.
type reading struct {
	more   atomic.Bool   // there is more to handle after what is being handled
	pauses atomic.Uint32 // the beginnings and ends of waiting pushes: while it is odd, one waits
	calls  atomic.Int32  // Calls to the peer that wait for an answer

	// Until a socket of the client is accepted, all its inboxes and seats have one bound together, maxBeforeConnect.
	pending atomic.Bool  // none was accepted yet; of a Client it is never set
	held    atomic.Int32 // bytes, while it is pending
	session *session     // whose it is
}

// holds accounts for bytes that a client takes, or takes no more, before it is accepted.
func (r *reading) holds(bytes int) {
	if r.pending.Load() {
		r.held.Add(int32(bytes))
	}
}

// freed lets a push go on that waits for what another inbox held.
func (r *reading) freed() {
	if r.pending.Load() {
		r.session.recheck()
	}
}

// pausedSince reports whether a push waits, or has waited since pauses had the value before.
func (r *reading) pausedSince(before uint32) bool {
	return r.pauses.Load() != before || r.paused()
}

// paused reports whether a push waits, so that the connection is not read.
func (r *reading) paused() bool { return r.pauses.Load()%2 != 0 }

// handler is whose inbox it is.
type handler interface {
	// handle deals with one incoming thing, in the inbox's goroutine.
	handle(in incoming)
}

// inbox is what one socket has received and not yet handled. A goroutine that exists only while there is work
// handles it, strictly in order, one thing at a time.
//
// It is bounded in bytes and events. When it is full, push waits, so that whoever reads the connection stops
// reading and TCP slows the peer down. While a Call to the peer is pending push does not wait, because the answer
// may stand behind the events; then a peer that goes on beyond twice the bounds has flooded the inbox.
type inbox struct {
	handler handler
	reading *reading

	mu        sync.Mutex
	running   bool       // the goroutine exists
	finished  bool       // the last thing is in
	items     []incoming // items[head:] waits; of items[head-1], which is being handled, only what current tells is left
	head      int
	count     int // waiting or being handled
	bytes     int // what those take
	maxCount  int
	maxBytes  int
	unblocked chan struct{}
}

// received is what became of a pushed event.
type received uint8

const (
	taken   received = iota
	ignored          // the socket has left
	flooded          // not taken: the peer sends far faster than its events are handled
)

// push adds an event, waiting for room as described. It is called by one goroutine, the reader.
func (b *inbox) push(in incoming) received {
	b.mu.Lock()
	for !b.finished && b.full(1) {
		if b.reading.calls.Load() > 0 {
			if b.full(2) {
				b.mu.Unlock()
				return flooded
			}
			break
		}
		if b.unblocked == nil {
			b.unblocked = make(chan struct{})
		}
		wait := b.unblocked
		b.mu.Unlock()
		b.reading.pauses.Add(1)
		<-wait
		b.reading.pauses.Add(1)
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.finished {
		return ignored
	}
	b.add(in)
	return taken
}

// put adds something without waiting. Its caller sees to it that there is a bound.
func (b *inbox) put(in incoming) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(in)
}

// offer adds something if there is room. It does not wait.
func (b *inbox) offer(in incoming) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished || b.full(1) {
		return false
	}
	b.add(in)
	return true
}

// finish lets a waiting push go, and takes nothing more by push.
func (b *inbox) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finished = true
	b.unblock()
}

// pushLast adds the last thing that will be handled, without waiting, and lets a waiting push go.
func (b *inbox) pushLast(in incoming) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(in)
	b.finished = true
	b.unblock()
}

// bound changes the bounds.
func (b *inbox) bound(maxCount, maxBytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.maxCount, b.maxBytes = maxCount, maxBytes
	b.unblock()
}

// recheck makes a waiting push look again.
func (b *inbox) recheck() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unblock()
}

// full reports whether the bounds, taken times over, are reached. b.mu is held, as in the following.
func (b *inbox) full(times int) bool {
	r := b.reading
	return b.count >= times*b.maxCount || b.bytes >= times*b.maxBytes ||
		r.pending.Load() && int(r.held.Load()) >= times*maxBeforeConnect
}

func (b *inbox) add(in incoming) {
	if b.head > 1 && len(b.items) == cap(b.items) {
		// The room in front is used again, or an inbox that never runs empty would grow for ever.
		kept := copy(b.items, b.items[b.head-1:])
		clear(b.items[kept:])
		b.items, b.head = b.items[:kept], 1
	}
	b.items = append(b.items, in)
	b.count++
	b.bytes += in.size()
	b.reading.holds(in.size())
	if !b.running {
		b.running = true
		go b.run()
	}
}

// unblock is recheck for callers with the lock.
func (b *inbox) unblock() {
	if b.unblocked != nil {
		close(b.unblocked)
		b.unblocked = nil
	}
}

// run handles what is there and ends when there is no more.
func (b *inbox) run() {
	for handled := 1; ; handled++ {
		in, ok := b.next()
		if !ok {
			return
		}
		b.handle(in)
		if handled%maxTurn == 0 {
			runtime.Gosched()
		}
	}
}

// handle has one thing handled and accounts for it.
func (b *inbox) handle(in incoming) {
	returned := false
	defer func() {
		b.handled(in)
		if !returned {
			go b.run() // the handler ended its goroutine: runtime.Goexit
		}
	}()
	b.handler.handle(in)
	returned = true
}

// handled accounts for a thing that is dealt with.
func (b *inbox) handled(in incoming) {
	b.mu.Lock()
	b.count--
	b.bytes -= in.size()
	if b.count <= b.maxCount/2 && b.bytes <= b.maxBytes/2 {
		b.unblock()
	}
	b.mu.Unlock()
	b.reading.holds(-in.size())
	b.reading.freed()
}

// next takes the next thing. If there is none, the goroutine is about to end.
func (b *inbox) next() (in incoming, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.head == len(b.items) {
		b.items, b.head, b.running = nil, 0, false
		return incoming{}, false
	}
	if b.head > 0 {
		b.items[b.head-1] = incoming{}
	}
	in = b.items[b.head]
	b.items[b.head] = incoming{kind: in.kind, eventData: eventData{name: in.name}, since: nanotime()}
	b.head++
	if more := b.head < len(b.items); b.reading.more.Load() != more {
		b.reading.more.Store(more)
	}
	return in, true
}

// current says what is being handled, and since when: its kind, name and since are set. It reports false if nothing is.
func (b *inbox) current() (in incoming, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.running || b.head == 0 {
		return incoming{}, false
	}
	return b.items[b.head-1], true
}
