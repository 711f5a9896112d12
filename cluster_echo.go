package atrium

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
)

// Every node hears what it sends itself, by the topic of all nodes and by its own. One that does not is deaf, whatever the
// Bus says of its subscriptions. A subscription that brings nothing is made anew.

// ownTopic is a topic that every node must hear itself by: the one that all nodes hear, and its own.
type ownTopic struct {
	name   string
	begun  atomic.Bool   // it has been subscribed to
	heard  atomic.Int64  // nanotime of its last echo, or of the subscription; 0: there is none
	number atomic.Uint64 // the last echo's
}

// ownTopic returns the own topic of that name; nil if it is another.
func (c *cluster) ownTopic(name string) *ownTopic {
	for i := range c.own {
		if c.own[i].name == name {
			return &c.own[i]
		}
	}
	return nil
}

// attempted is told how each attempt to subscribe to a topic has ended. A node without its own topics is deaf. It says that
// it is there all the same: what the others ask would leave its sockets out otherwise, without an error.
func (c *cluster) attempted(topic string, err error) {
	c.outcome(subscribeFault, err)
	if err == nil || c.topics.ctx.Err() != nil || c.ownTopic(topic) == nil {
		return
	}
	c.health.change(deafFault, err)
	if c.started.CompareAndSwap(false, true) {
		c.tick()
	}
}

// begun is told of each subscription.
func (c *cluster) begun(topic string) {
	own := c.ownTopic(topic)
	if own == nil || !own.begun.CompareAndSwap(false, true) {
		return // another topic, or not for the first time
	}
	own.heard.Store(nanotime())
	for i := range c.own {
		if !c.own[i].begun.Load() {
			return
		}
	}
	for i := range c.own { // one may have been subscribed to long before the other
		c.own[i].heard.Store(nanotime())
	}
	if c.started.CompareAndSwap(false, true) {
		c.tick()
	}
}

// echoed notes that the node has heard itself.
func (c *cluster) echoed(topic string, number uint64) {
	own := c.ownTopic(topic)
	if own == nil {
		return
	}
	own.heard.Store(nanotime())
	own.number.Store(number)
	if c.health.has[deafFault].Load() && c.unheard() == "" {
		c.health.note(deafFault, nil)
	}
}

// unheard returns an own topic by which the node has not heard itself for nodeTimeout; "" if there is none.
func (c *cluster) unheard() string {
	for i := range c.own {
		if heard := c.own[i].heard.Load(); heard == 0 || nanotime()-heard > int64(nodeTimeout) {
			return c.own[i].name
		}
	}
	return ""
}

// noteDeaf notes that what the node publishes to its own topic does not come back. It asks the Bus why, which may take a
// while.
func (c *cluster) noteDeaf(topic string) {
	if !c.asking.CompareAndSwap(false, true) {
		return
	}
	defer c.asking.Store(false)
	err := fmt.Errorf("what this node publishes to the topic %q does not come back", topic)
	if f, ok := c.bus.(BusFlusher); ok {
		ctx, cancel := context.WithTimeout(c.topics.ctx, busTimeout)
		defer cancel()
		if why := f.Flush(ctx); why != nil {
			err = fmt.Errorf("%w: %w", err, why)
		}
	}
	if c.topics.ctx.Err() == nil && c.unheard() != "" {
		c.health.note(deafFault, err)
	}
}

// probe is a hello that the node has sent itself by a topic, to see whether anything comes.
type probe struct {
	topic   *topic
	number  uint64 // the message's
	brought uint64 // what the topic had brought by then
	left    int64  // nanotime when the Bus was found to have taken it; 0: it has not
	second  bool   // one before it has not come back
}

// probe sends a hello by the node's own topics, which also tells the other nodes that it is there, and by one other topic:
// those take turns. It renews the subscriptions that silent finds: an own one at once, another after a second probe.
func (c *cluster) probe() {
	c.mu.Lock()
	silent := c.silent(nanotime())
	c.mu.Unlock()
	for i := range c.own {
		if t := c.topics.subscribed(c.own[i].name); t != nil {
			c.probeBy(t, false)
		} else {
			c.send(c.own[i].name, &clusterMessage{kind: clusterHello}) // to the others
		}
	}
	if t := c.topics.nextProbed(c.own[0].name, c.own[1].name); t != nil {
		c.probeBy(t, false)
	}
	for _, p := range silent {
		if c.ownTopic(p.topic.name) != nil || p.second {
			go c.renew(p.topic)
		} else {
			c.probeBy(p.topic, true)
		}
	}
}

func (c *cluster) probeBy(t *topic, second bool) {
	p := probe{topic: t, brought: t.brought.Load(), second: second}
	if p.number = c.send(t.name, &clusterMessage{kind: clusterHello}); p.number == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.probes = append(c.probes, p)
}

// silent removes the probes that have come back, and returns those that should have by now, one of each topic: nothing at
// all has come by the topic for nodeTimeout after the Bus took the probe, although what was sent later has come by the
// node's own topics, so that neither the node nor the Bus is slow. An own topic has twice the time instead. After a
// failure of the Bus, or a pause of the process, all probes are forgotten. c.mu is held.
func (c *cluster) silent(now int64) (list []probe) {
	published, failed := c.publishedTo.Load(), c.counts.lost.Load()
	late := now-c.probed > int64(nodeTimeout) // the process stood still
	if late || failed != c.probesLost {
		c.probes = nil
	}
	c.probed, c.probesLost = now, failed
	echo := min(c.own[0].number.Load(), c.own[1].number.Load())
	pending := c.probes[:0]
	for _, p := range c.probes {
		if p.left == 0 && published >= p.number {
			p.left = now
		}
		patience, later := int64(nodeTimeout), echo > p.number
		if c.ownTopic(p.topic.name) != nil {
			patience, later = 2*patience, true
		}
		switch {
		case p.topic.brought.Load() != p.brought || p.topic.gone.Load():
		case p.left == 0 || now-p.left <= patience || !later:
			pending = append(pending, p)
		default:
			if i := slices.IndexFunc(list, func(q probe) bool { return q.topic == p.topic }); i >= 0 {
				list[i].second = list[i].second || p.second
			} else {
				list = append(list, p)
			}
		}
	}
	clear(c.probes[len(pending):])
	c.probes = pending
	return list
}

// renew subscribes anew to a topic that has brought nothing.
func (c *cluster) renew(t *topic) {
	if t.gone.Load() {
		return
	}
	c.outcome(subscribeFault, fmt.Errorf("nothing comes by the topic %q", t.name))
	if !c.topics.renew(t) {
		c.outcome(subscribeFault, nil) // it has gone this moment
	}
}
