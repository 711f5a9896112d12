package main

import (
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// talks are clients that each say something, wait for the answer, and so on.
type talks struct {
	clients  int
	turns    int // of each client in a round
	messages int // in a turn
	join     func(p place) (talker, error)

	talkers []talker
	waited  [][]time.Duration
}

// A talker is one of them.
type talker interface {
	// SetDeadline bounds the turns that follow.
	SetDeadline(time.Time) error
	// turn says something and waits for the answer.
	turn() error
	// finish is called when the server has ended, and sees to it that nothing more has come.
	finish() error
}

func (l *talks) connect(p place) error {
	l.talkers = make([]talker, l.clients)
	l.waited = make([][]time.Duration, l.clients)
	return parallel(l.clients, func(i int) (err error) {
		l.talkers[i], err = l.join(p)
		return err
	})
}

func (l *talks) round() (int, error) {
	var all errgroup.Group
	for i, t := range l.talkers {
		all.Go(func() error {
			l.waited[i] = l.waited[i][:0]
			t.SetDeadline(time.Now().Add(patience))
			for range l.turns {
				start := time.Now()
				if err := t.turn(); err != nil {
					return fmt.Errorf("client %d: %w", i, err)
				}
				l.waited[i] = append(l.waited[i], time.Since(start))
			}
			return nil
		})
	}
	return l.clients * l.turns * l.messages, all.Wait()
}

func (l *talks) finish() error {
	for i, t := range l.talkers {
		if err := t.finish(); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	return nil
}

func (l *talks) waits() []time.Duration { return slices.Concat(l.waited...) }

func (l *talks) connections() int { return l.clients }
