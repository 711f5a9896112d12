package atrium

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxViewers bounds the viewers of an inspector.
	maxViewers = 64
	// inspectBeat is how often a viewer gets a socket's events. Every fourth beat it gets all else.
	inspectBeat  = 250 * time.Millisecond
	inspectBeats = 4
)

// inspector is Inspect. It feeds its viewers by a hub of its own, so that they are none of the
// inspected hub's clients. One goroutine, which exists while there are viewers, looks at the hub
// and sends them what they look at.
type inspector struct {
	hub     *Hub
	options InspectOptions
	feed    *Hub
	script  http.Handler

	changed chan struct{} // has an element if the goroutine is to look before the next beat

	mu      sync.Mutex // guards:
	viewers map[*Socket]*viewer
	done    chan struct{} // closed when the goroutine has ended; nil before the first
	running bool          // the goroutine exists
}

// viewer is one page that looks at the hub.
type viewer struct {
	view atomic.Pointer[view]
	tap  atomic.Pointer[tap] // nil: none

	// Used by the goroutine only.
	shown    *view  // what it has got
	incident uint64 // the count of incidents that it knows
}

// greeting is the first message to a viewer.
type greeting struct {
	Node     string          `json:"node"`
	Cluster  bool            `json:"cluster"`
	Payloads bool            `json:"payloads"`
	Actions  bool            `json:"actions"`
	Bounds   []time.Duration `json:"bounds"` // of the histograms, in nanoseconds
}

// newFeed makes the hub of the viewers.
func (i *inspector) newFeed() *Hub {
	feed := New(Options{
		Logger: i.hub.options.Logger,
		Limits: Limits{Connections: maxViewers, MessageBytes: 64 << 10, InboxEvents: 16},
	})
	feed.OnConnect(i.join)
	feed.OnDisconnect(func(s *Socket, _ Reason) { i.leave(s) })
	On(feed, "view", func(s *Socket, v view) error {
		if viewer := i.viewer(s); viewer != nil {
			viewer.view.Store(&v)
			i.change()
		}
		return nil
	})
	OnCall(feed, "watch", func(s *Socket, id string) (socketDetail, error) { return i.watch(s, id) })
	On(feed, "unwatch", func(s *Socket, _ struct{}) error {
		i.unwatch(s)
		return nil
	})
	On(feed, "disconnect-socket", func(s *Socket, id string) error {
		return i.act(s, id, "disconnect", func(target *Socket) error {
			target.Disconnect()
			return nil
		})
	})
	On(feed, "send-event", func(s *Socket, m inspectEvent) error {
		return i.act(s, m.ID, "send", func(target *Socket) error {
			if err := target.Emit(m.Event, m.args()...); err != nil {
				return Errorf("%v", err)
			}
			return nil
		})
	})
	return feed
}

// inspectEvent is an event that a viewer sends to a socket.
type inspectEvent struct {
	ID    string            `json:"id"`
	Event string            `json:"event"`
	Args  []json.RawMessage `json:"args"`
}

func (m inspectEvent) args() []any {
	args := make([]any, len(m.Args))
	for i, arg := range m.Args {
		args[i] = arg
	}
	return args
}

func (i *inspector) viewer(s *Socket) *viewer {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.viewers[s]
}

// change has the goroutine look before the next beat.
func (i *inspector) change() {
	select {
	case i.changed <- struct{}{}:
	default:
	}
}

// join adds a viewer, unless the hub has ended.
func (i *inspector) join(s *Socket) {
	if !i.add(s) {
		s.Disconnect()
		return
	}
	bounds := HistogramBounds
	_ = s.Emit("hello", greeting{i.hub.node, i.hub.cluster != nil, i.options.Payloads, i.options.Actions, bounds[:]})
}

// add is join, but for the greeting. It reports false if the hub has ended.
func (i *inspector) add(s *Socket) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.hub.inspected(i, true) {
		return false
	}
	i.viewers[s] = new(viewer)
	if !i.running {
		i.running, i.done = true, make(chan struct{})
		go i.run(i.done)
	}
	return true
}

// leave undoes join.
func (i *inspector) leave(s *Socket) {
	i.unwatch(s)
	i.mu.Lock()
	delete(i.viewers, s)
	i.mu.Unlock()
	i.change()
}

// watch has a viewer get a socket's events.
func (i *inspector) watch(s *Socket, id string) (socketDetail, error) {
	viewer, target := i.viewer(s), i.socket(id)
	if viewer == nil || target == nil {
		return socketDetail{}, errNotConnected
	}
	new := &tap{id: id, payloads: i.options.Payloads, events: make(chan tapped, maxTapped)}
	i.hub.setTap(viewer, new)
	return newSocketDetail(target), nil
}

func (i *inspector) unwatch(s *Socket) {
	if viewer := i.viewer(s); viewer != nil {
		i.hub.setTap(viewer, nil)
	}
}

// setTap replaces a viewer's tap.
func (h *Hub) setTap(v *viewer, new *tap) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := v.tap.Swap(new); old != nil {
		h.sessions.taps.remove(old)
	}
	if new != nil {
		h.sessions.taps.add(new)
	}
}

// inspected notes whether the inspector has viewers. It reports false if the hub has ended.
func (h *Hub) inspected(i *inspector, has bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live.over && has {
		return false
	}
	if has {
		if h.live.inspect == nil {
			h.live.inspect = make(map[*inspector]bool)
		}
		h.live.inspect[i] = true
	} else {
		delete(h.live.inspect, i)
	}
	return true
}

// endInspectors disconnects all viewers, at the end of Shutdown, and lets none in any more.
func (h *Hub) endInspectors(ctx context.Context) {
	h.mu.Lock()
	h.live.over = true
	inspectors := maps.Clone(h.live.inspect)
	h.mu.Unlock()
	for i := range inspectors {
		i.end(ctx)
	}
}

// end disconnects the viewers and waits for the goroutine.
func (i *inspector) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = i.feed.Shutdown(ctx) // what a viewer has missed is not the hub's error
	i.mu.Lock()
	done := i.done
	i.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// run is the goroutine.
func (i *inspector) run(done chan struct{}) {
	defer close(done)
	beat := time.NewTicker(inspectBeat)
	defer beat.Stop()
	look := newInspection(i.hub)
	defer look.end()
	for n := 0; ; n++ {
		viewers, any := i.current()
		if !any {
			return
		}
		i.tell(viewers, look, n%inspectBeats == 0)
		for waiting := true; waiting; {
			select {
			case <-beat.C:
				waiting = false
			case <-i.changed:
				if viewers, any = i.current(); !any {
					return
				}
				i.tell(viewers, look, false)
			}
		}
	}
}

// current returns the viewers. Without any the goroutine ends.
func (i *inspector) current() (viewers map[*Socket]*viewer, any bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.viewers) == 0 {
		i.running = false
		i.hub.inspected(i, false)
		return nil, false
	}
	return maps.Clone(i.viewers), true
}

// inspectSample are a hub's figures at one moment.
type inspectSample struct {
	Time  int64 `json:"time"` // Unix time in milliseconds
	Stats Stats `json:"stats"`
}

// socketEvents are what has come of a socket's events.
type socketEvents struct {
	ID     string   `json:"id"`
	Events []tapped `json:"events"`
	Missed int64    `json:"missed,omitempty"` // events that are not among them
}

// tell sends the viewers what they look at. Each second all of it is sent anew. In between, a
// viewer gets what it has begun to look at, and the events.
func (i *inspector) tell(viewers map[*Socket]*viewer, look *inspection, all bool) {
	if all {
		_ = i.feed.Volatile().Emit("stats", inspectSample{time.Now().UnixMilli(), i.hub.Stats()})
	}
	for s, viewer := range viewers {
		if v := viewer.view.Load(); v != nil && (all || v != viewer.shown) {
			if list := look.list(*v); list != nil && (v.List != listLately || v != viewer.shown || viewer.incident != list.count) {
				_ = s.Volatile().Emit("list", list)
				viewer.shown, viewer.incident = v, list.count
			}
		}
		t := viewer.tap.Load()
		if t == nil {
			continue
		}
		if events, missed := t.take(); len(events) > 0 || missed > 0 {
			_ = s.Emit("events", socketEvents{t.id, events, missed})
		}
		if target := i.socket(t.id); target != nil && all {
			_ = s.Volatile().Emit("socket", newSocketDetail(target))
		}
	}
}
