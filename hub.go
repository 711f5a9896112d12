package atrium

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Hub is the event hub: an http.Handler that clients connect to, with their namespaces. Make one
// with New, mount it on a mux, and end it with Shutdown.
//
// All methods may be called from any goroutine.
type Hub struct {
	// Namespace is the main namespace, "/": its methods, Use, OnConnect, To, Emit and the others,
	// are the Hub's. Do not set it.
	*Namespace

	options Options
	log     *limitedLog // options.Logger, for what clients cause
	node    string      // the beginning of its sockets' ids
	origins originList  // options.AllowedOrigins

	sessions sessionShared
	calls    atomic.Int64 // ids given to calls
	backlog  backlog
	cluster  *cluster // nil without a Bus
	nodes    Nodes

	succession succession

	mu         sync.Mutex // guards:
	namespaces map[string]*Namespace
	patterns   []pattern
	quota      quota
	live       liveSessions
}

// New makes a Hub. It starts nothing: a hub without clients costs nothing but its memory. One with
// a Bus joins the others at once, and is to be ended with Shutdown.
func New(options Options) *Hub {
	h := &Hub{
		options: options.normalize(),
		node:    randomText(nodeIDLength),
		live: liveSessions{
			polls: make(map[string]*polling),
			empty: make(chan struct{}),
		},
	}
	h.sessions.counters.init()
	h.options.Logger = guardedLogger(h.options.Logger)
	h.log = newLimitedLog(h.options.Logger)
	h.log.lately = new(incidents)
	h.origins, _ = parseOrigins(h.options.AllowedOrigins) // normalize has seen the error
	h.quota = newQuota(&h.options)
	h.sessions.clock = newWheel(h.options.tick())
	h.sessions.flusher = new(flusher)
	h.sessions.timeouts = timeouts{h.options.Timeouts, h.sessions.clock.tick}
	h.sessions.compression = newCompression(h.options.Compression)
	h.backlog.init(h, h.options.Limits.TotalQueuedBytes)
	if h.options.Bus != nil {
		h.cluster = newCluster(h.options.Bus, h.node, h, h.sessions.clock, h.options.Recovery.MaxDisconnection, h.log)
	}
	h.nodes = Nodes{registry: newRegistry[string](), hub: h}
	h.namespaces = make(map[string]*Namespace)
	left := h.succeed()
	h.Namespace = h.Of("/")
	h.adopt(left)
	if h.cluster != nil {
		h.cluster.start()
	}
	return h
}

// Of returns the namespace of that name, which comes into being with the first call. A name begins
// with "/"; "/" is the hub itself. Only Socket.IO clients connect to other namespaces than that;
// they are refused those that no call of Of has named. A name that does not begin with "/", has a
// comma or a control character in it, or is longer than 256 bytes makes Of panic.
func (h *Hub) Of(name string) *Namespace {
	if !validNamespace(name) {
		panic(fmt.Sprintf("atrium: %.300q cannot be the name of a namespace", name))
	}
	n := h.retain(name) // the application holds it: it stays
	if n == nil {
		n = h.establish(name, nil)
	}
	if !n.named.Load() { // read only, mostly: Of is called often
		n.named.Store(true)
	}
	return n
}

// establish returns the namespace of that name, which it makes if there is none, and retains it. A
// new one gets what a predecessor of the hub has left for it.
func (h *Hub) establish(name string, like *Namespace) *Namespace {
	n := newNamespace(h, name, like)
	n.recovery.lock() // a client that comes back waits until its like is there
	defer n.recovery.unlock()
	h.mu.Lock()
	if existing := h.namespaces[name]; existing != nil {
		existing.refs++
		h.mu.Unlock()
		return existing
	}
	h.namespaces[name] = n
	n.refs++
	left := h.succession.unclaimed[name]
	delete(h.succession.unclaimed, name)
	h.mu.Unlock()
	if left != nil {
		n.recovery.inherit(left)
	}
	return n
}

// OfFunc returns a namespace that stands for many: what is registered with it holds in every
// namespace whose name match accepts and that no call of Of has named. Such a namespace comes into
// being with its first socket, has rooms of its own and goes with its last socket, with presence
// some seconds later; Socket.Namespace returns it. The namespace that OfFunc returns has no sockets
// itself, and what is emitted to it reaches nobody. One client is in at most 100 namespaces.
//
// match runs for each client that asks for such a name, in any goroutine; if it panics, the client
// is refused. A regular expression's MatchString is one:
//
//	h.OfFunc(regexp.MustCompile(`^/project-[0-9]+$`).MatchString)
func (h *Hub) OfFunc(match func(name string) bool) *Namespace {
	mustFunc(match == nil, "OfFunc")
	n := newNamespace(h, "", nil)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.patterns = append(h.patterns, pattern{match, n})
	return n
}

// pattern is an OfFunc.
type pattern struct {
	match func(name string) bool
	like  *Namespace // what it returned
}

func validNamespace(name string) bool {
	unfit := func(r rune) bool { return r == ',' || r < ' ' || r == 0x7f }
	return strings.HasPrefix(name, "/") && len(name) <= maxNamespace && !strings.ContainsFunc(name, unfit)
}

// enterable returns the namespace of that name for a socket to enter, nil if there is none. The
// caller releases it when the socket has gone.
func (h *Hub) enterable(name string) *Namespace {
	if n := h.retain(name); n != nil {
		return n
	}
	h.mu.Lock()
	patterns := h.patterns
	h.mu.Unlock()
	i := slices.IndexFunc(patterns, func(p pattern) bool { return validNamespace(name) && h.matches(p, name) })
	if i < 0 {
		return nil
	}
	return h.establish(name, patterns[i].like)
}

// matches calls an OfFunc's function. If that panics, or ends its goroutine, it does not match.
func (h *Hub) matches(p pattern, name string) bool {
	matched := false
	guardApart(func() { matched = p.match(name) }, func(what ...any) {
		h.sessions.counters.panics.Add(1)
		h.log.error("atrium: the function of an OfFunc panicked", append(what, clientText("namespace", name))...)
	})
	return matched
}

// retain counts a holder of the namespace of that name; it returns nil if there is none.
func (h *Hub) retain(name string) *Namespace {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.namespaces[name]
	if n != nil {
		n.refs++
	}
	return n
}

// release undoes retain. A namespace of OfFunc goes with its last holder, though not while a
// predecessor of the hub may hand over clients that need its events.
func (h *Hub) release(n *Namespace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n.refs--; n.refs == 0 && !h.succession.pending.Load() {
		delete(h.namespaces, n.name)
	}
}
