package atrium

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// What a restart keeps of presence. A hub leaves the places in it to its successor (see
// Recovery.Path), which holds them until the clients are back: nobody has left, and nobody joins.

// presenceReturn is how long a hub holds the places that it was left, beside the grace: the longest
// pause between two attempts of a client (Backoff.Max).
const presenceReturn = 5 * time.Second

// presenceHold are the places of a predecessor's sockets in a room whose clients have not come back
// yet. They count as sockets of this hub.
type presenceHold struct {
	sockets map[string]struct{} // by id
	until   int64               // nanotime at which they lose their places
}

// savedPlace is the place of a socket in a room's presence, or what a client that is away will be
// in the room.
type savedPlace struct {
	Socket string          `json:"s,omitempty"`
	Key    string          `json:"k"`
	Info   json.RawMessage `json:"i"`
}

func (s *savedPlace) entry() (*presenceEntry, error) { return newPresenceEntry(s.Key, s.Info) }

// place returns what the client will be in the room; nil if it is not present there.
func (s *stay) place() *savedPlace {
	if s.present == nil {
		return nil
	}
	return &savedPlace{Key: s.present.key, Info: s.present.info}
}

// checkPlaces checks the places in a room that were read; without a name it is who is online.
func checkPlaces(room string, places []savedPlace) error {
	if _, isID := nodeOfID(room); isID || room != "" && checkRoomName(room) != nil {
		return errors.New("namespace: it has presence where there is no room")
	}
	known := make(map[string]bool)
	for i := range places {
		p := &places[i]
		if _, isID := nodeOfID(p.Socket); !isID || known[p.Socket] {
			return errors.New("namespace: its presence is of no socket")
		}
		known[p.Socket] = true
		if _, err := p.entry(); err != nil {
			return fmt.Errorf("namespace: %w", err)
		}
	}
	return nil
}

// renamed returns the map with another name for a room. It may be the same.
func renamed(places map[string][]savedPlace, from, to string) map[string][]savedPlace {
	if list, has := places[from]; has {
		places = maps.Clone(places)
		delete(places, from)
		places[to] = list
	}
	return places
}

// places returns the places in the room, also of sockets that have gone and not lost them, and of
// those of other nodes: the successor is not told of them at once. p.mu is held, here and in all
// methods of a presenceRoom below.
func (p *presenceRoom) places(now int64) (list []savedPlace) {
	for key, spots := range p.state.keys {
		for i := range spots {
			if s := &spots[i]; s.holds(now) {
				list = append(list, savedPlace{s.socket, key, s.info})
			}
		}
	}
	return list
}

// inheritPlaces holds the places that a predecessor has left. The caller holds the recovery's lock.
func (n *Namespace) inheritPlaces(left *savedNamespace) {
	until := left.read + int64(presenceReturn+n.hub.options.Presence.Grace)
	if until <= nanotime() { // a namespace of OfFunc may come into being late
		return
	}
	for room, list := range left.places {
		var hidden func(joined, left []Present)
		if room == userMark {
			hidden = n.reportUsers
		}
		p := n.presences.lock(n, room, hidden)
		p.hold(list, n.recovery.away, until)
		p.mu.Unlock()
	}
}

// hold has the sockets that a predecessor knew keep their places. Those of clients that are away
// come back to this hub, which tells other nodes of them. The others come back as other sockets, of
// whatever node, or are on other nodes, of which this one is still to hear.
func (p *presenceRoom) hold(places []savedPlace, away map[string]*kept, until int64) {
	p.held = presenceHold{make(map[string]struct{}), until}
	node := p.ns.hub.node
	came := make(map[string]int) // by key, those who have come while the predecessor was there
	if p.ns.hub.cluster == nil { // it would know of them
		for _, e := range p.state.nodes[node] {
			came[e.key]++
		}
	}
	for _, place := range places {
		e, err := place.entry()
		if err != nil {
			continue // it was checked
		}
		if came[e.key] > 0 {
			came[e.key]--
			continue
		}
		switch {
		case away[place.Socket] != nil:
			p.state.set(node, place.Socket, e)
			p.held.sockets[place.Socket] = struct{}{}
			p.shared.note(place.Socket)
		case !p.state.has(place.Socket):
			p.state.set(node, place.Socket, e)
			p.state.unset(node, place.Socket, until)
		}
	}
	p.wake(after(p.options().Interval))
}

// takeHeld notes that a socket of this node comes: the one whose place is held or, if its client
// begins anew, another of its key.
func (p *presenceRoom) takeHeld(socket, key string) {
	if len(p.held.sockets) == 0 {
		return
	}
	if p.state.nodes[p.ns.hub.node][socket] != nil {
		delete(p.held.sockets, socket)
		return
	}
	for i := range p.state.keys[key] {
		spot := &p.state.keys[key][i]
		if _, held := p.held.sockets[spot.socket]; held {
			p.unset(spot.socket)
			return
		}
	}
}

// endHold takes the places from those who have not come back in time.
func (p *presenceRoom) endHold(now int64) {
	switch {
	case len(p.held.sockets) == 0:
	case now < p.held.until:
		p.wake(p.held.until)
	default:
		for socket := range p.held.sockets {
			p.state.unset(p.ns.hub.node, socket, now)
			p.shared.note(socket)
		}
		p.held.sockets = nil
	}
}

// until returns the nanotime at which a socket that goes now loses its place. While the hub shuts
// down nobody loses it: they are with the hub that comes after, or on another node, soon.
func (p *presenceRoom) until() int64 {
	if p.ns.hub.isClosing() {
		return endless
	}
	return after(p.options().Grace)
}

// handsOver reports whether the socket, which is about to leave for the reason, is to come back to
// the hub's successor: its places stay as they are. The caller holds s.mu.
func (s *Socket) handsOver(reason Reason) bool {
	return reason == ReasonShutdown && s.kept != nil && s.ns.hub.options.Recovery.saves()
}

// endPresence ends all presences, with the hub, and returns the places in them.
func (h *Hub) endPresence() map[*Namespace]map[string][]savedPlace {
	all := make(map[*Namespace]map[string][]savedPlace)
	now := nanotime()
	for _, p := range h.presenceRooms() {
		p.mu.Lock()
		if list := p.places(now); len(list) > 0 {
			if all[p.ns] == nil {
				all[p.ns] = make(map[string][]savedPlace)
			}
			all[p.ns][p.name] = list
		}
		p.close()
		p.mu.Unlock()
	}
	return all
}
