package redisbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// answerTimeout is how long the broker may take to answer before the connection counts as broken.
	answerTimeout = 5 * time.Second
	// pulse is how often it is asked whether it is there, while nothing else is to be said.
	pulse = 10 * time.Second
	// Attempts to connect are between these apart: twice as far each time.
	minBackoff, maxBackoff = 50 * time.Millisecond, time.Second
)

var errSilent = errors.New("redisbus: the broker does not answer")

var errMoved = errors.New("redisbus: the channel has moved to another server")

// line brings the messages of some channels. While there are any, it has a connection and two goroutines.
//
// One tells the broker, in rounds, which channels are new and which have gone, and asks for an echo behind that: when it
// comes, all that was said before is in force. The other reads. Whatever goes wrong, the connection is given up, and after
// it a new one is made that begins with all channels. So nobody has to know what a connection was told in its last moments.
type line struct {
	bus  *Bus
	wake chan struct{} // has a token when there is something to tell

	mu       sync.Mutex // guards:
	channels map[string]*channel
	untold   []string        // new channels, to be told
	gone     []string        // those that have gone, to be told
	going    map[string]bool // told in this round
	running  bool            // keep runs
	failure  error           // why there is no connection
	closed   bool            // the client is: there will be none
}

// channel is one that has subscriptions.
type channel struct {
	subscriptions int
	told          bool          // the connection was
	ready         chan struct{} // closed while the broker has confirmed
}

func newLine(b *Bus) *line {
	return &line{bus: b, wake: make(chan struct{}, 1), channels: make(map[string]*channel)}
}

// enter counts a subscription in, and waits until the broker has confirmed the channel.
func (l *line) enter(ctx context.Context, name string) (leave func(), err error) {
	l.mu.Lock()
	c := l.channels[name]
	if c == nil {
		c = &channel{ready: make(chan struct{})}
		l.channels[name] = c
		l.untold = append(l.untold, name)
		l.nudge()
	}
	c.subscriptions++
	if !l.running {
		l.running = true
		go l.keep()
	}
	ready := c.ready
	l.mu.Unlock()

	leave = func() { l.leave(name, c) }
	select {
	case <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.mu.Lock()
	switch {
	case l.closed:
		err = redis.ErrClosed
	case err != nil && l.failure != nil:
		err = fmt.Errorf("%w; %w", err, l.failure)
	}
	l.mu.Unlock()
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

func (l *line) leave(name string, c *channel) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.subscriptions--; c.subscriptions > 0 {
		return
	}
	delete(l.channels, name)
	if c.told {
		l.gone = append(l.gone, name)
	}
	l.nudge()
}

func (l *line) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// keep has one connection after the other while there are channels.
func (l *line) keep() {
	backoff := minBackoff
	for {
		worked, err := l.connection()
		if l.ended(err) {
			return
		}
		if worked || err == nil {
			backoff = minBackoff
		}
		if err == nil {
			continue // channels came while the connection was given up for want of any
		}
		l.pause(backoff/2 + rand.N(backoff/2))
		backoff = min(2*backoff, maxBackoff)
		if cluster, ok := l.bus.client.(*redis.ClusterClient); ok {
			cluster.ReloadState(context.Background()) // there may be another server to turn to
		}
	}
}

// ended is called without a connection. It reports whether there is to be no other.
func (l *line) ended(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
	l.untold, l.gone, l.going = slices.Collect(maps.Keys(l.channels)), nil, nil
	l.closed = errors.Is(err, redis.ErrClosed)
	for _, c := range l.channels {
		if c.told = false; c.isReady() {
			c.ready = make(chan struct{})
		}
		if l.closed {
			close(c.ready)
		}
	}
	l.running = len(l.channels) > 0 && !l.closed
	return !l.running
}

func (c *channel) isReady() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// pause waits, but not without a channel to wait for.
func (l *line) pause(d time.Duration) {
	over := time.After(d)
	for {
		select {
		case <-over:
			return
		case <-l.wake:
			if l.idle() {
				return
			}
		}
	}
}

func (l *line) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.channels) == 0
}

// connection makes one and stays with it until it breaks, or there are no channels. It reports whether the broker
// confirmed anything.
func (l *line) connection() (worked bool, err error) {
	pubsub := l.bus.client.Subscribe(context.Background()) // connects when the first channels are told
	var reader *reader
	defer func() {
		pubsub.Close()
		if reader != nil {
			<-reader.ended // or a message could come over this connection and the next
		}
	}()
	for round := 1; ; round++ {
		added, gone, idle := l.changes()
		if idle {
			return worked, nil
		}
		echo := strconv.Itoa(round)
		if err := l.tell(pubsub, added, gone, echo); err != nil {
			return worked, err
		}
		if reader == nil {
			reader = l.read(pubsub)
		}
		if err := reader.await(echo); err != nil {
			return worked, err
		}
		l.confirm(added)
		worked = true
		select {
		case <-l.wake:
		case <-time.After(pulse):
		case <-reader.ended:
			return worked, reader.err
		}
	}
}

// changes takes what is to be told, unless there are no channels.
func (l *line) changes() (added, gone []string, idle bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone, l.gone = l.gone, nil
	l.going = make(map[string]bool, len(gone))
	for _, name := range gone {
		l.going[name] = true
	}
	for _, name := range l.untold {
		if c := l.channels[name]; c != nil && !c.told {
			c.told = true
			added = append(added, name)
		}
	}
	l.untold = nil
	return added, gone, len(l.channels) == 0
}

func (l *line) tell(pubsub *redis.PubSub, added, gone []string, echo string) error {
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	subscribe, unsubscribe := pubsub.Subscribe, pubsub.Unsubscribe
	if l.bus.shards {
		subscribe, unsubscribe = pubsub.SSubscribe, pubsub.SUnsubscribe
	}
	if len(gone) > 0 { // first: one of them may be back
		if err := unsubscribe(ctx, gone...); err != nil {
			return err
		}
	}
	if len(added) > 0 {
		if err := subscribe(ctx, added...); err != nil {
			return err
		}
	}
	return pubsub.Ping(ctx, echo)
}

// confirm lets those go who wait for these.
func (l *line) confirm(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.going = nil, nil
	for _, name := range names {
		if c := l.channels[name]; c != nil && c.told && !c.isReady() {
			close(c.ready)
		}
	}
}

// reader is the goroutine that reads a connection.
type reader struct {
	echoes chan string
	ended  chan struct{}
	err    error // why; to be read after ended
}

func (l *line) read(pubsub *redis.PubSub) *reader {
	r := &reader{echoes: make(chan string, 1), ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for r.err == nil {
			var received any
			if received, r.err = pubsub.Receive(context.Background()); r.err != nil {
				return
			}
			switch received := received.(type) {
			case *redis.Message:
				r.err = l.bus.local.Publish(context.Background(), received.Channel, []byte(received.Payload))
			case *redis.Pong:
				select {
				case r.echoes <- received.Payload:
				default: // nobody asked
				}
			case *redis.Subscription:
				r.err = l.check(received)
			}
		}
	}()
	return r
}

// check notices when a channel goes that was not told to: its slot is on another server now.
func (l *line) check(s *redis.Subscription) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if strings.HasSuffix(s.Kind, "unsubscribe") && !l.going[s.Channel] {
		return errMoved
	}
	return nil
}

// await waits for the echo.
func (r *reader) await(echo string) error {
	timeout := time.After(answerTimeout)
	for {
		select {
		case got := <-r.echoes:
			if got == echo {
				return nil
			}
		case <-r.ended:
			return r.err
		case <-timeout:
			return errSilent
		}
	}
}
