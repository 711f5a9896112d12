package bustest_test

import (
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
