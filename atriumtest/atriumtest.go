// Package atriumtest has a server on a network in memory, for tests of programs that use package
// atrium. It is like httptest.Server, but without ports, and works in a bubble of testing/synctest:
// unlike TCP, net.Pipe lets the clock of a bubble advance while all goroutines wait, so that a test
// of a heartbeat or an expiring token takes no time.
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := atriumtest.NewServer(newHub())
//		defer srv.Close()
//		c := atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{DialContext: srv.DialContext}})
//		defer c.Close()
//		…
//	})
package atriumtest

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Server is an http.Server that can be reached only by its DialContext.
type Server struct {
	// URL is http://localhost. Any other host works, too: DialContext ignores the address. For this
	// one no proxy of the environment is used.
	URL string
	// Config is the server. Its Handler may be replaced until the first request.
	Config *http.Server

	listener *Listener
	served   chan struct{} // closed when Serve has returned
}

// NewServer starts a server. Close ends it.
func NewServer(handler http.Handler) *Server {
	s := &Server{
		URL:      "http://localhost",
		Config:   &http.Server{Handler: handler},
		listener: Listen(),
		served:   make(chan struct{}),
	}
	go func() {
		defer close(s.served)
		_ = s.Config.Serve(s.listener) // returns http.ErrServerClosed after Close
	}()
	return s
}

// DialContext connects to the server. It ignores network and addr. It is for
// DialOptions.DialContext and http.Transport.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.listener.DialContext(ctx, network, addr)
}

// Client returns a client for HTTP requests to the server.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: s.listener.DialContext}}
}

// Close ends the server and closes all connections to it, WebSockets included, so that a hub's
// sockets are disconnected. It does not wait for handlers; Hub.Shutdown does.
func (s *Server) Close() {
	_ = s.Config.Close() // the error of Listener.Close, which is nil
	<-s.served
	s.listener.hangUp()
}

// Listener is a net.Listener whose connections are pipes in memory, opened by its DialContext. A
// pipe has no buffer: a write waits until the other end reads.
type Listener struct {
	arriving chan net.Conn
	closed   chan struct{}
	close    sync.Once

	mu   sync.Mutex // guards:
	open map[*conn]struct{}
}

// Listen returns a new Listener.
func Listen() *Listener {
	return &Listener{arriving: make(chan net.Conn), closed: make(chan struct{}), open: make(map[*conn]struct{})}
}

// DialContext opens a connection and waits until it is accepted. It ignores network and addr. Its
// error is ctx.Err() or net.ErrClosed.
func (l *Listener) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.arriving <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case far := <-l.arriving:
		c := &conn{Conn: far, listener: l}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open[c] = struct{}{}
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close stops accepting connections. Accepted ones stay open.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

// hangUp closes the accepted connections.
func (l *Listener) hangUp() {
	l.mu.Lock()
	open := l.open
	l.open = make(map[*conn]struct{})
	l.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // never fails for a pipe
	}
}

// conn is the server's end of a connection. It removes itself from its listener when closed.
type conn struct {
	net.Conn
	listener *Listener
}

func (c *conn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.open, c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

type addr struct{}

func (addr) Network() string { return "pipe" }
func (addr) String() string  { return "localhost:80" }
