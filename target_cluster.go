package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// What targets are on other nodes: each asks the others to do to their sockets what it does to its
// own.

// topic returns where what is for a room is published, or for everybody with no name.
func (n *Namespace) topic(room string) string {
	if room == "" {
		return namespaceTopic(n.name)
	}
	return roomTopic(n.name, room)
}

// await waits for the Bus to bring what others emit to the rooms.
func (n *Namespace) await(ctx context.Context, rooms []string) {
	if c := n.hub.cluster; c != nil {
		topics := make([]string, len(rooms))
		for i, room := range rooms {
			topics[i] = n.topic(room)
		}
		c.await(ctx, topics)
	}
}

// subscribeAway subscribes to the rooms of an absent client for as long as it may be away: topics
// linger.
func (n *Namespace) subscribeAway(rooms []string) {
	if c := n.hub.cluster; c != nil {
		for _, room := range rooms {
			c.topics.acquire(n.topic(room))
			c.topics.release(n.topic(room))
		}
	}
}

// awaitAll is await for a socket that has entered, to which more is emitted than by its rooms.
func (s *Socket) awaitAll() {
	if c := s.ns.hub.cluster; c != nil {
		c.await(context.Background(), []string{everyNode, nodeTopic(c.node), s.ns.topic("")})
		s.ns.await(context.Background(), s.Rooms())
	}
}

// reach says who else may have sockets of a target.
type reach uint8

const (
	noOtherNode reach = iota
	oneOtherNode
	allOtherNodes
)

// elsewhere returns on which other nodes the target may have sockets; which, if it is one.
func (t Target) elsewhere() (r reach, node string) {
	c := t.ns.hub.cluster
	switch {
	case c == nil || t.local || t.only != nil || t.scoped && len(t.rooms) == 0:
		return noOtherNode, ""
	case len(t.rooms) != 1:
		return allOtherNodes, ""
	}
	name := t.rooms[0]
	switch node, isID := nodeOfID(name); {
	case checkRoomName(name) != nil:
		return noOtherNode, "" // nobody is in it, and a broker may hang up on a topic of any length
	case !isID:
		return allOtherNodes, ""
	case node == c.node:
		return noOtherNode, ""
	default:
		return oneOtherNode, node
	}
}

// message describes the target to other nodes.
func (t Target) message(kind clusterKind) clusterMessage {
	return clusterMessage{kind: kind, namespace: t.ns.name, scoped: t.scoped, rooms: t.rooms, except: t.except,
		volatile: t.volatile, compress: uint8(t.compress)}
}

// emitElsewhere sends a message to the sockets of the other nodes. One room has a topic of its own,
// which only nodes with members hear; what is for several goes by the namespace's, so that it
// reaches a member of two rooms once.
func (t Target) emitElsewhere(m *message) {
	r, node := t.elsewhere()
	if r == noOtherNode {
		return
	}
	out := t.message(clusterEvent)
	out.eventData = m.eventData
	topic := out.topic()
	if r == oneOtherNode {
		topic = nodeTopic(node)
	}
	t.ns.hub.cluster.send(topic, &out)
}

// target is the target that the message is about, here. It reports false if nobody is in the
// namespace.
func (h *Hub) target(in *clusterMessage) (t Target, ok bool) {
	h.mu.Lock()
	n := h.namespaces[in.namespace]
	h.mu.Unlock()
	return Target{ns: n, scoped: in.scoped, rooms: setOf(in.rooms), except: setOf(in.except),
		local: true, volatile: in.volatile, compress: compressRule(in.compress)}, n != nil
}

// deliver implements clusterHost.
func (h *Hub) deliver(in *clusterMessage) {
	if t, ok := h.target(in); ok {
		m := acquireMessage(in.namespace, in.eventData)
		m.volatile = in.volatile
		t.emit(m)
		m.release()
	}
}

// answer implements clusterHost.
func (h *Hub) answer(q *clusterMessage) []json.RawMessage {
	t, ok := h.target(q)
	if !ok {
		return nil
	}
	switch q.kind {
	case clusterCall:
		m := acquireMessage(q.namespace, q.eventData)
		defer m.release()
		ctx, cancel := context.WithTimeout(context.Background(), q.limit)
		defer cancel()
		replies := t.call(ctx, m)
		list := make([]foreignReply, len(replies))
		for i := range replies {
			list[i] = encodeReply(replies[i])
		}
		return encodeAll(list)
	case clusterJoin:
		names, err := newRoomNames(q.names)
		if err == nil {
			err = t.join(context.Background(), names)
		}
		if err != nil {
			return encodeAll([]string{err.Error()})
		}
	case clusterLeave:
		_ = t.Leave(context.Background(), q.names...) // which cannot fail here
	case clusterDisconnect:
		var status closeStatus
		if json.Unmarshal(q.args.json, &status) != nil || !status.Code.onWire() {
			status = closeStatus{} // it was not given
		}
		_ = t.disconnect(context.Background(), status) // likewise
	case clusterSockets:
		return encodeAll(t.sockets())
	case clusterCount:
		return encodeAll(t.count())
	case clusterRooms:
		return encodeAll(t.ns.LocalRooms())
	}
	return nil
}

func encodeAll[T any](list []T) []json.RawMessage {
	values := make([]json.RawMessage, len(list))
	for i, v := range list {
		values[i], _ = json.Marshal(v) // of types that are all encodable
	}
	return values
}

// ask asks the other nodes that the target may have sockets on; nil if there are none. A request
// goes by other topics than the events for its target, unless these are the sockets of one node. So
// that the two keep their order, a marker follows the events.
func (t Target) ask(m *clusterMessage) *clusterRequest {
	c := t.ns.hub.cluster
	r, node := t.elsewhere()
	switch {
	case r == noOtherNode:
		return nil
	case r == allOtherNodes && m.kind.followsEvents():
		m.after = c.send(m.topic(), &clusterMessage{kind: clusterHello})
	}
	return c.ask(node, m)
}

// everywhere does something here and has the other nodes do it, who are asked by m.
func (t Target) everywhere(ctx context.Context, m *clusterMessage, here func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	q := t.ask(m)
	if q == nil {
		return here(ctx)
	}
	ctx, cancel := withLimit(ctx, clusterWait)
	defer cancel()
	err := here(ctx)
	values, incomplete := q.wait(ctx)
	errs := []error{err, incomplete}
	for _, text := range decodeAll[string](values) {
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// gather collects what the nodes know of a target.
func gather[T any](ctx context.Context, t Target, kind clusterKind, here func() []T) ([]T, error) {
	if err := ctx.Err(); err != nil {
		return here(), err
	}
	m := t.message(kind)
	q := t.ask(&m)
	list := here()
	if q == nil {
		return list, nil
	}
	ctx, cancel := withLimit(ctx, t.ns.hub.options.Timeouts.Call)
	defer cancel()
	values, err := q.wait(ctx)
	return append(list, decodeAll[T](values)...), err
}

// decodeAll leaves out what is no T: another release may have sent it.
func decodeAll[T any](values []json.RawMessage) []T {
	list := make([]T, 0, len(values))
	for _, value := range values {
		var v T
		if json.Unmarshal(value, &v) == nil {
			list = append(list, v)
		}
	}
	return list
}

// callEverywhere calls the target's sockets on all nodes.
func (t Target) callEverywhere(ctx context.Context, m *message) ([]Reply, error) {
	if r, _ := t.elsewhere(); r == noOtherNode {
		return t.call(ctx, m), nil
	}
	ctx, cancel := withLimit(ctx, t.ns.hub.options.Timeouts.Call)
	defer cancel()
	deadline, _ := ctx.Deadline()
	about := t.message(clusterCall)
	about.eventData = m.eventData
	about.limit = answerBefore(time.Until(deadline))
	q := t.ask(&about)
	replies := t.call(ctx, m)
	if q == nil { // the node has gone this moment
		return replies, nil
	}
	values, err := q.wait(ctx)
	for _, r := range decodeAll[foreignReply](values) {
		replies = append(replies, r.decode())
	}
	return replies, err
}

// answerBefore leaves an answer the time to travel back.
func answerBefore(limit time.Duration) time.Duration {
	return max(limit-min(limit/4, 250*time.Millisecond), time.Millisecond)
}

// foreignReply is a Reply of another node's socket, as JSON between nodes.
type foreignReply struct {
	ID   string          `json:"id"`
	Data json.RawMessage `json:"data,omitempty"`
	// Values are all values of an answer that has several.
	Values json.RawMessage `json:"values,omitempty"`
	Error  string          `json:"error,omitempty"` // a kind of those below, or the message
	Kind   string          `json:"kind,omitempty"`
	// Detail is the Data of an *Error.
	Detail json.RawMessage `json:"detail,omitempty"`
}

// Kinds of errors in a reply.
const (
	repliedError        = "error"
	repliedTimeout      = "timeout"
	repliedDisconnected = "disconnected"
)

func encodeReply(r Reply) foreignReply {
	f := foreignReply{ID: r.SocketID}
	if r.Err == nil {
		f.Data = r.Data // also if there are several values: older releases read nothing else
		if len(r.Values) > len("[]")+len(r.Data) {
			f.Values = r.Values
		}
		return f
	}
	f.Kind, f.Error = repliedTimeout, r.Err.Error()
	if public, ok := errors.AsType[*Error](r.Err); ok {
		f.Kind, f.Error = repliedError, public.Message
		f.Detail, _ = public.Data.(json.RawMessage) // as in every Error that was received
	} else if errors.Is(r.Err, ErrDisconnected) {
		f.Kind = repliedDisconnected
	}
	return f
}

func (f foreignReply) decode() (r Reply) {
	switch f.Kind {
	case "":
		r = newReply(args{json: f.Data, n: min(len(f.Data), 1)}, nil)
		if len(f.Values) > 0 && f.Values[0] == '[' {
			r.Values = f.Values
		}
	case repliedError:
		public := &Error{Message: f.Error}
		if f.Detail != nil {
			public.Data = f.Detail
		}
		r.Err = public
	case repliedDisconnected:
		r.Err = ErrDisconnected
	default:
		r.Err = ErrTimeout
	}
	r.SocketID = f.ID
	return r
}

// Rooms lists the rooms that have members on any node, by name, with the members on all of them. It
// waits as Target.Sockets does, and its error means that some were not counted. LocalRooms does not
// wait.
func (n *Namespace) Rooms(ctx context.Context) ([]RoomInfo, error) {
	all, err := gather(ctx, Target{ns: n}, clusterRooms, n.LocalRooms)
	slices.SortFunc(all, func(a, b RoomInfo) int { return strings.Compare(a.Name, b.Name) })
	merged := all[:0]
	for _, r := range all {
		if last := len(merged) - 1; last >= 0 && merged[last].Name == r.Name {
			merged[last].Sockets += r.Sockets
		} else {
			merged = append(merged, r)
		}
	}
	return merged, err
}
