package atrium

import (
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
