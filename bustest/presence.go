package bustest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

// Presence tests who is in a room (see [atrium.Socket.Present]) on three hubs that a Bus connects.
// People come, go, join rooms and leave them, are present and absent, as one user on several hubs;
// hubs shut down, others take their places, and the broker is away. After each round all hubs and
// all clients must come to have the same list, the right one, and what OnPresence and OnUserOnline
// have told must lead to it.
//
// join, stop and heal are as for [OutageCluster].
func Presence(t *testing.T, join func(t testing.TB) atrium.Bus, stop, heal func()) {
	with(t, join, func(k *env) {
		c := newCrowd(k, 3, shortGrace)
		defer c.end()
		for i := range 2 * len(c.hubs) {
			c.enter(c.hubs[i/2], c.someUser(), i%2 == 0)
		}
		nothing := func() {}
		for _, round := range []struct {
			name            string
			begin, mid, end func() // steps are taken between them
		}{
			{"people come and go", nothing, nothing, nothing},
			{"an outage", nothing, stop, heal},
			{"a hub shuts down", nothing, c.replaceHub, nothing},
			{"a short outage", stop, heal, nothing},
			{"another hub shuts down", c.replaceHub, nothing, nothing},
			{"an outage after a hub has shut down", c.replaceHub, stop, heal},
		} {
			round.begin()
			c.steps()
			round.mid()
			c.steps()
			round.end()
			began := time.Now()
			Eventually(k, c.check)
			k.Logf("%s: all had the same list after %v", round.name, time.Since(began).Round(time.Millisecond))
		}
	})
}

// shortGrace is for how long the people of a crowd may be gone.
const shortGrace = 200 * time.Millisecond

var (
	crowdRooms = []string{"kitchen", "garden"}
	crowdUsers = []string{"Ada", "Bob", "Carol", "Dan", "Eve"}
)

// crowd are people and the hubs that they are on.
type crowd struct {
	k       *env
	grace   time.Duration
	random  *rand.Rand
	hubs    []*crowdHub
	islands map[*crowdHub]int         // hubs on different ones do not hear each other
	others  map[string]atrium.Present // by name: users on hubs that are not the crowd's, present in the first room

	mu     sync.Mutex // guards:
	people []*person
	last   int // the number of people that there have been
}

// crowdHub is a hub, and what it has told the application.
type crowdHub struct {
	*atrium.Hub
	server *atriumtest.Server

	mu    sync.Mutex                     // guards:
	told  map[string]map[string]struct{} // keys by room; users by ""
	log   []string                       // what was told, in short; an element for each call
	wrong []string
}

func newCrowd(k *env, hubs int, grace time.Duration) *crowd {
	seed := rand.Uint64()
	k.Logf("seed %#x", seed)
	c := &crowd{k: k, grace: grace, random: rand.New(rand.NewPCG(seed, 0)), islands: make(map[*crowdHub]int)}
	for range hubs {
		c.startHub()
	}
	return c
}

func (c *crowd) startHub() *crowdHub {
	h := &crowdHub{told: make(map[string]map[string]struct{}), Hub: atrium.New(atrium.Options{Bus: c.k.join(), DrainRate: 1000,
		Presence: atrium.PresenceOptions{Interval: 20 * time.Millisecond, Grace: c.grace},
		Limits:   atrium.Limits{PresencePerSecond: 1000}})}
	h.Use(func(s *atrium.Socket) error {
		if user := s.Handshake().URL().Query().Get("user"); user != "" {
			return s.SetUser(user)
		}
		return nil
	})
	h.OnConnect(func(s *atrium.Socket) {
		if p := c.named(s.Handshake().URL().Query().Get("name")); p != nil {
			p.arrive(h, s)
		}
	})
	h.OnPresence(func(room string, joined, left []atrium.Present) {
		h.tell(room, keysOf(joined), keysOf(left))
	})
	h.OnUserOnline(func(user string) { h.tell("", []string{user}, nil) })
	h.OnUserOffline(func(user string) { h.tell("", nil, []string{user}) })
	h.server = atriumtest.NewServer(h)
	c.hubs = append(c.hubs, h)
	return h
}

func keysOf(list []atrium.Present) []string {
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys
}

// tell notes what the application was told of a room, or of users with "".
func (h *crowdHub) tell(room string, joined, left []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	told := h.told[room]
	if told == nil {
		told = make(map[string]struct{})
		h.told[room] = told
	}
	call := room
	for _, key := range left {
		if _, in := told[key]; !in {
			h.wrong = append(h.wrong, fmt.Sprintf("%s left %q, and was not there", key, room))
		}
		delete(told, key)
		call += " -" + key
	}
	for _, key := range joined {
		if _, in := told[key]; in {
			h.wrong = append(h.wrong, fmt.Sprintf("%s joined %q, and was there", key, room))
		}
		told[key] = struct{}{}
		call += " +" + key
	}
	h.log = append(h.log, call)
}

// keys are those of whom the application was told that they are in the room.
func (h *crowdHub) keys(room string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.wrong) > 0 {
		return "", fmt.Errorf("hub %s: the application was told: %q", h.Nodes().Self(), h.wrong)
	}
	return strings.Join(slices.Sorted(maps.Keys(h.told[room])), " "), nil
}

// heard returns what the application was told since it was called last.
func (h *crowdHub) heard() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	log := h.log
	h.log = nil
	return log
}

// replaceHub shuts a hub down, and starts another. Those of its people who have a Client move to
// other hubs.
func (c *crowd) replaceHub() {
	i := c.random.IntN(len(c.hubs))
	h := c.hubs[i]
	c.hubs = slices.Delete(c.hubs, i, i+1)
	var moving []*person
	for _, p := range c.all() {
		switch {
		case p.hub.Load() != h:
		case p.client == nil:
			c.drop(p)
		default:
			p.hub.Store(c.hubs[c.random.IntN(len(c.hubs))])
			moving = append(moving, p)
		}
	}
	c.shutdown(h)
	c.startHub()
	for _, p := range moving {
		await(c.k, p.name+" to come to another hub", p.isThere)
	}
}

func (c *crowd) shutdown(h *crowdHub) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil && !errors.Is(err, atrium.ErrBus) { // of what an outage has lost
		c.k.Error(err)
	}
	h.server.Close()
}

// end has all leave and shuts the hubs down.
func (c *crowd) end() {
	for _, p := range c.all() {
		c.drop(p)
	}
	for _, h := range c.hubs {
		c.shutdown(h)
	}
}

func (c *crowd) all() []*person {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.people)
}

func (c *crowd) named(name string) *person {
	for _, p := range c.all() {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (c *crowd) someUser() string {
	if c.random.IntN(2) == 0 {
		return ""
	}
	return crowdUsers[c.random.IntN(len(crowdUsers))]
}

// steps does many things at random, and some time passes.
func (c *crowd) steps() {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for range 40 {
		c.step()
		for range c.random.IntN(10) {
			<-tick.C
		}
	}
}

func (c *crowd) step() {
	all, room := c.all(), crowdRooms[c.random.IntN(len(crowdRooms))]
	if len(all) < 5 || len(all) < 12 && c.random.IntN(8) == 0 {
		c.enter(c.hubs[c.random.IntN(len(c.hubs))], c.someUser(), c.random.IntN(2) == 0)
		return
	}
	p := all[c.random.IntN(len(all))]
	switch n := c.random.IntN(20); {
	case n == 0:
		c.drop(p)
	case n < 3:
		p.leave(room)
	case n < 5:
		p.absent(room)
	case n < 8:
		p.join(room)
	default:
		p.join(room)
		p.present(room, crowdUsers[c.random.IntN(len(crowdUsers))], c.random.IntN(3))
	}
}

// truth says who is in a room for those on a hub, as describe does, and how many sockets these
// have.
func (c *crowd) truth(h *crowdHub, room string) (list string, sockets int) {
	keys := make(map[string][]string)
	add := func(as atrium.Present) {
		keys[as.Key] = append(keys[as.Key], string(as.Infos[0]))
		sockets++
	}
	for _, p := range c.all() {
		if as := p.as(room); as.Key != "" && c.islands[p.hub.Load()] == c.islands[h] {
			add(as)
		}
	}
	if room == crowdRooms[0] {
		for _, as := range c.others {
			add(as)
		}
	}
	return describe(keys), sockets
}

// online are the users that a hub should know of.
func (c *crowd) online(h *crowdHub) string {
	users := make(map[string]struct{})
	for _, p := range c.all() {
		if p.user != "" && c.islands[p.hub.Load()] == c.islands[h] {
			users[p.user] = struct{}{}
		}
	}
	for user := range c.others {
		users[user] = struct{}{}
	}
	return strings.Join(slices.Sorted(maps.Keys(users)), " ")
}

// describe writes the infos of each key: "Ada[1 2] Bob[0]".
func describe(infos map[string][]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(infos)) {
		parts = append(parts, key+"["+strings.Join(slices.Sorted(slices.Values(infos[key])), " ")+"]")
	}
	return strings.Join(parts, " ")
}

func describeList(list []atrium.Present) string {
	infos := make(map[string][]string)
	for _, p := range list {
		for _, info := range p.Infos {
			infos[p.Key] = append(infos[p.Key], string(info))
		}
	}
	return describe(infos)
}

// check returns how what a client or a hub has differs from the truth; nil if it does not.
func (c *crowd) check() error {
	for _, room := range crowdRooms {
		members := make(map[*crowdHub]bool)
		for _, p := range c.all() {
			h, want := p.hub.Load(), ""
			if p.isIn(room) {
				members[h] = true
				want, _ = c.truth(h, room)
			}
			if got, err := p.list(room); err != nil || got != want {
				return cmpError(fmt.Sprintf("what %s has of room %s", p, room), got, want, err)
			}
		}
		for _, h := range c.hubs {
			want, sockets := "", 0
			if members[h] {
				want, sockets = c.truth(h, room)
			}
			if err := h.check(room, want, sockets); err != nil {
				return err
			}
		}
	}
	for _, h := range c.hubs {
		want := c.online(h)
		if got, err := h.keys(""); err != nil || got != want {
			return cmpError("the users on hub "+h.Nodes().Self(), got, want, err)
		}
	}
	return nil
}

// check returns how what the hub and its application have differs from what is wanted.
func (h *crowdHub) check(room, want string, sockets int) error {
	what := fmt.Sprintf("room %s on hub %s", room, h.Nodes().Self())
	list := h.Presence(room)
	if got := describeList(list); got != want {
		return cmpError(what, got, want, nil)
	}
	if n := h.PresenceCount(room); n != sockets {
		return fmt.Errorf("%s: %d sockets, want %d", what, n, sockets)
	}
	keys := strings.Join(keysOf(list), " ")
	if got, err := h.keys(room); err != nil || got != keys {
		return cmpError(what+" as OnPresence tells it", got, keys, err)
	}
	return nil
}

func cmpError(what, got, want string, err error) error {
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: got  %s\nwant %s", what, got, want)
}

// presentAs is what somebody is in a room; without a key they are a member and not present.
func presentAs(key string, info int) atrium.Present {
	return atrium.Present{Key: key, Infos: []json.RawMessage{fmt.Append(nil, info)}}
}
