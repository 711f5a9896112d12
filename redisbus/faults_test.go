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
	bustest.CutOff(t, serve, joinAt)
}

// serve starts a server. check waits until no Bus has subscriptions there.
func serve(t testing.TB) (addr string, check func()) {
	server := start(t)
	return server.addr, func() { server.deserted(t) }
}

// joinAt is a Bus on the server at an address, or behind a proxy.
func joinAt(t testing.TB, addr string) atrium.Bus {
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { client.Close() })
	return redisbus.New(client)
}

func TestHubKilled(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.KillNode(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, nodeOf+"="+server.addr)
	server.deserted(t)
}

func TestPresence(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.Presence(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.kill, server.restart)
	server.deserted(t)
}

func TestPresenceOfKilledHub(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.KillPresence(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, nodeOf+"="+server.addr)
	server.deserted(t)
}

func TestPresenceCutOff(t *testing.T) {
	t.Parallel()
	bustest.CutOffPresence(t, serve, joinAt)
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
