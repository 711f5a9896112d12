package natsbus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// These tests are parallel: they wait most of the time.

func TestHubsKilled(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, p.kill, p.run)
}

func TestHubsSuspended(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	stop, heal := bustest.Lasting(10*time.Second, p.pause, p.resume)
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, stop, heal)
}

func TestHubCutOff(t *testing.T) {
	t.Parallel()
	bustest.CutOff(t, serveOne, joinAt)
}

// serveOne starts a server. check waits until no Bus has subscriptions there.
func serveOne(t testing.TB) (addr string, check func()) {
	s := start(t, server.Options{})
	return strings.TrimPrefix(s.ClientURL(), "nats://"), func() { deserted(t, s) }
}

// joinAt is a Bus on the server at an address, or behind a proxy.
func joinAt(t testing.TB, addr string) atrium.Bus { return natsbus.New(connect(t, "nats://"+addr)) }

func TestHubKilled(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	bustest.KillNode(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) }, nodeOf+"="+s.ClientURL())
	deserted(t, s)
}

func TestPresence(t *testing.T) {
	t.Parallel()
	p := startProcess(t)
	bustest.Presence(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, p.kill, p.run)
}

func TestPresenceOfKilledHub(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	bustest.KillPresence(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) }, nodeOf+"="+s.ClientURL())
	deserted(t, s)
}

func TestPresenceCutOff(t *testing.T) {
	t.Parallel()
	bustest.CutOffPresence(t, serveOne, joinAt)
}

// nodeOf is in the environment of a process that is to be a hub instead of a test: the server's
// address.
const nodeOf = "NATSBUS_TEST_NODE_OF"

// serveNode is such a process.
func serveNode(address string) {
	conn, err := nats.Connect(address)
	if err != nil {
		panic(err)
	}
	bustest.ServeNode(natsbus.New(conn))
}
