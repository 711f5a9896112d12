package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// Target is a set of sockets to emit to, or to do something to: everyone in a namespace, the
// members of rooms, the sockets of users, or one socket, less those who are excepted. It is a value
// that does not change: To, ToUser, Except, ExceptUser, Volatile, Compress and Local return another
// Target. All other methods act on the sockets that belong to it when they are called.
//
//	h.To("room-1", "room-2").Except(s.ID()).Volatile().Emit("cursor", x, y)
//
// All methods may be called from any goroutine, also inside handlers.
type Target struct {
	ns       *Namespace
	only     *Socket  // this socket alone
	sender   *Socket  // left out
	scoped   bool     // only members of rooms, even if there are none
	rooms    []string // a set
	except   []string // likewise
	volatile bool
	local    bool
	compress compressRule
}

// To returns the target of the sockets that are in any of the rooms. A socket's id is a room for it
// alone. No rooms means nobody.
func (n *Namespace) To(rooms ...string) Target { return Target{ns: n}.To(rooms...) }

// Except returns the target of everyone but the members of the rooms.
func (n *Namespace) Except(rooms ...string) Target { return Target{ns: n}.Except(rooms...) }

// Volatile returns the target of everyone, for events that may be lost; see Target.Volatile.
func (n *Namespace) Volatile() Target { return Target{ns: n}.Volatile() }

// Compress returns the target of everyone, with or without compression; see Target.Compress.
func (n *Namespace) Compress(compress bool) Target { return Target{ns: n}.Compress(compress) }

// Local returns the target of everyone on this node; see Target.Local.
func (n *Namespace) Local() Target { return Target{ns: n}.Local() }

// Emit sends an event to everyone; see Target.Emit.
func (n *Namespace) Emit(event string, args ...any) error { return Target{ns: n}.Emit(event, args...) }

// Call asks everyone and waits for the answers; see Target.Call.
func (n *Namespace) Call(ctx context.Context, event string, args ...any) ([]Reply, error) {
	return Target{ns: n}.Call(ctx, event, args...)
}

// Sockets describes everyone; see Target.Sockets.
func (n *Namespace) Sockets(ctx context.Context) ([]SocketInfo, error) {
	return Target{ns: n}.Sockets(ctx)
}

// Count returns how many sockets are connected; see Target.Count.
func (n *Namespace) Count(ctx context.Context) (int, error) { return Target{ns: n}.Count(ctx) }

// LocalSockets returns the sockets of the namespace that are connected to this node at the moment,
// in no particular order; see Target.LocalSockets.
func (n *Namespace) LocalSockets() []*Socket { return Target{ns: n}.LocalSockets() }

// To adds the members of the rooms; each socket is reached once, however many of the rooms it is
// in. The first To narrows a target from everyone to the members of its rooms: To without rooms is
// a target of nobody, so that s.To(s.Rooms()...) is right for a socket in no room, too. A socket's
// id is a room for it alone.
func (t Target) To(rooms ...string) Target { return t.to(withoutUsers(rooms)) }

func (t Target) to(rooms []string) Target {
	if t.only != nil {
		t.only, t.sender = nil, t.only // s.Volatile().To("room") is s.To("room").Volatile()
	}
	t.scoped = true
	t.rooms = union(t.rooms, rooms)
	return t
}

// Except leaves out the members of the rooms, and sockets by their ids.
func (t Target) Except(rooms ...string) Target {
	t.except = union(t.except, withoutUsers(rooms))
	return t
}

// Volatile makes Emit drop the event for a socket whose network does not take more at the moment,
// instead of queueing it: right for what the next event will replace, such as positions and "is
// typing".
func (t Target) Volatile() Target {
	t.volatile = true
	return t
}

// compressRule says which messages are compressed.
type compressRule uint8

const (
	compressLarge compressRule = iota // those of Compression.Threshold bytes and more
	compressAll
	compressNone
)

// Compress says whether to compress the events, for clients with whom compression was agreed on
// (Options.Compression): true whatever their size, false not at all, which is right for events that
// hold a secret beside what somebody else has written. Without a Compress their size decides
// (Compression.Threshold). Of Socket.IO clients that poll, HTTP responses of 1 KiB and more are
// gzipped if the client takes that, but for those that have an event of Compress(false) in them.
func (t Target) Compress(compress bool) Target {
	t.compress = compressNone
	if compress {
		t.compress = compressAll
	}
	return t
}

// Local keeps to the sockets of this node. Without a Bus these are all.
func (t Target) Local() Target {
	t.local = true
	return t
}

// Emit sends an event. It is encoded once, queued for each socket, and Emit returns: it waits for
// no network, and what one goroutine emits to one socket arrives in that order. A socket that has
// left a room is not reached through it.
//
// An error is the caller's mistake, whoever the receivers are: an argument that cannot be encoded
// as JSON, more Binary values than Limits.Attachments, or an event name that is reserved
// (ErrReserved), empty or longer than 256 bytes. Then nothing is sent.
func (t Target) Emit(event string, args ...any) error {
	m, err := newMessage(t.ns.name, event, args, t.ns.hub.options.Limits.Attachments)
	if err != nil {
		return err
	}
	m.volatile = t.volatile
	t.ns.emitted(m)
	m.mark = t.ns.hub.newMark()
	t.emit(m)
	t.emitElsewhere(m)
	m.release()
	return nil
}

// emitted calls the functions of OnEmit.
func (n *Namespace) emitted(m *message) {
	listeners := n.registry.current.Load().onEmit
	if len(listeners) == 0 {
		return
	}
	args := m.args.values()
	for _, f := range listeners {
		guard(func() { f(m.name, args) }, func(what ...any) {
			n.hub.sessions.counters.panics.Add(1)
			n.hub.log.error("atrium: OnEmit panicked", append(what, clientText("event", m.name))...)
		})
	}
}

// emit sends a message to the sockets of this node.
func (t Target) emit(m *message) {
	d := acquireDelivery(t.ns.hub)
	if t.ns.recovery == nil {
		t.deliver(m, d)
	} else {
		t.deliverRecoverably(m, d)
	}
	d.finish(t.ns.hub)
}

// deliver queues the message for everyone in the target.
func (t Target) deliver(m *message, d *delivery) {
	t.deflate(m)
	t.each(func(s *Socket) { d.push(s, m) })
}

// deflate compresses the message for the clients that it may be for. It takes a while, so that it
// is done before a lock of a room or namespace is taken, though with recovery under that one's; a
// client whose compression comes up later gets the message as it is. A client that polls is left to
// writePayload, which has to know what is not to be compressed.
func (t Target) deflate(m *message) {
	m.bare = t.compress == compressNone
	shared := &t.ns.hub.sessions
	if shared.compression.wanted == 0 || m.bare {
		return
	}
	if s := t.single(); s != nil {
		t.deflateForm(m.form(s.session.protocol), s.session.transport().agreed())
		return
	}
	for wire, z := range shared.agreements {
		t.deflateForm(m.form(wire), z)
	}
}

func (t Target) deflateForm(f *wireForm, z compression) {
	if t.compress == compressAll || len(f.payload) >= int(z.threshold) {
		f.deflate(z)
	}
}

// single returns the socket if the target is one socket, or has its id as its only room, and nil
// otherwise.
func (t Target) single() *Socket {
	if t.only == nil && len(t.rooms) == 1 {
		return t.ns.socket(t.rooms[0])
	}
	return t.only
}

// delivery keeps what a broadcast owes the sockets that it has queued something for, until the
// rooms' locks are free again.
type delivery struct {
	wake []waker
	slow []*session
	taps *tapTable

	queued, dropped uint64 // events
	shard           uint32 // of a hub's counters
}

// deliveries are pooled, and so mostly used on one processor: each counts in the same shard always.
var deliveries = sync.Pool{New: func() any { return &delivery{shard: deliveryShards.Add(1)} }}

var deliveryShards atomic.Uint32

func acquireDelivery(h *Hub) *delivery {
	d := deliveries.Get().(*delivery)
	d.taps = h.sessions.taps.current.Load()
	return d
}

func (d *delivery) push(s *Socket, m *message) {
	if m.above != 0 && s.kept != nil && s.kept.start < m.above {
		return
	}
	v, wake := s.push(m.form(s.session.protocol), m.volatile)
	if m.number != 0 && s.kept != nil {
		s.kept.sent = m.number
	}
	if d.taps != nil {
		kind := tappedEvent
		if m.volatile {
			kind = tappedVolatile
		}
		d.taps.record(s.id, kind, true, m.eventData)
	}
	if wake {
		d.wake = append(d.wake, s.session.transport())
	}
	switch v {
	case pushQueued, pushOverLimit:
		d.queued++
	case pushDropped:
		d.dropped++
	case pushTooSlow:
		d.slow = append(d.slow, s.session)
	}
}

// flushedHere is how many sockets an emitter writes to itself; more are left to the flusher.
const flushedHere = 16

// finish wakes those that have something queued, ends the sessions of slow ones, counts an emit and
// its deliveries, and releases d.
func (d *delivery) finish(h *Hub) {
	count := h.sessions.counters.shard(d.shard)
	count.emits.Add(1)
	count.deliveries.Add(d.queued)
	if d.dropped > 0 {
		count.dropped.Add(d.dropped)
	}
	if len(d.wake) > flushedHere {
		h.sessions.flusher.add(d.wake...)
	} else {
		for _, o := range d.wake {
			o.wake()
		}
	}
	for _, s := range d.slow {
		s.endSlow()
	}
	clear(d.wake)
	clear(d.slow)
	d.wake, d.slow, d.queued, d.dropped = d.wake[:0], d.slow[:0], 0, 0
	deliveries.Put(d)
}

// each calls visit once for each socket of the target, under the read lock of a room: visit must be
// quick; see room.each.
func (t Target) each(visit func(*Socket)) {
	var out map[*Socket]struct{} // those that are left out, or were visited already
	if len(t.except) > 0 || len(t.rooms) > 1 {
		out = make(map[*Socket]struct{}, len(t.rooms))
	}
	for _, name := range t.except {
		t.ns.members(name, func(s *Socket) { out[s] = struct{}{} })
	}
	if t.sender != nil {
		t.sender = t.ns.current(t.sender)
	}
	once := func(s *Socket) {
		if _, isOut := out[s]; isOut || s == t.sender {
			return
		}
		if len(t.rooms) > 1 {
			out[s] = struct{}{}
		}
		visit(s)
	}
	switch {
	case t.only != nil:
		// Its id is its alone, also if its client has come back meanwhile.
		if s := t.ns.socket(t.only.id); s != nil {
			once(s)
		}
	case !t.scoped:
		t.ns.everyone.each(once)
	}
	for _, name := range t.rooms {
		t.ns.members(name, once)
	}
}

// members visits the socket with that id, or the members of the room with that name. No room has an
// id for its name.
func (n *Namespace) members(name string, visit func(*Socket)) {
	if _, isID := nodeOfID(name); !isID {
		if r := n.room(name); r != nil {
			r.each(visit)
		}
	} else if s := n.socket(name); s != nil {
		visit(s)
	}
}

// Join puts the sockets into the rooms, those of clients that are away (Options.Recovery), too. It
// waits for the other nodes until ctx ends, or for a second if ctx has no deadline; if ctx has
// ended already, nothing happens. Its error names the sockets that could not join, and why (see
// Socket.Join), and matches a *ClusterError if nodes have not answered.
func (t Target) Join(ctx context.Context, rooms ...string) error {
	names, err := newRoomNames(rooms)
	if err != nil {
		return err
	}
	m := t.message(clusterJoin)
	m.names = setOf(rooms)
	return t.everywhere(ctx, &m, func(ctx context.Context) error {
		var failed []error
		for _, who := range t.members() {
			if err := who.join(names); err != nil {
				failed = append(failed, fmt.Errorf("socket %s: %w", who.id(), err))
			}
		}
		t.ns.await(ctx, names.rooms)
		return errors.Join(failed...)
	})
}

// Leave takes the sockets out of the rooms, those of clients that are away, too. It waits as Join
// does. Its error is ctx's, or a *ClusterError if nodes have not answered.
func (t Target) Leave(ctx context.Context, rooms ...string) error {
	m := t.message(clusterLeave)
	m.names = setOf(withoutUsers(rooms))
	return t.everywhere(ctx, &m, func(context.Context) error {
		for _, who := range t.members() {
			who.leave(m.names)
		}
		return nil
	})
}

// Disconnect disconnects the sockets, and keeps clients that are away from coming back; see
// Socket.Disconnect. It waits for the other nodes as Join does. Its error is ctx's, or a
// *ClusterError if nodes have not answered.
func (t Target) Disconnect(ctx context.Context) error { return t.disconnect(ctx, closeStatus{}) }

// DisconnectWith disconnects the sockets with a status code and a reason; see
// Socket.DisconnectWith, and Disconnect for what else its error may be.
func (t Target) DisconnectWith(ctx context.Context, code StatusCode, reason string) error {
	status, err := newCloseStatus(code, reason)
	if err != nil {
		return err
	}
	return t.disconnect(ctx, status)
}

func (t Target) disconnect(ctx context.Context, status closeStatus) error {
	m := t.message(clusterDisconnect)
	if status.Code != 0 {
		m.args = args{json: status.appendJSON(nil), n: 1}
	}
	return t.everywhere(ctx, &m, func(context.Context) error {
		for _, who := range t.members() {
			who.disconnect(status)
		}
		return nil
	})
}

// LocalSockets returns the sockets that are connected to this node at the moment, in no particular
// order. Those of other nodes are known by Sockets.
func (t Target) LocalSockets() []*Socket {
	var list []*Socket
	t.each(func(s *Socket) { list = append(list, s) })
	return list
}

// SocketInfo describes a socket.
type SocketInfo struct {
	ID     string                     `json:"id"`
	User   string                     `json:"user,omitempty"`   // see Socket.SetUser
	Rooms  []string                   `json:"rooms"`            // by name
	Values map[string]json.RawMessage `json:"values,omitempty"` // what SetPublic has set, as JSON
}

// Sockets describes the sockets. It waits until ctx ends, or for Timeouts.Call if ctx has no
// deadline. Its error is ctx's, or a *ClusterError beside those that are known.
func (t Target) Sockets(ctx context.Context) ([]SocketInfo, error) {
	return gather(ctx, t, clusterSockets, t.sockets)
}

func (t Target) sockets() []SocketInfo {
	list := t.LocalSockets()
	infos := make([]SocketInfo, len(list))
	for i, s := range list {
		infos[i] = SocketInfo{ID: s.id, User: s.User(), Rooms: s.Rooms(), Values: s.publicValues()}
	}
	return infos
}

// Count returns how many sockets there are. It waits as Sockets does, and its error means that some
// were not counted.
func (t Target) Count(ctx context.Context) (int, error) {
	counts, err := gather(ctx, t, clusterCount, t.count)
	n := 0
	for _, c := range counts {
		n += c
	}
	return n, err
}

func (t Target) count() []int {
	n := 0
	t.each(func(*Socket) { n++ })
	return []int{n}
}
