package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Kind is what a client is.
type Kind struct {
	Protocol Protocol
	TLS      bool
	Deflate  bool // it offers compression
	Upgrade  bool // from polling to a WebSocket
}

// Protocol is how a client speaks.
type Protocol string

// The protocols. The clients of the first three behave as Socket.IO's own does, those of the first
// keep to the plain protocol; the last are Atrium's.
const (
	Plain    Protocol = "plain"
	SocketIO Protocol = "Socket.IO"
	Polling  Protocol = "polling"
	Go       Protocol = "Go"
)

// String returns it in words.
func (k Kind) String() string {
	s := string(k.Protocol)
	for _, more := range []struct {
		is   bool
		what string
	}{{k.Upgrade, "upgraded"}, {k.Deflate, "compressed"}, {k.TLS, "TLS"}} {
		if more.is {
			s += ", " + more.what
		}
	}
	return s
}

// recovers reports whether such a client continues its socket when it comes back.
func (k Kind) recovers() bool { return k.Protocol != Plain }

// A Client joins rooms, leaves them, and calls, at random moments, and keeps account.
type Client struct {
	Kind Kind

	fleet   *Fleet
	node    *Node
	id      int
	random  *rand.Rand // of act
	pause   time.Duration
	account *Account
	link    link

	ctx     context.Context
	stop    context.CancelFunc
	leaving atomic.Bool    // it leaves for good
	resting atomic.Bool    // it begins nothing any more
	acting  atomic.Bool    // it is doing something
	ended   sync.WaitGroup // the goroutines
	again   atomic.Uint64  // orders that were sent once more, as often as they were
	key     uint64         // of the last order that was acknowledged; of act
	ops     int            // joins and leaves; of act

	mu    sync.Mutex // guards:
	isUp  bool
	wasUp bool
	lost  time.Time // when the last connection ended
}

// link is the connection of a client, which comes back when it ends.
type link interface {
	// run connects, again and again, until the client is stopped.
	run()
	// call returns the answer to a call; an error if the connection ended before.
	call(ctx context.Context, event string, data any) (json.RawMessage, error)
	// cut ends the connection without a word.
	cut()
	// leave ends the connection for good, so that the server knows.
	leave()
}

// Add starts a client, which acts once in a pause.
func (f *Fleet) Add(n *Node, k Kind, pause time.Duration, seed uint64) *Client {
	c := &Client{Kind: k, fleet: f, node: n, id: int(f.clients.Add(1)), pause: pause, account: newAccount(f.ledger, f.bus)}
	c.random = rand.New(rand.NewPCG(seed, uint64(c.id)))
	c.ctx, c.stop = context.WithCancel(context.Background())
	if k.Protocol == Go {
		c.link = newGoLink(c)
	} else {
		c.link = newRawLink(c)
	}
	c.ended.Go(c.link.run)
	c.ended.Go(c.act)
	return c
}

// Stop has the client leave for good.
func (c *Client) Stop() {
	c.leaving.Store(true)
	c.link.leave()
	c.stop()
	c.ended.Wait()
	c.down()
	c.fleet.Told.Add(int64(c.account.told))
	c.fleet.Missed.Add(int64(c.account.missed))
	c.fleet.Late.Add(int64(c.account.late))
	c.fleet.Known.Add(int64(c.fleet.ledger.calls[c.id].runs.Load() - c.fleet.ledger.calls[c.id].last.Load()))
}

// Cut ends the client's connection without a word; the client notices at once, and comes back.
func (c *Client) Cut() {
	c.fleet.Cut.Add(1)
	c.link.cut()
}

// rest has the client do nothing any more, but stay.
func (c *Client) rest() { c.resting.Store(true) }

// complete returns what the client has not been told yet, or has not done yet.
func (c *Client) complete() error {
	c.mu.Lock()
	isUp := c.isUp
	c.mu.Unlock()
	if !isUp {
		return c.wrong(errors.New("is not connected"))
	}
	if c.acting.Load() {
		return c.wrong(errors.New("awaits an answer"))
	}
	if err := c.account.Complete(); err != nil {
		return c.wrong(err)
	}
	return nil
}

// wrong returns an error that names the client.
func (c *Client) wrong(err error) error {
	return fmt.Errorf("client %d (%v) of server %d: %w", c.id, c.Kind, c.account.server(), err)
}

func (c *Client) fail(err error) {
	if err != nil && !c.leaving.Load() {
		c.fleet.Fail(c.wrong(err))
	}
}

// up notes a connection; down its end. Each may be called twice.
func (c *Client) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isUp {
		return
	}
	c.isUp = true
	c.fleet.Connected.Add(1)
	if c.wasUp {
		c.fleet.CameBack.Add(1)
		c.fleet.noteAway(time.Since(c.lost))
	}
	c.wasUp = true
}

func (c *Client) down() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isUp {
		c.isUp, c.lost = false, time.Now()
		c.fleet.Connected.Add(-1)
	}
}

// hear handles an event. The events of a client are handled in order.
func (c *Client) hear(event, data string) {
	switch event {
	case "hello":
		emitter, socket, _ := strings.Cut(data, ".")
		number, err := strconv.Atoi(emitter)
		if err != nil {
			c.fail(fmt.Errorf("damaged: %q in place of a hello", data))
			return
		}
		c.hello(number, socket)
	case "told":
		var emitter, room int
		var number uint64
		parts := strings.SplitN(data, ".", 4)
		if len(parts) == 4 {
			emitter, _ = strconv.Atoi(parts[0])
			number, _ = strconv.ParseUint(parts[1], 10, 64)
			room, _ = strconv.Atoi(parts[2])
		}
		if emitter == 0 || number == 0 {
			c.fail(fmt.Errorf("damaged: %q in place of an event", data))
			return
		}
		c.fail(c.account.Told(emitter, number, room))
	case "left":
		number, _ := strconv.Atoi(data)
		c.fail(c.account.Left(number))
	}
}

func (c *Client) hello(emitter int, socket string) {
	before := c.account.server()
	anew, err := c.account.Hello(emitter, socket)
	c.fail(err)
	switch {
	case anew && c.Kind.recovers():
		c.fail(fmt.Errorf("began anew, after server %d", before))
	case anew:
		c.fleet.Anew.Add(1)
	case before != 0:
		c.fleet.Recovered.Add(1)
	}
	c.up()
}

// act joins, leaves and calls until the client is stopped.
func (c *Client) act() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(time.Duration((0.5 + c.random.Float64()) * float64(c.pause))):
		}
		c.acting.Store(true)
		if !c.resting.Load() {
			c.step()
		}
		c.acting.Store(false)
	}
}

// step does one thing. A client is in two to four rooms.
func (c *Client) step() {
	in, all := c.account.rooms()
	switch {
	case all < 2 || all < 4 && c.random.IntN(4) == 0:
		c.join(c.random.IntN(c.fleet.rooms))
	case len(in) > 2 && c.random.IntN(2) == 0:
		c.leave(in[c.random.IntN(len(in))])
	default:
		c.order()
	}
}

func (c *Client) join(room int) {
	if c.account.isIn(room) {
		return
	}
	c.ops++
	for {
		c.account.Join(room)
		socket, ok := c.ask("join", stay{room, c.ops})
		if !ok {
			return
		}
		if c.account.Joined(room, socket) {
			c.fleet.Joins.Add(1)
			return
		}
	}
}

func (c *Client) leave(room int) {
	c.ops++
	c.account.Leave(room, c.ops)
	if _, ok := c.ask("leave", stay{room, c.ops}); ok {
		c.fleet.Leaves.Add(1)
	}
}

// order calls with a key. Whatever happens on the way, the call is carried out once, and before it
// is acknowledged.
func (c *Client) order() {
	key := c.key + 1
	answer, ok := c.ask("order", order{c.id, key})
	if !ok {
		return
	}
	entry := &c.fleet.ledger.calls[c.id]
	switch last, runs := entry.last.Load(), entry.runs.Load(); {
	case answer != strconv.FormatUint(key, 10):
		c.fail(fmt.Errorf("call %d was answered with %q", key, answer))
	case last < key:
		c.fail(fmt.Errorf("lost: call %d was acknowledged, and the last one carried out is %d", key, last))
	case last > key:
		c.fail(fmt.Errorf("doubled: call %d was carried out before it was sent", last))
	case runs > key+c.again.Load():
		c.fail(fmt.Errorf("doubled: %d orders were sent, and %d times again, but handled %d times", key, c.again.Load(), runs))
	}
	c.key = key
}

// callLimit is how long an answer may take, over all connections.
const callLimit = time.Minute

// ask returns the answer to a call, which is sent again when the connection ended before. It
// reports false when the client is stopped.
func (c *Client) ask(event string, data any) (answer string, ok bool) {
	ctx, cancel := context.WithTimeout(c.ctx, callLimit)
	defer cancel()
	for {
		b, err := c.link.call(ctx, event, data)
		switch {
		case err == nil:
			c.fleet.Calls.Add(1)
			return strings.Trim(string(b), `"`), true
		case c.leaving.Load():
			return "", false
		case ctx.Err() != nil:
			c.fail(fmt.Errorf("lost: no answer to %s %+v within %v", event, data, callLimit))
			return "", false
		case !errors.Is(err, errBroken):
			c.fail(fmt.Errorf("%s %+v was answered with an error: %w", event, data, err))
			return "", false
		}
		c.fleet.Again.Add(1)
		if event == "order" {
			c.again.Add(1)
		}
	}
}

// errBroken is the error of a call whose connection ended before the answer came.
var errBroken = errors.New("the connection has ended")
