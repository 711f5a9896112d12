package bustest

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
)

// person is somebody in a crowd, with one socket: of a Client, which comes back by itself, or of a
// plain WebSocket, which does what the documentation of the event says.
type person struct {
	c          *crowd
	name, user string
	hub        atomic.Pointer[crowdHub] // the one to connect to
	client     *atrium.Client           // nil: conn
	lists      map[string]*atrium.ClientPresence
	conn       *atrium.Conn
	replays    map[string]*replay

	mu     sync.Mutex // guards:
	at     *crowdHub  // the hub of the socket
	socket *atrium.Socket
	rooms  map[string]atrium.Present // those that it is in, and as what; see presentAs
	log    []string                  // what the client was told: of a Client the lists, of a plain one the events, in short
}

// enter has somebody come to a hub, with a Client or without.
func (c *crowd) enter(h *crowdHub, user string, withClient bool) *person {
	c.mu.Lock()
	c.last++
	p := &person{c: c, name: fmt.Sprint("person ", c.last), user: user, rooms: make(map[string]atrium.Present)}
	p.hub.Store(h)
	c.people = append(c.people, p)
	c.mu.Unlock()
	address := "http://localhost/?" + url.Values{"name": {p.name}, "user": {user}}.Encode()
	dial := atrium.DialOptions{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return p.hub.Load().server.DialContext(ctx, network, addr)
	}}
	if withClient {
		p.client = atrium.NewClient(address, atrium.ClientOptions{Dial: dial, Backoff: atrium.Backoff{Min: 20 * time.Millisecond}})
		p.lists = make(map[string]*atrium.ClientPresence)
		for _, room := range crowdRooms {
			p.lists[room] = p.client.Presence(room)
			p.lists[room].OnChange(func(list []atrium.Present) { p.note(describeList(list)) })
		}
		if err := p.client.Connect(c.k.ctx); err != nil {
			c.k.Fatal(err)
		}
	} else {
		p.replays = make(map[string]*replay)
		for _, room := range crowdRooms {
			p.replays[room] = new(replay)
		}
		var err error
		if p.conn, _, err = atrium.Dial(c.k.ctx, strings.Replace(address, "http", "ws", 1), dial); err != nil {
			c.k.Fatal(err)
		}
		go p.listen()
	}
	await(c.k, p.name+" to be let in", p.isThere)
	return p
}

// String says who it is, and where.
func (p *person) String() string {
	kind := "a plain client"
	if p.client != nil {
		kind = "a Client"
	}
	return fmt.Sprintf("%s (%q, %s on hub %s)", p.name, p.user, kind, p.hub.Load().Nodes().Self())
}

// drop has somebody go.
func (c *crowd) drop(p *person) {
	c.mu.Lock()
	c.people = slices.DeleteFunc(c.people, func(other *person) bool { return p == other })
	c.mu.Unlock()
	switch {
	case p.client != nil:
		p.client.Close()
	case p.conn != nil:
		p.conn.CloseNow()
	}
}

// arrive has the socket be what the person is, as an application does that keeps this itself.
func (p *person) arrive(h *crowdHub, s *atrium.Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.socket = h, s
	for room, as := range p.rooms {
		if err := s.Join(room); err != nil {
			p.c.k.Error(err)
		}
		p.show(room, as)
	}
}

// isThere reports whether the person has a socket on the hub where it should be.
func (p *person) isThere() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.socket != nil && p.at == p.hub.Load()
}

func (p *person) join(room string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, in := p.rooms[room]; in {
		return
	}
	p.rooms[room] = atrium.Present{}
	if err := p.socket.Join(room); err != nil {
		p.c.k.Error(err)
	}
}

func (p *person) leave(room string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rooms, room)
	p.socket.Leave(room)
}

// present makes the person present in a room that they are in: as their user if they have one.
func (p *person) present(room, key string, info int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.user != "" {
		key = p.user
	}
	p.rooms[room] = presentAs(key, info)
	p.show(room, p.rooms[room])
}

// show calls Present. p.mu is held.
func (p *person) show(room string, as atrium.Present) {
	key := as.Key
	if key == "" {
		return
	}
	if p.user != "" {
		key = "" // it is the default
	}
	if err := p.socket.Present(room, key, as.Infos[0]); err != nil {
		p.c.k.Error(err)
	}
}

func (p *person) absent(room string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, in := p.rooms[room]; in {
		p.rooms[room] = atrium.Present{}
		p.socket.Absent(room)
	}
}

// as returns what the person is in a room.
func (p *person) as(room string) atrium.Present {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rooms[room]
}

func (p *person) isIn(room string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, in := p.rooms[room]
	return in
}

func (p *person) note(told string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, told)
}

// heard returns what the client was told since it was called last.
func (p *person) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

// list says whom the client has in a room.
func (p *person) list(room string) (string, error) {
	if p.client != nil {
		return describeList(p.lists[room].List()), nil
	}
	r := p.replays[room]
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.wrong) > 0 {
		return "", fmt.Errorf("%s, room %s: %q", p, room, r.wrong)
	}
	return describe(r.infos), nil
}

// listen replays the events of a plain client.
func (p *person) listen() {
	for {
		_, b, err := p.conn.Read(context.Background())
		if err != nil {
			return
		}
		var m struct {
			Event string
			Data  presenceEvent
		}
		if err := json.Unmarshal(b, &m); err != nil {
			p.c.k.Errorf("%s: %v", b, err)
		}
		if r := p.replays[m.Data.Room]; m.Event == "presence" && r != nil {
			p.note(r.take(&m.Data))
		}
	}
}

// presenceEvent is the data of an event named presence, without what is only for large rooms.
type presenceEvent struct {
	Room                   string
	Version                uint64
	State, Joined, Changed []atrium.Present
	Left                   []string
}

// replay is the presence of a room as a client has it that does what is documented.
type replay struct {
	mu      sync.Mutex // guards:
	version uint64
	infos   map[string][]string
	wrong   []string
}

// take makes a change, and returns it in short: "+Ada ~Bob -Carol".
func (r *replay) take(e *presenceEvent) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.State != nil {
		r.infos = make(map[string][]string)
	} else if e.Version != r.version+1 {
		r.wrong = append(r.wrong, fmt.Sprintf("version %d after %d", e.Version, r.version))
	}
	r.version = e.Version
	var told []string
	put := func(sign string, there bool, list []atrium.Present) {
		for _, p := range list {
			if _, in := r.infos[p.Key]; in != there {
				r.wrong = append(r.wrong, fmt.Sprintf("%s%s, and they were there: %t", sign, p.Key, in))
			}
			r.infos[p.Key] = nil
			for _, info := range p.Infos {
				r.infos[p.Key] = append(r.infos[p.Key], string(info))
			}
			told = append(told, sign+p.Key)
		}
	}
	put("=", false, e.State)
	put("+", false, e.Joined)
	put("~", true, e.Changed)
	for _, key := range e.Left {
		if _, in := r.infos[key]; !in {
			r.wrong = append(r.wrong, fmt.Sprintf("-%s, and they were not there", key))
		}
		delete(r.infos, key)
		told = append(told, "-"+key)
	}
	return strings.Join(told, " ")
}
