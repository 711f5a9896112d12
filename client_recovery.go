package atrium

import (
	"bytes"
	"slices"
	"strings"
)

// clientRecovery is what a Client needs to come back to its socket: see Recovery. It is guarded by
// Client.mu.
type clientRecovery struct {
	pid       string // the server's secret name of the session; "" if the server keeps none
	offset    string // of the latest event; "" if it had none
	recovered bool   // the latest connection continued the socket of the one before
}

// connected notes the pid of a new connection.
func (r *clientRecovery) connected(pid string) {
	r.recovered = pid != "" && pid == r.pid
	if !r.recovered {
		r.offset = ""
	}
	r.pid = pid
}

// forget makes the next connection one of a new socket.
func (r *clientRecovery) forget() { r.pid, r.offset = "", "" }

// appendTo appends members of the CONNECT packet's object, each behind a comma.
func (r *clientRecovery) appendTo(b []byte) []byte {
	if r.pid == "" {
		return b
	}
	b = appendQuoted(append(b, `,"pid":`...), r.pid)
	if r.offset != "" {
		b = appendQuoted(append(b, `,"offset":`...), r.offset)
	}
	return b
}

// maxOffset bounds the offset of an event, in bytes. It is sent back when the client connects, and
// any string that an event ends with looks like one.
const maxOffset = 128

// takeOffset returns the offset of an event from a server with recovery: the string behind the
// arguments, or "" if there is none. Nobody can tell whether the server added it or the
// application's event just ends with a string. A Hub's offset has digits only: it is removed from
// the arguments.
func takeOffset(a *args) string {
	if a.n == 0 || a.json[len(a.json)-1] != '"' {
		return ""
	}
	if slices.ContainsFunc(a.attachments, func(b span) bool { return b.end == len(a.json) }) {
		return "" // bytes, not a string
	}
	last := a.values()[a.n-1]
	offset, ok := unquote(last)
	if !ok || len(offset) > maxOffset {
		return ""
	}
	if offset != "" && strings.Trim(offset, "0123456789") == "" {
		a.n--
		a.json = bytes.TrimRight(a.json[:len(a.json)-len(last)], ", \t\r\n") // no value ends with these
	}
	return offset
}
