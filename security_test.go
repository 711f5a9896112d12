package atrium

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// SECURITY.md names a test for each of its claims. Here are those that stand nowhere else, and the
// one that looks that all exist.

func TestSecurityClaims(t *testing.T) {
	text, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	exist := make(map[string]bool)
	for _, pattern := range []string{"*_test.go", "*/*_test.go"} {
		_, files := parseDir(t, pattern)
		for _, file := range files {
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
					exist[f.Name.Name] = true
				}
			}
		}
	}
	names := regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`)
	claims, holds := 0, false
	for i, line := range strings.Split(string(text), "\n") {
		for _, name := range names.FindAllString(line, -1) {
			if !exist[name] {
				t.Errorf("SECURITY.md:%d: there is no %s", i+1, name)
			}
		}
		if title, ok := strings.CutPrefix(line, "## "); ok {
			holds = title == "What holds"
		}
		// In that part each row of a table is a claim.
		if !holds || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| What holds") {
			continue
		}
		claims++
		if !names.MatchString(line) {
			t.Errorf("SECURITY.md:%d: a claim without a test: %s", i+1, line)
		}
	}
	if claims == 0 {
		t.Error("SECURITY.md claims nothing")
	}
}

// Nothing that lets somebody pass for somebody else gets into the log, at any level: not the id of
// a session by polling, not the pid, not what the client has sent to say who it is.
func TestSecretsAreNotLogged(t *testing.T) {
	noLeaks(t)
	logger, log := newDebugLog()
	l := newRecoveryHub(t, overTCP, Options{
		Logger: logger, Limits: Limits{ConnectionsPerClient: 6, MessageBytes: 1000},
		Accept: func(r *http.Request) (context.Context, error) {
			if r.URL.Query().Has("refused") {
				return nil, errors.New("no")
			}
			return nil, nil
		},
	})
	l.Handle("panic", func(*Event) { panic("on purpose") })
	l.Handle("fail", func(*Event) { panic(errors.New("on purpose")) })
	l.UseEvent(func(e *Event) error { return nil })
	l.Of("/guarded").Use(func(*Socket) error { return errors.New("no") })
	var secrets []string
	lines := []string{"Cookie: session=" + secret, "Authorization: Bearer " + secret, "X-Token: " + secret, "Sec-WebSocket-Protocol: bearer, " + secret}

	// By polling: what it may do wrong.
	for _, wrong := range []string{"", "9", "44", "42[", "2", "b\x1eb", "40/x,\x1e40/guarded,{\"token\":\"" + secret + "\"}", `42["panic"]`, strings.Repeat("x", 2000), "1"} {
		e := l.server.engine(t)
		hello := e.do("GET", "?EIO=4&transport=polling&token="+secret, "", lines[:3]...)
		e.sid = handshakeForm.FindStringSubmatch(hello.body)[1]
		e.post(`40{"token":"` + secret + `"}`)
		secrets = append(secrets, e.sid, regexp.MustCompile(`"pid":"([^"]+)"`).FindStringSubmatch(e.get().body)[1])
		<-l.came
		e.post(wrong, lines[:3]...)
		e.get() // overlaps, or is late, or is told
		e.do("GET", e.query()+"&token="+secret, "", "Origin: https://elsewhere.example.net")
		e.do("PUT", e.query()+"&token="+secret, "")
		e.do("GET", strings.Replace(e.query(), "EIO=4", "EIO=3", 1), "")
		e.post("1")
		<-l.went
	}
	l.awaitCountedOut(t)
	for _, refused := range []string{"?refused&token=", "?EIO=4&transport=polling&refused&token=", "?EIO=4&transport=websocket&token="} {
		l.server.engine(t).do("GET", refused+secret, "", lines[:3]...)
	}
	// By WebSocket, and back with the pid.
	for _, wrong := range []string{"7", `42["fail"]`, "40", strings.Repeat("x", 2000)} {
		g := l.enter(t, `{"token":"`+secret+`"}`)
		l.cut(g)
		back := l.enter(t, proof(g.pid, ""))
		secrets = append(secrets, g.pid)
		if back.id != g.id {
			t.Error("the client is not back")
		}
		back.send(wrong)
		within(t, l.went, "the end")
		back.CloseNow()
	}
	c := &client{l.server.conn(t, append(lines, "Sec-WebSocket-Protocol: atrium")...), t, ""}
	c.send(`{"event":"connect","data":{"token":"` + secret + `"}}`)
	c.next()
	c.send(`{"event":"panic"}`)
	within(t, l.went, "the end")
	c.CloseNow()

	got := log.String()
	for _, s := range append(secrets, secret) {
		if strings.Contains(got, s) {
			t.Errorf("%s is in the log:\n%s", s, got)
		}
	}
	for _, kind := range []string{"a handler panicked", "refused an origin", "a client broke its protocol", "too big", "unknown session", "unknown namespace", "Accept failed"} {
		if !strings.Contains(got, kind) {
			t.Errorf("nothing was logged of %q", kind)
		}
	}
}

// A secret id cannot be guessed: it is 20 characters of crypto/rand, of six bits each. All are
// different, and each character takes each of its 64 values.
func TestSecretIDs(t *testing.T) {
	const n = 5000
	ids := make(map[string]bool)
	var at [pidLength]map[byte]bool
	for range n {
		id := randomText(pidLength)
		ids[id] = true
		for i := range at {
			if at[i] == nil {
				at[i] = make(map[byte]bool)
			}
			at[i][id[i]] = true
		}
	}
	if len(ids) != n {
		t.Errorf("%d of %d ids are different", len(ids), n)
	}
	for i, values := range at {
		if len(values) != 64 { // one value is missing in 1 of 10^32 runs
			t.Errorf("character %d has taken %d values", i, len(values))
		}
	}
	noLeaks(t)
	l := newRecoveryHub(t, overTCP, Options{})
	e, g := l.server.polls(t), l.enter(t, "")
	if len(e.sid) < pidLength || len(g.pid) < pidLength || e.sid == g.pid || strings.Contains(g.id, g.pid) {
		t.Errorf("sid %s, pid %s", e.sid, g.pid)
	}
	e.leave()
}

// What others know of a client, the id of its socket, opens nothing; nor does the id of a session
// that is not polled.
func TestSIDOpensItsOwnSession(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	srv := serve(t, overTCP, h)
	c := srv.conn(t) // not Socket.IO
	defer c.CloseNow()
	direct := srv.socketIO(t)
	engineID := direct.sid
	id := direct.join("")
	e := srv.joined(t)
	victim := h.LocalSockets()
	var ids []string
	for _, s := range victim {
		ids = append(ids, s.ID())
	}
	for _, sid := range append(ids, id, engineID, e.sid[:19], e.sid+"x", strings.ToLower(e.sid)+"-", "", "\x00") {
		thief := srv.engine(t)
		query := "?EIO=4&transport=polling&sid=" + strings.ReplaceAll(sid, "\x00", "%00")
		for _, method := range []string{"GET", "POST"} {
			if r := thief.do(method, query, "42[\"x\"]"); r.status != 400 || r.body != unknownSession {
				t.Errorf("%s with sid %q: %v", method, sid, r)
			}
		}
	}
	e.leave()
}

// The response to a poll is what clients have written, and no page of another site can make a
// script of it: there is no JSONP, and a browser does not look whether it might be HTML.
func TestPollingIsNoScript(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).joined(t)
	for _, query := range []string{"", "&j=0", "&j=0&callback=f", "&jsonp=f", "&b64=1"} {
		e.post(`42["message","<script>alert(1)</script>"]`)
		r := e.do("GET", e.query()+query, "", "Accept: text/html")
		r.want(t, 200, `42["message-back","<script>alert(1)</script>"]`)
		for name, want := range map[string]string{"Content-Type": "text/plain; charset=UTF-8", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%q: %s: %q", query, name, got)
			}
		}
	}
	for _, r := range []reply{e.post("3"), e.do("GET", "?EIO=4&transport=<script>&EIO=4", ""), e.do("GET", e.query()+"x", "")} {
		if r.header.Get("X-Content-Type-Options") != "nosniff" || strings.Contains(r.body, "<") {
			t.Errorf("%v", r)
		}
	}
	e.leave()
}

// A POST is what it is on the wire: nothing inflates it.
func TestPollingInflatesNothing(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	srv := serve(t, overTCP, h)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 100 {
		z.Write(make([]byte, 1<<20))
	}
	z.Close()
	for _, encoding := range []string{"gzip", "deflate", "br", "zstd"} {
		e := srv.joined(t)
		r := e.post(bomb.String(), "Content-Encoding: "+encoding)
		r.want(t, 400, `{"code":3,"message":"Bad request"}`)
		e.get()
	}
}

// A Use function guards its own namespace and no other.
func TestUseGuardsOneNamespace(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.Use(func(*Socket) error { return Errorf("no") })
	h.Of("/open")
	h.OfFunc(func(name string) bool { return name == "/any" })
	c := serve(t, overTCP, h).socketIO(t)
	c.send("40")
	c.want(`44{"message":"no"}`)
	c.join("/open")
	c.join("/any")
}

// Whoever may publish on the broker may do with the sockets what a node may. But no message, and
// nothing in one, ends the process, or keeps a node from what it does.
func TestBusGarbage(t *testing.T) {
	noLeaks(t)
	bus := new(MemoryBus)
	logger, log := newLog()
	h := newTestCluster(t, overTCP, 1, bus, Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute}})[0]
	h.OnEmit(func(string, []json.RawMessage) {})
	On(h.Nodes(), "e", func(string, map[string]any) error { return nil })
	h.Nodes().registry.update(func(f *functions[string]) {
		f.any = append(f.any, func(e *Event) { e.Args(); var a, b any; _ = e.Bind(&a, &b) })
	})
	plain := func() *client { return h.connect(t, nil) }
	socketIO := func() *client {
		c := h.server.socketIO(t)
		c.join("")
		return c.client
	}
	first := plain()
	clients := map[*client]func() *client{first: plain, socketIO(): socketIO}
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	text := func() string {
		return pick("", "e", "/", "a", "connect", "disconnect", strings.Repeat("x", 300), "\xff\n", first.sid, "/none", "1")
	}
	data := func() string {
		return pick("", "1", `"AQI=","x"`, `"`, "[", `{"a":`, `"no base64"`, strings.Repeat("[", 10_000), "1,", ",", `{"code":1000,"reason":"`+strings.Repeat("y", 500)+`"}`, "\x00")
	}
	size := func() int { return []int{0, 1, 2, 7, 1 << 20, 1<<31 - 1}[rng.IntN(6)] }
	topics := []string{everyNode, nodeTopic(h.node), roomTopic("/", "")}
	for number := range 20_000 {
		m := clusterMessage{kind: clusterKind(rng.IntN(15)), from: pick("other", "\xff\n\x00 x", "third", h.node), request: uint64(rng.IntN(3)), part: size(), last: rng.IntN(2) == 0,
			limit: time.Duration(size()) * time.Microsecond, mark: uint64(rng.IntN(2)), namespace: pick("/", "/", "/none", text()), scoped: rng.IntN(2) == 0,
			rooms: []string{text(), text()}[:rng.IntN(3)], except: []string{text(), text()}[:rng.IntN(3)], names: []string{text()}[:rng.IntN(2)], volatile: rng.IntN(2) == 0, compress: uint8(rng.IntN(256)),
			eventData: eventData{name: text(), args: args{json: []byte(data()), n: size()}}}
		if m.kind == clusterDisconnect {
			m.scoped, m.rooms = true, nil // nobody
		}
		if rng.IntN(2) == 0 {
			m.args.attachments = []span{{0, len(m.args.json)}, {size(), size()}}[:1+rng.IntN(2)]
		}
		b := m.encode()
		setClusterNumber(b, uint64(number+10))
		if rng.IntN(3) == 0 && m.kind != clusterDisconnect {
			for range 1 + rng.IntN(3) {
				if at := rng.IntN(len(b)); at != 1 || b[1] != byte(clusterDisconnect) {
					b[at] = byte(rng.Uint32())
				}
			}
			b = b[:len(b)-rng.IntN(2)]
			if b[1] == byte(clusterDisconnect) {
				continue
			}
		}
		bus.Publish(t.Context(), topics[rng.IntN(len(topics))], b)
		if number%100 == 0 { // what was published is handled, and the clients have read it
			h.To("nobody")
			h.Emit("mark", number)
			for c, again := range clients {
				if !c.skipTo(fmt.Sprintf(`"mark","data":%d`, number), fmt.Sprintf(`"mark",%d`, number)) {
					c.CloseNow() // it was sent what is no message: that is a node's to do
					delete(clients, c)
					clients[again()] = again
				}
			}
		}
	}
	for answered := false; !answered; { // the last of it may still be on its way
		c := plain()
		c.send(`{"event":"settle","id":999}`)
		answered = c.skipTo(settled)
		c.CloseNow()
	}
	if got := log.String(); strings.Contains(got, "panic") {
		t.Errorf("%.3000s", got)
	}
	for c := range clients {
		c.CloseNow()
	}
}

// skipTo reads up to a message with one of the texts in it. It reports false if the connection ends
// before.
func (c *client) skipTo(texts ...string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		_, p, err := c.Read(ctx)
		if ctx.Err() != nil {
			c.t.Fatal("waiting for a message")
		}
		if err != nil || slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(string(p), text) }) {
			return err == nil
		}
	}
}
