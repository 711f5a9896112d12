package atrium

import (
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// clusterVersion is the first byte of every message between nodes. A node drops messages of another
// version, so that a release that changes the encoding must change it. One that only adds fields at
// the end, or kinds, need not: a node ignores those that it does not know.
const clusterVersion = 1

// clusterKind is what a message between nodes means.
type clusterKind uint8

const (
	// The sender is there: each node says so every second. By a topic of events it is a marker:
	// what the sender has sent to that topic before has come.
	clusterHello   clusterKind = iota + 1
	clusterGoodbye             // the sender leaves
	clusterEvent               // Target.Emit
	clusterNotice              // Nodes.Emit
	clusterAnswer              // some of the values that answer a request

	// These are requests. Every node that receives one answers it.
	clusterCall       // values: the replies
	clusterJoin       // values: the text of an error
	clusterLeave      // no values
	clusterDisconnect // no values; its args are a closeStatus, or nothing
	clusterSockets    // values: a SocketInfo each
	clusterCount      // values: one number
	clusterRooms      // values: a RoomInfo each
	clusterStats      // values: one nodeStats

	clusterPresence       // no request: a presenceUpdate of a room
	clusterPresenceDigest // no request: the numbers of the last ones, of rooms
	clusterPresenceWhole  // a request; values: parts of a presenceUpdate
)

// followsEvents reports whether the request must not overtake the events that its sender has
// emitted before.
func (k clusterKind) followsEvents() bool {
	return k == clusterCall || k == clusterJoin || k == clusterLeave || k == clusterDisconnect
}

// clusterMessage is a message between nodes. Its kind says which fields are set; an empty one takes
// a byte.
type clusterMessage struct {
	kind   clusterKind
	number uint64 // greater than those of all that the node has sent before
	from   string // the node that sends it

	request uint64        // the request's number: of a request and its answers
	part    int           // an answer's part, counted from 0
	last    bool          // that is the last part
	limit   time.Duration // how long the sockets that are called have to reply
	// mark is, of a request, the number of the marker behind which it is answered; of an event,
	// what tells it from all others, for recovery. 0: none.
	mark uint64

	// The recipients: see Target.
	namespace     string
	scoped        bool
	rooms, except []string

	volatile bool
	compress uint8
	names    []string // the rooms to join or leave

	// An event, or the values of an answer. The ackID does not travel: each node gives its own.
	eventData
}

// size is about how much memory the message takes when it has been parsed, in bytes.
func (m clusterMessage) size() int {
	size := 256 + queueOverhead + m.args.size()
	for _, names := range [][]string{m.rooms, m.except, m.names} {
		for _, name := range names {
			size += len(name) + 32
		}
	}
	return size
}

// The number is at these bytes: it is set last.
const (
	clusterNumberAt = 2
	clusterFromAt   = clusterNumberAt + 8
)

const (
	clusterScoped = 1 << iota
	clusterVolatile
	clusterLast
)

// encode returns the message, but for its number: see setClusterNumber.
func (m *clusterMessage) encode() []byte {
	b := make([]byte, 0, 64+len(m.namespace)+len(m.name)+len(m.args.json)+32*(len(m.rooms)+len(m.except)+len(m.names)))
	b = append(b, clusterVersion, byte(m.kind))
	b = append(b, make([]byte, 8)...)
	b = appendClusterString(b, m.from)
	var flags byte
	if m.scoped {
		flags |= clusterScoped
	}
	if m.volatile {
		flags |= clusterVolatile
	}
	if m.last {
		flags |= clusterLast
	}
	b = append(b, flags, m.compress)
	b = binary.AppendUvarint(b, m.request)
	b = binary.AppendUvarint(b, uint64(m.part))
	b = binary.AppendUvarint(b, uint64(m.limit/time.Millisecond))
	b = appendClusterString(b, m.namespace)
	for _, list := range [][]string{m.rooms, m.except, m.names} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, s := range list {
			b = appendClusterString(b, s)
		}
	}
	b = appendClusterString(b, m.name)
	b = binary.AppendUvarint(b, uint64(m.args.n))
	b = binary.AppendUvarint(b, uint64(len(m.args.attachments)))
	for _, at := range m.args.attachments {
		b = binary.AppendUvarint(b, uint64(at.start))
		b = binary.AppendUvarint(b, uint64(at.end))
	}
	b = binary.AppendUvarint(b, uint64(len(m.args.json)))
	b = append(b, m.args.json...)
	if m.mark != 0 { // releases without this field ignore it
		b = binary.AppendUvarint(b, m.mark)
	}
	return b
}

// topic returns the topic of the events for the message's recipients, unless these are the sockets
// of one node.
func (m *clusterMessage) topic() string {
	room := ""
	if len(m.rooms) == 1 {
		room = m.rooms[0]
	}
	return roomTopic(m.namespace, room)
}

func setClusterNumber(b []byte, number uint64) {
	binary.BigEndian.PutUint64(b[clusterNumberAt:], number)
}

func clusterNumber(b []byte) uint64 { return binary.BigEndian.Uint64(b[clusterNumberAt:]) }

func appendClusterString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseClusterMessage decodes a message, whose args alias b. It reports false if b is none: another
// program, or a later release, may use the same topics.
func parseClusterMessage(b []byte) (m clusterMessage, ok bool) {
	if len(b) < clusterFromAt || b[0] != clusterVersion {
		return m, false
	}
	m.kind = clusterKind(b[1])
	m.number = clusterNumber(b)
	r := clusterReader{rest: b[clusterFromAt:]}
	m.from = string(r.bytes())
	flags := r.byte()
	m.scoped, m.volatile, m.last = flags&clusterScoped != 0, flags&clusterVolatile != 0, flags&clusterLast != 0
	m.compress = r.byte()
	m.request = r.uvarint(math.MaxUint64)
	m.part = r.int()
	m.limit = time.Duration(r.uvarint(uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
	m.namespace = string(r.bytes())
	m.rooms, m.except, m.names = r.strings(), r.strings(), r.strings()
	m.name, m.ackID = string(r.bytes()), noID
	m.args.n = r.int()
	for range r.length() {
		if r.bad {
			break
		}
		m.args.attachments = append(m.args.attachments, span{r.int(), r.int()})
	}
	m.args.json = r.bytes()
	if len(r.rest) > 0 {
		m.mark = r.uvarint(math.MaxUint64)
	}
	return m, !r.bad && len(m.from) == nodeIDLength && attachmentsFit(m.args)
}

// attachmentsFit reports whether the attachments are strings in the JSON, in order.
func attachmentsFit(a args) bool {
	end := 0
	return !slices.ContainsFunc(a.attachments, func(at span) bool {
		fits := at.start >= end && at.end <= len(a.json) && at.end-at.start >= len(`""`) && a.json[at.start] == '"' && a.json[at.end-1] == '"'
		end = at.end
		return !fits
	})
}

// clusterReader reads the parts of a message. After an error all parts are empty.
type clusterReader struct {
	rest []byte
	bad  bool
}

func (r *clusterReader) fail() {
	r.rest, r.bad = nil, true
}

func (r *clusterReader) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > most {
		r.fail()
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *clusterReader) int() int { return int(r.uvarint(math.MaxInt32)) }

// length reads the length of a list or string, of which each element takes a byte or more.
func (r *clusterReader) length() int { return int(r.uvarint(uint64(len(r.rest)))) }

func (r *clusterReader) byte() byte {
	if len(r.rest) == 0 {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *clusterReader) bytes() []byte {
	n := r.length()
	if n > len(r.rest) {
		r.fail()
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *clusterReader) strings() []string {
	n := r.length()
	if n == 0 {
		return nil
	}
	list := make([]string, 0, min(n, 64))
	for range n {
		if r.bad {
			return nil
		}
		list = append(list, string(r.bytes()))
	}
	return list
}
