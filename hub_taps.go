package atrium

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	// maxTapped bounds the events that wait in a tap.
	maxTapped = 256
	// maxTappedData bounds what a tap copies of an event's arguments, in bytes.
	maxTappedData = 1 << 10
)

// tap gets what one socket sends and receives, while somebody looks at it.
type tap struct {
	id       string // the socket's, also if its client comes back as another Socket
	payloads bool   // the arguments are wanted
	events   chan tapped
	missed   atomic.Int64 // events that found the channel full
}

// tapped is one event or acknowledgement, as the page gets it.
type tapped struct {
	Time  int64  `json:"time"`           // Unix time in milliseconds
	Out   bool   `json:"out"`            // to the client
	Kind  string `json:"kind"`           // see below
	Name  string `json:"name,omitempty"` // the event's; why the socket has left
	AckID int64  `json:"ackID"`          // negative: none
	Size  int    `json:"size"`           // of the arguments as JSON, in bytes
	Data  string `json:"data,omitempty"` // their beginning
}

// The kinds of what is tapped.
const (
	tappedEvent    = "event"
	tappedVolatile = "volatile"
	tappedAck      = "ack"
	tappedLeft     = "left"
)

// taps are the taps of a hub, by socket id. Whoever changes them stores another map, so that what
// is delivered while nobody looks costs the load of one pointer.
type taps struct {
	current atomic.Pointer[tapTable]
}

type tapTable map[string][]*tap

// add adds a tap. Hub.mu is held.
func (t *taps) add(new *tap) {
	table := make(tapTable)
	if now := t.current.Load(); now != nil {
		table = maps.Clone(*now)
	}
	table[new.id] = append(slices.Clip(table[new.id]), new)
	t.current.Store(&table)
}

// remove undoes add. Hub.mu is held.
func (t *taps) remove(old *tap) {
	table := maps.Clone(*t.current.Load())
	left := slices.DeleteFunc(slices.Clone(table[old.id]), func(other *tap) bool { return other == old })
	if table[old.id] = left; len(left) == 0 {
		delete(table, old.id)
	}
	if len(table) == 0 {
		t.current.Store(nil)
	} else {
		t.current.Store(&table)
	}
}

// record gives the socket's taps, if it has any, what it has sent or is sent.
func (s *Socket) record(kind string, out bool, e eventData) {
	if table := s.ns.hub.sessions.taps.current.Load(); table != nil {
		table.record(s.id, kind, out, e)
	}
}

// record is Socket.record for a socket's id. It does not wait.
func (table tapTable) record(id, kind string, out bool, e eventData) {
	for _, t := range table[id] {
		what := tapped{Time: time.Now().UnixMilli(), Out: out, Kind: kind, Name: cutText(e.name, maxEventName), AckID: e.ackID, Size: len(e.args.json)}
		if t.payloads {
			what.Data = cutText(string(e.args.json[:min(len(e.args.json), maxTappedData+utf8.UTFMax)]), maxTappedData)
		}
		select {
		case t.events <- what:
		default:
			t.missed.Add(1)
		}
	}
}

// take returns what has come since the last call.
func (t *tap) take() (events []tapped, missed int64) {
	for {
		select {
		case what := <-t.events:
			events = append(events, what)
		default:
			return events, t.missed.Swap(0)
		}
	}
}
