package atrium

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faultModel is what the model tests of faults believe of Clients in rooms whose networks break all
// the time. Its methods are for the test's goroutine.
type faultModel struct {
	t       *testing.T
	rng     *rand.Rand
	options Options
	hub     *Hub                // that emits
	serving atomic.Pointer[Hub] // that new connections come to
	all     []*brokenClient
	event   int
	calls   sync.WaitGroup
	ends    bool // calls may fail: the hub is not followed by another

	mu      sync.Mutex // guards:
	handled map[int]int
	running int
}

// brokenClient is a Client with a network of its own.
type brokenClient struct {
	*visit
	name  string
	net   *faultNet
	rooms map[string]bool
	mail  []int // all that is for it
}

var modelFaultRooms = []string{"a", "b", "c"}

// newFaultModel starts a hub and lets clients in.
func newFaultModel(t *testing.T, seed uint64, options Options, clients int) *faultModel {
	options.Timeouts.PingInterval, options.Timeouts.Ping = 20*time.Second, 10*time.Second
	options.Recovery.MaxDisconnection = 5 * time.Minute
	options.Compression = Compression{Level: 1}
	options.Logger = slog.New(slog.DiscardHandler)
	m := &faultModel{t: t, rng: rand.New(rand.NewPCG(seed, 1)), options: options, handled: make(map[int]int)}
	m.hub = m.newHub()
	m.serving.Store(m.hub)
	for i := range clients {
		c := &brokenClient{name: fmt.Sprintf("client%d", i), net: newFaultNet(shapeOf(seed + uint64(i))), rooms: make(map[string]bool)}
		serve(t, c.net.over(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serving.Load().ServeHTTP(w, r) }))
		c.visit = newVisit(c.net, ClientOptions{Auth: map[string]string{"name": c.name}, CallRetries: 1000, CallTimeout: time.Hour, Timeout: time.Minute,
			Dial: DialOptions{Compression: Compression{Level: 1}}})
		t.Cleanup(func() { c.Close() })
		mustConnect(t, c.Client)
		m.all = append(m.all, c)
	}
	return m
}

// newHub starts a hub with the handlers.
func (m *faultModel) newHub() *Hub {
	h := New(m.options)
	m.t.Cleanup(func() { shutdownBroken(m.t, h) })
	h.Use(func(s *Socket) error {
		var auth struct{ Name string }
		if s.Handshake().Bind(&auth); auth.Name == "" {
			return nil // the plain client
		}
		return s.Join(auth.Name)
	})
	OnCall(h, "double", func(_ *Socket, n int) (int, error) {
		m.mu.Lock()
		m.handled[n]++
		m.running++
		m.mu.Unlock()
		if n%5 == 0 {
			<-time.After(500 * time.Millisecond)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.running--
		return 2 * n, nil
	})
	return h
}

// shutdownBroken shuts a hub down that has clients whose networks may take nothing: who has missed
// something is no failure.
func shutdownBroken(t *testing.T, h *Hub) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil && !strings.Contains(err.Error(), "did not take all") {
		t.Error(err)
	}
	h.Namespace.checkEmpty(t)
}

func (m *faultModel) someone() *brokenClient { return m.all[m.rng.IntN(len(m.all))] }

// someNames are those of up to n rooms or clients.
func (m *faultModel) someNames(n int) (names []string) {
	for range m.rng.IntN(n + 1) {
		if m.rng.IntN(3) == 0 {
			names = append(names, m.someone().name)
		} else {
			names = append(names, modelFaultRooms[m.rng.IntN(len(modelFaultRooms))])
		}
	}
	return names
}

func (c *brokenClient) inAny(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return name == c.name || c.rooms[name] })
}

// emit emits to a random target.
func (m *faultModel) emit() {
	to, except := m.someNames(2), m.someNames(1)
	target := m.hub.Except(except...)
	if len(to) > 0 {
		target = m.hub.To(to...).Except(except...)
	}
	m.event++
	args := []any{m.event}
	switch m.rng.IntN(8) {
	case 0:
		args = append(args, Binary("bytes"))
	case 1:
		args = append(args, strings.Repeat("text ", m.rng.IntN(2000)))
	}
	if err := target.Emit("n", args...); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range m.all {
		if (len(to) == 0 || c.inAny(to)) && !c.inAny(except) {
			c.mail = append(c.mail, m.event)
		}
	}
}

// move has a client join or leave a room, present or not.
func (m *faultModel) move() {
	c, room := m.someone(), modelFaultRooms[m.rng.IntN(len(modelFaultRooms))]
	var err error
	if c.rooms[room] {
		delete(c.rooms, room)
		err = m.hub.To(c.name).Leave(m.t.Context(), room)
	} else {
		c.rooms[room] = true
		err = m.hub.To(c.name).Join(m.t.Context(), room)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// call has a client ask the hub, and be answered in the end.
func (m *faultModel) call() {
	c := m.someone()
	m.event++
	n := m.event
	m.calls.Go(func() {
		got, err := Call[int](context.Background(), c, "double", n)
		m.mu.Lock()
		defer m.mu.Unlock()
		if err == nil && (got != 2*n || m.handled[n] == 0) || err != nil && !m.ends {
			m.t.Errorf("%s: call %d: %d, %v; handled %d times", c.name, n, got, err, m.handled[n])
		}
	})
}

// breakOne plans a fault for a client, after some bytes.
func (m *faultModel) breakOne() {
	kind := breakage(1 + m.rng.IntN(breakages-1))
	if kind == breakRead {
		kind = breakReset // net/http would refuse a Client for good whose request it cannot read
	}
	m.someone().net.plan(fault{kind, m.rng.IntN(2), m.rng.IntN(1 + m.rng.IntN(2000))})
}

func (m *faultModel) step() {
	switch op := m.rng.IntN(20); {
	case op < 9:
		m.emit()
	case op < 12:
		m.move()
	case op < 15:
		m.call()
	case op < 18:
		m.breakOne()
	default:
		<-time.After(time.Duration(m.rng.IntN(3000)) * time.Millisecond)
	}
}

// finish lets the networks heal, and checks that each client gets all that was for it, once and in
// order, is in the rooms that the model has it in, and has been answered.
func (m *faultModel) finish() {
	m.t.Helper()
	for _, c := range m.all {
		c.net.plan(fault{})
	}
	m.calls.Wait()
	for _, c := range m.all {
		began := time.Now()
		for !c.has(c.mail) || m.hub.socket(c.ID()) == nil {
			if time.Since(began) > 5*time.Minute {
				state := c.State()
				c.mu.Lock()
				defer c.mu.Unlock()
				m.t.Fatalf("%s: got %v\nof %v, state %v", c.name, c.got, c.mail, state)
			}
			<-time.After(100 * time.Millisecond)
		}
	}
	m.same()
}

// same checks that nobody got anything else.
func (m *faultModel) same() {
	m.t.Helper()
	m.hub.recovery.check(m.t)
	for _, c := range m.all {
		if !c.has(c.mail) || c.odd != "" {
			m.t.Errorf("%s: got %v\nof %v; %s", c.name, c.got, c.mail, c.odd)
		}
		if s := m.hub.socket(c.ID()); s == nil {
			m.t.Errorf("%s is not at the hub", c.name)
		} else if rooms := s.Rooms(); len(rooms) != 1+len(c.rooms) || !c.inAny(rooms) {
			m.t.Errorf("%s is in %v, want %v", c.name, rooms, c.rooms)
		}
	}
}

// has reports whether exactly this has come.
func (v *visit) has(mail []int) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Equal(slices.Concat(v.got...), mail)
}

// Whatever is done to clients in rooms while their connections break in all ways, at random bytes:
// each gets what is for it, once and in order, and all that it asks is answered.
func TestFaultsModel(t *testing.T) {
	forSeeds(t, "Clients", func(t *testing.T, seed uint64) {
		for round := range uint64(4) {
			m := newFaultModel(t, 100*seed+round, Options{}, 4)
			for range 200 {
				m.step()
			}
			m.finish()
		}
	})
}

// A plainWitness is a plain client without faults, which notes what it gets until the end.
type plainWitness struct {
	conn *Conn
	got  []string
	end  chan error // has room
}

func newPlainWitness(t *testing.T, h http.Handler) *plainWitness {
	n := newFaultNet(shape{})
	serve(t, n.over(), h)
	conn, _, err := Dial(t.Context(), "ws://localhost/", DialOptions{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return n.dial() }})
	if err != nil {
		t.Fatal(err)
	}
	if _, p, err := conn.Read(t.Context()); err != nil { // the connect message
		t.Fatalf("%s, %v", p, err)
	}
	w := &plainWitness{conn: conn, end: make(chan error, 1)}
	go func() {
		for {
			_, p, err := conn.Read(context.Background())
			if err != nil {
				w.end <- err
				return
			}
			w.got = append(w.got, string(p))
		}
	}()
	return w
}

// At a random moment of all that the hub is shut down. Who stays connected until then gets all that
// was emitted before, and then the goodbye, those whose networks break a beginning of what was for
// them; no handler runs any more; and a call that was answered was handled.
func TestFaultsModelOfShutdown(t *testing.T) {
	forSeeds(t, "Clients", func(t *testing.T, seed uint64) {
		for round := range uint64(8) {
			m := newFaultModel(t, 100*seed+round, Options{}, 4)
			m.ends = true
			w := newPlainWitness(t, m.hub)
			for range m.rng.IntN(100) {
				m.step()
			}
			for i := range 10 {
				m.hub.Emit("plain", i)
			}
			done := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				done <- m.hub.Shutdown(ctx)
			}()
			for range m.rng.IntN(20) {
				m.emit()
			}
			err := <-done
			if err != nil && !strings.Contains(err.Error(), "did not take all") {
				t.Fatalf("round %d: %v", round, err)
			}
			m.mu.Lock()
			if m.running != 0 {
				t.Errorf("round %d: %d handlers run still", round, m.running)
			}
			m.mu.Unlock()
			m.checkGoodbye(w)
			for _, c := range m.all {
				c.Close()
				c.mu.Lock()
				got := slices.Concat(c.got...)
				c.mu.Unlock()
				if !slices.Equal(got, c.mail[:min(len(got), len(c.mail))]) {
					t.Errorf("round %d, %s: got %v\nof %v", round, c.name, got, c.mail)
				}
			}
			m.calls.Wait()
		}
	})
}

// checkGoodbye checks what a plain client has got at the end.
func (m *faultModel) checkGoodbye(w *plainWitness) {
	m.t.Helper()
	end := <-w.end
	if e, ok := errors.AsType[*CloseError](end); !ok || e.Code != StatusServiceRestart {
		m.t.Errorf("the goodbye is %v", end)
	}
	i := 0
	for _, text := range w.got {
		if strings.Contains(text, `"plain"`) {
			if want := fmt.Sprintf(`{"event":"plain","data":%d}`, i); text != want {
				m.t.Errorf("got %s, want %s", text, want)
			}
			i++
		}
	}
	if i != 10 {
		m.t.Errorf("the plain client got %d of 10", i)
	}
}

// restart replaces the hub by its successor, which is made before, while or after the old one shuts
// down. Both emit meanwhile.
func (m *faultModel) restart() {
	<-time.After(time.Second) // the clock is to be ahead of the events' numbers: see succession.first
	old, first := m.hub, m.rng.IntN(3)
	witnesses := []*plainWitness{newPlainWitness(m.t, old), newPlainWitness(m.t, old)} // the drain takes a second
	var next *Hub
	if first == 0 {
		next = m.newHub()
	}
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		done <- old.Shutdown(ctx)
	}()
	eventually(m.t, "the shutdown to begin", old.isClosing)
	if first == 1 {
		next = m.newHub()
	}
	if next != nil {
		m.serving.Store(next)
		m.overlap(old, next)
	}
	for range m.rng.IntN(4) {
		m.breakOne()
	}
	err := <-done
	if err != nil && !strings.Contains(err.Error(), "did not take all") {
		m.t.Fatal(err)
	}
	for _, w := range witnesses {
		if e, ok := errors.AsType[*CloseError](<-w.end); !ok || e.Code != StatusServiceRestart {
			m.t.Errorf("the goodbye is %v", e)
		}
	}
	if next == nil {
		next = m.newHub()
	}
	m.hub = next
	m.serving.Store(next)
	eventually(m.t, "the clients to be handed over", func() bool { return !next.succession.pending.Load() })
}

// overlap has both hubs emit. What the old one emits comes first.
func (m *faultModel) overlap(old, next *Hub) {
	before := make([][]int, len(m.all))
	take := func(into [][]int) {
		for i, c := range m.all {
			into[i], c.mail = c.mail, into[i]
		}
	}
	after := make([][]int, len(m.all))
	take(before)
	for range m.rng.IntN(10) {
		m.hub = old
		into := before
		if m.rng.IntN(2) == 0 {
			m.hub, into = next, after
		}
		take(into)
		m.emit()
		take(into)
	}
	for i, c := range m.all {
		c.mail = append(before[i], after[i]...)
	}
}

// Clients whose networks break all the time, while the hub is restarted again and again at random
// moments, overlapping or not: each gets what either hub has emitted for it, once and in order, is
// in its rooms, and is answered.
func TestFaultsModelOfRestarts(t *testing.T) {
	forSeeds(t, "Clients", func(t *testing.T, seed uint64) {
		for round := range uint64(4) {
			options := Options{DrainRate: 1, Recovery: Recovery{Path: filepath.Join(t.TempDir(), "state")}}
			m := newFaultModel(t, 100*seed+round, options, 4)
			for range 3 {
				for range m.rng.IntN(60) {
					m.step()
				}
				m.restart()
			}
			m.finish()
		}
	})
}
