package atrium

import "sync/atomic"

// incoming is an item of the inbox of a Socket or a Client: its connect, an event, its leaving.
type incoming struct {
	kind incomingKind
	// Of a connect, args are the auth value or nothing; of a problem, args.json says what it is, as
	// text.
	eventData
	reason Reason // of leaving
	note   func() // of a note: handles it
}

type incomingKind uint8

const (
	incomingConnect incomingKind = iota
	incomingEvent
	incomingProblem // a message that could not be read
	incomingLeave
	incomingNote // something of a Client's
)

// incomingOverhead is what an event takes beside its bytes: its place in the inbox, which has room
// for up to three times as many, and what the allocator adds; of a Client's events also their note.
const incomingOverhead = 256

// size is what it takes of memory, in bytes.
func (in incoming) size() int {
	return len(in.name) + in.args.size() + incomingOverhead
}

// reading is what the inboxes of a connection share with the goroutine that reads it and pushes to
// them. While a push waits for room in one of them, the connection is not read.
type reading struct {
	more   atomic.Bool   // there is more to handle after what is being handled
	calls  atomic.Int32  // Calls to the peer whose replies are pending
	waits  atomic.Int32  // pushes that wait
	pauses atomic.Uint32 // how many times a push has begun or ended to wait
	wake   chan struct{} // has a token if a push that waits should look again; made by the first one that waits

	// draining says that a push waits even if there is room, until its queue is closed: see
	// session.letGo. Of a Client it is never set.
	draining atomic.Bool

	// Of the reader of a WebSocket to a hub; Conn.serve says what for:
	last    bool  // what it receives is the last that has come
	claimed inbox // which the reader will run

	// Until a client is accepted, all its inboxes and sockets have one bound together,
	// maxBeforeConnect.
	pending atomic.Bool  // it is not accepted yet; of a Client it is never set
	held    atomic.Int32 // bytes, while it is pending
}

// maxBeforeConnect bounds each of these, in bytes, until a client is accepted: a message that is
// received, one with its attachments, what was received and waits in all its inboxes together, and
// what is queued for it.
const maxBeforeConnect = 64 << 10

// holds counts bytes that a client takes, or releases if they are negative, before it is accepted.
func (r *reading) holds(bytes int) {
	if r == nil || !r.pending.Load() {
		return
	}
	r.held.Add(int32(bytes))
	if bytes < 0 {
		r.recheck()
	}
}

// claim reports whether the reader itself will run a queue that is about to get its first item:
// Conn.serve does, if nothing more has come behind that.
func (r *reading) claim(q inbox) bool {
	if !r.last {
		return false
	}
	r.last, r.claimed = false, q
	return true
}

// takeClaimed returns the inbox that the caller must run now.
func (r *reading) takeClaimed() inbox {
	q := r.claimed
	r.claimed = nil
	return q
}

// called counts a Call to the peer that begins (+1) or ends (-1).
func (r *reading) called(change int32) {
	r.calls.Add(change)
	r.recheck()
}

// beginWait notes that a push waits: recheck wakes it from now on. The lock of its queue is held.
func (r *reading) beginWait() {
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
	}
	r.waits.Add(1)
	r.pauses.Add(1)
}

// endWait undoes beginWait. If a Client's next connection waits, too, that one looks now.
func (r *reading) endWait() {
	r.pauses.Add(1) // first: see pause
	r.waits.Add(-1)
	r.recheck()
}

// recheck has a push that waits look again whether it must.
func (r *reading) recheck() {
	if r == nil || r.waits.Load() == 0 {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default: // there is a token already
	}
}

// pause returns whether a push waits, and pauses. If pauses is what it was before, and no push
// waits, none has waited since: a wait that has ended is counted by then.
func (r *reading) pause() (paused bool, pauses uint32) {
	paused = r.paused()
	return paused, r.pauses.Load()
}

// paused reports whether a push waits, so that the connection is not read.
func (r *reading) paused() bool { return r.waits.Load() > 0 }
