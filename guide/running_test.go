package guide

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

func TestOperations(t *testing.T) {
	h := atrium.New(atrium.Options{})
	srv := httptest.NewServer(operations(h))
	defer srv.Close()
	for path, want := range map[string]string{
		"/metrics":                       "\natrium_ready 1\n",
		"/debug/pprof/goroutine?debug=1": "guide.TestOperations",
		"/ready":                         "",
	} {
		if status, body := fetch(t, srv.URL+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q: %.500s", path, status, want, body)
		}
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := fetch(t, srv.URL+"/ready"); status != http.StatusServiceUnavailable || !strings.Contains(body, "shutting down") {
		t.Errorf("/ready after Shutdown: %d %s", status, body)
	}
}

func fetch(t *testing.T, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// TestGoroutineDump has a hub do all that RUNNING.md says of goroutines, and looks for them in a
// dump.
func TestGoroutineDump(t *testing.T) {
	document, err := os.ReadFile("../RUNNING.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("(?m)^\\| `(atrium\\.\\S+)` \\|").FindAllStringSubmatch(string(document), -1)
	if len(names) == 0 {
		t.Fatal("RUNNING.md has no table of goroutines")
	}
	missing := make(map[string]bool)
	for _, name := range names {
		missing[name[1]] = true
	}

	bus := &slowBus{release: make(chan struct{})}
	h := atrium.New(atrium.Options{Bus: bus, Logger: slog.New(slog.DiscardHandler)})
	answer := make(chan struct{})
	atrium.On(h, "wait", func(*atrium.Socket, int) error { <-answer; return nil })
	atrium.On(h, "join", func(s *atrium.Socket, room string) error { return s.Join(room) })
	atrium.On(h, "ask", func(s *atrium.Socket, _ int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := atrium.Call[int](ctx, s, "never answered")
		return err
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/debug/", operations(h))
	srv := httptest.NewServer(mux)
	defer srv.CloseClientConnections()
	dial := func(events ...string) { // a client that does not read
		c, _, err := atrium.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+"/socket.io/", atrium.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		if _, _, err := c.Read(t.Context()); err != nil { // that it is connected
			t.Fatal(err)
		}
		for _, e := range events {
			if err := c.Write(t.Context(), atrium.MessageText, []byte(e)); err != nil {
				t.Fatal(err)
			}
		}
	}
	dump := func() {
		_, goroutines := fetch(t, srv.URL+"/debug/pprof/goroutine?debug=1")
		for name := range missing {
			if strings.Contains(goroutines, strings.TrimSuffix(name, "()")+"+0x") {
				delete(missing, name)
			}
		}
	}
	poll := srv.URL + "/socket.io/?EIO=4&transport=polling"
	_, opened := fetch(t, poll)
	sid := regexp.MustCompile(`"sid":"([^"]+)"`).FindStringSubmatch(opened)
	if sid == nil {
		t.Fatalf("no session: %q", opened)
	}
	go http.Get(poll + "&sid=" + sid[1]) // until the hub has ended
	dial()
	bus.slow.Store(true)
	dial(`{"event":"join","data":"a room"}`)
	dial(`{"event":"ask","data":1}`)
	dial(`{"event":"wait","data":1}`)
	shutdown := make(chan error, 1)
	for len(missing) > 1 && t.Context().Err() == nil { // all but the last one
		if err := h.Volatile().Emit("much", strings.Repeat("x", 100_000)); err != nil {
			t.Fatal(err)
		}
		if deadline, ok := t.Deadline(); ok && time.Until(deadline) < time.Minute {
			t.Fatalf("not in any dump: %v", missing)
		}
		dump()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { shutdown <- h.Shutdown(ctx) }()
	for len(missing) > 0 {
		dump()
	}
	cancel()
	close(bus.release)
	close(answer)
	<-shutdown // that clients did not take all
}

// slowBus is a MemoryBus that can be made to subscribe to nothing for a while.
type slowBus struct {
	atrium.MemoryBus
	slow    atomic.Bool
	release chan struct{}
}

func (b *slowBus) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if b.slow.Load() {
		<-b.release
	}
	return b.MemoryBus.Subscribe(ctx, topic, deliver)
}
