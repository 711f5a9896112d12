package atrium

import (
	"maps"
	"slices"
	"time"
)

// Stats are the figures of a hub: counters, which only grow, since New, and gauges, which say how
// much there is at the moment. On a cluster they are this node's alone.
type Stats struct {
	Start      time.Time                 `json:"start"` // when New made the hub
	Clients    ClientStats               `json:"clients"`
	Refused    RefusedStats              `json:"refused"`
	Namespaces map[string]NamespaceStats `json:"namespaces"` // by name; those of OfFunc together under "*"

	Disconnects map[Reason]uint64 `json:"disconnects"` // sockets that have left, by reason

	Received   TrafficStats `json:"received"`   // from clients
	Sent       TrafficStats `json:"sent"`       // to clients
	Deliveries uint64       `json:"deliveries"` // events queued for a client: one emit to a room of ten is ten
	Dropped    uint64       `json:"dropped"`    // volatile events that were not queued for a client

	Handlers HandlerStats  `json:"handlers"`
	Calls    CallStats     `json:"calls"` // to clients
	Outboxes QueueStats    `json:"outboxes"`
	Inboxes  QueueStats    `json:"inboxes"`
	Recovery RecoveryStats `json:"recovery"`
	Cluster  ClusterStats  `json:"cluster"`
}

// ClientStats are the connections of clients.
type ClientStats struct {
	Plain     int    `json:"plain"`     // now connected, of the plain protocol
	SocketIO  int    `json:"socketIO"`  // now connected, of Socket.IO, by either transport
	WebSocket int    `json:"webSocket"` // of both protocols, those over a WebSocket
	Polling   int    `json:"polling"`   // those that poll
	Pending   int    `json:"pending"`   // those that are not accepted yet
	Opened    uint64 `json:"opened"`    // connections that have begun
	Upgraded  uint64 `json:"upgraded"`  // from polling to a WebSocket
	Slow      uint64 `json:"slow"`      // that were disconnected because they did not read
	Silent    uint64 `json:"silent"`    // that were disconnected because nothing came from them
}

// RefusedStats count the handshakes that were refused, and the sockets that a Use function refused.
type RefusedStats struct {
	Origin       uint64 `json:"origin"`       // see Options.AllowedOrigins
	Accept       uint64 `json:"accept"`       // by Options.Accept
	Use          uint64 `json:"use"`          // by a function of Namespace.Use
	Full         uint64 `json:"full"`         // over Limits.Connections or Limits.Pending
	PerClient    uint64 `json:"perClient"`    // over Limits.ConnectionsPerClient
	Malformed    uint64 `json:"malformed"`    // what breaks a protocol or has too large headers
	Unknown      uint64 `json:"unknown"`      // requests of polling for a session that is not known here
	ShuttingDown uint64 `json:"shuttingDown"` // during Shutdown
}

// NamespaceStats are of one namespace.
type NamespaceStats struct {
	Sockets int `json:"sockets"`
	Rooms   int `json:"rooms"`
}

// TrafficStats count what has gone in one direction.
type TrafficStats struct {
	// Events are, of what was received, the events of clients, with those that cannot be handled,
	// but without acknowledgements; of what was sent, Emits and Calls, each once, however many
	// clients of this node it reaches: see Deliveries.
	Events uint64 `json:"events"`
	// Messages are messages of WebSockets and packets of polling, but for heartbeats and those that
	// only close or upgrade. To clients they count when they are queued.
	Messages uint64 `json:"messages"`
	// Bytes are, of WebSockets, all that follows the handshake, before TLS; of polling, the bodies
	// of POSTs and of the responses to GETs, compressed as they are.
	Bytes uint64 `json:"bytes"`
}

// HandlerStats are of the application's functions that handle events.
type HandlerStats struct {
	Panics   uint64    `json:"panics"`   // of all functions of the application
	Errors   uint64    `json:"errors"`   // that handlers, UseEvent and Validate have returned, or the like: see Event.ReplyError
	Duration Histogram `json:"duration"` // from the call of an event's handlers to their return
	Wait     Histogram `json:"wait"`     // from the receipt of an event to that call
}

// CallStats are of calls to clients, with Call and Target.Call: one for each client.
type CallStats struct {
	Pending  int    `json:"pending"`
	Answered uint64 `json:"answered"` // an error is an answer, too
	TimedOut uint64 `json:"timedOut"` // or given up, or their client left
}

// QueueStats are of the queues of one kind: an outbox for each client, an inbox for each socket.
// Bytes are of memory, as Limits.QueuedBytes and Limits.InboxBytes count them.
type QueueStats struct {
	Bytes   int `json:"bytes"`   // in all of them
	Largest int `json:"largest"` // in the largest
}

// RecoveryStats are of clients that came back; see Options.Recovery.
type RecoveryStats struct {
	Away      int    `json:"away"`      // clients that may come back
	Tried     uint64 `json:"tried"`     // clients that wanted to come back
	Recovered uint64 `json:"recovered"` // to the socket they had
	Anew      uint64 `json:"anew"`      // that began anew
}

// Histogram counts durations. Its bounds are fixed.
type Histogram struct {
	Counts [len(HistogramBounds) + 1]uint64 `json:"counts"` // up to and with each bound; the last one: above all
	Sum    time.Duration                    `json:"sum"`
}

// HistogramBounds are the upper bounds of the buckets of every Histogram.
var HistogramBounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// Stats returns the figures of the hub at the moment. It may be called from any goroutine, and
// often: it holds no lock for long. The figures are of moments that lie close together, not of one:
// what happens meanwhile may be in some of them and not in others. Counters never decrease.
func (h *Hub) Stats() Stats {
	c := &h.sessions.counters
	s := Stats{
		Start:       clockStart.Add(time.Duration(c.start)),
		Refused:     c.refusedStats(),
		Namespaces:  make(map[string]NamespaceStats),
		Disconnects: make(map[Reason]uint64, len(allReasons)),
		Cluster:     h.nodes.Stats(),
	}
	for i, reason := range allReasons {
		s.Disconnects[reason] = c.left[i].Load()
	}
	c.addShards(&s)
	s.Handlers.Panics, s.Handlers.Errors = c.panics.Load(), c.errors.Load()
	s.Calls.Answered, s.Calls.TimedOut = c.answered.Load(), c.unanswered.Load()
	s.Recovery.Tried, s.Recovery.Recovered, s.Recovery.Anew = c.recovery.tried.Load(), c.recovery.recovered.Load(), c.recovery.anew.Load()
	h.addClients(&s)
	h.addNamespaces(&s)
	return s
}

// addClients adds up what sessions count for themselves. Those that are removed meanwhile are in
// the list, and not yet among those that have gone.
func (h *Hub) addClients(s *Stats) {
	h.mu.Lock()
	sessions := slices.Clone(h.live.sessions)
	open, gone := h.live.open, h.live.gone
	pending := h.quota.pending
	h.mu.Unlock()

	c := &h.sessions.counters
	s.Clients = ClientStats{
		Plain: open.plain, SocketIO: open.socketIO, WebSocket: open.plain + open.socketIO - open.polling, Polling: open.polling,
		Pending: pending,
		Opened:  c.opened.Load(), Upgraded: c.upgraded.Load(), Slow: c.slow.Load(), Silent: c.silent.Load(),
	}
	received, sent := gone.received.plus(c.polled.received.load()), gone.sent.plus(c.polled.sent.load())
	for _, session := range sessions {
		t := session.transport()
		status := t.status()
		s.Outboxes.add(status.cost)
		s.Calls.Pending += int(session.reading.calls.Load())
		if ws, ok := t.(webSocket); ok {
			received, sent = received.plus(ws.received.load()), sent.plus(status.sent)
		}
		session.mu.Lock()
		for _, socket := range session.sockets {
			s.Inboxes.add(socket.inbox.size())
		}
		session.mu.Unlock()
	}
	s.Received.Messages, s.Received.Bytes = received.messages, received.bytes
	s.Sent.Messages, s.Sent.Bytes = sent.messages, sent.bytes
}

func (q *QueueStats) add(bytes int) {
	q.Bytes += bytes
	q.Largest = max(q.Largest, bytes)
}

// addNamespaces adds the sizes of the namespaces, and who is away in them.
func (h *Hub) addNamespaces(s *Stats) {
	h.mu.Lock()
	namespaces := slices.Collect(maps.Values(h.namespaces))
	h.mu.Unlock()
	for _, n := range namespaces {
		name := "*"
		if n.named.Load() {
			name = n.name
		}
		sum := s.Namespaces[name]
		n.mu.RLock()
		sum.Sockets += len(n.byID)
		sum.Rooms += len(n.rooms) - n.users
		n.mu.RUnlock()
		s.Namespaces[name] = sum
		if r := n.recovery; r != nil {
			r.mu.Lock()
			s.Recovery.Away += len(r.away)
			r.mu.Unlock()
		}
	}
}
