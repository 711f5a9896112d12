package atrium

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"
)

// errConnecting is returned by Connect when the client is not StateClosed.
var errConnecting = errors.New("atrium: the client is connected, or connecting, already")

// Connect connects, and returns nil as soon as the server has let the client in. From then on the
// client connects again by itself when the connection breaks.
//
// An attempt that fails is followed by another, as ClientOptions.Backoff says, until one succeeds,
// ctx ends or ClientOptions.MaxAttempts have failed: whether there was no network, no such host, no
// TLS, an HTTP error (a *HandshakeError for errors.As), no answer for ClientOptions.Timeout
// (ErrTimeout), or a server that speaks something else (ErrProtocol). OnConnectError's functions
// are called for each. If an HTTP error has a Retry-After header, the next attempt waits for that
// long, an hour at most, and then for its delay.
//
// Only two things are not tried again: a URL or options that cannot be right, and a server that
// refuses the client, which Connect returns as an *Error with what the server says. It may refuse a
// namespace, as Use does, or the HTTP request, as Options.Accept does, with a status of 400 to 499,
// which is then the Error's Status; the *HandshakeError is behind it. Six of these are tried again,
// because they can be otherwise a moment later: 400 and 404, which is what proxies answer while the
// server behind them starts or ends, 408, 421, 425 and 429.
//
// If ctx ends, the error matches that of ctx and that of the last attempt; after Close it is
// ErrClosed. With any error the client has stopped, and Connect may be called again. So it may
// after a refusal later on, which OnConnectError gets, and after ReasonServerDisconnect; it is an
// error to call it while the client is connected or connecting.
func (c *Client) Connect(ctx context.Context) error {
	if c.endpoint.wrong != nil {
		return fmt.Errorf("atrium: cannot connect: %w", c.endpoint.wrong)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	switch {
	case c.closing:
		c.mu.Unlock()
		return ErrClosed
	case c.state != StateClosed:
		c.mu.Unlock()
		return errConnecting
	}
	c.attempts = attempts{cancel: cancel}
	c.change(StateConnecting)
	c.mu.Unlock()
	return c.establish(ctx, false)
}

// attempts are a Client's attempts to connect, since Connect or a connection that lasted. They are
// guarded by Client.mu.
type attempts struct {
	cancel   func() // ends them; nil before Connect
	delays   int    // those taken from the Backoff
	restart  bool   // the server has said that it restarts: the next delay is not one after a failure
	openedAt int64  // nanotime when the latest succeeded
}

// reconnect connects again after a connection broke.
func (c *Client) reconnect(ctx context.Context) {
	defer c.busy.Done()
	_ = c.establish(ctx, true) // OnConnectError gets the error, unless Close was called
}

// establish makes attempts until one succeeds or the client stops. wait says whether to wait before
// the first.
func (c *Client) establish(ctx context.Context, wait bool) error {
	var last error
	for failed := 0; ; wait = true {
		if wait && !sleepContext(ctx, retryAfter(last)+c.nextDelay()) {
			return c.interrupted(ctx, last)
		}
		result := attempted{err: fmt.Errorf("atrium: connecting to %s: %w", c.host(), errAttemptPanicked)}
		guardApart(func() { result = c.attempt(ctx) }, c.panicked("ClientOptions.Dial or Auth"))
		switch {
		case result.err == nil:
			return nil
		case ctx.Err() != nil:
			return c.interrupted(ctx, last)
		}
		last = result.err
		if failed++; result.final || failed == c.options.MaxAttempts {
			c.stop()
			c.tellError(last) // after stop, so that its functions see StateClosed
			return last
		}
		c.tellError(last)
	}
}

// nextDelay returns the next delay of the Backoff.
func (c *Client) nextDelay() time.Duration {
	backoff := c.options.Backoff
	c.mu.Lock()
	taken := c.attempts.delays
	if c.attempts.restart {
		c.attempts.restart, taken = false, 0
		backoff.Min /= 4
	} else {
		c.attempts.delays++
	}
	c.mu.Unlock()
	delay := backoff.Max
	// Backoff.Rand is called without the lock: it may ask for the State.
	guardApart(func() { delay = backoff.Delay(taken) }, c.panicked("ClientOptions.Backoff.Rand"))
	return delay
}

// sleepContext waits for d. It reports false if ctx ends.
func sleepContext(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// interrupted stops the client because ctx has ended, and returns Connect's error.
func (c *Client) interrupted(ctx context.Context, last error) error {
	switch stopped := c.stop(); {
	case !stopped:
		return ErrClosed
	case last == nil:
		return fmt.Errorf("atrium: connecting to %s: %w", c.host(), ctx.Err())
	}
	return fmt.Errorf("atrium: connecting to %s: %w; the last attempt: %w", c.host(), ctx.Err(), last)
}

// host returns the server's host, for errors: the rest of its URL may hold secrets.
func (c *Client) host() string {
	u, _ := url.Parse(c.endpoint.address) // NewClient has parsed it
	return u.Host
}
