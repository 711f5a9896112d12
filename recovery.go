package atrium

import (
	"container/list"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Recovery says whether and how Socket.IO clients get back, after their connection broke, what they had before: the
// same Socket.ID, rooms and values, and the events that were emitted for them meanwhile, in order and each once. It
// is Socket.IO's "connection state recovery", and Socket.Recovered says that it took place.
//
// A client that says goodbye, or is disconnected by Socket.Disconnect, does not come back. OnDisconnect runs when the
// connection breaks, and OnConnect when the client is back, with another Socket of the same ID, which is not before
// OnDisconnect has returned. Use functions do not run again, as in Socket.IO: what they have Set is there; Options.Accept
// does run. Events are kept as they are emitted, but not volatile ones, Calls and what a handler answers.
//
// While a client is away, Count, Sockets and Rooms leave it out. What is done to it holds nevertheless, by a Target on any
// node as by a Socket that the client had: Join, Leave, Disconnect, DisconnectAt, Set. It gets what it would have got if it
// had been there: of a room what was emitted from Join to Leave. One that is disconnected begins anew when it comes back.
//
// As in Socket.IO, every event that can be replayed has one argument more on its way to a Socket.IO client, the last:
// a string that says where in the order it stands.
//
// All is kept in this process: of several servers, a client must come back to its own (sticky sessions).
type Recovery struct {
	// MaxDisconnection is how long a client may be away. Zero means that there is no recovery, and costs nothing.
	MaxDisconnection time.Duration
	// MaxBytes bounds what is kept in each namespace, in bytes: events, and the rooms of those who are away, but not
	// their values. Beyond it the oldest go first, and a client that needs them begins anew; so does one that has
	// missed more than Options.MaxQueued. The namespaces that one OfFunc stands for have one bound together, and
	// each drops its own oldest. Zero means 16 MiB.
	MaxBytes int
}

// recovery keeps what a namespace's clients need to come back.
//
// The events since a client went are replayed, and before it went, those that it did not get. They are numbered
// from one, and a client knows the number of the last that it has: its offset. A client that has all that was ever
// queued for it needs no old ones, however long ago that was.
type recovery struct {
	clock     *wheel
	stays     int64 // how long a session may be away, in nanoseconds
	remembers int64 // how long an event is kept: a cut that nobody told of is noticed later
	maxBytes  int64
	total     *atomic.Int64 // the bytes of all namespaces that share the bound
	maxMissed int           // bytes that are replayed at most
	hold      func()        // counts a session in that is kept here
	release   func()        // counts it out

	// Emitting an event, joining a room, entering and leaving are each one step under mu, so that a client that comes
	// back finds an event either among the old ones or behind them. It is taken before all locks but a call's, and guards:
	mu       sync.Mutex
	sessions map[string]*kept // by pid, whether away or not
	absent   map[string]*kept // by id, those that are away
	away     list.List        // of *kept, those of them that may be claimed, in the order of their leaving
	events   fifo[keptEvent]
	dropped  uint64 // the number of the last event that is not kept any more
	bytes    int    // of the events, and of those who are away
	timed    bool   // the timer is set
	timer    timer
}

// kept is a client's socket as it outlives its connections.
type kept struct {
	pid string // the client's proof, a secret
	id  string // the socket's

	// Guarded by the recovery's lock, as far as they change.
	start   uint64        // the number of the last event before the first connection
	sent    uint64        // of the last that was queued for it
	session *session      // its connection; nil if it is away
	left    uint64        // the last event before it went away
	until   int64         // nanotime; when it is forgotten
	place   *list.Element // in recovery.away; nil unless it may be claimed
	claimed bool          // a connection is about to continue it
	gone    bool          // it is forgotten
	handled chan struct{} // closed when the functions of the last connection's socket have returned
	expiry  *timer        // of Socket.DisconnectAt; nil if there is none
	rooms   []stay        // while it is away; else they are its socket's
	lapsed  []lapsed      // rooms that it has left, in the order of its leaving
	known   uint64        // from the event behind this one on it is known what rooms the client was in

	values *values
}

// values are what the application has set on a socket. With Recovery all sockets that a client has had by one id share
// them.
type values struct {
	mu    sync.Mutex     // guards:
	byKey map[string]any // those of SetPublic as publicValue
}

// keptEvent is an event, and whom it was for.
type keptEvent struct {
	to   recipients
	form wireForm
	size int
	at   int64 // nanotime
}

const (
	// What is kept takes about so much beside its bytes and names, in bytes.
	keptOverhead  = 512 // a session
	eventOverhead = 512 // an event: its place in the list, which has room for up to twice as many, and its frame's room
	roomOverhead  = 32  // a room
)

// lock and unlock do nothing if there is no recovery.
func (r *recovery) lock() {
	if r != nil {
		r.mu.Lock()
	}
}

func (r *recovery) unlock() {
	if r != nil {
		r.mu.Unlock()
	}
}

// last is the number of the last event. The lock is held, as in all that follows and says nothing else.
func (r *recovery) last() uint64 { return r.dropped + uint64(r.events.len()) }

// open begins to keep a new client's session.
func (r *recovery) open(pid, id string, s *session) *kept {
	k := &kept{pid: pid, id: id, start: r.last(), session: s, handled: make(chan struct{})}
	r.sessions[k.pid] = k
	r.hold()
	return k
}

// number gives the message its offset. It reports false if nobody can ever ask for it.
func (r *recovery) number(m *message) bool {
	if len(r.sessions) == 0 {
		return false
	}
	number := r.last()
	if !m.volatile {
		number++
		m.number = number
	}
	m.offset = strconv.AppendQuote(m.offset, strconv.FormatUint(number, 10))
	return true
}

// keep adds the event that was numbered.
func (r *recovery) keep(m *message, to recipients) {
	f := m.form(socketIOProtocol)
	e := keptEvent{to: to, form: wireForm{whole: f.whole, payload: f.payload, base64: f.base64}, at: nanotime()}
	e.size = eventOverhead + len(f.whole)
	for _, attachment := range f.base64 {
		e.size += len(attachment) + frameOverhead
	}
	for _, names := range [][]string{to.rooms, to.except} {
		for _, name := range names {
			e.size += len(name) + roomOverhead
		}
	}
	r.events.push(e)
	r.charge(e.size)
	r.shrink()
	r.arm()
}

// leave notes that the connection has ended. Everybody else finds the client away.
func (r *recovery) leave(k *kept, reason Reason, rooms []stay) {
	k.session, k.rooms, k.left = nil, rooms, r.last()
	if k.gone { // it was disconnected
		return
	}
	r.absent[k.id] = k
	if !reason.recoverable() {
		r.forget(k)
	}
	r.wait(k)
}

// recoverable reports whether the client may not know that it was disconnected. A hub that is shut down has nobody
// come back.
func (reason Reason) recoverable() bool {
	switch reason {
	case ReasonTransportClose, ReasonTransportError, ReasonMessageTooBig, ReasonPingTimeout, ReasonForcedServerClose:
		return true
	}
	return false
}

// wait keeps a session whose client is away.
func (r *recovery) wait(k *kept) {
	if k.gone || k.claimed || k.session != nil {
		return
	}
	k.until = nanotime() + r.stays
	k.place = r.away.PushBack(k)
	r.charge(k.size())
	r.shrink()
	r.arm()
}

// unwait undoes wait.
func (r *recovery) unwait(k *kept) {
	if k.place != nil {
		r.away.Remove(k.place)
		k.place = nil
		r.charge(-k.size())
	}
}

// forget ends a session for good.
func (r *recovery) forget(k *kept) {
	if k.gone {
		return
	}
	r.unwait(k)
	k.gone = true
	delete(r.sessions, k.pid)
	delete(r.absent, k.id)
	if k.expiry != nil {
		r.clock.stop(k.expiry)
	}
	r.release()
	if len(r.sessions) == 0 { // nobody is left who could ask for an event
		r.dropped = r.last()
		r.charge(-r.bytes)
		r.events, r.timed = fifo[keptEvent]{}, false
		r.clock.stop(&r.timer)
	}
}

// claim finds the session of a client that wants to come back, for one connection only. It locks. The session that
// is returned, if any, is the connection that the client has left without our notice.
func (r *recovery) claim(pid string) (k *kept, stale *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k = r.sessions[pid]
	if k == nil || k.claimed || k.session == nil && k.until <= nanotime() {
		return nil, nil
	}
	k.claimed = true
	r.unwait(k)
	return k, k.session
}

// unclaim undoes claim: the connection has ended before the client was back.
func (r *recovery) unclaim(k *kept) {
	k.claimed = false
	r.wait(k)
}

// missed returns the events that the client of a claimed session does not have, in order, and the number of the last
// that was ever queued for it then. It reports false if the client has to begin anew, because they are not kept any more.
func (r *recovery) missed(k *kept, offset uint64) (forms []*wireForm, sent uint64, ok bool) {
	if k.gone || k.session != nil || offset < k.start || offset > r.last() {
		return nil, 0, false
	}
	if offset >= k.sent { // it has all that was queued for it
		offset = max(offset, k.left)
	}
	if offset < max(r.dropped, k.known) {
		return nil, 0, false
	}
	bytes := 0
	sent = k.sent
	for number := offset + 1; number <= r.last(); number++ {
		e := r.events.at(int(number - r.dropped - 1))
		if e.to.include(k, number) {
			forms, sent = append(forms, &e.form), number
			bytes += len(e.form.whole) + frameOverhead
		}
	}
	return forms, sent, bytes <= r.maxMissed
}

// resume makes s the connection of a claimed session.
func (r *recovery) resume(k *kept, s *session, sent uint64) {
	k.claimed, k.session, k.sent, k.rooms = false, s, sent, nil
	k.handled = make(chan struct{})
	delete(r.absent, k.id)
}

// charge accounts for what is kept (+) or dropped (-).
func (r *recovery) charge(bytes int) {
	r.bytes += bytes
	r.total.Add(int64(bytes))
}

// shrink drops the oldest until all that share the bound are within it, or nothing is left here.
func (r *recovery) shrink() {
	for r.bytes > 0 && r.total.Load() > r.maxBytes {
		oldest := r.away.Front()
		if r.events.len() > 0 && (oldest == nil || r.events.at(0).at <= oldest.Value.(*kept).until-r.stays) {
			r.dropEvent()
		} else {
			r.forget(oldest.Value.(*kept))
		}
	}
}

func (r *recovery) dropEvent() {
	e, _ := r.events.pop()
	r.events.shrink(0)
	r.charge(-e.size)
	r.dropped++
}

// sweep drops what is too old. It is the timer's fire, and locks.
func (r *recovery) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := nanotime()
	for r.events.len() > 0 && r.events.at(0).at+r.remembers <= now {
		r.dropEvent()
	}
	for e := r.away.Front(); e != nil && e.Value.(*kept).until <= now; e = r.away.Front() {
		r.forget(e.Value.(*kept))
	}
	r.timed = false
	r.arm()
}

// arm sets the timer for what will be too old first.
func (r *recovery) arm() {
	var when int64
	if r.events.len() > 0 {
		when = r.events.at(0).at + r.remembers
	}
	if e := r.away.Front(); e != nil && (when == 0 || e.Value.(*kept).until < when) {
		when = e.Value.(*kept).until
	}
	if when != 0 && (!r.timed || when < r.timer.when) {
		r.timed = true
		r.clock.schedule(&r.timer, when)
	}
}
