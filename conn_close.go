package atrium

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

const (
	// defaultCloseTimeout bounds how long what is queued when a connection is closed may take to
	// leave, unless an option says otherwise.
	defaultCloseTimeout = 30 * time.Second
	// dropTimeout bounds the same where the queue is dropped: the rest of a frame and the close
	// frame.
	dropTimeout = time.Second
	// answerTimeout bounds the wait for the peer's close frame when ours has left.
	answerTimeout = time.Second
	// lingerTimeout bounds the wait for the peer to close its side of TCP after that.
	lingerTimeout = time.Second
)

// longAgo is a deadline that interrupts a read in progress.
var longAgo = time.Unix(1, 0)

var (
	errNotUTF8     = &CloseError{Code: StatusInvalidPayload, Reason: "a text message is not UTF-8"}
	errMessageType = errors.New("atrium: a message is either MessageText or MessageBinary")
	errCloseCode   = errors.New("atrium: a close code is 1000 to 1003, 1007 to 1014 or 3000 to 4999")
)

// Close performs the closing handshake (RFC 6455 §7): it sends the close frame behind everything
// that was queued, waits for the peer's, reading and discarding messages if nobody else reads, and
// closes the network connection.
//
// What is queued has CloseTimeout to leave (of UpgradeOptions or DialOptions), as long as the peer
// takes it: if the network takes nothing for 5 seconds, the connection is cut earlier. The peer's
// close frame has a second after ours has left, and the peer's end of TCP one more. A CloseNow
// meanwhile ends the wait.
//
// A reason longer than 123 bytes is cut. A code that may not be sent is refused with an error, and
// nothing happens. Close returns nil if all that was queued has left and the handshake was
// completed, and otherwise the error, matching ErrClosed, with which the connection ended.
func (c *Conn) Close(code StatusCode, reason string) error {
	if !code.onWire() {
		return errCloseCode
	}
	began := c.beginClose(code, reason, deliverQueued)
	c.finish()
	if !began {
		return ErrClosed
	}
	if _, _, failure := c.out.progress(); failure != nil {
		return c.out.closedError()
	}
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if e, ok := errors.AsType[*CloseError](c.in.err); ok && e.Code != StatusAbnormalClosure && !c.in.violated {
		return nil
	}
	return c.in.err
}

// CloseNow closes the network connection at once, with no handshake and without what is still
// queued. The peer sees status 1006.
//
// If it is the peer who has ended the connection, by a close frame or by breaking the protocol,
// CloseNow lets what is queued and the close frame that answers leave first, as Close does, and
// does not wait for that: so a deferred CloseNow is right for every end.
func (c *Conn) CloseNow() error {
	if c.peerEnded.Load() {
		return nil // whoever has read that goes on with it
	}
	return c.cut(net.ErrClosed)
}

// cut closes the network connection at once. err says why what is queued is not sent.
func (c *Conn) cut(err error) error {
	c.state.Store(int32(StateClosed))
	c.out.stop(err)
	return c.nc.Close()
}

// closeMode says what becomes of the frames that are queued ahead of the close frame.
type closeMode uint8

const (
	deliverQueued closeMode = iota // they have Conn.closeTimeout to leave
	deliverAll                     // they have as long as the peer takes them; the caller sees to it that there is a bound
	dropQueued                     // they are dropped
	answerPeer                     // as deliverQueued; the caller is the reader, which calls finish next
)

// beginClose queues the close frame and bounds the steps of the closing. It does not wait: the
// closing handshake is done by whoever is reading, or by finish. It reports false if the closing
// had begun already.
func (c *Conn) beginClose(code StatusCode, reason string, mode closeMode) bool {
	if !c.state.CompareAndSwap(int32(StateOpen), int32(StateClosing)) {
		return false
	}
	if mode == dropQueued {
		c.out.abandon()
	}
	frame := c.frame(opClose, appendClosePayload(nil, code, reason), false)
	ending := newEnding(c, mode)
	wake := c.out.pushClose(frame, ending)
	if ending.fin {
		return true // the rest is done by finish, which the reader is about to call
	}
	if wake {
		c.wake()
	}
	ending.watch()
	return true
}

// finish completes a closing that has begun, and closes the network connection. It returns when
// that is done, by this call or another.
func (c *Conn) finish() {
	c.finishing.Do(func() {
		c.in.mu.Lock()
		for c.in.err == nil {
			_, _, _, _ = c.readMessage(context.Background(), nil)
		}
		c.in.release()
		err, violated := c.in.err, c.in.violated
		c.in.mu.Unlock()
		c.out.wake()
		c.out.closedBy().watch()
		<-c.out.closed()
		ending := c.out.closedBy() // there is one by now, even if a Close was in the middle of it before

		if e, ok := errors.AsType[*CloseError](err); ok && e.Code != StatusAbnormalClosure {
			ending.advance(stepLinger, lingerTimeout)
			c.linger(violated)
		}
		_ = c.nc.Close()
		ending.advance(stepOver, 0)
		c.state.Store(int32(StateClosed))
	})
}

// linger lets the peer read what was sent to it: closing a socket with unread input resets the
// connection, and a reset can overtake the close frame. The server closes its side of TCP first,
// the client waits for it (RFC 6455 §7.1.1). unread says that the peer may have sent more than was
// read.
func (c *Conn) linger(unread bool) {
	if !c.client {
		half, ok := c.nc.(interface{ CloseWrite() error })
		if ok && half.CloseWrite() != nil || !ok && !unread {
			return
		}
	}
	for c.discard() == nil { // the peer ends this, or the ending
	}
}

// discard reads from the network, and drops what comes.
func (c *Conn) discard() error {
	if c.out.fast == nil {
		_, err := c.nc.Read(make([]byte, 256))
		return err
	}
	_, pooled, err := c.fast.wait(nil, smallBuffer)
	releaseBuffer(pooled)
	return err
}

// restarts reports whether the peer has closed the connection because it restarts.
func (c *Conn) restarts() bool {
	e, ok := errors.AsType[*CloseError](c.in.err)
	return ok && !c.in.violated && e.Code == StatusServiceRestart
}

// endReason returns the reason of a connection whose reading has ended with an error.
func (c *Conn) endReason() Reason {
	e, ok := errors.AsType[*CloseError](c.in.err)
	switch {
	case ok && c.in.violated && e.Code == StatusMessageTooBig:
		return ReasonMessageTooBig
	case !ok || c.in.violated:
		return ReasonTransportError
	case e.Code != StatusAbnormalClosure, errors.Is(e, io.EOF):
		// A close frame, or a cut, which is how many clients leave.
		return ReasonTransportClose
	}
	return ReasonTransportError
}
