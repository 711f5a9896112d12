package atrium

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
)

// Hub is the event hub: an http.Handler that clients connect to, and their meeting place. It is its own main
// Namespace, "/". Make one with New, mount it on a mux, and end it with Shutdown.
//
// All methods may be called from any goroutine.
type Hub struct {
	mainNamespace
	options  Options
	node     string         // the beginning of its sockets' ids
	sessions *sessionConfig // what its sessions share
	calls    atomic.Int64   // ids given to calls

	quota *quota

	mu      sync.Mutex          // guards:
	live    map[*session]string // whose they are, for the quota
	closing bool
	empty   chan struct{} // closed when closing and nobody is left
}

// mainNamespace is Namespace; embedded by this name, it leaves Hub free to have a method called Namespace.
type mainNamespace = Namespace

// New makes a Hub. It starts nothing: a hub without clients costs nothing but its memory.
func New(options Options) *Hub {
	h := &Hub{
		options: options.normalize(),
		node:    randomText(nodeIDLength),
		live:    make(map[*session]string),
		empty:   make(chan struct{}),
	}
	h.quota = newQuota(&h.options)
	h.sessions = h.options.sessionConfig()
	h.init(h, "/")
	return h
}

// ServeHTTP takes a client in. It answers what is no WebSocket handshake, and whom it refuses, with a status that
// fits and one sentence.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refused := h.takeIn(w, r); refused != nil {
		refused.answer(w)
	}
}

func (h *Hub) takeIn(w http.ResponseWriter, r *http.Request) *refusal {
	if refused := h.check(r); refused != nil {
		return refused
	}
	client, refused := h.quota.take(r)
	if refused != nil {
		return refused
	}
	added := false
	defer func() {
		if !added { // or Accept has panicked
			h.quota.giveBack(client)
		}
	}()
	base, refused := h.accept(r)
	if refused != nil {
		return refused
	}
	config := connConfig{
		subprotocol: chooseSubprotocol(r, []string{plainSubprotocol}),
		compression: h.sessions.compression,
		readLimit:   min(h.options.MaxMessageSize, maxBeforeConnect),
		maxQueued:   h.options.MaxQueued,
	}
	conn, err := switchProtocols(w, r, config)
	if err != nil {
		return nil // answered, or gone
	}
	s := h.newPlain(conn, newHandshake(r), base)
	if added = h.add(s.session, client); !added {
		go conn.Close(StatusGoingAway, string(ReasonShutdown))
		return nil
	}
	s.session.start()
	return nil
}

// newPlain makes the socket of a plain client, and its session.
func (h *Hub) newPlain(conn *Conn, handshake *Handshake, base context.Context) *Socket {
	codec := new(plainCodec)
	session := newSession(h.sessions, conn, codec)
	session.gone = func() { h.remove(session) }
	s := newSocket(&h.mainNamespace, handshake, base)
	s.sit(session, s.ns.name, s)
	codec.seat = &s.seat
	return s
}

// check judges a request by itself, before anybody is asked.
func (h *Hub) check(r *http.Request) *refusal {
	if h.isClosing() {
		return &refusal{http.StatusServiceUnavailable, "the server is shutting down", []string{"Retry-After", "1"}}
	}
	if r.URL.Query().Has("EIO") {
		return &refusal{status: http.StatusNotImplemented, message: "this server does not speak Engine.IO: connect with a plain WebSocket"}
	}
	if err := checkHandshake(r); err != nil {
		return err
	}
	if handshakeSize(r) > maxHandshake {
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's headers are over 64 KiB"}
	}
	return checkOrigin(r, h.options.AllowedOrigins)
}

// accept asks the application.
func (h *Hub) accept(r *http.Request) (context.Context, *refusal) {
	if h.options.Accept == nil {
		return context.Background(), nil
	}
	ctx, err := h.options.Accept(r)
	if err != nil {
		refused := &refusal{status: http.StatusForbidden, message: "the server refuses this client"}
		if e, ok := errors.AsType[*Error](err); ok {
			refused.message = e.Message
			if e.Status != 0 {
				refused.status = e.Status
			}
		}
		return nil, refused
	}
	if ctx == nil {
		return context.Background(), nil
	}
	return context.WithoutCancel(ctx), nil
}

// Shutdown ends the hub: new clients are refused with 503, each client gets what is queued for it and then a close
// frame with status 1001, and Shutdown waits until all handlers, OnDisconnect too, have returned. If ctx ends first
// it closes the connections that are left and returns an error. Call it before http.Server.Shutdown, which does
// not know of these connections. Calling it again waits again.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.closing {
		h.closing = true
		if len(h.live) == 0 {
			close(h.empty)
		}
	}
	h.mu.Unlock()
	for _, s := range h.list() {
		s.end(ReasonShutdown, StatusGoingAway, string(ReasonShutdown))
	}
	select {
	case <-h.empty:
	case <-ctx.Done():
	}
	left := h.list()
	if len(left) == 0 {
		return nil
	}
	for _, s := range left {
		_ = s.conn.CloseNow()
	}
	return fmt.Errorf("atrium: shutdown with %d clients left: %w", len(left), ctx.Err())
}

func (h *Hub) isClosing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closing
}

func (h *Hub) list() []*session {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*session, 0, len(h.live))
	for s := range h.live {
		list = append(list, s)
	}
	return list
}

// add makes a session a live one; not any more during a shutdown.
func (h *Hub) add(s *session, client string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return false
	}
	h.live[s] = client
	return true
}

// remove counts a session out of which nothing is left.
func (h *Hub) remove(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.quota.giveBack(h.live[s])
	delete(h.live, s)
	if h.closing && len(h.live) == 0 {
		close(h.empty)
	}
}
