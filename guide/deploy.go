package guide

import (
	"context"
	"errors"
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

// shutdown ends a node. It comes after SIGTERM: see signal.NotifyContext.
func shutdown(p *health, srv *http.Server) error {
	p.leaving.Store(true)
	time.Sleep(5 * time.Second) // until the load balancer has asked

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(
		p.hub.Shutdown(ctx), // first: clients get what is queued for them, then are told to go
		srv.Shutdown(ctx),   // knows of no WebSocket
	)
	// now close what handlers and the Bus use: database, Redis, NATS
}

// [end]
