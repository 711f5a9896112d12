package atrium

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// closeTimeout bounds the closing handshake: what is queued leaves, the close frame leaves, the peer's comes.
	closeTimeout = time.Second
	// lingerTimeout bounds the wait for the peer to close its side of TCP after that.
	lingerTimeout = time.Second
)

// longAgo as a deadline interrupts.
var longAgo = time.Unix(1, 0)

var (
	errNotUTF8       = &CloseError{Code: StatusInvalidPayload, Reason: "a text message is not UTF-8"}
	errMessageOpcode = errors.New("atrium: a message is either OpText or OpBinary")
	errCloseCode     = errors.New("atrium: a close code is 1000 to 1003, 1007 to 1014 or 3000 to 4999")
)

// Close performs the closing handshake (RFC 6455 §7): it sends the close frame behind everything that was queued,
// waits for the peer's, reading and discarding messages if nobody else reads, and closes the network connection.
// It gives that a second, and the peer's end of TCP one more.
//
// A reason longer than 123 bytes is cut. A code that may not be sent is refused with an error, and nothing
// happens. Close returns nil if the handshake was completed, and otherwise the error, matching ErrClosed, with
// which the connection ended.
func (c *Conn) Close(code StatusCode, reason string) error {
	if !code.onWire() {
		return errCloseCode
	}
	began := c.beginClose(code, reason, deliverQueued)
	c.finish()
	if !began {
		return ErrClosed
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if e, ok := errors.AsType[*CloseError](c.in.err); ok && e.Code != StatusAbnormalClosure && !c.in.violated {
		return nil
	}
	return c.in.err
}

// CloseNow closes the network connection at once, with no handshake and without what is still queued. The peer
// sees status 1006. If the peer has begun the closing handshake, CloseNow lets the answer leave first, and does not
// wait for that: so a deferred CloseNow is right for every end.
func (c *Conn) CloseNow() error {
	if c.answering.Load() {
		go c.finish()
		return nil
	}
	c.state.Store(int32(StateClosed))
	c.out.stop(net.ErrClosed)
	return c.nc.Close()
}

// What beginClose does with frames that are queued ahead of the close frame.
const (
	deliverQueued = false
	dropQueued    = true
)

// beginClose queues the close frame and sets the deadlines of the closing handshake. It does not wait; it is
// finish that sees the handshake through, or whoever is reading. It reports whether the closing had not begun yet.
func (c *Conn) beginClose(code StatusCode, reason string, drop bool) bool {
	if !c.state.CompareAndSwap(int32(StateOpen), int32(StateClosing)) {
		return false
	}
	by := time.Now().Add(closeTimeout)
	c.deadlineMu.Lock()
	c.closeBy = by
	c.setReadDeadline()
	c.deadlineMu.Unlock()
	_ = c.nc.SetWriteDeadline(by) // finish closes a connection that knows no deadlines
	if drop {
		c.out.abandon()
	}
	if c.out.pushClose(c.frame(OpClose, appendClosePayload(nil, code, reason))) {
		c.out.wake()
	}
	return true
}

// abort is for a network connection that has failed: there is nobody to shake hands with.
func (c *Conn) abort(err error) {
	c.state.CompareAndSwap(int32(StateOpen), int32(StateClosing))
	c.out.stop(err)
}

// finish sees a begun closing through and closes the network connection. It returns when that is done, whoever
// does it. It takes at most closeTimeout and lingerTimeout.
func (c *Conn) finish() {
	c.finishing.Do(func() {
		// The deadlines below do their work on any good net.Conn; this is for the others.
		backstop := time.AfterFunc(closeTimeout+2*lingerTimeout, func() { c.nc.Close() })
		defer backstop.Stop()

		c.readMu.Lock()
		for c.in.err == nil {
			_, _, _, _ = c.readMessage(context.Background(), nil)
		}
		c.in.release()
		err, violated := c.in.err, c.in.violated
		c.readMu.Unlock()
		<-c.out.closed()

		if e, ok := errors.AsType[*CloseError](err); ok && e.Code != StatusAbnormalClosure {
			c.linger(violated)
		}
		_ = c.nc.Close()
		c.state.Store(int32(StateClosed))
	})
}

// linger lets the peer read what was sent to it: closing a socket with unread input resets the connection, and a
// reset can overtake the close frame. The server closes its side of TCP first, the client waits for it
// (RFC 6455 §7.1.1). unread says that the peer may have sent more than was read.
func (c *Conn) linger(unread bool) {
	by := time.Now().Add(lingerTimeout)
	c.deadlineMu.Lock()
	c.closeBy = by
	c.setReadDeadline()
	c.deadlineMu.Unlock()
	_ = c.nc.SetWriteDeadline(by)
	if !c.client {
		half, ok := c.nc.(interface{ CloseWrite() error })
		if ok && half.CloseWrite() != nil || !ok && !unread {
			return
		}
	}
	// The deadline, or the peer, ends this.
	_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c.nc}, make([]byte, 256))
}
