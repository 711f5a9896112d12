package atrium

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

// ServeHTTP takes a client in. It answers what is no WebSocket handshake, and whom it refuses, with a status that
// fits and one sentence.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refused := h.takeIn(w, r); refused != nil {
		refused.answer(w)
	}
}

func (h *Hub) takeIn(w http.ResponseWriter, r *http.Request) *refusal {
	if query := r.URL.Query(); speaksEngine(query) {
		if err := h.serveEngine(w, r, query); err != nil {
			err.answer(w)
		}
		return nil
	}
	if refused := checkHandshake(r); refused != nil {
		return refused
	}
	return h.admit(r, func(base context.Context, client string) bool {
		config := h.connConfig()
		config.subprotocol = chooseSubprotocol(r, []string{plainSubprotocol})
		conn, err := switchProtocols(w, r, config)
		if err != nil {
			return false // answered, or gone
		}
		return h.begin(h.newPlain(conn, newHandshake(r), base).session, client)
	})
}

func (h *Hub) connConfig() connConfig {
	return connConfig{
		compression: h.sessions.compression,
		readLimit:   min(h.options.MaxMessageSize, maxBeforeConnect),
		maxQueued:   h.options.MaxQueued,
	}
}

// admit decides whether a new client may come in, and lets it: enter reports whether it did.
func (h *Hub) admit(r *http.Request, enter func(base context.Context, client string) bool) *refusal {
	if refused := h.check(r); refused != nil {
		return refused
	}
	client, refused := h.quota.take(r)
	if refused != nil {
		return refused
	}
	entered := false
	defer func() {
		if !entered { // or Accept has panicked
			h.quota.giveBack(client)
		}
	}()
	base, refused := h.accept(r)
	if refused == nil {
		entered = enter(base, client)
	}
	return refused
}

// begin starts a session, unless the hub is shutting down.
func (h *Hub) begin(s *session, client string) bool {
	if !h.add(s, client) {
		if s.conn != nil {
			go s.conn.Close(StatusGoingAway, string(ReasonShutdown))
		}
		return false
	}
	s.start()
	return true
}

// speaksEngine reports whether a request is a Socket.IO client's, even if it does not say which version it speaks.
func speaksEngine(query url.Values) bool {
	transport := query.Get("transport")
	return query.Has("EIO") || transport == "polling" || transport == "websocket"
}

// serveEngine serves a request of a Socket.IO client.
func (h *Hub) serveEngine(w http.ResponseWriter, r *http.Request, query url.Values) *engineError {
	if refused := checkOrigin(r, h.origins); refused != nil {
		return forbidden(refused)
	}
	allowOrigin(w, r, h.origins)
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		answerPreflight(w, r)
		return nil
	}
	if err := checkEngine(query); err != nil {
		return err
	}
	overWebSocket := query.Get("transport") == "websocket"
	switch {
	case !query.Has("sid") && r.Method != http.MethodGet:
		return errHandshakeMethod
	case overWebSocket && checkHandshake(r) != nil:
		return errBadRequest
	case query.Has("sid"):
		return h.serveSession(w, r, query.Get("sid"), overWebSocket)
	case overWebSocket:
		return h.openWebSocket(w, r)
	}
	return h.openPolling(w, r)
}

// openWebSocket begins the session of a client that comes over a WebSocket.
func (h *Hub) openWebSocket(w http.ResponseWriter, r *http.Request) *engineError {
	refused := h.admit(r, func(base context.Context, client string) bool {
		conn, err := switchProtocols(w, r, h.connConfig())
		if err != nil {
			return false // answered, or gone
		}
		s := newSession(h.sessions, conn, h.newCodec(r, base), socketIOProtocol)
		s.gone = func() { h.remove(s) }
		return h.begin(s, client)
	})
	return forbidden(refused)
}

// openPolling begins the session of a client that comes by long-polling. What it polls first is its handshake.
func (h *Hub) openPolling(w http.ResponseWriter, r *http.Request) *engineError {
	var poll *polling
	refused := h.admit(r, func(base context.Context, client string) bool {
		codec := h.newCodec(r, base)
		opened := newPolling(h.sessions, codec, h.options.MaxQueued)
		opened.session.gone = func() {
			h.forget(codec.sid)
			h.remove(opened.session)
		}
		h.remember(codec.sid, opened)
		if !h.begin(opened.session, client) {
			h.forget(codec.sid)
			return false
		}
		poll = opened
		return true
	})
	switch {
	case refused != nil:
		return forbidden(refused)
	case poll == nil:
		return forbidden(shuttingDown())
	}
	return poll.get(w, r)
}

func (h *Hub) newCodec(r *http.Request, base context.Context) *socketIOCodec {
	return &socketIOCodec{host: &arrival{h, newHandshake(r), base}, sid: randomText(socketIDLength)}
}

// serveSession serves a request of a session that has begun.
func (h *Hub) serveSession(w http.ResponseWriter, r *http.Request, sid string, overWebSocket bool) *engineError {
	poll := h.recall(sid)
	switch {
	case poll == nil:
		return errSessionUnknown
	case overWebSocket:
		if conn, err := switchProtocols(w, r, h.connConfig()); err == nil {
			go poll.tryUpgrade(conn)
		}
		return nil
	case r.Method == http.MethodGet:
		return poll.get(w, r)
	case r.Method == http.MethodPost:
		return poll.post(w, r)
	}
	return errBadRequest
}

func (h *Hub) remember(sid string, t *polling) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.polls[sid] = t
}

func (h *Hub) recall(sid string) *polling {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.polls[sid]
}

func (h *Hub) forget(sid string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.polls, sid)
}

// allowOrigin tells the browser that a page of another origin, which checkOrigin has let pass, may read the response;
// with its cookies, if the origin is listed by name.
func allowOrigin(w http.ResponseWriter, r *http.Request, allowed originList) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	header := w.Header()
	header.Add("Vary", "Origin")
	if allowed.any {
		header.Set("Access-Control-Allow-Origin", "*")
		return
	}
	header.Set("Access-Control-Allow-Origin", origin)
	header.Set("Access-Control-Allow-Credentials", "true")
}

// answerPreflight answers the question of a browser what a page of another origin may send.
func answerPreflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "GET, POST")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		header.Set("Access-Control-Allow-Headers", asked)
	}
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

// newPlain makes the socket of a plain client, and its session.
func (h *Hub) newPlain(conn *Conn, handshake *Handshake, base context.Context) *Socket {
	codec := new(plainCodec)
	session := newSession(h.sessions, conn, codec, plainProtocol)
	session.gone = func() { h.remove(session) }
	s := newSocket(h.hold("/"), handshake, base)
	s.sit(session, s.ns.name, s)
	codec.seat = &s.seat
	return s
}

// check judges a request by itself, before anybody is asked.
func (h *Hub) check(r *http.Request) *refusal {
	if h.isClosing() {
		return shuttingDown()
	}
	if handshakeSize(r) > maxHandshake {
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's headers are over 64 KiB"}
	}
	return checkOrigin(r, h.origins)
}

func shuttingDown() *refusal {
	return &refusal{http.StatusServiceUnavailable, "the server is shutting down", []string{"Retry-After", "1"}}
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

// arrival is a Socket.IO client as its hub knows it. It implements host.
type arrival struct {
	hub       *Hub
	handshake *Handshake
	base      context.Context
}

func (a *arrival) seat(s *session, namespace string) (*seat, *Error) {
	if s.crowded() {
		return nil, Errorf("namespace: expected at most %d for one client", maxSeats)
	}
	n := a.hub.enterable(namespace)
	if n == nil {
		return nil, &Error{Message: "Invalid namespace"}
	}
	handshake := *a.handshake // each has its own auth value
	socket := newSocket(n, &handshake, a.base)
	if !socket.sit(s, namespace, socket) {
		a.hub.release(n)
		return nil, nil
	}
	return &socket.seat, nil
}
