package atrium

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// attach makes l the client's connection, because the server has let the client in, and sends what
// has waited for that. It reports false if l is connected already. If the attempt was given up
// meanwhile, attach does nothing.
func (c *Client) attach(l *link, id, pid string) bool {
	c.mu.Lock()
	if l.phase == linkConnected || l.over || c.closing {
		defer c.mu.Unlock()
		return l.phase != linkConnected
	}
	l.phase = linkConnected
	c.link, c.id, c.attempts.openedAt = l, id, nanotime()
	c.recovery.connected(pid)
	wake := false
	var refuse []func()
	c.queue.remove(func(m *parcel) bool {
		if err := c.tooBig(m); err != nil {
			if m.call != nil {
				c.queue.forget(m.call) // so that Close does not fail it, too
			}
			refuse = append(refuse, func() { c.refuse(m, err) })
			return true
		}
		sent, wakes := l.push(m)
		wake = wake || wakes
		return sent // if not, the connection has ended already: it waits for the next
	})
	c.change(StateOpen)
	c.mu.Unlock()
	if wake {
		l.conn.wake()
	}
	for _, f := range refuse {
		f()
	}
	l.outcome <- attempted{}
	c.tell("OnConnect", func(r *functions[*Client]) {
		for _, f := range r.onConnect {
			f(c)
		}
	})
	c.tellWatchers(presenceWatcher.ask) // after what OnConnect's functions have sent to join rooms
	return true
}

// detach handles the end of a link: it calls OnDisconnect and makes the client reconnect. The
// reader calls it.
func (c *Client) detach(l *link) {
	reason := l.conn.endReason()
	l.drop(reason)
	c.mu.Lock()
	if reason == ReasonMessageTooBig { // a recovered socket would get the same message again
		c.recovery.forget()
	}
	if l.phase != linkConnected {
		awaited := l.phase.awaited()
		c.mu.Unlock()
		err := l.wrong
		if err == nil {
			err = fmt.Errorf("the connection ended before %s: %w", awaited, cmp.Or(l.conn.in.err, ErrClosed))
		}
		select {
		case l.outcome <- attempted{err: err}:
		default: // there is an outcome already
		}
		return
	}
	reason = l.reason
	again := !c.closing && reason != ReasonServerDisconnect
	lasted := time.Duration(nanotime() - c.attempts.openedAt)
	if lasted >= c.options.Backoff.Max {
		c.attempts.delays = 0
	}
	var failed []*clientCall
	var ctx context.Context
	switch {
	case again:
		c.attempts.restart = l.conn.restarts() && lasted >= c.options.Backoff.Min
		failed = c.queue.requeue(c.options.CallRetries)
		ctx, c.attempts.cancel = context.WithCancel(context.Background())
		c.busy.Add(1)
		c.change(StateConnecting)
	case !c.closing:
		failed = c.queue.fail(wasSent)
		c.change(StateClosed)
	}
	c.mu.Unlock()
	failCalls(failed, ErrDisconnected)
	if l.wrong != nil {
		c.log.warn("atrium: the server broke the protocol", loggedFailure(l.wrong)...)
	}
	c.tell("OnDisconnect", func(r *functions[*Client]) {
		for _, f := range r.onDisconnect {
			f(c, reason)
		}
	})
	c.tellWatchers(presenceWatcher.forget)
	if again {
		go c.reconnect(ctx)
	}
}

// stop makes the client StateClosed after its attempts to connect. After Close, which does that
// itself, it reports false.
func (c *Client) stop() bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	failed := c.queue.fail(wasSent)
	c.change(StateClosed)
	c.mu.Unlock()
	failCalls(failed, ErrDisconnected)
	return true
}

// Close ends the client for good: it sends what was emitted before, leaves the namespace, and ends
// the connection or the attempts to connect. What is sent has DialOptions.CloseTimeout to leave, as
// long as the server reads it; see Conn.Close. What waited for a connection is dropped, and Calls
// that wait fail with ErrClosed. Events that were received are still handled, and then the
// functions of OnDisconnect are called.
//
// Close waits for the connection, and not for handlers, which may call it. When it, the last
// handler and ClientOptions.AuthFunc have returned, no goroutine is left. It returns nil, or
// ErrClosed if the client is closed already.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		c.busy.Wait()
		return ErrClosed
	}
	c.closing = true
	if c.attempts.cancel != nil {
		c.attempts.cancel()
	}
	c.inbox.finish() // so that the reader does not wait for room in it
	c.change(StateClosing)
	failed := c.queue.fail(func(*clientCall) bool { return true })
	c.queue = clientQueue{}
	l := c.link
	if l != nil {
		l.over, l.reason = true, ReasonClientDisconnect
		c.link = nil
		leave := newParcel(newPacket(packetDisconnect, c.options.Namespace, "", nil))
		l.push(leave) // beginClose wakes the outbox
	}
	c.mu.Unlock()
	failCalls(failed, ErrClosed)
	if l != nil {
		l.conn.beginClose(StatusNormalClosure, "", deliverQueued)
	}
	c.busy.Wait()
	c.mu.Lock()
	c.change(StateClosed)
	c.mu.Unlock()
	return nil
}

// change changes the state and queues the call of OnState's functions. c.mu is held, so that the
// calls have the order of the changes.
func (c *Client) change(to State) {
	c.state = to
	if len(c.registry.current.Load().onState) == 0 {
		return
	}
	// It does not wait for room, because a handler may call Connect. It is bounded nevertheless:
	// with each change, something is queued that does wait, or the application calls Connect or
	// Close.
	c.inbox.put(c.note("OnState", func(r *functions[*Client]) {
		for _, f := range r.onState {
			f(c, to)
		}
	}))
}
