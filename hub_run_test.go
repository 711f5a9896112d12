package atrium

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium/atriumtest"
)

// serving begins Serve, and returns the server that it serves and what ends it.
func serving(t testing.TB, k kind, h *Hub, handler http.Handler) (srv *server, end context.CancelFunc, served <-chan outcome[struct{}]) {
	l := k.listen(t)
	ctx, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	return &server{k, l}, end, begin(func() (struct{}, error) {
		return struct{}{}, h.Serve(ctx, &http.Server{Handler: handler, ErrorLog: nil}, l)
	})
}

// Serve closes the listener first: until its turn has come, a client that polls goes on by the
// connection that it has, and another request is served, too. No request is refused on the way.
func TestServeEndsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{DrainRate: 1})
		OnCall(h, "echo", func(_ *Socket, v any) (any, error) { return v, nil })
		mux := http.NewServeMux()
		mux.Handle("/", h)
		mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
			<-time.After(3 * time.Second)
			io.WriteString(w, "done")
		})
		srv, end, served := serving(t, overPipe, h, mux)
		e := srv.joined(t)
		var connections atomic.Int32
		e.http = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			connections.Add(1)
			return overPipe.dial(srv.listener)
		}}}
		e.post(`421["echo","before"]`).want(t, 200, "ok")
		e.get().want(t, 200, `431["before"]`)
		slow := srv.raw(t)
		write(t, slow, "GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n")
		e.post(`422["echo"]`).want(t, 200, "ok") // so that it is not idle, and its turn is the last
		others := []*client{srv.connect(t, nil), srv.connect(t, nil)}
		synctest.Wait()

		end()
		synctest.Wait()
		if _, err := overPipe.dial(srv.listener); err == nil {
			t.Error("the listener is open")
		}
		e.get().want(t, 200, `432[null]`)
		e.post(`423["echo","meanwhile"]`).want(t, 200, "ok")
		e.get().want(t, 200, `433["meanwhile"]`)
		for _, c := range others {
			go c.wantClosed(StatusServiceRestart)
		}
		e.get().want(t, 200, "1")
		if n := connections.Load(); n != 1 {
			t.Errorf("the client needed %d connections", n)
		}
		r, err := http.ReadResponse(bufio.NewReader(slow), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(body(t, r.Body)); text != "done" {
			t.Errorf("the slow request got %s %q", r.Status, text)
		}
		if err := (<-served).err; err != nil {
			t.Errorf("Serve: %v", err)
		}
		h.checkNobody(t)
	})
}

// Serve serves TLS if the server has a TLSConfig, by a listener of its own if it is given none.
func TestServeListens(t *testing.T) {
	for _, overTLS := range []bool{false, true} {
		noLeaks(t)
		h := newEcho(t, Options{})
		probe := listenTCP(t)
		addr := probe.Addr().String()
		probe.Close()
		server := &http.Server{Addr: addr, Handler: h}
		url := "http://" + addr
		var options ClientOptions
		if overTLS {
			url = "https://" + addr
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{testCertificate()}}
			options.Dial.TLSConfig = &tls.Config{RootCAs: testRoots(), ServerName: "localhost"}
		}
		options.Backoff.Min = time.Millisecond
		ctx, end := context.WithCancel(t.Context())
		served := begin(func() (struct{}, error) { return struct{}{}, h.Serve(ctx, server, nil) })
		c := NewClient(url, options)
		if err := c.Connect(limited(t)); err != nil {
			t.Fatal(err)
		}
		if got := ask[string](t, c, "echo", "hi"); got != "hi" {
			t.Errorf("got %q", got)
		}
		c.Close()
		end()
		if err := within(t, served, "Serve").err; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// failingListener fails after its first connection.
type failingListener struct {
	*atriumtest.Listener
	accepted atomic.Int32
	fail     chan struct{}
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.accepted.Add(1) > 1 {
		<-l.fail
		return nil, errors.New("out of order")
	}
	return l.Listener.Accept()
}

// What fails is returned when the hub has ended: clients that have come before are told to go.
func TestServeFails(t *testing.T) {
	t.Run("to listen", func(t *testing.T) {
		taken := listenTCP(t)
		defer taken.Close()
		h := newHub(t, Options{})
		err := h.Serve(t.Context(), &http.Server{Addr: taken.Addr().String(), Handler: h}, nil)
		if _, ok := errors.AsType[*net.OpError](err); !ok || !errors.Is(h.Ready(), ErrClosed) {
			t.Errorf("Serve: %v; Ready: %v", err, h.Ready())
		}
	})
	t.Run("to accept", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, Options{})
			l := &failingListener{Listener: atriumtest.Listen(), fail: make(chan struct{})}
			served := begin(func() (struct{}, error) {
				return struct{}{}, h.Serve(t.Context(), &http.Server{Handler: h}, l)
			})
			c := (&server{overPipe, l.Listener}).connect(t, nil)
			close(l.fail)
			c.wantClosed(StatusServiceRestart)
			if err := (<-served).err; err == nil || err.Error() != "atrium: out of order" {
				t.Errorf("Serve: %v", err)
			}
		})
	})
	t.Run("by being closed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, Options{})
			srv := &http.Server{Handler: h}
			l := atriumtest.Listen()
			served := begin(func() (struct{}, error) { return struct{}{}, h.Serve(t.Context(), srv, l) })
			c := (&server{overPipe, l}).connect(t, nil)
			srv.Close()
			c.wantClosed(StatusServiceRestart)
			if err := (<-served).err; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	})
	t.Run("to end in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, Options{Timeouts: Timeouts{Drain: 5 * time.Second}})
			srv, end, served := serving(t, overPipe, h, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
			write(t, srv.raw(t), "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
			synctest.Wait()
			end()
			began := time.Now()
			err := (<-served).err
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "requests were cut off") || time.Since(began) != 5*time.Second {
				t.Errorf("Serve: %v after %v", err, time.Since(began))
			}
		})
	})
}
