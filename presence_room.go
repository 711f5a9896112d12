package atrium

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// presenceEntry is what a socket is in a room's presence. It does not change.
type presenceEntry struct {
	key  string
	info json.RawMessage
}

// presenceSpot is a socket's place under its key. One that has gone keeps its place for the grace,
// or until another socket of that key takes it.
type presenceSpot struct {
	node, socket string
	info         json.RawMessage
	until        int64 // nanotime at which one that has gone loses its place; 0: it has not gone
}

func (s *presenceSpot) holds(now int64) bool { return s.until == 0 || s.until > now }

// presenceState is who is in a room, and what was told of it, without a lock and without a clock.
type presenceState struct {
	nodes map[string]map[string]*presenceEntry // those that have not gone, by node and socket id
	keys  map[string][]presenceSpot
	told  map[string][]json.RawMessage // what was told last; the infos of each key
	dirty map[string]struct{}          // the keys of which something else may be true now
}

func newPresenceState() presenceState {
	return presenceState{nodes: make(map[string]map[string]*presenceEntry), keys: make(map[string][]presenceSpot),
		told: make(map[string][]json.RawMessage), dirty: make(map[string]struct{})}
}

// presenceChange is the difference between what is true and what was told, by key.
type presenceChange struct{ joined, changed, left []Present }

func (c *presenceChange) isEmpty() bool {
	return len(c.joined) == 0 && len(c.changed) == 0 && len(c.left) == 0
}

// set enters a node's socket, or replaces what it was. It takes the place of one of its key that
// has gone: its own, or the one that would be lost first.
func (p *presenceState) set(node, socket string, e *presenceEntry) {
	sockets := p.nodes[node]
	if sockets == nil {
		sockets = make(map[string]*presenceEntry)
		p.nodes[node] = sockets
	}
	if before := sockets[socket]; before != nil {
		p.keys[before.key] = slices.DeleteFunc(p.keys[before.key], func(s presenceSpot) bool { return s.socket == socket && s.until == 0 })
		p.dirty[before.key] = struct{}{}
	}
	sockets[socket] = e
	spots := p.keys[e.key]
	free := -1
	for i := range spots {
		switch {
		case spots[i].until == 0:
		case spots[i].socket == socket:
			free = i
		case free < 0 || spots[free].socket != socket && spots[i].until < spots[free].until:
			free = i
		}
	}
	spot := presenceSpot{node: node, socket: socket, info: e.info}
	if free >= 0 {
		spots[free] = spot
	} else {
		p.keys[e.key] = append(spots, spot)
	}
	p.dirty[e.key] = struct{}{}
}

// unset notes that a node's socket has gone. It keeps its place until then.
func (p *presenceState) unset(node, socket string, until int64) {
	e := p.nodes[node][socket]
	if e == nil {
		return
	}
	delete(p.nodes[node], socket)
	if len(p.nodes[node]) == 0 {
		delete(p.nodes, node)
	}
	spots := p.keys[e.key]
	for i := range spots {
		if spots[i].socket == socket && spots[i].until == 0 {
			spots[i].until = until
		}
	}
	p.dirty[e.key] = struct{}{}
}

// replace makes these the sockets of a node. Those that are not among them keep their places until
// then.
func (p *presenceState) replace(node string, sockets map[string]*presenceEntry, until int64) {
	for socket := range p.nodes[node] {
		if sockets[socket] == nil {
			p.unset(node, socket, until)
		}
	}
	for socket, e := range sockets {
		if before := p.nodes[node][socket]; before == nil || before.key != e.key || !bytes.Equal(before.info, e.info) {
			p.set(node, socket, e)
		}
	}
}

// expire takes the places from those of a key that have lost them, and returns when the next one
// loses its own; 0 if none will.
func (p *presenceState) expire(key string, now int64) (next int64) {
	spots := slices.DeleteFunc(p.keys[key], func(s presenceSpot) bool { return !s.holds(now) })
	if len(spots) == 0 {
		delete(p.keys, key)
		return 0
	}
	p.keys[key] = spots
	for i := range spots {
		if until := spots[i].until; until != 0 && (next == 0 || until < next) {
			next = until
		}
	}
	return next
}

// advance returns what has changed since it was told, in the order of the keys, and notes that it
// is told; with mute it is not. It also returns when the next socket that has gone loses its place;
// 0 if none will.
func (p *presenceState) advance(now int64, mute bool) (change presenceChange, next int64) {
	for key := range p.dirty {
		if at := p.expire(key, now); at != 0 {
			if next == 0 || at < next {
				next = at
			}
		} else if !mute || p.keys[key] == nil && p.told[key] == nil {
			delete(p.dirty, key)
		}
		if mute {
			continue
		}
		infos, told := p.infos(key), p.told[key]
		switch {
		case infos == nil && told == nil:
		case infos == nil:
			change.left = append(change.left, Present{key, told})
			delete(p.told, key)
		case told == nil:
			change.joined = append(change.joined, Present{key, infos})
			p.told[key] = infos
		case !slices.EqualFunc(infos, told, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }):
			change.changed = append(change.changed, Present{key, infos})
			p.told[key] = infos
		}
	}
	for _, list := range [][]Present{change.joined, change.changed, change.left} {
		sortPresents(list)
	}
	return change, next
}

// infos returns those of a key; nil if nobody is there.
func (p *presenceState) infos(key string) []json.RawMessage {
	spots := p.keys[key]
	if len(spots) == 0 {
		return nil
	}
	infos := make([]json.RawMessage, len(spots))
	for i := range spots {
		infos[i] = spots[i].info
	}
	slices.SortFunc(infos, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
	return infos
}

// list returns who is there, by key.
func (p *presenceState) list(now int64) []Present {
	list := make([]Present, 0, len(p.keys))
	for key := range p.keys {
		p.expire(key, now)
		if infos := p.infos(key); infos != nil {
			list = append(list, Present{key, infos})
		}
	}
	sortPresents(list)
	return list
}

// all returns what was told, by key.
func (p *presenceState) all() []Present {
	list := make([]Present, 0, len(p.told))
	for key, infos := range p.told {
		list = append(list, Present{key, infos})
	}
	sortPresents(list)
	return list
}

// touchAll has the next advance look at all keys.
func (p *presenceState) touchAll() {
	for key := range p.keys {
		p.dirty[key] = struct{}{}
	}
	for key := range p.told {
		p.dirty[key] = struct{}{}
	}
}

// isEmpty reports whether nobody is there, and nobody was told otherwise.
func (p *presenceState) isEmpty() bool { return len(p.keys) == 0 && len(p.told) == 0 }

func sortPresents(list []Present) {
	slices.SortFunc(list, func(a, b Present) int { return strings.Compare(a.Key, b.Key) })
}

// presenceNews is what is to be reported to the application. What it has not been told yet is
// taken together, so that a slow function finds no queue.
type presenceNews struct{ joined, left map[string]Present }

// add adds a change. Who has left before it was reported that they joined was never there.
func (n *presenceNews) add(c *presenceChange) {
	if n.joined == nil {
		n.joined, n.left = make(map[string]Present), make(map[string]Present)
	}
	for _, p := range c.left {
		if _, unreported := n.joined[p.Key]; unreported {
			delete(n.joined, p.Key)
		} else {
			n.left[p.Key] = p
		}
	}
	for _, p := range c.joined {
		if _, unreported := n.left[p.Key]; unreported {
			delete(n.left, p.Key)
		} else {
			n.joined[p.Key] = p
		}
	}
}

// take returns the news by key, and forgets them.
func (n *presenceNews) take() (joined, left []Present) {
	joined, left = slices.Collect(maps.Values(n.joined)), slices.Collect(maps.Values(n.left))
	*n = presenceNews{}
	sortPresents(joined)
	sortPresents(left)
	return joined, left
}
