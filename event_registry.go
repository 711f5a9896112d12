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

// Registrar is what On, OnCall and OnAck register handlers with: *Hub or *Namespace, with S being
// *Socket; *Client, with S being *Client; or *Nodes, with S being string, the name of the node that
// an event comes from.
type Registrar[S any] interface {
	register(event string, f func(S, *Event))
}

// registry holds the functions that the application has registered. S is what handlers get beside
// an event; see Registrar.
type registry[S any] struct {
	mu      sync.Mutex // held while the functions are replaced
	current atomic.Pointer[functions[S]]
}

// functions are the registered functions at one moment. They are replaced, never changed, so that
// they are read without a lock: an event that is being dispatched does not see a later
// registration. No registry has functions of all kinds.
type functions[S any] struct {
	handlers map[string]func(S, *Event)
	any      []func(*Event)       // HandleAny
	useEvent []func(*Event) error // UseEvent

	use            []func(S) error
	onConnect      []func(S)
	onDisconnect   []func(S, Reason)
	onExpire       []func(S)
	onConnectError []func(S, error)
	onState        []func(S, State)
	onEmit         []func(event string, args []json.RawMessage)
	onPresence     []func(room string, joined, left []Present)
	watch          []presenceWatcher
	onUserOnline   []func(user string)
	onUserOffline  []func(user string)
}

// presenceWatcher is a ClientPresence.
type presenceWatcher interface {
	take(data []json.RawMessage)
	ask()
	forget()
}

func newRegistry[S any]() *registry[S] {
	r := new(registry[S])
	r.current.Store(new(functions[S]))
	return r
}

// update replaces the functions by a changed copy. change may append to their lists in place: the
// older copies end where they did.
func (r *registry[S]) update(change func(*functions[S])) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := *r.current.Load()
	change(&f)
	r.current.Store(&f)
}

// add is update for a method of the application's that adds a function. It panics if that is nil;
// what names the method.
func (r *registry[S]) add(what string, isNil bool, change func(*functions[S])) {
	mustFunc(isNil, what)
	r.update(change)
}

// register adds the handler of an event. It panics if the event has a handler already, or if its
// name cannot be used.
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

// dispatch calls the functions of UseEvent, and if none of them returns an error, which is the
// reply then, those of HandleAny and the event's handler. It reports false, and leaves the reply to
// the caller, if the event has no handler and there are no functions of HandleAny.
func (r *registry[S]) dispatch(s S, e *Event) bool {
	f := r.current.Load()
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

// mustFunc panics if the application registers a nil function. what names the function or method
// that it called.
func mustFunc(isNil bool, what string) {
	if isNil {
		panic("atrium: " + what + ": expected a function, got nil")
	}
}

// On registers the handler of an event whose first argument decodes into a T. A missing argument is
// null.
//
// If T or *T has a Validate() error method, it is called first. If it returns an error, f is not
// called, and the sender gets the error as if f had returned it. Only the value itself is
// validated; its fields and elements are for its own Validate to look at. On panics if T has a
// method Validate of another form.
//
// If f returns an error, the sender gets it by Event.ReplyError. If f returns nil and the sender
// asked for an acknowledgement, an empty one is sent; OnCall and OnAck are for others. See
// Namespace.Handle for how handlers run and when On panics.
func On[S, T any](r Registrar[S], event string, f func(S, T) error) {
	mustFunc(f == nil, "On")
	registerTyped(r, event, func(s S, v T, _ *Event) error { return f(s, v) })
}

// OnCall is On for a handler that returns an answer, which is sent in the acknowledgement if the
// sender asked for one.
func OnCall[S, T, R any](r Registrar[S], event string, f func(S, T) (R, error)) {
	mustFunc(f == nil, "OnCall")
	registerTyped(r, event, func(s S, v T, e *Event) error {
		result, err := f(s, v)
		if errorOf(err) == nil && e.ackID != noID {
			return e.Reply(result)
		}
		return err
	})
}

// registerTyped registers a handler that takes the event's first argument. Its error is the reply.
func registerTyped[S, T any](r Registrar[S], event string, f func(S, T, *Event) error) {
	mustValidate(reflect.TypeFor[T]())
	r.register(event, func(s S, e *Event) {
		var v T
		err := e.args.bind(e.args.first(), &v, "data")
		if err == nil {
			err = errorOf(f(s, v, e))
		}
		if err != nil {
			e.ReplyError(err)
		}
	})
}
