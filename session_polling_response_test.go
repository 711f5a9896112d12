package atrium

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// contextTimeout is chi's Timeout: it does not answer by itself before the handler returns.
func contextTimeout(next http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
		if ctx.Err() == context.DeadlineExceeded {
			w.WriteHeader(http.StatusGatewayTimeout)
		}
	})
}

func timeoutHandler(next http.Handler, d time.Duration) http.Handler {
	return http.TimeoutHandler(next, d, "too slow")
}

// A GET is answered before the deadline of a handler around the hub, which would end the session.
func TestPollingHandlerDeadline(t *testing.T) {
	for name, around := range map[string]func(http.Handler, time.Duration) http.Handler{"TimeoutHandler": timeoutHandler, "context": contextTimeout} {
		for deadline, least := range map[time.Duration]time.Duration{
			time.Minute: 59 * time.Second, 11 * time.Second: 10 * time.Second, 800 * time.Millisecond: 700 * time.Millisecond, time.Microsecond: 0,
		} {
			t.Run(name+" "+deadline.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
					left := leavings(h)
					e := serve(t, overPipe, around(h, deadline)).joined(t)
					for range 3 {
						start := time.Now()
						e.get().want(t, 200, "6")
						if waited := time.Since(start); waited < least || waited >= deadline {
							t.Errorf("answered after %v, want %v to %v", waited, least, deadline)
						}
					}
					e.post(`42["message","alive"]`).want(t, 200, "ok")
					e.get().want(t, 200, `42["message-back","alive"]`)
					if len(left) != 0 {
						t.Errorf("left: %s", <-left)
					}
					e.leave()
				})
			})
		}
	}
}

// A request whose context has ended for a reason of some middleware's is no client that has left.
func TestPollingContextEndedByMiddleware(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	end := make(chan context.CancelCauseFunc, 1)
	e := serve(t, overTCP, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ctx context.Context
		switch r.Header.Get("X-Test") {
		case "expired":
			expired, cancel := context.WithDeadline(r.Context(), time.Now().Add(-time.Second))
			defer cancel()
			ctx = expired
		case "ended":
			ended, cancel := context.WithCancelCause(r.Context())
			end <- cancel
			ctx = ended
		default:
			ctx = r.Context()
		}
		h.ServeHTTP(w, r.WithContext(ctx))
	})).joined(t)

	h.Emit("waits")
	e.get("X-Test: expired").want(t, 200, "6") // and what waits is not lost with an answer that nobody may get
	e.get().want(t, 200, `42["waits"]`)
	e.post(`42["message","1"]`, "X-Test: expired").want(t, 200, "ok")
	e.get().want(t, 200, `42["message-back","1"]`)

	answered := make(chan reply, 1)
	go func() { answered <- e.get("X-Test: ended") }()
	cancel := within(t, end, "the GET")
	cancel(errors.New("the server is busy"))
	within(t, answered, "the GET's answer").want(t, 200, "6")
	e.post(`42["message","2"]`).want(t, 200, "ok")
	e.get().want(t, 200, `42["message-back","2"]`)
	if len(left) != 0 {
		t.Errorf("left: %s", <-left)
	}
	e.leave()
}

// A server whose BaseContext ends with the signal to stop, as signal.NotifyContext's does, still
// has clients that poll hear what is emitted before Shutdown, and that it shuts down. They are not
// answered with nothing again and again.
func TestPollingBaseContextEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		left := leavings(h)
		base, stop := context.WithCancelCause(context.Background())
		e := serve(t, overPipe, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancelCause(r.Context())
			defer cancel(nil)
			defer context.AfterFunc(base, func() { cancel(context.Cause(base)) })()
			if base.Err() != nil {
				cancel(context.Cause(base))
			}
			h.ServeHTTP(w, r.WithContext(ctx))
		})).joined(t)
		stop(errors.New("terminated signal received"))

		start := time.Now()
		e.get().want(t, 200, "6")
		if waited := time.Since(start); waited < maxLead/2 {
			t.Errorf("answered with nothing after %v", waited)
		}
		e.post(`42["message","1"]`).want(t, 200, "ok")
		e.get().want(t, 200, `42["message-back","1"]`)
		h.Emit("bye")
		down := make(chan error, 1)
		go func() { down <- h.Shutdown(t.Context()) }()
		synctest.Wait()
		e.get().want(t, 200, `42["bye"]`)
		e.get().want(t, 200, "1")
		if err := <-down; err != nil {
			t.Error(err)
		}
		wantReason(t, left, ReasonShutdown)
	})
}

// aborting is a ResponseWriter that gives a response up, as handlers do that cannot finish it.
type aborting struct{ http.ResponseWriter }

func (aborting) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// A session whose response was not written, because the ResponseWriter panicked, ends like one
// whose client is gone.
func TestPollingWriterPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		left := leavings(h)
		var aborts bool
		e := serve(t, overPipe, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if aborts {
				w = aborting{w}
			}
			h.ServeHTTP(w, r)
		})).joined(t)
		h.Emit("waits")
		aborts = true
		if r, err := e.request(t.Context(), "GET", e.query(), ""); err == nil {
			t.Errorf("answered: %v", r)
		}
		wantReason(t, left, ReasonTransportError)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What http.TimeoutHandler has answered in the hub's place costs the session nothing if there was
// nothing to lose.
func TestPollingTooLateForTimeoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		left := leavings(h)
		var late bool
		e := serve(t, overPipe, http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if late {
				<-r.Context().Done()
			}
			h.ServeHTTP(w, r)
		}), time.Second, "too slow")).joined(t)
		late = true
		h.Emit("waits")
		e.get().want(t, 503, "too slow")
		synctest.Wait()
		late = false
		e.get().want(t, 200, `42["waits"]`)
		if len(left) != 0 {
			t.Errorf("left: %s", <-left)
		}
		e.leave()
	})
}

// A POST whose events wait for handlers is answered before the deadline, too. The next one waits
// for its end, and the order holds.
func TestPollingPostDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Limits: Limits{InboxEvents: 1}})
		left := leavings(h)
		release, handled := make(chan struct{}), make(chan string, 10)
		On(h, "slow", func(_ *Socket, text string) error {
			<-release
			handled <- text
			return nil
		})
		e := serve(t, overPipe, timeoutHandler(h, 10*time.Second)).joined(t)
		start := time.Now()
		e.post("42[\"slow\",\"a\"]\x1e42[\"slow\",\"b\"]\x1e42[\"slow\",\"c\"]").want(t, 200, "ok")
		if waited := time.Since(start); waited < 8*time.Second || waited >= 10*time.Second {
			t.Errorf("answered after %v", waited)
		}
		second := make(chan reply, 1)
		go func() { second <- e.post(`42["slow","d"]`) }()
		synctest.Wait()
		if len(second) != 0 {
			t.Errorf("the second POST does not wait: %v", <-second)
		}
		close(release)
		(<-second).want(t, 200, "ok")
		synctest.Wait()
		close(handled)
		var order string
		for text := range handled {
			order += text
		}
		if order != "abcd" || len(left) != 0 {
			t.Errorf("handled %q, %d have left", order, len(left))
		}
		e.leave()
	})
}

// A second POST that waits for the first until its own time is up is lost, and the session with it.
func TestPollingPostDeadlineTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}, Limits: Limits{InboxEvents: 1}})
		left := leavings(h)
		release := make(chan struct{})
		On(h, "slow", func(*Socket, any) error { <-release; return nil })
		e := serve(t, overPipe, timeoutHandler(h, 10*time.Second)).joined(t)
		e.post("42[\"slow\"]\x1e42[\"slow\"]\x1e42[\"slow\"]").want(t, 200, "ok")
		e.post(`42["slow"]`).want(t, 400, badRequest)
		close(release)
		wantReason(t, left, ReasonTransportError)
		synctest.Wait()
	})
}

// gzipping is a ResponseWriter that compresses what is written.
type gzipping struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (g gzipping) Write(p []byte) (int, error) {
	g.Header().Set("Content-Encoding", "gzip")
	g.Header().Del("Content-Length")
	return g.z.Write(p)
}

// gzipAround compresses what next writes for those who accept it. announce sets the headers that
// tell so beforehand.
func gzipAround(next http.Handler, announce func(http.Header)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			next.ServeHTTP(w, r)
			return
		}
		announce(w.Header())
		g := gzipping{w, gzip.NewWriter(w)}
		defer g.z.Close()
		next.ServeHTTP(g, r)
	})
}

// Behind a handler that compresses, polling clients get what they can read.
func TestPollingGzipTwice(t *testing.T) {
	noLeaks(t)
	around := func(announce func(http.Header)) func(http.Handler) http.Handler {
		return func(next http.Handler) http.Handler { return gzipAround(next, announce) }
	}
	for _, row := range []struct {
		name    string
		options Options
		around  func(http.Handler) http.Handler
		want    string // the response's Content-Encoding
	}{
		{"gin", Options{}, around(func(h http.Header) { h.Set("Content-Encoding", "gzip"); h.Add("Vary", "Accept-Encoding") }), "gzip"},
		{"echo", Options{}, around(func(h http.Header) { h.Add("Vary", "Accept-Encoding") }), "gzip"},
		{"Vary in lower case, among others", Options{}, around(func(h http.Header) { h.Set("Vary", "Origin, accept-encoding") }), "gzip"},
		{"unannounced, with the option", Options{DisablePollingCompression: true}, around(func(http.Header) {}), "gzip"},
		{"nobody else", Options{}, func(next http.Handler) http.Handler { return next }, "gzip"},
		{"nobody at all", Options{DisablePollingCompression: true}, func(next http.Handler) http.Handler { return next }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := serve(t, overTCP, row.around(newEcho(t, row.options))).joined(t)
			for _, size := range []int{10, 2000, 200_000} {
				text := strings.Repeat("y", size)
				e.post(`42["message","`+text+`"]`).want(t, 200, "ok")
				r := e.get("Accept-Encoding: gzip")
				if size >= minGzip && r.header.Get("Content-Encoding") != row.want {
					t.Errorf("%d bytes: Content-Encoding %q, want %q", size, r.header.Values("Content-Encoding"), row.want)
				}
				if encoded := r.header.Values("Content-Encoding"); len(encoded) == 1 {
					z, err := gzip.NewReader(strings.NewReader(r.body))
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(z)
					if err != nil {
						t.Fatal(err)
					}
					r.body = string(b)
				}
				r.want(t, 200, `42["message-back","`+text+`"]`)
			}
			e.leave()
		})
	}
}

// What is not to be compressed is not gzipped either, nor is what shares its response: to a client
// that was there, from another node, in a Call, and to one that has come back.
func TestPollingLeavesSecretsUncompressed(t *testing.T) {
	noLeaks(t)
	bus := new(MemoryBus)
	l := newRecoveryHub(t, overTCP, Options{Bus: bus, Recovery: Recovery{MaxDisconnection: time.Minute}})
	other := newHub(t, Options{Bus: bus})
	eventually(t, "the nodes to know each other", func() bool { return len(other.Nodes().List()) == 1 })
	text := strings.Repeat("x", 2000)
	e := l.server.polls(t)
	e.post("40")
	hello := regexp.MustCompile(`"pid":"([\w-]{20})"`).FindStringSubmatch(e.get().body)
	s := within(t, l.came, "OnConnect")
	encoding := func(what string, emit func()) string {
		t.Helper()
		emit()
		r := e.get("Accept-Encoding: gzip")
		if r.status != 200 {
			t.Fatalf("%s: %v", what, r)
		}
		return r.header.Get("Content-Encoding")
	}
	for what, emit := range map[string]func(){
		"the socket":   func() { s.Compress(false).Emit("x", text) },
		"everyone":     func() { l.Compress(false).Emit("x", text) },
		"a node":       func() { other.Compress(false).Emit("x", text) },
		"beside":       func() { l.Emit("x", text); l.Compress(false).Emit("secret"); l.Emit("y") },
		"Call":         func() { go s.alone().Compress(false).Call(t.Context(), "x", text) },
		"binary":       func() { l.Compress(false).Emit("x", Binary(text)) },
		"Compress(no)": func() { l.Compress(true).Compress(false).Emit("x", text) },
	} {
		if got := encoding(what, emit); got != "" {
			t.Errorf("%s: Content-Encoding: %q", what, got)
		}
		// The response after it is compressed again.
		if got := encoding(what, func() { l.Emit("x", text) }); got != "gzip" {
			t.Errorf("after %s: Content-Encoding: %q", what, got)
		}
	}
	e.post("1")
	within(t, l.went, "OnDisconnect")
	l.Compress(false).Emit("x", text)
	e = l.server.polls(t)
	if got := encoding("back", func() { e.post("40" + proof(hello[1], "")); within(t, l.came, "OnConnect") }); got != "" {
		t.Errorf("replayed: Content-Encoding: %q", got)
	}
	e.leave()
}
