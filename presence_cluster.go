package atrium

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// The presence of a room on several nodes. Each node owns the entries of its sockets, and numbers
// their changes: what it publishes to the room's topic follows the number before by 1. A node that
// misses a number asks for all that the other has. So that it notices also if nothing comes, each
// node says by which number it is, every second; see Hub.beat.

const (
	// presenceLinger is how long a node remembers a presence of nobody, so that it can say that
	// nobody is there.
	presenceLinger = 10 * time.Second
	// presenceTrust is how long what another node has is believed without a word of it.
	presenceTrust = 30 * time.Second
	// maxPresenceDigest bounds the rooms that a node speaks of in a second. More take turns.
	maxPresenceDigest = 1000
	// maxPresenceAhead bounds the updates of a node that wait for one that was missed.
	maxPresenceAhead = 100
)

// presenceShared is what a presence has to do with other nodes. Without a Bus it is hardly used.
type presenceShared struct {
	version  uint64              // the number of the last update of the own sockets
	changed  map[string]struct{} // the own sockets that have changed since; nil without a Bus
	silent   bool                // there are too many of them: only their number is told
	spoken   bool                // there was an update
	saidAt   int64               // nanotime when Hub.beat last spoke of it, or when it began
	blocks   map[string]*presenceBlock
	unlisted int // the sockets of other nodes of which only the number is known

	deserted   bool  // it has had no members here for a grace: what other nodes say is ignored
	emptySince int64 // nanotime when it lost its last member here; 0: it has some
	idleSince  int64 // nanotime since which nobody is there; 0: somebody is
}

// presenceBlock is what is known of the entries of another node; presenceState has them.
type presenceBlock struct {
	version  uint64 // 0: not known
	unlisted int    // how many there are if only that is known
	silent   bool   // only that is known
	heard    int64  // nanotime of the last word of them
	ahead    []presenceUpdate
}

// presenceUpdate says what has changed with the entries of a node, or what they all are.
type presenceUpdate struct {
	Node    string           `json:"node,omitempty"` // set in answers
	Room    int              `json:"room,omitempty"` // in answers: its place in the question
	Version uint64           `json:"v"`              // 0 ends an answer
	Count   int              `json:"n"`              // entries after it
	Whole   bool             `json:"whole,omitempty"`
	Silent  bool             `json:"silent,omitempty"` // it has no more than the count
	Set     []presenceSocket `json:"set,omitempty"`
	Gone    []string         `json:"gone,omitempty"` // socket ids
}

// presenceSocket is an entry between nodes.
type presenceSocket struct {
	ID   string          `json:"s"`
	Key  string          `json:"k"`
	Info json.RawMessage `json:"i"`
}

func (s *presenceSocket) size() int {
	return len(`{"s":"","k":"","i":},`) + len(s.ID) + len(s.Key) + len(s.Info)
}

// share makes the presence known to the cluster. p.mu is held, here and in all methods of a
// presenceRoom below that do not say otherwise.
func (p *presenceRoom) share() {
	p.shared.saidAt = nanotime()
	p.shared.version = uint64(p.shared.saidAt) // greater than all of an earlier presence of the room
	c := p.ns.hub.cluster
	if c == nil {
		return
	}
	p.shared.changed, p.shared.blocks = make(map[string]struct{}), make(map[string]*presenceBlock)
	c.topics.acquire(p.topic())
	p.ask("")
}

func (p *presenceRoom) unshare() {
	if c := p.ns.hub.cluster; c != nil {
		c.topics.release(p.topic())
	}
}

func (p *presenceRoom) topic() string { return roomTopic(p.ns.name, p.name) }

// note notes that a socket of this node has changed.
func (s *presenceShared) note(socket string) {
	if s.changed != nil {
		s.changed[socket] = struct{}{}
	}
}

// publish tells the other nodes what has changed here.
func (p *presenceRoom) publish() {
	s := &p.shared
	if len(s.changed) == 0 {
		return
	}
	node, was := p.ns.hub.node, s.silent
	own := p.state.nodes[node]
	if s.silent = p.isTooMuch(len(own), p.state.bytes[node], was); was && !s.silent {
		for socket := range own {
			s.changed[socket] = struct{}{}
		}
	}
	s.spoken = true
	u, size := presenceUpdate{}, 0
	send := func(last bool) {
		s.version++
		u.Version, u.Count, u.Silent = s.version, len(own), s.silent
		u.Whole = last && (s.silent || len(u.Set) == len(own))
		body, _ := json.Marshal(&u) // of what was encoded before
		m := clusterMessage{kind: clusterPresence, namespace: p.ns.name, scoped: true, rooms: []string{p.name}}
		m.args = args{json: body, n: 1}
		p.ns.hub.cluster.send(p.topic(), &m)
		u, size = presenceUpdate{}, 0
	}
	for socket := range s.changed {
		if s.silent {
			break
		}
		if e := own[socket]; e != nil {
			u.Set = append(u.Set, presenceSocket{socket, e.key, e.info})
			size += u.Set[len(u.Set)-1].size()
		} else {
			u.Gone = append(u.Gone, socket)
			size += len(socket) + len(`"",`)
		}
		if size > sureToFit/2 {
			send(false)
		}
	}
	send(true)
	clear(s.changed)
}

// whole returns the entries of this node, in parts that a broker takes. room is the place of the
// room in the question.
func (p *presenceRoom) whole(room int) (parts []presenceUpdate) {
	own := p.state.nodes[p.ns.hub.node]
	u := presenceUpdate{Node: p.ns.hub.node, Room: room, Version: p.shared.version, Count: len(own), Whole: true, Silent: p.shared.silent}
	if !u.Silent {
		size := 0
		for socket, e := range own {
			u.Set = append(u.Set, presenceSocket{socket, e.key, e.info})
			if size += u.Set[len(u.Set)-1].size(); size > sureToFit/2 {
				parts = append(parts, u)
				u.Set, size = nil, 0
			}
		}
	}
	return append(parts, u)
}

// update handles an update of another node.
func (p *presenceRoom) update(node string, u presenceUpdate, now int64) {
	b := p.shared.blocks[node]
	if b == nil {
		b = new(presenceBlock)
		p.shared.blocks[node] = b
	}
	b.heard = now
	if u.Version <= b.version {
		return // it has come before
	}
	if !p.apply(node, b, &u) {
		if len(b.ahead) < maxPresenceAhead {
			b.ahead = append(b.ahead, u)
		}
		p.ask(node)
		return
	}
	p.catchUp(node, b)
}

// apply makes an update if it follows what is known, and reports whether it does.
func (p *presenceRoom) apply(node string, b *presenceBlock, u *presenceUpdate) bool {
	follows := b.version != 0 && u.Version == b.version+1 && !b.silent
	if !u.Whole && !follows {
		return false
	}
	b.version = u.Version
	p.shared.unlisted -= b.unlisted
	b.silent, b.unlisted = u.Silent, 0
	grace := after(p.options().Grace)
	switch {
	case u.Silent:
		b.unlisted = u.Count
		p.state.replace(node, nil, grace)
	case u.Whole:
		p.state.replace(node, u.entries(), grace)
	default:
		for _, socket := range u.Gone { // first, so that who has come takes the place of one of these
			p.state.unset(node, socket, grace)
		}
		for _, s := range u.Set {
			p.state.set(node, s.ID, &presenceEntry{s.Key, s.Info})
		}
	}
	p.shared.unlisted += b.unlisted
	p.wake(after(p.options().Interval))
	return true
}

// catchUp makes the updates that had come before what they follow.
func (p *presenceRoom) catchUp(node string, b *presenceBlock) {
	ahead := b.ahead
	b.ahead = nil
	slices.SortFunc(ahead, func(a, b presenceUpdate) int { return int(int64(a.Version - b.Version)) })
	for i := range ahead {
		if ahead[i].Version > b.version && !p.apply(node, b, &ahead[i]) {
			b.ahead = append(b.ahead, ahead[i])
		}
	}
	if len(b.ahead) > 0 {
		p.ask(node)
	}
}

func (u *presenceUpdate) entries() map[string]*presenceEntry {
	entries := make(map[string]*presenceEntry, len(u.Set))
	for _, s := range u.Set {
		entries[s.ID] = &presenceEntry{s.Key, s.Info}
	}
	return entries
}

// forget forgets what another node has. Its sockets keep their places until then.
func (p *presenceRoom) forget(node string, until int64) {
	b := p.shared.blocks[node]
	if b == nil {
		return
	}
	delete(p.shared.blocks, node)
	p.shared.unlisted -= b.unlisted
	p.state.replace(node, nil, until)
	p.wake(after(p.options().Interval))
}

func (p *presenceRoom) forgetOthers(now int64) {
	for node := range p.shared.blocks {
		p.forget(node, now)
	}
}

// ask has a node asked for all that it has; all nodes if it is "".
func (p *presenceRoom) ask(node string) {
	if !p.closed {
		p.ns.askNodes(p.name, node)
	}
}

// presence implements clusterHost: it handles an update of another node.
func (h *Hub) presence(m *clusterMessage) {
	n := h.retain(m.namespace)
	if n == nil {
		return
	}
	defer h.release(n)
	var u presenceUpdate
	if len(m.rooms) != 1 || json.Unmarshal(m.args.json, &u) != nil {
		return
	}
	if p := n.presenceOf(m.rooms[0]); p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.closed && !p.shared.deserted {
			p.update(m.from, u, nanotime())
		}
	}
}

// presenceOf returns the presence of a room of which another node knows; nil if that is nothing to
// this one, because nobody here is in the room.
func (n *Namespace) presenceOf(room string) *presenceRoom {
	n.presences.used.Store(true)
	if p := n.presences.find(n, room); p != nil || n.room(room) == nil {
		return p
	}
	return n.presences.open(n, room, nil)
}

// presenceDigest implements clusterHost: it compares what another node says of its updates with
// what is known here.
func (h *Hub) presenceDigest(m *clusterMessage) {
	n := h.retain(m.namespace)
	if n == nil {
		return
	}
	defer h.release(n)
	var versions []uint64
	if json.Unmarshal(m.args.json, &versions) != nil || len(versions) != len(m.rooms) {
		return
	}
	now := nanotime()
	for i, room := range m.rooms {
		p := n.presenceOf(room)
		if p == nil {
			continue
		}
		p.mu.Lock()
		if !p.shared.deserted && p.shared.blocks != nil {
			b := p.shared.blocks[m.from]
			if b != nil {
				b.heard = now
			}
			if b == nil || b.version < versions[i] {
				p.ask(m.from)
			}
		}
		p.mu.Unlock()
	}
}

// namespace returns the namespace of that name; nil if there is none.
func (h *Hub) namespace(name string) *Namespace {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.namespaces[name]
}

// presenceRooms lists the presences of the hub, in no particular order.
func (h *Hub) presenceRooms() (list []*presenceRoom) {
	h.mu.Lock()
	namespaces := slices.Collect(maps.Values(h.namespaces))
	h.mu.Unlock()
	for _, n := range namespaces {
		if n.presences.used.Load() {
			list = append(list, n.presenceRooms()...)
		}
	}
	return list
}

func (n *Namespace) presenceRooms() []*presenceRoom {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return slices.Collect(maps.Values(n.presences.byRoom))
}

// lost implements clusterHost: a node has gone, and its sockets with it. After its goodbye they are
// elsewhere soon; if it was not heard of for nodeTimeout, they would be by now.
func (h *Hub) lost(node string, goodbye bool) {
	until := nanotime()
	if goodbye {
		until = after(h.options.Presence.Grace)
	}
	for _, p := range h.presenceRooms() {
		p.mu.Lock()
		p.forget(node, until)
		p.mu.Unlock()
	}
}

// beat implements clusterHost: it tells the other nodes which updates of this one were the last,
// and asks those that have not been heard of for long.
func (h *Hub) beat() {
	now, others, rooms := nanotime(), h.cluster.others(), h.presenceRooms()
	trust := presenceTrust + time.Duration(len(rooms)/maxPresenceDigest)*nodeHeartbeat // they may have as many rooms
	var said []presenceSaid
	for _, p := range rooms {
		p.mu.Lock()
		for node, b := range p.shared.blocks {
			switch silence := now - b.heard; {
			case silence > int64(nodeTimeout) && !slices.Contains(others, node): // this came after it had gone
				p.forget(node, now)
			case silence > int64(trust) && (b.unlisted > 0 || len(p.state.nodes[node]) > 0):
				b.heard = now
				p.ask(node)
			}
		}
		if p.shared.spoken {
			said = append(said, presenceSaid{p, p.shared.saidAt})
		}
		p.mu.Unlock()
	}
	if len(said) > maxPresenceDigest { // those of which it was said longest ago
		slices.SortFunc(said, func(a, b presenceSaid) int { return cmp.Compare(a.at, b.at) })
		said = said[:maxPresenceDigest]
	}
	h.sendDigests(said, now)
}

// presenceSaid is a presence and its saidAt.
type presenceSaid struct {
	p  *presenceRoom
	at int64
}

// sendDigests tells the other nodes which updates of these presences were the last, by messages
// that a broker takes. It locks.
func (h *Hub) sendDigests(said []presenceSaid, now int64) {
	digests := make(map[*Namespace]*presenceDigest)
	for _, it := range said {
		d := digests[it.p.ns]
		if d == nil {
			d = new(presenceDigest)
			digests[it.p.ns] = d
		}
		it.p.mu.Lock()
		it.p.shared.saidAt = now
		d.add(it.p.name, it.p.shared.version)
		it.p.mu.Unlock()
		if d.size > sureToFit/2 {
			d.send(it.p.ns)
			delete(digests, it.p.ns)
		}
	}
	for n, d := range digests {
		d.send(n)
	}
}

// presenceDigest says of rooms which update was the last.
type presenceDigest struct {
	rooms    []string
	versions []uint64
	size     int // about, in bytes
}

func (d *presenceDigest) add(room string, version uint64) {
	d.rooms, d.versions = append(d.rooms, room), append(d.versions, version)
	d.size += len(room) + len("1000000000000000,")
}

func (d *presenceDigest) send(n *Namespace) {
	body, _ := json.Marshal(d.versions)
	m := clusterMessage{kind: clusterPresenceDigest, namespace: n.name, rooms: d.rooms}
	m.args = args{json: body, n: 1}
	n.hub.cluster.send(everyNode, &m)
}
