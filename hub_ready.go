package atrium

import (
	"fmt"
	"time"
)

// Ready returns nil if the hub can do all that it is there for, and otherwise why it cannot: an error that matches
// ErrClosed once Shutdown was called, or ErrBus while the Bus fails or the node does not hear itself over it, with what the
// Bus says and since when. It does not wait, and is meant for a load balancer's question whether to send more clients.
//
// A hub whose Bus fails still serves the clients that it has, and takes new ones; they are apart from those of the other
// nodes. If all nodes are in the same place it may be better to stay in than to have no node that is ready.
func (h *Hub) Ready() error {
	if h.isClosing() {
		return fmt.Errorf("atrium: shutting down: %w", ErrClosed)
	}
	if h.cluster == nil {
		return nil
	}
	if since, err := h.cluster.busError(); err != nil {
		return fmt.Errorf("since %s: %w", since.Format(time.RFC3339), err)
	}
	return nil
}
