package atrium

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
)

// ServeHTTP accepts WebSocket and Engine.IO clients. Other requests, and refused ones, get an HTTP error and a one-line
// reason, and the Logger an entry: see Options.Logger.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if query := r.URL.Query(); speaksEngine(query) {
		if refused := h.serveEngine(w, r, query); refused != nil {
			h.logRefusal(r, refused.entry)
			refused.answer(w)
		}
		return
	}
	if refused := h.servePlain(w, r); refused != nil {
		h.logRefusal(r, refused.entry)
		refused.answer(w)
	}
}

func (h *Hub) logRefusal(r *http.Request, e logEntry) {
	if e.message != "" {
		attrs := append(slices.Clip(e.attrs), clientText("path", r.URL.Path), slog.String("remote", r.RemoteAddr))
		h.log.log(e.level, e.message, attrs...)
	}
}

// servePlain begins the session of a client that sends one JSON object a message.
func (h *Hub) servePlain(w http.ResponseWriter, r *http.Request) *refusal {
	if refused := checkHandshake(r); refused != nil {
		return refused
	}
	return h.admit(r, func(base context.Context, client string) bool {
		conn := h.switchProtocols(w, r, h.plainSubprotocols)
		if conn == nil {
			return false
		}
		return h.begin(h.newPlain(conn, newHandshake(r, conn.Subprotocol()), base).session, client)
	})
}

// switchProtocols makes a WebSocket of the request's connection, with one of the subprotocols. It returns nil if it has
// refused the request, or its connection has failed.
func (h *Hub) switchProtocols(w http.ResponseWriter, r *http.Request, subprotocols []string) *Conn {
	config := h.connConfig()
	var offered int
	config.subprotocol, offered = chooseSubprotocol(r, subprotocols)
	if offered > 0 && config.subprotocol == "" {
		// The offers are not logged: one may be a token.
		h.logRefusal(r, warning("atrium: no offered subprotocol is known", slog.Int("offered", offered), slog.Any("known", subprotocols),
			hint("browsers close such a connection: list one of the client's in Options.Subprotocols")))
	}
	conn, err := switchProtocols(w, r, config)
	if refused, ok := errors.AsType[*refusal](err); ok {
		h.logRefusal(r, refused.entry)
	}
	return conn
}

func (h *Hub) connConfig() connConfig {
	return connConfig{
		compression:  h.sessions.compression,
		readLimit:    min(h.options.MaxMessageSize, maxBeforeConnect),
		maxQueued:    min(h.options.MaxQueued, maxQueuedBeforeConnect),
		closeTimeout: h.options.CloseTimeout,
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
			h.quota.giveBack(client, true)
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
		if conn := s.conn.Load(); conn != nil {
			go conn.Close(StatusGoingAway, string(ReasonShutdown))
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
	if !query.Has("sid") && r.Method != http.MethodGet {
		return errHandshakeMethod
	}
	if overWebSocket {
		if refused := checkHandshake(r); refused != nil {
			return badHandshake(refused)
		}
	}
	switch {
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
		conn := h.switchProtocols(w, r, h.options.Subprotocols)
		if conn == nil {
			return false
		}
		return h.begin(newSession(h, conn, newSocketIOCodec(r, base, conn.Subprotocol()), socketIOProtocol), client)
	})
	return forbidden(refused)
}

// openPolling begins the session of a client that comes by long-polling. What it polls first is its handshake.
func (h *Hub) openPolling(w http.ResponseWriter, r *http.Request) *engineError {
	var poll *polling
	entered := false
	refused := h.admit(r, func(base context.Context, client string) bool {
		poll = newPolling(h, newSocketIOCodec(r, base, ""))
		entered = h.begin(poll.session, client)
		return entered
	})
	switch {
	case refused != nil:
		return forbidden(refused)
	case !entered:
		return forbidden(shuttingDown())
	}
	return poll.get(w, r)
}

func newSocketIOCodec(r *http.Request, base context.Context, subprotocol string) *socketIOCodec {
	return &socketIOCodec{handshake: newHandshake(r, subprotocol), base: base, sid: randomText(socketIDLength)}
}

// serveSession serves a request of a session that has begun.
func (h *Hub) serveSession(w http.ResponseWriter, r *http.Request, sid string, overWebSocket bool) *engineError {
	poll := h.poll(sid)
	switch {
	case poll == nil:
		return errSessionUnknown
	case overWebSocket:
		if conn := h.switchProtocols(w, r, h.options.Subprotocols); conn != nil {
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
	session := newSession(h, conn, codec, plainProtocol)
	codec.socket = newSocket(h.hold("/"), session, handshake, base)
	session.add(codec.socket)
	return codec.socket
}

// check judges a request by itself, before anybody is asked.
func (h *Hub) check(r *http.Request) *refusal {
	if h.isClosing() {
		return shuttingDown()
	}
	if size := handshakeSize(r); size > maxHandshake {
		return &refusal{
			status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's headers are over 64 KiB",
			entry: warning("atrium: refused a request with large headers", slog.Int("bytes", size), slog.Int("limit", maxHandshake)),
		}
	}
	return checkOrigin(r, h.origins)
}

func shuttingDown() *refusal {
	return &refusal{
		status: http.StatusServiceUnavailable, message: "the server is shutting down", header: retryIn("1"),
		entry: logEntry{level: slog.LevelDebug, message: "atrium: refused a client during Shutdown"},
	}
}

// accept asks the application.
func (h *Hub) accept(r *http.Request) (context.Context, *refusal) {
	if h.options.Accept == nil {
		return context.Background(), nil
	}
	ctx, err := h.options.Accept(r)
	if err = errorOf(err); err != nil {
		return nil, notAccepted(err)
	}
	if ctx == nil {
		return context.Background(), nil
	}
	return context.WithoutCancel(ctx), nil
}

// notAccepted is the refusal for an error of Accept. An error that the client is not told is logged at a higher level.
func notAccepted(err error) *refusal {
	refused := &refusal{
		status: http.StatusForbidden, message: "the server refuses this client",
		entry: logEntry{slog.LevelInfo, "atrium: Options.Accept failed", []any{slog.Any("error", err)}},
	}
	if e, ok := asError(err); ok {
		refused.message = e.Message
		refused.entry.level, refused.entry.message = slog.LevelDebug, "atrium: Options.Accept refused a client"
		if e.Status != 0 {
			refused.status = e.Status
		}
	}
	if refused.status == http.StatusTooManyRequests || refused.status == http.StatusServiceUnavailable {
		refused.header = retryIn("10")
	}
	refused.entry.attrs = append(refused.entry.attrs, slog.Int("status", refused.status))
	return refused
}
