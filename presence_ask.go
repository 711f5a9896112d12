package atrium

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// A node asks others who is in a room: when its first member joins, and when it has missed
// something. The questions of a namespace are gathered: the first goes out at once, and those of
// the following PresenceOptions.Interval together. Of a room of which no node knows, nothing is
// kept.

// presenceAsks are the questions that wait. Namespace.mu guards them.
type presenceAsks struct {
	rooms     map[string]map[string]struct{} // by the node to ask; "" means all
	gathering bool                           // fetchPresence is to run, and takes them
}

// askNodes has a node asked who is in a room; all nodes if it is "".
func (n *Namespace) askNodes(room, node string) {
	if n.hub.cluster == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	asks := &n.presences.asks
	if asks.rooms == nil {
		asks.rooms = make(map[string]map[string]struct{})
	}
	if asks.rooms[node] == nil {
		asks.rooms[node] = make(map[string]struct{})
	}
	asks.rooms[node][room] = struct{}{}
	if !asks.gathering {
		asks.gathering = true
		go n.fetchPresence()
	}
}

// askWhoIs asks all nodes who is in a room that has its first member here.
func (n *Namespace) askWhoIs(room string) {
	if _, isUser := userOf(room); !isUser && n.presences.used.Load() {
		n.askNodes(room, "")
	}
}

// unask undoes askNodes for all nodes.
func (n *Namespace) unask(room string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.presences.asks.rooms[""], room)
}

// takeAsks returns the rooms to ask for, by node, and forgets them; some reports whether any
// waited. It leaves out rooms that are nothing to this node any more.
func (n *Namespace) takeAsks() (taken map[string][]string, some bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	asks := &n.presences.asks
	taken = make(map[string][]string)
	for node, rooms := range asks.rooms {
		for room := range rooms {
			_, ofAll := asks.rooms[""][room]
			if node != "" && ofAll || n.rooms[room] == nil && n.presences.byRoom[room] == nil {
				continue
			}
			taken[node] = append(taken[node], room)
		}
	}
	asks.gathering = len(asks.rooms) > 0
	asks.rooms = nil
	return taken, asks.gathering
}

// presenceQuestion asks for all that others have of some rooms.
type presenceQuestion struct {
	*clusterRequest
	rooms []string
	at    int64 // nanotime
}

// fetchPresence asks what is to be asked, and learns from the answers. A question that is lost is
// asked again when the node says which update was its last.
func (n *Namespace) fetchPresence() {
	asks, some := n.takeAsks()
	if !some {
		return
	}
	time.AfterFunc(n.hub.options.Presence.Interval, n.fetchPresence)
	c := n.hub.cluster
	var topics []string
	for _, rooms := range asks {
		for _, room := range rooms {
			topics = append(topics, roomTopic(n.name, room))
		}
	}
	c.await(context.Background(), topics) // what changes after the answer must come
	others := c.others()
	var questions []presenceQuestion
	for node, rooms := range asks {
		if len(others) > 0 && (node == "" || slices.Contains(others, node)) {
			questions = append(questions, n.question(node, rooms)...)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), clusterWait)
	defer cancel()
	for _, q := range questions {
		values, _ := q.wait(ctx) // of who does not answer nothing is learned
		n.learn(&q, values)
	}
}

// question asks a node, or all, for rooms, by messages that a broker takes.
func (n *Namespace) question(node string, rooms []string) (list []presenceQuestion) {
	size, start := 0, 0
	for i, room := range rooms {
		if size += len(room) + len(`"",`); size > sureToFit/2 || i == len(rooms)-1 {
			m := clusterMessage{kind: clusterPresenceWhole, namespace: n.name, rooms: rooms[start : i+1]}
			at := nanotime()
			list = append(list, presenceQuestion{n.hub.cluster.ask(node, &m), m.rooms, at})
			size, start = 0, i+1
		}
	}
	return list
}

// learn takes the answers to a question.
func (n *Namespace) learn(q *presenceQuestion, values []json.RawMessage) {
	type source struct {
		node string
		room int // its place in the question
	}
	whole := make(map[source]*presenceUpdate)
	var answered []string // the nodes that have answered to the end
	for _, part := range decodeAll[presenceUpdate](values) {
		from := source{part.Node, part.Room}
		if part.Version == 0 {
			answered = append(answered, part.Node)
		} else if before := whole[from]; before == nil {
			whole[from] = &part
		} else if before.Version == part.Version {
			before.Set = append(before.Set, part.Set...)
		}
	}
	for _, node := range answered {
		for i, room := range q.rooms {
			n.learnOf(room, node, whole[source{node, i}], q.at)
		}
	}
}

// learnOf notes all that a node has of a room; nil if it knows nothing of it. It was asked at the
// nanotime at.
func (n *Namespace) learnOf(room, node string, u *presenceUpdate, at int64) {
	p := n.presences.find(n, room)
	if p == nil && u != nil && u.Count > 0 {
		if p = n.presenceOf(room); p != nil {
			n.unask(room) // this is the answer
		}
	}
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch b := p.shared.blocks[node]; {
	case p.closed || p.shared.deserted:
	case u == nil:
		if b != nil && b.heard <= at { // it has said nothing since
			p.forget(node, after(p.options().Grace))
		}
	case u.Silent || len(u.Set) == u.Count:
		p.update(node, *u, nanotime())
	}
}

// answerPresence answers a node that asks for the entries of this one in rooms. An update of
// version 0 ends the answer: of the other rooms it knows nothing.
func (h *Hub) answerPresence(q *clusterMessage) [][]byte {
	var parts []presenceUpdate
	if n := h.namespace(q.namespace); n != nil {
		for i, room := range q.rooms {
			if p := n.presences.find(n, room); p != nil {
				p.mu.Lock()
				parts = append(parts, p.whole(i)...)
				p.mu.Unlock()
			}
		}
	}
	return encodeAll(append(parts, presenceUpdate{Node: h.node}))
}
