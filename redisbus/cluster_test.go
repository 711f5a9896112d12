package redisbus_test

import (
	"strconv"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/redisbus"
)

// Three hubs over Redis are as one.
func TestHubs(t *testing.T) {
	server := start(t)
	bustest.RunCluster(t, 3000, 300, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) })
	server.deserted(t)
}

func TestHubsOnCluster(t *testing.T) {
	cluster := startCluster(t)
	bustest.RunCluster(t, 300, 30, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t)) })
	for _, s := range cluster {
		s.deserted(t)
	}
}

// What the hub emits last is not lost when the client is closed as soon as Shutdown has returned.
func TestLastWords(t *testing.T) {
	server := start(t)
	bustest.LastWords(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) })
	server.deserted(t)
}

func TestRooms(t *testing.T) {
	server := start(t)
	bustest.Rooms(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, func() int {
		info, err := server.client.InfoMap(t.Context(), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		sent, err := strconv.Atoi(info["Stats"]["total_net_output_bytes"])
		if err != nil {
			t.Fatal(err)
		}
		return sent
	})
	server.deserted(t)
}

func BenchmarkFanOut(b *testing.B) {
	server := start(b)
	bustest.FanOut(b, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) })
}
