package redisbus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
	"github.com/atrium-go/atrium/redisbus"
	"github.com/redis/go-redis/v9"
)

func TestServer(t *testing.T) {
	server := start(t)
	bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) })
	server.deserted(t)
}

// RESP2 is what servers before Redis 6 speak, and some proxies.
func TestServerRESP2(t *testing.T) {
	server := start(t)
	bustest.Run(t, func(t testing.TB) atrium.Bus {
		client := redis.NewClient(&redis.Options{Addr: server.addr, Protocol: 2})
		t.Cleanup(func() { client.Close() })
		return redisbus.New(client)
	})
	server.deserted(t)
}

func TestCluster(t *testing.T) {
	cluster := startCluster(t)
	t.Run("sharded", func(t *testing.T) {
		bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t)) })
	})
	t.Run("unsharded", func(t *testing.T) {
		bustest.Run(t, func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t), redisbus.Unsharded()) })
	})
	for _, s := range cluster {
		s.deserted(t)
	}
}

func TestKilled(t *testing.T) {
	server := start(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.kill, server.restart)
	server.deserted(t)
}

func TestSuspended(t *testing.T) {
	server := start(t)
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, server.pause, server.resume)
	server.deserted(t)
}

func TestClusterSuspended(t *testing.T) {
	cluster := startCluster(t)
	each := func(do func(*server)) func() {
		return func() {
			for _, s := range cluster {
				do(s)
			}
		}
	}
	join := func(t testing.TB) atrium.Bus { return redisbus.New(cluster.connect(t)) }
	bustest.Outage(t, join, each((*server).pause), each((*server).resume))
	each(func(s *server) { s.deserted(t) })()
}

// A server that is suspended for longer than the Bus waits for an answer: it has given the
// connection up by then, and says so.
func TestSuspendedLong(t *testing.T) {
	server := start(t)
	stop := func() {
		server.pause()
		bus := redisbus.New(server.connect(t))
		bustest.Eventually(t, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			_, err := bus.Subscribe(ctx, "topic", func([]byte) {})
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Subscribe without an answer: %v", err)
			}
			if joined, ok := errors.Unwrap(err).(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 2 {
				return fmt.Errorf("Subscribe without an answer: %v; want also what the attempt met with", err)
			}
			return nil
		})
	}
	bustest.Outage(t, func(t testing.TB) atrium.Bus { return redisbus.New(server.connect(t)) }, stop, server.resume)
	server.deserted(t)
}

// TestSentinel has the master killed, and Sentinel make the replica the master.
func TestSentinel(t *testing.T) {
	master := start(t)
	host, port, _ := net.SplitHostPort(master.addr)
	replica := start(t, "replicaof "+host+" "+port, "repl-diskless-sync-delay 0")
	bustest.Eventually(t, func() error {
		info, err := replica.client.Info(t.Context(), "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("the replica does not follow:\n%s", info)
		}
		return err
	})
	sentinel := startSentinel(t, "sentinel monitor house "+host+" "+port+" 1",
		"sentinel down-after-milliseconds house 500", "sentinel failover-timeout house 5000")
	bustest.Eventually(t, func() error {
		info, err := sentinel.client.Info(t.Context(), "sentinel").Result()
		if err == nil && !strings.Contains(info, "slaves=1") {
			err = fmt.Errorf("Sentinel does not see the replica:\n%s", info)
		}
		return err
	})
	join := func(t testing.TB) atrium.Bus {
		client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "house", SentinelAddrs: []string{sentinel.addr}})
		t.Cleanup(func() { client.Close() })
		return redisbus.New(client)
	}
	promoted := func() {
		bustest.Eventually(t, func() error {
			info, err := replica.client.Info(t.Context(), "replication").Result()
			if err == nil && !strings.Contains(info, "role:master") {
				err = errors.New("Sentinel does not make the replica the master")
			}
			return err
		})
	}
	bustest.Outage(t, join, master.kill, promoted)
	replica.deserted(t)
}

// All topics of a Bus come over one connection, and in a cluster over as many as there are slots
// used.
func TestConnections(t *testing.T) {
	single, cluster := start(t), startCluster(t)
	for _, test := range []struct {
		name    string
		bus     atrium.Bus
		servers []*server
		most    int
	}{
		{"server", redisbus.New(single.connect(t)), []*server{single}, 1},
		{"cluster", redisbus.New(cluster.connect(t)), cluster, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			var group sync.WaitGroup
			for i := range 200 {
				group.Go(func() {
					cancel, err := test.bus.Subscribe(t.Context(), fmt.Sprint(i), func([]byte) {})
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(cancel)
				})
			}
			group.Wait()
			connections := 0
			for _, s := range test.servers {
				n := s.subscribers(t)
				if n == 0 {
					t.Error("a server of the cluster has no topics")
				}
				connections += n
			}
			if connections != test.most {
				t.Errorf("%d connections with 200 topics, want %d", connections, test.most)
			}
		})
		for _, s := range test.servers {
			s.deserted(t)
		}
	}
}

// A slot that moves to another server takes the subscriptions with it.
func TestSlotMoves(t *testing.T) {
	cluster := startCluster(t)
	bus := redisbus.New(cluster.connect(t))
	heard := make(chan string, 10)
	cancel, err := bus.Subscribe(t.Context(), "topic", func(msg []byte) { heard <- string(msg) })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	var from *server
	var channel string
	for _, s := range cluster {
		channels, err := s.client.PubSubShardChannels(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(channels) == 1 {
			from, channel = s, channels[0]
		}
	}
	if from == nil {
		t.Fatal("no server has the topic")
	}
	to := cluster[0]
	if to == from {
		to = cluster[1]
	}
	slot, err := from.client.ClusterKeySlot(t.Context(), channel).Result()
	if err != nil {
		t.Fatal(err)
	}
	id, err := to.client.Do(t.Context(), "cluster", "myid").Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*server{to, from} {
		if err := s.client.Do(t.Context(), "cluster", "setslot", slot, "node", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Eventually(t, func() error {
		bus.Publish(t.Context(), "topic", []byte("hello"))
		select {
		case <-heard:
			return nil
		default:
			return errors.New("nothing comes since the slot moved")
		}
	})
	channels, err := to.client.PubSubShardChannels(t.Context(), "*").Result()
	if err != nil || len(channels) != 1 {
		t.Errorf("at the new server: %q, %v; want the topic", channels, err)
	}
}

func TestClosedClient(t *testing.T) {
	server := start(t)
	client := server.connect(t)
	bus := redisbus.New(client)
	cancel, err := bus.Subscribe(t.Context(), "topic", func([]byte) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, func() error { // the Bus retries until ctx ends, and returns the last error
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := bus.Subscribe(ctx, "another topic", func([]byte) {}); !errors.Is(err, redis.ErrClosed) {
			return fmt.Errorf("Subscribe after Close: %v", err)
		}
		return nil
	})
	bustest.Eventually(t, func() error {
		if err := bus.Publish(t.Context(), "topic", nil); !errors.Is(err, redis.ErrClosed) {
			return fmt.Errorf("Publish after Close: %v", err)
		}
		return nil
	})
	if bus.Dropped() == 0 {
		t.Error("Dropped does not count what was queued when the client was closed")
	}
	server.deserted(t)
	cancel()
}

// A connection that breaks between a message and the server's answer leaves in doubt whether it was
// published. It is not published again, although that is what the client does with other commands.
func TestNothingTwice(t *testing.T) {
	server := start(t)
	bus := redisbus.New(server.connect(t))
	heard := make(chan string, 10)
	cancel, err := bus.Subscribe(t.Context(), "topic", func(msg []byte) { heard <- string(msg) })
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()

	client := redis.NewClient(&redis.Options{
		Addr:   server.addr,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return dialForgetful(server.addr) },
	})
	defer client.Close()
	forgetful := redisbus.New(client)
	if err := forgetful.Publish(t.Context(), "topic", []byte("once")); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, func() error {
		if n := forgetful.Dropped(); n != 1 {
			return fmt.Errorf("%d messages count as dropped, want the one in doubt", n)
		}
		return nil
	})
	if err := bus.Publish(t.Context(), "topic", []byte("end")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"once", "end"} {
		if got := <-heard; got != want {
			t.Errorf("%q came in place of %q", got, want)
		}
	}
}

// forgetful is a connection that breaks as soon as the server has answered a publish.
type forgetful struct {
	net.Conn
	published atomic.Bool
}

func dialForgetful(addr string) (net.Conn, error) {
	conn, err := net.Dial("tcp", addr)
	return &forgetful{Conn: conn}, err
}

func (f *forgetful) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("publish")) {
		f.published.Store(true)
	}
	return f.Conn.Write(b)
}

func (f *forgetful) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if f.published.Load() {
		f.Close()
		return 0, io.EOF
	}
	return n, err
}

// Two applications with a prefix each do not hear each other.
func TestPrefix(t *testing.T) {
	server := start(t)
	client := server.connect(t)
	heard := make(chan string, 10)
	buses := map[string]*redisbus.Bus{
		"one": redisbus.New(client, redisbus.Prefix("one/")), "other": redisbus.New(client, redisbus.Prefix("other/")),
	}
	for name, bus := range buses {
		cancel, err := bus.Subscribe(t.Context(), "lobby", func(msg []byte) { heard <- name + " hears " + string(msg) })
		if err != nil {
			t.Fatal(err)
		}
		defer cancel()
	}
	receivers, err := client.Publish(t.Context(), "one/lobby", "a").Result()
	if err != nil || receivers != 1 {
		t.Errorf("%d connections have the channel one/lobby (%v), want 1", receivers, err)
	}
	if got := <-heard; got != "one hears a" {
		t.Error(got)
	}
	if err := buses["other"].Publish(t.Context(), "lobby", []byte("b")); err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "other hears b" {
		t.Error(got)
	}
}

func TestRing(t *testing.T) {
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}})
	defer ring.Close()
	defer func() {
		if recover() == nil {
			t.Error("New takes a Ring")
		}
	}()
	redisbus.New(ring)
}

// BenchmarkPublish compares a Bus, which sends together what comes while the server answers, with a
// round trip for each message, which is what its publisher would otherwise wait for.
func BenchmarkPublish(b *testing.B) {
	server := start(b)
	client := server.connect(b)
	msg := make([]byte, 200)
	b.Run("bus", func(b *testing.B) {
		bus := redisbus.New(client)
		last := make(chan struct{})
		cancel, err := bus.Subscribe(b.Context(), "end", func([]byte) { close(last) })
		if err != nil {
			b.Fatal(err)
		}
		defer cancel()
		b.ResetTimer()
		for range b.N {
			if err := bus.Publish(b.Context(), "topic", msg); err != nil {
				b.Fatal(err)
			}
		}
		if err := bus.Publish(b.Context(), "end", nil); err != nil { // it comes behind them
			b.Fatal(err)
		}
		<-last
	})
	b.Run("a round trip each", func(b *testing.B) {
		for range b.N {
			if err := client.Publish(b.Context(), "topic", msg).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
