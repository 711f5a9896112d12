package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/atrium-go/atrium/bench/process"
)

// A load is what the clients of a server do.
type load interface {
	// connect is not measured.
	connect(p place) error
	// round is measured, and returns how many operations it was. It is called once before, for
	// nothing.
	round() (operations int, err error)
	// finish is called when the server has ended, and sees to it that nothing more has come.
	finish() error
	// waits returns how long the operations took, each as its client saw it, or nothing.
	waits() []time.Duration
}

// A place is a server as clients see it.
type place struct {
	*process.Server
	dialect
	isTLS bool
}

// patience is how long a message may take. One that has not come by then counts as lost.
const patience = 20 * time.Second

// connectAll connects n clients and greets the server with each.
func (p place) connectAll(n int) ([]*process.Client, error) {
	clients := make([]*process.Client, n)
	var workers errgroup.Group
	for worker := range 16 {
		workers.Go(func() (err error) {
			for i := worker; i < n && err == nil; i += 16 {
				clients[i], err = p.enter()
			}
			return err
		})
	}
	return clients, workers.Wait()
}

// enter connects a client and greets the server.
func (p place) enter() (*process.Client, error) {
	c, err := p.ConnectWith(p.isTLS, strings.Replace(process.Handshakes["200 bytes"], "/hub", "/hub"+p.query, 1))
	if err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(patience))
	for _, word := range p.greeting {
		if word.send != "" {
			if _, err := c.Write(process.Frame(process.OpText, word.send)); err != nil {
				return nil, err
			}
		}
		if word.expect == "" {
			continue
		}
		_, got, err := c.Next()
		if err != nil {
			return nil, fmt.Errorf("greeting: %w", err)
		}
		if !strings.HasPrefix(string(got), word.expect) {
			return nil, fmt.Errorf("greeting: %.60q came instead of %q", got, word.expect)
		}
	}
	return c, nil
}

// next waits for a message, and answers pings on the way.
func next(c *process.Client) ([]byte, error) {
	for {
		op, p, err := c.Next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("nothing came for %v: a message was lost", patience)
		case err != nil:
			return nil, err
		case op == process.OpText:
			return p, nil
		case op != process.OpPing:
			return nil, fmt.Errorf("a frame with opcode %d came: %.60q", op, p)
		}
		if _, err := c.Write(process.Frame(process.OpPong, string(p))); err != nil {
			return nil, err
		}
	}
}

// hasEnded reports whether an error is that of a connection whose server has ended.
func hasEnded(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
