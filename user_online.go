package atrium

import (
	"encoding/json"
	"log/slog"
)

// Which users are online: the presence of a room that nobody is in, whose name is userMark alone.
// Its keys are the users. What holds of a presence, over many nodes and with the grace, holds of
// them.

// OnUserOnline adds a function that is called when a user comes: when the first of their sockets
// (see Socket.SetUser) is connected, on whatever node. It is called once, however many sockets
// there are, about PresenceOptions.Interval later, and again only after the function of
// OnUserOffline.
//
// It is called on each node on which one of the two was registered with the namespace: what all
// have to write into one database is the same. Each of these nodes keeps who is online on all of
// them, for each socket some 400 bytes and its user's id; nodes without them tell of their users
// nothing. A node that starts is told of all who are there. For one node and namespace the two
// functions are called one at a time, in no goroutine of a socket; of who comes and goes while one
// runs they are told nothing.
//
// The namespaces of an OfFunc come and go with their sockets: for one of these it panics.
func (n *Namespace) OnUserOnline(f func(user string)) {
	n.mustStay("OnUserOnline")
	n.registry.add("OnUserOnline", f == nil, func(r *functions[*Socket]) { r.onUserOnline = append(r.onUserOnline, f) })
	n.watchUsers()
}

// OnUserOffline adds a function that is called when a user has gone: when they have had no socket
// on any node for PresenceOptions.Grace, so that a page that is loaded anew and a connection that
// is replaced are no matter. See OnUserOnline.
//
// It is called also for the users of a node that ends or is lost: a grace after its Shutdown, and
// when it has not been heard of for 5 seconds; and for those of nodes that cannot be reached, as
// long as that is so. It is not called for those who are online when this hub's Shutdown begins,
// whenever they go; with Recovery.Path that of the next hub is, for those who do not come back.
func (n *Namespace) OnUserOffline(f func(user string)) {
	n.mustStay("OnUserOffline")
	n.registry.add("OnUserOffline", f == nil, func(r *functions[*Socket]) { r.onUserOffline = append(r.onUserOffline, f) })
	n.watchUsers()
}

// mustStay panics if the namespace is that of an OfFunc.
func (n *Namespace) mustStay(method string) {
	if !n.named.Load() {
		panic("atrium: " + method + ": expected a namespace of Hub.Of, those of an OfFunc come and go")
	}
}

// watchUsers begins to keep which users are online, those included that are there already.
func (n *Namespace) watchUsers() {
	p := n.presences.lock(n, userMark, n.reportUsers)
	p.wake(after(p.options().Interval)) // a predecessor may have left some
	p.mu.Unlock()
	for _, s := range n.LocalSockets() {
		s.mu.Lock()
		if s.isConnected() { // or it has told by itself that it has left
			s.userCame()
		}
		s.mu.Unlock()
	}
}

// reportUsers calls the functions of OnUserOnline and OnUserOffline.
func (n *Namespace) reportUsers(joined, left []Present) {
	functions := n.registry.current.Load()
	n.reportEach("OnUserOffline", left, functions.onUserOffline)
	n.reportEach("OnUserOnline", joined, functions.onUserOnline)
}

// reportEach calls the functions, which were registered by the method, for each user.
func (n *Namespace) reportEach(method string, users []Present, functions []func(user string)) {
	for i := range users {
		for _, f := range functions {
			guardApart(func() { f(users[i].Key) }, func(what ...any) {
				n.hub.log.error("atrium: a function told of a user panicked",
					append(what, slog.String("function", method), clientText("user", users[i].Key))...)
			})
		}
	}
}

// userCame has the user of the socket, which is connected, count as online; userLeft undoes it. The
// caller holds s.mu.
func (s *Socket) userCame() {
	user := userAmong(s.rooms)
	if p := s.ns.presences.find(s.ns, userMark); p != nil && user != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.set(s.id, &presenceEntry{user, json.RawMessage("1")})
	}
}

func (s *Socket) userLeft() {
	if p := s.ns.presences.find(s.ns, userMark); p != nil && userAmong(s.rooms) != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.unset(s.id)
	}
}
