package atrium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

// readBufferSize is what one read of the network asks for.
const readBufferSize = 4096

var readBuffers = sync.Pool{New: func() any { return new([readBufferSize]byte) }}

// inbound is what a Conn knows of the bytes it has received and not yet returned. Everything that could be
// interrupted is kept here, so that a Read whose context ended can be resumed by the next.
type inbound struct {
	buf    []byte // buf[r:w] is received and not yet looked at; nil when nothing is, on the fast path
	r, w   int
	pooled *[readBufferSize]byte // what buf is, if it is to be given back

	// The data frame in progress. Control frames are dealt with whole.
	frame     Header
	remaining int64 // payload bytes still to come
	inFrame   bool

	// The message in progress.
	op         Opcode // OpText or OpBinary; OpContinuation between messages
	text       utf8Stream
	message    []byte // what came of it so far, unmasked
	compressed bool   // message, which is not in a caller's buf then, is to be inflated

	here     bool  // it is readHere that reads
	violated bool  // reading ended because the peer broke a rule
	err      error // how it ended, for good
}

func (in *inbound) buffered() []byte { return in.buf[in.r:in.w] }

// Read waits for the next message and returns it; the slice is the caller's. Pings are answered and pongs seen
// on the way.
//
// If ctx ends first, Read returns its error and nothing is lost: the next Read goes on where this one stopped.
// Any other error ends the connection and is a *CloseError, the same at every later call: the peer's code and
// reason (1005 if it gave none), the code sent to a peer that broke the protocol, or 1006 if the network
// connection ended without a close frame.
func (c *Conn) Read(ctx context.Context) (Opcode, []byte, error) {
	return c.read(ctx, nil)
}

// ReadInto is Read, but puts the message into buf[:0], growing it if it is too small, and returns it. With a
// large enough buf and a context that cannot be cancelled it does not allocate.
func (c *Conn) ReadInto(ctx context.Context, buf []byte) (Opcode, []byte, error) {
	return c.read(ctx, buf)
}

func (c *Conn) read(ctx context.Context, buf []byte) (op Opcode, p []byte, err error) {
	c.readMu.Lock()
	c.reading.Store(true)
	op, p, owned, err := c.readMessage(ctx, buf)
	switch {
	case err != nil || owned:
	case buf == nil:
		p = append(make([]byte, 0, len(p)), p...)
	default:
		p = append(buf[:0], p...)
	}
	c.reading.Store(false)
	ended := c.in.err != nil
	c.noteMoreInput(!ended && c.in.r < c.in.w)
	if err != nil && !ended && c.in.op != OpContinuation && !c.in.compressed {
		c.in.message = bytes.Clone(c.in.message) // it was begun in the caller's buf
	}
	c.readMu.Unlock()
	if ended {
		// The rest of the closing takes its time, which the caller need not wait for.
		go c.finish()
	}
	return op, p, err
}

// readMessage reads one message. A message that came in one frame and one piece is returned where it lies in
// the read buffer, valid until the next call; any other is collected in buf[:0], which grows with the bytes that
// were really received, and is the caller's (owned). So is a compressed one, which is inflated into buf[:0].
//
// When it returns an error that is not ctx's, in.err is set and the connection is closing.
func (c *Conn) readMessage(ctx context.Context, buf []byte) (op Opcode, p []byte, owned bool, err error) {
	in := &c.in
	if in.err != nil {
		return 0, nil, false, in.err
	}
	if in.op == OpContinuation {
		in.message = buf[:0]
	}
	for {
		if !in.inFrame {
			h, n, err := ParseHeader(in.buffered())
			if err == nil && n > 0 {
				err = c.judge(h)
			}
			if err != nil {
				return 0, nil, false, c.fail(err)
			}
			whole := n > 0 && h.Length <= int64(in.w-in.r-n)
			switch {
			case whole && (h.Opcode.control() || h.Fin && in.op == OpContinuation):
				// The common case: all of it lies in the buffer.
				payload := in.buf[in.r+n : in.r+n+int(h.Length)]
				in.r += n + len(payload)
				if h.Masked {
					Mask(payload, h.Key, 0)
				}
				if h.Opcode.control() {
					if in.op == OpContinuation {
						c.partialSince.Store(0)
					}
					if err := c.control(h.Opcode, payload); err != nil {
						return 0, nil, false, err
					}
					continue
				}
				c.partialSince.Store(0)
				if h.Rsv1 {
					return c.inflated(h.Opcode, payload, buf)
				}
				if h.Opcode == OpText && !utf8.Valid(payload) {
					return 0, nil, false, c.fail(errNotUTF8)
				}
				return h.Opcode, payload, false, nil
			case n == 0 || h.Opcode.control():
				if in.here && in.r == in.w && in.op == OpContinuation {
					return OpContinuation, nil, false, nil
				}
				if err := c.fill(ctx); err != nil {
					return 0, nil, false, err
				}
				continue
			}
			in.r += n
			in.inFrame, in.frame, in.remaining = true, h, h.Length
			if h.Opcode != OpContinuation {
				in.op = h.Opcode
				in.text = utf8Stream{}
				if h.Rsv1 {
					in.compressed, in.message = true, nil
				}
			}
		}

		for in.remaining > 0 {
			if in.r == in.w {
				if err := c.fillMessage(ctx); err != nil {
					return 0, nil, false, err
				}
				continue
			}
			piece := in.buffered()
			piece = piece[:min(int64(len(piece)), in.remaining)]
			in.r += len(piece)
			in.message = append(in.message, piece...)
			if err := c.took(len(piece)); err != nil {
				return 0, nil, false, err
			}
		}
		in.inFrame = false
		if in.frame.Fin {
			op, p, compressed := in.op, in.message, in.compressed
			in.op, in.message, in.compressed = OpContinuation, nil, false
			c.partialSince.Store(0)
			switch {
			case compressed:
				return c.inflated(op, p, buf)
			case op == OpText && !in.text.complete():
				return 0, nil, false, c.fail(errNotUTF8)
			case p == nil:
				p = []byte{}
			}
			return op, p, true, nil
		}
	}
}

// judge judges a header by what has come before it.
func (c *Conn) judge(h Header) error {
	in := &c.in
	err := h.check(frameRules{fromClient: !c.client, fragmented: in.op != OpContinuation, deflate: c.compression.agreed()})
	if err != nil || h.Opcode.control() {
		return err
	}
	limit := c.readLimit.Load()
	if h.Rsv1 || in.compressed {
		limit = compressedLimit(limit)
	}
	if h.Length > limit-int64(len(in.message)) {
		return tooBig(h, len(in.message), c.readLimit.Load())
	}
	return nil
}

// tooBig is the error of a message of which received bytes have come and whose next frame is over the limit. It says how
// long the message is, as far as its header tells.
func tooBig(h Header, received int, limit int64) *CloseError {
	atLeast := ""
	if !h.Fin {
		atLeast = "at least "
	}
	return &CloseError{Code: StatusMessageTooBig, Reason: fmt.Sprintf(
		"a message of %s%d bytes is over the limit of %d", atLeast, uint64(h.Length)+uint64(received), limit)}
}

// inflated ends a readMessage with a compressed message, all of which has come.
func (c *Conn) inflated(op Opcode, compressed, buf []byte) (_ Opcode, p []byte, owned bool, err error) {
	p, err = inflate(buf[:0], compressed, c.readLimit.Load(), op == OpText)
	if err != nil {
		return 0, nil, false, c.fail(err)
	}
	if p == nil {
		p = []byte{}
	}
	return op, p, true, nil
}

// took unmasks and checks the last n bytes of in.message, which have just come.
func (c *Conn) took(n int) error {
	in := &c.in
	piece := in.message[len(in.message)-n:]
	if in.frame.Masked {
		Mask(piece, in.frame.Key, int((in.frame.Length-in.remaining)&3))
	}
	in.remaining -= int64(n)
	if in.op == OpText && !in.compressed && !in.text.valid(piece) {
		return c.fail(errNotUTF8)
	}
	return nil
}

// fill waits for more bytes and appends them to the read buffer. On the fast path an empty buffer is given back
// before the wait, and the bytes bring their own.
func (c *Conn) fill(ctx context.Context) error {
	in := &c.in
	if in.r == in.w && c.out.fast != nil {
		in.release()
		n, err := c.receive(ctx, nil)
		in.w = n
		return err
	}
	if in.r > 0 {
		in.w = copy(in.buf, in.buffered())
		in.r = 0
	}
	if in.w == len(in.buf) || len(in.buf) < readBufferSize {
		// Nothing that is waited for in the buffer is longer than a control frame: it is the first use of the
		// buffer, or of one that early bytes filled to the brim.
		grown := make([]byte, max(readBufferSize, 2*len(in.buf)))
		copy(grown, in.buf)
		in.buf = grown
	}
	n, err := c.receive(ctx, in.buf[in.w:])
	in.w += n
	return err
}

// release lets go of the read buffer, which is empty.
func (in *inbound) release() {
	if in.pooled != nil {
		readBuffers.Put(in.pooled)
	}
	in.buf, in.pooled, in.r, in.w = nil, nil, 0, 0
}

// fillMessage waits for bytes of the payload in progress: straight into the message if at least a buffer's worth
// is missing, else into the read buffer, which then may catch the following frames as well.
func (c *Conn) fillMessage(ctx context.Context) error {
	in := &c.in
	if in.remaining < readBufferSize {
		return c.fill(ctx)
	}
	// Memory grows with what was received, not with what a header announced: it at most doubles.
	if cap(in.message)-len(in.message) < readBufferSize {
		room := min(int64(max(readBufferSize, len(in.message))), in.remaining)
		grown := make([]byte, len(in.message), int64(len(in.message))+room)
		copy(grown, in.message)
		in.message = grown
	}
	spare := in.message[len(in.message):cap(in.message)]
	spare = spare[:min(int64(len(spare)), in.remaining)]
	n, err := c.receive(ctx, spare)
	if err != nil {
		return err
	}
	in.message = in.message[:len(in.message)+n]
	return c.took(n)
}

// receive is the one place where a Conn reads its network connection: it waits for at least one byte and puts what
// comes into p or, if p is nil, into a pooled buffer that becomes in.buf. It returns the error of ctx, after which
// reading may go on, or one that ends the connection.
func (c *Conn) receive(ctx context.Context, p []byte) (int, error) {
	if c.in.op != OpContinuation || c.in.w > c.in.r {
		c.partialSince.CompareAndSwap(0, nanotime())
	}
	c.noteMoreInput(false)
	if ctx.Done() != nil {
		return c.receiveUntil(ctx, p)
	}
	n, err := c.readNetwork(p)
	if err != nil {
		err = c.readFailed(err)
	}
	return n, err
}

// receiveUntil is receive with a context that may end: its end sets a read deadline that has passed.
func (c *Conn) receiveUntil(ctx context.Context, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.nc.SetReadDeadline(longAgo) // its error is left to the read
		close(interrupted)
	})
	n, err := c.readNetwork(p)
	if !stop() {
		<-interrupted
		_ = c.nc.SetReadDeadline(time.Time{}) // its error is left to the next read
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, ctx.Err()
		}
	}
	if err != nil {
		err = c.readFailed(err)
	}
	return n, err
}

// readNetwork waits for at least one byte, or an error.
func (c *Conn) readNetwork(p []byte) (n int, err error) {
	for {
		if c.out.fast != nil {
			var pooled *[readBufferSize]byte
			n, pooled, err = c.fast.wait(p)
			if pooled != nil {
				c.in.buf, c.in.pooled = pooled[:], pooled
			}
		} else {
			n, err = c.nc.Read(p)
		}
		if n > 0 {
			c.reads.Add(1)
			return n, nil // an error that came along comes again
		}
		if err != nil {
			return 0, err
		}
		// Nothing and no error is allowed by io.Reader, if discouraged.
	}
}

// readFailed ends reading because the network connection has failed or was cut, and returns the error of all Reads.
func (c *Conn) readFailed(err error) error {
	if cut := c.out.closedBy().why(); cut != nil {
		err = cut
	}
	c.in.err = &CloseError{Code: StatusAbnormalClosure, Err: err}
	c.abort(err)
	return c.in.err
}

// control deals with a whole control frame. Its error, if any, ends the connection.
func (c *Conn) control(op Opcode, payload []byte) error {
	switch op {
	case OpPing:
		// RFC 6455 §5.5.3: a pong has the application data of its ping.
		if c.out.pushPong(c.frame(OpPong, payload)) {
			c.wake()
		}
	case OpPong:
		c.ponged(payload)
	case OpClose:
		code, reason, err := parseClosePayload(payload)
		if err != nil {
			return c.fail(err)
		}
		c.in.err = &CloseError{Code: code, Reason: reason}
		c.in.r = c.in.w // RFC 6455 §1.4: what follows a close frame is discarded
		c.answering.Store(true)
		c.beginClose(code, reason, deliverQueued)
		return c.in.err
	}
	return nil
}

// fail ends reading because the peer broke a rule, and tells it so.
func (c *Conn) fail(err error) error {
	c.in.err, c.in.violated = err, true
	c.in.message = nil
	c.answering.Store(true)
	code, reason := StatusProtocolError, ""
	if e, ok := errors.AsType[*CloseError](err); ok {
		code, reason = e.Code, e.Reason
	}
	c.beginClose(code, reason, deliverQueued)
	return err
}

// utf8Stream checks a text that comes in pieces, and fails at the first byte that no valid text could have there.
type utf8Stream struct {
	tail [utf8.UTFMax]byte // an unfinished rune
	n    uint8
}

// valid reports whether the text can still become valid UTF-8 with p added.
func (u *utf8Stream) valid(p []byte) bool {
	for u.n > 0 && len(p) > 0 {
		u.tail[u.n] = p[0]
		u.n++
		p = p[1:]
		if utf8.FullRune(u.tail[:u.n]) {
			// FullRune is also true of what cannot become a rune any more.
			if r, size := utf8.DecodeRune(u.tail[:u.n]); r == utf8.RuneError && size == 1 {
				return false
			}
			u.n = 0
		}
	}
	// An unfinished rune at the end is at most three bytes and begins at the last byte that can begin one.
	end := len(p)
	for i := len(p) - 1; i >= 0 && i >= len(p)-(utf8.UTFMax-1); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				end = i
			}
			break
		}
	}
	if u.n == 0 {
		u.n = uint8(copy(u.tail[:], p[end:]))
	}
	return utf8.Valid(p[:end])
}

// complete reports whether the text may end here.
func (u *utf8Stream) complete() bool { return u.n == 0 }
