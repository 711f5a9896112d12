package atrium

import (
	"context"
	"fmt"
	"sync"
)

// Each node receives what it sends itself: by the topic of all nodes, and by its own. These are the
// control topics. A node that does not is unheard, whatever the Bus says of its subscriptions, and
// a subscription that brings nothing is renewed.

// clusterEcho is what a node knows of its own messages that have come back. cluster.mu guards it,
// but for the names.
type clusterEcho struct {
	control [2]controlTopic
	started sync.Once        // makes the first tick; each schedules the next
	asking  bool             // the Bus is being asked why nothing comes back
	probes  map[*topic]probe // the topics that a hello was sent by and that have brought nothing since
	checked int64            // nanotime of the last look at them
	lost    uint64           // what counts.lost was then
}

// controlTopic is a topic that the node must receive its own hellos by.
type controlTopic struct {
	name   string
	begun  bool   // it has been subscribed to
	heard  int64  // nanotime of the last echo, or of the first subscription; 0: there is none
	number uint64 // of the last echo
}

// probe is a hello by a topic.
type probe struct {
	number  uint64 // the message's
	brought uint64 // how many messages the topic had brought before
	taken   int64  // nanotime when the Bus was found to have taken it; 0: it has not
}

// topic returns the control topic of that name; nil if it is another topic.
func (e *clusterEcho) topic(name string) *controlTopic {
	for i := range e.control {
		if e.control[i].name == name {
			return &e.control[i]
		}
	}
	return nil
}

// begin notes that a control topic was subscribed to, and reports whether all are. It does so once.
func (e *clusterEcho) begin(t *controlTopic, now int64) (all bool) {
	if t.begun {
		return false
	}
	t.begun, t.heard = true, now
	for i := range e.control {
		if !e.control[i].begun {
			return false
		}
	}
	for i := range e.control { // one may have been subscribed to long before the other
		e.control[i].heard = now
	}
	return true
}

// unheard returns a control topic by which nothing has come back for nodeTimeout; "" if there is
// none.
func (e *clusterEcho) unheard(now int64) string {
	for i := range e.control {
		if heard := e.control[i].heard; heard == 0 || now-heard > int64(nodeTimeout) {
			return e.control[i].name
		}
	}
	return ""
}

// attempted notes how a call of Bus.Subscribe has ended. A node that is not subscribed to its
// control topics says that it is there nevertheless: otherwise the answers of the others would lack
// its sockets, without an error.
func (c *cluster) attempted(topic string, err error) {
	c.outcome(subscribeFault, err)
	if err != nil && c.topics.ctx.Err() == nil && c.echo.topic(topic) != nil {
		c.mu.Lock()
		c.health.set(echoFault, err)
		c.mu.Unlock()
		c.echo.started.Do(c.tick)
	}
}

// subscribed notes that a topic is subscribed to.
func (c *cluster) subscribed(topic string) {
	t := c.echo.topic(topic)
	if t == nil {
		return
	}
	c.mu.Lock()
	all := c.echo.begin(t, nanotime())
	c.mu.Unlock()
	if all {
		c.echo.started.Do(c.tick)
	}
}

// echoed notes that a message of the node has come back by a topic.
func (c *cluster) echoed(topic string, number uint64) {
	t := c.echo.topic(topic)
	if t == nil {
		return
	}
	now := nanotime()
	c.mu.Lock()
	t.heard, t.number = now, number
	all := c.echo.unheard(now) == ""
	c.mu.Unlock()
	if all {
		c.noteFault(echoFault, nil)
	}
}

// noteUnheard notes that what the node publishes to a control topic does not come back. It asks the
// Bus why, which may take a while.
func (c *cluster) noteUnheard(topic string) {
	c.mu.Lock()
	asking := c.echo.asking
	c.echo.asking = true
	c.mu.Unlock()
	if asking {
		return
	}
	err := fmt.Errorf("what this node publishes to the topic %q does not come back", topic)
	ctx, cancel := context.WithTimeout(c.topics.ctx, busTimeout)
	defer cancel()
	if why := c.flush(ctx); why != nil {
		err = fmt.Errorf("%w: %w", err, why)
	}
	c.mu.Lock()
	c.echo.asking = false
	unheard := c.echo.unheard(nanotime()) != ""
	c.mu.Unlock()
	if unheard && c.topics.ctx.Err() == nil {
		c.noteFault(echoFault, err)
	}
}

// sendHellos sends a hello by the control topics, which tells the other nodes that this one is
// there, and by one other topic: those take turns. c.mu is held.
func (c *cluster) sendHellos() {
	for i := range c.echo.control {
		name := c.echo.control[i].name
		if t := c.topics.named(name); t != nil {
			c.probe(t)
		} else {
			c.pushHello(name)
		}
	}
	if t := c.topics.nextProbed(c.echo.control[0].name, c.echo.control[1].name); t != nil {
		c.probe(t)
	}
}

// pushHello sends a hello and returns its number. c.mu is held.
func (c *cluster) pushHello(topic string) uint64 {
	m := clusterMessage{kind: clusterHello, from: c.node}
	return c.push(topic, m.kind, m.encode())
}

// probe sends a hello by a topic, which must bring it. c.mu is held.
func (c *cluster) probe(t *topic) {
	p := probe{brought: t.brought.Load()}
	p.number = c.pushHello(t.name)
	if _, waits := c.echo.probes[t]; !waits && p.number != 0 {
		c.echo.probes[t] = p
	}
}

// checkProbes renews the subscriptions to topics that have brought nothing for twice nodeTimeout
// after the Bus took a hello. A topic other than the control topics, by which later messages have
// come back by then, is sent another hello each time, since the Bus may lose one. After a failure
// of the Bus, or a pause of the process, all begins anew. c.mu is held.
func (c *cluster) checkProbes(now int64) {
	e := &c.echo
	paused, lost := now-e.checked > int64(nodeTimeout), c.counts.lost.Load()
	if paused || lost != e.lost {
		clear(e.probes)
	}
	e.checked, e.lost = now, lost
	published, echoed := c.sender.published.Load(), min(e.control[0].number, e.control[1].number)
	for t, p := range e.probes {
		control := e.topic(t.name) != nil
		switch {
		case t.brought.Load() != p.brought || t.gone.Load():
			delete(e.probes, t)
		case p.taken == 0:
			if published >= p.number {
				p.taken = now
				e.probes[t] = p
			}
		case !control && echoed <= p.number: // this node, or the Bus, is slow
		case now-p.taken > 2*int64(nodeTimeout):
			delete(e.probes, t)
			go c.renew(t)
		case !control:
			c.pushHello(t.name)
		}
	}
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
