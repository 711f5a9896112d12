package redisbus

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const (
	// maxQueued bounds the bytes that a Bus has waiting to be published, and once more those that are on their way.
	maxQueued = 16 << 20
	// messageOverhead is what a message costs beside its bytes.
	messageOverhead = 128
)

// publisher sends messages in order. One at a time would be one a round trip, so what has been queued while the client was
// busy goes together.
type publisher struct {
	client  redis.UniversalClient
	command string
	bound   int           // of queued
	lost    atomic.Uint64 // messages

	mu      sync.Mutex // guards:
	queue   []*publication
	queued  int           // bytes of queue
	taken   chan struct{} // closed when the queue is taken; nil if nobody waits for that
	sending bool          // the goroutine exists
	failing bool          // the last that was sent failed
}

// publication is a message to be sent.
type publication struct {
	channel string
	msg     []byte
	ctx     context.Context // of a Publish that waits: if it has ended, the message is not sent. Nil if none waits
	result  chan error      // for it
}

// publish is Publish.
func (p *publisher) publish(ctx context.Context, channel string, msg []byte) error {
	size := len(msg) + messageOverhead
	m := &publication{channel: channel, msg: bytes.Clone(msg)}
	p.mu.Lock()
	for p.queued > 0 && p.queued+size > p.bound {
		if p.taken == nil {
			p.taken = make(chan struct{})
		}
		taken := p.taken
		p.mu.Unlock()
		select {
		case <-taken:
		case <-ctx.Done():
			return ctx.Err()
		}
		p.mu.Lock()
	}
	if p.failing {
		m.ctx, m.result = ctx, make(chan error, 1)
	}
	p.queue = append(p.queue, m)
	p.queued += size
	if !p.sending {
		p.sending = true
		go p.send()
	}
	p.mu.Unlock()
	if m.result == nil {
		return nil
	}
	select {
	case err := <-m.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends what is queued, until nothing is.
func (p *publisher) send() {
	for {
		p.mu.Lock()
		batch := p.queue
		p.queue, p.queued = nil, 0
		if p.taken != nil {
			close(p.taken)
			p.taken = nil
		}
		p.sending = len(batch) > 0
		p.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		p.sendBatch(batch)
	}
}

func (p *publisher) sendBatch(batch []*publication) {
	ctx := context.Background() // the messages are of several callers, and the client has limits of its own
	pipe := p.client.Pipeline()
	commands := make([]once, len(batch))
	for i, m := range batch {
		if m.ctx == nil || m.ctx.Err() == nil {
			commands[i] = once{redis.NewIntCmd(ctx, p.command, m.channel, m.msg)}
			commands[i].SetFirstKeyPos(1) // of a cluster, the server that the channel decides on, also for a publish: order
			pipe.Process(ctx, commands[i])
		}
	}
	if pipe.Len() > 0 {
		_, err := pipe.Exec(ctx)
		p.mu.Lock()
		p.failing = err != nil
		p.mu.Unlock()
	}
	for i, m := range batch {
		switch {
		case commands[i].IntCmd == nil:
			m.result <- m.ctx.Err()
		case m.result != nil:
			m.result <- commands[i].Err()
		case commands[i].Err() != nil:
			p.lost.Add(1)
		}
	}
}

// once is a command that the client does not repeat if it cannot know whether it has taken place.
type once struct{ *redis.IntCmd }

// NoRetry is what the client asks.
func (once) NoRetry() bool { return true }
