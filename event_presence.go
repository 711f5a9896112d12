package atrium

import (
	"encoding/json"
	"strconv"
)

// Present is somebody who is in a room: a user, however many sockets and devices that is. See
// Socket.Present.
type Present struct {
	Key string `json:"key"`
	// Infos has one for each socket that is there as Key, as JSON, in the order of their bytes: the
	// first 32 of them.
	Infos []json.RawMessage `json:"infos"`
}

// presenceEventName is the event that tells the members of a room who is there, and the one by
// which a client asks for it.
const presenceEventName = "presence"

// maxPresencePart is about how large the data of one such event gets, in bytes: a state is sent in
// parts, and a change as several. A client's limit of a message, 1 MiB, is greater even if each
// byte of the keys needs an escape of 6.
const maxPresencePart = 128 << 10

// presenceEvent is the data of the event. It has a state, of which there may be several parts, a
// count, or a change.
type presenceEvent struct {
	Room    string    `json:"room"`
	Version uint64    `json:"version"` // a change follows the one before it, or the state, by 1
	State   []Present `json:"state"`   // nil if it has none
	Part    int       `json:"part"`    // of the state, counted from 0
	Parts   int       `json:"parts"`   // of the state; 0 if there is one
	Count   *int      `json:"count"`   // of the sockets in a room that has too many for a state
	Joined  []Present `json:"joined"`
	Changed []Present `json:"changed"`
	Left    []string  `json:"left"`
}

// append appends the event's data as JSON.
func (e *presenceEvent) append(b []byte) []byte {
	b = appendQuoted(append(b, `{"room":`...), e.Room)
	b = strconv.AppendUint(append(b, `,"version":`...), e.Version, 10)
	if e.Count != nil {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(*e.Count), 10)
	}
	if e.State != nil {
		b = appendPresents(append(b, `,"state":`...), e.State)
	}
	if e.Parts > 0 {
		b = strconv.AppendInt(append(b, `,"part":`...), int64(e.Part), 10)
		b = strconv.AppendInt(append(b, `,"parts":`...), int64(e.Parts), 10)
	}
	if len(e.Joined) > 0 {
		b = appendPresents(append(b, `,"joined":`...), e.Joined)
	}
	if len(e.Changed) > 0 {
		b = appendPresents(append(b, `,"changed":`...), e.Changed)
	}
	if len(e.Left) > 0 {
		b = append(b, `,"left":[`...)
		for i, key := range e.Left {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, key)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendPresents(b []byte, list []Present) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(append(b, `{"key":`...), list[i].Key), `,"infos":[`...)
		for j, info := range list[i].Infos {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(b, info...)
		}
		b = append(b, `]}`...)
	}
	return append(b, ']')
}

// size is about how many bytes it takes as JSON.
func (p *Present) size() int {
	n := len(`{"key":"","infos":[]},`) + len(p.Key)
	for _, info := range p.Infos {
		n += len(info) + len(",")
	}
	return n
}

// presenceParts splits a list into parts of about maxPresencePart bytes; an empty list is one part.
func presenceParts(list []Present) [][]Present {
	var parts [][]Present
	start, size := 0, 0
	for i := range list {
		if n := list[i].size(); i > start && size+n > maxPresencePart {
			parts = append(parts, list[start:i:i])
			start, size = i, n
		} else {
			size += n
		}
	}
	return append(parts, list[start:])
}
