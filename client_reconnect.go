package atrium

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"
)

// errConnecting is for a Connect that comes while there is nothing for it to do.
var errConnecting = errors.New("atrium: the client is connected, or connecting, already")

// These are for panics that are in the log.
var (
	errAuthPanicked    = errors.New("it panicked")
	errAttemptPanicked = errors.New("a function of ClientOptions.Dial, or encoding Auth, panicked")
)

// Connect connects, and returns nil as soon as the server has let the client in. From then on the client connects again
// by itself when the connection breaks.
//
// An attempt that fails is followed by another, as ClientOptions.Backoff says, until one succeeds, ctx ends or
// ClientOptions.MaxAttempts have failed: whether there was no network, no such host, no TLS, an HTTP error (a
// *HandshakeError for errors.As), no answer for ClientOptions.Timeout (ErrTimeout), or a server that speaks something
// else (ErrProtocol). OnConnectError hears of each. If an HTTP error has a Retry-After header, the next attempt waits
// for that long, an hour at most, and then for its delay.
//
// Only two things are not tried again: a URL or options that cannot be right, and a server that refuses the client,
// which Connect returns as an *Error with what the server says. It may refuse a namespace, as Use does, or the HTTP
// request, as Options.Accept does, with a status of 400 to 499, which is then the Error's Status; the *HandshakeError
// is behind it. Five of these are tried again, because they can be otherwise a moment later: 404, which is what a proxy
// answers while the server behind it starts, 408, 421, 425 and 429.
//
// If ctx ends, the error matches that of ctx and that of the last attempt; after Close it is ErrClosed. With any error
// the client has stopped, and Connect may be called again. So it may when OnConnectError has heard of a refusal later
// on, and after ReasonServerDisconnect; it is an error to call it while the client is connected or connecting.
func (c *Client) Connect(ctx context.Context) error {
	if c.wrong != nil {
		return fmt.Errorf("atrium: cannot connect: %w", c.wrong)
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

// attempts are a Client's attempts to connect, since Connect or a connection that lasted. They are guarded by Client.mu.
type attempts struct {
	cancel   func() // ends them; nil before Connect
	delays   int    // those taken from the Backoff
	openedAt int64  // nanotime when the latest succeeded
}

// reconnect is Connect for a client whose connection broke.
func (c *Client) reconnect(ctx context.Context) {
	defer c.busy.Done()
	_ = c.establish(ctx, true) // OnConnectError has heard why it has stopped, or who has called Close knows
}

// establish makes attempts until one succeeds, or else the client stops. wait says that it has failed before.
func (c *Client) establish(ctx context.Context, wait bool) error {
	var last error
	for failed := 0; ; wait = true {
		if wait && !sleep(ctx, retryAfter(last)+c.nextDelay()) {
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
			c.tellError(last) // who hears of it finds the client as it is
			return last
		}
		c.tellError(last)
	}
}

// nextDelay takes the next delay from the Backoff.
func (c *Client) nextDelay() time.Duration {
	c.mu.Lock()
	taken := c.attempts.delays
	c.attempts.delays++
	c.mu.Unlock()
	delay := c.options.Backoff.Max
	// Backoff.Rand is called without the lock: it may ask for the State.
	guardApart(func() { delay = c.options.Backoff.Delay(taken) }, c.panicked("ClientOptions.Backoff.Rand"))
	return delay
}

// sleep waits for d. It reports false if ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
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
	c.stop()
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	switch {
	case closing:
		return ErrClosed
	case last == nil:
		return fmt.Errorf("atrium: connecting to %s: %w", c.host(), ctx.Err())
	}
	return fmt.Errorf("atrium: connecting to %s: %w; the last attempt: %w", c.host(), ctx.Err(), last)
}

// host is the server's, for errors: the rest of its URL may hold secrets.
func (c *Client) host() string {
	u, _ := url.Parse(c.address) // it could be parsed before
	return u.Host
}

// attempt makes one attempt to connect.
func (c *Client) attempt(ctx context.Context) attempted {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	auth, err := c.connectData(ctx)
	if err != nil {
		return attempted{err: fmt.Errorf("atrium: connecting to %s: %w", c.host(), err)}
	}
	conn, _, err := Dial(ctx, c.address, c.options.Dial)
	if err != nil {
		return notDialed(timedOut(err))
	}
	l := newLink(c, conn, auth)
	if !c.begin(l) {
		_ = conn.CloseNow()
		return attempted{err: ErrClosed}
	}
	var result attempted
	select {
	case result = <-l.outcome:
	case <-ctx.Done():
		awaited := c.giveUp(l)
		if awaited == "" {
			result = <-l.outcome
			break
		}
		_ = conn.CloseNow()
		result.err = fmt.Errorf("%w: %s has not come after %v", ErrTimeout, awaited, c.options.Timeout)
	}
	if result.err != nil && !result.final {
		result.err = fmt.Errorf("atrium: connecting to %s: %w", c.host(), result.err)
	}
	return result
}

// notDialed is an attempt in which Dial has failed.
func notDialed(err error) attempted {
	e, ok := errors.AsType[*HandshakeError](err)
	if !ok {
		return attempted{err: err}
	}
	status := e.Response.StatusCode
	switch status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests:
		return attempted{err: err}
	}
	if status/100 != 4 {
		return attempted{err: err}
	}
	return attempted{&Error{Message: refusalMessage(e.Response), Status: status, Err: err}, true}
}

// refusalMessage returns the message of a response: the "message" of an Engine.IO server's JSON, or plain text. For an
// HTML page, and for an empty body, it is the status line.
func refusalMessage(resp *http.Response) string {
	body, _ := io.ReadAll(resp.Body) // it is in memory
	resp.Body = io.NopCloser(bytes.NewReader(body))
	var engine struct{ Message string }
	if json.Unmarshal(body, &engine) == nil && engine.Message != "" {
		return engine.Message
	}
	text := string(bytes.TrimSpace(body))
	if text == "" || text[0] == '<' || !utf8.ValidString(text) {
		return resp.Status
	}
	return text
}

// maxRetryAfter bounds the wait that a server may ask for.
const maxRetryAfter = time.Hour

// retryAfter returns how long to wait before the next attempt, if the last answer asked for a wait.
func retryAfter(last error) time.Duration {
	if e, ok := errors.AsType[*HandshakeError](last); ok {
		return min(e.RetryAfter(), maxRetryAfter)
	}
	return 0
}

// connectData returns what the CONNECT packet has: what the server knows an earlier connection by, and Auth.
func (c *Client) connectData(ctx context.Context) ([]byte, error) {
	option, auth := "Auth", c.options.Auth
	if c.options.AuthFunc != nil {
		var err error
		if auth, err = c.askAuth(ctx); err != nil {
			return nil, fmt.Errorf("ClientOptions.AuthFunc: %w", err)
		}
		option = "AuthFunc"
	}
	members, err := encodeAuth(option, auth)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	b := c.recovery.appendTo(nil)
	c.mu.Unlock()
	if len(members) > 0 {
		b = append(append(b, ','), members...)
	}
	if len(b) == 0 {
		return nil, nil
	}
	b[0] = '{'
	return append(b, '}'), nil
}

// askAuth calls ClientOptions.AuthFunc. In a goroutine of its own it may Close the client, which waits
// for the attempt to end, and one that does not heed its context holds up nobody.
func (c *Client) askAuth(ctx context.Context) (any, error) {
	type answer struct {
		auth any
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: errAuthPanicked}
		defer func() { answered <- a }()
		c.runFunction("ClientOptions.AuthFunc", func() {
			a.auth, a.err = c.options.AuthFunc(ctx)
			a.err = errorOf(a.err)
		})
	}()
	select {
	case a := <-answered:
		return a.auth, a.err
	case <-ctx.Done():
		return nil, timedOut(ctx.Err())
	}
}

// begin lets the link be read. It reports false after Close.
func (c *Client) begin(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.busy.Add(1)
	l.recovers = c.recovery.pid != "" // what was missed comes before the answer to CONNECT
	l.received.Store(nanotime())
	go l.conn.serve()
	return true
}

// giveUp ends an attempt that takes too long, and says what it waited for; "" if the client is connected.
func (c *Client) giveUp(l *link) (awaited string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.phase == linkConnected {
		return ""
	}
	l.over = true
	return l.phase.awaited()
}

// attach makes the link the client's connection, because the server has let it in, and sends what has waited for that.
// It reports false if it is that already. If the attempt was given up meanwhile, nothing happens.
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
				c.queue.forget(m.call) // or Close could fail it, too
			}
			refuse = append(refuse, func() { c.refuse(m, err) })
			return true
		}
		sent, wakes := l.push(m, forWriter)
		wake = wake || wakes
		if sent {
			c.queue.accept(m, true)
		}
		return sent // if not, the connection is at its end already, and the next will do
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
	c.tell("OnConnect", func() {
		for _, f := range c.registry.functions().onConnect {
			f(c)
		}
	})
	return true
}

// refuse tells of a parcel that was accepted before it was known that the server does not take it.
func (c *Client) refuse(m *parcel, err error) {
	if m.call != nil {
		failCalls([]*clientCall{m.call}, err)
		return
	}
	c.options.Logger.Warn("atrium: an event was dropped that is bigger than the server takes", slog.Any("error", err))
}

// detach is the end of a link, for its reader: it tells the application, and has the client reconnect.
func (c *Client) detach(l *link) {
	reason := l.conn.endReason()
	l.drop(reason)
	c.mu.Lock()
	if reason == ReasonMessageTooBig { // a recovered session would bring the same message again
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
		default: // it has another, or nobody waits for it
		}
		return
	}
	c.link = nil
	reason = l.reason
	again := !c.closing && reason != ReasonServerDisconnect
	if nanotime()-c.attempts.openedAt >= int64(c.options.Backoff.Max) {
		c.attempts.delays = 0
	}
	var failed []*clientCall
	var ctx context.Context
	switch {
	case again:
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
		c.options.Logger.Warn("atrium: disconnected", slog.Any("error", l.wrong))
	}
	c.tell("OnDisconnect", func() {
		for _, f := range c.registry.functions().onDisconnect {
			f(c, reason)
		}
	})
	if again {
		go c.reconnect(ctx)
	}
}

// stop ends the attempts to connect.
func (c *Client) stop() {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return // it is Close that says so
	}
	failed := c.queue.fail(wasSent)
	c.change(StateClosed)
	c.mu.Unlock()
	failCalls(failed, ErrDisconnected)
}

// Close ends the client for good: it leaves the namespace, sends what was emitted before, and ends the connection or the
// attempts to have one. What is sent has DialOptions.CloseTimeout to leave, as long as the server takes it; see
// Conn.Close. What waited for a connection is dropped, and Calls that wait fail with ErrClosed. Events that had come are
// still handled, and then OnDisconnect.
//
// Close waits for the connection, and not for handlers, which may call it. When it, the last handler and
// ClientOptions.AuthFunc have returned, no goroutine is left. It returns nil, or ErrClosed if the client is closed already.
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
	c.inbox.finish() // nobody waits for room in it any more
	c.change(StateClosing)
	failed := c.queue.fail(func(*clientCall) bool { return true })
	c.queue = clientQueue{}
	l := c.link
	if l != nil && l.usable() {
		l.over, l.reason = true, ReasonClientDisconnect
		leave := newParcel(newPacket(packetDisconnect, c.options.Namespace, nil))
		_, _ = l.push(leave, forWriter) // beginClose wakes the outbox
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

// change changes the state and tells of it. c.mu is held, so that the order in which it is told is the right one.
func (c *Client) change(to State) {
	c.state = to
	if len(c.registry.functions().onState) == 0 {
		return
	}
	// This does not wait for room: Connect may be called by a handler. Each change goes with something that does wait, or
	// with a call of Connect or Close.
	c.inbox.put(incoming{kind: incomingNote, note: func() {
		c.runFunction("OnState", func() {
			for _, f := range c.registry.functions().onState {
				f(c, to)
			}
		})
	}})
}

// tellError tells of an attempt that failed, unless too much waits to be told.
func (c *Client) tellError(err error) {
	note := incoming{kind: incomingNote, note: func() {
		c.runFunction("OnConnectError", func() {
			for _, f := range c.registry.functions().onConnectError {
				f(c, err)
			}
		})
	}}
	if c.inbox.offer(note) != itemTaken {
		c.options.Logger.Warn("atrium: could not connect", slog.Any("error", err))
	}
}
