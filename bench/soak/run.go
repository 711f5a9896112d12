package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium/bench/fleet"
)

type options struct {
	length time.Duration
	number int
	seed   uint64
}

// kinds are those of the good clients, in equal parts.
var kinds = []fleet.Kind{
	{Protocol: fleet.Plain}, {Protocol: fleet.Plain, Deflate: true}, {Protocol: fleet.Plain, TLS: true},
	{Protocol: fleet.SocketIO}, {Protocol: fleet.SocketIO, Deflate: true}, {Protocol: fleet.SocketIO, TLS: true},
	{Protocol: fleet.Polling}, {Protocol: fleet.Polling, Upgrade: true},
	{Protocol: fleet.Go}, {Protocol: fleet.Go, Deflate: true}, {Protocol: fleet.Go, TLS: true, Deflate: true},
}

const (
	rooms = 100
	// drain is how long a server may take to let its clients go, also those that do not read, and
	// away how long a client may be away: longer, because its sockets go on when that is over. What
	// is kept for those who do not come back is kept for that long as well, and must be gone at the
	// end.
	drain        = 5 * time.Second
	away         = 20 * time.Second
	pingInterval = 5 * time.Second
	ping         = 10 * time.Second
	// pause is the time between two things that a client does.
	pause = 2 * time.Second
	// churned is how many of a thousand clients are cut, or leave for good and are followed by
	// another, in each step of churn.
	churned   = 10
	churnStep = 100 * time.Millisecond
	// longest is the longest time between two restarts of a node, and of Redis.
	longest = time.Minute
	// settling bounds how long it may take until everything has come that must, and then until the
	// servers are as they were at the start.
	settling = 2 * time.Minute
	// slowOnes, stalledOnes and garbageSenders are how many bad clients there are for each node.
	slowOnes, stalledOnes, garbageSenders = 20, 5, 10
)

// soak is a run.
type soak struct {
	options
	fleet   *fleet.Fleet
	broker  *broker
	bad     badCounts
	figures []moment

	restarts, kills atomic.Int64 // of servers, of Redis
	clients         []*fleet.Client
	leaving         sync.WaitGroup // clients and servers that are about to end
}

// moment are the figures of a node at a moment.
type moment struct {
	When string `json:"when"`
	Node int    `json:"node"`
	fleet.Figures
}

func start(o options) (*soak, error) {
	s := &soak{options: o}
	var err error
	if s.broker, err = startBroker(); err != nil {
		return nil, err
	}
	settings := fleet.ServerOptions{
		Rooms: rooms, Every: time.Second, Padding: 200, Flood: 4096, Drain: drain,
		Away: away, PingInterval: pingInterval, Ping: ping, QueuedBytes: 256 << 10, Level: 1,
	}
	nodes := 1
	if s.broker != nil {
		nodes, settings.Redis = 2, s.broker.addr
	}
	s.fleet, err = fleet.New(nodes, settings)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *soak) run() error {
	if err := s.warmUp(); err != nil {
		return fmt.Errorf("at the start: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var all sync.WaitGroup
	for i, n := range s.fleet.Nodes {
		s.addBad(ctx, &all, n, uint64(i))
	}
	for i := range s.options.number {
		s.clients = append(s.clients, s.add(i))
		if i%50 == 49 {
			if err := s.fleet.Wait(50 * time.Millisecond); err != nil {
				return err
			}
		}
	}
	changes, stop := context.WithTimeout(ctx, s.length)
	defer stop()
	all.Go(func() { s.churn(changes) })
	all.Go(func() { s.restart(changes) })
	if err := s.fleet.Wait(s.length / 2); err != nil {
		return err
	}
	s.note("middle")
	if err := s.fleet.Until("the changes are over", s.length+settling, func() bool { return changes.Err() != nil }); err != nil {
		return err
	}
	cancel()
	all.Wait()
	s.leaving.Wait()
	if err := s.fleet.Until("all clients are connected", settling, s.allConnected); err != nil {
		return fmt.Errorf("%w: %d of %d", err, s.fleet.Connected.Load(), s.options.number)
	}
	if err := s.fleet.Settle(s.clients, settling); err != nil {
		return err
	}
	if err := s.end(); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	return s.stop()
}

func (s *soak) stop() error {
	err := s.fleet.Stop()
	if s.broker != nil {
		err = errors.Join(err, s.broker.stop())
	}
	return err
}

func (s *soak) allConnected() bool { return int(s.fleet.Connected.Load()) == s.options.number }

// add adds the i-th client.
func (s *soak) add(i int) *fleet.Client {
	return s.fleet.Add(s.fleet.Nodes[i%len(s.fleet.Nodes)], kinds[i/len(s.fleet.Nodes)%len(kinds)], pause, s.seed)
}

// warmUp has the servers do once what they need something for that stays, and notes the figures.
func (s *soak) warmUp() error {
	var clients []*fleet.Client
	for i := range 4 * len(kinds) {
		clients = append(clients, s.add(i))
	}
	err := s.fleet.Until("the first clients are connected", settling, func() bool { return int(s.fleet.Connected.Load()) == len(clients) })
	if err != nil {
		return err
	}
	if err := s.fleet.Wait(2 * pause); err != nil {
		return err
	}
	for _, c := range clients {
		c.Stop()
	}
	err = s.fleet.Until("the first clients have left", settling, func() bool {
		for _, n := range s.fleet.Nodes {
			if n.Figures().Sockets > 0 {
				return false
			}
		}
		return true
	})
	s.note("start")
	return err
}

// note notes the figures of all nodes.
func (s *soak) note(when string) {
	for i, n := range s.fleet.Nodes {
		s.figures = append(s.figures, moment{when, i + 1, n.Figures()})
	}
}

// addBad starts the bad clients of a node.
func (s *soak) addBad(ctx context.Context, all *sync.WaitGroup, n *fleet.Node, number uint64) {
	for i := range slowOnes + stalledOnes + garbageSenders {
		b := &bad{ctx: ctx, random: rand.New(rand.NewPCG(s.seed, number<<32|uint64(i))), node: n, counts: &s.bad}
		all.Go(func() {
			switch {
			case i < slowOnes:
				b.again(time.Second, func() { b.flooded(1000) })
			case i < slowOnes+stalledOnes:
				b.again(time.Second, func() { b.flooded(0) })
			default:
				b.again(100*time.Millisecond, b.garbage)
			}
		})
	}
}

// churn cuts clients, or has them leave for good and others come, until ctx ends.
func (s *soak) churn(ctx context.Context) {
	random := rand.New(rand.NewPCG(s.seed, 0))
	ticks := time.NewTicker(churnStep)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		for range s.options.number * churned / 1000 {
			i := random.IntN(len(s.clients))
			if random.IntN(2) == 0 {
				s.clients[i].Cut()
				continue
			}
			leaver := s.clients[i]
			s.leaving.Go(leaver.Stop)
			s.clients[i] = s.add(i)
		}
	}
}

// restart replaces one node after the other, and kills Redis, until ctx ends.
func (s *soak) restart(ctx context.Context) {
	every := min(longest, s.length/2) / time.Duration(len(s.fleet.Nodes))
	wait := func(d time.Duration) bool {
		select {
		case <-time.After(d):
			return true
		case <-ctx.Done():
			return false
		}
	}
	for i := 0; wait(every / 2); i++ {
		s.leaving.Go(func() { s.replace(s.fleet.Nodes[i%len(s.fleet.Nodes)]) })
		if !wait(every / 2) {
			return
		}
		if s.broker != nil && i%len(s.fleet.Nodes) == 0 {
			s.broker.kill()
			s.kills.Add(1)
			wait(time.Second)
			if err := s.broker.start(); err != nil {
				s.fleet.Fail(err)
				return
			}
		}
	}
}

func (s *soak) replace(n *fleet.Node) {
	_, d := n.Replace()
	s.restarts.Add(1)
	if d.Left.Sockets > 0 || d.Left.Errors > 0 || d.Left.Goroutines > s.figures[0].Goroutines+moreGoroutines {
		s.fleet.Fail(fmt.Errorf("a server that was drained has left %+v, and said %q", d.Left, d.Error))
	}
}

// What a server may have more of at the end than at the start.
const (
	moreGoroutines  = 8
	moreDescriptors = 8
	moreTimers      = 8
	moreHeap        = 4 << 20
)

// end has all clients leave, and waits until the servers are as they were at the start.
func (s *soak) end() error {
	var all sync.WaitGroup
	for _, c := range s.clients {
		all.Go(c.Stop)
	}
	all.Wait()
	return s.fleet.Until("the servers are as they were", settling, func() bool {
		s.figures = s.figures[:2*len(s.fleet.Nodes)]
		s.note("end")
		nodes := len(s.fleet.Nodes)
		for i, first := range s.figures[:nodes] {
			last := s.figures[2*nodes+i]
			if last.Errors > 0 {
				s.fleet.Fail(fmt.Errorf("node %d has logged %d errors", i+1, last.Errors))
			}
			if last.Sockets > 0 || last.Goroutines > first.Goroutines+moreGoroutines || last.Timers > first.Timers+moreTimers ||
				last.Descriptors > first.Descriptors+moreDescriptors || last.Heap > first.Heap+moreHeap {
				time.Sleep(time.Second)
				return false
			}
		}
		return true
	})
}
