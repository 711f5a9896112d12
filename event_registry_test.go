package atrium

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

// What is being dispatched sees nothing that is registered meanwhile; everything that was
// registered is there in the end.
func TestRegistryCopies(t *testing.T) {
	r := newRegistry[string]()
	before := r.current.Load()
	const n = 50
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			r.register(fmt.Sprint("event", i), func(string, *Event) {})
			r.update(func(f *functions[string]) { f.any = append(f.any, func(*Event) {}) })
		})
	}
	all.Wait()
	after := r.current.Load()
	if len(before.handlers) != 0 || len(before.any) != 0 || len(after.handlers) != n || len(after.any) != n {
		t.Errorf("%d and %d before, %d and %d after", len(before.handlers), len(before.any), len(after.handlers), len(after.any))
	}
}

// A registration that panics changes nothing, and keeps nobody from registering.
func TestRegistryPanics(t *testing.T) {
	r := newRegistry[string]()
	r.register("e", func(string, *Event) {})
	for _, event := range []string{"e", "", "connect"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q was registered", event)
				}
			}()
			r.register(event, func(string, *Event) {})
		}()
	}
	r.register("other", func(string, *Event) {})
	if n := len(r.current.Load().handlers); n != 2 {
		t.Errorf("%d handlers, want 2", n)
	}
}

func TestRegistryDispatch(t *testing.T) {
	r := newRegistry[string]()
	var called []string
	e := func(name string) *Event { return &Event{eventData: eventData{name: name, ackID: noID}} }
	r.register("known", func(from string, e *Event) { called = append(called, from+" "+e.Name()) })
	if !r.dispatch("node", e("known")) || r.dispatch("node", e("unknown")) {
		t.Error("an event without a handler is known, or one that has one is not")
	}
	r.update(func(f *functions[string]) {
		f.any = append(f.any, func(*Event) { called = append(called, "any") })
		f.useEvent = append(f.useEvent, func(*Event) error { called = append(called, "use"); return nil })
	})
	if !r.dispatch("node", e("unknown")) || !r.dispatch("node", e("known")) {
		t.Error("HandleAny does not make every event known")
	}
	if want := []string{"node known", "use", "any", "use", "any", "node known"}; !slices.Equal(called, want) {
		t.Errorf("called %q, want %q", called, want)
	}
}
