package atrium

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// presenceEntry is what a socket is in a room's presence. It does not change.
type presenceEntry struct {
	key  string
	info json.RawMessage
}

// size is about how many bytes it takes in a list.
func (e *presenceEntry) size() int { return len(`{"key":"","infos":[]},`) + len(e.key) + len(e.info) }

// presenceSpot is a socket's place under its key. One that has gone keeps its place for the grace,
// or until another socket of that key takes it.
type presenceSpot struct {
	node, socket string
	info         json.RawMessage
	until        int64 // nanotime at which one that has gone loses its place; 0: it has not gone
}

func (s *presenceSpot) holds(now int64) bool { return s.until == 0 || s.until > now }

// of reports whether it is that of a node's socket which has not gone.
func (s *presenceSpot) of(node, socket string) bool {
	return s.until == 0 && s.socket == socket && s.node == node
}

// presenceState is who is in a room, and what was told of it, without a lock and without a clock.
type presenceState struct {
	nodes map[string]map[string]*presenceEntry // those that have not gone, by node and socket id
	keys  map[string][]presenceSpot
	told  []Present           // what was told last, by key; it is replaced and not changed
	dirty map[string]struct{} // the keys of which something else may be true now, or soon
	bytes map[string]int      // what the sockets of each node take in a list, about

	spots, spotBytes int // how many are in keys, those of who has gone included, and what they take
}

func newPresenceState() presenceState {
	return presenceState{nodes: make(map[string]map[string]*presenceEntry), keys: make(map[string][]presenceSpot),
		told: []Present{}, dirty: make(map[string]struct{}), bytes: make(map[string]int)}
}

// presenceChange is the difference between what is true and what was told, by key.
type presenceChange struct{ joined, changed, left []Present }

func (c *presenceChange) isEmpty() bool {
	return len(c.joined) == 0 && len(c.changed) == 0 && len(c.left) == 0
}

// set enters a node's socket, or replaces what it was. It takes the place that it has under its
// key, on another node too: a hub may succeed another. Otherwise it takes that of one which has
// gone, the first that would be lost.
func (p *presenceState) set(node, socket string, e *presenceEntry) {
	sockets := p.nodes[node]
	if sockets == nil {
		sockets = make(map[string]*presenceEntry)
		p.nodes[node] = sockets
	}
	if before := sockets[socket]; before != nil {
		p.bytes[node] -= before.size()
		if before.key != e.key {
			p.drop(before.key, func(s *presenceSpot) bool { return s.of(node, socket) })
			p.dirty[before.key] = struct{}{}
		}
	}
	sockets[socket] = e
	p.bytes[node] += e.size()
	spots := p.keys[e.key]
	free := -1
	for i := range spots {
		if spots[i].socket == socket {
			free = i
			break
		}
		if until := spots[i].until; until != 0 && (free < 0 || until < spots[free].until) {
			free = i
		}
	}
	spot := presenceSpot{node: node, socket: socket, info: e.info}
	if free >= 0 {
		p.spotBytes += len(e.info) - len(spots[free].info)
		spots[free] = spot
	} else {
		p.spots, p.spotBytes = p.spots+1, p.spotBytes+e.size()
		p.keys[e.key] = append(spots, spot)
	}
	p.dirty[e.key] = struct{}{}
}

// drop takes their places from those of a key that have lost them.
func (p *presenceState) drop(key string, lost func(*presenceSpot) bool) {
	p.keys[key] = slices.DeleteFunc(p.keys[key], func(s presenceSpot) bool {
		if !lost(&s) {
			return false
		}
		p.spots, p.spotBytes = p.spots-1, p.spotBytes-(&presenceEntry{key, s.info}).size()
		return true
	})
	if len(p.keys[key]) == 0 {
		delete(p.keys, key)
	}
}

// unset notes that a node's socket has gone. It keeps its place until then.
func (p *presenceState) unset(node, socket string, until int64) {
	e := p.nodes[node][socket]
	if e == nil {
		return
	}
	delete(p.nodes[node], socket)
	p.bytes[node] -= e.size()
	if len(p.nodes[node]) == 0 {
		delete(p.nodes, node)
		delete(p.bytes, node)
	}
	spots := p.keys[e.key]
	for i := range spots {
		if spots[i].of(node, socket) {
			spots[i].until = until
		}
	}
	p.dirty[e.key] = struct{}{}
}

// has reports whether a socket is there, on any node.
func (p *presenceState) has(socket string) bool {
	for _, sockets := range p.nodes {
		if sockets[socket] != nil {
			return true
		}
	}
	return false
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
	p.drop(key, func(s *presenceSpot) bool { return !s.holds(now) })
	spots := p.keys[key]
	for i := range spots {
		if until := spots[i].until; until != 0 && (next == 0 || until < next) {
			next = until
		}
	}
	return next
}

// expireAll takes the places from all that have lost them: of who has gone the key is dirty.
func (p *presenceState) expireAll(now int64) {
	for key := range p.dirty {
		p.expire(key, now)
	}
}

// advance returns what has changed since it was told, in the order of the keys, and notes that it
// is told; with mute it is not. It also returns when the next socket that has gone loses its place;
// 0 if none will.
func (p *presenceState) advance(now int64, mute bool) (change presenceChange, next int64) {
	for key := range p.dirty {
		told := p.toldOf(key)
		if at := p.expire(key, now); at != 0 {
			if next == 0 || at < next {
				next = at
			}
		} else if !mute || p.keys[key] == nil && told == nil {
			delete(p.dirty, key)
		}
		if mute {
			continue
		}
		infos := p.infos(key)
		switch {
		case infos == nil && told == nil:
		case infos == nil:
			change.left = append(change.left, Present{key, told})
		case told == nil:
			change.joined = append(change.joined, Present{key, infos})
		case !slices.EqualFunc(infos, told, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }):
			change.changed = append(change.changed, Present{key, infos})
		}
	}
	for _, list := range [][]Present{change.joined, change.changed, change.left} {
		sortPresents(list)
	}
	if !change.isEmpty() {
		p.told = change.apply(p.told)
	}
	return change, next
}

// toldOf returns the infos of a key that were told last; nil if none were.
func (p *presenceState) toldOf(key string) []json.RawMessage {
	if i, in := slices.BinarySearchFunc(p.told, key, comparePresent); in {
		return p.told[i].Infos
	}
	return nil
}

// apply returns a list, by key, with the change made.
func (c *presenceChange) apply(list []Present) []Present {
	joined, changed, left := c.joined, c.changed, c.left
	result := make([]Present, 0, len(list)+len(joined)-len(left))
	for i := range list {
		for len(joined) > 0 && joined[0].Key < list[i].Key {
			result, joined = append(result, joined[0]), joined[1:]
		}
		switch {
		case len(left) > 0 && left[0].Key == list[i].Key:
			left = left[1:]
		case len(changed) > 0 && changed[0].Key == list[i].Key:
			result, changed = append(result, changed[0]), changed[1:]
		default:
			result = append(result, list[i])
		}
	}
	return append(result, joined...)
}

// infos returns those of a key, of at most maxPresenceInfos sockets; nil if nobody is there.
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
	return infos[:min(len(infos), maxPresenceInfos)]
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

// touchAll has the next advance look at all keys.
func (p *presenceState) touchAll() {
	for key := range p.keys {
		p.dirty[key] = struct{}{}
	}
	for i := range p.told {
		p.dirty[p.told[i].Key] = struct{}{}
	}
}

// isEmpty reports whether nobody is there, and nobody was told otherwise.
func (p *presenceState) isEmpty() bool { return len(p.keys) == 0 && len(p.told) == 0 }

func sortPresents(list []Present) {
	slices.SortFunc(list, func(a, b Present) int { return strings.Compare(a.Key, b.Key) })
}

func comparePresent(p Present, key string) int { return strings.Compare(p.Key, key) }
