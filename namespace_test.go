package atrium

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Each namespace has its own functions, handlers, rooms and ids; a client has a socket in each that
// it joins.
func TestNamespaces(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		admin := h.Of("/admin")
		if h.Of("/admin") != admin || h.Of("/") != h.Namespace || admin.Name() != "/admin" {
			t.Error("a name means two namespaces")
		}
		left := make(chan string, 4)
		for _, n := range []*Namespace{h.Namespace, admin} {
			n.OnConnect(func(s *Socket) { s.Join("room") })
			n.OnDisconnect(func(s *Socket, why Reason) { left <- s.Namespace().Name() + " " + string(why) })
			OnCall(n, "where", func(s *Socket, _ any) (string, error) { return s.Namespace().Name(), nil })
		}
		c := serve(t, k, h).socketIO(t)
		if a, b := c.join(""), c.join("/admin"); a == b {
			t.Error("two sockets with one id")
		}
		c.send(`420["where"]`)
		c.want(`430["/"]`)
		c.send(`42/admin,0["where"]`)
		c.want(`43/admin,0["/admin"]`)
		h.To("room").Emit("hello", 1, "two")
		c.want(`42["hello",1,"two"]`)
		admin.To("room").Emit("hello")
		c.want(`42/admin,["hello"]`)
		c.send(`41/admin,`)
		if got := within(t, left, "leaving"); got != "/admin client namespace disconnect" {
			t.Error(got)
		}
		c.send(`420["where"]`)
		c.want(`430["/"]`)
		c.join("/admin") // again
		c.send(`40/nowhere,{"token":"x"}`)
		c.want(`44/nowhere,{"message":"Invalid namespace"}`)
		c.CloseNow()
		ended := []string{within(t, left, "leaving"), within(t, left, "leaving")}
		slices.Sort(ended)
		if want := []string{"/ transport close", "/admin transport close"}; !slices.Equal(ended, want) {
			t.Errorf("got %q", ended)
		}
	})
}

func TestNamespaceNames(t *testing.T) {
	h := newHub(t, Options{})
	for _, name := range []string{"", "admin", "/a,b", "/a\n", "/" + strings.Repeat("x", 256)} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%.20q is a namespace", name)
				}
			}()
			h.Of(name)
		}()
	}
	for _, name := range []string{"/", "/a", "/a/b?c=d", "/é", "/" + strings.Repeat("x", 255)} {
		h.Of(name)
	}
}

// A OfFunc stands for many namespaces, which come and go with their sockets.
func TestOfFunc(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		fixed := h.Of("/project-0")
		OnCall(fixed, "who", func(*Socket, any) (string, error) { return "fixed", nil })
		projects := h.OfFunc(regexp.MustCompile(`^/project-[0-9]+$`).MatchString)
		projects.Use(func(s *Socket) error {
			if s.Namespace().Name() == "/project-13" {
				return Errorf("no such project")
			}
			return s.Join("room")
		})
		OnCall(projects, "who", func(s *Socket, _ any) (string, error) { return s.Namespace().Name(), nil })
		left := make(chan struct{}, 10)
		projects.OnDisconnect(func(*Socket, Reason) { left <- struct{}{} })

		srv := serve(t, k, h)
		a, b := srv.socketIO(t), srv.socketIO(t)
		a.join("/project-0")
		a.send(`42/project-0,1["who"]`)
		a.want(`43/project-0,1["fixed"]`)
		for _, c := range []ioClient{a, b} {
			c.join("/project-1")
			c.send(`42/project-1,1["who"]`)
			c.want(`43/project-1,1["/project-1"]`)
		}
		a.join("/project-2")
		a.send(`40/project-13,`)
		a.want(`44/project-13,{"message":"no such project"}`)
		a.send(`40/other,`)
		a.want(`44/other,{"message":"Invalid namespace"}`)
		projects.Emit("nobody")
		project := h.retain("/project-1")
		project.To("room").Emit("hello")
		a.want(`42/project-1,["hello"]`)
		b.want(`42/project-1,["hello"]`)
		a.CloseNow()
		b.CloseNow()
		for range 3 {
			within(t, left, "leaving")
		}
		h.release(project)
		eventually(t, "the namespaces to go", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return len(h.namespaces) == 2
		})
	})
}

// Clients that come to and leave a namespace of a function at the same time are always in the same
// one.
func TestOfFuncRaces(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.OfFunc(func(string) bool { return true })
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 300 {
				n := h.enterable("/x")
				n.mu.Lock()
				n.byID[fmt.Sprint(i)] = nil
				n.mu.Unlock()
				if again := h.retain("/x"); again != n {
					t.Error("two namespaces of one name")
				}
				n.mu.Lock()
				delete(n.byID, fmt.Sprint(i))
				n.mu.Unlock()
				h.release(n)
				h.release(n)
			}
		})
	}
	wg.Wait()
	if h.retain("/x") != nil {
		t.Error("it is still there")
	}
}

func TestUseEvent(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	var passed []string
	h.UseEvent(func(e *Event) error {
		if e.Name() == "secret" {
			return &Error{Message: "not you", Data: e.Name()}
		}
		return nil
	})
	h.UseEvent(func(e *Event) error { passed = append(passed, e.Name()); return nil })
	h.HandleAny(func(e *Event) { passed = append(passed, "any "+e.Name()) })
	OnCall(h, "open", func(*Socket, any) ([]string, error) { return passed, nil })
	h.Handle("secret", func(*Event) { t.Error("it was handled") })
	c := serve(t, overTCP, h).connect(t, nil)
	c.send(`{"event":"secret","id":1}`)
	c.want(`{"id":1,"error":{"message":"not you","data":"secret"}}`)
	c.send(`{"event":"secret"}`)
	c.want(`{"event":"error","data":{"event":"secret","message":"not you","data":"secret"}}`)
	c.send(`{"event":"open","id":2}`)
	c.want(`{"id":2,"data":["open","any open"]}`)
}

func TestOnEmit(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	var seen []string
	h.OnEmit(func(event string, args []json.RawMessage) { seen = append(seen, fmt.Sprintf("%s%s", event, args)) })
	srv := serve(t, overTCP, h)
	a, b := srv.connect(t, nil), srv.connect(t, nil)
	s := a.socket(h)
	b.settle()
	h.Emit("all", 1, "two")
	h.To("nowhere").Emit("nobody")
	s.Emit("one", []int{3})
	h.Of("/other").Emit("elsewhere")
	a.want(`{"event":"all","args":[1,"two"]}`)
	b.want(`{"event":"all","args":[1,"two"]}`)
	a.want(`{"event":"one","data":[3]}`)
	if want := []string{`all[1 "two"]`, `nobody[]`, `one[[3]]`}; !slices.Equal(seen, want) {
		t.Errorf("saw %q", seen)
	}
}

// DisconnectClient ends all of a client's sockets, when it has got what was emitted to them before.
func TestDisconnectClient(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		admin := h.Of("/admin")
		h.Handle("end", func(e *Event) {
			for i := range 50 {
				h.Emit("last", i)
				admin.Emit("last", i)
			}
			e.Socket().DisconnectClient()
			h.Emit("too late")
			admin.Emit("too late")
		})
		left := make(chan Reason, 2)
		for _, n := range []*Namespace{h.Namespace, admin} {
			n.OnDisconnect(func(_ *Socket, why Reason) { left <- why })
		}
		c := serve(t, k, h).socketIO(t)
		c.join("")
		c.join("/admin")
		c.send(`42["end"]`)
		for i := range 50 {
			c.want(fmt.Sprintf(`42["last",%d]`, i))
			c.want(fmt.Sprintf(`42/admin,["last",%d]`, i))
		}
		c.want(`41`)
		c.want(`41/admin,`)
		c.wantClosed(StatusNormalClosure)
		for range 2 {
			if why := within(t, left, "leaving"); why != ReasonServerDisconnect {
				t.Error(why)
			}
		}
	})
}

// A Binary travels as bytes to a Socket.IO client and as base64 to a plain one; a broadcast reaches
// both.
func TestBinaryBroadcast(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		OnCall(h, "double", func(_ *Socket, v struct{ Data []byte }) (map[string]any, error) {
			return map[string]any{"n": len(v.Data), "twice": Binary(slices.Concat(v.Data, v.Data))}, nil
		})
		srv := serve(t, k, h)
		plain, io := srv.connect(t, nil), srv.socketIO(t)
		io.join("")
		plain.settle()
		h.Emit("file", "name", Binary("abc"), map[string]any{"more": Binary{0, 255}})
		plain.want(`{"event":"file","args":["name","YWJj",{"more":"AP8="}]}`)
		io.want(`452-["file","name",{"_placeholder":true,"num":0},{"more":{"_placeholder":true,"num":1}}]`)
		for _, want := range []string{"abc", "\x00\xff"} {
			if op, p, err := io.Read(t.Context()); err != nil || op != MessageBinary || string(p) != want {
				t.Fatalf("%v %q, %v", op, p, err)
			}
		}
		io.send(`451-7["double",{"data":{"_placeholder":true,"num":0}}]`)
		if err := io.Write(t.Context(), MessageBinary, []byte("xyz")); err != nil {
			t.Fatal(err)
		}
		io.want(`461-7[{"n":3,"twice":{"_placeholder":true,"num":0}}]`)
		if op, p, err := io.Read(t.Context()); err != nil || op != MessageBinary || string(p) != "xyzxyz" {
			t.Fatalf("%v %q, %v", op, p, err)
		}
	})
}

// A handler that takes anything can echo it: what came as bytes goes back as bytes, wherever it
// stands.
func TestEchoAnything(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.Handle("message", func(e *Event) {
			values := make([]any, len(e.Args()))
			pointers := make([]any, len(values))
			for i := range values {
				pointers[i] = &values[i]
			}
			if err := e.Bind(pointers...); err != nil {
				t.Error(err)
			}
			e.Socket().Emit("message-back", values...)
			e.Reply(values...)
		})
		OnCall(h, "one", func(_ *Socket, v any) (any, error) { return v, nil })
		c := serve(t, k, h).socketIO(t)
		c.join("")
		for _, args := range []string{`1,"2",{"3":[true]}`, `null`, `[]`, `{}`, `[[],{}]`, `"AQID"`} {
			c.send(`42["message",` + args + `]`)
			c.want(`42["message-back",` + args + `]`)
		}
		attach := func(contents ...string) {
			for _, content := range contents {
				if err := c.Write(t.Context(), MessageBinary, []byte(content)); err != nil {
					t.Fatal(err)
				}
			}
		}
		attached := func(contents ...string) {
			t.Helper()
			for _, content := range contents {
				if op, p, err := c.Read(t.Context()); err != nil || op != MessageBinary || string(p) != content {
					t.Fatalf("got %v %q, %v; want %q", op, p, err, content)
				}
			}
		}
		const zero, one = `{"_placeholder":true,"num":0}`, `{"_placeholder":true,"num":1}`
		for _, args := range []string{
			zero + `,` + one,
			zero + `,"AQID",` + one,
			`[` + zero + `,[` + one + `,"AQID"]]`,
			`{"a":` + zero + `,"b":{"c":[` + one + `,{"d":1}]},"e":[],"f":"AQID"}`,
		} {
			c.send(`452-7["message",` + args + `]`)
			attach("\x01\x02\x03", "")
			c.want(`452-["message-back",` + args + `]`)
			attached("\x01\x02\x03", "")
			c.want(`462-7[` + args + `]`)
			attached("\x01\x02\x03", "")
		}
		// White space and escaped keys change nothing.
		c.send(`451-8["one" , { "\u0061" : [ ` + zero + ` , 2 ] } ]`)
		attach("xyz")
		c.want(`461-8[{"a":[` + zero + `,2]}]`)
		attached("xyz")
	})
}

// One client is in no more than maxSockets namespaces; those count that it has left while their
// functions still run.
func TestNamespacesBounded(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.OfFunc(regexp.MustCompile("^/free").MatchString)
	goOn := make(chan struct{})
	h.OfFunc(regexp.MustCompile("^/slow").MatchString).Use(func(*Socket) error { <-goOn; return nil })
	tooMany := func(namespace string) string {
		return fmt.Sprintf(`44%s,{"message":"namespace: expected at most %d for one client"}`, namespace, maxSockets)
	}
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		for i := range maxSockets {
			c.say(fmt.Sprintf("40/free%d", i))
			wantHears(t, c, welcome(fmt.Sprintf("/free%d,", i)))
		}
		c.say("40/free")
		wantHears(t, c, tooMany("/free"))
		c.say("40/other") // it is not asked whether there is one
		wantHears(t, c, tooMany("/other"))
		c.say("1")

		c = open()
		c.say("40/free") // before it is let in somewhere, it is bounded more tightly
		wantHears(t, c, welcome("/free,"))
		for range maxSockets - 1 {
			c.say("40/slow", "41/slow")
		}
		c.say("40/slow")
		wantHears(t, c, tooMany("/slow"))
		for range maxSockets - 1 {
			goOn <- struct{}{}
		}
		eventually(t, "the namespace to go", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.namespaces["/slow"] == nil
		})
		eventually(t, "room for another", func() bool {
			c.say("40/free1")
			return c.hear() != tooMany("/free1")
		})
		c.say("1")
	})
}

// A OfFunc's function that panics refuses the client, whatever reads its connection.
func TestOfFuncPanics(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	h.OfFunc(func(name string) bool { return strings.Split(name, "-")[1] == "a" })
	overTransports(t, h, func(t *testing.T, open func() talker) {
		c := open()
		c.say("40/x")
		wantHears(t, c, `44/x,{"message":"Invalid namespace"}`)
		c.say("40/x-a")
		wantHears(t, c, welcome("/x-a,"))
		c.say("1")
	})
}
