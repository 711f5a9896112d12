package natsbus_test

import (
	"os"
	"os/exec"
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
	var over <-chan time.Time
	stop := func() {
		p.pause()
		over = time.After(10 * time.Second)
	}
	heal := func() {
		<-over
		p.resume()
	}
	bustest.OutageCluster(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, stop, heal)
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
			s := start(t, server.Options{})
			proxy := bustest.NewProxy(t, strings.TrimPrefix(s.ClientURL(), "nats://"))
			address := "nats://" + proxy.Addr() // the first hub's
			join := func(t testing.TB) atrium.Bus {
				conn := connect(t, address)
				address = s.ClientURL()
				return natsbus.New(conn)
			}
			bustest.OutageCluster(t, join, func() { network.stop(proxy) }, func() { network.heal(proxy) })
			deserted(t, s)
		})
	}
}

func TestHubKilled(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	bustest.KillNode(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) }, func(t testing.TB) *exec.Cmd {
		process := exec.Command(os.Args[0])
		process.Env = append(os.Environ(), nodeOf+"="+s.ClientURL())
		process.Stderr = os.Stderr
		if _, err := process.StdinPipe(); err != nil { // its end is that of the process
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		return process
	})
	deserted(t, s)
}

// nodeOf is in the environment of a process that is to be a hub instead of a test: the server's address.
const nodeOf = "NATSBUS_TEST_NODE_OF"

// serveNode is such a process.
func serveNode(address string) {
	conn, err := nats.Connect(address)
	if err != nil {
		panic(err)
	}
	bustest.ServeNode(natsbus.New(conn))
}
