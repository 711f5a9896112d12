package atrium

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// PresenceOptions are about who is in a room; see Socket.Present. In each zero means the default.
type PresenceOptions struct {
	// Interval is how long changes of a room are gathered before its members are told. Zero means
	// 100 milliseconds.
	Interval time.Duration
	// Grace is how long somebody who has gone is still there for the others. Who comes back within
	// it, by whatever socket and node, has not gone: a page may be loaded anew, and a connection
	// may break. The sockets of a node that has not been heard of for 5 seconds have none; after a
	// restart it is 5 seconds longer (Recovery.Path). Zero means 2 seconds.
	Grace time.Duration
}

const (
	maxPresenceKey  = 256     // in bytes
	maxPresenceInfo = 4 << 10 // in bytes, as JSON
	// maxPresenceInfos bounds the infos of a key that are told. Each time one of them changes, all
	// are told anew: with many guests under one key, that would be guests by guests by members.
	maxPresenceInfos = 32
	// presenceBurst is after how long a pause a socket may call Present most often at a time, in
	// seconds of Limits.PresencePerSecond.
	presenceBurst = 10
)

// Present says that the socket is in the room as key, with info: a name, an avatar, what it is
// doing, in at most 4 KB as JSON. No key means the socket's User. The socket must be in the room.
// Calling Present again replaces both. It ends with Absent, when the socket leaves the room, and
// when it is disconnected.
//
// The members of the room, on every node, are told by themselves: each gets an event named presence
// with all who are there when it enters, and then what changes. Keys are what is told apart. A user
// with two tabs is there once, with two infos, as long as one of them is there; who has gone and is
// back within PresenceOptions.Grace has not gone. See the package comment for the event, and
// client.js and Client.Presence for a list that is kept up to date.
//
// A client that comes back (Options.Recovery) is there again as it was. While it is away, Present
// says what it will be.
//
// The error is an *Error, of which nobody else notices anything: a key that is longer than 256
// bytes or not UTF-8, or none for a socket without a user; an info that cannot be encoded, is too
// large or not UTF-8; a room that the socket is not in; more changes than Limits.PresencePerSecond.
// After the disconnect Present does nothing.
func (s *Socket) Present(room, key string, info any) error {
	if key == "" {
		key = s.User()
	}
	entry, err := newPresenceEntry(key, info)
	if err != nil {
		return err
	}
	return s.member().present(room, entry)
}

// Absent ends what Present has begun: the socket is in the room, and is not told of there.
func (s *Socket) Absent(room string) { _ = s.member().present(room, nil) }

// Presence returns who is in the room, on all nodes, by key. It is answered from memory: on a node
// on which nobody is in the room, there is nobody. It is empty also if there are too many for a
// list (Limits.Presence), whom PresenceCount counts. Do not change the infos.
func (n *Namespace) Presence(room string) []Present {
	p := n.presences.find(n, room)
	if p == nil || p.hidden != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counted {
		return nil
	}
	return p.state.list(nanotime())
}

// PresenceCount returns how many sockets are present in the room, on all nodes; see Presence. Of
// those that have gone it counts none.
func (n *Namespace) PresenceCount(room string) int {
	p := n.presences.find(n, room)
	if p == nil || p.hidden != nil {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count()
}

// OnPresence adds a function that is called on each node that has members of a room when keys come
// to it and when they go, on whatever node. It is told each in turn, however many sockets there
// are: who has joined has left before they join again. Infos are what they were at that time. A
// node that loses its last member of a room is told that all have left. While the room has too many
// for a list (Limits.Presence) the function is not called; then it is told the difference.
//
// For one room it is called one at a time, in order. What happens while it runs is told together,
// by the next call. It is not called for those who go once Shutdown has begun: the hub that comes
// after tells of all who are there, those included whose places it was left (see Recovery.Path).
// The first function is told also of those who were there before it was added.
func (n *Namespace) OnPresence(f func(room string, joined, left []Present)) {
	n.registry.add("OnPresence", f == nil, func(r *functions[*Socket]) { r.onPresence = append(r.onPresence, f) })
	n.presences.used.Store(true)
	for _, p := range n.presenceRooms() {
		p.mu.Lock()
		p.wake(after(p.options().Interval))
		p.mu.Unlock()
	}
}

// newPresenceEntry checks a key and encodes an info.
func newPresenceEntry(key string, info any) (*presenceEntry, error) {
	switch {
	case key == "":
		return nil, Errorf("presence: expected a key, or a socket with a user, got neither")
	case len(key) > maxPresenceKey:
		return nil, Errorf("presence: expected a key of at most %d bytes, got %d", maxPresenceKey, len(key))
	case !utf8.ValidString(key):
		return nil, Errorf("presence: expected a key in UTF-8, got %q", key)
	}
	b, err := json.Marshal(info)
	if err != nil {
		problem := strings.TrimPrefix(err.Error(), "json: ")
		return nil, &Error{Message: "presence: expected an info that can be encoded as JSON: " + problem, Err: err}
	}
	if len(b) > maxPresenceInfo {
		return nil, Errorf("presence: expected an info of at most %d bytes as JSON, got %d", maxPresenceInfo, len(b))
	}
	if !utf8.Valid(b) { // encoding/json does not look into a json.RawMessage
		return nil, Errorf("presence: expected an info in UTF-8, got %.300q", b)
	}
	return &presenceEntry{key, b}, nil
}

// errNotInRoom is shown to the client.
func errNotInRoom(room string) error {
	return &Error{Message: fmt.Sprintf("presence: expected a room that the socket is in, got %.300q", room)}
}

// present makes the member present in the room as entry, or absent with nil.
func (m member) present(room string, entry *presenceEntry) error {
	if _, isUser := userOf(room); isUser {
		return errNotInRoom(room)
	}
	m.ns.recovery.lock()
	defer m.ns.recovery.unlock()
	s, away := m.now()
	switch {
	case s != nil:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.hasLeft() {
			return nil
		}
		i, in := findNamed(s.rooms, room)
		if !in {
			return errNotInRoom(room)
		}
		if err := s.madeValues().mayPresent(entry, m.ns.hub); err != nil {
			return err
		}
		s.rooms[i].present = entry
		if !s.isConnected() {
			return nil
		}
		m.ns.presences.used.Store(true)
		if entry == nil {
			m.ns.absent(s.id, room)
		} else {
			m.ns.present(s.id, room, entry)
		}
	case away != nil:
		i, in := findNamed(away.rooms, room)
		if !in {
			return errNotInRoom(room)
		}
		if err := away.values.mayPresent(entry, m.ns.hub); err != nil {
			return err
		}
		m.ns.recovery.resize(away, func() { away.rooms[i].present = entry })
	}
	return nil
}

// mayPresent returns an error if the socket has been present as something new too often. To be
// absent, as nil, is always allowed.
func (v *values) mayPresent(entry *presenceEntry, h *Hub) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	rate := h.options.Limits.PresencePerSecond
	if entry != nil && !v.presents.take(nanotime(), rate, presenceBurst*min(rate, 1e8)) {
		return Errorf("presence: expected at most %d changes a second of one socket", rate)
	}
	return nil
}

// askPresence answers a client that asks who is in a room: all who are, or nobody if the client is
// not in it. It reports false if the event is the application's own: it handles events of that
// name, or handles any and uses no presence.
func (n *Namespace) askPresence(s *Socket, e *Event) bool {
	if e.name != presenceEventName {
		return false
	}
	if f := n.registry.current.Load(); f.handlers[presenceEventName] != nil || len(f.any) > 0 && !n.presences.used.Load() {
		return false
	}
	var asked struct {
		Room string `json:"room"`
	}
	if err := e.Bind(&asked); err != nil {
		e.ReplyError(err)
		return true
	}
	n.tellWhole(s, asked.Room)
	e.finish()
	return true
}
