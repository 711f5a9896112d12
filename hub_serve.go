package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// ServeHTTP accepts WebSocket and Engine.IO clients. Other requests, and refused ones, get an HTTP
// error and a one-line reason, and the Logger an entry: see Options.Logger.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if query := r.URL.Query(); speaksEngine(query) {
		if refused := h.serveEngine(w, r, query); refused != nil {
			h.noteRefusal(r, refused)
			refused.writeEngine(w)
		}
		return
	}
	if refused := h.servePlain(w, r); refused != nil {
		h.noteRefusal(r, refused)
		refused.writePlain(w)
	}
}

// noteRefusal counts and logs a refusal.
func (h *Hub) noteRefusal(r *http.Request, refused *refusal) {
	h.sessions.counters.refused[refused.kind].Add(1)
	h.logRefusal(r, refused.entry)
}

func (h *Hub) logRefusal(r *http.Request, e logEntry) {
	if e.message != "" {
		h.log.lately.add(e.message, r.RemoteAddr, e.attrs...)
		attrs := append(slices.Clip(e.attrs), clientText("path", r.URL.Path), clientText("remote", r.RemoteAddr))
		h.log.log(e.level, e.message, attrs...)
	}
}

// servePlain serves the handshake of a plain client and begins its session.
func (h *Hub) servePlain(w http.ResponseWriter, r *http.Request) *refusal {
	if refused := checkHandshake(r); refused != nil {
		return refused
	}
	a, refused := h.admit(r)
	if refused != nil {
		return refused
	}
	defer a.release()
	h.switchProtocols(w, r, append([]string{plainSubprotocol}, h.options.Subprotocols...), func(conn *Conn) {
		a.begin(h.newPlain(conn, newHandshake(r, conn.Subprotocol()), a.base).session)
	})
	return nil
}

// newPlain makes the socket of a plain client, and its session.
func (h *Hub) newPlain(conn *Conn, handshake *Handshake, base context.Context) *Socket {
	codec := new(plainCodec)
	session := newSession(h, conn, codec)
	codec.socket = newSocket(h.retain("/"), session, handshake, base)
	session.add(codec.socket)
	return codec.socket
}

// switchProtocols makes a WebSocket of the request's connection, with one of the subprotocols, and
// calls begin with it unless it has refused the request: see switchProtocols.
func (h *Hub) switchProtocols(w http.ResponseWriter, r *http.Request, subprotocols []string, begin func(*Conn)) {
	subprotocol, offered := chooseSubprotocol(r, subprotocols)
	if offered > 0 && subprotocol == "" {
		// The offers are not logged: one may be a token.
		h.logRefusal(r, warning("atrium: no offered subprotocol is known", slog.Int("offered", offered), slog.Any("known", subprotocols),
			hint("browsers close such a connection: list one of the client's in Options.Subprotocols")))
	}
	_, err := switchProtocols(w, r, connConfig{
		subprotocol:  subprotocol,
		compression:  h.sessions.compression,
		readLimit:    min(h.options.Limits.MessageBytes, maxBeforeConnect),
		maxQueued:    min(h.options.Limits.QueuedBytes, maxQueuedBeforeConnect),
		closeTimeout: h.options.Timeouts.Close,
	}, begin)
	if refused, ok := errors.AsType[*refusal](err); ok {
		h.noteRefusal(r, refused)
	}
}

// speaksEngine reports whether a request is a Socket.IO client's, even if it does not say which
// version it speaks.
func speaksEngine(query url.Values) bool {
	transport := query.Get("transport")
	return query.Has("EIO") || transport == "polling" || transport == "websocket"
}

// serveEngine serves a request of a Socket.IO client.
func (h *Hub) serveEngine(w http.ResponseWriter, r *http.Request, query url.Values) *refusal {
	if refused := checkOrigin(r, h.origins); refused != nil {
		return refused
	}
	allowOrigin(w, r, h.origins)
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		respondPreflight(w, r)
		return nil
	}
	overWebSocket := query.Get("transport") == "websocket"
	switch {
	case !overWebSocket && query.Get("transport") != "polling":
		return errTransportUnknown
	case query.Get("EIO") != "4":
		return unknownVersion(query.Get("EIO"))
	case !query.Has("sid") && r.Method != http.MethodGet:
		return errHandshakeMethod
	}
	if overWebSocket {
		if refused := checkHandshake(r); refused != nil {
			e := *errBadRequest
			e.kind, e.entry = refused.kind, refused.entry
			return &e
		}
	}
	if query.Has("sid") {
		return h.servePolled(w, r, query.Get("sid"), overWebSocket)
	}
	return h.openSession(w, r, overWebSocket)
}

// openSession begins the session of a Socket.IO client, over a WebSocket or by long-polling: then
// the response to its request is the handshake.
func (h *Hub) openSession(w http.ResponseWriter, r *http.Request, overWebSocket bool) *refusal {
	a, refused := h.admit(r)
	if refused != nil {
		if refused == errShuttingDown && !overWebSocket && h.hasLeft() {
			return elsewhere(r)
		}
		return refused
	}
	defer a.release()
	if overWebSocket {
		h.switchProtocols(w, r, h.options.Subprotocols, func(conn *Conn) {
			a.begin(newSession(h, conn, newSocketIOCodec(r, a.base, conn.Subprotocol())))
		})
		return nil
	}
	poll := newPolling(h, newSocketIOCodec(r, a.base, ""))
	if !a.begin(poll.session) {
		return errShuttingDown
	}
	return poll.get(w, r)
}

// servePolled is serveSession for clients that move from one process to the next as well. Their
// requests may come to either, by a connection that was kept or by a new one: a GET to the process
// without their session gets the close packet, after which they come back.
//
// What a POST brings there is lost, as what crosses the close packet is. It is answered when no
// predecessor can have the session any more: if the session went on, it would with a gap.
func (h *Hub) servePolled(w http.ResponseWriter, r *http.Request, sid string, overWebSocket bool) *refusal {
	refused := h.serveSession(w, r, sid, overWebSocket)
	closing := h.isClosing()
	if refused != errSessionUnknown || overWebSocket || !closing && !h.succeeds() {
		return refused
	}
	if closing {
		w.Header().Set("Connection", "close")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.options.Timeouts.Connect + pollWriteTimeout))
	switch {
	case r.Method == http.MethodGet:
		writeClose(w)
	case h.predecessorEnds(r.Context()):
		writeOK(w)
	default:
		return refused
	}
	return nil
}

// serveSession serves a request of a session that has begun.
func (h *Hub) serveSession(w http.ResponseWriter, r *http.Request, sid string, overWebSocket bool) *refusal {
	poll := h.poll(sid)
	switch {
	case poll == nil:
		return errSessionUnknown
	case overWebSocket:
		h.switchProtocols(w, r, h.options.Subprotocols, func(conn *Conn) { go poll.tryUpgrade(conn) })
		return nil
	case r.Method == http.MethodGet:
		return poll.get(w, r)
	case r.Method == http.MethodPost:
		return poll.post(w, r)
	}
	return errBadRequest
}

var (
	errTransportUnknown = badEngine("0", "Transport unknown")
	errSessionUnknown   = &refusal{kind: refusedUnknown, code: "1", status: http.StatusBadRequest, message: "Session ID unknown", entry: logEntry{
		slog.LevelWarn, "atrium: refused a request of an unknown session",
		[]any{hint("its session has ended, or is another server's: without sticky sessions Socket.IO clients cannot poll")},
	}}
	errHandshakeMethod = badEngine("2", "Bad handshake method")
	errBadRequest      = badEngine("3", "Bad request")
)

// badEngine refuses a request that breaks Engine.IO's protocol.
func badEngine(code json.Number, message string) *refusal {
	return &refusal{
		kind: refusedMalformed, code: code, status: http.StatusBadRequest, message: message,
		entry: warning("atrium: refused a malformed Engine.IO request", slog.String("problem", message)),
	}
}

// unknownVersion refuses a version of Engine.IO.
func unknownVersion(version string) *refusal {
	return &refusal{
		kind: refusedMalformed, code: "5", status: http.StatusBadRequest, message: "Unsupported protocol version",
		entry: warning("atrium: refused a version of Engine.IO", clientText("version", version),
			hint("expected EIO=4, which Socket.IO clients of version 3 and later send; EIO=3 is version 2's")),
	}
}

// allowOrigin tells the browser that a page of another origin, which checkOrigin has let pass, may
// read the response; with its cookies, if the origin is listed by name.
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

// respondPreflight tells a browser what a page of another origin may send.
func respondPreflight(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Methods", "GET, POST")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		header.Set("Access-Control-Allow-Headers", asked)
	}
	header.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
