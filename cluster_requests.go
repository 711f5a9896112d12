package atrium

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxAnswering bounds the questions of other nodes that are being answered, and likewise the calls.
	maxAnswering = 1000
	// maxAnswerPart bounds a message with several answers, in bytes: brokers have a limit.
	maxAnswerPart = 256 << 10
)

// question is something that other nodes were asked.
type question struct {
	cluster *cluster
	number  uint64

	// Guarded by cluster.mu.
	waiting map[string]*int // who has not answered, and how many parts of each answer are in; this node, for its own echo
	lost    []string        // who has gone without
	values  []json.RawMessage
	done    chan struct{} // closed when nobody is waited for
}

// ask asks a node, or all of them if node is empty or not known: it may be there and not have been heard of. The answers are
// to be waited for.
func (c *cluster) ask(node string, m *clusterMessage) *question {
	q := &question{cluster: c, waiting: make(map[string]*int), done: make(chan struct{})}
	c.mu.Lock()
	c.asked++
	q.number = c.asked
	topic := everyNode
	if _, known := c.nodes[node]; known {
		topic = nodeTopic(node)
		q.waiting[node] = new(int)
	} else {
		q.waiting[c.node] = new(int)
		for other := range c.nodes {
			q.waiting[other] = new(int)
		}
	}
	c.questions[q.number] = q
	c.mu.Unlock()
	m.question = q.number
	c.send(topic, m)
	return q
}

// answered takes in a part of an answer, or this node's own question, which says that the Bus works.
func (c *cluster) answered(m *clusterMessage) {
	var values []json.RawMessage
	if m.from != c.node {
		// Not by values: a reply may be as deep as it takes, and something is around it here.
		list := append(append([]byte{'['}, m.args.json...), ']')
		if json.Unmarshal(list, &values) != nil {
			return // as one of which a part was lost
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.questions[m.question]
	if q == nil || q.waiting[m.from] == nil {
		return
	}
	if m.from == c.node {
		q.settle(m.from)
		return
	}
	if m.part != *q.waiting[m.from] {
		return // one before it was lost, and the rest is worth nothing
	}
	*q.waiting[m.from]++
	q.values = append(q.values, values...)
	if m.last {
		q.settle(m.from)
	}
}

// settle notes that a node is not waited for any more. cluster.mu is held.
func (q *question) settle(node string) {
	delete(q.waiting, node)
	if len(q.waiting) == 0 {
		close(q.done)
	}
}

// giveUp is settle for one who will not answer.
func (q *question) giveUp(node string) {
	q.lost = append(q.lost, node)
	q.settle(node)
}

// wait returns the answers. Its error is a *ClusterError if there are not all.
func (q *question) wait(ctx context.Context) ([]json.RawMessage, error) {
	c := q.cluster
	select {
	case <-q.done:
	case <-c.health.muted():
	case <-ctx.Done():
	case <-c.topics.ctx.Done():
	}
	_, ill := c.health.err()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.questions, q.number)
	missing := q.lost
	_, cutOff := q.waiting[c.node]
	for node := range q.waiting {
		if node != c.node {
			missing = append(missing, node)
		}
	}
	if len(missing) == 0 && !cutOff {
		return q.values, nil
	}
	slices.Sort(missing)
	err := &ClusterError{Missing: missing}
	switch {
	case c.closed:
		err.Err = ErrClosed
	case ill != nil && c.health.mute():
		err.Err = ill
	case ctx.Err() != nil:
		err.Err = timedOut(ctx.Err())
	}
	return q.values, err
}

// reply has a question answered, unless too many of its kind are under way already.
func (c *cluster) reply(m *clusterMessage, underWay *atomic.Int32) {
	if underWay.Add(1) > maxAnswering {
		underWay.Add(-1)
		c.counts.dropped.Add(1)
		return
	}
	m.args = m.args.clone()
	go func() {
		defer underWay.Add(-1)
		c.hold(m)
		c.answer(m)
	}()
}

// hold keeps a question until the events for its target that its node had sent before have been delivered: until the
// marker behind them has come. A marker that was lost costs maxHold.
func (c *cluster) hold(m *clusterMessage) {
	if m.after == 0 {
		return
	}
	most := maxHold
	if m.kind == clusterCall {
		most = min(most, m.limit/2)
	}
	began := nanotime()
	ctx, cancel := context.WithTimeout(c.topics.ctx, most)
	defer cancel()
	c.topics.awaitMark(ctx, m.topic(), m.from, m.after)
	m.limit -= time.Duration(nanotime() - began)
}

// answer answers a question, in parts that a broker takes.
func (c *cluster) answer(m *clusterMessage) {
	values := c.host.answer(m)
	for part := 0; ; part++ {
		n, size := 0, 0
		for n < len(values) && (n == 0 || size+len(values[n]) < maxAnswerPart) {
			size += len(values[n]) + 1
			n++
		}
		joined := make([]byte, 0, size)
		for i, v := range values[:n] {
			if i > 0 {
				joined = append(joined, ',')
			}
			joined = append(joined, v...)
		}
		values = values[n:]
		c.send(nodeTopic(m.from), &clusterMessage{kind: clusterAnswer, question: m.question, part: part, last: len(values) == 0,
			eventData: eventData{args: args{json: joined, n: n}}})
		if len(values) == 0 {
			return
		}
	}
}

// ClusterError says that some nodes have not answered: the result beside it is that of the others. There are such errors with
// a Bus only. A node that was killed is missed for about 5 seconds; one that was Shutdown is not.
type ClusterError struct {
	// Missing are the nodes that have not answered. The ids of their sockets begin like this.
	Missing []string
	// Err says why, if more is known than that they have gone: it matches ErrTimeout, ctx's error, ErrBus or ErrClosed.
	Err error
}

// Error names the nodes.
func (e *ClusterError) Error() string {
	s := "atrium: not every node has answered"
	if len(e.Missing) > 0 {
		s = "atrium: no answer from node " + strings.Join(e.Missing, ", ")
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns e.Err.
func (e *ClusterError) Unwrap() error { return e.Err }
