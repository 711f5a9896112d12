package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// keptAcks are acknowledgements that never come.
var keptAcks []*Ack

// provocation causes a log entry, in a bubble.
type provocation func(t *testing.T, p *logProbe)

// evil is what a client may choose for a name, a room, an event or its auth: HTML, quotes, line
// breaks, terminal controls, marks of direction, and more than 256 bytes.
var evil = `<img src=x onerror="alert(1)">'\` + "\n\r\x1b[2J\u202e\u2066\u200f\u061c\u0085\u2028\u00a0" + strings.Repeat("👋", 64) + "\nlevel=ERROR msg=forged"

// evilName is as much of it as the name of an event or a room may have, and evilNamespace of a
// namespace.
var (
	evilName      = cutText(evil, 256)
	evilNamespace = "/<b>\"'\u202e" + strings.Repeat("👋", 55)
)

// evilLine is as much of it as an HTTP header may have, and evilPath of a path.
var (
	evilLine = `https://x/<img src=x onerror="alert(1)">'\` + "\u202e\u2066\u200f" + strings.Repeat("👋", 64)
	evilPath = "/" + url.PathEscape(evil)
)

// quoted is a text as JSON.
func quoted(text string) string {
	b, _ := json.Marshal(text)
	return string(b)
}

// secretLines are headers that have secrets.
var secretLines = []string{"Cookie: session=" + secret, "Authorization: Bearer " + secret, "X-Token: " + secret, "User-Agent: " + evilLine}

// hub makes a hub that logs to the probe, with a server.
func (p *logProbe) hub(t *testing.T, o Options) (*Hub, *server) {
	o.Logger = p.logger()
	h := newHub(t, o)
	h.Handle("echo", func(e *Event) { e.Reply() })
	return h, serve(t, overPipe, h)
}

// ask makes a request with secrets in its query and headers, for a hostile path.
func (p *logProbe) ask(t *testing.T, srv *server, method, query string, changes ...string) answer {
	t.Helper()
	head := method + " " + evilPath + "?token=" + secret + "&" + query + " HTTP/1.1"
	return request(t, srv.raw(t), handshake(head, append(changes, secretLines...)...))
}

// open opens a Socket.IO session with secrets everywhere, in no namespace yet.
func (p *logProbe) open(t *testing.T, srv *server) ioClient {
	t.Helper()
	c := srv.websocket(t, "?EIO=4&transport=websocket&token="+secret, secretLines...)
	p.isSecret(handshakeForm.FindStringSubmatch(c.next())[1])
	return ioClient{c}
}

// join opens one that is in the main namespace; with recovery its pid is a secret.
func (p *logProbe) join(t *testing.T, srv *server) ioClient {
	t.Helper()
	c := p.open(t, srv)
	c.send(`40{"token":"` + secret + `"}`)
	var hello struct{ Sid, Pid string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(c.next(), "40")), &hello); err != nil || hello.Sid == "" {
		t.Fatal(err)
	}
	if hello.Pid != "" {
		p.isSecret(hello.Pid)
	}
	c.sid = hello.Sid
	return c
}

// bySending returns a provocation by a client in the main namespace that sends messages.
func bySending(o Options, set func(h *Hub), messages ...string) provocation {
	return func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, o)
		if set != nil {
			set(h)
		}
		c := p.join(t, srv)
		c.listen()
		for _, m := range messages {
			if binary, ok := strings.CutPrefix(m, "b"); ok {
				c.Write(t.Context(), MessageBinary, []byte(binary))
			} else {
				c.Write(t.Context(), MessageText, []byte(m))
			}
			synctest.Wait()
		}
	}
}

// refused returns a provocation by a request.
func refused(o Options, method, query string, changes ...string) provocation {
	return func(t *testing.T, p *logProbe) {
		_, srv := p.hub(t, o)
		p.ask(t, srv, method, query, changes...)
	}
}

// crowded returns a provocation by a second client of a hub with limits.
func crowded(o Options) provocation {
	return func(t *testing.T, p *logProbe) {
		_, srv := p.hub(t, o)
		p.open(t, srv).listen()
		p.ask(t, srv, "GET", "EIO=4&transport=websocket")
	}
}

func accepts(err error) Options {
	return Options{Accept: func(*http.Request) (context.Context, error) { return nil, err }}
}

const polls = "EIO=4&transport=polling"

var hubProvocations = map[string]provocation{
	"atrium: a socket connected": func(t *testing.T, p *logProbe) {
		_, srv := p.hub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute}})
		p.join(t, srv)
		e := srv.polls(t)
		p.isSecret(e.sid)
		e.post(`40{"token":"` + secret + `"}`)
		e.get()
		e.leave()
	},
	"atrium: refused a client over Limits.SocketsPerUser": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{Limits: Limits{SocketsPerUser: 1}})
		h.Use(func(s *Socket) error { return s.SetUser(evilName) })
		p.join(t, srv)
		c := p.open(t, srv)
		c.send(`40{"token":"` + secret + `"}`)
		c.next()
	},
	"atrium: a socket was disconnected": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.Use(func(s *Socket) error { return s.SetUser(evilName) })
		p.join(t, srv).CloseNow()
	},
	"atrium: Use refused a client": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.Use(func(s *Socket) error { return Errorf("no %s", evil) })
		c := p.open(t, srv)
		c.send(`40{"token":"` + secret + `"}`)
		c.next()
	},
	"atrium: Options.Accept refused a client":                refused(accepts(Errorf("no %s", evil)), "GET", ""),
	"atrium: Options.Accept failed":                          refused(accepts(errors.New(evil)), "GET", polls),
	"atrium: refused an origin":                              refused(Options{}, "GET", "", "Origin: "+evilLine, "Host: ex'a(m)ple.com"),
	"atrium: refused a malformed Engine.IO request":          refused(Options{}, "GET", "EIO=4&transport="+url.QueryEscape(evil)),
	"atrium: refused a version of Engine.IO":                 refused(Options{}, "GET", "transport=polling&EIO="+url.QueryEscape(evil)),
	"atrium: refused a request of an unknown session":        refused(Options{}, "GET", polls+"&sid="+secret),
	"atrium: refused a request with large headers":           refused(Options{}, "GET", "", "X-Large: "+strings.Repeat("x", 65<<10)),
	"atrium: no offered subprotocol is known":                refused(Options{}, "GET", "", "Sec-WebSocket-Protocol: bearer, "+secret),
	"atrium: refused a malformed WebSocket handshake":        refused(Options{}, "GET", "", "-Upgrade"),
	"atrium: refused a cross-site request without an Origin": refused(Options{}, "GET", "", "Sec-Fetch-Site: cross-site"),
	"atrium: refused a client over Limits.Connections":       crowded(Options{Limits: Limits{Connections: 1}}),
	"atrium: refused a client over Limits.Pending":           crowded(Options{Limits: Limits{Pending: 1}}),
	"atrium: refused a client over Limits.ConnectionsPerClient": crowded(Options{
		Limits: Limits{ConnectionsPerClient: 1}, ClientKey: func(*http.Request) string { return evil }}),
	"atrium: refused a client during Shutdown": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.Shutdown(t.Context())
		p.ask(t, srv, "GET", "")
	},
	"atrium: a ResponseWriter does not hand its connection over to a WebSocket": func(t *testing.T, p *logProbe) {
		h, _ := p.hub(t, Options{})
		srv := serve(t, overPipe, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(unhijackable{w}, r) }))
		p.ask(t, srv, "GET", "")
	},

	"atrium: refused a request to Inspect": func(t *testing.T, p *logProbe) {
		h, _ := p.hub(t, Options{})
		r := httptest.NewRequest("GET", evilPath+"?token="+secret, nil)
		r.Host, r.RemoteAddr = evil, "192.0.2.1:80"
		Inspect(h, nil).ServeHTTP(httptest.NewRecorder(), r)
	},
	"atrium: an action of Inspect": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		s := h.Namespace.socket(p.join(t, srv).sid)
		i := &inspector{hub: h, options: InspectOptions{Actions: true}}
		if err := i.act(s, s.ID(), "disconnect", func(*Socket) error { return nil }); err != nil {
			t.Error(err)
		}
	},
	"atrium: a client took too long": func(t *testing.T, p *logProbe) {
		_, srv := p.hub(t, Options{})
		c := p.open(t, srv)
		c.listen()
		<-time.After(time.Minute)
	},
	"atrium: refused a client an unknown namespace": bySending(Options{}, nil, "40"+evilNamespace+","),
	"atrium: refused a client one more namespace": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.OfFunc(func(string) bool { return true })
		c := p.join(t, srv)
		c.listen()
		for i := range maxSockets {
			c.send(fmt.Sprintf(`40/%d,{"token":%q}`, i, secret))
		}
	},
	"atrium: a client sent too big a message": bySending(Options{Limits: Limits{MessageBytes: 1000}}, nil,
		`451-[`+quoted(evilName)+`,{"_placeholder":true,"num":0}]`, "b"+strings.Repeat("x", 990)),
	"atrium: a client broke its protocol":   bySending(Options{}, nil, "4"+evil),
	"atrium: a client sent too many events": bySending(Options{Limits: Limits{EventsPerSecond: 1}}, nil, "42["+quoted(evilName)+"]", "42["+quoted(evilName)+"]"),
	"atrium: refused an event over Limits.Calls": bySending(Options{Limits: Limits{Calls: 1}}, func(h *Hub) {
		h.HandleAny(func(e *Event) { keptAcks = append(keptAcks, e.Later()) })
	}, "421["+quoted(evilName)+"]", "422["+quoted(evilName)+"]"),
	"atrium: a client sends far faster than its events are handled": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{Limits: Limits{InboxEvents: 2}})
		answered := make(chan error, 1)
		h.Handle("ask", func(e *Event) {
			_, err := Call[any](context.Background(), e.Socket(), "ask")
			answered <- err
		})
		c := p.join(t, srv)
		c.listen()
		c.send(`42["ask"]`)
		synctest.Wait()
		for range 8 {
			c.Write(t.Context(), MessageText, []byte("42["+quoted(evilName)+"]"))
			synctest.Wait()
		}
		<-answered
	},
	"atrium: a client does not take what is sent to it": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{Limits: Limits{QueuedBytes: 10_000}})
		srv.peer(t).arrive(h)
		for range 6 {
			h.Emit("e", strings.Repeat("x", 10_000))
		}
	},
	"atrium: the queues of all clients are over Limits.TotalQueuedBytes": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{Limits: Limits{TotalQueuedBytes: 100_000}, Timeouts: Timeouts{PingInterval: time.Hour}})
		for range 2 {
			s := srv.peer(t).arrive(h)
			for range 60 {
				s.Emit("e", strings.Repeat("x", 900))
			}
		}
		<-time.After(5 * time.Second)
	},
	"atrium: many clients do not answer pings": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		for range 20 {
			srv.peer(t).arrive(h)
		}
		<-time.After(2 * time.Minute)
		if e := p.of("atrium: many clients do not answer pings"); len(e) != 1 || e[0].attrs["count"] != "10" || e[0].attrs["clients"] != "20" {
			t.Errorf("got %v", e)
		}
	},
	"atrium: a client was disconnected without what was queued for it": func(t *testing.T, p *logProbe) {
		h, _ := p.hub(t, Options{Timeouts: Timeouts{Close: 5200 * time.Millisecond, PingInterval: 2 * time.Second, Ping: time.Hour}})
		s, got := slowClient(t, h, 500*time.Millisecond)
		s.Disconnect()
		<-got
		h.awaitCountedOut(t)
	},
	"atrium: Shutdown waits for handlers": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		gate := make(chan struct{})
		h.HandleAny(func(*Event) { <-gate })
		c := p.join(t, srv)
		c.listen()
		c.send("42[" + quoted(evilName) + "]")
		<-time.After(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		h.Shutdown(ctx)
		close(gate)
	},

	"atrium: a handler panicked": bySending(Options{}, func(h *Hub) { h.HandleAny(func(e *Event) { panic(e.Name()) }) }, "42["+quoted(evilName)+"]"),
	"atrium: a handler failed":   bySending(Options{}, func(h *Hub) { h.UseEvent(func(e *Event) error { return errors.New(e.Name()) }) }, "42["+quoted(evilName)+"]"),
	"atrium: OnEmit panicked": bySending(Options{}, func(h *Hub) {
		h.OnEmit(func(string, []json.RawMessage) { panic(evil) })
		h.HandleAny(func(e *Event) { h.Emit(e.Name()) })
	}, "42["+quoted(evilName)+"]"),
	"atrium: OnPresence panicked": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.OnPresence(func(string, []Present, []Present) { panic(evil) })
		h.OnConnect(func(s *Socket) {
			s.Join(evilName)
			s.Present(evilName, "ada", nil)
		})
		p.join(t, srv)
		<-time.After(time.Second)
	},
	"atrium: a function told of a user panicked": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{})
		h.OnUserOnline(func(string) { panic(evil) })
		h.Use(func(s *Socket) error { return s.SetUser(evilName) })
		p.join(t, srv)
		<-time.After(time.Second)
	},
	"atrium: the data of an error cannot be encoded": bySending(Options{}, func(h *Hub) {
		h.UseEvent(func(e *Event) error { return &Error{Message: evil, Data: func() {}} })
	}, "42["+quoted(evilName)+"]"),
	"atrium: the function of an OfFunc panicked": bySending(Options{}, func(h *Hub) {
		h.OfFunc(func(name string) bool { panic(errors.New(name)) })
	}, "40"+evilNamespace+","),

	"atrium: the bus fails":             busProvocation(nil),
	"atrium: the bus works again":       busProvocation(nil),
	"atrium: the bus refuses this node": busProvocation(fmt.Errorf("%w: NOPERM %s", fs.ErrPermission, evil)),
	"atrium: the bus does not take a message": func(t *testing.T, p *logProbe) {
		memory := new(MemoryBus)
		h, _ := p.hub(t, Options{Bus: &scriptedBus{Bus: memory, publish: func(ctx context.Context, topic string, msg []byte) error {
			if len(msg) > 1<<20 {
				return errors.New(evil)
			}
			return memory.Publish(ctx, topic, msg)
		}}})
		h.Emit("large", strings.Repeat("x", 1<<20))
	},
	"atrium: a subscription's cancel panicked": func(t *testing.T, p *logProbe) {
		memory := new(MemoryBus)
		h, srv := p.hub(t, Options{Bus: &scriptedBus{Bus: memory, subscribe: func(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
			cancel, err := memory.Subscribe(ctx, topic, deliver)
			return func() { cancel(); panic(topic) }, err
		}}})
		h.OnConnect(func(s *Socket) { s.Join(evilName) })
		p.join(t, srv).CloseNow()
		<-time.After(time.Minute)
	},
	"atrium: an event of another node was refused": func(t *testing.T, p *logProbe) {
		all := newTestCluster(t, overPipe, 2, new(MemoryBus), Options{Logger: p.logger()})
		On(all[0].Nodes(), "n", func(string, int) error { return nil })
		all[1].Nodes().Emit("n", evil)
	},

	"atrium: Recovery.Path cannot be used": func(t *testing.T, p *logProbe) {
		path := filepath.Join(t.TempDir(), "no\n\u202e", "state")
		New(Options{Logger: p.logger(), Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}}).Shutdown(t.Context())
	},
	"atrium: another hub holds Recovery.Path, and does not shut down": func(t *testing.T, p *logProbe) {
		o := Options{Recovery: Recovery{MaxDisconnection: time.Minute, Path: filepath.Join(t.TempDir(), "\u202estate")}}
		first := newHub(t, o)
		p.hub(t, o)
		<-time.After(2 * lockPatience)
		first.Shutdown(t.Context())
	},
	"atrium: what the hub before this one has saved cannot be used: its clients begin anew": func(t *testing.T, p *logProbe) {
		path := filepath.Join(t.TempDir(), "state\n")
		os.WriteFile(path, []byte(evil), 0o600)
		p.hub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}})
	},
	"atrium: the events of the hub before this one have later numbers: its clients begin anew": func(t *testing.T, p *logProbe) {
		h, _ := p.hub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute, Path: filepath.Join(t.TempDir(), "state")}})
		h.adopt(savedState{{name: evil, newest: 1 << 62}})
	},
	"atrium: a client begins anew after the restart: a value of its socket cannot be saved": func(t *testing.T, p *logProbe) {
		h, srv := p.hub(t, Options{Recovery: Recovery{MaxDisconnection: time.Minute, Path: filepath.Join(t.TempDir(), "state")}})
		h.OnConnect(func(s *Socket) { s.Set(evil, new(net.TCPConn)) })
		p.join(t, srv).CloseNow()
		<-time.After(time.Second)
		h.Shutdown(t.Context())
	},
}

// busProvocation has the Bus fail for a minute, with an error of its own unless err is set.
func busProvocation(err error) provocation {
	return func(t *testing.T, p *logProbe) {
		memory := new(MemoryBus)
		bus := &scriptedBus{Bus: memory}
		var refuses atomic.Bool
		bus.publish = func(ctx context.Context, topic string, msg []byte) error {
			if refuses.Load() {
				return err
			}
			return memory.Publish(ctx, topic, msg)
		}
		h, _ := p.hub(t, Options{Bus: bus})
		fails := &refuses
		if err == nil {
			fails = &bus.fails
		}
		fails.Store(true)
		h.Emit("e", evil)
		<-time.After(time.Minute)
		if h.Ready() == nil {
			t.Error("the hub is ready")
		}
		fails.Store(false)
		<-time.After(time.Minute)
	}
}

var clientProvocations = map[string]provocation{
	"atrium: a handler panicked": withServer(func(c *Client) { c.HandleAny(func(e *Event) { panic(e.Name()) }) }, "42["+quoted(evilName)+"]"),
	"atrium: a handler failed": withServer(func(c *Client) {
		c.HandleAny(func(e *Event) { e.ReplyError(errors.New(evil)) })
	}, "421["+quoted(evilName)+"]"),
	"atrium: the data of an error cannot be encoded": withServer(func(c *Client) {
		c.HandleAny(func(e *Event) { e.ReplyError(&Error{Message: evil, Data: func() {}}) })
	}, "421["+quoted(evilName)+"]"),
	"atrium: an event could not be handled": withServer(func(c *Client) {
		On(c, "e", func(*Client, int) error { return nil })
		c.HandleAny(func(e *Event) { e.ReplyError(Errorf("%s", evil)) })
	}, "42["+quoted(evilName)+"]"),
	"atrium: an answer is bigger than the server takes": withServer(func(c *Client) {
		c.HandleAny(func(e *Event) { e.Reply(strings.Repeat("x", 2_000_000)) })
	}, "421["+quoted(evilName)+"]"),
	"atrium: the server broke the protocol": withServer(nil, "4"+evil),
	"atrium: an event was dropped that is bigger than the server takes": func(t *testing.T, p *logProbe) {
		f := newFakeServer(t, overPipe)
		c := f.client(t, ClientOptions{Logger: p.logger(), MaxOfflineBytes: 8 << 20})
		c.Emit("e", evil+strings.Repeat("x", 2_000_000))
		result := connecting(c)
		f.welcome(t)
		if err := within(t, result, "Connect"); err != nil {
			t.Error(err)
		}
	},
	"atrium: the server sends far faster than its events are handled": func(t *testing.T, p *logProbe) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{Logger: p.logger()})
		gate := make(chan struct{})
		c.Handle("block", func(*Event) { <-gate })
		s.send(`42["block"]`)
		go Call[any](t.Context(), c, "ask")
		s.want(`420["ask"]`)
		for range 3 * maxClientInboxEvents {
			if s.Write(t.Context(), MessageText, []byte("42["+quoted(evilName)+"]")) != nil {
				break
			}
		}
		synctest.Wait()
		close(gate)
	},
	"atrium: could not connect": func(t *testing.T, p *logProbe) {
		c := newClient(t, func() (net.Conn, error) { return nil, errors.New(evil) }, ClientOptions{Logger: p.logger()})
		gate := make(chan struct{})
		c.OnConnectError(func(*Client, error) { <-gate })
		result := connecting(c)
		<-time.After(time.Minute) // some thousand attempts
		close(gate)
		c.Close()
		<-result
	},
}

// withServer has a server send messages to a connected client.
func withServer(set func(c *Client), messages ...string) provocation {
	return func(t *testing.T, p *logProbe) {
		f := newFakeServer(t, overPipe)
		c, s := f.connected(t, ClientOptions{Logger: p.logger(), Dial: DialOptions{Header: http.Header{"Cookie": {secret}}}})
		if set != nil {
			set(c)
		}
		s.listen()
		for _, m := range messages {
			s.send(m)
		}
		synctest.Wait()
	}
}
