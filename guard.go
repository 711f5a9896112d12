package atrium

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// guard calls a function of the application. If that panics, or ends its goroutine, failed is called with what the log is to
// be told of it; a goroutine that was ended is so after that.
func guard(f func(), failed func(what ...any)) {
	returned := false
	defer func() {
		p := recover()
		if p == nil && !returned {
			p = "runtime.Goexit"
		}
		if p != nil {
			failed(slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	f()
	returned = true
}

// guardApart is guard in a goroutine of its own, which it waits for: where the caller's goroutine must go on although f
// may end the one that it runs in.
func guardApart(f func(), failed func(what ...any)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard(f, failed)
	}()
	<-done
}

// panicAsError, when deferred, makes the panic of a function of the application the error that is returned in its place.
func panicAsError(function string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("atrium: %s panicked: %v\n%s", function, p, debug.Stack())
	}
}
