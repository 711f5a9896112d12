package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
	"github.com/atrium-go/atrium/redisbus"
)

// ServerOptions are what a server is told.
type ServerOptions struct {
	Ledger  string // its file
	Emitter int    // the server's number in it
	Rooms   int
	Every   time.Duration // between two events to a room
	Padding int           // bytes that each of them has besides
	Flood   int           // bytes of an event to the room of those who read slowly, with every 16th other; 0: there is none
	Drain   time.Duration // how long it may take

	Recovery     string        // where it is kept over a restart
	Away         time.Duration // how long a client may be away
	PingInterval time.Duration
	Ping         time.Duration
	QueuedBytes  int
	Level        int    // of compression; 0: none
	Redis        string // its address; "": no Bus

	Flaw string // what a test has the server do wrong
}

// Figures are a server's at a moment, after a garbage collection.
type Figures struct {
	Goroutines, Descriptors int
	Heap, Resident          int64
	Sockets, Timers         int // that the hub has
	Errors                  int // that it has logged, but for those of a Bus
}

// Drained is how a server has ended.
type Drained struct {
	Took  time.Duration
	Error string  // of Shutdown
	Left  Figures // what was left in the process
}

// Kinds are those of a Node's servers.
var Kinds = map[string]process.Kind{"fleet": func(l net.Listener) func(int) {
	var o ServerOptions
	check(json.Unmarshal([]byte(os.Args[1]), &o))
	s := newServer(o)
	s.listeners = []net.Listener{l, process.Secure(process.Inherited(1))}
	process.Answer = s.answer
	return nil
}}

// server is a hub whose clients join rooms, which it emits events to.
type server struct {
	options ServerOptions
	ledger  *Ledger
	log     *errorLog
	hub     *atrium.Hub
	redis   *redis.Client

	listeners []net.Listener
	stop      context.CancelFunc
	serving   errgroup.Group
	accepts   accepts
	draining  atomic.Bool
	drained   time.Time     // when that began
	quiet     chan struct{} // closed when it is to emit nothing more
	emitting  sync.WaitGroup
}

// The arguments of the calls.
type (
	stay struct {
		Room   int `json:"room"`
		Number int `json:"number"`
	}
	order struct {
		Client int    `json:"client"`
		Key    uint64 `json:"key"`
	}
)

func newServer(o ServerOptions) *server {
	ledger, err := OpenLedger(o.Ledger)
	check(err)
	s := &server{options: o, ledger: ledger, log: newErrorLog(), quiet: make(chan struct{})}
	options := hubOptions(o)
	options.Logger = slog.New(s.log)
	if o.Redis != "" {
		redis.SetLogger(silent{})
		s.redis = redis.NewClient(&redis.Options{Addr: o.Redis})
		options.Bus = redisbus.New(s.redis)
	}
	s.hub = atrium.New(options)
	s.handle()
	s.emitting.Go(s.emit)
	return s
}

func (s *server) handle() {
	s.hub.OnConnect(func(socket *atrium.Socket) {
		socket.Emit("hello", fmt.Sprint(s.options.Emitter, ".", socket.ID()))
	})
	// The answers to a join and a leave are the socket's id.
	atrium.OnCall(s.hub, "join", func(socket *atrium.Socket, v stay) (string, error) {
		return socket.ID(), socket.Join(roomName(v.Room))
	})
	// That a client has left is an event as well, because a Client's calls overtake events.
	atrium.OnCall(s.hub, "leave", func(socket *atrium.Socket, v stay) (string, error) {
		if s.options.Flaw != "late" {
			socket.Leave(roomName(v.Room))
		}
		return socket.ID(), socket.Emit("left", strconv.Itoa(v.Number))
	})
	atrium.OnCall(s.hub, "order", func(_ *atrium.Socket, v order) (uint64, error) {
		if v.Client <= 0 || v.Client >= maxClients {
			return 0, atrium.Errorf("client: expected a number from 1 to %d", maxClients-1)
		}
		s.ledger.carryOut(v.Client, v.Key)
		if s.options.Flaw == "twice" {
			s.ledger.carryOut(v.Client, v.Key)
		}
		return v.Key, nil
	})
	atrium.OnCall(s.hub, "flood", func(socket *atrium.Socket, _ any) (string, error) {
		return socket.ID(), socket.Join("flood")
	})
}

func roomName(room int) string { return "room " + strconv.Itoa(room) }

// emit emits events to one room after the other, until it is to be quiet, or all but a few clients
// have left during a drain.
func (s *server) emit() {
	ticks := time.NewTicker(s.options.Every / time.Duration(s.options.Rooms))
	defer ticks.Stop()
	padding := strings.Repeat("x", s.options.Padding)
	flood := strings.Repeat("y", s.options.Flood)
	for tick := 0; ; tick++ {
		room := tick % s.options.Rooms
		select {
		case <-s.quiet:
			return
		case <-ticks.C:
		}
		if s.draining.Load() && s.count() < 1+s.options.Rooms/10 {
			return
		}
		e := &s.ledger.events[s.options.Emitter][room]
		n := e.begun.Add(1)
		s.emitTo(room, n, padding)
		e.done.Store(n)
		if s.options.Flood > 0 && tick%16 == 0 {
			s.hub.To("flood").Local().Emit("flood", flood)
		}
	}
}

func (s *server) emitTo(room int, n uint64, padding string) {
	to := s.hub.To(roomName(room))
	tell := func(n uint64) { to.Emit("told", fmt.Sprint(s.options.Emitter, ".", n, ".", room, ".", padding)) }
	if s.options.Flaw == "" || n%5 != 0 {
		tell(n)
		return
	}
	switch s.options.Flaw {
	case "lose":
	case "double":
		tell(n)
		tell(n)
	case "reorder":
		tell(n + 1)
		tell(n)
	default:
		tell(n)
	}
}

func (s *server) count() int {
	n, _ := s.hub.Local().Count(context.Background())
	return n
}

// serve serves until the server is to drain.
func (s *server) serve() {
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	for _, l := range s.listeners {
		srv := &http.Server{Handler: s.hub, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
		s.serving.Go(func() error { return s.hub.Serve(ctx, srv, &counted{l, &s.accepts}) })
	}
}

// answer implements process.Answer.
func (s *server) answer(question string) string {
	var answer any
	switch question {
	case "figures":
		answer = s.figures()
	case "accepts":
		answer = s.accepts.list()
	case "quiet":
		s.beQuiet()
	case "serve":
		s.serve()
	case "drain":
		s.drain()
	case "end":
		answer = s.end()
	}
	b, err := json.Marshal(answer)
	check(err)
	return string(b)
}

func (s *server) beQuiet() {
	select {
	case <-s.quiet:
	default:
		close(s.quiet)
	}
	s.emitting.Wait()
}

func (s *server) figures() Figures {
	m := process.Own()
	return Figures{
		Goroutines: m.Goroutines, Descriptors: process.Descriptors(), Heap: m.Heap, Resident: m.Resident,
		Sockets: s.count(), Timers: s.timers(), Errors: int(s.log.errors.Load()),
	}
}

// timers returns how many time-outs the hub has scheduled, which it tells nobody. It reads without
// the lock of their wheel: a figure may be a little old.
func (s *server) timers() int {
	wheel := reflect.ValueOf(s.hub).Elem().FieldByName("sessions").FieldByName("clock").Elem()
	return int(wheel.FieldByName("count").Int())
}

// drain begins to let the clients go, and returns when that is known to a successor.
func (s *server) drain() {
	s.drained = time.Now()
	s.draining.Store(true)
	s.stop()
	for !errors.Is(s.hub.Ready(), atrium.ErrClosed) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond) // Shutdown notes it beside Recovery.Path next
}

// end returns when all have gone.
func (s *server) end() Drained {
	err := s.serving.Wait()
	took := time.Since(s.drained)
	s.beQuiet()
	d := Drained{Took: took, Left: s.figures()}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

// accepts are when connections were accepted, since the first.
type accepts struct {
	mu sync.Mutex // guards:
	at []time.Time
}

func (a *accepts) note() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
}

func (a *accepts) list() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at
}

// counted is a listener that notes its connections.
type counted struct {
	net.Listener
	at *accepts
}

func (l *counted) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.at.note()
	}
	return nc, err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
