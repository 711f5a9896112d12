package atrium

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// maxIncidents is how many incidents a hub keeps.
const maxIncidents = 64

// incident is something that a client was refused, or was disconnected for. Its texts print.
type incident struct {
	Time   int64  `json:"time"` // Unix time in milliseconds
	What   string `json:"what"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"` // what to set
	Remote string `json:"remote,omitempty"`
}

// incidents are the last ones, at whatever level the log is. They take no lock.
type incidents struct {
	count atomic.Uint64
	last  [maxIncidents]atomic.Pointer[incident]
}

// add adds an incident. The message and the attributes are those of a log entry.
func (l *incidents) add(message, remote string, attrs ...any) {
	in := &incident{Time: time.Now().UnixMilli(), What: strings.TrimPrefix(message, "atrium: "), Remote: printable(remote, maxLogged)}
	var details []string
	for _, a := range attrs {
		if a, ok := a.(slog.Attr); !ok {
			continue
		} else if a.Key == "hint" {
			in.Hint = a.Value.String()
		} else if a.Key != "remote" {
			details = append(details, fmt.Sprintf("%s: %v", a.Key, a.Value))
		}
	}
	in.Detail = printable(strings.Join(details, ", "), maxLogged)
	l.last[(l.count.Add(1)-1)%maxIncidents].Store(in)
}

// list returns the incidents, the newest first.
func (l *incidents) list() []*incident {
	list := make([]*incident, 0, maxIncidents)
	for i := range l.last {
		if in := l.last[i].Load(); in != nil {
			list = append(list, in)
		}
	}
	slices.SortStableFunc(list, func(a, b *incident) int { return int(b.Time - a.Time) })
	return list
}

// blames reports whether the reason says that the client was disconnected for what it did.
func (reason Reason) blames() bool {
	switch reason {
	case ReasonForcedServerClose, ReasonMessageTooBig, ReasonParseError, ReasonSlowConsumer:
		return true
	}
	return false
}
