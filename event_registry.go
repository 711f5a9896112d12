package atrium

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// Registrar is what On, OnCall and OnAck register handlers with: *Hub or *Namespace, with S being *Socket; *Client, with
// S being *Client; or *Nodes, with S being string, the name of the node that an event comes from.
type Registrar[S any] interface {
	register(event string, f func(S, *Event))
}

// registry holds the functions that the application has registered. S is what handlers are given beside an event; see
// Registrar.
type registry[S any] struct {
	mu      sync.Mutex // held while the functions are replaced
	current atomic.Pointer[functions[S]]
}

// functions are the application's functions at one moment. They are replaced, never changed: who has loaded them sees
// nothing that is registered later. Not every registry has functions of each kind.
type functions[S any] struct {
	handlers map[string]func(S, *Event)
	any      []func(*Event)       // HandleAny
	useEvent []func(*Event) error // UseEvent

	use            []func(S) error
	onConnect      []func(S)
	onDisconnect   []func(S, Reason)
	onConnectError []func(error)
	onEmit         []func(event string, args []json.RawMessage)
}

func newRegistry[S any]() *registry[S] {
	r := new(registry[S])
	r.current.Store(new(functions[S]))
	return r
}

// functions returns what is registered at the moment.
func (r *registry[S]) functions() *functions[S] { return r.current.Load() }

// update replaces the functions by a changed copy. To append to one of its lists is fine: nobody looks behind the end
// of an older list.
func (r *registry[S]) update(change func(*functions[S])) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := *r.functions()
	change(&f)
	r.current.Store(&f)
}

// register adds the handler of an event. It panics if there is one already, or if the name cannot be used.
func (r *registry[S]) register(event string, f func(S, *Event)) {
	if err := checkEventName(event); err != nil {
		panic("atrium: an event cannot be handled: " + strings.TrimPrefix(err.Error(), "atrium: "))
	}
	r.update(func(all *functions[S]) {
		if all.handlers[event] != nil {
			panic(fmt.Sprintf("atrium: the event %q has a handler already", event))
		}
		handlers := maps.Clone(all.handlers)
		if handlers == nil {
			handlers = make(map[string]func(S, *Event))
		}
		handlers[event] = f
		all.handlers = handlers
	})
}

// dispatch calls the functions that an event is for: those of UseEvent, of which an error is the reply; those of
// HandleAny; the event's handler. It reports false if there is neither of the last two, and the event without a reply.
func (r *registry[S]) dispatch(s S, e *Event) bool {
	f := r.functions()
	for _, use := range f.useEvent {
		if err := errorOf(use(e)); err != nil {
			e.ReplyError(err)
			return true
		}
	}
	for _, handle := range f.any {
		handle(e)
	}
	if handle := f.handlers[e.name]; handle != nil {
		handle(s, e)
	} else if len(f.any) == 0 {
		return false
	}
	e.finish()
	return true
}

// mustFunc panics if the application registers a nil function. what names the function or method that it has called.
func mustFunc(isNil bool, what string) {
	if isNil {
		panic("atrium: " + what + ": expected a function, got nil")
	}
}

// On registers the handler of an event whose first argument decodes into a T. A missing argument is null.
//
// If T has a Validate() error method, in T or *T, it is called first. If it returns an error, f is not called, and the
// sender is told as if f had returned it. Only the value itself is validated: what is in it, its fields and elements,
// is for its Validate to look at. A method Validate of another form makes On panic.
//
// If f returns an error, the sender is told, as Event.ReplyError does. If it returns nil and the sender asked for an
// acknowledgement, an empty one is sent; OnCall and OnAck are for others. On panics where Namespace.Handle does, whose
// comment says how handlers run.
func On[S, T any](r Registrar[S], event string, f func(S, T) error) {
	mustFunc(f == nil, "On")
	registerTyped(r, event, func(s S, v T, _ *Event) error { return f(s, v) })
}

// OnCall is On for a handler that has an answer: what f returns is the acknowledgement, if one was asked for.
func OnCall[S, T, R any](r Registrar[S], event string, f func(S, T) (R, error)) {
	mustFunc(f == nil, "OnCall")
	registerTyped(r, event, func(s S, v T, e *Event) error {
		result, err := f(s, v)
		if err = errorOf(err); err == nil && e.ackID != noID {
			err = e.Reply(result)
		}
		return err
	})
}

// registerTyped registers a handler that takes the event's first argument. Its error is the reply.
func registerTyped[S, T any](r Registrar[S], event string, f func(S, T, *Event) error) {
	mustValidate(reflect.TypeFor[T]())
	r.register(event, func(s S, e *Event) {
		var v T
		err := e.first(&v)
		if err == nil {
			err = errorOf(f(s, v, e))
		}
		if err != nil {
			e.ReplyError(err)
		}
	})
}
