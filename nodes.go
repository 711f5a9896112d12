package atrium

import (
	"log/slog"
	"time"
)

// Nodes are the other nodes of a hub's cluster: the hubs with the same Bus. A hub without a Bus has
// none. Handlers of the events that they send are registered with On, and get the name of the node
// that an event is from:
//
//	atrium.On(h.Nodes(), "reload", func(node string, c Config) error { … })
//	h.Nodes().Emit("reload", config)
//
// All methods may be called from any goroutine.
type Nodes struct {
	hub      *Hub
	registry *registry[string] // its handlers run one at a time, in a goroutine of their own
}

// Nodes returns the other nodes.
func (h *Hub) Nodes() *Nodes { return &h.nodes }

// Self returns the name of the hub's own node, with which the ids of its sockets begin.
func (n *Nodes) Self() string { return n.hub.node }

// List returns the names of the nodes that are alive, in order. A node that was killed is listed
// for about 5 seconds more, a new one as soon as the two have received a message of each other.
func (n *Nodes) List() []string {
	if n.hub.cluster == nil {
		return nil
	}
	return n.hub.cluster.others()
}

// Emit sends an event to the handlers of all other nodes. It does not wait, and there are no
// acknowledgements. Like everything on the Bus the event arrives at most once, in the order in
// which one goroutine emits. An error is a mistake of the caller, as with Target.Emit.
func (n *Nodes) Emit(event string, args ...any) error {
	m, err := newMessage("", event, args, noBound)
	if err != nil {
		return err
	}
	defer m.release()
	if c := n.hub.cluster; c != nil {
		c.send(everyNode, &clusterMessage{kind: clusterNotice, eventData: m.eventData})
	}
	return nil
}

// register makes Nodes a Registrar.
func (n *Nodes) register(event string, f func(string, *Event)) { n.registry.register(event, f) }

// notice implements clusterHost. It calls the handler of the event, if there is one; a panic is
// logged.
func (h *Hub) notice(m *clusterMessage) {
	from := &otherNode{name: m.from, log: h.options.Logger}
	e := &Event{sender: from, eventData: m.eventData}
	guard(func() { h.nodes.registry.dispatch(m.from, e) }, func(what ...any) {
		h.sessions.counters.panics.Add(1)
		from.logger(m.name).Error("atrium: a handler panicked", what...)
	})
}

// otherNode is another node as the sender of an event. It gets no reply; errors are logged by this
// node.
type otherNode struct {
	name string
	log  *slog.Logger
}

func (n *otherNode) reply(int64, args) {}

func (n *otherNode) replyError(event string, _ int64, message string, _ []byte) {
	n.logger(event).Error("atrium: an event of another node was refused", clientText("error", message))
}

func (n *otherNode) logger(event string) *slog.Logger {
	return n.log.With(clientText("event", event), clientText("node", n.name))
}

func (n *otherNode) maxAttachments() int { return noBound } // nothing is sent

// ClusterStats are counts since the hub was made.
type ClusterStats struct {
	// Failing is for how long the Bus has not worked; zero while it does. See Hub.Ready.
	Failing   time.Duration
	Nodes     int    // other nodes that are there
	Topics    int    // subscribed to, or about to be
	Published uint64 // messages that the Bus has taken
	Failed    uint64 // calls of the Bus that failed, each with a message lost or a subscription to be tried again
	Dropped   uint64 // messages dropped because a queue was full
	Received  uint64 // messages of other nodes
	Malformed uint64 // messages that were none, or of another version
	Repeated  uint64 // messages dropped because the Bus has brought them, or later ones, before
}

// Stats tells how the hub's place in its cluster does. Without a Bus all is zero.
func (n *Nodes) Stats() ClusterStats {
	c := n.hub.cluster
	if c == nil {
		return ClusterStats{}
	}
	var failing time.Duration
	if since, err := c.busError(); err != nil {
		failing = time.Since(since)
	}
	return ClusterStats{
		Failing:   failing,
		Nodes:     len(c.others()),
		Topics:    c.topics.count(),
		Published: c.counts.published.Load(),
		Failed:    c.counts.failed.Load(),
		Dropped:   c.counts.dropped.Load(),
		Received:  c.counts.received.Load(),
		Malformed: c.counts.malformed.Load(),
		Repeated:  c.counts.repeated.Load(),
	}
}
