package main

import "time"

// handshakes are clients that connect, greet the server and leave, some at the same time.
type handshakes struct {
	times int // in a round
	place place
}

func (l *handshakes) connect(p place) error {
	l.place = p
	return nil
}

func (l *handshakes) round() (int, error) {
	return l.times, parallel(l.times, func(int) error {
		c, err := l.place.enter()
		if err != nil {
			return err
		}
		return leave(c)
	})
}

func (l *handshakes) finish() error          { return nil }
func (l *handshakes) waits() []time.Duration { return nil }

func (l *handshakes) connections() int { return 1 }
