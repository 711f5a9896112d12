package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// A lab starts hubs for clients that ask for them over HTTP, does to their connections what they
// want done, and tells them what the hub saw. It serves a page that runs the scenarios, too.
type lab struct {
	t   *testing.T
	url string

	mu   sync.Mutex // guards:
	hubs []*labHub
}

// A labHub is a hub with the handlers that the scenarios need, and a proxy before it whose
// connections can be cut.
type labHub struct {
	lab     *lab
	kind    string // "node" is no hub, but Node's own server
	options atrium.Options
	proxy   *proxy

	mu      sync.Mutex             // guards:
	hub     *atrium.Hub            // another one when it was killed and has come back
	node    *exec.Cmd              // instead of a hub
	departs map[string]chan string // by socket id: why it has left
}

func newLab(t *testing.T) *lab {
	l := &lab{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /lab/start", func(w http.ResponseWriter, r *http.Request) { l.answer(w, l.start(r)) })
	mux.HandleFunc("POST /lab/{id}/{verb}", func(w http.ResponseWriter, r *http.Request) { l.answer(w, l.do(r)) })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, labPage)
	})
	for _, name := range []string{"socketio-scenarios.mjs", "client-scenarios.mjs", "client-page.mjs", "one-room.mjs", "numbered.mjs"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
	}
	mux.HandleFunc("GET /client", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", clientPolicy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, clientPage)
	})
	mux.HandleFunc("GET /elsewhere/bare", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, addressPage)
	})
	mux.Handle("GET /client.js", atrium.ClientScript())
	mux.Handle("GET /dist/", http.StripPrefix("/dist", http.FileServer(http.Dir("node_modules/socket.io-client/dist"))))
	srv := httptest.NewUnstartedServer(mux)
	t.Cleanup(srv.Close)
	l.url = "http://" + srv.Listener.Addr().String()
	srv.Start()
	return l
}

// labPage can run any scenario. The client is the one that npm has, made for browsers.
const labPage = `<!doctype html>
<html lang="en"><title>Socket.IO</title><link rel="icon" href="data:,">
<script type="module">
	import { io } from '/dist/socket.io.esm.min.js';
	import { names, run } from '/socketio-scenarios.mjs';
	window.io = io;
	window.names = names();
	window.run = (name, transports) => run(name, { io, WebSocket, lab: location.origin, transports }).then(() => '', (e) => e.stack);
</script>`

// addressPage finds out where a socket of "/socket.io/" would connect to, in a page, a frame and
// workers.
const addressPage = `<!doctype html>
<html lang="en"><title>addresses</title><link rel="icon" href="data:,">
<script type="module">
	const ask = (post) => ` + "`" + `
		globalThis.WebSocket = class { constructor(url) { ${post}(String(url)); } close() {} };
		const { connect } = await import('${location.origin}/client.js');
		try { connect('/socket.io/'); } catch (error) { ${post}(String(error)); }
	` + "`" + `;
	const heard = (target) => new Promise((done) => target.addEventListener('message', ({ data }) => done(data), { once: true }));
	const worker = (url) => heard(new Worker(url, { type: 'module' }));
	window.addresses = (where) => ({
		page: async () => {
			const answer = heard(window);
			document.head.append(Object.assign(document.createElement('script'), { type: 'module', textContent: ask('postMessage') }));
			return answer;
		},
		srcdoc: async () => {
			const answer = heard(window);
			document.body.append(Object.assign(document.createElement('iframe'), { srcdoc: '<script type="module">' + ask('parent.postMessage') + '<' + '/script>' }));
			return answer;
		},
		blob: () => worker(URL.createObjectURL(new Blob([ask('postMessage')], { type: 'text/javascript' }))),
		data: () => worker('data:text/javascript,' + encodeURIComponent(ask('postMessage'))),
	})[where]();
</script>`

func (l *lab) answer(w http.ResponseWriter, result any) {
	if err, bad := result.(error); bad {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	json.NewEncoder(w).Encode(result)
}

func (l *lab) start(r *http.Request) any {
	number := func(name string) int {
		n, _ := strconv.Atoi(r.URL.Query().Get(name)) // else the default
		return n
	}
	ms := func(name string) time.Duration { return time.Duration(number(name)) * time.Millisecond }
	h := &labHub{lab: l, kind: r.URL.Query().Get("server"), departs: make(map[string]chan string), options: atrium.Options{
		AllowedOrigins: []string{l.url},
		Limits:         atrium.Limits{MessageBytes: int64(number("maxPayload")), Attachments: number("maxAttachments")},
		Timeouts:       atrium.Timeouts{PingInterval: ms("pingInterval"), Ping: ms("pingTimeout")},
		Recovery:       atrium.Recovery{MaxDisconnection: ms("recovery")},
		Presence:       atrium.PresenceOptions{Grace: ms("grace")},
		Logger:         slog.New(slog.NewTextHandler(complaints{l.t}, &slog.HandlerOptions{Level: slog.LevelError})),
	}}
	addr, err := h.begin()
	if err != nil {
		return err
	}
	if h.proxy, err = newProxy(addr); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hubs = append(l.hubs, h)
	return map[string]any{"id": len(l.hubs) - 1, "url": "http://" + addr, "proxied": "http://" + h.proxy.addr}
}

// complaints fails the test with each line that a hub logs, but for the error that a scenario
// provokes.
type complaints struct{ t *testing.T }

func (c complaints) Write(b []byte) (int, error) {
	if !strings.Contains(string(b), secret) {
		c.t.Errorf("the hub complained: %s", b)
	}
	return len(b), nil
}

func (l *lab) do(r *http.Request) any {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil {
		return err
	}
	l.mu.Lock()
	h := l.hubs[id]
	l.mu.Unlock()
	switch verb := r.PathValue("verb"); verb {
	case "left":
		return h.left(r.URL.Query().Get("socket"))
	case "cut":
		h.proxy.each(cut)
	case "reset":
		h.proxy.stall() // one end should not hear of the other's
		h.proxy.each(reset)
	case "stall":
		h.proxy.stall()
	case "sever":
		h.proxy.sever()
	case "shutdown":
		err = h.shutdown()
	case "down":
		h.proxy.down()
	case "up":
		h.kill()
		var addr string
		if addr, err = h.begin(); err == nil {
			err = h.proxy.listen(addr)
		}
	case "mend":
		err = h.proxy.listen(h.proxy.target)
	case "stop":
		if h.proxy.isDown() {
			h.kill() // nobody would hear of a shutdown
		}
		err = h.shutdown()
		h.proxy.down()
	default:
		err = fmt.Errorf("no verb %q", verb)
	}
	if err != nil {
		return err
	}
	return true
}

// left waits until the socket has left, and says why.
func (h *labHub) left(id string) any {
	select {
	case reason := <-h.departure(id):
		return map[string]string{"reason": reason}
	case <-time.After(patience / 2):
		return fmt.Errorf("the hub has not noticed that %q left", id)
	}
}

func (h *labHub) departure(id string) chan string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.departs[id] == nil {
		h.departs[id] = make(chan string, 10) // with recovery, one socket may leave more than once
	}
	return h.departs[id]
}

// shutdown fails if anybody is left behind.
func (h *labHub) shutdown() error {
	if h.kind == "node" {
		h.kill()
		return nil
	}
	h.mu.Lock()
	hub := h.hub
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	return hub.Shutdown(ctx)
}

// kill ends the hub as the end of its process would.
func (h *labHub) kill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kind == "node" {
		h.node.Process.Kill() // fails if it has ended
		h.node.Wait()
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.hub.Shutdown(ctx)
}

// begin starts a new hub, and returns its address.
func (h *labHub) begin() (string, error) {
	if h.kind == "node" {
		return h.beginNode()
	}
	hub, mux := newLabHub(h), http.NewServeMux()
	mux.Handle("/socket.io/", hub)
	server := httptest.NewServer(mux)
	h.lab.t.Cleanup(server.CloseClientConnections)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hub = hub
	return server.Listener.Addr().String(), nil
}

const secret = "the password is 1234"

type roomMessage struct {
	Room string `json:"room"`
	Text string `json:"text"`
}

func (m roomMessage) Validate() error {
	if m.Text == "" {
		return &atrium.Error{Message: "Invalid", Data: map[string]string{"field": "text"}}
	}
	return nil
}

type receipt struct {
	Success bool `json:"success"`
	ID      int  `json:"id"`
}

// newLabHub is what the scenarios talk to.
func newLabHub(l *labHub) *atrium.Hub {
	h := atrium.New(l.options)
	h.Use(func(s *atrium.Socket) error {
		var auth struct{ Token string }
		if err := s.Handshake().Bind(&auth); err != nil {
			return err
		}
		if auth.Token != "ok" {
			return &atrium.Error{Message: "Auth failed", Data: map[string]int{"code": 401}}
		}
		return nil
	})
	count := func(s *atrium.Socket, what string) int { // how often this was called before
		n, _ := atrium.Value[int](s, what)
		s.Set(what, n+1)
		return n
	}
	h.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) {
		l.departure(s.ID()) <- string(why) + strings.Repeat(" after last words", count(s, "last words"))
	})

	atrium.On(h, "join-room", func(s *atrium.Socket, room string) error { return s.Join(room) })
	atrium.On(h, "present", func(s *atrium.Socket, p present) error {
		if err := s.Join(p.Room); err != nil {
			return err
		}
		return s.Present(p.Room, p.Key, p.Info)
	})
	atrium.On(h, "leave-room", func(s *atrium.Socket, room string) error { s.Leave(room); return nil })
	var mu sync.Mutex
	messages := 0
	send := func(s *atrium.Socket, m roomMessage, to atrium.Target) (receipt, error) {
		if !s.In(m.Room) {
			return receipt{}, &atrium.Error{Message: "You are not in this room", Data: map[string]string{"room": m.Room}}
		}
		mu.Lock()
		defer mu.Unlock()
		messages++
		return receipt{true, messages}, to.Emit("msg", m.Text)
	}
	atrium.OnCall(h, "send-msg", func(s *atrium.Socket, m roomMessage) (receipt, error) { return send(s, m, h.To(m.Room)) })
	atrium.OnCall(h, "send-others", func(s *atrium.Socket, m roomMessage) (receipt, error) { return send(s, m, s.To(m.Room)) })
	atrium.On(h, "broadcast", func(s *atrium.Socket, news string) error { return s.Broadcast().Emit("news", news) })
	atrium.On(h, "everyone", func(_ *atrium.Socket, news string) error { return h.Emit("news", news) })

	h.Handle("echo", func(e *atrium.Event) {
		args := make([]any, 0, 4)
		for _, arg := range e.Args() {
			args = append(args, arg)
		}
		if err := e.Reply(args...); err != nil {
			e.ReplyError(err)
		}
	})
	atrium.On(h, "secret", func(*atrium.Socket, any) error { return errors.New(secret) })
	many := func(n int) []any {
		values := make([]any, n)
		for i := range values {
			values[i] = atrium.Binary{1}
		}
		return values
	}
	atrium.OnCall(h, "many", func(_ *atrium.Socket, n int) (any, error) { return many(n), nil })
	atrium.On(h, "emit-many", func(s *atrium.Socket, n int) error { return s.Emit("many", many(n)...) })
	atrium.OnCall(h, "ask", func(s *atrium.Socket, n any) (any, error) { return atrium.Call[any](s.Context(), s, "sure?", n) })
	h.Handle("back", func(e *atrium.Event) {
		args := make([]any, 0, 8)
		for _, arg := range e.Args() {
			args = append(args, arg)
		}
		e.Socket().Emit("back", args...)
	})
	notes := []json.RawMessage{} // guarded by mu
	h.Handle("note", func(e *atrium.Event) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, e.Args()[0])
	})
	atrium.OnCall(h, "notes", func(*atrium.Socket, any) ([]json.RawMessage, error) {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(notes), nil
	})
	h.Handle("ask-nobody", func(e *atrium.Event) { <-e.Socket().Context().Done() })
	h.Handle("kick", func(e *atrium.Event) {
		e.Socket().Emit("goodbye", "the last word")
		e.Socket().Disconnect()
	})
	h.Handle("kick-client", func(e *atrium.Event) {
		e.Socket().Emit("goodbye", "the last word")
		e.Socket().DisconnectClient()
	})
	h.Handle("ban", func(e *atrium.Event) {
		if err := e.Socket().DisconnectWith(4001, "banned"); err != nil {
			l.lab.t.Error(err)
		}
	})
	atrium.OnAck(h, "slow", func(s *atrium.Socket, _ any, ack *atrium.Ack) error {
		s.Set("slow", ack)
		return nil
	})
	h.Handle("fast", func(e *atrium.Event) {
		e.Reply("first")
		if ack, ok := atrium.Value[*atrium.Ack](e.Socket(), "slow"); ok {
			ack.Reply("second")
		}
	})
	h.Handle("last-words", func(e *atrium.Event) {
		var n int
		if err := e.Bind(&n); err != nil || n != count(e.Socket(), "last words") {
			l.lab.t.Errorf("last words %d (%v) out of order", n, err)
		}
	})

	h.Handle("upload", func(e *atrium.Event) {
		var file struct {
			Name string
			Data []byte
		}
		var again []byte
		if err := e.Bind(&file, &again); err != nil {
			e.ReplyError(err)
			return
		}
		sum := 0
		for _, b := range append(file.Data, again...) {
			sum += int(b)
		}
		e.Reply(map[string]any{"name": file.Name, "length": []int{len(file.Data), len(again)}, "sum": sum})
	})
	atrium.OnCall(h, "download", func(_ *atrium.Socket, n int) (any, error) {
		data := make(atrium.Binary, n)
		for i := range data {
			data[i] = byte(i*7 + i>>8)
		}
		return map[string]any{"length": n, "data": data}, nil
	})
	atrium.On(h, "picture", func(s *atrium.Socket, data []byte) error { return s.Broadcast().Emit("picture", atrium.Binary(data)) })

	var ticking sync.Once
	h.Handle("up", func(e *atrium.Event) {
		ticking.Do(func() { go tick(l.lab.t.Context(), h) })
		var n int
		if err := e.Bind(&n); err != nil || n != count(e.Socket(), "up") {
			l.lab.t.Errorf("message %d (%v) out of order", n, err)
		}
		e.Socket().Emit("down", n)
		e.Reply(n)
	})
	h.Handle("up-count", func(e *atrium.Event) { e.Reply(count(e.Socket(), "up")) })

	admin := h.Of("/admin")
	admin.Use(func(s *atrium.Socket) error {
		var auth struct{ Name string }
		defer func() { s.Set("name", auth.Name) }()
		return s.Handshake().Bind(&auth)
	})
	admin.OnConnect(func(s *atrium.Socket) {
		name, _ := s.Get("name")
		s.Emit("welcome", name)
	})
	admin.OnDisconnect(func(s *atrium.Socket, why atrium.Reason) { l.departure(s.ID()) <- string(why) })
	atrium.OnCall(admin, "whoami", func(s *atrium.Socket, _ any) (string, error) {
		name, _ := atrium.Value[string](s, "name")
		return s.Namespace().Name() + " " + name, nil
	})
	return h
}

// tick counts aloud, to everyone.
func tick(ctx context.Context, h *atrium.Hub) {
	ticker := time.NewTicker(30 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ticker.C:
			h.Emit("tick", n)
		case <-ctx.Done():
			return
		}
	}
}

// A proxy passes bytes on, until it is told to be a bad network.
type proxy struct {
	addr  string
	delay atomic.Int64 // nanoseconds, for each piece that passes

	mu     sync.Mutex // guards:
	target string
	ln     net.Listener                  // nil while it is down
	nears  map[*net.TCPConn]*atomic.Bool // the clients' connections, and whether they are stalled
	fars   map[*net.TCPConn]*atomic.Bool // theirs to the server
}

func newProxy(target string) (*proxy, error) {
	p := &proxy{nears: make(map[*net.TCPConn]*atomic.Bool), fars: make(map[*net.TCPConn]*atomic.Bool)}
	// Its port is one that nobody gets who asks for any; see quietAddr.
	var err error
	for range 100 {
		p.addr = fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if err = p.listen(target); err == nil {
			return p, nil
		}
	}
	return nil, err
}

func (p *proxy) listen(target string) error {
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.ln, p.target = ln, target
	p.mu.Unlock()
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			p.serve(near.(*net.TCPConn), far.(*net.TCPConn))
		}
	}()
	return nil
}

func (p *proxy) serve(near, far *net.TCPConn) {
	var both sync.WaitGroup
	end := func() {
		both.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.nears, near)
		delete(p.fars, far)
		near.Close()
		far.Close()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { go end() }()
	if p.ln != nil { // it may have gone down since it was accepted
		stalled := new(atomic.Bool)
		p.nears[near], p.fars[far] = stalled, stalled
		both.Go(func() { p.pass(near, far, stalled) })
		both.Go(func() { p.pass(far, near, stalled) })
	}
}

// pass copies until there is no more. What can no longer be written is read all the same.
func (p *proxy) pass(from, to *net.TCPConn, stalled *atomic.Bool) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		time.Sleep(time.Duration(p.delay.Load()))
		switch {
		case err != nil && !stalled.Load():
			to.CloseWrite()
			return
		case err != nil:
			return
		case !stalled.Load():
			to.Write(buffer[:n])
		}
	}
}

func (p *proxy) each(do func(*net.TCPConn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.nears {
		do(c)
	}
	for c := range p.fars {
		do(c)
	}
}

// cut ends a connection as a process does that ends: it says that no more will come.
func cut(c *net.TCPConn) { c.CloseWrite() }

// reset ends it as a machine does that knows nothing of it any more.
func reset(c *net.TCPConn) { c.SetLinger(0); c.Close() }

// stall lets nothing through any more on the connections that there are, without a word.
func (p *proxy) stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, stalled := range p.nears {
		stalled.Store(true)
	}
}

// sever lets the clients notice that their connections are gone, and not the server.
func (p *proxy) sever() {
	p.stall()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.nears {
		reset(c)
	}
}

// down cuts all connections, and refuses new ones.
func (p *proxy) down() {
	p.mu.Lock()
	if p.ln != nil {
		p.ln.Close()
		p.ln = nil
	}
	for _, stalled := range p.nears {
		stalled.Store(false)
	}
	p.mu.Unlock()
	p.each(cut)
}

func (p *proxy) isDown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ln == nil
}
