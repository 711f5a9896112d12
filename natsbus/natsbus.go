package natsbus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/nats-io/nats.go"
)

// maxArrived is how many messages may wait between the connection and the queues of the subscriptions. What takes them from
// one to the other does nothing else, so there are hardly ever any.
const maxArrived = 4096

const (
	// maxPrefix is in bytes. With the longest topic of a hub it makes a subject that a server takes: 4 KiB.
	maxPrefix = 1 << 10
	// firstPong is how long the first attempt waits for the server's answer. Each further one waits twice as long.
	firstPong = time.Second
)

// Bus is an [atrium.Bus] over NATS. Its methods are safe for simultaneous use. It need not be closed: what it has of its own
// goes with the last subscription.
type Bus struct {
	conn   *nats.Conn
	prefix string
	local  *atrium.MemoryBus // has a queue for each subscription, under its number
	turn   chan struct{}     // of those who publish; has the token while one does

	arrived  chan *nats.Msg // for all subscriptions
	deserted chan struct{}  // has a token when the last has gone

	mu        sync.Mutex // guards:
	numbers   map[*nats.Subscription]string
	last      uint64 // number
	count     int    // of subscriptions
	spreading bool   // the goroutine exists
	told      error  // the last of the connection's errors that Flush has returned, or that was there before
}

// Option is for New.
type Option func(*Bus)

// Prefix goes before every topic, in place of "atrium.". It keeps apart what shares a server: one for each application. It
// consists of tokens, each followed by a dot. New panics if no subject can begin with it: if it has an empty token, a space,
// a control character or a wildcard in it, begins with "$", which is the server's, or is longer than 1,024 bytes.
func Prefix(prefix string) Option { return func(b *Bus) { b.prefix = prefix } }

// New returns a Bus that uses the connection, which stays the caller's to close. It panics if a [Prefix] cannot be used.
func New(conn *nats.Conn, options ...Option) *Bus {
	b := &Bus{
		conn: conn, prefix: "atrium.", local: atrium.NewMemoryBus(),
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

// checkPrefix says what is wrong with it. One without any token will do, too.
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

// Dropped counts the messages that were not delivered because a subscriber was too slow.
func (b *Bus) Dropped() uint64 { return b.local.Dropped() }

// subject makes a topic one token: what has a meaning to NATS is escaped as in a URL, and dots too.
func (b *Bus) subject(topic string) string {
	if topic == "" {
		return b.prefix + "%" // no other topic begins like this: there are two digits behind an escaping %
	}
	return b.prefix + strings.ReplaceAll(url.QueryEscape(topic), ".", "%2E")
}

// Publish is as described for [atrium.Bus]. The client sends the message a little later, with others. It fails with
// nats.ErrMaxPayload if the message is too large, nats.ErrReconnectBufExceeded if there is no server and much waits for one,
// nats.ErrConnectionClosed if the client has given up. If the server does not read, the client waits when its buffer is full,
// and Publish until ctx ends.
func (b *Bus) Publish(ctx context.Context, topic string, msg []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case b.turn <- struct{}{}: // one after the other, also if ctx ends and the client waits on
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

// within calls f, which cannot be told of ctx, and does not wait longer than that.
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

// Subscribe is as described for [atrium.Bus]: it waits until the server has confirmed, and before that for a server, if there is
// none. It fails if the server refuses the subject by permission. A first message may be delivered before it returns.
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
		go func() { // the client may wait for the server
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

// confirmed waits for the server's answer to everything sent so far. If the connection breaks, which it reports, it waits
// for the next one's, which begins with the subscriptions.
func (b *Bus) confirmed(ctx context.Context) (broke bool, err error) {
	for patience := firstPong; ; patience *= 2 { // a client that is about to connect anew forgets who waits
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

// refused returns the connection's last error if it is another than before, and says that the server has refused
// something of this Bus by permission. The connection keeps the last alone: if it is about another topic, this one's may have
// been before it.
func (b *Bus) refused(what string, before error) error {
	err := b.conn.LastError()
	if err != before && errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), what+` to "`+b.prefix) {
		return err
	}
	return nil
}

// Flush is as described for [atrium.BusFlusher]: it waits until the server has answered that everything before has come. If
// there is none it waits for one. It returns an error if the connection breaks meanwhile, since what was on its way may be
// lost, and if the server has refused, by permission, something that was published since the last Flush.
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

// enter counts a subscription in, and gives it a number.
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

// leave ends a subscription, which may have failed, and counts it out.
func (b *Bus) leave(subscription *nats.Subscription) {
	if subscription != nil {
		subscription.Unsubscribe() // it fails only if the connection is closed
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

// spread puts what arrives into the queue of its subscription, while there are any.
func (b *Bus) spread() {
	for {
		select {
		case msg := <-b.arrived:
			b.mu.Lock()
			number := b.numbers[msg.Sub] // "" if it has gone, or has just come
			b.mu.Unlock()
			b.local.Publish(context.Background(), number, msg.Data) // it never fails with this context
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
