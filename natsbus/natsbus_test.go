package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/natsbus"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

func TestServer(t *testing.T) {
	s := start(t, server.Options{})
	bustest.Run(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, s.ClientURL())) })
	deserted(t, s)
}

// TestCluster has each Bus on another server.
func TestCluster(t *testing.T) {
	bustest.Run(t, joinCluster(t, startCluster(t)))
}

// joinCluster returns a join with which each Bus is on another server, and waits with Subscribe
// until all servers know.
func joinCluster(t *testing.T, servers []*server.Server) (join func(t testing.TB) atrium.Bus) {
	t.Helper()
	observers := &observers{left: make(map[string]*sync.WaitGroup), servers: len(servers)}
	for _, s := range servers {
		if _, err := connect(t, s.ClientURL()).Subscribe("observed", observers.observe); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range servers { // all know of the observers, too
		bustest.Eventually(t, func() error {
			if n := s.GlobalAccount().Interest("observed"); n != len(servers) {
				return fmt.Errorf("a server knows of %d observers", n)
			}
			return nil
		})
	}
	var joined atomic.Int64
	return func(t testing.TB) atrium.Bus {
		conn := connect(t, servers[int(joined.Add(1))%len(servers)].ClientURL())
		return &patientBus{natsbus.New(conn), conn, observers}
	}
}

// observers are clients, one of each server of a cluster.
type observers struct {
	servers int
	last    atomic.Int64

	mu   sync.Mutex // guards:
	left map[string]*sync.WaitGroup
}

func (o *observers) observe(msg *nats.Msg) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left[string(msg.Data)].Done()
}

// await returns when all servers know of the subscriptions that were made over the connection. It
// relies on the order of what a server tells another.
func (o *observers) await(conn *nats.Conn) error {
	var all sync.WaitGroup
	all.Add(o.servers)
	name := strconv.FormatInt(o.last.Add(1), 10)
	o.mu.Lock()
	o.left[name] = &all
	o.mu.Unlock()
	if err := conn.Publish("observed", []byte(name)); err != nil {
		return err
	}
	all.Wait()
	return nil
}

// patientBus is one whose Subscribe waits until every server of the cluster knows. Package natsbus
// says that its own does not.
type patientBus struct {
	*natsbus.Bus
	conn      *nats.Conn
	observers *observers
}

func (b *patientBus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	cancel, err = b.Bus.Subscribe(ctx, topic, deliver)
	if err != nil {
		return nil, err
	}
	return cancel, b.observers.await(b.conn)
}

func TestKilled(t *testing.T) {
	p := startProcess(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, p.kill, p.run)
}

func TestSuspended(t *testing.T) {
	p := startProcess(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return natsbus.New(connect(t, p.address)) }, p.pause, p.resume)
}

func TestClosedConnection(t *testing.T) {
	s := start(t, server.Options{})
	conn := connect(t, s.ClientURL())
	bus := natsbus.New(conn)
	cancel, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := bus.Publish(t.Context(), "topic", nil); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
	if _, err := bus.Subscribe(t.Context(), "topic", func([]byte) {}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Subscribe after Close: %v", err)
	}
	cancel()
}

func TestTooLarge(t *testing.T) {
	s := start(t, server.Options{})
	bus := natsbus.New(connect(t, s.ClientURL()))
	if err := bus.Publish(t.Context(), "topic", make([]byte, 1<<20+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("Publish of more than the server takes: %v", err)
	}
}

// Two applications with a prefix each do not hear each other, and a topic is readable to who looks
// at the server.
func TestPrefix(t *testing.T) {
	s := start(t, server.Options{})
	conn := connect(t, s.ClientURL())
	one, other := natsbus.New(conn, natsbus.Prefix("one.")), natsbus.New(conn, natsbus.Prefix("other."))
	heard := make(chan string, 10)
	for name, bus := range map[string]*natsbus.Bus{"one": one, "other": other} {
		cancel, err := bus.Subscribe(t.Context(), "lobby.*", func(msg []byte) { heard <- name + " hears " + string(msg) })
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
	}
	subjects := make(chan string, 10)
	if _, err := conn.Subscribe(">", func(msg *nats.Msg) { subjects <- msg.Subject }); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, bus := range []*natsbus.Bus{other, one} {
		if err := bus.Publish(t.Context(), "lobby.*", []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{<-heard: true, <-heard: true}
	if !got["one hears hello"] || !got["other hears hello"] {
		t.Errorf("heard: %v", got)
	}
	for _, want := range []string{"other.lobby%2E%2A", "one.lobby%2E%2A"} {
		if subject := <-subjects; subject != want {
			t.Errorf("subject %q, want %q", subject, want)
		}
	}
}
