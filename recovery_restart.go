package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// What a hub takes over from its predecessor: the hub that had the same Recovery.Path, or Load,
// before. While the two run at the same time, the older holds a lock beside the file, in which it
// says when it drains; the younger waits for the lock, then for the file.

const (
	// lockInterval is how often a hub looks whether its predecessor has released the lock.
	lockInterval = 25 * time.Millisecond
	// lockPatience is how long a predecessor may go on without draining until the log says so.
	lockPatience = time.Minute
	// saveTimeout bounds Recovery.Save, and Load.
	saveTimeout = 10 * time.Second
)

// draining is what a hub writes into its lock when it begins to drain.
const draining = "draining\n"

// succession is a hub's place between the one before it and the one after it.
type succession struct {
	// first is the number that those of the hub's events are above: Unix time in microseconds, so
	// that they are above those of its predecessors, too. Zero if nothing is saved.
	first    uint64
	lock     *os.File                 // of Path; nil if there is none, or it cannot be made
	stop     chan struct{}            // closed to give the lock up
	waited   chan struct{}            // closed when the lock is had, or given up
	unusable error                    // why it is given up, if it cannot be had; set before waited is closed
	pending  atomic.Bool              // a predecessor may still hand clients over: changed under Hub.mu
	nodes    atomic.Pointer[[]string] // former nodes of the cluster that the ids of clients name
	expiries *queue[expiry]
	ending   sync.Once
	failed   error // of the ending

	// Guarded by Hub.mu.
	drains    bool                       // the predecessor does
	until     int64                      // nanotime until which its clients may come
	changed   gate                       // opens when pending or drains changes
	unclaimed map[string]*savedNamespace // by name: of namespaces that do not exist yet
	unwanted  timer                      // drops them when nobody can come back any more
}

// saves reports whether a successor takes over from the hub.
func (r *Recovery) saves() bool { return r.Path != "" || r.Save != nil }

// check returns an error for options that do not go together.
func (r *Recovery) check() error {
	switch {
	case (r.Save == nil) != (r.Load == nil):
		return errors.New("Recovery.Save and Load go together")
	case r.Path != "" && r.Save != nil:
		return errors.New("Recovery.Path stands in place of Save and Load")
	case r.saves() && r.MaxDisconnection == 0:
		return errors.New("Recovery.MaxDisconnection is zero: nothing is saved")
	}
	return nil
}

// succeed returns what the hub's predecessor has left, if that has ended. Otherwise the hub waits
// for it in the background.
func (h *Hub) succeed() (left savedState) {
	s, o := &h.succession, &h.options.Recovery
	s.expiries = newQueue(noBound, func(e expiry) { e() })
	s.unclaimed = make(map[string]*savedNamespace)
	if !o.saves() {
		return nil
	}
	s.first = uint64(time.Now().UnixMicro())
	s.until = after(h.options.Recovery.MaxDisconnection)
	had := true
	if o.Path != "" {
		var err error
		if s.lock, had, err = openLock(o.Path + ".lock"); err != nil {
			h.pathUnusable(err)
			return nil
		}
	}
	if !had {
		s.pending.Store(true)
		s.stop, s.waited = make(chan struct{}), make(chan struct{})
		go h.awaitLock()
		return nil
	}
	left = h.load()
	for _, n := range left {
		s.first = max(s.first, n.newest)
	}
	return left
}

// pathUnusable logs why the lock of Recovery.Path cannot be had.
func (h *Hub) pathUnusable(err error) {
	h.log.warn("atrium: Recovery.Path cannot be used", append(loggedFailure(err), clientText("file", h.options.Recovery.Path), hint("its directory must exist, and this process write there"))...)
}

// openLock opens the file and tries to lock it.
func openLock(path string) (f *os.File, had bool, err error) {
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, false, err
	}
	if had, err = tryLock(f); err == nil && had {
		err = f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, had, nil
}

// awaitLock waits for the predecessor to release the lock, and adopts what it has left.
func (h *Hub) awaitLock() {
	s := &h.succession
	defer close(s.waited)
	tick := time.NewTicker(lockInterval)
	defer tick.Stop()
	for began, told, last := nanotime(), false, false; ; {
		had, err := tryLock(s.lock)
		if err != nil { // the file is left to whoever has the lock
			s.unusable = fmt.Errorf("atrium: Recovery.Path: %w", err)
			h.predecessorGone()
			h.pathUnusable(err)
			return
		}
		if had {
			h.adopt(h.load())
			h.predecessorGone()
			_ = s.lock.Truncate(0) // not before: clients wait as long as it says that somebody drains
			if h.isClosing() {
				h.beginHandOver()
			}
			return
		}
		if last {
			return
		}
		drains := h.lookAtPredecessor()
		if !drains && !told && nanotime()-began > int64(lockPatience) {
			told = true
			h.log.warn("atrium: another hub holds Recovery.Path, and does not shut down", clientText("file", h.options.Recovery.Path),
				hint("give each hub that runs for long a Path of its own"))
		}
		select {
		case <-tick.C:
		case <-s.stop:
			last = true // the predecessor may have ended since the last look
		}
	}
}

// lookAtPredecessor reads in the lock whether the predecessor drains.
func (h *Hub) lookAtPredecessor() (drains bool) {
	b := make([]byte, len(draining))
	n, _ := h.succession.lock.ReadAt(b, 0)
	drains = string(b[:n]) == draining
	h.mu.Lock()
	s := &h.succession
	changed := s.pending.Load() && s.drains != drains
	if changed {
		s.drains = drains
		s.changed.open()
	}
	h.mu.Unlock()
	if changed && drains {
		h.followTopics(io.NewSectionReader(s.lock, int64(len(draining)), maxTopicsBytes))
	}
	return drains
}

// succeeds reports whether clients of a predecessor may come.
func (h *Hub) succeeds() bool {
	if !h.options.Recovery.saves() {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.succession
	return s.pending.Load() || nanotime() < s.until
}

// awaitPredecessor waits while the predecessor drains, for a client that is not known: it may be
// one of those that are handed over. It reports false if that has taken too long, or ctx has ended.
func (h *Hub) awaitPredecessor(ctx context.Context) bool {
	h.lookAtPredecessor()
	s := &h.succession
	return h.awaitSuccession(ctx, func() bool { return !s.pending.Load() || !s.drains })
}

// predecessorEnds waits until the predecessor has ended, and reports likewise.
func (h *Hub) predecessorEnds(ctx context.Context) bool {
	return h.awaitSuccession(ctx, func() bool { return !h.succession.pending.Load() })
}

func (h *Hub) awaitSuccession(ctx context.Context, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, h.options.Timeouts.Connect/4*3) // at the end of Connect a client is cut
	defer cancel()
	return h.succession.changed.await(ctx, &h.mu, holds) == nil
}

// load returns what the predecessor has left; nil if there is nothing that can be used. It is there
// once: the file is removed.
func (h *Hub) load() savedState {
	o := &h.options.Recovery
	unusable := func(err error) {
		h.log.warn("atrium: what the hub before this one has saved cannot be used: its clients begin anew", loggedFailure(err)...)
	}
	var from io.ReadCloser
	err := error(nil)
	if o.Path != "" {
		if err = mustBeRegular(o.Path); err == nil {
			from, err = os.Open(o.Path)
		}
		_ = os.Remove(o.Path + asideSuffix) // of a hub that has crashed
	} else {
		err = callApart("Recovery.Load", func() (err error) {
			ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
			defer cancel()
			from, err = o.Load(ctx)
			return err
		})
	}
	if errors.Is(err, fs.ErrNotExist) || err == nil && from == nil {
		return nil
	}
	if err != nil {
		unusable(err)
		return nil
	}
	var left savedState
	err = callApart("a Reader of Recovery.Load", func() (err error) {
		defer from.Close()
		left, err = readState(from)
		return err
	})
	if err == nil && o.Path != "" {
		err = os.Remove(o.Path) // or it might be taken again after a crash
	}
	if err != nil {
		unusable(err)
		return nil
	}
	return left
}

// adopt gives the namespaces what the predecessor has left for them.
func (h *Hub) adopt(left savedState) {
	defer h.dropUnclaimed()
	for _, saved := range left {
		if saved.newest > h.succession.first {
			h.log.warn("atrium: the events of the hub before this one have later numbers: its clients begin anew",
				clientText("namespace", saved.name), hint("the clock must not be set back"))
			continue
		}
		h.mu.Lock()
		n := h.namespaces[saved.name]
		if n != nil {
			n.refs++
		} else {
			h.succession.unclaimed[saved.name] = saved
		}
		h.mu.Unlock()
		if n != nil {
			n.recovery.lock()
			n.recovery.inherit(saved)
			n.recovery.unlock()
			h.release(n)
		}
	}
}

// dropUnclaimed drops what was left for namespaces that do not exist when its time is over.
func (h *Hub) dropUnclaimed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &h.succession
	now := nanotime()
	maps.DeleteFunc(s.unclaimed, func(_ string, n *savedNamespace) bool { return !n.wanted(now) })
	if len(s.unclaimed) > 0 {
		s.unwanted.fire = h.dropUnclaimed
		h.sessions.clock.schedule(&s.unwanted, after(h.options.Recovery.MaxDisconnection))
	}
}

// predecessorGone notes that no predecessor hands over clients any more.
func (h *Hub) predecessorGone() {
	h.mu.Lock()
	if !h.succession.pending.Load() {
		h.mu.Unlock()
		return
	}
	h.succession.pending.Store(false)
	h.succession.until = after(h.options.Recovery.MaxDisconnection)
	h.succession.changed.open()
	var all []*Namespace
	for name, n := range h.namespaces {
		if n.refs == 0 { // see release
			delete(h.namespaces, name)
		}
		all = append(all, n)
	}
	h.mu.Unlock()
	for _, n := range all {
		n.recovery.lock()
		n.recovery.dropUnwanted()
		n.recovery.unlock()
	}
}

// inherit adds what a predecessor has kept: its events come before those of this hub.
func (r *recovery) inherit(left *savedNamespace) {
	now := nanotime()
	if r.dropped == r.ns.hub.succession.first { // all that came after is still there
		r.dropped = left.dropped
		events := left.events
		for len(events) > 0 && events[0].at+r.eventTTL <= now {
			r.dropped, events = events[0].number, events[1:]
		}
		for i := range events {
			r.charge(events[i].size)
		}
		r.noteInherited(left.events)
		r.events = fifo[keptEvent]{items: append(slices.Clip(events), r.events.items[r.events.head:]...)}
	}
	var all []*kept
	for e := r.parked.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*kept))
	}
	for i := range left.clients {
		if c := &left.clients[i]; c.until > now && (c.expiry == 0 || c.expiry > now) {
			all = append(all, r.restore(c))
		}
	}
	slices.SortStableFunc(all, func(a, b *kept) int { return cmp.Compare(a.until, b.until) })
	r.parked.Init()
	for _, k := range all {
		k.parked = r.parked.PushBack(k)
	}
	r.ns.inheritPlaces(left)
	r.dropUnwanted()
	r.shrink()
	r.arm()
}

// restore makes what is kept of a client from what was saved of it. It is still to be parked.
func (r *recovery) restore(c *savedClient) *kept {
	k := &kept{pid: c.pid, id: c.id, start: c.start, sent: c.sent, left: c.left, stays: c.stays, values: restoreValues(c.values),
		until: min(c.until, after(time.Duration(r.maxAway))), handled: make(chan struct{})}
	close(k.handled)
	if c.expiry != 0 {
		k.expiry = member{ns: r.ns, kept: k}.expireAt(c.expiry)
	}
	r.byPID[k.pid], r.away[k.id] = k, k
	r.ns.hub.retain(r.ns.name)
	r.ns.subscribeRestored(k)
	r.charge(k.size())
	return k
}

// errStillHeld is why a hub whose predecessor has never released the lock saves nothing.
var errStillHeld = errors.New("another hub holds it")

// giveUpLock ends the wait for the lock, unless the predecessor drains and ctx has not ended. It
// returns an error if the lock was not had.
func (h *Hub) giveUpLock(ctx context.Context) error {
	s := &h.succession
	if s.waited == nil {
		return nil
	}
	if h.lookAtPredecessor() {
		select {
		case <-s.waited:
		case <-ctx.Done():
		}
	}
	close(s.stop)
	<-s.waited
	if s.unusable != nil {
		return s.unusable
	}
	if s.pending.Load() {
		h.predecessorGone()
		return fmt.Errorf("atrium: %s.lock: %w", h.options.Recovery.Path, errStillHeld)
	}
	return nil
}
