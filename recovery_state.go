package atrium

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
)

// What a hub leaves to its successor, and its form: lines of JSON. The first says what it is, then
// each namespace has one, followed by one for each of its events and clients, and the last has the
// checksum of all before it.

// savedState is what a hub leaves to its successor.
type savedState []*savedNamespace

// savedNamespace is what the recovery of a namespace has kept.
type savedNamespace struct {
	name            string
	newest, dropped uint64 // see recovery
	events          []keptEvent
	clients         []savedClient
	places          map[string][]savedPlace // by the room of the presence
	read            int64                   // nanotime
}

// savedClient is a kept whose client is away.
type savedClient struct {
	pid, id           string
	start, sent, left uint64
	stays
	until  int64 // nanotime at which it is forgotten
	expiry int64 // nanotime of Socket.DisconnectAt; 0: there is none
	values map[string]savedValue
}

// wanted reports whether one of the clients may still come back.
func (n *savedNamespace) wanted(now int64) bool {
	return slices.ContainsFunc(n.clients, func(c savedClient) bool { return c.until > now })
}

const (
	stateFormat = "atrium recovery"
	// stateVersion is 2 since sockets have users. Version 1 is read, too: it has none.
	stateVersion = 2
	// maxStateBytes bounds a state, in bytes. One takes a third more than Recovery.MaxBytes for
	// each namespace, and the values.
	maxStateBytes = 1 << 30
)

// stateLine is a line: one of its fields.
type stateLine struct {
	Header    *stateHeader    `json:"state,omitempty"`
	Namespace *stateNamespace `json:"namespace,omitempty"`
	Event     *stateEvent     `json:"event,omitempty"`
	Client    *stateClient    `json:"client,omitempty"`
	Sum       string          `json:"sum,omitempty"` // SHA-256 in hexadecimal
}

type stateHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

type stateNamespace struct {
	Name    string `json:"name"`
	Newest  uint64 `json:"newest"`
	Dropped uint64 `json:"dropped"`
	// Presence is by room; without a name it is who is online. Older releases ignore it.
	Presence map[string][]savedPlace `json:"presence,omitempty"`
}

// stateEvent is a keptEvent. Times are in milliseconds of Unix time, here and below.
type stateEvent struct {
	Number      uint64   `json:"n"`
	Mark        uint64   `json:"mark,omitempty"`
	Above       uint64   `json:"above,omitempty"`
	At          int64    `json:"at"`
	Packet      []byte   `json:"packet"`
	Attachments []string `json:"attachments,omitempty"` // in base64
	Bare        bool     `json:"bare,omitempty"`        // see wireForm
	Only        string   `json:"only,omitempty"`
	Sender      string   `json:"sender,omitempty"`
	Scoped      bool     `json:"scoped,omitempty"`
	Rooms       []string `json:"rooms,omitempty"`
	Users       []string `json:"users,omitempty"`
	Except      []string `json:"except,omitempty"`
	ExceptUsers []string `json:"exceptUsers,omitempty"`
}

type stateClient struct {
	PID    string                     `json:"pid"`
	ID     string                     `json:"id"`
	User   string                     `json:"user,omitempty"`
	Start  uint64                     `json:"start"`
	Sent   uint64                     `json:"sent"`
	Left   uint64                     `json:"left"`
	Known  uint64                     `json:"known,omitempty"`
	Until  int64                      `json:"until"`
	Expiry int64                      `json:"expiry,omitempty"`
	Rooms  []stateStay                `json:"rooms,omitempty"`
	Lapsed []stateStay                `json:"lapsed,omitempty"`
	Values map[string]json.RawMessage `json:"values,omitempty"`
	Public map[string]json.RawMessage `json:"public,omitempty"`
}

type stateStay struct {
	Name    string      `json:"name"`
	Since   uint64      `json:"since,omitempty"`
	Until   uint64      `json:"until,omitempty"` // of a lapsed one
	Present *savedPlace `json:"present,omitempty"`
}

// stateClock converts between nanotime, which the next process does not know, and Unix time in
// milliseconds.
type stateClock struct{ nano, unix int64 }

func newStateClock() stateClock { return stateClock{nanotime(), time.Now().UnixMilli()} }

func (c stateClock) toUnix(nano int64) int64 { return c.unix + (nano-c.nano)/int64(time.Millisecond) }

// toNano bounds the result, which may be long ago or far away.
func (c stateClock) toNano(unix int64) int64 {
	const most = int64(endless) / int64(time.Millisecond)
	return c.nano + min(max(unix-c.unix, -most), most)*int64(time.Millisecond)
}

// write writes the state. Its error is w's, or that there is too much.
func (s savedState) write(w io.Writer) error {
	buffer := bufio.NewWriterSize(w, 64<<10)
	out := &stateWriter{sum: sha256.New(), clock: newStateClock()}
	out.to = io.MultiWriter(buffer, out.sum)
	out.line(stateLine{Header: &stateHeader{stateFormat, stateVersion}})
	for _, n := range s {
		out.line(stateLine{Namespace: &stateNamespace{n.name, n.newest, n.dropped, renamed(n.places, userMark, "")}})
		for i := range n.events {
			out.event(&n.events[i])
		}
		for i := range n.clients {
			out.client(&n.clients[i])
		}
	}
	out.line(stateLine{Sum: hex.EncodeToString(out.sum.Sum(nil))})
	return errors.Join(out.err, buffer.Flush())
}

type stateWriter struct {
	to    io.Writer
	sum   hash.Hash
	clock stateClock
	bytes int
	err   error
}

func (w *stateWriter) line(l stateLine) {
	b, err := json.Marshal(l)
	if w.bytes += len(b) + 1; err == nil && w.bytes > maxStateBytes {
		err = fmt.Errorf("it is over %d bytes", maxStateBytes)
	}
	if err == nil && w.err == nil {
		_, err = w.to.Write(append(b, '\n'))
	}
	if w.err == nil {
		w.err = err
	}
}

func (w *stateWriter) event(e *keptEvent) {
	out := stateEvent{Number: e.number, Mark: e.mark, Above: e.above, At: w.clock.toUnix(e.at), Packet: e.form.payload, Bare: e.form.bare,
		Only: e.to.only, Sender: e.to.sender, Scoped: e.to.scoped}
	out.Rooms, out.Users = splitUsers(e.to.rooms)
	out.Except, out.ExceptUsers = splitUsers(e.to.except)
	for _, text := range e.form.base64 {
		out.Attachments = append(out.Attachments, string(text[len("b"):])) // as it travels by polling
	}
	w.line(stateLine{Event: &out})
}

func (w *stateWriter) client(c *savedClient) {
	out := stateClient{PID: c.pid, ID: c.id, User: userAmong(c.rooms), Start: c.start, Sent: c.sent, Left: c.left, Known: c.known, Until: w.clock.toUnix(c.until)}
	if c.expiry != 0 {
		out.Expiry = w.clock.toUnix(c.expiry)
	}
	for _, room := range c.rooms {
		if _, isUser := userOf(room.name); !isUser {
			out.Rooms = append(out.Rooms, stateStay{Name: room.name, Since: room.since, Present: room.place()})
		}
	}
	for _, room := range c.lapsed {
		out.Lapsed = append(out.Lapsed, stateStay{Name: room.name, Since: room.since, Until: room.until})
	}
	for key, value := range c.values {
		list := &out.Values
		if value.public {
			list = &out.Public
		}
		if *list == nil {
			*list = make(map[string]json.RawMessage)
		}
		(*list)[key] = value.json
	}
	w.line(stateLine{Client: &out})
}

// readState reads what write has written, and checks all of it. What it allocates is at most a few
// times what it reads. Its error says what is wrong.
func readState(from io.Reader) (savedState, error) {
	r := stateReader{clock: newStateClock(), namespaces: make(map[string]bool)}
	lines, sum := bufio.NewReaderSize(io.LimitReader(from, maxStateBytes+1), 64<<10), sha256.New()
	for number, bytes := 1, 0; ; number++ {
		line, err := lines.ReadBytes('\n')
		if bytes += len(line); bytes > maxStateBytes {
			return nil, fmt.Errorf("it is over %d bytes", maxStateBytes)
		}
		if err == io.EOF {
			err = errors.New("the end is missing")
		}
		var l stateLine
		if err == nil && json.Unmarshal(line, &l) != nil {
			err = errors.New("it is no JSON of the expected form")
		}
		if err == nil && number == 1 {
			err = l.Header.check()
		} else if err == nil && l.Sum == "" {
			err = r.add(&l)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if number > 1 && l.Sum != "" {
			if l.Sum != hex.EncodeToString(sum.Sum(nil)) {
				return nil, errors.New("the checksum is wrong")
			}
			return r.state, nil
		}
		sum.Write(line)
	}
}

func (h *stateHeader) check() error {
	switch {
	case h == nil || h.Format != stateFormat:
		return errors.New("it was not written by a hub's Shutdown")
	case h.Version < 1 || h.Version > stateVersion:
		return fmt.Errorf("it has version %d, this release reads 1 to %d", h.Version, stateVersion)
	}
	return nil
}

// stateReader collects a state, line by line.
type stateReader struct {
	clock      stateClock
	state      savedState
	namespaces map[string]bool
	known      map[string]bool // pids and ids of the last namespace
}

func (r *stateReader) add(l *stateLine) error {
	if l.Namespace != nil {
		return r.namespace(l.Namespace)
	}
	if len(r.state) == 0 {
		return errors.New("expected a namespace")
	}
	n := r.state[len(r.state)-1]
	switch {
	case l.Event != nil:
		return r.event(n, l.Event)
	case l.Client != nil:
		return r.client(n, l.Client)
	}
	return errors.New("expected a namespace, an event or a client")
}

func (r *stateReader) namespace(in *stateNamespace) error {
	switch {
	case !validNamespace(in.Name):
		return errors.New("namespace: this cannot be the name of one")
	case r.namespaces[in.Name]:
		return errors.New("namespace: it is there twice")
	case in.Newest < in.Dropped || in.Newest > 1<<62:
		return errors.New("namespace: its numbers cannot be")
	}
	for room, places := range in.Presence {
		if err := checkPlaces(room, places); err != nil {
			return err
		}
	}
	r.namespaces[in.Name], r.known = true, make(map[string]bool)
	r.state = append(r.state, &savedNamespace{name: in.Name, newest: in.Newest, dropped: in.Dropped, read: r.clock.nano,
		places: renamed(in.Presence, "", userMark)})
	return nil
}

func (r *stateReader) event(n *savedNamespace, in *stateEvent) error {
	before := n.dropped
	if len(n.events) > 0 {
		before = n.events[len(n.events)-1].number
	}
	if in.Number <= before || in.Number > n.newest {
		return errors.New("event: its number is out of order")
	}
	if len(in.Packet) == 0 {
		return errors.New("event: it is empty")
	}
	e := keptEvent{number: in.Number, mark: in.Mark, above: in.Above, at: min(r.clock.toNano(in.At), r.clock.nano),
		to: recipients{only: in.Only, sender: in.Sender, scoped: in.Scoped, rooms: union(in.Rooms, userRooms(in.Users)), except: union(in.Except, userRooms(in.ExceptUsers))}}
	e.form.set(append(newFrame(len(in.Packet)), in.Packet...))
	e.form.bare = in.Bare
	for _, text := range in.Attachments {
		binary, err := base64.StdEncoding.AppendDecode(newFrame(len(text)), []byte(text))
		if err != nil {
			return errors.New("event: an attachment is no base64")
		}
		e.form.base64 = append(e.form.base64, appendEngine(nil, engineBase64, []byte(text)))
		e.form.rest = append(e.form.rest, prependHeader(binary, frameHeader{Fin: true, Opcode: opBinary})...)
	}
	if e.form.rest != nil {
		e.form.whole, e.form.rest = slices.Concat(e.form.whole, e.form.rest), nil
	}
	e.weigh()
	n.events = append(n.events, e)
	return nil
}

func (r *stateReader) client(n *savedNamespace, in *stateClient) error {
	if _, isID := nodeOfID(in.ID); !isID || len(in.PID) != pidLength || r.known[in.ID] || r.known[in.PID] {
		return errors.New("client: it has no good id and pid of its own")
	}
	if max(in.Start, in.Sent, in.Left, in.Known) > n.newest || len(in.Lapsed) > maxLapsed {
		return errors.New("client: its numbers cannot be")
	}
	r.known[in.ID], r.known[in.PID] = true, true
	c := savedClient{pid: in.PID, id: in.ID, start: in.Start, sent: in.Sent, left: in.Left, until: r.clock.toNano(in.Until)}
	c.known = in.Known
	if in.Expiry != 0 {
		c.expiry = r.clock.toNano(in.Expiry)
	}
	for _, room := range in.Rooms {
		if err := checkRoom(room, c.rooms); err != nil {
			return err
		}
		at := stay{name: room.Name, since: room.Since}
		if room.Present != nil {
			e, err := room.Present.entry()
			if err != nil {
				return fmt.Errorf("client: %w", err)
			}
			at.present = e
		}
		c.rooms = append(c.rooms, at)
	}
	if in.User != "" {
		if err := checkUserID(in.User); err != nil {
			return err
		}
		c.rooms = append(c.rooms, stay{name: userRoom(in.User)})
	}
	for _, room := range in.Lapsed {
		if err := checkRoom(room, nil); err != nil {
			return err
		}
		c.lapsed = append(c.lapsed, lapsed{stay{name: room.Name, since: room.Since}, room.Until})
	}
	if size := len(in.Values) + len(in.Public); size > 0 {
		c.values = make(map[string]savedValue, size)
	}
	for key, value := range in.Values {
		c.values[key] = savedValue{json: bytes.Clone(value)}
	}
	for key, value := range in.Public {
		c.values[key] = savedValue{json: bytes.Clone(value), public: true}
	}
	n.clients = append(n.clients, c)
	return nil
}

// checkRoom checks a room that follows others, which are in order.
func checkRoom(room stateStay, before []stay) error {
	_, isID := nodeOfID(room.Name)
	if isID || checkRoomName(room.Name) != nil || len(before) > 0 && before[len(before)-1].name >= room.Name {
		return errors.New("client: its rooms are no set of names")
	}
	return nil
}
