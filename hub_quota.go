package atrium

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
)

// quota bounds the connections of a hub, in all and for each client. One counts from when it is let in until it is
// closed: handlers that still run for one do not count.
type quota struct {
	most, mostPerClient, mostPending int
	key                              func(*http.Request) string

	mu       sync.Mutex // guards:
	total    int
	pending  int            // those that are not accepted yet
	byClient map[string]int // nil if there is no bound
}

func newQuota(o *Options) *quota {
	q := &quota{
		most: o.MaxConnections, mostPerClient: o.MaxConnectionsPerClient, mostPending: o.MaxPending, key: o.ClientKey,
	}
	if q.mostPerClient < noBound {
		q.byClient = make(map[string]int)
	}
	if q.key == nil {
		q.key = remoteClient
	}
	return q
}

// remoteClient tells clients apart by their address: of IPv6, by the part that is not for the client to choose.
func remoteClient(r *http.Request) string {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr // of a network of the application's own
	}
	ip := from.Addr().Unmap()
	if ip.Is6() {
		site, _ := ip.WithZone("").Prefix(64)
		ip = site.Addr()
	}
	return ip.String()
}

// take counts a connection in, unless there are too many. The client that it returns is to be given back.
func (q *quota) take(r *http.Request) (client string, refused *refusal) {
	if q.byClient != nil {
		client = q.key(r)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.total >= q.most:
		return "", &refusal{
			status: http.StatusServiceUnavailable, message: "the server has as many connections as it may have", header: retryIn("10"),
			entry: warning("atrium: refused a client over Options.MaxConnections", slog.Int("limit", q.most)),
		}
	case q.byClient[client] >= q.mostPerClient:
		return "", &refusal{
			status: http.StatusTooManyRequests, message: "this client has as many connections as it may have", header: retryIn("10"),
			entry: warning("atrium: refused a client over Options.MaxConnectionsPerClient", slog.Int("limit", q.mostPerClient),
				clientText("client", client), hint("behind a proxy all clients have its address, unless Options.ClientKey tells them apart")),
		}
	case q.pending >= q.mostPending:
		return "", &refusal{
			status: http.StatusServiceUnavailable, message: "the server is letting in as many clients as it may at a time", header: retryIn("5"),
			entry: warning("atrium: refused a client over Options.MaxPending", slog.Int("limit", q.mostPending)),
		}
	}
	q.total++
	q.pending++
	if q.byClient != nil {
		q.byClient[client]++
	}
	return client, nil
}

// accepted notes that a connection was accepted.
func (q *quota) accepted() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending--
}

// giveBack counts a connection of the client out. pending says that it was never accepted.
func (q *quota) giveBack(client string, pending bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
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
