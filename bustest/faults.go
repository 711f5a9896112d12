package bustest

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// OutageCluster tests three hubs while the broker is away, or while the first hub cannot reach it:
// see [Outage]. The hubs emit all the time. Their own members must receive all events, and no call
// may wait for the broker for longer than documented. Afterwards traffic between the hubs must
// resume by itself, in order and without duplicates.
//
// join is called for one hub after the other.
func OutageCluster(t *testing.T, join func(t testing.TB) atrium.Bus, stop, heal func()) {
	with(t, join, func(k *env) {
		x := newTraffic(k, 3)
		x.flows()

		stop()
		stopped := x.numbers()
		x.cutOff(0)
		joined := x.joinNew()
		x.goesOn(500)
		heal()
		healed := x.numbers()
		began := time.Now()
		heardHere := 0
		for i := range healed {
			heardHere += healed[i] - stopped[i]
		}
		k.Logf("%d events of one to those here and %d joins took place during the outage", heardHere, len(joined))

		x.flows()
		k.Logf("events of each node came to each %v after the end of the outage", time.Since(began).Round(time.Millisecond))
		x.emitToNew(joined)
		k.Logf("events came to all rooms joined during the outage %v after its end", time.Since(began).Round(time.Millisecond))
		x.counts()
		k.Logf("all nodes answered %v after the end of the outage", time.Since(began).Round(time.Millisecond))
		x.end()
	})
}

// CutOff tests three hubs while the first of them cannot reach the broker: its connections are
// reset, or no bytes pass, and it is healed in several ways. See [OutageCluster]. serve starts a
// broker for each case and returns a function that checks that nothing is left there. join connects
// to a broker, or to a proxy of it.
func CutOff(t *testing.T, serve func(t testing.TB) (addr string, check func()), join func(t testing.TB, addr string) atrium.Bus) {
	for name, network := range map[string]struct{ stop, heal func(*Proxy) }{
		"reset":     {(*Proxy).Cut, (*Proxy).Heal},
		"silent":    {(*Proxy).Hold, (*Proxy).Heal},
		"forgotten": {(*Proxy).Hold, (*Proxy).Forget},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker, check := serve(t)
			proxy := NewProxy(t, broker)
			next := proxy.Addr()
			joinNext := func(t testing.TB) atrium.Bus {
				addr := next
				next = broker
				return join(t, addr)
			}
			OutageCluster(t, joinNext, func() { network.stop(proxy) }, func() { network.heal(proxy) })
			check()
		})
	}
}

// Lasting makes an outage last for at least d: heal waits.
func Lasting(d time.Duration, stop, heal func()) (func(), func()) {
	var over <-chan time.Time
	return func() {
			stop()
			over = time.After(d)
		}, func() {
			<-over
			heal()
		}
}

// KillNode tests two hubs when the process of a third is killed. That process runs the test's own
// program with an additional environment variable, "NAME=value": TestMain checks for it and calls
// [ServeNode] with a Bus on the same broker.
func KillNode(t *testing.T, join func(t testing.TB) atrium.Bus, variable string) {
	with(t, join, func(k *env) {
		x := newTraffic(k, 2)
		process := startNode(k, variable)
		victim := ""
		await(k.T, "the node in a process of its own", func() bool {
			list := x.hubs[0].Nodes().List()
			list = slices.DeleteFunc(list, func(node string) bool { return node == x.hubs[1].Nodes().Self() })
			if len(list) == 1 {
				victim = list[0]
			}
			return len(list) == 1
		})
		// its sockets among those of all
		of := func(node string, infos []atrium.SocketInfo) (n int) {
			for _, info := range infos {
				if strings.HasPrefix(info.ID, node) {
					n++
				}
			}
			return n
		}
		await(k.T, "its members", func() bool {
			infos, err := x.hubs[0].To(house).Sockets(k.ctx)
			return err == nil && of(victim, infos) == membersEach && len(infos) == 3*membersEach
		})
		for _, m := range x.members {
			await(k.T, "what it emits", func() bool { return m.latest(processPublisher) > 100 })
		}

		process.Process.Kill()
		began := time.Now()
		infos, err := x.hubs[0].To(house).Sockets(k.ctx)
		var incomplete *atrium.ClusterError
		if !errors.As(err, &incomplete) || !slices.Equal(incomplete.Missing, []string{victim}) {
			k.Errorf("Sockets after node %s was killed: %v, want an error that names it", victim, err)
		}
		if len(infos) != 2*membersEach || of(victim, infos) != 0 {
			k.Errorf("Sockets after node %s was killed: %+v", victim, infos)
		}
		for _, h := range x.hubs {
			await(k.T, "the node to be forgotten", func() bool {
				n, err := h.To(house).Count(k.ctx)
				return err == nil && n == 2*membersEach && len(h.Nodes().List()) == 1
			})
		}
		k.Logf("the killed node was forgotten after %v", time.Since(began).Round(time.Millisecond))
		process.Wait()
		x.flows()
		x.end()
	})
}

// startNode runs the test's own program as another node; see KillNode.
func startNode(k *env, variable string) *exec.Cmd {
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), variable)
	process.Stderr = os.Stderr
	if _, err := process.StdinPipe(); err != nil { // the process ends with it
		k.Fatal(err)
	}
	if err := process.Start(); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() { process.Process.Kill() })
	return process
}

// ServeNode runs a hub with members, which emits, until the end of standard input. It is for
// [KillNode] and [KillPresence].
func ServeNode(bus atrium.Bus) {
	h := atrium.New(atrium.Options{Bus: bus})
	h.Use(func(s *atrium.Socket) error { return s.SetUser(s.Handshake().URL().Query().Get("user")) })
	h.OnUserOnline(func(string) {}) // or it would tell nothing of its users
	h.OnConnect(func(s *atrium.Socket) {
		if err := errors.Join(s.Join(house, crowdRooms[0]), s.Present(crowdRooms[0], "", 0)); err != nil {
			panic(err)
		}
	})
	server := httptest.NewServer(h)
	for i := range membersEach {
		address := strings.Replace(server.URL, "http", "ws", 1) + "/?user=" + processUser(i)
		conn, _, err := atrium.Dial(context.Background(), address, atrium.DialOptions{})
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				if _, _, err := conn.Read(context.Background()); err != nil {
					panic(err)
				}
			}
		}()
	}
	go func() {
		tick := time.NewTicker(pace)
		for n := 1; ; n++ {
			<-tick.C
			if err := h.To(house).Emit("e", heard{processPublisher, n, house}); err != nil {
				panic(err)
			}
		}
	}()
	os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// processUser is the user of a socket of ServeNode's.
func processUser(n int) string { return fmt.Sprint("victim", n) }

const (
	house       = "house" // the room of all members
	membersEach = 2       // of a hub

	// pace is the time between two events of one hub.
	pace = 2 * time.Millisecond
	// joinLimit bounds a Join: it may wait for the Bus for 1 second; the rest is for a loaded
	// machine.
	joinLimit = 5 * time.Second

	// Publishers: each hub has its number.
	processPublisher = 100
	roomPublisher    = 1000 // and the number of the room
)

// traffic are hubs with some members, all in one room. Each hub emits to the room all the time: the
// next event as soon as its own members have received the last one.
type traffic struct {
	*cluster
	k        *env
	emitted  []atomic.Int64 // the last event of each hub that its own members have received
	enough   chan struct{}
	emitting sync.WaitGroup
}

func newTraffic(k *env, n int) *traffic {
	hubs := make([]*atrium.Hub, n)
	for i := range hubs {
		hubs[i] = atrium.New(atrium.Options{Bus: k.join()})
	}
	await(k.T, "the nodes to know each other", func() bool {
		return !slices.ContainsFunc(hubs, func(h *atrium.Hub) bool { return len(h.Nodes().List()) != n-1 })
	})
	x := &traffic{cluster: newCluster(k.T, n*membersEach, hubs...), k: k, emitted: make([]atomic.Int64, n), enough: make(chan struct{})}
	for _, m := range x.members {
		if err := m.socket().Join(house); err != nil {
			k.Error(err)
		}
	}
	for hub := range n {
		x.emitting.Go(func() { x.emit(hub) })
	}
	return x
}

func (x *traffic) emit(hub int) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for n := 1; ; n++ {
		if err := x.hubs[hub].To(house).Emit("e", heard{hub, n, house}); err != nil {
			x.k.Error(err)
		}
		for i := hub; i < len(x.members); i += len(x.hubs) {
			for x.members[i].latest(hub) < n {
				select {
				case <-tick.C:
				case <-x.k.ctx.Done():
					x.k.Errorf("hub %d: event %d does not come to its own member %d", hub, n, i)
					return
				}
			}
		}
		x.emitted[hub].Store(int64(n))
		select {
		case <-tick.C:
		case <-x.enough:
			return
		}
	}
}

// numbers are those of the hubs' last events.
func (x *traffic) numbers() []int {
	list := make([]int, len(x.hubs))
	for hub := range list {
		list[hub] = int(x.emitted[hub].Load())
	}
	return list
}

// flows waits until all members have received an event that each hub has emitted since the call.
func (x *traffic) flows() {
	x.k.Helper()
	for hub, n := range x.numbers() {
		for i, m := range x.members {
			await(x.k.T, fmt.Sprintf("member %d to hear hub %d", i, hub), func() bool { return m.latest(hub) > n+1 })
		}
	}
}

// goesOn waits until the own members of each hub have received this many more of its events.
func (x *traffic) goesOn(more int) {
	x.k.Helper()
	for hub, n := range x.numbers() {
		await(x.k.T, fmt.Sprintf("%d events of hub %d", more, hub), func() bool { return int(x.emitted[hub].Load()) >= n+more })
	}
}

// cutOff checks that a hub reports that the others are missing.
func (x *traffic) cutOff(hub int) {
	x.k.Helper()
	ctx, cancel := context.WithTimeout(x.k.ctx, 50*time.Millisecond)
	defer cancel()
	n, err := x.hubs[hub].To(house).Count(ctx)
	var incomplete *atrium.ClusterError
	if n != membersEach || !errors.As(err, &incomplete) {
		x.k.Errorf("Count without a broker: %d, %v; want its own members, and an error that names the others", n, err)
	}
}

// joinNew makes each member join new rooms, one after the other, which needs the Bus. It returns
// their names.
func (x *traffic) joinNew() (rooms []string) {
	x.k.Helper()
	var slowest time.Duration
	for i, m := range slices.Concat(x.members, x.members) {
		room := fmt.Sprint("new ", i)
		began := time.Now()
		if err := m.socket().Join(room); err != nil {
			x.k.Error(err)
		}
		slowest = max(slowest, time.Since(began))
		rooms = append(rooms, room)
	}
	x.k.Logf("the slowest Join took %v", slowest.Round(time.Millisecond))
	if slowest > joinLimit {
		x.k.Errorf("a Join took %v", slowest)
	}
	return rooms
}

// emitToNew makes another hub emit to the room of each member until the member receives the event.
func (x *traffic) emitToNew(rooms []string) {
	x.k.Helper()
	for i, room := range rooms {
		n := 0
		await(x.k.T, fmt.Sprintf("an event to room %q", room), func() bool {
			n++
			if err := x.hub(i+1).To(room).Emit("e", heard{roomPublisher + i, n, room}); err != nil {
				x.k.Error(err)
			}
			return x.members[i%len(x.members)].latest(roomPublisher+i) > 0
		})
	}
}

// counts waits until each hub can count all members.
func (x *traffic) counts() {
	x.k.Helper()
	for _, h := range x.hubs {
		await(x.k.T, "a count of all members", func() bool {
			ctx, cancel := context.WithTimeout(x.k.ctx, time.Second)
			defer cancel()
			n, err := h.To(house).Count(ctx)
			return err == nil && n == len(x.members)
		})
	}
}

// end stops the traffic and the hubs, and checks what was received: numbers that increase, and all
// of those of the own hub.
func (x *traffic) end() {
	close(x.enough)
	x.emitting.Wait()
	x.cluster.end()
	for i, m := range x.members {
		m.mu.Lock()
		last := make(map[int]int)
		for _, h := range m.heard {
			if h.Number <= last[h.Publisher] || h.Publisher == i%len(x.hubs) && h.Number != last[h.Publisher]+1 {
				x.k.Errorf("member %d: %+v came after number %d", i, h, last[h.Publisher])
			}
			last[h.Publisher] = h.Number
		}
		m.mu.Unlock()
	}
}
