package atrium

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
)

// admitted is a client that may connect. Its connection counts in the quota until release or, if a
// session has begun, until that is closed.
type admitted struct {
	hub    *Hub
	client string          // the key in the quota
	base   context.Context // of the client's sockets
	begun  bool            // a session has
}

// admit decides whether a new client may connect.
func (h *Hub) admit(r *http.Request) (a admitted, refused *refusal) {
	if refused := h.check(r); refused != nil {
		return a, refused
	}
	a.hub, a.client = h, h.quota.client(r)
	h.mu.Lock()
	refused = h.quota.acquire(a.client)
	h.mu.Unlock()
	if refused != nil {
		return a, refused
	}
	defer func() {
		if a.base == nil { // Accept has refused the client, or panicked
			a.release()
		}
	}()
	a.base, refused = h.accept(r)
	return a, refused
}

// begin starts the session. It reports false if the hub is shutting down.
func (a *admitted) begin(s *session) bool {
	a.begun = a.hub.add(s, a.client)
	if a.begun {
		s.start()
	} else if conn := s.conn.Load(); conn != nil {
		a.hub.sessions.counters.refused[refusedShuttingDown].Add(1)
		go conn.Close(StatusServiceRestart, string(ReasonShutdown))
	}
	return a.begun
}

// release gives the connection's place in the quota back, unless a session has begun.
func (a *admitted) release() {
	if !a.begun {
		a.hub.mu.Lock()
		defer a.hub.mu.Unlock()
		a.hub.quota.release(a.client, true)
	}
}

// check checks a request by itself, before the application is asked.
func (h *Hub) check(r *http.Request) *refusal {
	if h.isClosing() {
		return errShuttingDown
	}
	if size := handshakeSize(r); size > maxHandshake {
		return &refusal{
			kind: refusedMalformed, status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's headers are over 64 KiB",
			entry: warning("atrium: refused a request with large headers", slog.Int("bytes", size), slog.Int("limit", maxHandshake)),
		}
	}
	return checkOrigin(r, h.origins)
}

var errShuttingDown = &refusal{
	kind: refusedShuttingDown, status: http.StatusServiceUnavailable, message: "the server is shutting down", header: append(retryIn("1"), "Connection", "close"),
	entry: logEntry{level: slog.LevelDebug, message: "atrium: refused a client during Shutdown"},
}

// elsewhere sends a client to the same address by another connection. It has come by one that it
// had kept: new ones are made to the next process.
func elsewhere(r *http.Request) *refusal {
	return &refusal{
		kind: refusedShuttingDown, status: http.StatusTemporaryRedirect, message: errShuttingDown.message,
		header: []string{"Location", "?" + r.URL.RawQuery, "Connection", "close"}, entry: errShuttingDown.entry,
	}
}

// accept calls Options.Accept. It returns the base of the contexts of the client's sockets.
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

// notAccepted returns the refusal for an error of Accept. An error that the client is not told is
// logged at a higher level.
func notAccepted(err error) *refusal {
	refused := &refusal{
		kind: refusedAccept, status: http.StatusForbidden, message: "the server refuses this client",
		entry: logEntry{slog.LevelError, "atrium: Options.Accept failed", loggedFailure(err)},
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

// quota bounds the connections of a hub, in all and for each client. A connection counts from its
// admission until it is closed, even if handlers still run for it then. Hub.mu guards the counts.
type quota struct {
	limits *Limits
	key    func(*http.Request) string

	total    int
	pending  int            // those that are not accepted yet
	byClient map[string]int // nil if there is no bound
}

func newQuota(o *Options) quota {
	q := quota{limits: &o.Limits, key: o.ClientKey}
	if o.Limits.ConnectionsPerClient < noBound {
		q.byClient = make(map[string]int)
	}
	if q.key == nil {
		q.key = remoteClient
	}
	return q
}

// remoteClient returns the key of the address that the request came from.
func remoteClient(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // of a network of the application's own
	}
	return addressKey(from.Addr())
}

// addressKey returns a client's address: of IPv6, the part that the client cannot choose.
func addressKey(ip netip.Addr) string {
	if ip = ip.Unmap(); ip.Is6() {
		site, _ := ip.WithZone("").Prefix(64)
		ip = site.Addr()
	}
	return ip.String()
}

// client returns the key that tells the request's client from others.
func (q *quota) client(r *http.Request) string {
	if q.byClient == nil {
		return ""
	}
	return q.key(r)
}

// acquire counts a connection of the client, unless there are too many.
func (q *quota) acquire(client string) *refusal {
	switch {
	case q.total >= q.limits.Connections:
		return &refusal{
			kind: refusedFull, status: http.StatusServiceUnavailable, message: "the server has as many connections as it may have", header: retryIn("10"),
			entry: warning("atrium: refused a client over Limits.Connections", slog.Int("limit", q.limits.Connections)),
		}
	case q.byClient[client] >= q.limits.ConnectionsPerClient:
		return &refusal{
			kind: refusedPerClient, status: http.StatusTooManyRequests, message: "this client has as many connections as it may have", header: retryIn("10"),
			entry: warning("atrium: refused a client over Limits.ConnectionsPerClient", slog.Int("limit", q.limits.ConnectionsPerClient),
				clientText("client", client), hint("behind a proxy all clients have its address, unless Options.ClientKey tells them apart, as ForwardedClient does")),
		}
	case q.pending >= q.limits.Pending:
		return &refusal{
			kind: refusedFull, status: http.StatusServiceUnavailable, message: "the server is letting in as many clients as it may at a time", header: retryIn("5"),
			entry: warning("atrium: refused a client over Limits.Pending", slog.Int("limit", q.limits.Pending)),
		}
	}
	q.total++
	q.pending++
	if q.byClient != nil {
		q.byClient[client]++
	}
	return nil
}

// release gives a connection's place back. pending says that the client was never accepted.
func (q *quota) release(client string, pending bool) {
	q.total--
	if pending {
		q.pending--
	}
	if q.byClient == nil {
		return
	}
	if q.byClient[client]--; q.byClient[client] == 0 {
		delete(q.byClient, client)
	}
}
