package atrium

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// trap is what a function of the application does instead of returning, while it is armed.
type trap struct {
	end   func()
	armed atomic.Bool
	count atomic.Int32
}

// spring is called by the function.
func (p *trap) spring() {
	if p.armed.Load() {
		p.count.Add(1)
		p.end()
	}
}

// overTraps runs a test for each way not to return.
func overTraps(t *testing.T, name string, test func(t *testing.T, p *trap)) {
	for how, end := range map[string]func(){"Goexit": runtime.Goexit, "panic": func() { panic("oops") }} {
		t.Run(name+"/"+how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, &trap{end: end}) })
		})
	}
}

// trappedJSON and trappedBus spring a trap in methods of the application's types.
type trappedJSON struct{ p *trap }

func (j trappedJSON) MarshalJSON() ([]byte, error) { j.p.spring(); return []byte("1"), nil }

// trappedValue springs the trap that is set, in the method that its JSON names.
type trappedValue struct{ method string }

var trapOfValue atomic.Pointer[trap]

func (v *trappedValue) UnmarshalJSON(b []byte) error {
	v.method = string(b)
	if v.method == `"unmarshal"` {
		trapOfValue.Load().spring()
	}
	return nil
}

func (v *trappedValue) Validate() error {
	if v.method == `"validate"` {
		trapOfValue.Load().spring()
	}
	return nil
}

type trappedBus struct {
	*MemoryBus
	p      *trap
	method string
}

func (b trappedBus) spring(method string) {
	if b.method == method {
		b.p.spring()
	}
}

func (b trappedBus) Publish(ctx context.Context, topic string, msg []byte) error {
	b.spring("Publish")
	return b.MemoryBus.Publish(ctx, topic, msg)
}

func (b trappedBus) Flush(context.Context) error { b.spring("Flush"); return nil }

func (b trappedBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	b.spring("Subscribe")
	cancel, err := b.MemoryBus.Subscribe(ctx, topic, deliver)
	return func() { cancel(); b.spring("cancel") }, err
}

// trappedLog springs a trap in one method of a slog.Handler.
type trappedLog struct {
	slog.Handler
	p      *trap
	method string
}

func (l trappedLog) spring(method string) {
	if l.method == method {
		l.p.spring()
	}
}

func (l trappedLog) Enabled(ctx context.Context, level slog.Level) bool {
	l.spring("Enabled")
	return l.Handler.Enabled(ctx, level)
}

func (l trappedLog) Handle(ctx context.Context, r slog.Record) error {
	l.spring("Handle")
	return l.Handler.Handle(ctx, r)
}

func (l trappedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.spring("WithAttrs")
	l.Handler = l.Handler.WithAttrs(attrs)
	return l
}

// withTrappedLog makes the logger's handler a trap in one method.
func withTrappedLog(logger **slog.Logger, p *trap, method string) {
	*logger = slog.New(trappedLog{(*logger).Handler(), p, method})
}

// hubTrap is a function that the application gives to a hub.
type hubTrap struct {
	name string
	set  func(o *Options, p *trap)
	use  func(h *Hub, p *trap)
	sent string // what has the function called; "handshake": the client's coming does, and is refused
	log  string // what the log is told; "" nothing
}

var hubTraps = []hubTrap{
	{name: "Use", use: func(h *Hub, p *trap) { h.Use(func(*Socket) error { p.spring(); return nil }) }, sent: "", log: "function=Use"},
	{name: "OnConnect", use: func(h *Hub, p *trap) { h.OnConnect(func(*Socket) { p.spring() }) }, sent: "", log: "function=OnConnect"},
	{name: "OnDisconnect", use: func(h *Hub, p *trap) { h.OnDisconnect(func(*Socket, Reason) { p.spring() }) }, sent: "41", log: "function=OnDisconnect"},
	{name: "Handle", use: func(h *Hub, p *trap) { h.Handle("e", func(*Event) { p.spring() }) }, sent: `420["e"]`, log: "event=e"},
	{name: "HandleAny", use: func(h *Hub, p *trap) { h.HandleAny(func(*Event) { p.spring() }) }, sent: `42["e"]`, log: "event=e"},
	{name: "UseEvent", use: func(h *Hub, p *trap) { h.UseEvent(func(*Event) error { p.spring(); return nil }) }, sent: `42["e"]`, log: "event=e"},
	{name: "UnmarshalJSON", use: onTrappedValue, sent: `420["e","unmarshal"]`, log: "event=e"},
	{name: "Validate", use: onTrappedValue, sent: `420["e","validate"]`, log: "event=e"},
	{name: "MarshalJSON of an answer", use: func(h *Hub, p *trap) {
		OnCall(h, "e", func(*Socket, any) (trappedJSON, error) { return trappedJSON{p}, nil })
	}, sent: `420["e"]`, log: "event=e"},
	{name: "MarshalJSON of an error", use: func(h *Hub, p *trap) {
		On(h, "e", func(*Socket, any) error { return &Error{Message: "no", Data: trappedJSON{p}} })
	}, sent: `420["e"]`, log: "event=e"},
	{name: "MarshalJSON in Emit", use: func(h *Hub, p *trap) {
		h.Handle("e", func(*Event) { h.Emit("out", "some text first", trappedJSON{p}) })
	}, sent: `42["e"]`, log: "event=e"},
	{name: "MarshalJSON in SetPublic", use: func(h *Hub, p *trap) {
		h.Handle("e", func(e *Event) { e.Socket().SetPublic("key", trappedJSON{p}) })
	}, sent: `42["e"]`, log: "event=e"},
	{name: "OnEmit", use: func(h *Hub, p *trap) {
		h.OnEmit(func(string, []json.RawMessage) { p.spring() })
		h.Handle("e", func(*Event) { h.To("nobody").Emit("out") })
	}, sent: `42["e"]`, log: "OnEmit panicked"},
	{name: "OfFunc", use: func(h *Hub, p *trap) {
		h.OfFunc(func(string) bool { p.spring(); return true })
	}, sent: "40/odd,", log: "namespace=/odd"},
	{name: "ClientKey", set: func(o *Options, p *trap) {
		o.Limits.ConnectionsPerClient = 100
		o.ClientKey = func(*http.Request) string { p.spring(); return "all" }
	}, sent: "handshake"},
	{name: "Accept", set: func(o *Options, p *trap) {
		o.Accept = func(*http.Request) (context.Context, error) { p.spring(); return nil, nil }
	}, sent: "handshake"},
	{name: "Logger: Enabled", set: func(o *Options, p *trap) { withTrappedLog(&o.Logger, p, "Enabled") }, sent: "no packet"},
	{name: "Logger: Handle", set: func(o *Options, p *trap) { withTrappedLog(&o.Logger, p, "Handle") }, sent: "40/unknown,"},
	{name: "Logger: WithAttrs", set: func(o *Options, p *trap) { withTrappedLog(&o.Logger, p, "WithAttrs") }, use: func(h *Hub, p *trap) {
		h.Handle("e", func(e *Event) { e.ReplyError(io.EOF) })
	}, sent: `42["e"]`},
	{name: "Bus.Publish", set: trapBus("Publish"), use: emitsAndJoins, sent: `42["e"]`, log: "Bus.Publish"},
	{name: "Bus.Subscribe", set: trapBus("Subscribe"), use: emitsAndJoins, sent: `42["e"]`, log: "Bus.Subscribe"},
	{name: "Bus: cancel", set: trapBus("cancel"), use: emitsAndJoins, sent: `42["e"]`, log: "cancel panicked"},
	{name: "Nodes", set: trapBus(""), use: func(h *Hub, p *trap) {
		h.Nodes().register("notice", func(string, *Event) { p.spring() })
		h.Handle("e", func(*Event) {
			other := New(Options{Logger: slog.New(slog.DiscardHandler), Bus: h.options.Bus})
			<-time.After(time.Second)
			other.Nodes().Emit("notice")
			other.Shutdown(context.Background())
		})
	}, sent: `42["e"]`, log: "event=notice"},
}

func onTrappedValue(h *Hub, p *trap) {
	trapOfValue.Store(p)
	On(h, "e", func(*Socket, trappedValue) error { return nil })
}

func trapBus(method string) func(o *Options, p *trap) {
	return func(o *Options, p *trap) { o.Bus = trappedBus{new(MemoryBus), p, method} }
}

func emitsAndJoins(h *Hub, _ *trap) {
	h.Handle("e", func(e *Event) {
		e.Socket().Join("room")
		h.To("room").Emit("out")
		e.Socket().Leave("room")
	})
}

// Whatever a function of the application does instead of returning, nobody but its own client is
// harmed: others are served, places are free again, Shutdown ends, and the log names the function.
func TestGuardsOfHub(t *testing.T) {
	for _, row := range hubTraps {
		overTraps(t, row.name, func(t *testing.T, p *trap) {
			logger, log := newLog()
			o := Options{Logger: logger}
			if row.set != nil {
				row.set(&o, p)
			}
			h := newHub(t, o)
			if row.use != nil {
				row.use(h, p)
			}
			h.Handle("fine", func(e *Event) { e.Reply("fine") })
			srv := serve(t, overPipe, h)
			bystander := srv.connect(t, nil)
			wantFine := func(c *client) {
				t.Helper()
				c.send(`{"event":"fine","id":5}`)
				c.want(`{"id":5,"data":"fine"}`)
			}
			wantFine(bystander)

			if row.sent == "handshake" {
				p.armed.Store(true)
				nc := srv.raw(t)
				io.WriteString(nc, handshakeHead+"\r\n")
				if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
					t.Errorf("got %q, %v; want net/http to close the connection", b, err)
				}
			} else {
				c := srv.socketIO(t)
				p.armed.Store(row.sent == "")
				c.send("40")
				go func() { // a pipe takes as much as the other end reads
					for {
						if _, _, err := c.Read(context.Background()); err != nil {
							return
						}
					}
				}()
				synctest.Wait()
				p.armed.Store(true)
				if row.sent != "" {
					c.send(row.sent)
				}
				<-time.After(20 * time.Second) // topics outlive their rooms
				c.CloseNow()
			}
			synctest.Wait()
			p.armed.Store(false)
			if p.count.Load() == 0 {
				t.Error("the function was not called")
			}
			if text := log.String(); row.log != "" && (!strings.Contains(text, row.log) || !strings.Contains(text, "oops") && !strings.Contains(text, "Goexit")) {
				t.Errorf("the log has %s\nwant %s", text, row.log)
			}
			<-time.After(time.Minute) // the pings have been answered, or not
			late := srv.connect(t, nil)
			wantFine(late)
			late.CloseNow()
			bystander.CloseNow()
			synctest.Wait()
			if err := h.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			h.checkNobody(t)
		})
	}
}

// Flush is called by Shutdown only, which says what became of it.
func TestGuardOfFlush(t *testing.T) {
	overTraps(t, "Bus.Flush", func(t *testing.T, p *trap) {
		p.armed.Store(true)
		h := New(Options{Logger: slog.New(slog.DiscardHandler), Bus: trappedBus{new(MemoryBus), p, "Flush"}})
		synctest.Wait()
		if err := h.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "Bus.Flush") {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// What an argument of Emit does is the emitter's affair, whose goroutine it is: no lock stays held,
// and what is emitted next is what it should be.
func TestGuardOfEmit(t *testing.T) {
	overTraps(t, "MarshalJSON", func(t *testing.T, p *trap) {
		h := newHub(t, Options{})
		srv := serve(t, overPipe, h)
		c := srv.connect(t, nil)
		s := h.sockets(1)[0]
		p.armed.Store(true)
		for _, emit := range []func(){
			func() { h.Emit("bad", "some text first", trappedJSON{p}) },
			func() { s.Emit("bad", trappedJSON{p}) },
			func() { h.Nodes().Emit("bad", trappedJSON{p}) },
			func() { h.Call(t.Context(), "bad", trappedJSON{p}) },
			func() { s.SetPublic("bad", trappedJSON{p}) },
		} {
			guardApart(emit, ignoreFailure)
			if err := h.Emit("good", 1); err != nil {
				t.Error(err)
			}
			c.want(`{"event":"good","data":1}`)
		}
		if n := p.count.Load(); n != 5 {
			t.Errorf("MarshalJSON was called %d times", n)
		}
		c.CloseNow()
	})
}

// clientTrap is a function that the application gives to a Client.
type clientTrap struct {
	name string
	set  func(o *ClientOptions, p *trap)
	use  func(c *Client, p *trap)
	log  string
}

var clientTraps = []clientTrap{
	{name: "Auth", set: func(o *ClientOptions, p *trap) {
		o.AuthFunc = func(context.Context) (any, error) { p.spring(); return nil, nil }
	}, log: "function=ClientOptions.AuthFunc"},
	{name: "MarshalJSON of Auth", set: func(o *ClientOptions, p *trap) {
		o.AuthFunc = func(context.Context) (any, error) { return map[string]any{"a": trappedJSON{p}}, nil }
	}, log: "ClientOptions.Dial or Auth"},
	{name: "DialContext", set: func(o *ClientOptions, p *trap) {
		dial := o.Dial.DialContext
		o.Dial.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			p.spring()
			return dial(ctx, network, address)
		}
	}, log: "ClientOptions.Dial or Auth"},
	{name: "Proxy", set: func(o *ClientOptions, p *trap) {
		o.Dial.Proxy = func(*http.Request) (*url.URL, error) { p.spring(); return nil, nil }
	}, log: "ClientOptions.Dial or Auth"},
	{name: "Jar", set: func(o *ClientOptions, p *trap) { o.Dial.Jar = trappedJar{p} }, log: "ClientOptions.Dial or Auth"},
	{name: "Backoff.Rand", set: func(o *ClientOptions, p *trap) {
		o.Backoff.Rand = func() float64 { p.spring(); return 0 }
	}, log: "function=ClientOptions.Backoff.Rand"},
	{name: "OnState", use: func(c *Client, p *trap) { c.OnState(func(*Client, State) { p.spring() }) }, log: "function=OnState"},
	{name: "Logger: Enabled", set: func(o *ClientOptions, p *trap) { withTrappedLog(&o.Logger, p, "Enabled") }, use: failsToReply},
	{name: "Logger: Handle", set: func(o *ClientOptions, p *trap) { withTrappedLog(&o.Logger, p, "Handle") }, use: failsToReply},
	{name: "OnConnect", use: func(c *Client, p *trap) { c.OnConnect(func(*Client) { p.spring() }) }, log: "function=OnConnect"},
	{name: "OnDisconnect", use: func(c *Client, p *trap) { c.OnDisconnect(func(*Client, Reason) { p.spring() }) }, log: "function=OnDisconnect"},
	{name: "OnConnectError", use: func(c *Client, p *trap) { c.OnConnectError(func(*Client, error) { p.spring() }) }, log: "function=OnConnectError"},
	{name: "Handle", use: func(c *Client, p *trap) { c.Handle("hello", func(*Event) { p.spring() }) }, log: "event=hello"},
	{name: "HandleAny", use: func(c *Client, p *trap) { c.HandleAny(func(*Event) { p.spring() }) }, log: "event=hello"},
	{name: "Validate", use: func(c *Client, p *trap) {
		trapOfValue.Store(p)
		On(c, "hello", func(*Client, trappedValue) error { return nil })
	}, log: "event=hello"},
}

// failsToReply makes a client log.
func failsToReply(c *Client, _ *trap) {
	c.Handle("hello", func(e *Event) { e.ReplyError(io.EOF) })
}

// trappedJar is a http.CookieJar.
type trappedJar struct{ p *trap }

func (trappedJar) SetCookies(*url.URL, []*http.Cookie) {}
func (j trappedJar) Cookies(*url.URL) []*http.Cookie   { j.p.spring(); return nil }

// A Client whose application does that goes on: it is connected again as soon as it can be, and
// Close ends it.
func TestGuardsOfClient(t *testing.T) {
	for _, row := range clientTraps {
		overTraps(t, row.name, func(t *testing.T, p *trap) {
			h := newHub(t, Options{})
			h.OnConnect(func(s *Socket) { s.Emit("hello", "validate") })
			h.Handle("fine", func(e *Event) { e.Reply("fine") })
			srv := serve(t, overPipe, h)
			logger, log := newLog()
			var refuses atomic.Bool
			o := ClientOptions{Logger: logger}
			o.Dial.DialContext = func(context.Context, string, string) (net.Conn, error) {
				if refuses.Load() {
					return nil, io.EOF
				}
				return srv.kind.dial(srv.listener)
			}
			if row.set != nil {
				row.set(&o, p)
			}
			c := NewClient("http://example.com", o)
			defer c.Close()
			c.Handle("unknown", func(*Event) {})
			if row.use != nil {
				row.use(c, p)
			}
			mustConnect(t, c)
			synctest.Wait()

			p.armed.Store(true)
			refuses.Store(true)
			h.sockets(1)[0].session.closeNow()
			<-time.After(5 * time.Second)
			refuses.Store(false)
			<-time.After(time.Minute)
			p.armed.Store(false)
			if p.count.Load() == 0 {
				t.Error("the function was not called")
			}
			if text := log.String(); row.log != "" && (!strings.Contains(text, row.log) || !strings.Contains(text, "oops") && !strings.Contains(text, "Goexit")) {
				t.Errorf("the log has %s\nwant %s", text, row.log)
			}
			<-time.After(time.Minute)
			if c.State() != StateOpen {
				t.Errorf("the client is %v", c.State())
			}
			if got := ask[string](t, c, "fine"); got != "fine" {
				t.Errorf("got %q", got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		})
	}
}
