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

// ready answers the health check of a load balancer.
type ready struct{ leaving atomic.Bool }

func (r *ready) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if r.leaving.Load() {
		http.Error(w, "leaving", http.StatusServiceUnavailable)
	}
}

// shutdown ends a node. It comes after SIGTERM: see signal.NotifyContext.
func shutdown(r *ready, h *atrium.Hub, srv *http.Server) error {
	r.leaving.Store(true)
	time.Sleep(5 * time.Second) // until the load balancer has looked, and sends nobody new

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(
		h.Shutdown(ctx),   // first: clients get what is queued for them, then are told to go
		srv.Shutdown(ctx), // knows of no WebSocket
	)
	// now close what handlers and the Bus use: database, Redis, NATS
}

// [end]
