package atrium

import (
	"context"
	"fmt"
	"time"
)

// clusterEnding is the progress of close. cluster.mu guards it.
type clusterEnding struct {
	begun, done bool
	err         error // what close returns
	ended       gate  // opens when it is done
}

// close sends a goodbye and ends the node. Until ctx ends it publishes what is queued, and flushes
// the Bus; but it tries for clusterWait even if ctx ends sooner, or has ended, so that the other
// nodes need not wait nodeTimeout for answers. It gives up earlier if the Bus fails: see giveUp. It
// returns an error if messages are lost. Another call of close waits for the first one, and returns
// its error.
func (c *cluster) close(ctx context.Context) error {
	c.mu.Lock()
	first := !c.ending.begun
	c.ending.begun = true
	c.clock.stop(&c.beat)
	c.mu.Unlock()
	if first {
		err := c.finish(ctx)
		c.notices.drop()
		c.stop()
		c.topics.dropAll()
		c.mu.Lock()
		c.ending.done, c.ending.err = true, err
		c.ending.ended.open()
		c.mu.Unlock()
	}
	if err := c.ending.ended.await(ctx, &c.mu, func() bool { return c.ending.done }); err != nil {
		return err
	}
	return c.ending.err
}

// finish publishes what is queued and the goodbye, and flushes the Bus.
func (c *cluster) finish(ctx context.Context) error {
	last, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	go c.giveUp(ctx, last, cancel)

	lostBefore := c.counts.lost.Load()
	done := make(chan struct{})
	c.send(everyNode, &clusterMessage{kind: clusterGoodbye})
	c.sender.queue.put(outgoing{done: done})
	var err error
	select {
	case <-done:
		if err = c.flush(last); err != nil {
			err = fmt.Errorf("%w: %w", ErrBus, err)
		}
	case <-last.Done():
	}
	if last.Err() != nil {
		err = context.Cause(last)
	}
	lost := int(c.counts.lost.Load() - lostBefore)
	if left := c.sender.queue.drop(); left > 0 {
		lost += left - 1 // one of them is done
	}
	switch {
	case lost == 0 && err == nil:
		return nil
	case lost == 0:
		return fmt.Errorf("atrium: the last messages for other nodes may be lost: %w", err)
	case err == nil:
		err = ErrBus
	}
	return fmt.Errorf("atrium: %d messages for other nodes are lost: %w", lost, err)
}

// flush waits until the Bus has sent what it has accepted, if it is a BusFlusher.
func (c *cluster) flush(ctx context.Context) error {
	f, ok := c.bus.(BusFlusher)
	if !ok {
		return nil
	}
	return callApart("Bus.Flush", func() error { return f.Flush(ctx) })
}

// giveUp cancels last when ctx has ended, though not in the first clusterWait, and when the Bus
// fails for longer than clusterWait: each message would be tried, and lost.
func (c *cluster) giveUp(ctx, last context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(clusterWait)
	defer tick.Stop()
	var ended <-chan struct{}
	cutOff := c.health.cutOff()
	for {
		select {
		case <-tick.C:
			before := cutOff
			cutOff = c.health.cutOff()
			if _, err := c.busError(); err != nil && before && cutOff {
				cancel(err)
				return
			}
			ended = ctx.Done()
		case <-ended:
			cancel(ctx.Err())
			return
		case <-last.Done():
			return
		}
	}
}
