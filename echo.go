package atrium

import (
	"context"
	"fmt"
	"sync/atomic"
)

// Every node hears what it sends itself, by the topic of all nodes and by its own. One that does not is deaf, whatever the
// Bus says of its subscriptions.

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
	own.heard.Store(nanotime())
	if c.subscribed.Add(1) == int32(len(c.own)) {
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
	ctx, cancel := context.WithTimeout(c.topics.ctx, busTimeout)
	defer cancel()
	if why := c.flush(ctx); why != nil {
		err = fmt.Errorf("%w: %w", err, why)
	}
	if c.topics.ctx.Err() == nil && c.unheard() != "" {
		c.health.note(deafFault, err)
	}
}
