package guide

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/atriumtest"
)

func TestBigMessages(t *testing.T) {
	h := newBigHub()
	atrium.OnCall(h, "echo", func(_ *atrium.Socket, text string) (string, error) { return text, nil })
	srv := atriumtest.NewServer(h)
	defer srv.Close()
	text := strings.Repeat("x", 10<<20)

	c := atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{DialContext: srv.DialContext}})
	defer c.Close()
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := atrium.Call[string](t.Context(), c, "echo", text); err == nil {
		t.Error("a client with its default options took 10 MiB")
	}

	options := bigOptions
	options.Dial.DialContext = srv.DialContext
	big := atrium.NewClient(srv.URL, options)
	defer big.Close()
	if err := big.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := atrium.Call[string](t.Context(), big, "echo", text); got != text || err != nil {
		t.Errorf("echo of 10 MiB: %d bytes, %v", len(got), err)
	}
}

func TestRooms(t *testing.T) {
	h := atrium.New(atrium.Options{})
	h.Use(func(s *atrium.Socket) error { return errors.Join(s.SetUser("7"), s.Join("staff")) })
	handleRooms(h, func(_ User, room string) bool { return room != "closed" })
	srv := atriumtest.NewServer(h)
	defer srv.Close()
	c := connected(t, srv, "7")
	for _, test := range []struct {
		event string
		data  any
		fails bool
	}{
		{"say", ChatMessage{"open", "hello"}, true},
		{"join", "open", false},
		{"say", ChatMessage{"open", "hello"}, false},
		{"join", "closed", true},
		{"say", ChatMessage{"closed", "hello"}, true},
		{"say", ChatMessage{"staff", "hello"}, true},
		{"join", "staff", false}, // a room that happens to have this name
		{"join", "7", false},
	} {
		if _, err := atrium.Call[any](t.Context(), c, test.event, test.data); (err != nil) != test.fails {
			t.Errorf("%s %v: %v", test.event, test.data, err)
		}
	}
	for _, to := range []atrium.Target{h.To("staff"), h.ToUser("7")} {
		if n, err := to.Count(t.Context()); n != 1 || err != nil {
			t.Errorf("%d in the room of the staff, or of the user, %v", n, err)
		}
	}
}

// entries is a Store in memory.
type entries struct {
	mu   sync.Mutex // guards:
	list []Entry

	reading func(when string) // called "before" and "after" a read
}

func (s *entries) Add(_ context.Context, e Entry) (Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.ID = int64(len(s.list)) + 1
	s.list = append(s.list, e)
	return e, nil
}

func (s *entries) Since(_ context.Context, room string, id int64) ([]Entry, error) {
	s.reading("before")
	defer s.reading("after")
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list[id:]), nil
}

// Who enters while others post misses nothing, and knows by its ID what comes both ways.
func TestHistory(t *testing.T) {
	h, store := atrium.New(atrium.Options{}), new(entries)
	handleHistory(h, store)
	srv := atriumtest.NewServer(h)
	defer srv.Close()
	enter := func(c *atrium.Client) []Entry {
		entries, err := atrium.Call[[]Entry](t.Context(), c, "enter", map[string]string{"room": "lobby", "id": "0"})
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	writer := connected(t, srv, "writer")
	post := func(text string) {
		if _, err := atrium.Call[Entry](t.Context(), writer, "post", ChatMessage{"lobby", text}); err != nil {
			t.Error(err)
		}
	}
	store.reading = func(string) {}
	enter(writer)
	post("early")

	reader := device(t, srv, "reader")
	posted := make(chan Entry, 2)
	atrium.On(reader, "posted", func(_ *atrium.Client, e Entry) error { posted <- e; return nil })
	if err := reader.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	store.reading = post
	history := enter(reader)
	want := []Entry{{1, "lobby", "early"}, {2, "lobby", "before"}, {3, "lobby", "after"}}
	if !slices.Equal(history, want[:2]) {
		t.Errorf("the history is %v, want %v", history, want[:2])
	}
	for _, e := range want[1:] {
		select {
		case got := <-posted:
			if got != e {
				t.Errorf("posted: %v, want %v", got, e)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%v has not come", e)
		}
	}
}

func TestEvents(t *testing.T) {
	h := atrium.New(atrium.Options{})
	handleEvents(h)
	srv := atriumtest.NewServer(h)
	defer srv.Close()
	heard := make(chan []json.RawMessage, 2)
	c := device(t, srv, "7")
	c.HandleAny(func(e *atrium.Event) { heard <- e.Args() })
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := atrium.Call[any](t.Context(), c, "refresh"); err != nil {
		t.Error(err)
	}
	if args := <-heard; len(args) != 0 {
		t.Errorf("refreshed: %s", args)
	}
	other := connected(t, srv, "8")
	if _, err := atrium.Call[any](t.Context(), other, "move", 1, 2); err != nil {
		t.Error(err)
	}
	if args := <-heard; len(args) != 3 || string(args[1]) != "1" || string(args[2]) != "2" {
		t.Errorf("moved: %s", args)
	}
	if got, err := atrium.Call[atrium.Binary](t.Context(), c, "render", "a page"); string(got) != "a page" || err != nil {
		t.Errorf("render: %q, %v", got, err)
	}
	const large = `9007199254740993`
	if got, err := atrium.Call[json.RawMessage](t.Context(), c, "import", map[string]any{"n": json.RawMessage(large)}); err != nil || !strings.Contains(string(got), large) {
		t.Errorf("import: %s, %v", got, err)
	}
}

func TestUncompressed(t *testing.T) {
	h := atrium.New(atrium.Options{Compression: atrium.Compression{Level: 1}})
	srv := atriumtest.NewServer(uncompressed(h, func(r *http.Request) bool { return r.URL.Query().Has("plain") }))
	defer srv.Close()
	for query, want := range map[string]bool{"": true, "?plain": false} {
		c, resp, err := atrium.Dial(t.Context(), "ws://localhost/"+query, atrium.DialOptions{DialContext: srv.DialContext, Compression: atrium.Compression{Level: 1}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if got := resp.Header.Get("Sec-WebSocket-Extensions") != ""; got != want {
			t.Errorf("%q: compression is agreed on: %v, want %v", query, got, want)
		}
	}
}

func TestDeploy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := atrium.New(atrium.Options{})
		p := &health{hub: h}
		mux := http.NewServeMux()
		mux.Handle("/socket.io/", h)
		mux.Handle("/ready", p)
		l := atriumtest.Listen()
		asking := &http.Client{Transport: &http.Transport{DialContext: l.DialContext}} // its connection stays when l is closed
		defer asking.CloseIdleConnections()
		status := func() int {
			resp, err := asking.Get("http://example.com/ready")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		gone := make(chan time.Time, 1)
		c := atrium.NewClient("http://example.com", atrium.ClientOptions{Dial: atrium.DialOptions{DialContext: l.DialContext}})
		defer c.Close()
		c.OnDisconnect(func(*atrium.Client, atrium.Reason) { gone <- time.Now() })
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serve(ctx, p, &http.Server{Handler: mux}, l) }()
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := status(); got != http.StatusOK {
			t.Errorf("before: %d", got)
		}
		began := time.Now()
		end()
		synctest.Wait()
		if got := status(); got != http.StatusServiceUnavailable {
			t.Errorf("while it leaves: %d", got)
		}
		if after := (<-gone).Sub(began); after < 5*time.Second {
			t.Errorf("the client had to go after %v, before the load balancer knew", after)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
