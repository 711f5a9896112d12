// Package atriumtest is a server on a network in memory, for tests of what is built with package atrium. It is
// httptest's Server where there must be no ports, and where time is that of testing/synctest: net.Pipe, unlike TCP, lets
// a bubble's clock go on while everybody waits, so that a test of a heartbeat or of a token that expires takes no time.
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

// Server is an http.Server that is reached by its DialContext only.
type Server struct {
	// URL is http://localhost. Any other host does as well: DialContext looks at no address. This one is never looked up
	// in the environment's proxies.
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

// DialContext connects to the server, whatever the network and the address. It is for DialOptions.DialContext, and for
// http.Transport.
func (s *Server) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return s.listener.DialContext(ctx, network, addr)
}

// Client returns a client for HTTP requests to the server.
func (s *Server) Client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: s.listener.DialContext}}
}

// Close ends the server and all connections to it, those included that have become WebSockets, so that a hub's
// sockets are disconnected. It does not wait for handlers; Hub.Shutdown does.
func (s *Server) Close() {
	_ = s.Config.Close() // the listener's, which has none
	<-s.served
	s.listener.hangUp()
}

// Listener is a net.Listener whose connections are pipes in memory, and the way to open one. A pipe has no buffer: what
// one end writes waits until the other reads.
type Listener struct {
	arriving chan net.Conn
	closed   chan struct{}
	close    sync.Once

	mu   sync.Mutex // guards:
	open map[*conn]struct{}
}

// Listen makes a Listener.
func Listen() *Listener {
	return &Listener{arriving: make(chan net.Conn), closed: make(chan struct{}), open: make(map[*conn]struct{})}
}

// DialContext opens a connection, whatever the network and the address, and waits until it is accepted. Its error is
// ctx's, or net.ErrClosed.
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

// Close lets nobody in any more. Connections that were accepted stay.
func (l *Listener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return addr{} }

// hangUp closes the connections that were accepted.
func (l *Listener) hangUp() {
	l.mu.Lock()
	open := l.open
	l.open = make(map[*conn]struct{})
	l.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close() // a pipe's never fails
	}
}

// conn is the server's end of a connection.
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
