package atrium

import "time"

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
	Panics   uint64    `json:"panics"`
	Errors   uint64    `json:"errors"`   // errors that they have returned
	Duration Histogram `json:"duration"` // from the call of a handler to its return
	Wait     Histogram `json:"wait"`     // from the receipt of an event to the call of its handler
}

// CallStats are of calls to clients, with Call and Target.Call: one for each client.
type CallStats struct {
	Pending  int    `json:"pending"`
	Answered uint64 `json:"answered"`
	TimedOut uint64 `json:"timedOut"` // or given up, or their client left
}

// QueueStats are of queues of one kind, one for each client.
type QueueStats struct {
	Bytes   int `json:"bytes"`   // in all of them
	Largest int `json:"largest"` // in the largest, in bytes
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

// Stats returns the figures of the hub at the moment.
func (h *Hub) Stats() Stats {
	return Stats{Cluster: h.nodes.Stats()}
}
