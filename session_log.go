package atrium

import (
	"cmp"
	"errors"
	"log/slog"
	"time"
)

// What a hub logs of clients that it has let in. LOGS.md lists the entries.

// logged returns attributes behind those that say which socket an entry is about, and whose it is.
func (s *Socket) logged(attrs ...any) []any {
	if user := s.User(); user != "" {
		attrs = append([]any{clientText("user", user)}, attrs...)
	}
	s.mu.Lock() // a client that comes back gives the socket its id
	defer s.mu.Unlock()
	return append([]any{slog.String("socket", s.id)}, attrs...)
}

// logged returns attributes behind those that say which client an entry is about: one of its
// sockets, if it has any, and its address.
func (s *session) logged(attrs ...any) []any {
	attrs = append([]any{clientText("remote", s.codec.request().remote)}, attrs...)
	for _, socket := range s.liveSockets() {
		if socket.wasConnected() {
			return socket.logged(attrs...)
		}
	}
	return attrs
}

// logConnected logs that the socket is connected. It costs nothing unless Debug is on.
func (s *Socket) logConnected() {
	log := s.ns.hub.log
	if !log.debugging() {
		return
	}
	f := s.session.figures()
	log.debug("atrium: a socket connected", s.logged(clientText("namespace", s.ns.name), clientText("remote", s.handshake.remote),
		slog.String("protocol", f.protocol), slog.String("transport", f.transport), slog.Bool("recovered", s.recovered))...)
}

// logDisconnected logs that the socket was disconnected. It costs nothing unless Debug is on.
func (s *Socket) logDisconnected(reason Reason) {
	log := s.ns.hub.log
	if !log.debugging() {
		return
	}
	f := s.session.figures()
	log.debug("atrium: a socket was disconnected", s.logged(clientText("namespace", s.ns.name), slog.String("reason", string(reason)),
		slog.Duration("duration", time.Since(f.opened)), slog.Uint64("received", f.received.bytes), slog.Uint64("sent", f.sent.bytes))...)
}

// logRefused logs what the client is told by a Use function; other errors are logged as errors of
// the application.
func (s *Socket) logRefused(err error) {
	log := s.ns.hub.log
	if e, ok := asError(err); ok && log.debugging() {
		log.debug("atrium: Use refused a client", append(loggedFailure(e), clientText("namespace", s.ns.name), clientText("remote", s.handshake.remote))...)
	}
}

// endSlow disconnects the client because it does not keep up with what is sent to it.
func (s *session) endSlow() {
	status := s.transport().status()
	if !s.end(ReasonSlowConsumer, StatusPolicyViolation, string(ReasonSlowConsumer)) {
		return
	}
	now := nanotime()
	s.hub.log.logApart(slog.LevelWarn, "atrium: a client does not take what is sent to it", s.logged(
		slog.Int("bytes", status.cost), slog.Int("limit", s.hub.options.Limits.QueuedBytes),
		slog.Duration("stalled", time.Duration(now-cmp.Or(status.since, now))),
		hint("Limits.QueuedBytes and TotalQueuedBytes are the limits; what the next event replaces can be Volatile"))...)
}

// endLate disconnects the client because it took longer than a limit of Timeouts.
func (s *session) endLate(problem, option string, limit time.Duration) {
	if s.end(ReasonForcedServerClose, StatusPolicyViolation, problem) {
		s.hub.log.logApart(slog.LevelDebug, "atrium: a client took too long", s.logged(slog.String("problem", problem),
			slog.Duration("limit", limit), hint(option+" is the limit"))...)
	}
}

// logTooBig logs that the session ends because of too big a message.
func (s *session) logTooBig(problem string, size *oversized) {
	attrs := s.logged(clientText("problem", problem), slog.Int64("limit", size.limit))
	if size.bytes > 0 {
		attrs = append(attrs, slog.Int64("bytes", size.bytes))
	}
	if size.event != "" {
		attrs = append(attrs, clientText("event", size.event))
	}
	mend := "Limits.MessageBytes is the limit"
	if s.reading.pending.Load() {
		mend = "before a client is accepted the limit is 64 KiB at most"
	}
	s.hub.log.warn("atrium: a client sent too big a message", append(attrs, hint(mend))...)
}

// logViolation logs that the session ends because its client broke a rule.
func (s *session) logViolation(problem string) {
	s.hub.log.warn("atrium: a client broke its protocol", s.logged(clientText("problem", problem),
		hint("it is no client of this protocol, or what is between changes what it sends"))...)
}

// endViolated ends the session because its client sent a message against its protocol.
func (s *session) endViolated(err *Error) {
	if size, ok := errors.AsType[*oversized](err); ok {
		s.logTooBig(err.Message, size)
		s.end(ReasonMessageTooBig, StatusMessageTooBig, err.Message)
		return
	}
	s.logViolation(err.Message)
	s.end(ReasonParseError, StatusPolicyViolation, err.Message)
}

const (
	// silenceWindow is how long losses by ping timeouts are counted together.
	silenceWindow = time.Minute
	// minSilent is how many of them are logged at the least, if they are more than one in
	// silentShare of the clients.
	minSilent   = 10
	silentShare = 10
)

// silence counts clients that ping timeouts have disconnected. Many at a time are not their own
// fault. Hub.mu guards it.
type silence struct {
	since   int64 // nanotime at which the window began
	lost    int   // in it
	clients int   // that were there when it began
	told    bool
}

// add counts one, and reports whether that is to be logged now.
func (q *silence) add(now int64, clients int) bool {
	if q.lost == 0 || now-q.since >= int64(silenceWindow) {
		*q = silence{since: now, clients: clients}
	}
	q.lost++
	if q.told || q.lost < minSilent || q.lost*silentShare <= q.clients {
		return false
	}
	q.told = true
	return true
}

// noteSilent counts a client that a ping timeout has disconnected.
func (h *Hub) noteSilent() {
	now := nanotime()
	h.mu.Lock()
	tell := h.live.silence.add(now, len(h.live.sessions))
	seen := h.live.silence
	h.mu.Unlock()
	if tell {
		h.log.logApart(slog.LevelWarn, "atrium: many clients do not answer pings", slog.Int("count", seen.lost), slog.Int("clients", seen.clients),
			slog.Duration("duration", time.Duration(now-seen.since)), hint("the network, a proxy that cuts idle connections, or this process had no time for them"))
	}
}
