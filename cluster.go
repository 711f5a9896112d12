package atrium

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// nodeHeartbeat is how often a node says that it is there. One that has not been heard of for
	// nodeTimeout has gone.
	nodeHeartbeat = time.Second
	nodeTimeout   = 5 * time.Second
	// busTimeout bounds a Publish and a Subscribe.
	busTimeout = 2 * time.Second
	// clusterWait bounds the wait for the Bus and the other nodes where there is no context.
	clusterWait = time.Second
	// maxHold bounds how long a request waits for the events that its node has sent before it. The
	// rest of clusterWait is for the answer.
	maxHold = clusterWait * 3 / 4
	// maxClusterQueue bounds the messages that wait to be published, and likewise the notices that
	// wait for the application's handlers, in bytes.
	maxClusterQueue = 16 << 20
	// sureToFit is a size in bytes that every broker takes. That a larger message fails says
	// nothing of the Bus.
	sureToFit = 64 << 10
)

// The names of topics. A namespace's name has no comma.
const everyNode = "nodes"

func nodeTopic(node string) string { return "node:" + node }

// roomTopic returns the topic of the events for a room, that of a user included, or for a whole
// namespace if room is empty.
func roomTopic(namespace, room string) string {
	if room == "" {
		return "namespace:" + namespace
	}
	if user, ok := userOf(room); ok {
		return "user:" + namespace + "," + user
	}
	return "room:" + namespace + "," + room
}

// clusterHost is the hub as its cluster sees it.
type clusterHost interface {
	// deliver delivers an event that another node has emitted. It does not wait, and keeps nothing
	// of m.
	deliver(m *clusterMessage)
	// presence handles an update of another node's presences, and presenceDigest which were the
	// last. They do not wait, and keep nothing of m.
	presence(m *clusterMessage)
	presenceDigest(m *clusterMessage)
	// lost is called when a node has gone, after a goodbye or because it was not heard of.
	lost(node string, goodbye bool)
	// beat is called every nodeHeartbeat.
	beat()
	// notice handles an event for the application. It may wait.
	notice(m *clusterMessage)
	// answer carries out a request and returns the answer, JSON values. It may wait.
	answer(m *clusterMessage) [][]byte
}

// cluster is a hub's node: its place among the hubs that share a Bus. What the node sends is
// numbered and queued, and the queue's goroutine publishes it in order. What it receives is handled
// where the Bus delivers it, except for what may wait. A node that cannot reach the Bus goes on
// alone.
type cluster struct {
	node    string
	host    clusterHost
	bus     Bus
	clock   *wheel
	stop    context.CancelFunc // ends topics.ctx
	topics  topics
	counts  clusterCounts
	sender  clusterSender
	notices *queue[clusterMessage]

	mu       sync.Mutex       // guards:
	nodes    map[string]int64 // the other nodes, and when each was last heard of, by nanotime
	health   busHealth
	requests clusterRequests
	echo     clusterEcho
	beat     timer // of tick
	ending   clusterEnding
}

// clusterCounts are those of ClusterStats.
type clusterCounts struct {
	published, failed, dropped, received, malformed, repeated atomic.Uint64
	lost                                                      atomic.Uint64 // the failed ones of Publish
}

// newCluster returns a node that has not started. linger is how long a room's topic outlives its
// last member.
func newCluster(bus Bus, node string, host clusterHost, clock *wheel, linger time.Duration, log *limitedLog) *cluster {
	ctx, stop := context.WithCancel(context.Background())
	c := &cluster{node: node, host: host, bus: bus, clock: clock, stop: stop, health: busHealth{cutting: make(chan struct{})},
		nodes: make(map[string]int64), requests: clusterRequests{pending: make(map[uint64]*clusterRequest)},
		echo: clusterEcho{control: [2]controlTopic{{name: nodeTopic(node)}, {name: everyNode}}, probes: make(map[*topic]probe)}}
	c.topics = topics{bus: bus, log: log, clock: clock, linger: max(linger, minLinger), deliver: c.receive,
		attempted: c.attempted, subscribed: c.subscribed, ctx: ctx, byName: make(map[string]*topic)}
	c.sender.queue = newQueue(maxClusterQueue, c.publish)
	c.notices = newQueue(maxClusterQueue, func(m clusterMessage) { c.host.notice(&m) })
	c.beat.fire = c.tick
	return c
}

// start subscribes to the control topics. The node says that it is there when it is subscribed to
// them.
func (c *cluster) start() {
	for i := range c.echo.control {
		c.topics.acquire(c.echo.control[i].name)
	}
}

// tick says that the node is there, checks that it receives that itself, and removes the nodes that
// have not been heard of for nodeTimeout. It runs every nodeHeartbeat, and when that time is over.
func (c *cluster) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ending.begun {
		return
	}
	var lost []string
	now := nanotime()
	c.checkProbes(now)
	c.sendHellos()
	if name := c.echo.unheard(now); name != "" && c.topics.named(name) != nil {
		go c.noteUnheard(name)
	}
	next := after(nodeHeartbeat)
	for node, heard := range c.nodes {
		if now-heard > int64(nodeTimeout) {
			c.remove(node)
			lost = append(lost, node)
		} else {
			next = min(next, heard+int64(nodeTimeout)+1)
		}
	}
	c.clock.schedule(&c.beat, next)
	go func() {
		for _, node := range lost {
			c.host.lost(node, false)
		}
		c.host.beat()
	}()
}

// hello notes that a node is there. A node that was not known is told at once that this one is
// there.
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
	c.remove(node)
	c.mu.Unlock()
	c.host.lost(node, true)
}

// remove removes a node that has gone, and no longer waits for its answers. c.mu is held.
func (c *cluster) remove(node string) {
	delete(c.nodes, node)
	for _, q := range c.requests.pending {
		if q.waiting[node] != nil {
			q.lose(node)
		}
	}
}

// others lists the other nodes.
func (c *cluster) others() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.nodes))
}

// await waits until what is published to the topics reaches this node. It gives up when ctx ends,
// or after clusterWait if ctx has no deadline, and at once if the Bus fails.
func (c *cluster) await(ctx context.Context, names []string) {
	waiting := c.topics.pending(names...)
	if len(waiting) == 0 {
		return
	}
	ctx, cancel := withLimit(ctx, clusterWait)
	defer cancel()
	for _, t := range waiting {
		if c.health.fails() || c.topics.await(ctx, t) != nil {
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

// receive handles a message that a topic has brought.
func (c *cluster) receive(t *topic, msg []byte) {
	t.brought.Add(1)
	m, ok := parseClusterMessage(msg)
	switch {
	case !ok:
		c.counts.malformed.Add(1)
		return
	case m.from == c.node:
		c.echoed(t.name, m.number)
		if m.request != 0 {
			c.answered(&m) // the Bus works
		}
		return
	case !t.fresh(m.from, m.number):
		c.counts.repeated.Add(1)
		return
	}
	c.counts.received.Add(1)
	if t.name == everyNode { // any message will do; by another topic one may come after the goodbye
		c.hello(m.from)
	}
	if len(t.latest) > t.crowded {
		c.forgetGone(t)
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
	case clusterPresence:
		c.host.presence(&m)
	case clusterPresenceDigest:
		c.host.presenceDigest(&m)
	case clusterNotice:
		m.args.json = bytes.Clone(m.args.json)
		if c.notices.offer(m) == itemRefused {
			c.counts.dropped.Add(1)
		}
	case clusterAnswer:
		c.answered(&m)
	case clusterCall: // it lasts as long as one client does not reply
		c.serve(&m, &c.requests.calling)
	case clusterJoin, clusterLeave, clusterDisconnect, clusterSockets, clusterCount, clusterRooms, clusterStats,
		clusterPresenceWhole:
		c.serve(&m, &c.requests.answering)
	default:
		c.counts.malformed.Add(1)
	}
}

// forgetGone has the topic forget the nodes that have gone.
func (c *cluster) forgetGone(t *topic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := func(node string, _ uint64) bool {
		_, known := c.nodes[node]
		return !known
	}
	maps.DeleteFunc(t.latest, gone)
	t.crowded = 2*len(t.latest) + topicNodes
	c.topics.unmark(t, gone)
}
