package atrium

import (
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
)

// ClientPresence is who is in a room that the client is in; see Socket.Present. It is kept up to
// date while the client is connected, and is what it was last while it is not. Its methods may be
// called from any goroutine.
type ClientPresence struct {
	client *Client
	room   string
	known  atomic.Pointer[knownPresence]
	change atomic.Pointer[func([]Present)]

	// Used where the client's handlers run, one at a time.
	infos   map[string][]json.RawMessage
	version uint64 // of the latest event; 0: the state is to come, and changes are ignored until then
	asked   bool   // the hub was asked for it on this connection
	part    int    // of a state, that is to come next; 0: none
}

// knownPresence is what a ClientPresence tells.
type knownPresence struct {
	list  []Present
	count int
}

// Presence returns who is in a room: a list that the hub keeps up to date, without a handler. The
// hub tells those who are in the room, so that the list is empty until the client has joined it,
// and when it has left. The list asks the hub who is there when the client is connected, after the
// functions of OnConnect, which may join the room, when Presence is called later than that, and
// when it has missed a change. Several for one room are independent; Close ends one. A server that
// is no hub does not answer: the list stays empty.
func (c *Client) Presence(room string) *ClientPresence {
	p := &ClientPresence{client: c, room: room, infos: make(map[string][]json.RawMessage)}
	p.known.Store(new(knownPresence))
	c.registry.update(func(r *functions[*Client]) { r.watch = append(r.watch, p) })
	c.inbox.put(c.note("Presence", func(*functions[*Client]) { // bounded by the presences
		if c.State() == StateOpen {
			p.ask()
		}
	}))
	return p
}

// List returns who is there, by key. It is empty also if the room has more sockets than the hub
// lists, which Count counts. Do not change it.
func (p *ClientPresence) List() []Present { return p.known.Load().list }

// Count returns how many keys there are or, if there are too many for a List, how many sockets.
func (p *ClientPresence) Count() int { return p.known.Load().count }

// OnChange sets the function that is called with the List after each change, like a handler; nil
// means none.
func (p *ClientPresence) OnChange(f func([]Present)) {
	if f == nil {
		p.change.Store(nil)
		return
	}
	p.change.Store(&f)
}

// ask asks the hub for all, unless it was asked. The answer is an event like the others, so that a
// server that gives none is waited for by nobody. If the question cannot be sent, the next change
// is one more reason to ask.
func (p *ClientPresence) ask() {
	p.version, p.part = 0, 0
	if !p.asked {
		p.asked = p.client.Emit(presenceEventName, map[string]string{"room": p.room}) == nil
	}
}

// forget has the list ask when the client is connected again.
func (p *ClientPresence) forget() { p.version, p.part, p.asked = 0, 0, false }

// Close ends it: the list stays as it is, and OnChange's function is not called any more, except
// for an event that is being handled. It does nothing the second time.
func (p *ClientPresence) Close() {
	p.client.registry.update(func(r *functions[*Client]) {
		r.watch = slices.DeleteFunc(slices.Clone(r.watch), func(w presenceWatcher) bool { return w == p })
	})
}

// take handles an event named presence.
func (p *ClientPresence) take(data []json.RawMessage) {
	var e presenceEvent
	if len(data) == 0 || json.Unmarshal(data[0], &e) != nil || e.Room != p.room {
		return
	}
	switch {
	case (e.State != nil || e.Count != nil) && e.Part == 0:
		p.infos = make(map[string][]json.RawMessage)
	case e.State != nil && e.Part == p.part && e.Version == p.version:
	case p.version == 0 || p.part > 0 || e.Part != 0 || e.Version != p.version+1:
		p.ask()
		return
	}
	p.version = e.Version
	for _, list := range [][]Present{e.State, e.Joined, e.Changed} {
		for _, present := range list {
			p.infos[present.Key] = present.Infos
		}
	}
	for _, key := range e.Left {
		delete(p.infos, key)
	}
	if e.Part+1 < e.Parts {
		p.part = e.Part + 1
		return
	}
	p.part, p.asked = 0, false
	known := &knownPresence{count: len(p.infos)}
	if e.Count != nil {
		known.count = *e.Count
	}
	for key, infos := range p.infos {
		known.list = append(known.list, Present{key, infos})
	}
	slices.SortFunc(known.list, func(a, b Present) int { return strings.Compare(a.Key, b.Key) })
	p.known.Store(known)
	if f := p.change.Load(); f != nil {
		(*f)(known.list)
	}
}

// watch has those who keep a presence take an event. It reports whether there are any.
func (c *Client) watch(e *Event) bool {
	watchers := c.registry.current.Load().watch
	if len(watchers) == 0 || e.name != presenceEventName || e.ackID != noID {
		return false
	}
	data := e.Args()
	for _, p := range watchers {
		p.take(data)
	}
	return true
}

// tellWatchers has f called with each ClientPresence, behind what was queued for the handlers.
func (c *Client) tellWatchers(f func(presenceWatcher)) {
	if len(c.registry.current.Load().watch) == 0 { // one that is made now asks by itself
		return
	}
	c.tell("Presence", func(r *functions[*Client]) {
		for _, p := range r.watch {
			f(p)
		}
	})
}
