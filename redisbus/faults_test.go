package redisbus_test

import (
	"os"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/redisbus"
	"github.com/redis/go-redis/v9"
)

// These tests are parallel: they wait most of the time.

func TestHubsKilled(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.kill, server.restart)
	server.deserted(t)
}

func TestHubsSuspended(t *testing.T) {
	t.Parallel()
	server := start(t)
	stop, heal := bustest.Lasting(10*time.Second, server.pause, server.resume)
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, stop, heal)
	server.deserted(t)
}

func TestHubCutOff(t *testing.T) {
	t.Parallel()
	serve := func(t testing.TB) (addr string, check func()) {
		server := start(t)
		return server.addr, func() { server.deserted(t) }
	}
	bustest.CutOff(t, serve, func(t testing.TB, addr string) atrium.Bus {
		client := redis.NewClient(&redis.Options{Addr: addr})
		t.Cleanup(func() { client.Close() })
		return redisbus.New(client)
	})
}

func TestHubKilled(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.KillNode(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, nodeOf+"="+server.addr)
	server.deserted(t)
}

// nodeOf is in the environment of a process that is to be a hub instead of a test: the server's
// address.
const nodeOf = "REDISBUS_TEST_NODE_OF"

func TestMain(m *testing.M) {
	if addr := os.Getenv(nodeOf); addr != "" {
		bustest.ServeNode(redisbus.New(redis.NewClient(&redis.Options{Addr: addr})))
	}
	os.Exit(m.Run())
}
