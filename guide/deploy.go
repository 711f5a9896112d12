package guide

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
)

// [deploy]

// health answers a load balancer's question whether to send clients here.
type health struct {
	hub     *atrium.Hub
	leaving atomic.Bool
}

func (p *health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if p.leaving.Load() {
		http.Error(w, "leaving", http.StatusServiceUnavailable)
	} else if err := p.hub.Ready(); err != nil { // the Bus fails, for example
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// serve serves until ctx ends, which SIGTERM does: see signal.NotifyContext.
func serve(ctx context.Context, p *health, srv *http.Server, l net.Listener) error {
	left, leave := context.WithCancel(context.Background())
	defer leave()
	context.AfterFunc(ctx, func() {
		p.leaving.Store(true)
		time.AfterFunc(5*time.Second, leave) // until the load balancer has asked
	})
	return p.hub.Serve(left, srv, l)
	// now close what handlers and the Bus use: database, Redis, NATS
}

// [end]
