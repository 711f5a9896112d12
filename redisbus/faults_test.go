package redisbus_test

import (
	"os"
	"os/exec"
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
	var over <-chan time.Time
	stop := func() {
		server.pause()
		over = time.After(10 * time.Second)
	}
	heal := func() {
		<-over
		server.resume()
	}
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, stop, heal)
	server.deserted(t)
}

func TestHubCutOff(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]struct{ stop, heal func(*bustest.Proxy) }{
		"reset":     {(*bustest.Proxy).Cut, (*bustest.Proxy).Heal},
		"silent":    {(*bustest.Proxy).Hold, (*bustest.Proxy).Heal},
		"forgotten": {(*bustest.Proxy).Hold, (*bustest.Proxy).Forget},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t)
			proxy := bustest.NewProxy(t, server.addr)
			addr := proxy.Addr() // the first hub's
			join := func(t testing.TB) atrium.Bus {
				client := redis.NewClient(&redis.Options{Addr: addr})
				t.Cleanup(func() { client.Close() })
				addr = server.addr
				return redisbus.New(client)
			}
			bustest.OutageCluster(t, join, func() { network.stop(proxy) }, func() { network.heal(proxy) })
			server.deserted(t)
		})
	}
}

func TestHubKilled(t *testing.T) {
	t.Parallel()
	server := start(t)
	bustest.KillNode(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, func(t testing.TB) *exec.Cmd {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), nodeOf+"="+server.addr)
		process.Stderr = os.Stderr
		if _, err := process.StdinPipe(); err != nil { // its end is that of the process
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		return process
	})
	server.deserted(t)
}

// nodeOf is in the environment of a process that is to be a hub instead of a test: the server's address.
const nodeOf = "REDISBUS_TEST_NODE_OF"

func TestMain(m *testing.M) {
	if addr := os.Getenv(nodeOf); addr != "" {
		bustest.ServeNode(redisbus.New(redis.NewClient(&redis.Options{Addr: addr})))
	}
	os.Exit(m.Run())
}
