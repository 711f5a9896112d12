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

// await waits for the Bus to bring what others emit to the rooms.
func (n *Namespace) await(ctx context.Context, rooms []string) {
	if c := n.hub.cluster; c != nil {
		topics := make([]string, len(rooms))
		for i, room := range rooms {
			topics[i] = roomTopic(n.name, room)
		}
		c.await(ctx, topics)
	}
}

// subscribe subscribes to the rooms of a client that is in none on this node: for as long as it may
// be away, because topics linger.
func (n *Namespace) subscribe(rooms []string) {
	if c := n.hub.cluster; c != nil {
		for _, room := range rooms {
			c.topics.acquire(roomTopic(n.name, room))
			c.topics.release(roomTopic(n.name, room))
		}
	}
}

// awaitTopics subscribes to what is emitted to a socket that is about to enter its rooms, or those
// of k if its client comes back, and waits as await does.
func (s *Socket) awaitTopics(k *kept) {
	c := s.ns.hub.cluster
	if c == nil {
		return
	}
	rooms := []string{""} // the whole namespace
	s.ns.recovery.lock()
	s.mu.Lock()
	stays := s.stays()
	if k != nil {
		stays = k.rooms
	}
	for _, stay := range stays {
		rooms = append(rooms, stay.name)
	}
	s.mu.Unlock()
	s.ns.recovery.unlock()
	s.ns.subscribe(rooms)
	c.await(context.Background(), []string{everyNode, nodeTopic(c.node)})
	s.ns.await(context.Background(), rooms)
}

// elsewhere reports whether other nodes may have sockets of the target; if only one may, it returns
// its name.
func (t Target) elsewhere() (node string, may bool) {
	c := t.ns.hub.cluster
	switch {
	case c == nil || t.local || t.only != nil || t.scoped && len(t.rooms) == 0:
		return "", false
	case len(t.rooms) != 1:
		return "", true
	}
	node, _ = nodeOfID(t.rooms[0])
	_, isUser := userOf(t.rooms[0])
	// Nobody is in a room whose name is refused, and a broker may hang up on a topic of any length.
	return node, node != c.node && !t.ns.hub.standsFor(node) && (isUser || checkRoomName(t.rooms[0]) == nil)
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
	node, may := t.elsewhere()
	if !may {
		return
	}
	out := t.message(clusterEvent)
	out.eventData, out.mark = m.eventData, m.mark
	topic := out.topic()
	if node != "" {
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
	// Rooms without scoped are no node's; a socket would be reached twice.
	return Target{ns: n, scoped: in.scoped || len(in.rooms) > 0, rooms: setOf(in.rooms), except: setOf(in.except),
		local: true, volatile: in.volatile, compress: compressRule(in.compress)}, n != nil
}

// deliver implements clusterHost.
func (h *Hub) deliver(in *clusterMessage) {
	if t, ok := h.target(in); ok {
		m := acquireMessage(in.namespace, in.eventData)
		m.volatile, m.mark = in.volatile, in.mark
		t.emit(m)
		m.release()
	}
}

// answer implements clusterHost.
func (h *Hub) answer(q *clusterMessage) [][]byte {
	if q.kind == clusterStats {
		return encodeAll([]nodeStats{h.nodeStats()})
	}
	if q.kind == clusterPresenceWhole {
		return h.answerPresence(q)
	}
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
		if err := t.Join(context.Background(), q.names...); err != nil {
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

func encodeAll[T any](list []T) [][]byte {
	values := make([][]byte, len(list))
	for i, v := range list {
		values[i], _ = json.Marshal(v) // of types that are all encodable
	}
	return values
}

// ask has here do something on this node, and the other nodes that the target may have sockets on
// do it there, and returns their answers. limit bounds that if ctx has no deadline. A request goes
// by other topics than the events for its target, unless these are the sockets of one node. So that
// the two keep their order, a marker follows the events.
func (t Target) ask(ctx context.Context, limit time.Duration, m *clusterMessage, here func(context.Context)) ([]json.RawMessage, error) {
	node, may := t.elsewhere()
	if !may {
		here(ctx)
		return nil, nil
	}
	ctx, cancel := withLimit(ctx, limit)
	defer cancel()
	c := t.ns.hub.cluster
	if node == "" && m.kind.followsEvents() {
		m.mark = c.send(m.topic(), &clusterMessage{kind: clusterHello})
	}
	if m.kind == clusterCall {
		deadline, _ := ctx.Deadline()
		m.limit = answerBefore(time.Until(deadline))
	}
	q := c.ask(node, m)
	here(ctx)
	return q.wait(ctx)
}

// everywhere is ask for what has no result but errors.
func (t Target) everywhere(ctx context.Context, m *clusterMessage, here func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	values, incomplete := t.ask(ctx, clusterWait, m, func(ctx context.Context) { errs = append(errs, here(ctx)) })
	for _, text := range decodeAll[string](values) {
		errs = append(errs, errors.New(text))
	}
	return errors.Join(append(errs, incomplete)...)
}

// gather is ask for what the nodes know of a target.
func gather[T any](ctx context.Context, t Target, kind clusterKind, here func() []T) (list []T, err error) {
	if err := ctx.Err(); err != nil {
		return here(), err
	}
	m := t.message(kind)
	values, err := t.ask(ctx, t.ns.hub.options.Timeouts.Call, &m, func(context.Context) { list = here() })
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
func (t Target) callEverywhere(ctx context.Context, m *message) (replies []Reply, err error) {
	if _, may := t.elsewhere(); !may {
		return t.call(ctx, m), nil // without a message to other nodes
	}
	about := t.message(clusterCall)
	about.eventData = m.eventData
	values, err := t.ask(ctx, t.ns.hub.options.Timeouts.Call, &about, func(ctx context.Context) { replies = t.call(ctx, m) })
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
	repliedTooMany      = "too many" // a timeout to older releases
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
	} else if errors.Is(r.Err, ErrTooManyCalls) {
		f.Kind = repliedTooMany
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
	case repliedTooMany:
		r.Err = ErrTooManyCalls
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
