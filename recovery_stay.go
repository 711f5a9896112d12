package atrium

import "slices"

// The rooms that a client is in while it is away, and those that it was in when an event was
// emitted.

// stay is a room that a socket is in.
type stay struct {
	name  string
	since uint64 // the number of the last event before the socket joined; 0 if it was in from the start

	present *presenceEntry // what Present has said; nil if the socket is absent
}

func (s stay) key() string { return s.name }

// lapsed is a stay that is over.
type lapsed struct {
	stay
	until uint64 // the number of the last event before the socket left
}

// stays are the rooms that a client is and was in.
type stays struct {
	rooms  []stay   // while the client is away; else its socket has them
	lapsed []lapsed // rooms that the client has left, in the order of its leaving
	known  uint64   // the rooms that the client was in are known for the events after this one
}

// maxLapsed bounds the rooms that a client has left and that are kept. A client that has left more,
// and missed an event from before, begins anew.
const maxLapsed = 256

// recipients are a Target by its names.
type recipients struct {
	only, sender  string // ids
	scoped        bool
	rooms, except []string // sets
}

// include reports whether the event with that number was for the client. The caller holds the
// recovery's lock, here and below.
func (to *recipients) include(k *kept, number uint64) bool {
	if to.sender == k.id || k.inAny(to.except, number) {
		return false
	}
	switch {
	case to.only != "":
		return to.only == k.id
	case to.scoped:
		return k.inAny(to.rooms, number)
	}
	return true
}

// ids returns the socket ids that the recipients are among. It reports false if every client may be
// one.
func (to *recipients) ids() ([]string, bool) {
	isRoom := func(name string) bool { _, isID := nodeOfID(name); return !isID }
	switch {
	case to.only != "":
		return []string{to.only}, true
	case !to.scoped || slices.ContainsFunc(to.rooms, isRoom):
		return nil, false
	}
	return to.rooms, true
}

// inAny reports whether a name of the set is the socket's id, or a room that it was in when the
// event with that number was emitted.
func (k *kept) inAny(names []string, number uint64) bool {
	switch {
	case len(names) == 0:
		return false
	case inSet(names, k.id), slices.ContainsFunc(k.lapsed, func(l lapsed) bool {
		return l.since < number && number <= l.until && inSet(names, l.name)
	}):
		return true
	case len(names) > len(k.rooms):
		return slices.ContainsFunc(k.rooms, func(s stay) bool { return s.since < number && inSet(names, s.name) })
	}
	return slices.ContainsFunc(names, func(name string) bool {
		at, in := findNamed(k.rooms, name)
		return in && k.rooms[at].since < number
	})
}

func (k *kept) size() int {
	n := keptOverhead
	for _, room := range k.rooms {
		n += len(room.name) + roomOverhead
		if room.present != nil {
			n += room.present.size()
		}
	}
	for _, room := range k.lapsed {
		n += len(room.name) + roomOverhead
	}
	return n
}

// eachAway calls visit for each client that is away and belongs to the recipients now.
func (r *recovery) eachAway(to recipients, visit func(*kept)) {
	now := r.last() + 1
	if ids, ok := to.ids(); ok {
		for _, id := range ids {
			if k := r.away[id]; k != nil && to.include(k, now) {
				visit(k)
			}
		}
		return
	}
	for _, k := range r.away {
		if to.include(k, now) {
			visit(k)
		}
	}
}

// joinAway puts a client that is away into rooms that it is not in.
func (r *recovery) joinAway(k *kept, rooms []string) {
	more := make([]stay, len(rooms))
	for i, name := range rooms {
		more[i] = stay{name: name, since: r.last()}
	}
	r.resize(k, func() { k.rooms = insertNamed(k.rooms, more) })
}

// leaveAway takes a client that is away out of the rooms.
func (r *recovery) leaveAway(k *kept, rooms []string) {
	r.resize(k, func() { k.rooms = deleteNamed(k.rooms, rooms, func(room stay) { r.lapse(k, room) }) })
}

// resize makes a change to a client that is away and accounts for its size.
func (r *recovery) resize(k *kept, change func()) {
	before := k.size()
	change()
	if k.parked != nil {
		r.charge(k.size() - before)
		r.shrink()
	}
}

// lapse keeps that the client was in a room that it leaves: the events of that time are still for
// it.
func (r *recovery) lapse(k *kept, room stay) {
	now := r.last()
	if room.since == now {
		return // nothing was
	}
	past := slices.IndexFunc(k.lapsed, func(l lapsed) bool { return l.until > r.dropped })
	switch {
	case past < 0:
		past = len(k.lapsed)
	case past == 0 && len(k.lapsed) == maxLapsed:
		past, k.known = 1, k.lapsed[0].until
	}
	room.present = nil
	k.lapsed = append(slices.Delete(k.lapsed, 0, past), lapsed{room, now})
}
