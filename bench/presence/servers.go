package main

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// The kinds of servers: nobody is told, the hub tells, the application does.
const (
	untold = "nobody is told"
	told   = "presence"
	byHand = "by hand"
)

var (
	kindNames = []string{untold, told, byHand}
	kinds     = make(map[string]process.Kind)
)

func init() {
	serve := map[string]func(*atrium.Hub){untold: serveUntold, told: servePresence, byHand: serveByHand}
	for _, name := range kindNames {
		for _, compressed := range []bool{false, true} {
			kinds[kindName(name, compressed)] = func(l net.Listener) func(int) { return run(l, compressed, serve[name]) }
		}
	}
}

// A user is who a member says it is.
type user struct {
	Name   string `json:"name"`
	Avatar string `json:"avatar"`
}

func userOf(s *atrium.Socket) (key string, u user) {
	key = s.Handshake().URL().Query().Get("key")
	return key, user{"User " + key, "/avatars/" + key + ".png"}
}

// The commands of a server.
const (
	profileBegins = 1 // into the file that its argument names
	profileEnds   = 2
)

func run(l net.Listener, compressed bool, serve func(*atrium.Hub)) func(command int) {
	o := atrium.Options{
		Timeouts: atrium.Timeouts{PingInterval: time.Hour}, // the clients answer no pings
		Limits:   atrium.Limits{Presence: 1 << 20, QueuedBytes: 1 << 30},
	}
	if compressed {
		o.Compression.Level = 1
	}
	h := atrium.New(o)
	serve(h)
	go http.Serve(l, h)
	var profile *os.File
	return func(command int) {
		switch command {
		case profileBegins:
			var err error
			profile, err = os.Create(os.Args[1])
			check(err)
			check(pprof.StartCPUProfile(profile))
		case profileEnds:
			pprof.StopCPUProfile()
			check(profile.Close())
		}
	}
}

const room = "room"

func serveUntold(h *atrium.Hub) {
	h.OnConnect(func(s *atrium.Socket) { check(s.Join(room)) })
}

func servePresence(h *atrium.Hub) {
	h.OnConnect(func(s *atrium.Socket) {
		key, user := userOf(s)
		check(s.Join(room))
		check(s.Present(room, key, user))
	})
}

// An entry is one of a list by hand.
type entry struct {
	Key   string            `json:"key"`
	Infos []json.RawMessage `json:"infos"`
}

// serveByHand does what an application would do without presence: without a grace, and for one
// server.
func serveByHand(h *atrium.Hub) {
	var mu sync.Mutex // guards who, and is held so that all is told in the order in which it happens
	who := make(map[*atrium.Socket]entry)
	h.OnConnect(func(s *atrium.Socket) {
		key, user := userOf(s)
		info, err := json.Marshal(user)
		check(err)
		e := entry{key, []json.RawMessage{info}}
		mu.Lock()
		defer mu.Unlock()
		check(h.To(room).Emit("joined", e))
		who[s] = e
		list := make([]entry, 0, len(who))
		for _, e := range who {
			list = append(list, e)
		}
		check(s.Join(room))
		check(s.Emit("list", list))
	})
	h.OnDisconnect(func(s *atrium.Socket, _ atrium.Reason) {
		mu.Lock()
		defer mu.Unlock()
		check(h.To(room).Emit("left", who[s].Key))
		delete(who, s)
	})
}
