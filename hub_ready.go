package atrium

import (
	"fmt"
	"time"
)

// Ready returns nil if the hub works in full. Otherwise its error matches ErrClosed once Shutdown
// was called, or ErrBus while the Bus fails or does not bring the node what it sends itself, and
// says what the Bus returned and since when. Ready does not wait, and is meant for a load balancer
// that asks whether to send more clients.
//
// A hub whose Bus fails still serves its clients, and accepts new ones; they are separated from
// those of the other nodes. If all nodes are in the same place it may be better to stay in than to
// have no node that is ready.
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
