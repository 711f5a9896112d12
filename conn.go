package atrium

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a WebSocket connection (RFC 6455), made by Upgrade or Dial: a good connection by itself, for those who need no
// Hub.
//
// Messages go in and out whole. Read must be called all the time, because pings are answered, pongs seen and the
// closing handshake is done where the connection is read. Write queues: what is queued leaves in order, ahead of
// it only pings and pongs, behind it the close frame. A context bounds the wait of one call and never harms the
// connection.
//
// Read and ReadInto are for one goroutine at a time; all other methods may be called from any goroutine at any
// time.
type Conn struct {
	nc          net.Conn
	subprotocol string
	compression compression
	out         outbox
	readLimit   atomic.Int64
	state       atomic.Int32
	client      bool // this end is the client: it masks, and expects no masks
	// closeTimeout bounds how long what is queued may take to leave when the connection is closed.
	closeTimeout time.Duration

	// What a heartbeat looks at, written by whoever reads.
	reads        atomic.Uint32 // successful reads of the network
	partialSince atomic.Int64  // nanotime since when an unfinished message is waited for; 0: there is none
	reading      atomic.Bool   // a Read is in progress
	answering    atomic.Bool   // the peer has sent its close frame, or broken the protocol

	handler   messageHandler // for whom serve reads; nil if it is the application that calls Read
	moreInput atomic.Bool    // the reader has more input at hand

	readMu sync.Mutex // held by a Read; guards in
	in     inbound

	finishing sync.Once

	pingMu sync.Mutex // guards:
	pings  []pendingPing
	pinged uint64 // the payload of the latest Ping

	fast fastIO // the fast path's part; without use on the portable path
}

const (
	// defaultReadLimit is what a message may have unless an option says otherwise, in bytes.
	defaultReadLimit = 1 << 20
	// defaultMaxQueued is an outbox's bound unless an option says otherwise, in bytes.
	defaultMaxQueued = 4 << 20
)

// connConfig is what Upgrade, Dial and the Hub decide about a Conn.
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

// NetConn returns the connection below, for its addresses. To read, write, close or set deadlines there breaks
// the WebSocket connection.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Write queues one message, op being OpText or OpBinary, and returns without waiting for the network. If the
// queue is full (MaxQueuedBytes of UpgradeOptions or DialOptions), Write waits for room until ctx ends.
//
// A nil error means queued, in the order of the calls; an error from ctx means that nothing was queued; any
// other error matches ErrClosed. Text must be UTF-8, which is the caller's to see to. Write does not keep p.
//
// If compression was agreed on, a message of at least Compression.Threshold bytes is compressed before it is queued,
// and sent so if that makes it smaller.
func (c *Conn) Write(ctx context.Context, op Opcode, p []byte) error {
	return c.write(ctx, op, p, len(p) >= int(c.compression.threshold))
}

// WriteCompress is Write for a message of which the caller knows better whether to compress it: false, for example,
// for one that holds a secret beside what somebody else has written, or is compressed already; true whatever its
// size. A message that would not become smaller, or to a peer with whom compression was not agreed on, is sent as
// it is.
func (c *Conn) WriteCompress(ctx context.Context, op Opcode, p []byte, compress bool) error {
	return c.write(ctx, op, p, compress)
}

func (c *Conn) write(ctx context.Context, op Opcode, p []byte, compress bool) error {
	if op != OpText && op != OpBinary {
		return errMessageOpcode
	}
	if err := c.out.waitForRoom(ctx); err != nil {
		return err
	}
	h := c.header(op)
	var frame []byte
	if compress {
		frame = c.compression.frame(h, p)
	}
	if frame == nil {
		frame = wholeFrame(h, p)
	}
	verdict, wake := c.out.push(frame, forWriter)
	if wake {
		c.wake()
	}
	if verdict == refused {
		return c.out.closedError()
	}
	return nil
}

// frame returns a whole frame with a copy of p, masked if this end is the client.
func (c *Conn) frame(op Opcode, p []byte) []byte { return wholeFrame(c.header(op), p) }

// header returns what the header of a whole frame begins with, and a mask if this end is the client.
func (c *Conn) header(op Opcode) Header {
	h := Header{Fin: true, Opcode: op}
	if c.client {
		h.Masked, h.Key = true, newMaskKey()
	}
	return h
}

// maskKeys are masking keys read ahead, of which those behind used are nobody's yet. To ask the system for each alone
// costs more than to mask a short message.
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

// pendingPing is a Ping that waits for its pong.
type pendingPing struct {
	number uint64
	answer chan struct{}
}

// Ping sends a ping and waits for its pong (RFC 6455 §5.5.2), until ctx ends or the connection closes. Somebody
// else must be reading meanwhile; if nobody is, Ping fails at once with ErrNotReading.
func (c *Conn) Ping(ctx context.Context) error {
	if !c.reading.Load() {
		return ErrNotReading
	}
	c.pingMu.Lock()
	c.pinged++
	ping := pendingPing{c.pinged, make(chan struct{})}
	c.pings = append(c.pings, ping)
	c.pingMu.Unlock()
	defer c.forgetPings(func(p pendingPing) bool { return p.number == ping.number })

	var payload [8]byte
	binary.BigEndian.PutUint64(payload[:], ping.number)
	if !c.queuePing(payload[:]) {
		return c.out.closedError()
	}
	select {
	case <-ping.answer:
		return nil
	case <-c.out.closed():
		return c.out.closedError()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queuePing queues a ping without waiting for its pong.
func (c *Conn) queuePing(payload []byte) bool {
	queued, wake := c.out.pushPing(c.frame(OpPing, payload))
	if wake {
		c.wake()
	}
	return queued
}

// ponged releases the Pings that a received pong answers: its own, and the earlier ones, because a peer may
// answer only the latest of several pings (RFC 6455 §5.5.3).
func (c *Conn) ponged(payload []byte) {
	if len(payload) != 8 {
		return
	}
	number := binary.BigEndian.Uint64(payload)
	c.forgetPings(func(p pendingPing) bool {
		if p.number > number {
			return false
		}
		close(p.answer)
		return true
	})
}

func (c *Conn) forgetPings(forget func(pendingPing) bool) {
	c.pingMu.Lock()
	defer c.pingMu.Unlock()
	kept := c.pings[:0]
	for _, p := range c.pings {
		if !forget(p) {
			kept = append(kept, p)
		}
	}
	clear(c.pings[len(kept):])
	c.pings = kept
}
