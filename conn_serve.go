package atrium

import (
	"context"
	"runtime"
)

// messageHandler is for whom Conn.serve reads: a session of a Hub, or a link of a Client.
type messageHandler interface {
	// receive handles one message; p is valid until it returns. opContinuation stands for control
	// frames that no message came with. An error ends the reading.
	receive(op opcode, p []byte) error
	// claimed returns the inbox of the last event that has come, if the goroutine that has read it
	// is to handle it; the reading goes on in another.
	claimed() inbox
	// readEnded is called last, when reading has ended.
	readEnded()
	// moreEvents reports whether events wait behind the one that is being handled.
	moreEvents() bool
}

// inbox is a queue with events, which run has handled; nil is none.
type inbox interface{ run() }

// maxTurn is how many messages a goroutine handles before it lets others run. One that starts
// another, or lets another go on, hands it the processor and the rest of its time: so a client that
// sends as fast as it can, whose reading and handling start and wake each other all the time, would
// keep the processor from all who send a message now and then.
const maxTurn = 64

// serve reads the connection for its handler until it ends.
//
// It waits with next to nothing on its stack. To handle a message takes more than the 2 KB that a
// stack begins with, and one that has grown does not shrink below 4 KB again; so serve goes on as a
// new goroutine before it waits. That costs 0.6 µs a wake-up, and saves half of an idle
// connection's stack. The old one, whose stack has grown, handles the event that came last: the
// common case of one event needs no third.
func (c *Conn) serve() {
	if c.await() == nil && c.handleInput() == nil {
		inbox := c.handler.claimed()
		go c.serve()
		if inbox != nil {
			inbox.run()
		}
		return
	}
	c.handler.readEnded()
}

// await waits until there is input to handle. It makes only a few small calls below itself. If the
// peer had sent more already, so that there was no wait, it lets others run first: see maxTurn.
func (c *Conn) await() error {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if c.in.err != nil || c.in.r < c.in.w {
		return c.in.err
	}
	err := c.fill(context.Background())
	if !c.fast.waited {
		runtime.Gosched()
	}
	return err
}

// handleInput handles all that was received.
func (c *Conn) handleInput() error {
	growStack()
	for handled := 1; ; handled++ {
		op, p, err := c.readHere()
		if err == nil {
			err = c.handler.receive(op, p)
		}
		if err != nil || c.in.r == c.in.w {
			return err
		}
		if handled%maxTurn == 0 {
			runtime.Gosched()
		}
	}
}

// readHere is Read for serve: p is valid until the next call. If control frames were all there was
// at hand, it does not wait for more, but returns opContinuation.
func (c *Conn) readHere() (op opcode, p []byte, err error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	in := &c.in
	for {
		op, p, _, err = c.nextMessage(nil)
		switch {
		case err != nil:
		case op.control():
			err = c.control(op, p)
		case op == opContinuation && (in.r < in.w || in.op != opContinuation):
			err = c.fill(context.Background())
		default:
			c.noteMoreInput(in.r < in.w)
			return op, p, nil
		}
		if err != nil {
			c.noteMoreInput(false)
			return 0, nil, err
		}
	}
}

// wake has what is queued written, without waiting for the network. It is called without locks.
//
// While more frames are expected, because the reader has more input at hand or the handler more
// events, a write now would be one too many. It is deferred, so that they leave together, to a
// goroutine of its own, unless whoever queues the last of them comes first: 16 messages that
// arrived together are then answered at 1.3 to 1.75 times the cost of one read and one write; a
// write for each costs 9 times that (measured).
func (c *Conn) wake() {
	if c.out.fast != nil && (c.moreInput.Load() || c.handler != nil && c.handler.moreEvents()) {
		c.out.wakeLater()
	} else {
		c.out.wake()
	}
}

// noteMoreInput notes whether the reader has more input at hand, for wake.
func (c *Conn) noteMoreInput(more bool) {
	if c.moreInput.Load() != more {
		c.moreInput.Store(more)
	}
}
