package atrium

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// The lists that a viewer may look at.
const (
	listSockets = "sockets"
	listRooms   = "rooms"
	listLately  = "lately"
	listNodes   = "nodes"
)

// pageRows is how many rows a viewer gets of a list.
const pageRows = 100

// view is what a viewer looks at.
type view struct {
	List       string `json:"list"`
	Namespace  string `json:"namespace"` // "": all
	Room       string `json:"room"`      // sockets in it; "": all
	Search     string `json:"search"`
	Sort       string `json:"sort"`
	Descending bool   `json:"descending"`
	Page       int    `json:"page"` // counted from 0
}

// Validate implements what On looks for.
func (v view) Validate() error {
	switch {
	case v.List != listSockets && v.List != listRooms && v.List != listLately && v.List != listNodes:
		return Errorf("list: %q is none", v.List)
	case v.Page < 0:
		return Errorf("page: expected 0 or more, not %d", v.Page)
	case max(len(v.Search), len(v.Room), len(v.Namespace)) > maxRoomName:
		return Errorf("search: expected at most %d bytes", maxRoomName)
	}
	return nil
}

// viewed is a page of a list.
type viewed struct {
	View  view  `json:"view"`
	Time  int64 `json:"time"`  // when the rows were so, as Unix time in milliseconds
	Total int   `json:"total"` // rows on all pages
	Rows  any   `json:"rows"`

	count uint64 // of incidents
}

// socketRow is a socket in a list.
type socketRow struct {
	socket    *Socket
	ID        string        `json:"id"`
	User      string        `json:"user,omitempty"`
	Namespace string        `json:"namespace"`
	Protocol  string        `json:"protocol"`
	Transport string        `json:"transport"`
	Remote    string        `json:"remote"`
	Rooms     int           `json:"rooms"`
	Queued    int           `json:"queued"`    // bytes to the client
	Waiting   int           `json:"waiting"`   // events of the client that are not handled yet
	RoundTrip time.Duration `json:"roundTrip"` // nanoseconds; 0: not known
	Received  uint64        `json:"received"`  // bytes, of the client's connection
	Sent      uint64        `json:"sent"`
	Connected int64         `json:"connected"` // Unix time in milliseconds
}

// newSocketRow describes a socket. It takes the socket's own locks, one after the other.
func newSocketRow(s *Socket) socketRow {
	f := s.session.figures()
	row := socketRow{
		socket: s, ID: s.id, Namespace: s.ns.name, Remote: s.handshake.remote, Protocol: f.protocol, Transport: f.transport,
		Queued: f.queued, RoundTrip: f.roundTrip, Received: f.received.bytes, Sent: f.sent.bytes,
		Waiting: s.inbox.length(), Connected: s.handshake.time / int64(time.Millisecond),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row.User, row.Rooms = userAmong(s.rooms), len(s.rooms)
	if row.User != "" {
		row.Rooms-- // which is the user's
	}
	return row
}

// maxRoomsShown bounds the rooms of a socket that are listed.
const maxRoomsShown = 100

// socketDetail is all that is shown of a socket.
type socketDetail struct {
	socketRow
	Names       []string `json:"names"` // of the first rooms
	Path        string   `json:"path"`  // without the query, which may have a token
	Agent       string   `json:"agent"`
	Origin      string   `json:"origin"`
	Secure      bool     `json:"secure"`
	Compression bool     `json:"compression"`
	Recovered   bool     `json:"recovered"`
	Handling    string   `json:"handling,omitempty"` // the function that runs
	Since       int64    `json:"since,omitempty"`    // milliseconds that it has run
}

func newSocketDetail(s *Socket) socketDetail {
	header := s.handshake.Header()
	names := s.Rooms()
	d := socketDetail{
		socketRow: newSocketRow(s), Names: names[:min(len(names), maxRoomsShown)], Path: printable(s.handshake.URL().Path, maxLogged),
		Agent: printable(header.Get("User-Agent"), maxLogged), Origin: printable(header.Get("Origin"), maxLogged), Secure: s.handshake.secure,
		Compression: s.session.transport().agreed().agreed(), Recovered: s.recovered,
	}
	if in, since, running := s.inbox.current(); running {
		d.Handling, d.Since = in.function(), (nanotime()-since)/int64(time.Millisecond)
	}
	return d
}

// roomRow is a room in a list.
type roomRow struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Sockets   int    `json:"sockets"`
}

// inspection is what was seen of a hub lately. Only an inspector's goroutine uses it. It looks at
// all sockets once a second at most, whatever the number of viewers, and less often if that takes
// more than a hundredth of the time.
type inspection struct {
	hub    *Hub
	cancel context.CancelFunc
	ctx    context.Context

	began   time.Time     // when what follows was so
	cost    time.Duration // of what follows
	sockets []socketRow
	rooms   []roomRow
	answers map[view]*viewed

	nodes  []nodeStats
	asking chan []nodeStats // gets the answer of the goroutine that asks the nodes; nil: none does
}

func newInspection(h *Hub) *inspection {
	l := &inspection{hub: h, answers: make(map[view]*viewed)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// end waits for the nodes to be no longer asked.
func (l *inspection) end() {
	l.cancel()
	if l.asking != nil {
		<-l.asking
	}
}

// maxShare is the part of the time that looking at the hub may take: one in so many.
const maxShare = 100

// list returns a page of a list; nil if it is not known yet.
func (l *inspection) list(v view) *viewed {
	began := time.Now()
	if began.Sub(l.began) > max(inspectBeats*inspectBeat-inspectBeat/2, maxShare*l.cost) {
		l.began, l.cost = began, 0
		l.sockets, l.rooms = nil, nil
		clear(l.answers)
	}
	if v.List == listNodes {
		return l.listNodes(v)
	}
	if v.List == listLately {
		lately := l.hub.log.lately
		count := lately.count.Load()
		rows := lately.list()
		return &viewed{View: v, Time: began.UnixMilli(), Total: len(rows), Rows: rows, count: count}
	}
	answer := l.answers[v]
	if answer == nil {
		if v.List == listRooms {
			answer = page(v, l.matchingRooms(v), roomOrders)
		} else {
			answer = page(v, l.matchingSockets(v), socketOrders)
		}
		answer.Time = l.began.UnixMilli()
		l.answers[v] = answer
		l.cost += time.Since(began)
	}
	return answer
}

// allNamespaces returns the hub's namespaces.
func (h *Hub) allNamespaces() []*Namespace {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.namespaces))
}

// matchingSockets returns the sockets that the view is about.
func (l *inspection) matchingSockets(v view) []*socketRow {
	if l.sockets == nil {
		for _, n := range l.hub.allNamespaces() {
			for _, s := range n.everyone.list() {
				l.sockets = append(l.sockets, newSocketRow(s))
			}
		}
	}
	search := strings.ToLower(v.Search)
	var rows []*socketRow
	for i := range l.sockets {
		row := &l.sockets[i]
		if (v.Namespace == "" || row.Namespace == v.Namespace) && (v.Room == "" || row.socket.In(v.Room)) && row.matches(search) {
			rows = append(rows, row)
		}
	}
	return rows
}

// matches reports whether a socket has the text, in small letters, in its id, its address, its
// user's id or the name of one of its rooms.
func (row *socketRow) matches(search string) bool {
	if search == "" || contains(row.ID, search) || contains(row.Remote, search) || contains(row.User, search) {
		return true
	}
	return slices.ContainsFunc(row.socket.Rooms(), func(name string) bool { return contains(name, search) })
}

func contains(text, search string) bool { return strings.Contains(strings.ToLower(text), search) }

// matchingRooms returns the rooms that the view is about.
func (l *inspection) matchingRooms(v view) []*roomRow {
	if l.rooms == nil {
		for _, n := range l.hub.allNamespaces() {
			for _, r := range n.LocalRooms() {
				l.rooms = append(l.rooms, roomRow{r.Name, n.name, r.Sockets})
			}
		}
	}
	search := strings.ToLower(v.Search)
	var rows []*roomRow
	for i := range l.rooms {
		if row := &l.rooms[i]; (v.Namespace == "" || row.Namespace == v.Namespace) && contains(row.Name, search) {
			rows = append(rows, row)
		}
	}
	return rows
}

// socketOrders compare sockets, by what a view sorts them by.
var socketOrders = map[string]func(a, b *socketRow) int{
	"":          func(a, b *socketRow) int { return strings.Compare(a.ID, b.ID) },
	"id":        func(a, b *socketRow) int { return strings.Compare(a.ID, b.ID) },
	"namespace": func(a, b *socketRow) int { return strings.Compare(a.Namespace, b.Namespace) },
	"protocol":  func(a, b *socketRow) int { return strings.Compare(a.Protocol, b.Protocol) },
	"transport": func(a, b *socketRow) int { return strings.Compare(a.Transport, b.Transport) },
	"remote":    func(a, b *socketRow) int { return strings.Compare(a.Remote, b.Remote) },
	"user":      func(a, b *socketRow) int { return strings.Compare(a.User, b.User) },
	"roundTrip": func(a, b *socketRow) int { return cmp.Compare(a.RoundTrip, b.RoundTrip) },
	"rooms":     func(a, b *socketRow) int { return cmp.Compare(a.Rooms, b.Rooms) },
	"queued":    func(a, b *socketRow) int { return cmp.Compare(a.Queued, b.Queued) },
	"waiting":   func(a, b *socketRow) int { return cmp.Compare(a.Waiting, b.Waiting) },
	"connected": func(a, b *socketRow) int { return cmp.Compare(a.Connected, b.Connected) },
}

// roomOrders compare rooms.
var roomOrders = map[string]func(a, b *roomRow) int{
	"":          func(a, b *roomRow) int { return strings.Compare(a.Name, b.Name) },
	"name":      func(a, b *roomRow) int { return strings.Compare(a.Name, b.Name) },
	"namespace": func(a, b *roomRow) int { return strings.Compare(a.Namespace, b.Namespace) },
	"sockets":   func(a, b *roomRow) int { return cmp.Compare(a.Sockets, b.Sockets) },
}

// page sorts the rows and returns the page of them that the view is about. Rows that are equal are
// in the first order.
func page[T any](v view, rows []*T, orders map[string]func(a, b *T) int) *viewed {
	first, order := orders[""], orders[v.Sort]
	if order == nil {
		order = first
	}
	slices.SortFunc(rows, func(a, b *T) int {
		by := order(a, b)
		if v.Descending {
			by = -by
		}
		return cmp.Or(by, first(a, b))
	})
	from := min(v.Page, len(rows)/pageRows) * pageRows
	shown := rows[from:min(from+pageRows, len(rows))]
	return &viewed{View: v, Total: len(rows), Rows: append([]*T{}, shown...)}
}

// listNodes returns the last figures of the nodes, and has them asked again.
func (l *inspection) listNodes(v view) *viewed {
	if l.asking == nil {
		asking := make(chan []nodeStats, 1)
		l.asking = asking
		go func() { asking <- l.hub.askNodes(l.ctx) }()
	}
	select {
	case l.nodes = <-l.asking:
		l.asking = nil
	default:
	}
	if l.nodes == nil {
		return nil
	}
	return &viewed{View: v, Time: time.Now().UnixMilli(), Total: len(l.nodes), Rows: l.nodes}
}
