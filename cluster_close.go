package atrium

import (
	"context"
	"fmt"
	"time"
)

// close says goodbye and leaves. What is queued is still published, and then the Bus is flushed, until ctx ends; but it is
// tried for clusterWait also if ctx ends sooner, or has ended, lest the others wait nodeTimeout for this node's answers. A
// Bus that fails is not tried for as long: see giveUp. The error says that not all has left. Whoever calls close again
// waits for the first call, and gets its error.
func (c *cluster) close(ctx context.Context) error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	c.clock.stop(&c.beat)
	c.mu.Unlock()
	if !first {
		select {
		case <-c.ended:
		case <-ctx.Done():
		}
		select {
		case <-c.ended:
			return c.endErr
		default:
			return ctx.Err()
		}
	}
	c.endErr = c.finish(ctx)
	c.notices.drop()
	c.stop()
	c.topics.dropAll()
	close(c.ended)
	return c.endErr
}

// finish publishes what is queued and the goodbye, and flushes the Bus.
func (c *cluster) finish(ctx context.Context) error {
	last, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	go c.giveUp(ctx, last, cancel)

	lostBefore := c.counts.lost.Load()
	done := make(chan struct{})
	c.send(everyNode, &clusterMessage{kind: clusterGoodbye})
	c.out.put(outgoing{done: done})
	var err error
	select {
	case <-done:
		err = c.flush(last)
	case <-last.Done():
	}
	if last.Err() != nil {
		err = context.Cause(last)
	}
	lost := int(c.counts.lost.Load() - lostBefore)
	if left := c.out.drop(); left > 0 {
		lost += left - 1 // less what done is in
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

// flush has the Bus send what it has accepted, if it does not do so at once.
func (c *cluster) flush(ctx context.Context) error {
	f, ok := c.bus.(BusFlusher)
	if !ok {
		return nil
	}
	if err := callApart("Bus.Flush", func() error { return f.Flush(ctx) }); err != nil {
		return fmt.Errorf("%w: %w", ErrBus, err)
	}
	return nil
}

// giveUp cancels last when ctx has ended, though not in the first clusterWait, and when the Bus fails for longer than
// clusterWait: each message would be tried, and lost.
func (c *cluster) giveUp(ctx, last context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(clusterWait)
	defer tick.Stop()
	var ended <-chan struct{}
	mute := c.health.mute()
	for {
		select {
		case <-tick.C:
			before := mute
			mute = c.health.mute()
			if _, err := c.health.err(); err != nil && before && mute {
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
