package redisbus_test

import (
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/redisbus"
	"github.com/redis/go-redis/v9"
)

func TestServer(t *testing.T) {
	server := start(t)
	bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) })
}

// RESP2 is what servers before Redis 6 speak, and some proxies.
func TestServerRESP2(t *testing.T) {
	server := start(t)
	bustest.Run(t, func(t testing.TB) atrium.Bus {
		client := redis.NewClient(&redis.Options{Addr: server.addr, Protocol: 2})
		t.Cleanup(func() { client.Close() })
		return redisbus.New(client)
	})
}

func TestCluster(t *testing.T) {
	cluster := startCluster(t)
	t.Run("sharded", func(t *testing.T) {
		bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t)) })
	})
	t.Run("unsharded", func(t *testing.T) {
		bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t), redisbus.Unsharded()) })
	})
}

func TestKilled(t *testing.T) {
	server := start(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.kill, server.restart)
}

func TestSuspended(t *testing.T) {
	server := start(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.pause, server.resume)
}

func TestClusterSuspended(t *testing.T) {
	cluster := startCluster(t)
	stop := func() {
		for _, s := range cluster {
			s.pause()
		}
	}
	heal := func() {
		for _, s := range cluster {
			s.resume()
		}
	}
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t)) }, stop, heal)
}
