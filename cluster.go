package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// nodeHeartbeat is how often a node says that it is there, and nodeTimeout after what silence the others take it for gone.
	nodeHeartbeat = time.Second
	nodeTimeout   = 5 * time.Second
	// busTimeout bounds a Publish and a Subscribe.
	busTimeout = 2 * time.Second
	// clusterWait is how long what has no context waits for the Bus and the other nodes.
	clusterWait = time.Second
	// maxHold bounds how long a question waits for the events that its node has sent before it. The rest of clusterWait is
	// for the answer.
	maxHold = clusterWait * 3 / 4
	// maxClusterQueue bounds what waits to be published, in bytes, and likewise the notices that wait to be handled.
	maxClusterQueue = 16 << 20
	// sureToFit is a size in bytes that every broker takes: a larger message that fails says nothing of the Bus.
	sureToFit = 64 << 10
)

// Topics. No comma is in a namespace's name.
const everyNode = "nodes"

func nodeTopic(node string) string            { return "node:" + node }
func namespaceTopic(namespace string) string  { return "namespace:" + namespace }
func roomTopic(namespace, room string) string { return "room:" + namespace + "," + room }

// clusterHost is the hub as its cluster sees it.
type clusterHost interface {
	// deliver delivers an event that another node has emitted. It does not wait, and keeps nothing of m.
	deliver(m *clusterMessage)
	// notice handles an event for the application. It may take its time.
	notice(m *clusterMessage)
	// answer answers a question, with JSON values. It may take its time.
	answer(m *clusterMessage) []json.RawMessage
}

// cluster is a hub's place among those that share its Bus: one node of many. What a node sends goes into one queue, and
// one goroutine publishes it in order. What it hears is handled where the Bus delivers it, but for what may take its time.
// A node that cannot reach the Bus is alone, and goes on.
type cluster struct {
	node   string
	host   clusterHost
	bus    Bus
	clock  *wheel
	health *busHealth
	topics topics
	stop   context.CancelFunc

	own         [2]ownTopic
	started     atomic.Bool  // it has said that it is there
	asking      atomic.Bool  // the Bus is being asked why the node is deaf
	answering   atomic.Int32 // questions
	calling     atomic.Int32 // those that are calls
	counts      clusterCounts
	publishedTo atomic.Uint64 // the number of the last message that the Bus has taken
	notices     *queue[clusterMessage]

	sending sync.Mutex // makes numbering a message and queueing it one step. It guards:
	sent    uint64     // the number of the last message
	left    bool       // it was the goodbye
	out     *queue[outgoing]

	mu         sync.Mutex       // guards:
	nodes      map[string]int64 // the others, and when they were last heard of, by nanotime
	questions  map[uint64]*question
	asked      uint64 // the last question's number
	closed     bool
	beat       timer
	probes     []probe // that have not come back
	probed     int64   // nanotime of the last look at them
	probesLost uint64  // what counts.lost was then

	ended  chan struct{} // closed at the end of close
	endErr error         // what close returns, from then on
}

// clusterCounts are those of ClusterStats.
type clusterCounts struct {
	published, failed, dropped, received, malformed, repeated atomic.Uint64
	lost                                                      atomic.Uint64 // the failed ones of Publish
}

// outgoing is a message on its way to the Bus.
type outgoing struct {
	topic string
	msg   []byte
	done  chan struct{} // closed instead, if it is set
}

// newCluster makes a node that is still to start. linger is how long a room outlives its last member.
func newCluster(bus Bus, node string, host clusterHost, clock *wheel, linger time.Duration, log *limitedLog) *cluster {
	c := &cluster{node: node, host: host, bus: bus, clock: clock, health: newBusHealth(log),
		nodes: make(map[string]int64), questions: make(map[uint64]*question), ended: make(chan struct{})}
	c.own[0].name, c.own[1].name = nodeTopic(node), everyNode
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.topics = topics{bus: bus, log: log, clock: clock, linger: max(linger, minLinger), deliver: c.receive,
		outcome: c.attempted, begun: c.begun, ctx: ctx, byName: make(map[string]*topic)}
	c.out = newQueue(maxClusterQueue, c.publish)
	c.notices = newQueue(maxClusterQueue, func(m clusterMessage) { c.host.notice(&m) })
	c.beat.fire = c.tick
	return c
}

// start joins the others: when it hears them, it tells them.
func (c *cluster) start() {
	for i := range c.own {
		c.topics.want(c.own[i].name)
	}
}

// tick says that the node is there, to itself by both ways, and takes those for gone that have not said so for long.
func (c *cluster) tick() {
	c.probe()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	if topic := c.unheard(); topic != "" && c.topics.subscribed(topic) != nil {
		go c.noteDeaf(topic)
	}
	for node, heard := range c.nodes {
		if nanotime()-heard > int64(nodeTimeout) {
			c.lose(node)
		}
	}
	c.clock.schedule(&c.beat, after(nodeHeartbeat))
}

// lose takes a node for gone: nothing that was asked of it will be answered. c.mu is held.
func (c *cluster) lose(node string) {
	delete(c.nodes, node)
	for _, q := range c.questions {
		if q.waiting[node] != nil {
			q.giveUp(node)
		}
	}
}

// send queues a message for a topic, and returns its number. If there is no room for it, it is dropped and counted, and
// the number is 0. Nothing follows the goodbye.
func (c *cluster) send(topic string, m *clusterMessage) (number uint64) {
	m.from = c.node
	msg := m.encode()
	c.sending.Lock()
	defer c.sending.Unlock()
	if c.left { // or the others would take this node for present again
		return 0
	}
	c.left = m.kind == clusterGoodbye
	c.sent++
	setClusterNumber(msg, c.sent)
	if c.out.offer(outgoing{topic: topic, msg: msg}) == itemRefused {
		c.counts.dropped.Add(1)
		return 0
	}
	return c.sent
}

var errPublishGoexit = errors.New("atrium: Bus.Publish called runtime.Goexit")

func (o outgoing) size() int { return len(o.topic) + len(o.msg) + queueOverhead }

// publish is the queue's handler.
func (c *cluster) publish(o outgoing) {
	if o.done != nil {
		close(o.done)
		return
	}
	ctx, cancel := context.WithTimeout(c.topics.ctx, busTimeout)
	defer cancel()
	err := errPublishGoexit // unless it returns, or panics
	defer func() { c.published(o, err) }()
	err = c.callPublish(ctx, o)
}

// published accounts for a message that the Bus has taken, or has not.
func (c *cluster) published(o outgoing, err error) {
	switch {
	case err == nil:
		c.counts.published.Add(1)
		c.publishedTo.Store(clusterNumber(o.msg))
		c.outcome(publishFault, nil)
	case c.topics.ctx.Err() != nil: // it was close
	case len(o.msg) > sureToFit && !errors.Is(err, context.DeadlineExceeded): // the broker may have a bound on the size
		c.counts.lost.Add(1)
		c.counts.failed.Add(1)
		c.health.log.error("atrium: the bus does not take a message", slog.Any("error", err), slog.Int("bytes", len(o.msg)))
	default:
		c.counts.lost.Add(1)
		c.outcome(publishFault, err)
	}
}

// callPublish calls Bus.Publish. A panic of the Bus, which may be the application's own, is an error.
func (c *cluster) callPublish(ctx context.Context, o outgoing) (err error) {
	defer panicAsError("Bus.Publish", &err)
	return c.bus.Publish(ctx, o.topic, o.msg)
}

// outcome notes how a call of the Bus has ended.
func (c *cluster) outcome(fault busFault, err error) {
	if err != nil && c.topics.ctx.Err() != nil {
		return // it was close
	}
	if err != nil {
		c.counts.failed.Add(1)
	}
	c.health.note(fault, err)
}

// await waits until what is published to the topics reaches this node. It gives up when ctx ends, or after clusterWait if
// ctx has no deadline, and at once if the Bus fails.
func (c *cluster) await(ctx context.Context, names []string) {
	var cancel context.CancelFunc
	for _, name := range names {
		ready := c.topics.pending(name)
		if ready == nil {
			continue
		}
		if c.health.fails() {
			return
		}
		if cancel == nil {
			ctx, cancel = withLimit(ctx, clusterWait)
			defer cancel()
		}
		select {
		case <-ready:
		case <-ctx.Done():
			return
		case <-c.topics.ctx.Done():
			return
		}
	}
}

// withLimit gives a context without a deadline one.
func withLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// others lists the other nodes.
func (c *cluster) others() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]string, 0, len(c.nodes))
	for node := range c.nodes {
		list = append(list, node)
	}
	slices.Sort(list)
	return list
}

// receive deals with what a topic has brought.
func (c *cluster) receive(t *topic, msg []byte) {
	t.brought.Add(1)
	m, ok := parseClusterMessage(msg)
	switch {
	case !ok:
		c.counts.malformed.Add(1)
		return
	case m.from == c.node:
		c.echoed(t.name, m.number)
		if m.question != 0 {
			c.answered(&m) // the Bus works
		}
		return
	case !t.fresh(m.from, m.number):
		c.counts.repeated.Add(1)
		return
	}
	c.counts.received.Add(1)
	if t.name == everyNode { // whatever it says; by another topic something may come after the goodbye
		c.hello(m.from)
	}
	if len(t.heard) > t.crowded {
		c.thin(t)
	}
	switch m.kind {
	case clusterHello:
		if t.name != everyNode {
			c.topics.mark(t, m.from, m.number)
		}
	case clusterGoodbye:
		c.goodbye(m.from)
	case clusterEvent:
		c.host.deliver(&m)
	case clusterNotice:
		m.args = m.args.clone()
		if c.notices.offer(m) == itemRefused {
			c.counts.dropped.Add(1)
		}
	case clusterAnswer:
		c.answered(&m)
	case clusterCall: // which lasts as long as one client does not answer
		c.reply(&m, &c.calling)
	case clusterJoin, clusterLeave, clusterDisconnect, clusterSockets, clusterCount, clusterRooms:
		c.reply(&m, &c.answering)
	default:
		c.counts.malformed.Add(1)
	}
}

// thin has the topic forget the nodes that have gone.
func (c *cluster) thin(t *topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := func(node string, _ uint64) bool {
		_, known := c.nodes[node]
		return !known
	}
	maps.DeleteFunc(t.heard, gone)
	t.crowded = 2*len(t.heard) + topicNodes
	c.topics.unmark(t, gone)
}

// hello notes that a node is there. A new one is told of this one at once.
func (c *cluster) hello(node string) {
	c.mu.Lock()
	_, known := c.nodes[node]
	c.nodes[node] = nanotime()
	c.mu.Unlock()
	if !known {
		c.send(everyNode, &clusterMessage{kind: clusterHello})
	}
}

func (c *cluster) goodbye(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose(node)
}
