package fleet

import (
	"fmt"
	"slices"
	"sync"
)

// An Account is what one client has been told, and checks it against what was emitted. Its errors
// are those of the server: an event that was lost, or came twice, out of order, or to one who has
// left.
//
// An event has an emitter, which is the server that has emitted it, a room, and a number: those of
// an emitter to a room are 1, 2 and so on. So a member of the room must see an unbroken row, from
// the first after it has joined to the last before it leaves, over all connections that continue
// its socket. Of events between the begin of a join or leave and its acknowledgement, any may come.
//
// With a Bus a row may have gaps if its emitter is another server, because a Bus may lose events:
// those are counted. The successor of a server has kept what the Bus has lost on the way to that
// one, and replays it behind later events: those are counted, too.
type Account struct {
	events events
	bus    bool

	mu      sync.Mutex // guards:
	socket  string     // its id; "" before the first connection
	emitter int        // the server that the client is connected to, or was last; 0: none
	visits  map[int]*visit
	missed  int // events of other servers
	late    int // of those the ones that came behind later ones
	told    int
}

// events is the part of a Ledger that an Account needs.
type events interface {
	begun(emitter, room int) uint64
	done(emitter, room int) uint64
}

// visit is a client's stay in a room, from the begin of its join to the end of its leave.
type visit struct {
	before  int      // the server when the join began; 0: none
	early   uint64   // its events up to this one were emitted before the join
	joined  bool     // the join is acknowledged
	home    int      // the server then
	known   []uint64 // by emitter: events after this one were emitted after the join
	leaving int      // the number of its leave; 0: none has begun
	wanted  []uint64 // by emitter: events up to this one were emitted before the leave; nil until then
	rows    []row
}

// row is the events of one emitter that have come in a visit.
type row struct {
	emitter int
	last    uint64
	gaps    bool   // are allowed before the next event
	missing []span // what has not come from another server
}

// span is the numbers from the first to the last.
type span struct{ first, last uint64 }

// fill reports whether a number is missing, and takes it from there.
func (r *row) fill(number uint64) bool {
	for i, s := range r.missing {
		if s.first <= number && number <= s.last {
			r.missing = slices.Replace(r.missing, i, i+1, span{s.first, number - 1}, span{number + 1, s.last})
			return true
		}
	}
	return false
}

func newAccount(e events, bus bool) *Account {
	return &Account{events: e, bus: bus, visits: make(map[int]*visit)}
}

// Hello notes a connection: the server, and the id of the client's socket. Another id than before
// is another socket, which is in no room; anew reports whether there was one before.
func (a *Account) Hello(emitter int, socket string) (anew bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if socket != a.socket {
		anew, a.socket = a.socket != "", socket
		for room, v := range a.visits {
			if v.joined {
				delete(a.visits, room)
			} else {
				v.rows, v.before = nil, 0 // of the socket before
			}
		}
	} else if last := a.emitter; last != emitter {
		// The server before has emitted its last event before it let the client go on here.
		for room, v := range a.visits {
			if err := a.complete(room, v, last); err != nil {
				return false, err
			}
			if r := v.row(emitter); r != nil {
				r.gaps = a.bus // as long as it was another server
			}
		}
	}
	a.emitter = emitter
	return anew, nil
}

// strict reports whether the first events of an emitter in a visit cannot be lost.
func (a *Account) strict(v *visit, emitter int) bool { return !a.bus || v.home == emitter }

// complete checks that all events of a server that the client was connected to, to a room that it
// stays in, have come.
func (a *Account) complete(room int, v *visit, emitter int) error {
	if !v.joined {
		return nil
	}
	end := a.events.done(emitter, room)
	if v.wanted != nil {
		end = at(v.wanted, emitter)
	}
	if r := v.row(emitter); r != nil && r.last < end {
		return fmt.Errorf("lost: events %d to %d of server %d to room %d", r.last+1, end, emitter, room)
	} else if r == nil && end > at(v.known, emitter) && a.strict(v, emitter) {
		return fmt.Errorf("lost: events %d to %d of server %d to room %d, all since the client joined", at(v.known, emitter)+1, end, emitter, room)
	}
	return nil
}

// server returns the emitter that the client is, or was last, connected to; 0 before the first.
func (a *Account) server() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.emitter
}

// Join notes that the client is about to join a room, perhaps not for the first time.
func (a *Account) Join(room int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.visits[room] == nil {
		v := &visit{before: a.emitter}
		if v.before != 0 {
			v.early = a.events.done(v.before, room)
		}
		a.visits[room] = v
	}
}

// Joined notes that a socket has joined a room. It reports false if that is not the client's any
// more, or not yet: then it is to join again.
func (a *Account) Joined(room int, socket string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	v := a.visits[room]
	if v == nil || socket != a.socket {
		return false
	}
	if !v.joined {
		v.joined, v.home, v.known = true, a.emitter, snapshot(a.events.begun, room)
	}
	return true
}

// Leave notes that the client is about to leave a room.
func (a *Account) Leave(room, number int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.visits[room]; v != nil {
		v.leaving, v.wanted = number, snapshot(a.events.done, room)
	}
}

// Left notes that the server has said that it has carried out that leave.
func (a *Account) Left(number int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for room, v := range a.visits {
		if v.leaving != number {
			continue
		}
		delete(a.visits, room)
		return a.complete(room, v, a.emitter)
	}
	return nil
}

// Told notes an event.
func (a *Account) Told(emitter int, number uint64, room int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told++
	v := a.visits[room]
	if v == nil {
		return fmt.Errorf("late: event %d of server %d to room %d came after an acknowledged leave, or without a join", number, emitter, room)
	}
	if emitter == v.before && number <= v.early {
		return fmt.Errorf("doubled: event %d of server %d to room %d was emitted before the client joined", number, emitter, room)
	}
	r := v.row(emitter)
	if r == nil {
		v.rows = append(v.rows, row{emitter: emitter, last: number, missing: []span{{1, number - 1}}})
		if v.joined && number > at(v.known, emitter)+1 && a.strict(v, emitter) {
			return fmt.Errorf("lost or out of order: event %d of server %d to room %d came first, and since the client joined there were some from %d", number, emitter, room, at(v.known, emitter)+1)
		}
		return nil
	}
	if a.bus && emitter != a.emitter && number < r.last && r.fill(number) {
		// A successor replays what did not come to its predecessor by the Bus.
		a.late++
		return nil
	}
	defer func() { r.last, r.gaps = number, false }()
	switch {
	case number == r.last:
		return fmt.Errorf("doubled: event %d of server %d to room %d came twice", number, emitter, room)
	case number < r.last:
		return fmt.Errorf("doubled or out of order: event %d of server %d to room %d came after %d", number, emitter, room, r.last)
	case number > r.last+1 && !r.gaps && (!a.bus || emitter == a.emitter):
		return fmt.Errorf("lost or out of order: event %d of server %d to room %d came after %d", number, emitter, room, r.last)
	}
	if number > r.last+1 {
		a.missed += int(number - r.last - 1)
		r.missing = append(r.missing, span{r.last + 1, number - 1})
	}
	return nil
}

// Complete checks that everything has come that the client must get. It is called when nobody emits
// or joins any more.
func (a *Account) Complete() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for room, v := range a.visits {
		if v.leaving != 0 {
			return fmt.Errorf("lost: what the server says when the client has left room %d", room)
		}
		if err := a.complete(room, v, a.emitter); err != nil {
			return err
		}
	}
	return nil
}

// rooms returns the rooms that the client is in, or may be in.
func (a *Account) rooms() (in []int, all int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for room, v := range a.visits {
		if v.joined && v.leaving == 0 {
			in = append(in, room)
		}
	}
	return in, len(a.visits)
}

// isIn reports whether the client is in a room, or joins or leaves it.
func (a *Account) isIn(room int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.visits[room] != nil
}

func (v *visit) row(emitter int) *row {
	for i := range v.rows {
		if v.rows[i].emitter == emitter {
			return &v.rows[i]
		}
	}
	return nil
}

// snapshot returns a number of each emitter for a room.
func snapshot(number func(emitter, room int) uint64, room int) []uint64 {
	list := make([]uint64, 0, 8)
	for emitter := range MaxEmitters {
		n := number(emitter, room)
		if n == 0 && emitter > 8 && at(list, emitter-1) == 0 && at(list, emitter-2) == 0 && at(list, emitter-3) == 0 {
			break // servers are numbered as they start
		}
		list = append(list, n)
	}
	return list
}

func at(list []uint64, emitter int) uint64 {
	if emitter >= len(list) {
		return 0
	}
	return list[emitter]
}
