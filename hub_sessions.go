package atrium

import (
	"slices"
)

// liveSessions are a hub's sessions. Hub.mu guards them.
type liveSessions struct {
	sessions []*session          // in no order; each has its place in live
	polls    map[string]*polling // by Engine.IO session id, those whose clients have begun by polling
	open     openConnections
	gone     struct{ received, sent traffic } // over WebSockets of sessions that were removed

	closing bool                // the hub is shutting down
	left    bool                // and no longer listens: see Serve
	missed  int                 // clients that ended since then without all that was queued for them
	over    bool                // Shutdown has ended
	inspect map[*inspector]bool // that have viewers
	empty   chan struct{}       // closed when closing and no session is left
	silence silence
}

// liveEntry is what a session is among the live ones. Hub.mu guards it.
type liveEntry struct {
	client string // the key in the quota
	place  int    // in liveSessions.sessions
}

// remove removes a session, unless it is none of them.
func (l *liveSessions) remove(s *session) {
	if s.live.place >= len(l.sessions) || l.sessions[s.live.place] != s {
		return
	}
	last := len(l.sessions) - 1
	moved := l.sessions[last]
	l.sessions[s.live.place], moved.live.place = moved, s.live.place
	l.sessions[last] = nil
	l.sessions = l.sessions[:last]
}

// openConnections are the connections of live sessions, until they are closed.
type openConnections struct{ plain, socketIO, polling int }

// count counts a session's connection that begins (+1) or ends (-1).
func (o *openConnections) count(s *session, change int) {
	if s.protocol == plainProtocol {
		o.plain += change
	} else {
		o.socketIO += change
	}
	if s.conn.Load() == nil {
		o.polling += change
	}
}

func (h *Hub) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live.closing
}

// leave notes that new connections are not made to this hub any more.
func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live.left = true
}

func (h *Hub) hasLeft() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live.left
}

// list returns the live sessions.
func (h *Hub) list() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.live.sessions)
}

// poll returns the session with that Engine.IO id, if its client has begun by polling; else nil.
func (h *Hub) poll(sid string) *polling {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live.polls[sid]
}

// add makes the session a live one. It reports false during a shutdown.
func (h *Hub) add(s *session, client string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live.closing {
		return false
	}
	if len(h.live.sessions) == 0 {
		h.backlog.watch()
	}
	s.live = liveEntry{client, len(h.live.sessions)}
	h.live.sessions = append(h.live.sessions, s)
	h.live.open.count(s, +1)
	h.sessions.counters.opened.Add(1)
	if s.poll != nil {
		h.live.polls[s.poll.codec.sid] = s.poll
	}
	return true
}

// accepted counts a pending client as accepted. It may be called under the locks of a Socket.
func (h *Hub) accepted() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quota.pending--
}

// connectionClosed gives the place of a client's connection back. Handlers of its sockets may still
// run, for long, and the client may want to come back meanwhile.
func (h *Hub) connectionClosed(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pending := s.reading.pending.Swap(false) // it will not be accepted any more
	h.quota.release(s.live.client, pending)
	h.live.open.count(s, -1)
}

// upgraded counts a client that polls no longer.
func (h *Hub) upgraded() {
	h.sessions.counters.upgraded.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live.open.polling--
}

// remove removes a session whose connection is closed and whose handlers have all returned.
func (h *Hub) remove(s *session) {
	missed := s.transport().missed()
	if missed != nil {
		h.log.warn("atrium: a client was disconnected without what was queued for it", s.logged(loggedFailure(missed)...)...)
	}
	var received, sent traffic
	if conn := s.conn.Load(); conn != nil {
		received, sent = conn.received.load(), conn.out.status().sent
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live.gone.received, h.live.gone.sent = h.live.gone.received.plus(received), h.live.gone.sent.plus(sent)
	h.live.remove(s)
	if s.poll != nil {
		delete(h.live.polls, s.poll.codec.sid)
	}
	if h.live.closing && missed != nil {
		h.live.missed++
	}
	if h.live.closing && len(h.live.sessions) == 0 {
		close(h.live.empty)
	}
}
