package atrium

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// maxAnswering bounds the requests of other nodes that are being answered, and likewise the
	// calls among them.
	maxAnswering = 1000
	// maxAnswerPart bounds a message with several answers, in bytes: brokers have a limit.
	maxAnswerPart = 256 << 10
)

// clusterRequests are those that this node has sent, and those of others that it answers.
type clusterRequests struct {
	// How many requests of other nodes are being answered. Calls count apart: one lasts as long as
	// a client does not reply.
	answering, calling atomic.Int32

	// Guarded by cluster.mu.
	last    uint64                     // the number of the last request
	pending map[uint64]*clusterRequest // by number
}

// clusterRequest is a message that other nodes answer.
type clusterRequest struct {
	cluster *cluster
	number  uint64

	// Guarded by cluster.mu.
	waiting map[string]*int // the nodes that have not answered, and how many parts of each answer are in; this node until the request comes back
	lost    []string        // the nodes that have gone without an answer
	values  []json.RawMessage
	done    chan struct{} // closed when waiting is empty
}

// ask sends a request to a node, or to all of them if node is empty or not known: it may be there
// and not have been heard of. The caller must call wait.
func (c *cluster) ask(node string, m *clusterMessage) *clusterRequest {
	q := &clusterRequest{cluster: c, waiting: make(map[string]*int), done: make(chan struct{})}
	c.mu.Lock()
	c.requests.last++
	q.number = c.requests.last
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
	c.requests.pending[q.number] = q
	c.mu.Unlock()
	m.request = q.number
	c.send(topic, m)
	return q
}

// answered adds a part of an answer to its request. The node's own request, which has come back,
// shows that the Bus works.
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
	q := c.requests.pending[m.request]
	if q == nil || q.waiting[m.from] == nil {
		return
	}
	if m.from == c.node {
		q.settle(m.from)
		return
	}
	if m.part != *q.waiting[m.from] {
		return // one before it was lost, and the rest is useless without it
	}
	*q.waiting[m.from]++
	q.values = append(q.values, values...)
	if m.last {
		q.settle(m.from)
	}
}

// settle stops waiting for a node. cluster.mu is held.
func (q *clusterRequest) settle(node string) {
	delete(q.waiting, node)
	if len(q.waiting) == 0 {
		close(q.done)
	}
}

// lose is settle for a node that will not answer.
func (q *clusterRequest) lose(node string) {
	q.lost = append(q.lost, node)
	q.settle(node)
}

// wait waits for the answers and returns them. If some are missing it returns a *ClusterError, too.
func (q *clusterRequest) wait(ctx context.Context) ([]json.RawMessage, error) {
	c := q.cluster
	c.mu.Lock()
	cutOff := c.health.cutting
	c.mu.Unlock()
	select {
	case <-q.done:
	case <-cutOff:
	case <-ctx.Done():
	case <-c.topics.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.requests.pending, q.number)
	missing := q.lost
	_, unheard := q.waiting[c.node]
	for node := range q.waiting {
		if node != c.node {
			missing = append(missing, node)
		}
	}
	if len(missing) == 0 && !unheard {
		return q.values, nil
	}
	slices.Sort(missing)
	err := &ClusterError{Missing: missing}
	switch _, ill := c.health.err(); {
	case c.ending.begun:
		err.Err = ErrClosed
	case ill != nil && c.health.cutOff():
		err.Err = ill
	case ctx.Err() != nil:
		err.Err = timedOut(ctx.Err())
	}
	return q.values, err
}

// serve answers a request in a goroutine, unless too many of its kind are being answered already.
func (c *cluster) serve(m *clusterMessage, underWay *atomic.Int32) {
	if underWay.Add(1) > maxAnswering {
		underWay.Add(-1)
		c.counts.dropped.Add(1)
		return
	}
	m.args.json = bytes.Clone(m.args.json)
	go func() {
		defer underWay.Add(-1)
		c.awaitEvents(m)
		c.answer(m)
	}()
}

// awaitEvents waits until the events that the request's node had sent to its target before have
// been delivered: until the marker behind them has come. A marker that was lost costs maxHold.
func (c *cluster) awaitEvents(m *clusterMessage) {
	if m.mark == 0 {
		return
	}
	most := maxHold
	if m.kind == clusterCall {
		most = min(most, m.limit/2)
	}
	began := nanotime()
	ctx, cancel := context.WithTimeout(c.topics.ctx, most)
	defer cancel()
	c.topics.awaitMark(ctx, m.topic(), m.from, m.mark)
	m.limit -= time.Duration(nanotime() - began)
}

// answer answers a request, in parts that a broker takes.
func (c *cluster) answer(m *clusterMessage) {
	values := c.host.answer(m)
	for part := 0; ; part++ {
		n, size := 0, 0
		for n < len(values) && (n == 0 || size+len(values[n]) < maxAnswerPart) {
			size += len(values[n]) + 1
			n++
		}
		joined := bytes.Join(values[:n], []byte{','})
		values = values[n:]
		c.send(nodeTopic(m.from), &clusterMessage{kind: clusterAnswer, request: m.request, part: part, last: len(values) == 0,
			eventData: eventData{args: args{json: joined, n: n}}})
		if len(values) == 0 {
			return
		}
	}
}

// ClusterError is the error of a method that asks other nodes when some have not answered; the
// result beside it is that of the others. It occurs only with a Bus. A node that was killed is
// missing for about 5 seconds; one that was Shutdown is not.
type ClusterError struct {
	// Missing are the names of the nodes that have not answered. The ids of their sockets begin
	// with them.
	Missing []string
	// Err says why, if there is another reason than that they have gone: it matches ErrTimeout,
	// ctx's error, ErrBus or ErrClosed.
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
