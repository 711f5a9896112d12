package atrium

import (
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"
)

const (
	maxRoomName = 256 // in bytes
	// fewMembers are found as fast without an index, which is half of the memory of a room of two.
	fewMembers = 8
)

// room is a set of sockets. It exists while it has members: the last one to leave closes it under
// the lock under which others join, so that no socket joins a room that is about to be removed.
type room struct {
	name string

	// A broadcast queues under the read lock, so that nothing is queued for a socket whose leave
	// has returned. mu guards:
	mu      sync.RWMutex
	members []*Socket
	index   map[*Socket]int // into members; nil while they have always been few
	closed  bool            // it had members, and has none any more

	// topics is nil without a Bus. While the room has members, it is subscribed to topic, for what
	// other nodes emit.
	topics *topics
	topic  string
}

// membership is a room in a socket's list.
type membership struct {
	stay
	room *room // nil before the socket has entered the namespace, and when it has left
}

// newRoom makes a room of the namespace; without a name, the one that all its sockets are in.
func newRoom(n *Namespace, name string) *room {
	r := &room{name: name}
	if c := n.hub.cluster; c != nil {
		r.topics, r.topic = &c.topics, roomTopic(n.name, name)
	}
	return r
}

// add makes s a member. It reports false if the room is closed, and a new one must take its place.
func (r *room) add(s *Socket) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.find(s) >= 0 {
		return true
	}
	if len(r.members) == fewMembers && r.index == nil {
		r.index = make(map[*Socket]int, 2*fewMembers)
		for i, member := range r.members {
			r.index[member] = i
		}
	}
	if r.index != nil {
		r.index[s] = len(r.members)
	}
	r.members = append(r.members, s)
	if len(r.members) == 1 && r.topics != nil {
		r.topics.acquire(r.topic)
	}
	return true
}

// find returns where s is in members, a negative number if it is no member. r.mu is held.
func (r *room) find(s *Socket) int {
	if r.index == nil {
		return slices.Index(r.members, s)
	}
	if i, in := r.index[s]; in {
		return i
	}
	return -1
}

// remove takes s out. If it was the last member, emptied runs, still under the lock, and the room
// is closed.
func (r *room) remove(s *Socket, emptied func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.find(s)
	if i < 0 {
		return
	}
	last := len(r.members) - 1
	moved := r.members[last]
	r.members[i] = moved
	if r.index != nil {
		r.index[moved] = i
		delete(r.index, s)
	}
	r.members[last] = nil
	r.members = r.members[:last]
	if last == 0 && r.topics != nil {
		r.topics.release(r.topic)
	}
	if last == 0 && emptied != nil {
		r.closed = true
		emptied()
	}
	if cap(r.members) > 64 && last < cap(r.members)/4 {
		r.members = append(make([]*Socket, 0, 2*last), r.members...)
	}
}

// each calls visit for every member under the read lock: visit must be quick and take no lock but
// the last ones (outbox, pending calls, wheel).
func (r *room) each(visit func(*Socket)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.members {
		visit(s)
	}
}

// list returns the members.
func (r *room) list() []*Socket {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.members)
}

func (r *room) count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.members)
}

// roomNames are the checked names of a Join.
type roomNames struct {
	rooms []string // a set
	ids   []string // socket ids, of which only the joining socket's own is allowed
}

// newRoomNames checks the names.
func newRoomNames(names []string) (n roomNames, err error) {
	n.rooms = setOf(names)
	for _, name := range n.rooms {
		if err := checkRoomName(name); err != nil {
			return n, err
		}
		if _, isID := nodeOfID(name); isID {
			n.ids = append(n.ids, name)
		}
	}
	if len(n.ids) > 0 {
		n.rooms = slices.DeleteFunc(slices.Clone(n.rooms), func(name string) bool { return inSet(n.ids, name) })
	}
	return n, nil
}

// fit checks the names for the socket with that id. Sockets may be in at most that many rooms.
func (n roomNames) fit(id string, most int) error {
	if len(n.rooms) > most {
		return tooManyRooms(most, len(n.rooms))
	}
	for _, name := range n.ids {
		if name != id {
			return roomNameError("room: %q is the id of another socket", name)
		}
	}
	return nil
}

// roomsToJoin returns those of the set that are to be added to a list of rooms: all that are not in
// it or, with an error, none. The room of the socket's user does not count.
func roomsToJoin[E keyed](list []E, rooms []string, most int) ([]string, error) {
	added := notNamed(list, rooms)
	n := len(list) + len(added)
	if userAmong(list) != "" {
		n--
	}
	if n > most {
		return nil, tooManyRooms(most, n)
	}
	return added, nil
}

// checkRoomName checks the name of a room to join.
func checkRoomName(name string) error {
	switch {
	case name == "":
		return roomNameError("room: expected a name, got an empty one")
	case len(name) > maxRoomName:
		return roomNameError("room: expected a name of at most %d bytes, got %d", maxRoomName, len(name))
	case !utf8.ValidString(name):
		return roomNameError("room: expected a name in UTF-8, got %q", name)
	}
	return nil
}

// roomNameError may be shown to a client and matches ErrRoomName.
func roomNameError(format string, args ...any) error {
	return &Error{Message: fmt.Sprintf(format, args...), Err: ErrRoomName}
}

// tooManyRooms is shown to clients, too, and matches ErrTooManyRooms.
func tooManyRooms(most, number int) error {
	message := fmt.Sprintf("room: expected at most %d rooms, this would be number %d", most, number)
	return &Error{Message: message, Err: ErrTooManyRooms}
}
