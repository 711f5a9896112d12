package atrium

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// overUnix is one kind more.
var overUnix = kind{"unix", func(t testing.TB) net.Listener {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}, func(l net.Listener) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }}

// overClientKinds runs a test once for each kind of connection that a Client may have.
func overClientKinds(t *testing.T, test func(t *testing.T, k kind)) {
	over(t, []kind{overPipe, overTCP, overUnix, overTLS}, test)
}

// soon is a Backoff for tests in real time.
var soon = Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}

// client makes a client of the server that is closed at the test's end.
func (s *server) client(t testing.TB, options ClientOptions) *Client {
	t.Helper()
	return newClient(t, func() (net.Conn, error) { return s.kind.dial(s.listener) }, options)
}

// newClient makes a client that dials so.
func newClient(t testing.TB, dial func() (net.Conn, error), options ClientOptions) *Client {
	t.Helper()
	options.Dial.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial() }
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Backoff.Min == 0 {
		options.Backoff = soon
	}
	c := NewClient("http://example.com", options)
	t.Cleanup(func() { c.Close() })
	return c
}

// mustConnect connects.
func mustConnect(t testing.TB, c *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
}

const (
	engineHello = `0{"sid":"engine","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
	letIn       = `40{"sid":"socket"}`
)

// fakeServer is a server whose every message the test sends by hand.
type fakeServer struct {
	*server
	conns chan *client
}

// newFakeServer starts one; its connections wait in conns.
func newFakeServer(t testing.TB, k kind) *fakeServer {
	f := &fakeServer{conns: make(chan *client, 100)}
	f.server = serve(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := Upgrade(w, r, UpgradeOptions{})
		if err != nil {
			return // the client has gone meanwhile
		}
		f.conns <- &client{conn, t, ""}
	}))
	t.Cleanup(func() {
		for len(f.conns) > 0 {
			(<-f.conns).CloseNow()
		}
	})
	return f
}

// accept returns the next connection.
func (f *fakeServer) accept(t testing.TB) *client {
	t.Helper()
	c := within(t, f.conns, "a connection")
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// welcome accepts a connection and lets it in.
func (f *fakeServer) welcome(t testing.TB) *client {
	t.Helper()
	s := f.accept(t)
	s.send(engineHello)
	s.want("40")
	s.send(letIn)
	return s
}

// connected returns a client that is connected, and the server's end.
func (f *fakeServer) connected(t testing.TB, options ClientOptions) (*Client, *client) {
	t.Helper()
	c := f.client(t, options)
	result := connecting(c)
	s := f.welcome(t)
	if err := within(t, result, "Connect"); err != nil {
		t.Fatal(err)
	}
	return c, s
}

// connecting has Connect called.
func connecting(c *Client) <-chan error {
	result := make(chan error, 1)
	go func() { result <- c.Connect(context.Background()) }()
	return result
}

// settle waits until the client has read all that the server has sent.
func settleClient(s *client) {
	s.t.Helper()
	s.send("2settle")
	s.want("3settle")
}

// reasons are those that a client is disconnected for.
func reasons(c *Client) <-chan Reason {
	left := newChannel[Reason]()
	c.OnDisconnect(func(_ *Client, why Reason) { left <- why })
	return left
}
