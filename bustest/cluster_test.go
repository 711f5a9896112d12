package bustest_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
)

// Three hubs deliver what one would.
func TestCluster(t *testing.T) {
	bus := new(atrium.MemoryBus)
	bustest.RunCluster(t, 3000, 300, func(testing.TB) atrium.Bus { return bus })
}

func TestLastWords(t *testing.T) {
	bus := new(atrium.MemoryBus)
	bustest.LastWords(t, func(testing.TB) atrium.Bus { return bus })
}

func TestPresence(t *testing.T) {
	bus := &tornBus{}
	bustest.Presence(t, func(testing.TB) atrium.Bus { return bus }, func() { bus.torn.Store(true) }, func() { bus.torn.Store(false) })
}

// tornBus is a MemoryBus that brings nothing while it is torn.
type tornBus struct {
	atrium.MemoryBus
	torn atomic.Bool
}

// Publish loses the message without an error while the bus is torn.
func (b *tornBus) Publish(ctx context.Context, topic string, msg []byte) error {
	if b.torn.Load() {
		return nil
	}
	return b.MemoryBus.Publish(ctx, topic, msg)
}
