package main

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atrium-go/atrium/bench/process"
)

// echoes are clients that send some numbered messages in one write, wait for the answers, and so
// on.
type echoes struct {
	size, inFlight int
	connections    int
	bursts         int // of each connection in a round
	clients        []*echoClient
}

func (l *echoes) connect(p place) error {
	conns, err := p.connectAll(l.connections)
	if err != nil {
		return err
	}
	l.clients = nil
	for _, c := range conns {
		l.clients = append(l.clients, newEchoClient(c, p.dialect, l.size, l.inFlight))
	}
	return nil
}

func (l *echoes) round() (int, error) {
	var all errgroup.Group
	for i, c := range l.clients {
		all.Go(func() error {
			c.waits = c.waits[:0]
			c.SetReadDeadline(time.Now().Add(patience))
			for range l.bursts {
				if err := c.exchange(); err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return l.connections * l.bursts * l.inFlight, all.Wait()
}

func (l *echoes) finish() error {
	for i, c := range l.clients {
		if got, err := next(c.Client); err == nil {
			return fmt.Errorf("connection %d: after the last answer came %.60q", i, got)
		} else if !hasEnded(err) {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		c.Close()
	}
	return nil
}

func (l *echoes) waits() (all []time.Duration) {
	for _, c := range l.clients {
		all = append(all, c.waits...)
	}
	return all
}

// An echoClient is one of them.
type echoClient struct {
	*process.Client
	answers *checker
	burst   []byte   // the frames of a burst
	numbers [][]byte // where in burst the numbers of its messages are
	key     [4]byte  // which masks the numbers
	sent    int
	waits   []time.Duration
}

func newEchoClient(c *process.Client, d dialect, size, inFlight int) *echoClient {
	ask := message{d.ask, size}
	answer := message{d.answer, size - d.ask.len() + d.answer.len()}
	e := &echoClient{Client: c, answers: newChecker(answer)}
	frame := process.Frame(process.OpText, string(ask.bytes(0)))
	e.burst = bytes.Repeat(frame, inFlight)
	start := len(frame) - size + len(ask.before)
	for i := range inFlight {
		e.numbers = append(e.numbers, e.burst[len(frame)*i+start:][:digits])
	}
	header, _ := process.ParseHeader(frame)
	for i := range e.key {
		e.key[i] = header.Key[(len(ask.before)+i)%4]
	}
	return e
}

// exchange sends a burst and waits for the answers.
func (e *echoClient) exchange() error {
	for _, number := range e.numbers {
		renumber(number, e.sent)
		process.Mask(number, e.key)
		e.sent++
	}
	start := time.Now()
	written := make(chan error, 1)
	write := func() {
		_, err := e.Write(e.burst)
		written <- err
	}
	if len(e.burst) > 64<<10 {
		go write() // the server may not read all of it before it has written some answers
	} else {
		write()
	}
	for range e.numbers {
		got, err := next(e.Client)
		if err == nil {
			err = e.answers.check(got)
		}
		if err != nil {
			return err
		}
	}
	e.waits = append(e.waits, time.Since(start))
	return <-written
}
