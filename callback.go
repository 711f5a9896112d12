package atrium

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// guard calls f, a function of the application. If f panics or calls runtime.Goexit, failed gets
// slog attributes with the panic value and the stack. Goexit still ends the goroutine.
func guard(f func(), failed func(what ...any)) {
	returned := false
	defer func() {
		p := recover()
		if p == nil && !returned {
			p = "runtime.Goexit"
		}
		if p != nil {
			failed(slog.Any("panic", loggedPanic{p}), slog.String("stack", string(debug.Stack())))
		}
	}()
	f()
	returned = true
}

// guardApart is guard with f in a goroutine of its own, which it waits for: the caller's goroutine
// goes on also if f calls runtime.Goexit.
func guardApart(f func(), failed func(what ...any)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard(f, failed)
	}()
	<-done
}

// callApart calls f as guardApart does. A panic or runtime.Goexit in it is an error, which names
// the function.
func callApart(function string, f func() error) (err error) {
	err = fmt.Errorf("atrium: %s called runtime.Goexit", function) // unless it returns, or panics
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer panicAsError(function, &err)
		err = f()
	}()
	<-done
	return err
}

// panicAsError, when deferred, sets err to an error for a panic of the function of that name.
func panicAsError(function string, err *error) {
	if p := recover(); p != nil {
		*err = &panicError{fmt.Sprintf("atrium: %s panicked: %v", function, p), string(debug.Stack())}
	}
}

// panicError is the panic of a function of the application, as an error.
type panicError struct{ text, stack string }

func (e *panicError) Error() string { return e.text + "\n" + e.stack }
