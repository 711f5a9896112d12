package atrium

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Socket is one client in one namespace.
//
// The functions that were registered with the Namespace run for a socket one at a time, in this
// order: Use, OnConnect, the handlers of its events as they came, OnDisconnect. All methods may be
// called from any goroutine, from within those functions and after the disconnect, when they do
// nothing, or return an error. With Options.Recovery they then act on the Socket that the client
// has come back as or, while it is away, on what is kept of it.
type Socket struct {
	id        string
	ns        *Namespace
	session   *session
	handshake *Handshake
	state     atomic.Int32 // see socketPending; it changes under mu only. Each delivery looks at it
	inbox     queue[incoming]
	calls     pendingCalls
	values    atomic.Pointer[values] // nil until first used

	removed   bool // the client may connect another to the namespace; guarded by session.mu
	recovered bool // set before the application sees the socket

	// mu may be held while a room's lock is taken, never the other way round. It guards:
	mu     sync.Mutex
	rooms  []membership    // by name
	kept   *kept           // guarded by the recovery's lock, too; nil without recovery
	ctx    context.Context // the base of the socket's context, then itself, made on first use
	cancel context.CancelFunc
	expiry *timer // of DisconnectAt; with kept it is that one's
}

// ID returns the socket's id: 20 characters of the base64url alphabet, never used twice. It is no
// secret. Its last four characters follow from the others, so that no room can have an id for its
// name; of all other names of 20 bytes, one in 17 million is taken for an id.
func (s *Socket) ID() string { return s.id }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Handshake returns the request that the client connected with, and its auth value.
func (s *Socket) Handshake() *Handshake { return s.handshake }

// Context returns a context that ends when the socket is disconnected. Its values are those of the
// context that Options.Accept returned.
func (s *Socket) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel == nil {
		s.ctx, s.cancel = context.WithCancel(s.ctx)
		if s.hasLeft() {
			s.cancel()
		}
	}
	return s.ctx
}

// Emit sends an event to this socket. See Target.Emit for what its error means.
func (s *Socket) Emit(event string, args ...any) error { return s.alone().Emit(event, args...) }

// Volatile returns the target of this socket alone, for events that may be lost; see
// Target.Volatile.
func (s *Socket) Volatile() Target { return s.alone().Volatile() }

// Compress returns the target of this socket alone, with or without compression; see
// Target.Compress.
func (s *Socket) Compress(compress bool) Target { return s.alone().Compress(compress) }

func (s *Socket) alone() Target { return Target{ns: s.ns, only: s} }

// Broadcast returns the target of everyone in the namespace but this socket.
func (s *Socket) Broadcast() Target { return Target{ns: s.ns, sender: s} }

// To returns the target of the members of the rooms, but for this socket. A socket's id is a room
// for it alone. No rooms means nobody.
func (s *Socket) To(rooms ...string) Target { return s.Broadcast().To(rooms...) }

// Except returns the target of everyone in the namespace but this socket and the members of the
// rooms.
func (s *Socket) Except(rooms ...string) Target { return s.Broadcast().Except(rooms...) }

// Join puts the socket into the rooms, which are made if there are none. It joins all of them or,
// with an error, none: ErrRoomName for a name that is empty, longer than 256 bytes, not UTF-8, or
// the id of another socket of this hub or another, whose events this one would get; ErrTooManyRooms
// beyond Limits.Rooms. Either is an *Error, too: a handler may return it, and the sender is
// told what was expected. After the disconnect Join does nothing, unless the client may come back
// (Options.Recovery).
//
// What is emitted to a room after Join has returned reaches the socket. With a Bus that holds for
// what other nodes emit, too, for which Join may wait: the first of a node to join a room waits
// until the Bus has subscribed to it, a second at most, and not while the Bus fails. Otherwise Join
// does not wait.
func (s *Socket) Join(rooms ...string) error {
	names, err := newRoomNames(rooms)
	if err != nil {
		return err
	}
	if err := s.member().join(names); err != nil {
		return err
	}
	s.ns.await(context.Background(), names.rooms)
	return nil
}

// joinRooms is Join for callers with the recovery's lock, and checked names.
func (s *Socket) joinRooms(rooms []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasLeft() {
		return nil
	}
	added, err := roomsToJoin(s.rooms, rooms, s.ns.hub.options.Limits.Rooms)
	joined := make([]membership, len(added))
	for i, name := range added {
		joined[i].name = name
		if s.kept != nil {
			joined[i].since = s.ns.recovery.last()
		}
		if s.isConnected() {
			joined[i].room = s.ns.join(s, name)
		}
	}
	s.rooms = insertNamed(s.rooms, joined)
	return err
}

// Leave takes the socket out of the rooms. Nothing that is emitted to them after Leave has returned
// reaches it through them.
func (s *Socket) Leave(rooms ...string) { s.member().leave(setOf(withoutUsers(rooms))) }

// leaveRooms is Leave for callers with the recovery's lock, who must call session.pushed when they
// have released it.
func (s *Socket) leaveRooms(rooms []string) (wake, slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasLeft() {
		return false, false
	}
	s.rooms = deleteNamed(s.rooms, rooms, func(m membership) {
		if s.isConnected() {
			s.ns.leave(s, m.room, false)
			w, tooSlow := s.ns.tellNobody(s, m.name)
			wake, slow = wake || w, slow || tooSlow
		}
		if s.kept != nil {
			s.ns.recovery.lapse(s.kept, m.stay)
		}
	})
	return wake, slow
}

// Rooms lists the rooms that the socket is in, by name; after the disconnect, those it was in then.
// The socket's id is not among them.
func (s *Socket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.rooms))
	for _, m := range s.rooms {
		if _, isUser := userOf(m.name); !isUser {
			names = append(names, m.name)
		}
	}
	return names
}

// In reports whether the socket is in the room, or was when it was disconnected.
func (s *Socket) In(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, in := findNamed(s.rooms, room)
	_, isUser := userOf(room)
	return in && !isUser
}

// Disconnect disconnects the socket: it leaves its rooms at once, what was emitted to it before is
// still sent, within Timeouts.Close, and then that it is disconnected: to a plain client a
// close frame with status 1000, which ends its connection; to a Socket.IO client a packet, after
// which its sockets in other namespaces go on. In a Use function it refuses the client. It does not
// wait.
func (s *Socket) Disconnect() { s.disconnect(closeStatus{}) }

// DisconnectWith is Disconnect with a status code and a reason for the client to act on, 4001 and
// "banned" say; codes from 4000 to 4999 are the application's (RFC 6455 §7.4.2). To a plain client
// they are those of the close frame. To a Socket.IO client, whose disconnect packet has no room for
// them, an event comes ahead of that packet:
//
//	socket.on("disconnect_reason", ({code, reason}) => …)
//
// In a Use function the reason is the message that the client is refused with; a Socket.IO client
// finds both in the error's data, too. OnDisconnect is told ReasonServerDisconnect.
//
// A reason longer than 123 bytes is cut. A code that may not be sent is refused with an error, as
// by Conn.Close, and nothing happens.
func (s *Socket) DisconnectWith(code StatusCode, reason string) error {
	status, err := newCloseStatus(code, reason)
	if err == nil {
		s.disconnect(status)
	}
	return err
}

func newCloseStatus(code StatusCode, reason string) (closeStatus, error) {
	if !code.onWire() {
		return closeStatus{}, errCloseCode
	}
	return closeStatus{code, closeReason(reason)}, nil
}

func (s *Socket) disconnect(status closeStatus) { s.member().disconnect(status) }

// DisconnectClient ends the client's connection, and with it its sockets in all namespaces: what
// was emitted to them before is still sent, within Timeouts.Close. It does not wait. To tell
// the client why, call DisconnectWith first.
func (s *Socket) DisconnectClient() {
	sessions := []*session{s.session} // and those that the client has come back with
	for _, socket := range s.session.liveSockets() {
		if now := socket.member().dismiss(); now != nil && !slices.Contains(sessions, now.session) {
			sessions = append(sessions, now.session)
		}
	}
	for _, session := range sessions {
		for _, socket := range session.liveSockets() {
			socket.Disconnect()
		}
		session.end(ReasonServerDisconnect, StatusNormalClosure, string(ReasonServerDisconnect))
	}
}

// DisconnectAt disconnects the socket at the time t, when its token expires for example, whether or
// not the client answers pings. A later call replaces the time, and the zero time cancels it.
func (s *Socket) DisconnectAt(t time.Time) { s.member().disconnectAt(t) }

// Flush waits until less than half of Limits.QueuedBytes is queued for the client. Call it between
// the pieces if you send much to one client. Its error is ctx's, or matches ErrClosed.
func (s *Socket) Flush(ctx context.Context) error { return s.session.waitUntilHalf(ctx) }

// Buffered returns how many bytes are queued for the client and not yet taken by the network.
// Limits.QueuedBytes counts some more for each message.
func (s *Socket) Buffered() int { return s.session.transport().status().bytes }
