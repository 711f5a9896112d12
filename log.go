package atrium

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// logInterval and logBurst bound the entries of one kind: at most logBurst in logInterval.
	logInterval = time.Minute
	logBurst    = 5
	// maxLogged bounds a client's text in a log entry, and maxLoggedError that of an error or a
	// panic, in bytes.
	maxLogged      = 256
	maxLoggedError = 1024
	// levelInterval is how often a Handler is asked whether it wants entries at level Debug.
	levelInterval = time.Second
)

// limitedLog limits log entries that clients or the network can cause in any number. Entries with
// the same message are of one kind. Beyond logBurst of a kind in logInterval they are counted and
// left out; the next entry of the kind has the count as "left_out".
//
// Its methods are safe for concurrent use.
type limitedLog struct {
	logger *slog.Logger
	lately *incidents // what the hub has refused, whether it was logged or not; nil: the log is a client's

	asked  atomic.Int64 // nanotime at which the Handler was last asked about level Debug; 0: never
	debugs atomic.Bool  // what it answered

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
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	if leftOut, ok := l.admit(message); ok {
		l.write(level, message, leftOut, attrs)
	}
}

// logApart is log for callers that must not wait for the Handler: the clock's, and those that
// deliver. It writes in a goroutine of its own, of which there are as many as entries.
func (l *limitedLog) logApart(level slog.Level, message string, attrs ...any) {
	if leftOut, ok := l.admit(message); ok {
		go l.write(level, message, leftOut, attrs)
	}
}

func (l *limitedLog) write(level slog.Level, message string, leftOut int, attrs []any) {
	if leftOut > 0 {
		attrs = append(attrs, slog.Int("left_out", leftOut))
	}
	l.logger.Log(context.Background(), level, message, attrs...)
}

// debugging reports whether entries at level Debug are written. It is for those that each client
// causes: the Handler, which is the application's and may take its time, is asked once in
// levelInterval.
func (l *limitedLog) debugging() bool {
	now := nanotime()
	asked := l.asked.Load()
	if (asked == 0 || now-asked >= int64(levelInterval)) && l.asked.CompareAndSwap(asked, now) {
		l.debugs.Store(l.logger.Enabled(context.Background(), slog.LevelDebug))
	}
	return l.debugs.Load()
}

// debug logs at level Debug, without a limit. Its caller has asked debugging.
func (l *limitedLog) debug(message string, attrs ...any) { l.logger.Debug(message, attrs...) }

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
func clientText(key, text string) slog.Attr { return slog.String(key, printable(text, maxLogged)) }

// loggedFailure returns the attributes of an error, in whose text a client may have had a hand: the
// error and, if it is the panic of a function, the stack.
func loggedFailure(err error) []any {
	attrs := []any{slog.Any("error", loggedError{err})}
	if stack := stackIn(err); stack != "" {
		attrs = append(attrs, slog.String("stack", stack))
	}
	return attrs
}

// stackIn returns the stack of a panic that is in an error; "" if there is none.
func stackIn(err error) (stack string) {
	defer func() { _ = recover() }() // the error is the application's: a nil *Error in it has no Unwrap
	if p, ok := errors.AsType[*panicError](err); ok {
		stack = p.stack
	}
	return stack
}

// loggedError is an error as the log has it. A slog.Handler may look behind its text.
type loggedError struct{ error }

func (e loggedError) Error() string {
	text := fmt.Sprint(e.error) // which survives what the error's own method does
	if stack := stackIn(e.error); stack != "" {
		text = strings.Replace(text, "\n"+stack, "", 1) // it is an attribute of its own
	}
	return printable(text, maxLoggedError)
}

func (e loggedError) Unwrap() error { return e.error }

// loggedPanic is the value of a panic as the log has it. It is an error, so that every slog.Handler
// takes its text, and not what it is made of.
type loggedPanic struct{ value any }

func (p loggedPanic) Error() string { return printable(fmt.Sprint(p.value), maxLoggedError) }

func (p loggedPanic) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// hint is an attribute that says what to set, or to mend.
func hint(text string) slog.Attr { return slog.String("hint", text) }

// printable returns a text that goes into the log, cut to most bytes, as valid UTF-8. What does not
// print is replaced: line breaks and terminal controls, which not every slog.Handler escapes, and
// marks of writing direction, which make a line read as another.
func printable(text string, most int) string {
	begin := cutText(text, most)
	printed := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, begin)
	if len(begin) < len(text) || len(printed) > most { // a replaced byte takes three
		printed = cutText(printed, most) + "…"
	}
	return printed
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
