package atrium

import (
	"container/list"
	"context"
	"io"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Recovery says whether and how Socket.IO clients get back, after their connection broke, what they
// had before: the same Socket.ID, user, rooms and values, and the events that were emitted for them
// meanwhile, in order and each once. It is Socket.IO's "connection state recovery", and
// Socket.Recovered says that it took place.
//
// A client that leaves by itself, or is disconnected by Socket.Disconnect, does not come back.
// OnDisconnect runs when the connection breaks, and OnConnect when the client is back, with another
// Socket of the same ID, which is not before OnDisconnect has returned. Use functions do not run
// again, as in Socket.IO: the values that they have Set are there; Options.Accept does run. Events
// are kept as they are emitted, except volatile ones, Calls and acknowledgements.
//
// While a client is away, Count, Sockets and Rooms leave it out. Join, Leave, Disconnect,
// DisconnectAt and Set act on it nevertheless, by a Target on any node as by a Socket that the
// client had. The client gets the events that it would have got if it had been there: of a room,
// those emitted between Join and Leave. A client that was disconnected begins anew when it comes
// back.
//
// As in Socket.IO, every event that can be replayed has one more argument on its way to a Socket.IO
// client, the last: a string that says where in the order the event is.
//
// All is kept in this process: of several servers, a client must come back to its own (sticky
// sessions). With Path, or with Save and Load, it outlives a restart. With a Bus, what other nodes
// emit while neither process runs is lost for the clients; see CLUSTER.md.
type Recovery struct {
	// MaxDisconnection is how long a client may be away. Zero means that there is no recovery, and
	// costs nothing.
	MaxDisconnection time.Duration
	// MaxBytes bounds what is kept in each namespace, in bytes: events, and the rooms of those who
	// are away with what they are present as there, but not their values. Beyond it the oldest go
	// first, and a client that needs them begins anew; so does one that has missed more than
	// Limits.QueuedBytes. The namespaces that one OfFunc stands for have one bound together, and
	// each drops its own oldest. Zero means 16 MiB.
	MaxBytes int

	// Path names a file by which a restart keeps what Recovery keeps. At its end Shutdown writes to
	// it the clients that may come back, those that it has let go included, and the events. New
	// reads it, and removes it, so that nothing is taken twice. A file that is missing is no error;
	// one that is damaged, or of another program or version, is logged, and the clients begin anew,
	// as they do after a crash.
	//
	// The two processes may overlap: start the new one, then end the old one. The old one holds a
	// lock, the file Path+".lock", which the new one waits for in the background. A client that
	// comes to the new one while the old one shuts down, with a connection that is not known here,
	// waits until it has been handed over, for three quarters of Timeouts.Connect at most. It gets
	// what either process has emitted: first what the old one has, then what the new one has since
	// its New. A request of a session that polls, which is not known here either, gets the end of
	// that session, so that its client comes back. Until then Join, Leave and Disconnect of the new
	// process do not reach it. One that comes before the old process shuts down begins anew, so let
	// the two overlap briefly. On systems without flock (Windows, Solaris) the processes must not
	// overlap.
	//
	// Of the values that the application has Set, JSON is kept, from which Value makes what it was.
	// A client with a value that JSON does not carry begins anew, and the log names the type:
	// functions, channels, interfaces other than any, and fields that are not exported or left out,
	// unless the type has methods for both directions (MarshalJSON and UnmarshalJSON, or those for
	// text); and strings with invalid UTF-8. Handshake and Context are those of the new connection.
	//
	// Who is present in rooms (Socket.Present), and who is online, is kept as well: nobody has left
	// or joined by the restart, but for the functions of OnPresence and OnUserOnline, which a new
	// process tells of all who are there. While the old one shuts down nobody leaves its presence.
	// The new one holds the places of those who have not come back for PresenceOptions.Grace and 5
	// seconds, the longest pause between two attempts of a client.
	//
	// The file holds the clients' secrets: it has mode 0600, and so has Path+".new", which is it
	// while it is written. Its directory must exist; anything but a regular file at Path is neither
	// read nor replaced. Each hub that runs at the same time for long needs a Path of its own. Zero
	// means that a restart keeps nothing, unless Save and Load are set.
	Path string
	// Save and Load stand in place of Path, for those who keep the state elsewhere: Save is given
	// it at the end of Shutdown, and Load returns it to New, once, or nil if there is none, or an
	// error that matches fs.ErrNotExist. Each has 10 seconds, by its context. An error of Save is
	// one of Shutdown, an error of Load is logged. New must not be called before Shutdown has
	// returned in the process before. Zero means Path.
	Save func(ctx context.Context, state io.Reader) error
	Load func(ctx context.Context) (io.ReadCloser, error)
}

// recovery keeps what a namespace's clients need to come back.
//
// The events since a client went away are replayed, and of those before, the ones that it did not
// get. Events have rising numbers, and a client knows the number of the last that it got: its
// offset. A client that got all that was ever queued for it needs no old events, however long ago
// that was.
type recovery struct {
	ns       *Namespace
	maxAway  int64         // how long a client may be away, in nanoseconds
	eventTTL int64         // how long an event is kept: a cut is noticed later than it happens
	total    *atomic.Int64 // the bytes of all namespaces that share Recovery.MaxBytes

	// Emitting an event, joining a room, entering and leaving are each one step under mu, so that a
	// client that comes back finds an event either among the kept ones or behind them. mu is taken
	// before all locks but a call's, and guards:
	mu      sync.Mutex
	byPID   map[string]*kept
	away    map[string]*kept // by socket id: those without a connection
	parked  list.List        // of *kept: those of them that wait for a claim, in the order of their parking
	events  fifo[keptEvent]
	newest  uint64 // the number of the last event
	dropped uint64 // the number of the last event that is not kept any more
	bytes   int    // of the events and of the parked

	inherited map[uint64]bool // the marks of the predecessor's events, while some of these are kept
	timed     bool            // the timer is set
	timer     timer
}

// kept is what outlives the connections of a client: its socket's identity, and what it has been
// sent. It is connected, parked or claimed, and finally gone. All fields but pid, id, start and
// values are guarded by the recovery's lock.
type kept struct {
	pid    string // the client's proof, a secret
	id     string // the socket's
	start  uint64 // the number of the last event before the first connection
	values *values

	session *session      // the connection; nil if the client is away
	parked  *list.Element // in recovery.parked; nil unless parked
	claim   *Socket       // the socket that is about to continue; nil unless claimed
	gone    bool          // it is forgotten
	saved   bool          // it is forgotten here, and kept for the hub's successor
	until   int64         // nanotime at which a parked one is forgotten
	sent    uint64        // the number of the last event that was queued for the client
	left    uint64        // the number of the last event before the client went away
	handled chan struct{} // closed when the functions of the last connection's socket have returned
	expiry  *timer        // of Socket.DisconnectAt; nil if there is none
	stays
}

// values are what the application has set on a socket. With Recovery all sockets that a client has
// had by one id share them.
type values struct {
	mu       sync.Mutex     // guards:
	byKey    map[string]any // those of SetPublic as publicValue
	presents eventRate      // of Socket.Present
}

// keptEvent is an event and its recipients.
type keptEvent struct {
	number uint64
	mark   uint64 // the message's
	above  uint64 // clients that began at a lower number have it by the hub that they were on
	to     recipients
	form   wireForm
	size   int
	at     int64 // nanotime
}

// The memory that is needed beside bytes and names, nearly, in bytes.
const (
	keptOverhead  = 512 // of a client
	eventOverhead = 512 // of an event: its place in the list, which has room for up to twice as many, and its frame's room
	roomOverhead  = 32  // of a room
)

// newRecovery returns nil if Options.Recovery is off.
func newRecovery(n *Namespace) *recovery {
	o := &n.hub.options
	if o.Recovery.MaxDisconnection == 0 {
		return nil
	}
	r := &recovery{
		ns:       n,
		maxAway:  int64(o.Recovery.MaxDisconnection),
		eventTTL: int64(min(o.Recovery.MaxDisconnection+o.Timeouts.PingInterval+o.Timeouts.Ping, endless)),
		total:    new(atomic.Int64),
		byPID:    make(map[string]*kept),
		away:     make(map[string]*kept),
		newest:   n.hub.succession.first,
		dropped:  n.hub.succession.first,
	}
	r.timer.fire = r.sweep
	return r
}

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

// last returns the number of the last event. The caller holds the lock, here and in all methods
// below that do not say otherwise.
func (r *recovery) last() uint64 { return r.newest }

// open begins to keep a new client.
func (r *recovery) open(pid, id string, s *session) *kept {
	k := &kept{pid: pid, id: id, start: r.last(), session: s, handled: make(chan struct{})}
	r.byPID[pid] = k
	r.ns.hub.retain(r.ns.name)
	return k
}

// number gives the message its offset. It reports false if no client can ever ask for the event.
func (r *recovery) number(m *message) bool {
	if len(r.byPID) == 0 && !r.ns.hub.succession.pending.Load() {
		return false
	}
	if !m.volatile {
		r.newest++
		m.number = r.newest
	}
	m.offset = strconv.AppendQuote(m.offset, strconv.FormatUint(r.newest, 10))
	return true
}

// keep adds the event that was numbered.
func (r *recovery) keep(m *message, to recipients) {
	f := m.form(socketIOProtocol)
	e := keptEvent{number: m.number, mark: m.mark, above: m.above, to: to, form: wireForm{whole: f.whole, payload: f.payload, base64: f.base64, bare: f.bare}, at: nanotime()}
	e.weigh()
	r.events.push(e)
	r.charge(e.size)
	r.shrink()
	r.arm()
}

// weigh sets the size.
func (e *keptEvent) weigh() {
	e.size = eventOverhead + len(e.form.whole)
	for _, attachment := range e.form.base64 {
		e.size += len(attachment) + frameOverhead
	}
	for _, names := range [][]string{e.to.rooms, e.to.except} {
		for _, name := range names {
			e.size += len(name) + roomOverhead
		}
	}
}

// leave notes that the connection has ended: the client is away.
func (r *recovery) leave(k *kept, reason Reason, rooms []stay) {
	k.session, k.rooms, k.left = nil, rooms, r.last()
	if k.gone { // it was disconnected
		return
	}
	r.away[k.id] = k
	if !reason.recoverable() && !(reason == ReasonShutdown && r.ns.hub.options.Recovery.saves()) {
		r.forget(k)
	}
	r.park(k)
}

// recoverable reports whether the client may not know that it was disconnected. To a hub that is
// shut down no client comes back, but to its successor.
func (reason Reason) recoverable() bool {
	switch reason {
	case ReasonTransportClose, ReasonTransportError, ReasonMessageTooBig, ReasonPingTimeout, ReasonForcedServerClose:
		return true
	}
	return false
}

// park begins the time in which a client that is away may come back.
func (r *recovery) park(k *kept) {
	if k.gone || k.claim != nil || k.session != nil {
		return
	}
	k.until = nanotime() + r.maxAway
	k.parked = r.parked.PushBack(k)
	r.charge(k.size())
	r.shrink()
	r.arm()
}

// unpark ends that time.
func (r *recovery) unpark(k *kept) {
	if k.parked != nil {
		r.parked.Remove(k.parked)
		k.parked = nil
		r.charge(-k.size())
	}
}

// forget removes a client for good.
func (r *recovery) forget(k *kept) {
	if k.gone {
		return
	}
	r.unpark(k)
	k.gone = true
	delete(r.byPID, k.pid)
	delete(r.away, k.id)
	if k.expiry != nil {
		r.clock().stop(k.expiry)
	}
	r.expire(k)
	r.ns.hub.release(r.ns)
	r.dropUnwanted()
}

// dropUnwanted drops the events if no client is left that could ask for one.
func (r *recovery) dropUnwanted() {
	if len(r.byPID) > 0 || r.ns.hub.succession.pending.Load() {
		return
	}
	r.dropped = r.last()
	r.charge(-r.bytes)
	r.events, r.timed = fifo[keptEvent]{}, false
	r.clock().stop(&r.timer)
}

func (r *recovery) clock() *wheel { return r.ns.hub.sessions.clock }

// claim finds what is kept of a client that comes back as s, nil if there is nothing, and the
// session that it has replaced, if that is not known to have ended: the last connection, or an
// earlier one that waits to come back. s may resume when handled is closed. It locks.
func (r *recovery) claim(pid string, s *Socket) (k *kept, handled <-chan struct{}, stale *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k = r.byPID[pid]
	if k == nil || k.parked != nil && k.until <= nanotime() {
		return nil, nil, nil
	}
	stale = k.session
	if k.claim != nil {
		stale = k.claim.session
	}
	r.unpark(k)
	k.claim = s
	return k, k.handled, stale
}

// missed returns the events that a claiming client did not get, in order, and the number of the
// last that will ever have been queued for it then. It reports false if the client has to begin
// anew, because they are not kept any more.
func (r *recovery) missed(k *kept, offset uint64) (forms []*wireForm, sent uint64, ok bool) {
	if k.gone || k.session != nil || offset < k.start || offset > r.last() {
		return nil, 0, false
	}
	if offset >= k.sent { // it got all that was queued for it
		offset = max(offset, k.left)
	}
	if offset < max(r.dropped, k.known) {
		return nil, 0, false
	}
	bytes := 0
	sent = k.sent
	for i := r.after(offset); i < r.events.len(); i++ {
		if e := r.events.at(i); k.start >= e.above && e.to.include(k, e.number) {
			forms, sent = append(forms, &e.form), e.number
			bytes += len(e.form.whole) + frameOverhead
		}
	}
	return forms, sent, bytes <= r.ns.hub.options.Limits.QueuedBytes
}

// after returns how many of the events have this number or a lower one. There may be gaps between
// the numbers.
func (r *recovery) after(number uint64) int {
	return sort.Search(r.events.len(), func(i int) bool { return r.events.at(i).number > number })
}

// resume makes s the connection of a claimed client.
func (r *recovery) resume(k *kept, s *session, sent uint64) {
	k.claim, k.session, k.sent, k.rooms = nil, s, sent, nil
	k.handled = make(chan struct{})
	delete(r.away, k.id)
}

// charge accounts for bytes that are kept (+) or dropped (-).
func (r *recovery) charge(bytes int) {
	r.bytes += bytes
	r.total.Add(int64(bytes))
}

// shrink drops the oldest until all namespaces that share the bound are within it, or nothing is
// left here.
func (r *recovery) shrink() {
	for r.bytes > 0 && r.total.Load() > int64(r.ns.hub.options.Recovery.MaxBytes) {
		oldest := r.parked.Front()
		if r.events.len() > 0 && (oldest == nil || r.events.at(0).at <= oldest.Value.(*kept).until-r.maxAway) {
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
	if r.dropped = e.number; r.dropped >= r.ns.hub.succession.first {
		r.inherited = nil
	}
}

// sweep drops what is too old. The timer calls it; it locks.
func (r *recovery) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := nanotime()
	for r.events.len() > 0 && r.events.at(0).at+r.eventTTL <= now {
		r.dropEvent()
	}
	for e := r.parked.Front(); e != nil && e.Value.(*kept).until <= now; e = r.parked.Front() {
		r.forget(e.Value.(*kept))
	}
	r.timed = false
	r.arm()
}

// arm sets the timer for what will be too old first.
func (r *recovery) arm() {
	var when int64
	if r.events.len() > 0 {
		when = r.events.at(0).at + r.eventTTL
	}
	if e := r.parked.Front(); e != nil && (when == 0 || e.Value.(*kept).until < when) {
		when = e.Value.(*kept).until
	}
	if when != 0 && (!r.timed || when < r.timer.when) {
		r.timed = true
		r.clock().schedule(&r.timer, when)
	}
}
