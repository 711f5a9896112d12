package natsbus_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/atrium-go/atrium/bustest"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// start runs a server in this process, on any port.
func start(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(bustest.Patience) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

// deserted waits until no Bus has subscriptions.
func deserted(t testing.TB, servers ...*server.Server) {
	t.Helper()
	bustest.Eventually(t, func() error {
		for _, s := range servers {
			if n := s.GlobalAccount().Interest("atrium.>"); n != 0 {
				return fmt.Errorf("%d subscriptions are left at the server", n)
			}
		}
		return nil
	})
}

// startCluster runs three that are connected to each other.
func startCluster(t testing.TB) []*server.Server {
	t.Helper()
	var servers []*server.Server
	for i := range 3 {
		o := server.Options{ServerName: fmt.Sprint("node", i)}
		o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, PoolSize: -1}
		if i > 0 {
			o.Routes = []*url.URL{{Scheme: "nats", Host: servers[0].ClusterAddr().String()}}
		}
		servers = append(servers, start(t, o))
	}
	for i, s := range servers {
		bustest.Eventually(t, func() error {
			if n := s.NumRoutes(); n != 2 {
				return fmt.Errorf("server %d has %d routes, want 2", i, n)
			}
			return nil
		})
	}
	return servers
}

// connect is a client that soon notices that it is cut off, and comes back quickly.
func connect(t testing.TB, address string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(address, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.PingInterval(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// serveOn is in the environment of a process that is to be a server instead of a test.
const serveOn = "NATSBUS_TEST_SERVE_ON"

func TestMain(m *testing.M) {
	if port := os.Getenv(serveOn); port != "" {
		serve(port)
	}
	if address := os.Getenv(nodeOf); address != "" {
		serveNode(address)
	}
	os.Exit(m.Run())
}

// serve runs a server until its standard input ends, with the test.
func serve(port string) {
	number, err := strconv.Atoi(port)
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: number, NoSigs: true, NoLog: true})
	if err != nil {
		panic(err)
	}
	s.Start()
	os.Stdin.Read(make([]byte, 1))
	os.Exit(0)
}

// process is a server in a process of its own, which can be killed and suspended.
type process struct {
	*bustest.Process
	t       testing.TB
	port    string
	address string
}

func startProcess(t testing.TB) *process {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	p := &process{t: t, port: port, address: "nats://" + l.Addr().String()}
	p.run()
	return p
}

func (p *process) run() {
	p.t.Helper()
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), serveOn+"="+p.port)
	if _, err := command.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	p.Process = bustest.StartProcess(p.t, command)
	bustest.Eventually(p.t, func() error {
		conn, err := nats.Connect(p.address)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (p *process) kill()   { p.Kill() }
func (p *process) pause()  { p.Pause() }
func (p *process) resume() { p.Resume() }
