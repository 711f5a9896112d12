package main

import (
	"encoding/json"
	"net"
	"net/http"
	"sync"

	"github.com/lxzan/gws"

	"github.com/atrium-go/atrium/bench/process"
)

// gwsServe serves as gws's documentation recommends, without its parallel handling of one
// connection's messages, which may answer in another order.
func gwsServe(l net.Listener, compress bool, handler gws.Event) {
	upgrader := gws.NewUpgrader(handler, &gws.ServerOption{
		Recovery:          gws.Recovery,
		PermessageDeflate: gws.PermessageDeflate{Enabled: compress},
	})
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r)
		if err != nil {
			return
		}
		go c.ReadLoop()
	}))
}

type gwsEchoHandler struct{ gws.BuiltinEventHandler }

func (gwsEchoHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	c.WriteMessage(m.Opcode, m.Bytes())
}

func gwsEcho(compress bool) process.Kind {
	return func(l net.Listener) func(int) {
		gwsServe(l, compress, gwsEchoHandler{})
		return nil
	}
}

type gwsCallHandler struct{ gws.BuiltinEventHandler }

func (gwsCallHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	var r request
	if err := json.Unmarshal(m.Bytes(), &r); err != nil {
		c.WriteClose(1007, nil)
		return
	}
	answer, err := json.Marshal(r.handle())
	check(err)
	c.WriteMessage(gws.OpcodeText, answer)
}

func gwsCall(l net.Listener) func(int) {
	gwsServe(l, false, gwsCallHandler{})
	return nil
}

// gwsMembers is a room whose messages go through gws's Broadcaster: framed once, and written by
// goroutines that it starts for those members that have something to write.
type gwsMembers struct {
	gws.BuiltinEventHandler
	mu      sync.Mutex
	members map[*gws.Conn]bool
}

func (h *gwsMembers) OnOpen(c *gws.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members[c] = true
	c.WriteString(welcome)
}

func (h *gwsMembers) OnClose(c *gws.Conn, _ error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, c)
}

func (h *gwsMembers) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members)
}

func (h *gwsMembers) say(text []byte) {
	b := gws.NewBroadcaster(gws.OpcodeText, text)
	defer b.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.members {
		check(b.Broadcast(c))
	}
}

func gwsRoom(l net.Listener) func(int) {
	h := &gwsMembers{members: make(map[*gws.Conn]bool)}
	gwsServe(l, false, h)
	said := message{size: roomSize}
	return room(h.count, each(func(n int) { h.say(said.data(n)) }))
}
