package atrium

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
)

// What a restart keeps on a cluster: the hub subscribes to what its predecessor was subscribed to,
// and stands for the nodes that the ids of its clients name.

// maxTopicsBytes bounds the list of topics in a lock.
const maxTopicsBytes = 16 << 20

// newMark returns a mark for an event that other nodes get, too: a hub and its successor may both
// keep it. It is 0 if nobody needs it.
func (h *Hub) newMark() uint64 {
	if h.cluster == nil || !h.options.Recovery.saves() {
		return 0
	}
	return rand.Uint64() | 1
}

// noteInherited finds those of the events of this hub that its predecessor has kept, too: clients
// that were on that one have them by it. The Bus may bring more of them later.
func (r *recovery) noteInherited(left []keptEvent) {
	if r.ns.hub.cluster == nil {
		return
	}
	r.inherited = make(map[uint64]bool)
	for i := range left {
		if mark := left[i].mark; mark != 0 {
			r.inherited[mark] = true
		}
	}
	for i := range r.events.len() {
		if e := r.events.at(i); r.inherited[e.mark] {
			e.above = r.ns.hub.succession.first
		}
	}
}

// standsFor reports whether the ids that name this node are those of clients that the hub has taken
// over from its predecessors.
func (h *Hub) standsFor(node string) bool {
	former := h.succession.nodes.Load()
	return former != nil && slices.Contains(*former, node)
}

// subscribeRestored subscribes to what is emitted to a client that was on a former node: by its id
// from now on, and by its rooms as long as it may be away. The caller holds the recovery's lock.
func (n *Namespace) subscribeRestored(k *kept) {
	c := n.hub.cluster
	if c == nil {
		return
	}
	rooms := []string{""} // the whole namespace
	for _, room := range k.rooms {
		rooms = append(rooms, room.name)
	}
	n.subscribe(rooms)
	s := &n.hub.succession
	for node, _ := nodeOfID(k.id); node != c.node && !n.hub.standsFor(node); {
		former := s.nodes.Load()
		var more []string
		if former != nil {
			more = *former
		}
		if more = append(slices.Clip(more), node); s.nodes.CompareAndSwap(former, &more) {
			c.topics.acquire(nodeTopic(node))
		}
	}
}

// encodeTopics lists what a successor should subscribe to before it gets the clients.
func (h *Hub) encodeTopics() []byte {
	if h.cluster == nil {
		return nil
	}
	b, _ := json.Marshal(h.cluster.topics.names()) // strings
	return b
}

// followTopics subscribes to the topics of a list, for as long as a client may be away.
func (h *Hub) followTopics(list io.Reader) {
	if h.cluster == nil {
		return
	}
	var names []string
	_ = json.NewDecoder(list).Decode(&names) // what is missing comes with the clients
	for _, name := range names {
		h.cluster.topics.acquire(name)
		h.cluster.topics.release(name)
	}
}
