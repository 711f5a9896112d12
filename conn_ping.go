package atrium

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
)

// pings are the Pings of a Conn that wait for their pongs.
type pings struct {
	mu      sync.Mutex // guards:
	waiting []pendingPing
	last    uint64 // number of the latest

	heartbeat pingTimer // of a session's pings, which have no number; not guarded
}

type pendingPing struct {
	number uint64 // its payload
	pong   chan struct{}
}

// Ping sends a ping and waits for its pong (RFC 6455 §5.5.2), until ctx ends or the connection
// closes. Another goroutine must be reading meanwhile; if none is, Ping fails at once with
// ErrNotReading.
func (c *Conn) Ping(ctx context.Context) error {
	if !c.in.reading.Load() {
		return ErrNotReading
	}
	ping := c.pings.add()
	defer c.pings.remove(ping)
	if !c.pushControl(opPing, binary.BigEndian.AppendUint64(nil, ping.number)) {
		return c.out.closedError()
	}
	select {
	case <-ping.pong:
		return nil
	case <-c.out.closed():
		return c.out.closedError()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pushControl queues a ping, without waiting for its pong, or a pong.
func (c *Conn) pushControl(op opcode, payload []byte) (queued bool) {
	queued, wake := c.out.pushControl(op, c.frame(op, payload, false))
	if wake {
		c.wake()
	}
	return queued
}

func (p *pings) add() pendingPing {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	ping := pendingPing{p.last, make(chan struct{})}
	p.waiting = append(p.waiting, ping)
	return ping
}

func (p *pings) remove(ping pendingPing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w pendingPing) bool { return w == ping })
}

// answered ends the wait of the ping that a pong has the payload of, and of those before it,
// because a peer may answer only the latest of several pings (RFC 6455 §5.5.3). A pong without a
// payload answers a heartbeat.
func (p *pings) answered(payload []byte) {
	if len(payload) == 0 {
		p.heartbeat.pong()
	}
	if len(payload) != 8 {
		return
	}
	number := binary.BigEndian.Uint64(payload)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(w pendingPing) bool {
		if w.number > number {
			return false
		}
		close(w.pong)
		return true
	})
}
