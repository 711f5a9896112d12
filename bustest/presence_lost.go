package bustest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// KillPresence tests who is in a room when the process of a hub is killed: its people are gone
// everywhere when it has not been heard of for 5 seconds, as one change, and the application is
// told so once. join and variable are as for [KillNode].
func KillPresence(t *testing.T, join func(t testing.TB) atrium.Bus, variable string) {
	with(t, join, func(k *env) {
		c := newCrowd(k, 2, time.Hour) // who is killed has none
		defer c.end()
		c.settle()
		process := startNode(k, variable)
		c.others = make(map[string]atrium.Present)
		var victims []string
		for i := range membersEach {
			c.others[processUser(i)] = presentAs(processUser(i), 0)
			victims = append(victims, processUser(i))
		}
		Eventually(k, c.check)
		c.forget()

		process.Process.Kill()
		began := time.Now()
		c.others = nil
		Eventually(k, c.check)
		k.Logf("the people of the killed node were gone everywhere after %v", time.Since(began).Round(time.Millisecond))
		process.Wait()

		// What comes next shows that there is nothing between.
		left, _ := c.truth(c.hubs[0], crowdRooms[0])
		first := c.all()[0]
		first.present(crowdRooms[0], "", 2)
		Eventually(k, c.check)
		next, _ := c.truth(c.hubs[0], crowdRooms[0])
		for _, p := range c.all() {
			want := []string{"-" + strings.Join(victims, " -"), "~" + first.user}
			if p.client != nil {
				want = []string{left, next}
			}
			if got := p.heard(); !slices.Equal(got, want) {
				k.Errorf("%s was told %q, want %q", p, got, want)
			}
		}
		want := []string{crowdRooms[0] + " -" + strings.Join(victims, " -")}
		for _, victim := range victims {
			want = append(want, " -"+victim)
		}
		slices.Sort(want)
		for _, h := range c.hubs {
			if got := slices.Sorted(slices.Values(h.heard())); !slices.Equal(got, want) {
				k.Errorf("the application was told %q, want %q", got, want)
			}
		}
	})
}

// CutOffPresence tests who is in a room when the first of three hubs cannot reach the broker for
// more than 5 seconds, in which people come and go on both sides. serve and join are as for
// [CutOff].
func CutOffPresence(t *testing.T, serve func(t testing.TB) (addr string, check func()), join func(t testing.TB, addr string) atrium.Bus) {
	for name, stop := range map[string]func(*Proxy){"reset": (*Proxy).Cut, "silent": (*Proxy).Hold} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, check := serve(t)
			proxy := NewProxy(t, broker)
			next := proxy.Addr()
			with(t, func(t testing.TB) atrium.Bus {
				addr := next
				next = broker
				return join(t, addr)
			}, func(k *env) { cutOffPresence(k, func() { stop(proxy) }, proxy.Heal) })
			check()
		})
	}
}

func cutOffPresence(k *env, stop, heal func()) {
	c := newCrowd(k, 3, shortGrace)
	defer c.end()
	stay := c.settle()
	goes := [2]*person{c.settler(c.hubs[0], "goes here"), c.settler(c.hubs[1], "goes there")}
	Eventually(k, c.check)
	c.forget()

	stop()
	began := time.Now()
	c.islands[c.hubs[0]] = 1
	Eventually(k, c.check)
	k.Logf("the two sides had lost each other after %v", time.Since(began).Round(time.Millisecond))
	for _, p := range goes {
		c.drop(p)
	}
	c.settler(c.hubs[0], "comes here")
	c.settler(c.hubs[1], "comes there")
	c.settler(c.hubs[2], stay[0].user) // who is on the other side, too
	Eventually(k, c.check)
	heal()
	began = time.Now()
	clear(c.islands)
	Eventually(k, c.check)
	k.Logf("all had the same list %v after the end of the outage", time.Since(began).Round(time.Millisecond))

	for _, p := range stay {
		if p.client == nil {
			c.compareSides(p.String(), p.hub.Load(), stay, p.heard(), "~")
		}
	}
	for _, h := range c.hubs {
		var room, users []string
		for _, call := range h.heard() {
			if of, told, _ := strings.Cut(call, " "); of == "" {
				users = append(users, told)
			} else {
				room = append(room, told)
			}
		}
		c.compareSides("OnPresence", h, stay, room, "")
		c.compareSides("OnUserOnline", h, stay, users, "")
	}
}

// compareSides compares what was told on a hub of those who stayed, the first of whom was then on
// both sides; changed is how it is told that somebody has another socket now.
func (c *crowd) compareSides(what string, h *crowdHub, stay []*person, told []string, changed string) {
	got := make(map[string]string) // by key
	for _, sign := range strings.Fields(strings.Join(told, " ")) {
		got[sign[1:]] += sign[:1]
	}
	for _, p := range stay {
		sameSide := (p.hub.Load() == c.hubs[0]) == (h == c.hubs[0])
		want := "-+"
		switch {
		case p == stay[0]:
			want = map[bool]string{true: changed, false: "-+" + changed}[sameSide]
		case sameSide:
			want = ""
		}
		if got[p.user] != want {
			c.k.Errorf("%s on hub %s: %s has %q, want %q, of %q", what, h.Nodes().Self(), p.user, got[p.user], want, told)
		}
	}
}

// settle has a Client and a plain client come to each hub, each as a user of their own, and be
// present in the first room.
func (c *crowd) settle() (all []*person) {
	for i, h := range c.hubs {
		all = append(all, c.settler(h, fmt.Sprint("client", i)))
		all = append(all, c.settler(h, fmt.Sprint("plain", i)))
	}
	return all
}

// settler has somebody come and be present in the first room.
func (c *crowd) settler(h *crowdHub, user string) *person {
	p := c.enter(h, strings.ReplaceAll(user, " ", "_"), strings.HasPrefix(user, "client"))
	p.join(crowdRooms[0])
	p.present(crowdRooms[0], "", 1)
	return p
}

// forget has all forget what they were told so far.
func (c *crowd) forget() {
	for _, p := range c.all() {
		p.heard()
	}
	for _, h := range c.hubs {
		h.heard()
	}
}
