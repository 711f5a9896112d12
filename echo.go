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
	name  string
	heard atomic.Int64 // nanotime of its last echo, or of the subscription; 0: there is none
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

// attempted is told how each attempt to subscribe to a topic has ended. A node without its own topics is deaf.
func (c *cluster) attempted(topic string, err error) {
	c.outcome(subscribeFault, err)
	if err != nil && c.topics.ctx.Err() == nil && c.ownTopic(topic) != nil {
		c.health.change(deafFault, err)
	}
}

// begun is told of each subscription.
func (c *cluster) begun(topic string) {
	own := c.ownTopic(topic)
	if own == nil {
		return
	}
	own.heard.CompareAndSwap(0, nanotime())
	for i := range c.own {
		if c.own[i].heard.Load() == 0 {
			return
		}
	}
	if c.started.CompareAndSwap(false, true) {
		for i := range c.own { // one may have been subscribed to long before the other
			c.own[i].heard.Store(nanotime())
		}
		c.tick()
	}
}

// echoed notes that the node has heard itself.
func (c *cluster) echoed(topic string) {
	own := c.ownTopic(topic)
	if own == nil {
		return
	}
	own.heard.Store(nanotime())
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

// deafen notes that what is published to the own topic does not come back. The Bus may know why.
func (c *cluster) deafen(topic string) {
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

// probe is a hello that the node has sent itself by a topic.
type probe struct {
	topic   *topic
	brought uint64 // what the topic had brought by then
	sent    int64  // nanotime
}

// probe has the node say that it is there, to itself, too: by its own topics, and by one of the others, any. A topic that has
// brought nothing at all for nodeTimeout after that has lost its subscription, unless nothing is published. One of many rooms
// waits for its turn.
func (c *cluster) probe() {
	now := nanotime()
	var silent []*topic
	c.mu.Lock()
	late := now-c.probed > int64(nodeTimeout) // the process stood still, and what came may still be waiting
	c.probed = now
	pending := c.probes[:0]
	for _, p := range c.probes {
		switch {
		case late:
		case p.topic.brought.Load() != p.brought || slices.Contains(silent, p.topic):
		case now-p.sent <= int64(nodeTimeout):
			pending = append(pending, p)
		case !c.health.has[publishFault].Load():
			silent = append(silent, p.topic)
		}
	}
	clear(c.probes[len(pending):])
	c.probes = pending
	for _, t := range c.topics.sample(c.own[0].name, c.own[1].name) {
		c.probes = append(c.probes, probe{t, t.brought.Load(), now})
	}
	probes := slices.Clone(c.probes[len(pending):])
	c.mu.Unlock()
	for _, p := range probes {
		c.send(p.topic.name, &clusterMessage{kind: clusterHello})
	}
	for _, t := range silent {
		go c.renew(t)
	}
}

// renew subscribes to a topic anew that has brought nothing.
func (c *cluster) renew(t *topic) {
	if t.gone.Load() {
		return
	}
	c.outcome(subscribeFault, fmt.Errorf("nothing comes by the topic %q", t.name))
	if !c.topics.renew(t) {
		c.outcome(subscribeFault, nil) // it has gone this moment
	}
}
