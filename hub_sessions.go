package atrium

import (
	"log/slog"
	"maps"
	"slices"
)

// liveSessions are a hub's sessions. Hub.mu guards them.
type liveSessions struct {
	clients map[*session]string // the keys in the quota
	polls   map[string]*polling // by Engine.IO session id, those whose clients have begun by polling
	closing bool                // the hub is shutting down
	left    bool                // and no longer listens: see Serve
	missed  int                 // clients that ended since then without all that was queued for them
	over    bool                // Shutdown has ended
	inspect map[*inspector]bool // that have viewers
	empty   chan struct{}       // closed when closing and no session is left
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
	return slices.AppendSeq(make([]*session, 0, len(h.live.clients)), maps.Keys(h.live.clients))
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
	if len(h.live.clients) == 0 {
		h.backlog.watch()
	}
	h.live.clients[s] = client
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
	h.quota.release(h.live.clients[s], pending)
}

// remove removes a session whose connection is closed and whose handlers have all returned.
func (h *Hub) remove(s *session) {
	missed := s.transport().missed()
	if missed != nil {
		h.log.warn("atrium: a client was disconnected without what was queued for it", slog.Any("error", missed))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.live.clients, s)
	if s.poll != nil {
		delete(h.live.polls, s.poll.codec.sid)
	}
	if h.live.closing && missed != nil {
		h.live.missed++
	}
	if h.live.closing && len(h.live.clients) == 0 {
		close(h.live.empty)
	}
}
