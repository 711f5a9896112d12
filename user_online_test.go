package atrium

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// onlineLog notes what the functions of a hub are told.
type onlineLog struct {
	mu     sync.Mutex // guards:
	told   []string
	online map[string]bool
	wrong  []string
}

func newOnlineLog(h *Hub) *onlineLog {
	l := &onlineLog{online: make(map[string]bool)}
	note := func(sign string, online bool) func(string) {
		return func(user string) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.told = append(l.told, sign+user)
			if l.online[user] == online {
				l.wrong = append(l.wrong, sign+user+" twice")
			}
			l.online[user] = online
		}
	}
	h.OnUserOnline(note("+", true))
	h.OnUserOffline(note("-", false))
	return l
}

// want checks what was told since the last call, in order of the names.
func (l *onlineLog) want(t *testing.T, when string, want ...string) {
	t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	got := slices.Sorted(slices.Values(l.told))
	l.told = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

func userAuth(user string) map[string]any { return map[string]any{"user": user} }

// A user is online from the first socket to the last, and a moment longer.
func TestUserOnline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := newHub(t, Options{Limits: Limits{Presence: 1}, Timeouts: Timeouts{PingInterval: time.Hour}})
		useUsers(h)
		srv := serve(t, overPipe, h)
		early := srv.connect(t, userAuth("early"))
		early.socket(h)
		logger := newOnlineLog(h)
		<-time.After(presenceTick)
		logger.want(t, "who was there before", "+early")

		first, second := srv.connect(t, userAuth("7")), srv.connect(t, userAuth("7"))
		srv.connect(t, userAuth("")).settle()
		<-time.After(presenceTick)
		logger.want(t, "two tabs, and nobody's", "+7")
		first.CloseNow()
		<-time.After(5 * time.Second)
		logger.want(t, "one tab less")
		second.CloseNow()
		<-time.After(time.Second)
		second = srv.connect(t, userAuth("7"))
		<-time.After(5 * time.Second)
		logger.want(t, "a page loaded anew")
		second.CloseNow()
		early.CloseNow()
		<-time.After(1900 * time.Millisecond)
		logger.want(t, "within the grace")
		<-time.After(200 * time.Millisecond)
		logger.want(t, "after the grace", "-7", "-early")
		again := srv.connect(t, userAuth("7"))
		again.settle()
		<-time.After(presenceTick)
		logger.want(t, "back again", "+7")
		// To see all of them needs more than the name of a room.
		for _, room := range []string{userMark, userRoom("7")} {
			if list, n := h.Presence(room), h.PresenceCount(room); list != nil || n != 0 {
				t.Errorf("Presence says %v, %d", list, n)
			}
			if err := again.socket(h).Present(room, "7", 1); err == nil {
				t.Error("present in the room of a user")
			}
		}
		if logger.wrong != nil {
			t.Error(logger.wrong)
		}
	})
}

// A panic costs the call alone, and a slow function is told nothing of who comes and goes
// meanwhile.
func TestUserOnlineFunctions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logger, log := newLog()
		h := newHub(t, Options{Logger: logger, Timeouts: Timeouts{PingInterval: time.Hour}})
		useUsers(h)
		srv := serve(t, overPipe, h)
		goOn := make(chan struct{})
		h.OnUserOnline(func(user string) {
			if user == "slow" {
				<-goOn
			}
			if user == "bad" {
				panic("on purpose")
			}
		})
		told := newOnlineLog(h)
		srv.connect(t, userAuth("bad"))
		<-time.After(presenceTick)
		told.want(t, "after a panic", "+bad")
		if !strings.Contains(log.String(), "atrium: a function told of a user panicked") || !strings.Contains(log.String(), "function=OnUserOnline user=bad") {
			t.Errorf("the log has %s", log)
		}
		srv.connect(t, userAuth("slow"))
		<-time.After(presenceTick)
		passer := srv.connect(t, userAuth("passer"))
		<-time.After(time.Second)
		passer.CloseNow()
		srv.connect(t, userAuth("8"))
		<-time.After(5 * time.Second)
		told.want(t, "while one runs")
		close(goOn)
		told.want(t, "afterwards", "+8", "+slow")

		wantPanic(t, "of an OfFunc", "atrium: OnUserOnline: expected a namespace of Hub.Of", func() {
			h.OfFunc(func(string) bool { return false }).OnUserOnline(func(string) {})
		})
		h.OfFunc(func(string) bool { return true }).OnConnect(func(s *Socket) {
			defer s.Emit("asked")
			wantPanic(t, "of one that it stands for", "atrium: OnUserOffline: expected a namespace of Hub.Of", func() {
				s.Namespace().OnUserOffline(func(string) {})
			})
		})
		c := srv.socketIO(t)
		c.join("/x")
		c.want(`42/x,["asked"]`)
		wantPanic(t, "nil", "atrium: OnUserOffline", func() { h.OnUserOffline(nil) })
	})
}

// A client that comes back in time was not away.
func TestUserOnlineRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRecoveryHub(t, overPipe, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		useUsers(l.Hub)
		told := newOnlineLog(l.Hub)
		g := l.enter(t, `{"user":"7"}`)
		l.cut(g)
		<-time.After(time.Second)
		back := l.enter(t, proof(g.pid, ""))
		wantRecovered(t, back, g)
		<-time.After(10 * time.Second)
		told.want(t, "back within the grace", "+7")
		l.cut(back)
		<-time.After(10 * time.Second)
		again := l.enter(t, proof(g.pid, ""))
		wantRecovered(t, again, g)
		<-time.After(time.Second)
		told.want(t, "back after it", "+7", "-7")
	})
}

// Every node tells of a user once, on whatever nodes they are, and also of those of a node that
// ends.
func TestUserOnlineOnNodes(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("killed %t", killed), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				m := newPresenceModel(t, 1, 3, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
				var logs []*onlineLog
				for _, n := range m.nodes {
					useUsers(n.Hub)
					logs = append(logs, newOnlineLog(n.Hub))
				}
				enter := func(node int, user string) *client { return m.nodes[node].srv.connect(t, userAuth(user)) }
				want := func(when string, want ...string) {
					t.Helper()
					for _, l := range logs {
						l.want(t, when, want...)
						if l.wrong != nil {
							t.Error(when, l.wrong)
						}
					}
				}
				one := enter(0, "Ada")
				gone := []*client{enter(2, "Ada"), enter(2, "Bob")}
				enter(1, "Eve")
				<-time.After(time.Second)
				want("the first sockets", "+Ada", "+Bob", "+Eve")
				one.CloseNow()
				<-time.After(5 * time.Second)
				want("a socket of two")
				late := m.startNode()
				logs = append(logs, newOnlineLog(late.Hub))
				<-time.After(2 * time.Second)
				logs[3].want(t, "a node that starts", "+Ada", "+Bob", "+Eve")
				limit, lost := 6*time.Second, m.nodes[2]
				if killed {
					m.kill(lost)
				} else {
					limit = 2 * time.Second
					for _, c := range gone {
						go c.listen() // so that it takes the close frame
					}
					if err := lost.Shutdown(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				logs = slices.Delete(logs, 2, 3)
				<-time.After(time.Second)
				enter(1, "Bob")
				<-time.After(limit)
				want("a node less", "-Ada")
			})
		})
	}
}

// Who goes while Shutdown waits for others is not told of: they were online when it began.
func TestUserOnlineWhileShuttingDown(t *testing.T) {
	for _, nodes := range []int{1, 2} {
		bubble(t, func(t *testing.T) {
			options := Options{Bus: new(MemoryBus)}
			if nodes == 1 {
				options.Bus = nil
			}
			h := newHub(t, options)
			var others *onlineLog
			if nodes > 1 {
				others = newOnlineLog(newHub(t, options))
			}
			useUsers(h)
			h.Use(func(s *Socket) error { return errors.Join(s.Join("r"), s.Present("r", "", 1)) })
			told := tellPresence(h.Namespace)
			goOn := make(chan struct{})
			On(h, "slow", func(s *Socket, _ any) error { <-time.After(time.Second); s.Leave("r"); <-goOn; return nil })
			srv := serve(t, overPipe, h)
			online := newOnlineLog(h)
			goes, stays, before := srv.connect(t, userAuth("goes")), srv.connect(t, userAuth("stays")), srv.connect(t, userAuth("before"))
			for _, c := range []*client{goes, stays, before} {
				c.socket(h)
			}
			<-time.After(presenceTick)
			online.want(t, "all", "+before", "+goes", "+stays")
			wantTold(t, told, "all", "+[before goes stays] -[]")
			before.CloseNow()
			stays.send(`{"event":"slow"}`)
			synctest.Wait()

			go goes.listen()
			go stays.listen()
			ended := make(chan error, 1)
			go func() { ended <- h.Shutdown(t.Context()) }()
			<-time.After(20 * time.Second)
			online.want(t, "who has gone before", "-before")
			wantTold(t, told, "who has gone before", "+[] -[before]")
			if others != nil {
				others.want(t, "on the other node", "+before", "+goes", "+stays", "-before", "-goes")
			}
			close(goOn)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			<-time.After(time.Minute)
			online.want(t, "after Shutdown")
			wantTold(t, told, "after Shutdown")
		})
	}
}

// Whatever happens to sockets, nodes and messages, each node's functions are told of each user by
// turns, and in the end what is true.
func TestUserOnlineModel(t *testing.T) {
	for _, seed := range faultRounds(t) {
		bubble(t, func(t *testing.T) {
			m := newPresenceModel(t, seed, 3, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
			rng := rand.New(rand.NewPCG(seed, 7))
			var logs []*onlineLog
			for _, n := range m.nodes {
				useUsers(n.Hub)
				logs = append(logs, newOnlineLog(n.Hub))
			}
			type tab struct {
				*client
				user string
			}
			var tabs []tab
			for phase := range 6 {
				m.lab.setWild(phase%2 == 1)
				for range 30 {
					if i := rng.IntN(12); i < len(tabs) {
						tabs[i].CloseNow()
						tabs = slices.Delete(tabs, i, i+1)
					} else {
						user := modelPresenceKeys[rng.IntN(len(modelPresenceKeys))]
						tabs = append(tabs, tab{m.nodes[rng.IntN(3)].srv.connect(t, userAuth(user)), user})
					}
					if phase%3 == 2 && rng.IntN(8) == 0 {
						m.lab.move(rng.IntN(3), rng.IntN(2))
					}
					<-time.After(time.Duration(rng.IntN(1500)) * time.Millisecond)
				}
				m.lab.setWild(false)
				for i := range m.nodes {
					m.lab.move(i, 0)
				}
				<-time.After(15 * time.Second)
				synctest.Wait()
				truth := make(map[string]bool)
				for _, tab := range tabs {
					truth[tab.user] = true
				}
				for i, l := range logs {
					l.mu.Lock()
					maps.DeleteFunc(l.online, func(_ string, online bool) bool { return !online })
					if diff := cmp.Diff(truth, l.online); diff != "" || l.wrong != nil {
						t.Fatalf("phase %d, node %d: %s, %q", phase, i, diff, l.wrong)
					}
					l.mu.Unlock()
				}
			}
		})
	}
}
