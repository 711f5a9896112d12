package atrium

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"
)

// These are returned after panics, which are logged.
var (
	errAuthPanicked    = errors.New("it panicked")
	errAttemptPanicked = errors.New("a function of ClientOptions.Dial, or encoding Auth, panicked")
)

// attempt makes one attempt to connect.
func (c *Client) attempt(ctx context.Context) attempted {
	bounded, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	auth, err := c.connectData(bounded)
	if err != nil {
		return attempted{err: fmt.Errorf("atrium: connecting to %s: %w", c.host(), err)}
	}
	conn, _, err := Dial(bounded, c.endpoint.address, c.options.Dial)
	if err != nil {
		return notDialed(timedOut(err))
	}
	l := newLink(c, conn, auth)
	if !l.start() {
		_ = conn.CloseNow()
		return attempted{err: ErrClosed}
	}
	result := l.await(ctx, bounded.Done())
	if result.err != nil && !result.final {
		result.err = fmt.Errorf("atrium: connecting to %s: %w", c.host(), result.err)
	}
	return result
}

// notDialed returns what became of an attempt in which Dial has failed.
func notDialed(err error) attempted {
	e, ok := errors.AsType[*HandshakeError](err)
	if !ok || e.Response.StatusCode/100 != 4 {
		return attempted{err: err}
	}
	switch status := e.Response.StatusCode; status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusMisdirectedRequest,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return attempted{err: err}
	default:
		return attempted{&Error{Message: refusalMessage(e.Response), Status: status, Err: err}, true}
	}
}

// refusalMessage returns the message of a response: the "message" of an Engine.IO server's JSON, or
// plain text. For an HTML page and an empty body that is the status line.
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

// maxRetryAfter bounds the wait that a server may ask for with Retry-After.
const maxRetryAfter = time.Hour

// retryAfter returns the wait that the latest response asked for.
func retryAfter(last error) time.Duration {
	if e, ok := errors.AsType[*HandshakeError](last); ok {
		return min(e.RetryAfter(), maxRetryAfter)
	}
	return 0
}

// connectData returns the object of the CONNECT packet: what the client recovers with, and Auth.
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

// askAuth calls ClientOptions.AuthFunc, in a goroutine of its own: so it may Close the client,
// which waits for the attempt to end, and one that ignores its context holds up nothing.
func (c *Client) askAuth(ctx context.Context) (any, error) {
	type answer struct {
		auth any
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		a := answer{err: errAuthPanicked}
		defer func() { answered <- a }()
		guard(func() {
			a.auth, a.err = c.options.AuthFunc(ctx)
			a.err = errorOf(a.err)
		}, c.panicked("ClientOptions.AuthFunc"))
	}()
	select {
	case a := <-answered:
		return a.auth, a.err
	case <-ctx.Done():
		return nil, timedOut(ctx.Err())
	}
}

// start begins to read the connection. It reports false after Close.
func (l *link) start() bool {
	c := l.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	c.busy.Add(1)
	l.recovers = c.recovery.pid != "" // missed events come before the answer to CONNECT
	if l.recovers {
		c.inbox.bound(noBound, maxClientReplayBytes)
	} else {
		c.inbox.bound(maxClientInboxEvents, maxClientInboxBytes)
	}
	l.received.Store(nanotime())
	go l.conn.serve()
	return true
}

// maxReplayTimeouts bounds how often ClientOptions.Timeout begins anew for missed events.
const maxReplayTimeouts = 10

// await returns the outcome of the attempt when it is there, and gives the attempt up when ctx
// ends, or when its time is over and it is not extended.
func (l *link) await(ctx context.Context, over <-chan struct{}) attempted {
	timeout := l.client.options.Timeout
	for extended := 0; ; extended++ {
		select {
		case result := <-l.outcome:
			return result
		case <-ctx.Done():
		case <-over:
			if extended < maxReplayTimeouts && l.replays() {
				next, cancel := context.WithTimeout(ctx, timeout)
				defer cancel()
				over = next.Done()
				continue
			}
		}
		awaited := l.giveUp()
		if awaited == "" {
			return <-l.outcome
		}
		_ = l.conn.CloseNow()
		return attempted{err: fmt.Errorf("%w: %s has not come after %v", ErrTimeout, awaited, timeout)}
	}
}

// replays reports whether missed events seem to come, which are before the answer to CONNECT:
// something was read since CONNECT was sent, or since replays was last asked, or the client does
// not read at the moment because its handlers have enough to do.
func (l *link) replays() bool {
	c := l.client
	paused, _ := c.reading.pause()
	c.mu.Lock()
	defer c.mu.Unlock()
	before := l.reads
	l.reads = l.conn.reads.Load()
	return l.phase == linkGreeted && c.recovery.pid != "" && (paused || l.reads != before)
}

// giveUp ends an attempt that takes too long and returns what it waited for; "" if the client is
// connected.
func (l *link) giveUp() (awaited string) {
	l.client.mu.Lock()
	defer l.client.mu.Unlock()
	if l.phase == linkConnected {
		return ""
	}
	l.over = true
	return l.phase.awaited()
}

// attempted is what became of an attempt to connect.
type attempted struct {
	err   error // nil: connected
	final bool  // no other attempt is made
}
