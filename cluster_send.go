package atrium

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
)

// clusterSender numbers and queues what a node sends.
type clusterSender struct {
	queue     *queue[outgoing]
	published atomic.Uint64 // the number of the last message that the Bus has taken

	// Numbering a message and queueing it is one step. Guarded by cluster.mu.
	last uint64 // the number of the last message
	left bool   // that was the goodbye
}

// outgoing is a message that waits for Bus.Publish.
type outgoing struct {
	topic string
	msg   []byte
	done  chan struct{} // if it is set there is no message: it is closed when those before have been published
}

func (o outgoing) size() int { return len(o.topic) + len(o.msg) + queueOverhead }

// send queues a message for a topic, and returns its number. If there is no room for it, the
// message is dropped and counted, and the number is 0. Nothing follows the goodbye.
func (c *cluster) send(topic string, m *clusterMessage) (number uint64) {
	m.from = c.node
	msg := m.encode()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.push(topic, m.kind, msg)
}

// push numbers and queues an encoded message. c.mu is held.
func (c *cluster) push(topic string, kind clusterKind, msg []byte) (number uint64) {
	s := &c.sender
	if s.left { // or the other nodes would take this one for present again
		return 0
	}
	s.left = kind == clusterGoodbye
	s.last++
	setClusterNumber(msg, s.last)
	o := outgoing{topic: topic, msg: msg}
	switch {
	case s.left: // without it the other nodes would wait nodeTimeout for the answers of this one
		s.queue.put(o)
	case s.queue.offer(o) == itemRefused:
		c.counts.dropped.Add(1)
		return 0
	}
	return s.last
}

var errPublishGoexit = errors.New("atrium: Bus.Publish called runtime.Goexit")

// publish handles an item of the queue.
func (c *cluster) publish(o outgoing) {
	if o.done != nil {
		close(o.done)
		return
	}
	ctx, cancel := context.WithTimeout(c.topics.ctx, busTimeout)
	defer cancel()
	err := errPublishGoexit // unless it returns, or panics
	defer func() { c.published(o, err) }()
	defer panicAsError("Bus.Publish", &err) // the Bus may be the application's own
	err = c.bus.Publish(ctx, o.topic, o.msg)
}

// published counts a message that the Bus has taken or not.
func (c *cluster) published(o outgoing, err error) {
	switch {
	case err == nil:
		c.counts.published.Add(1)
		c.sender.published.Store(clusterNumber(o.msg))
		c.outcome(publishFault, nil)
	case c.topics.ctx.Err() != nil: // close has ended it
	case len(o.msg) > sureToFit && !errors.Is(err, context.DeadlineExceeded): // the broker may have a bound on the size
		c.counts.lost.Add(1)
		c.counts.failed.Add(1)
		c.topics.log.error("atrium: the bus does not take a message", append(loggedFailure(err), slog.Int("bytes", len(o.msg)), hint("the broker has a bound on the size of a message"))...)
	default:
		c.counts.lost.Add(1)
		c.outcome(publishFault, err)
	}
}

// outcome counts a call of the Bus that has ended, and notes what it says of the Bus.
func (c *cluster) outcome(fault busFault, err error) {
	if err != nil && c.topics.ctx.Err() != nil {
		return // close has ended it
	}
	if err != nil {
		c.counts.failed.Add(1)
	}
	c.noteFault(fault, err)
}
