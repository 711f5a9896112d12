package atrium

import (
	"fmt"
	"log/slog"
	"slices"
	"unicode/utf8"
)

// Users: the sockets of one are the members of a room that has a name like no other (userMark).
// What holds for rooms, on many nodes and with Recovery, holds for users.

// SetUser says which user of the application the client is, on however many devices: ToUser then
// reaches the socket on every node, and Limits.SocketsPerUser counts it. It is to be called in a
// Use function, when the application knows who the client is:
//
//	hub.Use(func(s *atrium.Socket) error {
//		user, err := userOf(s.Handshake())
//		if err != nil {
//			return atrium.Errorf("Log in again")
//		}
//		return s.SetUser(user.ID)
//	})
//
// A client that comes back (Options.Recovery) has the user that it had. The id has 1 to 256 bytes
// of UTF-8; any other is an error that matches ErrUserID. No room has the id for its name: a client
// that joins a room "7", whatever it is called, gets nothing that is for the user "7".
//
// The user of a socket does not change: once set, or when the socket is connected, setting another
// is an error that matches ErrUserSet. A client may have other users, or none, in other namespaces.
func (s *Socket) SetUser(id string) error {
	if err := checkUserID(id); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch user := userAmong(s.rooms); {
	case user == id:
		return nil
	case user != "":
		return fmt.Errorf("%w: it is %.300q", ErrUserSet, user)
	case s.state.Load() != socketPending:
		return fmt.Errorf("%w: SetUser is to be called in Use", ErrUserSet)
	}
	s.rooms = append(s.rooms, membership{stay: stay{name: userRoom(id)}}) // the last of them by name
	return nil
}

// User returns the id that SetUser has set, also after the disconnect; "" if there is none.
func (s *Socket) User() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return userAmong(s.rooms)
}

// checkUserID returns an error, which may be shown to a client, if no user can have the id.
func checkUserID(id string) error {
	problem := ""
	switch {
	case id == "":
		problem = "user: expected an id, got an empty one"
	case len(id) > maxUserID:
		problem = fmt.Sprintf("user: expected an id of at most %d bytes, got %d", maxUserID, len(id))
	case !utf8.ValidString(id):
		problem = fmt.Sprintf("user: expected an id in UTF-8, got %q", id)
	default:
		return nil
	}
	return &Error{Message: problem, Err: ErrUserID}
}

// userRooms returns the names of the rooms of those users. An id that SetUser refuses is nobody's.
func userRooms(ids []string) []string {
	rooms := make([]string, 0, len(ids))
	for _, id := range ids {
		if checkUserID(id) == nil {
			rooms = append(rooms, userRoom(id))
		}
	}
	return rooms
}

// ToUser returns the target of the sockets of these users; see Target.ToUser.
func (n *Namespace) ToUser(ids ...string) Target { return Target{ns: n}.ToUser(ids...) }

// ExceptUser returns the target of everyone but the sockets of these users.
func (n *Namespace) ExceptUser(ids ...string) Target { return Target{ns: n}.ExceptUser(ids...) }

// ToUser returns the target of the sockets of these users, but for this socket: to tell a user's
// other devices what this one has done, s.ToUser(s.User()).
func (s *Socket) ToUser(ids ...string) Target { return s.Broadcast().ToUser(ids...) }

// ExceptUser returns the target of everyone in the namespace but this socket and the sockets of
// these users.
func (s *Socket) ExceptUser(ids ...string) Target { return s.Broadcast().ExceptUser(ids...) }

// ToUser adds the sockets of these users (see Socket.SetUser) as To adds the members of rooms: on
// every node, those of clients that are away (Options.Recovery) where rooms include them, and each
// socket once. It narrows a target from everyone as To does; no ids means nobody.
//
//	h.ToUser("7").Emit("notification", n)                    // on all devices
//	h.ToUser("7").DisconnectWith(ctx, 4001, "banned")        // also those that are away
//	h.To("doc-1").ExceptUser("7").Emit("edited", by, change) // to the others
func (t Target) ToUser(ids ...string) Target { return t.to(userRooms(ids)) }

// ExceptUser leaves out the sockets of these users.
func (t Target) ExceptUser(ids ...string) Target {
	t.except = union(t.except, userRooms(ids))
	return t
}

// acquirePlace has the socket, which is about to be connected, count among those of its user. It
// reports false if there are as many as may be, none of which is to be replaced. The caller holds
// s.mu.
func (s *Socket) acquirePlace(user string) bool {
	o := &s.ns.hub.options
	if user == "" || o.Limits.SocketsPerUser == noBound {
		return true
	}
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	list := s.ns.places[user]
	if len(list) >= o.Limits.SocketsPerUser {
		if !o.ReplaceOldest {
			return false
		}
		go list[0].replaced() // which takes other locks
		list = slices.Delete(list, 0, 1)
	}
	s.ns.places[user] = append(list, s)
	return true
}

// releasePlace undoes acquirePlace. It does nothing if the socket was replaced. The caller holds
// s.mu.
func (s *Socket) releasePlace() {
	user := userAmong(s.rooms)
	if user == "" || s.ns.hub.options.Limits.SocketsPerUser == noBound {
		return
	}
	s.ns.mu.Lock()
	defer s.ns.mu.Unlock()
	list := s.ns.places[user]
	if i := slices.Index(list, s); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(s.ns.places, user)
	} else {
		s.ns.places[user] = list
	}
}

// refusePlace refuses the client because its user has as many sockets as may be.
func (s *Socket) refusePlace() {
	most := s.ns.hub.options.Limits.SocketsPerUser
	s.ns.hub.log.lately.add("refused a client over Limits.SocketsPerUser", s.handshake.remote, s.logged(slog.Int("limit", most))...)
	s.ns.hub.log.warn("atrium: refused a client over Limits.SocketsPerUser", s.logged(slog.Int("limit", most),
		hint("Options.ReplaceOldest disconnects the oldest instead"))...)
	s.session.codec.refuse(s, fmt.Sprintf("user: expected at most %d connections at a time", most), nil)
}

// replaced disconnects the socket because its place is another's now. If its client is away, or has
// come back as another socket, nothing happens.
func (s *Socket) replaced() {
	s.session.codec.disconnect(s, ReasonReplaced, closeStatus{StatusPolicyViolation, string(ReasonReplaced)})
}
