package natsbus_test

import (
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
)

// Three hubs over NATS are as one.
func TestHubs(t *testing.T) {
	s := start(t, server.Options{})
	bustest.RunCluster(t, 3000, 300, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) })
	deserted(t, s)
}

// Each hub is on another server here.
func TestHubsOnCluster(t *testing.T) {
	servers := startCluster(t)
	bustest.RunCluster(t, 300, 30, joinCluster(t, servers))
	deserted(t, servers...)
}

func TestLastWords(t *testing.T) {
	s := start(t, server.Options{})
	bustest.LastWords(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) })
	deserted(t, s)
}

func TestRooms(t *testing.T) {
	s := start(t, server.Options{})
	bustest.Rooms(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) }, func() int {
		v, err := s.Varz(nil)
		if err != nil {
			t.Fatal(err)
		}
		return int(v.OutBytes)
	})
	deserted(t, s)
}

func BenchmarkFanOut(b *testing.B) {
	s := start(b, server.Options{})
	bustest.FanOut(b, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) })
}
