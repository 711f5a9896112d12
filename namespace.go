package atrium

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Namespace is an isolated set of sockets, rooms and handlers in a Hub. A Hub is its own main
// namespace, "/".
//
// Handlers may be registered at any time, also while clients are connected; an event that is being
// dispatched does not see a handler that is registered meanwhile. Registering nil panics. All
// methods may be called from any goroutine.
type Namespace struct {
	hub      *Hub
	name     string
	registry *registry[*Socket] // shared by the namespaces that one OfFunc stands for
	everyone *room

	// mu may be taken while a room's lock is held, never the other way round. It guards the maps,
	// and users.
	mu     sync.RWMutex
	byID   map[string]*Socket
	rooms  map[string]*room
	users  int                  // how many of the rooms are users'
	places map[string][]*Socket // of users, by id, those that came first first; empty without Limits.SocketsPerUser

	recovery  *recovery // nil: off
	presences presences
	named     atomic.Bool // by a call of Of; otherwise it is an OfFunc's
	refs      int         // the sockets, the presences, and one for Of: at zero the namespace goes; guarded by the hub's lock
}

// newNamespace makes a namespace. It shares the registered functions and the bound of Recovery with
// like, the namespace of an OfFunc, unless that is nil.
func newNamespace(h *Hub, name string, like *Namespace) *Namespace {
	n := &Namespace{hub: h, name: name, byID: make(map[string]*Socket), rooms: make(map[string]*room), places: make(map[string][]*Socket)}
	n.everyone = newRoom(n, "")
	n.recovery = newRecovery(n)
	if like == nil {
		n.registry = newRegistry[*Socket]()
		return n
	}
	n.registry = like.registry
	if n.recovery != nil {
		n.recovery.total = like.recovery.total
	}
	return n
}

// Name returns the namespace's name, which begins with "/".
func (n *Namespace) Name() string { return n.name }

// Use adds a function that is called for every client of this namespace before it is connected;
// checks for all namespaces belong in Options.Accept. The functions run in the order in which they
// were added, in the socket's own goroutine. They may look at the Handshake, Set values and Join
// rooms. The first error refuses the client, which gets the message and data of an *Error, or
// "internal error". Until all functions have returned nobody else sees the socket, and events
// emitted to it are dropped. When the client is told that it is connected, it is in the rooms that
// it joined here.
func (n *Namespace) Use(f func(*Socket) error) {
	n.registry.add("Use", f == nil, func(r *functions[*Socket]) { r.use = append(r.use, f) })
}

// OnConnect adds a function that is called for each new socket when its client has been told that
// it is connected, and before any of its events. What the function emits follows the connect
// message, often in the same read.
//
// A socket is in the rooms that it joined in Use before OnConnect runs: events that are emitted to
// them meanwhile come first. To send a client something ahead of a room's events, a chat's history
// for example, emit it in OnConnect and Join the room after that.
func (n *Namespace) OnConnect(f func(*Socket)) {
	n.registry.add("OnConnect", f == nil, func(r *functions[*Socket]) { r.onConnect = append(r.onConnect, f) })
}

// OnDisconnect adds a function that is called once for each socket that was connected, after the
// last of its events. The socket has left its rooms by then; Rooms still returns them.
func (n *Namespace) OnDisconnect(f func(*Socket, Reason)) {
	n.registry.add("OnDisconnect", f == nil, func(r *functions[*Socket]) { r.onDisconnect = append(r.onDisconnect, f) })
}

// OnExpire adds a function that is called once for each client that was connected and has gone for
// good, to free what the application keeps for it: right after OnDisconnect if the client cannot
// come back, which without Recovery and for plain clients is always so; otherwise when it is given
// up, because its time is over, MaxBytes was reached, it was disconnected while it was away, or it
// came back and had to begin anew. It is not called for clients that Shutdown has saved for the
// hub's successor (Recovery.Path), nor for those whose time ends while no hub runs.
//
// The Socket has left: its ID, Rooms and values are what they were last, and sending does nothing.
// If the client had been away, its Handshake and Context are empty. Shutdown waits for the
// functions until its context ends.
func (n *Namespace) OnExpire(f func(*Socket)) {
	n.registry.add("OnExpire", f == nil, func(r *functions[*Socket]) { r.onExpire = append(r.onExpire, f) })
}

// Handle registers the handler of an event in its raw form; On, OnCall and OnAck are the typed
// ones. The handler runs in the goroutine of its socket, which handles one event at a time, in
// order; it may block, which holds up no other socket.
//
// If the sender asked for an acknowledgement and the handler neither sent one nor called
// Event.Later, an empty one is sent when the handler returns. Handle panics if the name is
// reserved, too long, or registered already.
func (n *Namespace) Handle(event string, f func(*Event)) {
	mustFunc(f == nil, "Handle")
	n.registry.register(event, func(_ *Socket, e *Event) { f(e) })
}

// register makes a Namespace a Registrar.
func (n *Namespace) register(event string, f func(*Socket, *Event)) { n.registry.register(event, f) }

// HandleAny adds a function that is called for every event, before the event's own handler. Without
// one an event that has no handler is an error, which its sender gets.
func (n *Namespace) HandleAny(f func(*Event)) {
	n.registry.add("HandleAny", f == nil, func(r *functions[*Socket]) { r.any = append(r.any, f) })
}

// UseEvent adds a function that is called for every event before any handler. The functions run in
// the order in which they were added. If one returns an error, the sender gets it as if a handler
// had returned it, and the event is not handled.
func (n *Namespace) UseEvent(f func(*Event) error) {
	n.registry.add("UseEvent", f == nil, func(r *functions[*Socket]) { r.useEvent = append(r.useEvent, f) })
}

// OnEmit adds a function that is called for every event that is sent to sockets of this namespace
// by Emit or Call: once for each of these calls, not for each receiver, and before they return. It
// must not keep args. It may run in any goroutine. A panic of f is logged, and the event is sent.
func (n *Namespace) OnEmit(f func(event string, args []json.RawMessage)) {
	n.registry.add("OnEmit", f == nil, func(r *functions[*Socket]) { r.onEmit = append(r.onEmit, f) })
}

// Socket returns the socket with that id, if it is connected to this node at the moment: To(id)
// reaches it on every node.
func (n *Namespace) Socket(id string) (s *Socket, ok bool) {
	s = n.socket(id)
	return s, s != nil
}

// RoomInfo describes a room.
type RoomInfo struct {
	Name    string `json:"name"`
	Sockets int    `json:"sockets"` // members: of LocalRooms on this node, of Rooms on all
}

// LocalRooms lists the rooms that have members on this node, by name.
func (n *Namespace) LocalRooms() []RoomInfo {
	n.mu.RLock()
	rooms := slices.Collect(maps.Values(n.rooms))
	n.mu.RUnlock()
	list := make([]RoomInfo, 0, len(rooms))
	for _, r := range rooms {
		if _, isUser := userOf(r.name); isUser {
			continue
		}
		if members := r.count(); members > 0 {
			list = append(list, RoomInfo{r.name, members})
		}
	}
	slices.SortFunc(list, func(a, b RoomInfo) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// enter adds the socket, to which events are delivered from now on.
func (n *Namespace) enter(s *Socket) {
	n.mu.Lock()
	n.byID[s.id] = s
	n.mu.Unlock()
	n.everyone.add(s)
}

// exit undoes enter.
func (n *Namespace) exit(s *Socket) {
	n.mu.Lock()
	delete(n.byID, s.id)
	n.mu.Unlock()
	n.everyone.remove(s, nil)
}

// join makes the socket a member of the room, and makes the room if it does not exist.
func (n *Namespace) join(s *Socket, name string) *room {
	for {
		r := n.room(name)
		expected, first := n.expect(s, name), r == nil
		if first {
			r = newRoom(n, name)
			n.mu.Lock()
			if existing := n.rooms[name]; existing != nil {
				r = existing
			} else {
				n.rooms[name] = r
				n.users += userRoomCount(name)
			}
			n.mu.Unlock()
		}
		if r.add(s) {
			if !expected && !n.expect(s, name) && first { // other nodes may know of somebody
				n.askWhoIs(name)
			}
			return r
		}
	}
}

// userRoomCount is 1 for the name of a user's room, otherwise 0.
func userRoomCount(name string) int {
	if _, isUser := userOf(name); isUser {
		return 1
	}
	return 0
}

// leave undoes join. Its place in the room's presence may be handed over.
func (n *Namespace) leave(s *Socket, r *room, handedOver bool) {
	r.remove(s, func() {
		n.mu.Lock()
		delete(n.rooms, r.name)
		n.users -= userRoomCount(r.name)
		n.mu.Unlock()
	})
	n.forsake(s, r.name, handedOver)
}

// room returns the room of that name, nil if there is none.
func (n *Namespace) room(name string) *room {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.rooms[name]
}

// socket returns the connected socket with that id, nil if there is none.
func (n *Namespace) socket(id string) *Socket {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byID[id]
}
