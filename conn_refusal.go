package atrium

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"net/http"
)

// refusal is an HTTP error in response to a request.
type refusal struct {
	status  int
	message string      // for the client: one plain sentence
	code    json.Number // Engine.IO's; empty: 4, forbidden
	header  []string    // that the status asks for: names and values in turn
	detail  string      // for the server's side only, appended to Error
	kind    refusalKind // as what it counts
	entry   logEntry
}

// refusalKind is as what a hub counts a refusal; see RefusedStats.
type refusalKind uint8

const (
	refusedUncounted refusalKind = iota // of a session that has begun: it counts by its Reason
	refusedOrigin
	refusedAccept
	refusedUse
	refusedFull
	refusedPerClient
	refusedMalformed
	refusedUnknown
	refusedShuttingDown
	refusalKinds
)

// logEntry is what a Hub's log is told of a refusal, beside the request's path and remote address.
// It never has what may be a secret: a query, a cookie, an offered subprotocol. A refusal without a
// message is not logged.
type logEntry struct {
	level   slog.Level
	message string // a constant: see limitedLog
	attrs   []any
}

func (e *refusal) Error() string { return "atrium: " + e.message + e.detail }

// writePlain responds with the message as text.
func (e *refusal) writePlain(w http.ResponseWriter) {
	setHeaders(w.Header(), e.header)
	http.Error(w, e.message, e.status)
}

// writeEngine responds in the form that Engine.IO's clients read: {"code":…,"message":…}.
func (e *refusal) writeEngine(w http.ResponseWriter) {
	body, _ := json.Marshal(map[string]any{"code": cmp.Or(e.code, "4"), "message": e.message}) // nothing that could fail
	setHeaders(w.Header(), e.header)
	setContent(w.Header(), "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

// setContent sets the headers of a response that is for its client alone. What clients have written
// must not pass for HTML if somebody opens the address as a page.
func setContent(header http.Header, contentType string) {
	header.Set("Content-Type", contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
}

// setHeaders sets names and values in turn.
func setHeaders(header http.Header, pairs []string) {
	for ; len(pairs) > 0; pairs = pairs[2:] {
		header.Set(pairs[0], pairs[1])
	}
}

// warning is an entry at level Warn.
func warning(message string, attrs ...any) logEntry {
	return logEntry{slog.LevelWarn, message, attrs}
}

// retryIn returns the header of a refusal that may be over soon.
func retryIn(seconds string) []string { return []string{"Retry-After", seconds} }
