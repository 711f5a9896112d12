package main

import (
	"errors"
	"fmt"
	"io"
	"net"
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
	connections() int // at a time
	// waits returns how long the operations of the last round took, each as its client saw it, or
	// nothing.
	waits() []time.Duration
}

// A place is a server as clients see it.
type place struct {
	*process.Server
	dialect
	isTLS      bool
	dialer     net.Dialer
	extensions string // of WebSocket, to offer
}

// patience is how long a message may take. One that has not come by then counts as lost.
var patience = 20 * time.Second

// parallel calls f with the numbers below n, some at the same time.
func parallel(n int, f func(i int) error) error {
	var all errgroup.Group
	all.SetLimit(8)
	for i := range n {
		all.Go(func() error { return f(i) })
	}
	return all.Wait()
}

// enter connects a client and greets the server.
func (p place) enter() (*process.Client, error) {
	request := strings.Replace(process.Handshakes["200 bytes"], "/hub", "/hub"+p.query, 1)
	if p.extensions != "" {
		request = strings.Replace(request, "\r\n", "\r\nSec-WebSocket-Extensions: "+p.extensions+"\r\n", 1)
	}
	nc, err := p.Dial(p.dialer, p.isTLS)
	if err != nil {
		return nil, err
	}
	c, err := process.NewClient(nc, request)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(patience))
	for _, word := range p.greeting {
		if word.send != "" {
			if _, err := c.Write(process.Frame(process.OpText, word.send)); err != nil {
				return nil, err
			}
		}
		got, err := next(c, process.OpText)
		if err != nil {
			return nil, fmt.Errorf("greeting: %w", err)
		}
		if !strings.HasPrefix(string(got), word.expect) {
			return nil, fmt.Errorf("greeting: %.60q came instead of %q", got, word.expect)
		}
	}
	return c, nil
}

// leave closes a client's connection, and waits until the server has closed its end.
func leave(c *process.Client) error {
	defer c.Close()
	if _, err := c.Write(process.Frame(process.OpClose, "\x03\xe8")); err != nil {
		return err
	}
	for {
		if _, _, err := c.Next(); hasEnded(err) {
			return nil
		} else if err != nil {
			return fmt.Errorf("closing: %w", err)
		}
	}
}

// next waits for a message of a type, and answers pings on the way.
func next(c *process.Client, messageType process.Opcode) ([]byte, error) {
	for {
		op, p, err := c.Next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, fmt.Errorf("nothing came for %v: a message was lost", patience)
		case err != nil:
			return nil, err
		case op == messageType:
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
