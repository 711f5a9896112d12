package atrium

import (
	"cmp"
	"context"
	"crypto/rand"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a WebSocket connection (RFC 6455), made by Upgrade or Dial. It can be used without a Hub.
//
// Messages go in and out whole. Read must be called all the time, because pings are answered, pongs
// seen and the closing handshake is done where the connection is read. Write queues: what is queued
// leaves in order, ahead of it only pings and pongs, behind it the close frame. A context bounds
// the wait of one call and never harms the connection.
//
// Read and ReadInto are for one goroutine at a time; all other methods may be called from any
// goroutine at any time.
type Conn struct {
	// First what each frame that is sent needs: a broadcast finds none of it in the processor's
	// caches, and these are few lines of it.
	compression compression
	out         outbox
	moreInput   atomic.Bool // the reader has more input at hand
	finishing   sync.Once
	handler     messageHandler // for whom serve reads; nil if it is the application that calls Read
	fast        fastIO         // the fast path's part; without use on the portable path

	nc          net.Conn
	subprotocol string
	readLimit   atomic.Int64
	state       atomic.Int32
	client      bool // this end is the client: it masks, and expects no masks
	// closeTimeout bounds how long what is queued may take to leave when the connection is closed.
	closeTimeout time.Duration

	progress              // of the reading
	peerEnded atomic.Bool // the peer has sent its close frame, or broken the protocol
	in        inbound
	pings     pings
}

// progress is what a heartbeat looks at, and what was received so far. The reader writes it.
type progress struct {
	reads        atomic.Uint32 // successful reads of the network
	partialSince atomic.Int64  // nanotime since when the rest of a message is awaited; 0: none is begun
	received     trafficCount  // the messages are counted by the handler
}

const (
	// defaultReadLimit is what a message may have unless an option says otherwise, in bytes.
	defaultReadLimit = 1 << 20
	// defaultMaxQueued is an outbox's bound unless an option says otherwise, in bytes.
	defaultMaxQueued = 4 << 20
)

// connConfig is what Upgrade, Dial and the Hub configure a Conn with.
type connConfig struct {
	client       bool
	subprotocol  string
	compression  compression
	readLimit    int64         // bytes a message; 0: defaultReadLimit
	maxQueued    int           // bytes in the outbox; 0: defaultMaxQueued
	closeTimeout time.Duration // 0: defaultCloseTimeout
	early        []byte        // received together with the handshake
}

// check returns an error that begins with the name of the option that is negative.
func (c *connConfig) check() error {
	return cmp.Or(negative(c.readLimit, "MaxMessageBytes"), negative(c.maxQueued, "MaxQueuedBytes"), negative(c.closeTimeout, "CloseTimeout"))
}

func newConn(nc net.Conn, config connConfig) *Conn {
	c := &Conn{nc: nc, client: config.client, subprotocol: config.subprotocol, compression: config.compression}
	c.readLimit.Store(cmp.Or(config.readLimit, defaultReadLimit))
	c.closeTimeout = cmp.Or(config.closeTimeout, defaultCloseTimeout)
	c.out.nc, c.out.limit = nc, cmp.Or(config.maxQueued, defaultMaxQueued)
	if len(config.early) > 0 {
		c.in.buf, c.in.w = config.early, len(config.early)
		c.received.bytes.Store(uint64(len(config.early)))
	}
	if c.fast.open(nc) {
		c.out.fast = &c.fast
	}
	c.state.Store(int32(StateOpen))
	return c
}

// Subprotocol returns the subprotocol that the handshake agreed on, or "".
func (c *Conn) Subprotocol() string { return c.subprotocol }

// State returns the connection's state.
func (c *Conn) State() State { return State(c.state.Load()) }

// NetConn returns the connection below, for its addresses. To read, write, close or set deadlines
// there breaks the WebSocket connection.
func (c *Conn) NetConn() net.Conn { return c.nc }

// MessageType says what a message is.
type MessageType uint8

// The two types of messages (RFC 6455 §5.6).
const (
	MessageText   MessageType = 1 // UTF-8
	MessageBinary MessageType = 2 // bytes
)

// String returns "text" or "binary".
func (t MessageType) String() string { return opcode(t).String() }

// Write queues one message and returns without waiting for the network. If the queue is full
// (MaxQueuedBytes of UpgradeOptions or DialOptions), Write waits for room until ctx ends.
//
// A nil error means queued, in the order of the calls; an error from ctx means that nothing was
// queued; any other error matches ErrClosed. Text must be UTF-8, which is the caller's to see to.
// Write does not keep p.
//
// If compression was agreed on, a message of at least Compression.Threshold bytes is compressed
// before it is queued, and sent so if that makes it smaller.
func (c *Conn) Write(ctx context.Context, t MessageType, p []byte) error {
	return c.write(ctx, opcode(t), p, len(p) >= int(c.compression.threshold))
}

// WriteCompress is Write for a message of which the caller knows better whether to compress it:
// false, for example, for one that holds a secret beside what somebody else has written, or is
// compressed already; true whatever its size. A message that would not become smaller, or to a peer
// with whom compression was not agreed on, is sent as it is.
func (c *Conn) WriteCompress(ctx context.Context, t MessageType, p []byte, compress bool) error {
	return c.write(ctx, opcode(t), p, compress)
}

func (c *Conn) write(ctx context.Context, op opcode, p []byte, compress bool) error {
	if op != opText && op != opBinary {
		return errMessageType
	}
	if err := c.out.waitBelow(ctx, 1); err != nil {
		return err
	}
	h, frame := c.header(op), []byte(nil)
	if compress {
		frame = c.compression.frame(h, p)
	}
	var verdict pushResult
	var wake bool
	if frame != nil {
		verdict, wake = c.out.push(frame, forWriter)
	} else {
		verdict, wake = c.out.pushCopy(h, p)
	}
	if wake {
		c.wake()
	}
	if verdict == pushRefused {
		return c.out.closedError()
	}
	return nil
}

// frame returns a whole frame with a copy of p, masked if this end is the client, and compressed if
// compress says so and that makes it smaller.
func (c *Conn) frame(op opcode, p []byte, compress bool) []byte {
	h := c.header(op)
	if compress {
		if frame := c.compression.frame(h, p); frame != nil {
			return frame
		}
	}
	return copyFrame(h, p)
}

// header returns the header of a whole message, with a masking key if this end is the client.
func (c *Conn) header(op opcode) frameHeader {
	h := frameHeader{Fin: true, Opcode: op}
	if c.client {
		h.Masked, h.Key = true, newMaskKey()
	}
	return h
}

// maskKeys are masking keys read ahead: those from used on are still unused. To ask the system for
// each key costs more than to mask a short message.
var maskKeys struct {
	mu   sync.Mutex
	keys [256]byte
	used int
}

// newMaskKey returns a masking key, fresh and unpredictable (RFC 6455 §5.3).
func newMaskKey() (key [4]byte) {
	m := &maskKeys
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used %= len(m.keys); m.used == 0 {
		rand.Read(m.keys[:])
	}
	m.used += copy(key[:], m.keys[m.used:])
	return key
}
