package atrium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// inbound is what a Conn has received and not yet returned. All that an interrupted Read leaves
// behind is here, so that the next goes on with it.
type inbound struct {
	reading atomic.Bool // a Read is in progress

	mu       sync.Mutex // held by a Read; guards:
	violated bool       // reading ended because the peer broke a rule
	err      error      // why reading ended, for good

	buf      []byte // buf[r:w] is received and not yet parsed; nil if that is nothing, on the fast path
	r, w     int
	pooled   *[]byte // what buf is, if it belongs to a pool
	lastRead int     // bytes that the last read of the network returned

	// The data frame in progress. Control frames are handled whole.
	frame     frameHeader
	remaining int64 // payload bytes still to come; of a message over the limit, all its bytes that are known of
	inFrame   bool

	// The message in progress.
	op         opcode // opText or opBinary; opContinuation between messages
	compressed bool   // message, which is not in a caller's buf then, is to be inflated
	text       utf8Stream
	message    partial // what has come of it, unmasked
}

// Read waits for the next message and returns it; the slice is the caller's. Pings are answered and
// pongs seen on the way.
//
// If ctx ends first, Read returns its error and nothing is lost: the next Read goes on where this
// one stopped. Any other error ends the connection and is a *CloseError, the same at every later
// call: the peer's code and reason (1005 if it gave none), the code sent to a peer that broke the
// protocol, or 1006 if the network connection ended without a close frame.
func (c *Conn) Read(ctx context.Context) (MessageType, []byte, error) {
	op, p, err := c.read(ctx, nil)
	return MessageType(op), p, err
}

// ReadInto is Read, but puts the message into buf[:0], growing it if it is too small, and returns
// it. With a large enough buf and a context that cannot be cancelled it does not allocate.
func (c *Conn) ReadInto(ctx context.Context, buf []byte) (MessageType, []byte, error) {
	op, p, err := c.read(ctx, buf)
	return MessageType(op), p, err
}

func (c *Conn) read(ctx context.Context, buf []byte) (op opcode, p []byte, err error) {
	c.in.mu.Lock()
	c.in.reading.Store(true)
	op, p, owned, err := c.readMessage(ctx, buf)
	if err == nil && !owned {
		p = copyInto(buf, p)
	}
	c.readDone(err != nil)
	return op, p, err
}

// copyInto returns a copy of p in buf[:0], or of its own if buf is nil.
func copyInto(buf, p []byte) []byte {
	if buf == nil {
		buf = make([]byte, 0, len(p))
	}
	return append(buf[:0], p...)
}

// readDone ends a read. An empty read buffer goes back to the pool.
func (c *Conn) readDone(failed bool) {
	in := &c.in
	if in.r == in.w && c.out.fast != nil {
		in.release()
	}
	in.reading.Store(false)
	ended := in.err != nil
	c.noteMoreInput(!ended && in.r < in.w)
	if failed && !ended && in.op != opContinuation && !in.compressed {
		in.message.head = bytes.Clone(in.message.head) // it was begun in the caller's buf
	}
	in.mu.Unlock()
	if ended {
		// The rest of the closing takes its time, which the caller need not wait for.
		go c.finish()
	}
}

// readMessage reads one message. One that came in one frame and one piece is returned where it lies
// in the read buffer, valid until the next call; any other is collected in buf[:0], which grows
// with the bytes that were really received, and belongs to the caller (owned). So does a compressed
// one, which is inflated into buf[:0].
//
// If it returns an error that is not ctx's, in.err is set and the connection is closing.
func (c *Conn) readMessage(ctx context.Context, buf []byte) (op opcode, p []byte, owned bool, err error) {
	for {
		op, p, owned, err = c.nextMessage(buf)
		switch {
		case err != nil:
		case op == opContinuation:
			err = c.fill(ctx)
		case op.control():
			err = c.control(op, p)
		default:
			return op, p, owned, nil
		}
		if err != nil {
			return 0, nil, false, err
		}
	}
}

// nextMessage returns the next message as readMessage does, a control frame ahead of it, or
// opContinuation if not all of either has come. To handle the control frame is the caller's: an
// answer is written from a stack that is shallow enough for the 2 KB that one begins with.
func (c *Conn) nextMessage(buf []byte) (op opcode, p []byte, owned bool, err error) {
	in := &c.in
	if in.err != nil {
		return 0, nil, false, in.err
	}
	for {
		if in.inFrame {
			if err := c.collect(); err != nil || in.inFrame {
				return opContinuation, nil, false, err
			}
			if in.frame.Fin {
				return c.collected(buf)
			}
		}
		h, n, err := parseHeader(in.buf[in.r:in.w])
		if err == nil && n > 0 {
			err = c.checkHeader(h)
		}
		if err != nil {
			return 0, nil, false, c.fail(err)
		}
		control, whole := h.Opcode.control(), n > 0 && h.Length <= int64(in.w-in.r-n)
		if n == 0 || control && !whole {
			return opContinuation, nil, false, nil
		}
		if !control && (!whole || !h.Fin || in.op != opContinuation) {
			in.beginFrame(h, n, buf)
			continue
		}
		// A control frame or, the most common case, a message in one frame, all of which is here.
		in.r += n
		p = in.buf[in.r : in.r+int(h.Length)]
		in.r += len(p)
		if h.Masked {
			mask(p, h.Key, 0)
		}
		if in.op == opContinuation {
			c.partialSince.Store(0)
		}
		switch {
		case h.Rsv1:
			return c.inflated(h.Opcode, p, buf)
		case h.Opcode == opText && !utf8.Valid(p):
			return 0, nil, false, c.fail(errNotUTF8)
		}
		return h.Opcode, p, false, nil
	}
}

// beginFrame begins to collect a data frame, and a message if it is the first of one.
func (in *inbound) beginFrame(h frameHeader, n int, buf []byte) {
	in.r += n
	in.inFrame, in.frame, in.remaining = true, h, h.Length
	if h.Opcode == opContinuation {
		return
	}
	in.op, in.compressed, in.text, in.message = h.Opcode, h.Rsv1, utf8Stream{}, partial{head: buf[:0]}
	if in.compressed {
		in.message.head = nil
	}
}

// collect moves what has come of the frame in progress from the read buffer to the message. If that
// is all, the frame is not in progress any more.
func (c *Conn) collect() error {
	in := &c.in
	piece := in.buf[in.r:in.w]
	piece = piece[:min(int64(len(piece)), in.remaining)]
	in.r += len(piece)
	in.inFrame = int64(len(piece)) < in.remaining
	if err := c.checkPiece(piece); err != nil {
		return err
	}
	in.message.add(piece)
	return nil
}

// collected returns the message that was collected.
func (c *Conn) collected(buf []byte) (op opcode, p []byte, owned bool, err error) {
	in := &c.in
	op, p = in.op, in.message.join()
	in.op = opContinuation
	c.partialSince.Store(0)
	switch {
	case in.compressed:
		in.compressed = false
		return c.inflated(op, p, buf)
	case op == opText && !in.text.complete():
		return 0, nil, false, c.fail(errNotUTF8)
	case p == nil:
		p = []byte{}
	}
	return op, p, true, nil
}

// checkHeader validates a header against the state of the current message.
func (c *Conn) checkHeader(h frameHeader) error {
	in := &c.in
	err := h.check(frameRules{fromClient: !c.client, fragmented: in.op != opContinuation, deflate: c.compression.agreed()})
	if err != nil || h.Opcode.control() {
		return err
	}
	limit := c.readLimit.Load()
	if h.Rsv1 || in.compressed {
		limit = compressedLimit(limit)
	}
	if h.Length > limit-int64(in.message.size()) {
		in.remaining = int64(min(uint64(h.Length)+uint64(in.message.size()), math.MaxInt64)) // for the log
		return tooBig(h, in.message.size(), c.readLimit.Load())
	}
	return nil
}

// tooBig returns the error of a message that is over the limit with a frame of header h behind the
// bytes received. It says how long the message is, as far as its headers tell.
func tooBig(h frameHeader, received int, limit int64) *CloseError {
	atLeast := ""
	if !h.Fin {
		atLeast = "at least "
	}
	return &CloseError{Code: StatusMessageTooBig, Reason: fmt.Sprintf(
		"a message of %s%d bytes is over the limit of %d", atLeast, uint64(h.Length)+uint64(received), limit)}
}

// inflated returns a compressed message, all of which has come.
func (c *Conn) inflated(op opcode, compressed, buf []byte) (_ opcode, p []byte, owned bool, err error) {
	p, err = inflate(buf[:0], compressed, c.readLimit.Load(), op == opText)
	if err != nil {
		return 0, nil, false, c.fail(err)
	}
	if p == nil {
		p = []byte{}
	}
	return op, p, true, nil
}

// checkPiece unmasks and checks a piece of the frame in progress that has just come.
func (c *Conn) checkPiece(piece []byte) error {
	in := &c.in
	if in.frame.Masked {
		mask(piece, in.frame.Key, int((in.frame.Length-in.remaining)&3))
	}
	in.remaining -= int64(len(piece))
	if in.op == opText && !in.compressed && !in.text.valid(piece) {
		return c.fail(errNotUTF8)
	}
	return nil
}

// fill waits for more bytes. Little is on the stack meanwhile, so that a goroutine that waits here
// keeps the 2 KB that it began with.
func (c *Conn) fill(ctx context.Context) error {
	p, ofMessage := c.place()
	n, err := c.receive(ctx, p)
	switch {
	case !ofMessage:
		c.in.w += n
	case err == nil:
		c.in.message.extend(n)
		err = c.checkPiece(p[:n])
	}
	return err
}

// place returns where the next bytes go. Those of a payload go straight into the message if as many
// are missing as a read buffer takes, and the message has room for that, or has brought as much;
// all others into the read buffer, which then may catch the following frames as well. On the fast
// path, if that is empty, place is nil: the bytes bring their own.
func (c *Conn) place() (p []byte, ofMessage bool) {
	in := &c.in
	size := smallBuffer
	if c.out.fast != nil {
		size, _ = bufferSize(in.wanted())
	}
	have := in.message.size()
	if in.inFrame && in.remaining >= int64(size) && max(cap(in.message.head)-have, have) >= size {
		room := in.message.room()
		return room[:min(int64(len(room)), in.remaining)], true
	}
	if in.r == in.w && c.out.fast != nil {
		return nil, false
	}
	// Nothing that is waited for in the buffer is longer than a control frame.
	left := in.buf[in.r:in.w]
	if len(in.buf) != smallBuffer {
		pooled := acquireBuffer(smallBuffer)
		n := copy(*pooled, left)
		in.release()
		in.buf, in.pooled, in.w = *pooled, pooled, n
	} else if in.r > 0 {
		in.r, in.w = 0, copy(in.buf, left)
	}
	return in.buf[in.w:], false
}

// wanted returns how much the next read should ask for: after a large read more may follow. What a
// peer can have the reader hold is in proportion to what it sends.
func (in *inbound) wanted() int { return 4 * in.lastRead }

// release gives the read buffer, which is empty, back to the pool.
func (in *inbound) release() {
	releaseBuffer(in.pooled)
	in.buf, in.pooled, in.r, in.w = nil, nil, 0, 0
}

// receive waits for at least one byte from the network and puts what comes into p or, if p is nil,
// into a pooled buffer that becomes in.buf. On the fast path an empty read buffer goes back to the
// pool before the wait. It returns the error of ctx, after which reading may go on, or one that
// ends the connection.
func (c *Conn) receive(ctx context.Context, p []byte) (n int, err error) {
	if c.in.r == c.in.w && c.out.fast != nil {
		c.in.release()
	}
	if c.in.op != opContinuation || c.in.w > c.in.r {
		c.partialSince.CompareAndSwap(0, nanotime())
	}
	c.noteMoreInput(false)
	var interrupted <-chan struct{}
	var stop func() bool
	if ctx.Done() != nil {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		interrupted, stop = c.interruptRead(ctx)
	}
	for n == 0 && err == nil { // neither is allowed by io.Reader, if discouraged
		if c.out.fast != nil {
			var pooled *[]byte
			n, pooled, err = c.fast.wait(p, c.in.wanted())
			if pooled != nil {
				c.in.buf, c.in.pooled = *pooled, pooled
			}
		} else {
			n, err = c.nc.Read(p)
		}
	}
	if stop != nil && !stop() {
		<-interrupted
		_ = c.nc.SetReadDeadline(time.Time{}) // its error is left to the next read
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, ctx.Err()
		}
	}
	if n == 0 {
		return 0, c.readFailed(err)
	}
	c.reads.Add(1)
	c.received.bytes.Add(uint64(n))
	c.in.lastRead = n
	return n, nil // an error that came along comes again
}

// interruptRead has the end of ctx set a read deadline that has passed, and then close interrupted,
// unless stop comes first and reports true.
func (c *Conn) interruptRead(ctx context.Context) (interrupted <-chan struct{}, stop func() bool) {
	done := make(chan struct{})
	return done, context.AfterFunc(ctx, func() {
		_ = c.nc.SetReadDeadline(longAgo) // its error is left to the read
		close(done)
	})
}

// readFailed ends reading because the network connection has failed or was cut, and returns the
// error of all Reads.
func (c *Conn) readFailed(err error) error {
	if cut := c.out.closedBy().why(); cut != nil {
		err = cut
	}
	c.in.err = &CloseError{Code: StatusAbnormalClosure, Err: err}
	c.state.CompareAndSwap(int32(StateOpen), int32(StateClosing)) // no closing handshake is possible
	c.out.stop(err)
	return c.in.err
}

// control handles a whole control frame. An error ends the connection.
func (c *Conn) control(op opcode, payload []byte) error {
	switch op {
	case opPing:
		// RFC 6455 §5.5.3: a pong has the application data of its ping.
		c.pushControl(opPong, payload)
	case opPong:
		c.pings.answered(payload)
	case opClose:
		code, reason, err := parseClosePayload(payload)
		if err != nil {
			return c.fail(err)
		}
		c.in.err = &CloseError{Code: code, Reason: reason}
		c.in.r = c.in.w // RFC 6455 §1.4: what follows a close frame is discarded
		c.peerEnded.Store(true)
		c.beginClose(code, reason, answerPeer)
		return c.in.err
	}
	return nil
}

// fail ends reading because the peer broke a rule, and begins to close the connection with the
// status code of err.
func (c *Conn) fail(err error) error {
	c.in.err, c.in.violated = err, true
	c.in.message = partial{}
	c.peerEnded.Store(true)
	code, reason := StatusProtocolError, ""
	if e, ok := errors.AsType[*CloseError](err); ok {
		code, reason = e.Code, e.Reason
	}
	c.beginClose(code, reason, answerPeer)
	return err
}
