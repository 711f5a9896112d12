package natsbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/nats-io/nats.go"
)

// maxArrived bounds the messages that wait between the connection and the queues of the
// subscriptions. The goroutine that moves them does nothing else, so there are hardly ever any.
const maxArrived = 4096

const (
	// maxPrefix bounds a prefix, in bytes. With the longest topic of a hub the subject is within
	// the server's limit of 4 KiB.
	maxPrefix = 1 << 10
	// firstPong bounds the wait for the server's first PONG. Each further attempt waits twice as
	// long.
	firstPong = time.Second
)

// Bus is an [atrium.Bus] over NATS. Its methods are safe for concurrent use. It need not be closed:
// its goroutine ends with the last subscription.
type Bus struct {
	conn   *nats.Conn
	prefix string
	local  *atrium.MemoryBus // has a queue for each subscription, by its number
	turn   chan struct{}     // has a token while a goroutine publishes

	arrived  chan *nats.Msg // for all subscriptions
	deserted chan struct{}  // has a token when there is no subscription left

	mu        sync.Mutex // guards:
	numbers   map[*nats.Subscription]string
	last      uint64 // the last number used
	count     int    // of subscriptions
	spreading bool   // spread runs
	told      error  // the last error of the connection that Flush has returned, or that New found
}

// Option is an option of [New].
type Option func(*Bus)

// Prefix sets the prefix of all subjects, "atrium." by default. Applications that share a server
// need different ones. It consists of tokens, each followed by a dot. New panics if no subject can
// begin with it: if it has an empty token, a space, a control character or a wildcard, begins with
// "$", which is reserved for the server, or is longer than 1,024 bytes.
func Prefix(prefix string) Option { return func(b *Bus) { b.prefix = prefix } }

// New returns a Bus that uses the connection. The caller closes the connection. New panics if the
// [Prefix] is invalid.
func New(conn *nats.Conn, options ...Option) *Bus {
	b := &Bus{
		conn: conn, prefix: "atrium.", local: new(atrium.MemoryBus),
		turn: make(chan struct{}, 1), arrived: make(chan *nats.Msg, maxArrived), deserted: make(chan struct{}, 1),
		numbers: make(map[*nats.Subscription]string),
	}
	for _, option := range options {
		option(b)
	}
	if err := checkPrefix(b.prefix); err != nil {
		panic(fmt.Sprintf("natsbus: prefix: %v, got %.100q", err, b.prefix))
	}
	b.told = conn.LastError()
	return b
}

// checkPrefix returns an error if the prefix is invalid. The empty prefix is valid.
func checkPrefix(prefix string) error {
	unfit := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' }
	switch {
	case strings.ContainsFunc(prefix, unfit):
		return errors.New("expected tokens without spaces, control characters and wildcards")
	case strings.HasPrefix(prefix, ".") || strings.Contains(prefix, ".."):
		return errors.New("expected tokens, each followed by one dot")
	case strings.HasPrefix(prefix, "$"):
		return errors.New(`expected a first token without "$", which is the server's`)
	case len(prefix) > maxPrefix:
		return fmt.Errorf("expected at most %d bytes", maxPrefix)
	}
	return nil
}

// Dropped returns how many messages were not delivered because a subscriber was too slow.
func (b *Bus) Dropped() uint64 { return b.local.Dropped() }

// subject returns the subject of a topic: the prefix and one token. What is special in NATS is
// escaped as in a URL, dots included.
func (b *Bus) subject(topic string) string {
	if topic == "" {
		return b.prefix + "%" // unique: an escaping % is followed by two digits
	}
	return b.prefix + strings.ReplaceAll(url.QueryEscape(topic), ".", "%2E")
}

// Publish implements [atrium.Bus]. The client sends the message a little later, with others.
// Publish returns nats.ErrMaxPayload if the message is too large, nats.ErrReconnectBufExceeded if
// there is no server and the reconnect buffer is full, and nats.ErrConnectionClosed if the client
// has given up. If the server does not read and the client's buffer is full, Publish waits until
// ctx ends.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case b.turn <- struct{}{}: // one at a time, also while the client waits after ctx has ended
	case <-ctx.Done():
		return ctx.Err()
	}
	msg = bytes.Clone(msg)
	err := within(ctx, func() error {
		defer func() { <-b.turn }()
		return b.conn.Publish(b.subject(topic), msg)
	})
	if err != nil {
		return fmt.Errorf("natsbus: publish: %w", err)
	}
	return nil
}

// within calls f, which takes no context, and waits for it until ctx ends.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Subscribe implements [atrium.Bus]: it waits for a connection, if there is none, and until the
// server has processed the subscription. It fails if the permissions refuse the subject. The first
// messages may be delivered before it returns.
func (b *Bus) Subscribe(ctx context.Context, topic string, deliver func(msg []byte)) (cancel func(), err error) {
	number := b.enter()
	stop, err := b.local.Subscribe(ctx, number, deliver)
	if err != nil {
		b.leave(nil)
		return nil, err
	}
	var subscription *nats.Subscription
	attempted := make(chan struct{})
	cancel = sync.OnceFunc(func() {
		stop()
		go func() { // it may wait for the server
			<-attempted
			b.leave(subscription)
		}()
	})
	before := b.conn.LastError()
	err = within(ctx, func() (err error) {
		subscription, err = b.conn.ChanSubscribe(b.subject(topic), b.arrived)
		if err == nil {
			b.mu.Lock()
			b.numbers[subscription] = number
			b.mu.Unlock()
		}
		close(attempted)
		if err != nil {
			return err
		}
		if _, err := b.confirmed(ctx); err != nil {
			return err
		}
		return b.refused("Subscription", before)
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("natsbus: subscribe: %w", err)
	}
	return cancel, nil
}

// confirmed waits for the server's PONG to everything sent so far. If the connection breaks, it
// waits for that of the next connection, which begins with all subscriptions, and reports it.
func (b *Bus) confirmed(ctx context.Context) (broke bool, err error) {
	// A client that reconnects forgets calls that wait.
	for patience := firstPong; ; patience *= 2 {
		attempt, cancel := context.WithTimeout(ctx, patience)
		err := b.conn.FlushWithContext(attempt)
		cancel()
		switch {
		case err == nil:
			return broke, nil
		case ctx.Err() != nil:
			return broke, ctx.Err()
		case errors.Is(err, nats.ErrConnectionClosed) && !b.conn.IsClosed():
			broke = true
		case !errors.Is(err, context.DeadlineExceeded):
			return broke, err
		}
	}
}

// refused returns the last error of the connection if it is not the previous one and says that the
// permissions refuse a subject of this Bus. The connection keeps only its last error: if it is
// about another topic, one about this topic may have preceded it.
func (b *Bus) refused(what string, before error) error {
	err := b.conn.LastError()
	if err != before && errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), what+` to "`+b.prefix) {
		return fmt.Errorf("%w: %w", fs.ErrPermission, err) // so that the hub can tell it apart
	}
	return nil
}

// Flush implements [atrium.BusFlusher]: it waits for a connection, if there is none, and until the
// server has received all messages. It returns an error if the connection breaks meanwhile, since
// messages may be lost, and if the permissions refused a message since the last Flush.
func (b *Bus) Flush(ctx context.Context) error {
	broke, err := b.confirmed(ctx)
	if err == nil && broke {
		err = errors.New("the connection broke; what was on its way may be lost")
	}
	if err == nil {
		b.mu.Lock()
		before := b.told
		b.told = b.conn.LastError()
		b.mu.Unlock()
		err = b.refused("Publish", before)
	}
	if err != nil {
		return fmt.Errorf("natsbus: flush: %w", err)
	}
	return nil
}

// enter counts a new subscription and returns its number.
func (b *Bus) enter() (number string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	b.count++
	if !b.spreading {
		b.spreading = true
		go b.spread()
	}
	return strconv.FormatUint(b.last, 10)
}

// leave undoes enter, and ends the subscription unless it has failed.
func (b *Bus) leave(subscription *nats.Subscription) {
	if subscription != nil {
		subscription.Unsubscribe() // fails only if the connection is closed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.numbers, subscription)
	if b.count--; b.count == 0 {
		select {
		case b.deserted <- struct{}{}:
		default:
		}
	}
}

// spread moves messages into the queues of their subscriptions, until there are no subscriptions.
func (b *Bus) spread() {
	for {
		select {
		case msg := <-b.arrived:
			b.mu.Lock()
			number := b.numbers[msg.Sub] // "" if the subscription has ended, or is not entered yet
			b.mu.Unlock()
			b.local.Publish(context.Background(), number, msg.Data) // never fails with this context
		case <-b.deserted:
			b.mu.Lock()
			b.spreading = b.count > 0
			done := !b.spreading
			b.mu.Unlock()
			if done {
				return
			}
		}
	}
}
