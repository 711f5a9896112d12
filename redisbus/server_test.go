package redisbus_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium/bustest"
	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test's own.
type server struct {
	t        testing.TB
	addr     string
	settings []string
	sentinel bool
	process  *bustest.Process
	client   *redis.Client
}

// start runs one on a port that was free a moment ago; if somebody else was quicker, on another.
func start(t testing.TB, settings ...string) *server {
	t.Helper()
	s := &server{t: t, settings: settings}
	s.open()
	return s
}

func startSentinel(t testing.TB, settings ...string) *server {
	t.Helper()
	s := &server{t: t, settings: settings, sentinel: true}
	s.open()
	return s
}

func (s *server) open() {
	s.t.Helper()
	for range 10 {
		s.addr = freeAddr(s.t)
		if s.run() {
			s.client = redis.NewClient(&redis.Options{Addr: s.addr})
			s.t.Cleanup(func() { s.client.Close() })
			return
		}
	}
	s.t.Fatal("redis-server does not start")
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts the process, and reports whether it serves.
func (s *server) run() bool {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("these tests need redis-server (Debian and Ubuntu: apt-get install redis-server; macOS: brew install redis): %v", err)
	}
	_, port, _ := net.SplitHostPort(s.addr)
	directory := s.t.TempDir()
	config := directory + "/redis.conf"
	lines := append([]string{"port " + port, "bind 127.0.0.1", "dir " + directory}, s.settings...)
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	args := []string{config}
	if s.sentinel {
		args = append(args, "--sentinel")
	}
	var output bytes.Buffer
	command := exec.Command(path, args...)
	command.Stdout, command.Stderr = &output, &output
	s.process = bustest.StartProcess(s.t, command)
	probe := redis.NewClient(&redis.Options{Addr: s.addr, MaxRetries: -1})
	defer probe.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-s.process.Gone():
			s.t.Logf("redis-server ended: %s", output.Bytes())
			return false
		case <-tick.C:
		}
		// Its own process id, or it is somebody else's server.
		info, err := probe.Info(context.Background(), "server").Result()
		if err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.process.ID())) {
			return true
		}
	}
}

func (s *server) kill()   { s.process.Kill() }
func (s *server) pause()  { s.process.Pause() }
func (s *server) resume() { s.process.Resume() }

// restart runs it again where it was.
func (s *server) restart() {
	s.t.Helper()
	for !s.run() { // until the address is free again
		if s.t.Context().Err() != nil {
			s.t.Fatal("redis-server does not start again")
		}
	}
}

// connect is a client of the server.
func (s *server) connect(t testing.TB) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() { client.Close() })
	return client
}

// subscribers counts the connections with subscriptions.
func (s *server) subscribers(t testing.TB) int {
	t.Helper()
	clients, err := s.client.Do(t.Context(), "client", "list", "type", "pubsub").Text()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(clients, "\n")
}

// deserted waits until no Bus has subscriptions.
func (s *server) deserted(t testing.TB) {
	t.Helper()
	bustest.Eventually(t, func() error {
		channels, err := s.client.PubSubChannels(t.Context(), "atrium:*").Result()
		if err != nil {
			return err
		}
		shard, err := s.client.PubSubShardChannels(t.Context(), "*").Result()
		if err == nil && len(channels)+len(shard) > 0 {
			err = fmt.Errorf("channels are left at the server: %q %q", channels, shard)
		}
		return err
	})
}

// cluster is of three servers without replicas.
type cluster []*server

const clusterSlots = 16384

func startCluster(t testing.TB) cluster {
	t.Helper()
	ctx := context.Background()
	var c cluster
	for i := range 3 {
		var s *server
		for s == nil {
			_, port, _ := net.SplitHostPort(freeAddr(t))
			s = start(t, "cluster-enabled yes", "cluster-node-timeout 5000", "cluster-port "+port)
		}
		c = append(c, s)
		if err := s.client.ClusterAddSlotsRange(ctx, i*clusterSlots/3, (i+1)*clusterSlots/3-1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range c {
		if err := s.client.Do(ctx, "cluster", "set-config-epoch", i+1).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c[1:] {
		host, port, _ := net.SplitHostPort(s.addr)
		busPort, err := s.client.ConfigGet(ctx, "cluster-port").Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := c[0].client.Do(ctx, "cluster", "meet", host, port, busPort["cluster-port"]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c {
		bustest.Eventually(t, func() error {
			info, err := s.client.ClusterInfo(ctx).Result()
			if err == nil && !(strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:3\r\n")) {
				err = fmt.Errorf("the cluster does not come together:\n%s", info)
			}
			return err
		})
	}
	return c
}

func (c cluster) connect(t testing.TB) *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c[0].addr, c[1].addr, c[2].addr}})
	t.Cleanup(func() { client.Close() })
	return client
}
