package main

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// roomSize is the size of a message to a room.
const roomSize = 128

// rooms are clients that are sent messages to a room: some at once, and when all members have them,
// the next.
type rooms struct {
	members     int
	stalled     int // others, who never read
	outstanding int
	batches     int // in a round
	stalledOnes []*process.Client
	server      *process.Server
	due         atomic.Int64 // deliveries
	arrived     chan struct{}
	failed      chan error // one of each member, at the end of the connection if not before
	readers     sync.WaitGroup
}

func (l *rooms) connect(p place) error {
	clients, err := enterAll(p, l.members)
	if err != nil {
		return err
	}
	p.dialer.Control = process.ShrinkBuffers
	if l.stalledOnes, err = enterAll(p, l.stalled); err != nil {
		return err
	}
	l.server = p.Server
	l.arrived = make(chan struct{}, 1)
	l.failed = make(chan error, l.members)
	for i, c := range clients {
		c.SetDeadline(time.Time{})
		l.readers.Go(func() {
			l.failed <- fmt.Errorf("member %d: %w", i, l.listen(c, p.dialect))
		})
	}
	l.server.Command(-l.members - l.stalled) // wait until they are in the room
	return nil
}

func enterAll(p place, n int) ([]*process.Client, error) {
	clients := make([]*process.Client, n)
	return clients, parallel(n, func(i int) (err error) {
		clients[i], err = p.enter()
		return err
	})
}

// listen checks what a member hears, until the connection ends.
func (l *rooms) listen(c *process.Client, d dialect) error {
	defer c.Close()
	heard := newChecker(message{d.said, roomSize})
	for {
		got, err := next(c, process.OpText)
		if err != nil {
			return err
		}
		for text := range bytes.SplitSeq(got, []byte("\n")) { // centrifuge has several in a message
			if err := heard.check(text); err != nil {
				return err
			}
			if l.due.Add(-1) == 0 {
				l.arrived <- struct{}{}
			}
		}
	}
}

func (l *rooms) round() (int, error) {
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for range l.batches {
		l.due.Store(int64(l.members * l.outstanding))
		l.server.Command(l.outstanding)
		select {
		case <-l.arrived:
		case err := <-l.failed:
			return 0, err
		case <-timeout.C:
			return 0, fmt.Errorf("%d of %d deliveries did not come within %v: they were lost", l.due.Load(), l.members*l.outstanding, patience)
		}
	}
	return l.members * l.outstanding * l.batches, nil
}

func (l *rooms) finish() error {
	l.readers.Wait()
	for _, c := range l.stalledOnes {
		c.Close()
	}
	for range l.members {
		if err := <-l.failed; !hasEnded(err) {
			return err
		}
	}
	return nil
}

func (l *rooms) waits() []time.Duration { return nil }

func (l *rooms) connections() int { return l.members + l.stalled }
