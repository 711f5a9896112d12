package atrium

import (
	"sync"
	"sync/atomic"
	"time"
)

// presences are those of a namespace.
type presences struct {
	used   atomic.Bool              // the application, or that of another node, uses presence here
	byRoom map[string]*presenceRoom // guarded by Namespace.mu
	asks   presenceAsks
}

// presenceRoom is the presence of one room, on a node that has members of it. It exists while
// somebody is there or was a moment ago.
//
// Every Interval in which something has changed, flush tells the members: those who have come get
// all, the others the change. As flush alone tells them, each gets the versions in their order.
type presenceRoom struct {
	ns     *Namespace
	name   string
	hidden func(joined, left []Present) // gets what OnPresence would; set if the room has no members to tell

	// mu may be held while a room's lock is taken, never the other way round. It guards:
	mu      sync.Mutex
	state   presenceState
	version uint64 // of what the members were told last; 0: nothing yet
	fresh   presenceFresh
	counted bool        // there are too many sockets: members are told how many
	toldN   int         // how many they were told
	timer   *time.Timer // of flush
	due     int64       // nanotime at which flush is to run; 0: it is not
	flushes bool        // flush runs
	presenceReports
	shared presenceShared
	held   presenceHold
	closed bool // it is not among the namespace's any more
}

// find returns the presence of a room; nil if there is none.
func (ps *presences) find(n *Namespace, room string) *presenceRoom {
	if !ps.used.Load() {
		return nil
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	return ps.byRoom[room]
}

// open returns the presence of a room, which it makes if there is none. The caller holds the
// namespace, and the presence does until it is closed: who comes back within the grace finds both.
func (ps *presences) open(n *Namespace, room string, hidden func(joined, left []Present)) *presenceRoom {
	ps.used.Store(true)
	if p := ps.find(n, room); p != nil {
		return p
	}
	p := &presenceRoom{ns: n, name: room, hidden: hidden, state: newPresenceState(), fresh: newPresenceFresh()}
	p.mu.Lock()
	defer p.mu.Unlock()
	n.mu.Lock()
	if existing := ps.byRoom[room]; existing != nil {
		n.mu.Unlock()
		return existing
	}
	if ps.byRoom == nil {
		ps.byRoom = make(map[string]*presenceRoom)
	}
	ps.byRoom[room] = p
	n.mu.Unlock()
	n.hub.retain(n.name)
	p.share()
	p.wake(after(p.options().Interval)) // it is to end, also if nobody comes
	return p
}

// lock is open that returns the presence locked.
func (ps *presences) lock(n *Namespace, room string, hidden func(joined, left []Present)) *presenceRoom {
	for {
		p := ps.open(n, room, hidden)
		p.mu.Lock()
		if !p.closed {
			return p
		}
		p.mu.Unlock()
	}
}

// present enters a socket of this node into the room's presence.
func (n *Namespace) present(socket, room string, e *presenceEntry) {
	p := n.presences.lock(n, room, nil)
	defer p.mu.Unlock()
	p.set(socket, e)
}

// set enters a socket of this node. p.mu is held, here and in all methods below that do not say
// otherwise.
func (p *presenceRoom) set(socket string, e *presenceEntry) {
	p.takeHeld(socket, e.key)
	p.state.set(p.ns.hub.node, socket, e)
	p.shared.note(socket)
	p.wake(after(p.options().Interval))
}

// unset notes that a socket of this node has gone.
func (p *presenceRoom) unset(socket string) {
	if p.state.nodes[p.ns.hub.node][socket] == nil {
		return
	}
	delete(p.held.sockets, socket)
	p.state.unset(p.ns.hub.node, socket, p.until())
	p.shared.note(socket)
	p.wake(after(p.options().Interval))
}

func (p *presenceRoom) options() *PresenceOptions { return &p.ns.hub.options.Presence }

// absent undoes present.
func (n *Namespace) absent(socket, room string) {
	if p := n.presences.find(n, room); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unset(socket)
	}
}

// expect has a socket that joins a room be told who is there. It returns whether the room has a
// presence.
func (n *Namespace) expect(s *Socket, room string) bool {
	p := n.presences.find(n, room)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.fresh.entered[s] = struct{}{}
	p.settle()
	p.wake(after(p.options().Interval))
	return true
}

// forsake undoes expect, and present, for a socket that has left the room, unless its place is
// handed over.
func (n *Namespace) forsake(s *Socket, room string, handedOver bool) {
	p := n.presences.find(n, room)
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh.remove(s)
	if !handedOver {
		p.unset(s.id)
	}
	if n.room(room) == nil {
		p.wake(after(p.options().Interval))
	}
}

// wake has flush run at the nanotime at, or earlier.
func (p *presenceRoom) wake(at int64) {
	if p.closed || p.due != 0 && p.due <= at {
		return
	}
	p.due = at
	if !p.flushes {
		p.setTimer()
	}
}

func (p *presenceRoom) setTimer() {
	wait := time.Duration(p.due - nanotime())
	if p.timer == nil {
		p.timer = time.AfterFunc(wait, p.flush)
	} else {
		p.timer.Reset(wait)
	}
}

// flush tells the members, the other nodes and the application what has changed. It locks. What
// takes long, encoding and queueing for each member, is done without p.mu; while a flush runs there
// is no other.
func (p *presenceRoom) flush() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.due, p.flushes = 0, true
	now := nanotime()
	p.endHold(now)
	p.publish()
	p.desert(now)
	n := p.advance(now)
	p.expireIdle(now)
	p.mu.Unlock()
	p.tell(&n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flushes = false
	if p.due != 0 && !p.closed {
		p.setTimer()
	}
}

// advance notes what has changed, has the application told, and returns what the members are to be
// told.
func (p *presenceRoom) advance(now int64) presenceNotice {
	n, before := p.count(), p.counted
	p.state.expireAll(now)
	p.counted = p.shared.unlisted > 0 || p.isTooMuch(p.state.spots, p.state.spotBytes, before)
	if before && !p.counted {
		p.state.touchAll()
	}
	change, next := p.state.advance(now, p.counted)
	if next != 0 {
		p.wake(max(next, now+int64(p.options().Interval)))
	}
	p.report(&change)
	if p.hidden != nil {
		return presenceNotice{}
	}
	return p.notice(&change, n, now, before != p.counted)
}

// isTooMuch reports whether so many places, which take so many bytes, are too many for a list. If
// they were before, there must be a tenth less, so that it does not go back and forth. What no
// member is told has no bound but that of connections.
func (p *presenceRoom) isTooMuch(places, bytes int, before bool) bool {
	limits := &p.ns.hub.options.Limits
	most, mostBytes := limits.Presence, limits.QueuedBytes/2
	if before {
		most, mostBytes = most-most/10, mostBytes-mostBytes/10
	}
	return p.hidden == nil && (places > most || bytes > mostBytes)
}

// count returns how many sockets are present.
func (p *presenceRoom) count() int {
	n := p.shared.unlisted
	for _, own := range p.state.nodes {
		n += len(own)
	}
	return n
}

// settle forgets that the room had no members here.
func (p *presenceRoom) settle() {
	if p.shared.deserted {
		p.shared.deserted = false
		p.ask("")
	}
	p.shared.emptySince = 0
}

// desert forgets, a grace after the room has lost its last member here, who is there on other
// nodes: this one is not told any more.
func (p *presenceRoom) desert(now int64) {
	s := &p.shared
	switch {
	case p.hidden != nil || s.deserted:
	case p.ns.room(p.name) != nil || len(p.held.sockets) > 0 || p.ns.hub.isClosing():
		s.emptySince = 0
	case s.emptySince == 0:
		s.emptySince = now
		fallthrough
	default:
		if until := s.emptySince + int64(p.options().Grace); now < until {
			p.wake(until)
			return
		}
		s.deserted = true
		p.forgetOthers(now)
	}
}

// expireIdle removes the presence when nobody is there, and nobody was for as long as other nodes
// may ask, and no member waits for an answer.
func (p *presenceRoom) expireIdle(now int64) {
	s := &p.shared
	switch {
	case p.hidden != nil || !p.state.isEmpty() || s.unlisted > 0:
		s.idleSince = 0
		return
	case s.idleSince == 0:
		s.idleSince = now
	}
	if until := s.idleSince + int64(presenceLinger); p.ns.hub.cluster != nil && now < until {
		p.wake(until)
		return
	}
	if len(p.fresh.asked) > 0 && p.ns.room(p.name) != nil {
		p.wake(p.fresh.answerAt)
		return
	}
	p.close()
}

// close removes the presence from its namespace.
func (p *presenceRoom) close() {
	if p.closed {
		return
	}
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.ns.mu.Lock()
	delete(p.ns.presences.byRoom, p.name)
	p.ns.mu.Unlock()
	p.unshare()
	p.ns.hub.release(p.ns)
}
