package atrium

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// logInterval and logBurst bound the entries of one kind: at most logBurst in logInterval.
	logInterval = time.Minute
	logBurst    = 5
	// maxLogged bounds a client's text in a log entry, in bytes.
	maxLogged = 256
)

// limitedLog limits log entries that clients or the network can cause in any number. Entries with
// the same message are of one kind. Beyond logBurst of a kind in logInterval they are counted and
// left out; the next entry of the kind has the count as "left_out".
//
// Its methods are safe for concurrent use.
type limitedLog struct {
	logger *slog.Logger
	lately incidents // of a hub: what it has refused, whether it was logged or not

	mu    sync.Mutex // guards:
	kinds map[string]*logKind
}

// logKind counts the entries of one kind.
type logKind struct {
	since   int64 // nanotime when the current interval began
	written int   // entries in it
	leftOut int   // entries left out since the last one written
}

func newLimitedLog(logger *slog.Logger) *limitedLog {
	return &limitedLog{logger: logger, kinds: make(map[string]*logKind)}
}

// warn logs at level Warn. message must be a constant: it is the entry's kind.
func (l *limitedLog) warn(message string, attrs ...any) { l.log(slog.LevelWarn, message, attrs...) }

// info logs at level Info. message must be a constant: it is the entry's kind.
func (l *limitedLog) info(message string, attrs ...any) { l.log(slog.LevelInfo, message, attrs...) }

// error logs at level Error. message must be a constant: it is the entry's kind.
func (l *limitedLog) error(message string, attrs ...any) { l.log(slog.LevelError, message, attrs...) }

// log logs at a level. message must be a constant: it is the entry's kind.
func (l *limitedLog) log(level slog.Level, message string, attrs ...any) {
	ctx := context.Background()
	if !l.logger.Enabled(ctx, level) {
		return
	}
	leftOut, ok := l.admit(message)
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("left_out", leftOut))
	}
	if ok {
		l.logger.Log(ctx, level, message, attrs...)
	}
}

// admit reports whether an entry of the kind may be written now, and how many were left out before
// it.
func (l *limitedLog) admit(kind string) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := nanotime()
	k := l.kinds[kind]
	if k == nil {
		k = &logKind{since: now}
		l.kinds[kind] = k
	}
	if now-k.since >= int64(logInterval) {
		k.since, k.written = now, 0
	}
	if k.written == logBurst {
		k.leftOut++
		return 0, false
	}
	k.written++
	leftOut, k.leftOut = k.leftOut, 0
	return leftOut, true
}

// clientText returns an attribute with text that a client, or another node, chose.
func clientText(key, text string) slog.Attr { return slog.String(key, printable(text)) }

// printable returns the first maxLogged bytes of a text that goes into the log, as valid UTF-8.
// What does not print is replaced: line breaks and terminal controls, which not every slog.Handler
// escapes, and marks of writing direction, which make a line read as another.
func printable(text string) string {
	if len(text) > maxLogged {
		text = cutText(text, maxLogged) + "…"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}

// guardedLogger returns l with a handler that may panic or call runtime.Goexit without
// consequences.
func guardedLogger(l *slog.Logger) *slog.Logger { return slog.New(guardedHandler{l.Handler()}) }

// guardedHandler is the application's slog.Handler. If the handler panics or ends its goroutine,
// the entry is lost: there is no other log to report it to.
type guardedHandler struct{ handler slog.Handler }

func ignoreFailure(...any) {}

func (h guardedHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	guardApart(func() { enabled = h.handler.Enabled(ctx, level) }, ignoreFailure)
	return enabled
}

func (h guardedHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	guardApart(func() { err = h.handler.Handle(ctx, r) }, ignoreFailure)
	return err
}

func (h guardedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	guardApart(func() { h.handler = h.handler.WithAttrs(attrs) }, ignoreFailure)
	return h
}

func (h guardedHandler) WithGroup(name string) slog.Handler {
	guardApart(func() { h.handler = h.handler.WithGroup(name) }, ignoreFailure)
	return h
}
