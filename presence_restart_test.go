package atrium

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// deploys is an application in whose room "r" everybody is present, from one process to the next.
type deploys struct {
	t       *testing.T
	kind    kind
	options Options
	path    string
	members []string
	lists   []*ClientPresence
	down    time.Duration // between two processes that do not overlap

	mu     sync.Mutex   // guards:
	hub    *recoveryHub // nil while there is none
	all    bool         // everybody has come
	wrong  []string     // what clients were told that is not so
	joined map[string]int
	left   []string
}

func newDeploys(t *testing.T, k kind, options Options) *deploys {
	return &deploys{t: t, kind: k, options: options, path: filepath.Join(t.TempDir(), "state")}
}

// start starts a process.
func (d *deploys) start() *recoveryHub {
	l := successor(d.t, d.kind, d.path, d.options)
	useUsers(l.Hub)
	l.Use(func(s *Socket) error {
		if s.User() == "" {
			return nil // it looks on
		}
		return s.Present("r", "", 1)
	})
	On(l, "slow", func(_ *Socket, ms int) error { <-time.After(time.Duration(ms) * time.Millisecond); return nil })
	joined := make(map[string]int)
	l.OnPresence(func(_ string, j, left []Present) {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, p := range j {
			joined[p.Key]++
		}
		for _, p := range left {
			d.left = append(d.left, p.Key)
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hub, d.joined = l, joined
	return l
}

func (d *deploys) current() *recoveryHub {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hub
}

// auth names another member.
func (d *deploys) auth() map[string]any {
	name := fmt.Sprintf("user%02d", len(d.members))
	d.members = append(d.members, name)
	return map[string]any{"user": name, "rooms": []string{"r"}}
}

func (d *deploys) authText() string {
	return fmt.Sprintf(`{"user":%q,"rooms":["r"]}`, d.auth()["user"])
}

// note is told of the list of a member.
func (d *deploys) note(list []Present) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if got := keysOf(list); d.all && !slices.Equal(got, d.members) {
		d.wrong = append(d.wrong, strings.Join(got, " "))
	}
}

// watchLists says whether everybody is to be on the lists from now on.
func (d *deploys) watchLists(all bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = all
}

func keysOf(list []Present) []string {
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = list[i].Key
	}
	return keys
}

// check checks that nobody was told that somebody has left or joined, and that the process that
// runs has told of everybody once.
func (d *deploys) check(when string) {
	d.t.Helper()
	if got := keysOf(d.current().Presence("r")); !slices.Equal(got, d.members) {
		d.t.Errorf("%s: %q are there", when, got)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.wrong) > 0 || len(d.left) > 0 {
		d.t.Errorf("%s: clients have seen %q, and %q have left", when, d.wrong, d.left)
	}
	want := make(map[string]int)
	for _, name := range d.members {
		want[name] = 1
	}
	if diff := cmp.Diff(want, d.joined); diff != "" {
		d.t.Errorf("%s: OnPresence was told of %s", when, diff)
	}
}

// returner is a client without a library: it comes, and comes back to a process when it is told to.
type returner interface {
	come(l *recoveryHub)
	ended() <-chan struct{} // closed when its connection has ended
}

type plainReturner struct {
	d    *deploys
	auth map[string]any
	done chan struct{}
}

func (r *plainReturner) come(l *recoveryHub) {
	c := l.server.connect(r.d.t, r.auth)
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		for range c.listen() {
		}
	}()
}

func (r *plainReturner) ended() <-chan struct{} { return r.done }

type socketIOReturner struct {
	d    *deploys
	auth string
	done chan struct{}
}

func (r *socketIOReturner) come(l *recoveryHub) {
	g := &recoveryClient{ioClient: l.socketIO(r.d.t)}
	g.send("40" + r.auth)
	g.hello()
	r.auth, r.done = proof(g.pid, ""), make(chan struct{})
	go func() {
		defer close(r.done)
		g.answerPings()
	}()
}

func (r *socketIOReturner) ended() <-chan struct{} { return r.done }

type pollReturner struct {
	d    *deploys
	auth string
	done chan struct{}
}

func (r *pollReturner) come(l *recoveryHub) {
	p := l.polls(r.d.t)
	p.do("POST", "40"+r.auth)
	hello := p.until("40")
	var reply struct{ Pid string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(hello[len(hello)-1], "40")), &reply); err != nil {
		r.d.t.Fatal(err)
	}
	r.auth, r.done = proof(reply.Pid, ""), make(chan struct{})
	go func() {
		defer close(r.done)
		for {
			answer, err := p.http.Get(p.url)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			switch packets := strings.Split(string(b), "\x1e"); {
			case answer.StatusCode != http.StatusOK || slices.Contains(packets, "1"):
				return
			case slices.Contains(packets, "2"):
				p.do("POST", "3")
			}
		}
	}()
}

func (r *pollReturner) ended() <-chan struct{} { return r.done }

// client adds a Client, which comes back by itself, and looks at its list.
func (d *deploys) client() {
	dial := func(context.Context, string, string) (net.Conn, error) {
		if l := d.current(); l != nil {
			return d.kind.dial(l.listener)
		}
		return nil, errors.New("connection refused")
	}
	c := NewClient("http://example.com", ClientOptions{Auth: d.auth(), Dial: DialOptions{DialContext: dial}})
	d.t.Cleanup(func() { c.Close() })
	p := c.Presence("r")
	p.OnChange(d.note)
	d.lists = append(d.lists, p)
	mustConnect(d.t, c)
}

// populate lets members of all kinds come, of which there are 20: first those that come back by
// themselves, then others, which it returns, and last those that cannot be recovered.
func (d *deploys) populate(from, to int) (all []returner) {
	d.start()
	for i := from; i < to; i++ {
		switch {
		case i < 8:
			d.client()
		case i < 12:
			all = append(all, &socketIOReturner{d: d, auth: d.authText()})
		case i < 14:
			all = append(all, &pollReturner{d: d, auth: d.authText()})
		default:
			all = append(all, &plainReturner{d: d, auth: d.auth()})
		}
	}
	for _, r := range all {
		r.come(d.current())
	}
	return all
}

// restart replaces the process, which it does not outlive.
func (d *deploys) restart(overlap bool, all []returner, pause func()) {
	d.t.Helper()
	old := d.current()
	if overlap {
		l := d.start()
		watch(d.t, l.Hub, l.server, "r", true) // which looks on
	} else {
		d.mu.Lock()
		d.hub = nil
		d.mu.Unlock()
	}
	ended := begin(func() (bool, error) { return true, old.Shutdown(limited(d.t)) })
	if o := within(d.t, ended, "Shutdown"); o.err != nil {
		d.t.Fatal(o.err)
	}
	for _, r := range all {
		within(d.t, r.ended(), "the end of a connection")
	}
	if !overlap {
		<-time.After(d.down)
		d.start()
	} else {
		within(d.t, d.current().succession.waited, "the hand-over")
	}
	for _, r := range all {
		pause()
		r.come(d.current())
	}
}

// Nobody is told of a restart, however long the members of a room take to leave one process and to
// come back to the next.
func TestPresenceRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d := newDeploys(t, overPipe, Options{DrainRate: 4})
		d.down = time.Second
		all := d.populate(0, 20)
		<-time.After(time.Second)
		d.watchLists(true)
		for i, overlap := range []bool{false, true, false} {
			told := newOnlineLog(d.current().Hub)
			<-time.After(time.Second)
			d.restart(overlap, all, func() { <-time.After(300 * time.Millisecond) })
			<-time.After(10 * time.Second)
			synctest.Wait()
			d.check(fmt.Sprintf("restart %d", i))
			if told.wrong != nil || slices.ContainsFunc(told.told, func(s string) bool { return s[0] == '-' }) {
				t.Errorf("restart %d: the users' functions were told %q", i, told.told)
			}
		}

		// Those who do not come back have left, together, once.
		see := watch(t, d.current().Hub, d.current().server, "r", true)
		<-time.After(time.Second)
		see.heard(t)
		d.watchLists(false)
		d.restart(false, all[1:len(all)-1], func() {})
		see = watch(t, d.current().Hub, d.current().server, "r", true)
		told := newOnlineLog(d.current().Hub)
		<-time.After(presenceReturn + time.Second)
		told.want(t, "who is online", signed("+", d.members)...)
		see.want(t, "within the time to come back", "state", strings.Join(signed("=", d.members), " "))
		<-time.After(2 * time.Second)
		gone := []string{d.members[8], d.members[19]}
		see.want(t, "after it", signed("-", gone)...)
		told.want(t, "who is offline", signed("-", gone)...)
	})
}

func signed(sign string, names []string) []string {
	list := make([]string, len(names))
	for i := range names {
		list[i] = sign + names[i]
	}
	return list
}

// The same with real connections.
func TestPresenceRestartOverTCP(t *testing.T) {
	noLeaks(t)
	d := newDeploys(t, overTCP, Options{})
	all := d.populate(0, 20)
	eventually(t, "everybody to be on the lists", func() bool {
		return !slices.ContainsFunc(d.lists, func(p *ClientPresence) bool { return !slices.Equal(keysOf(p.List()), d.members) })
	})
	d.watchLists(true)
	for _, overlap := range []bool{false, true} {
		d.restart(overlap, all, func() {})
		eventually(t, "everybody to be back", func() bool {
			return !slices.ContainsFunc(d.members, func(user string) bool { return d.current().Namespace.room(userRoom(user)) == nil })
		})
		d.check(fmt.Sprintf("overlap %t", overlap))
	}
}

// The other nodes of a cluster notice nothing either: neither that a node ends, nor that there is
// another with its clients; nor does that one notice anything of the others.
func TestPresenceRestartOnACluster(t *testing.T) {
	for _, first := range []int{0, 8} {
		bubble(t, func(t *testing.T) {
			bus := new(MemoryBus)
			d := newDeploys(t, overPipe, Options{DrainRate: 3, Bus: bus})
			third := newHub(t, Options{Bus: bus})
			d.down = time.Second
			all := d.populate(first, 14)
			srv := serve(t, overPipe, third)
			see := watch(t, third, srv, "r", true)
			mustPresent(t, see.socket, "r", "zzz", 1)
			d.members = append(d.members, "zzz")
			<-time.After(2 * time.Second)
			if told := see.heard(t); !slices.Equal(see.keys(), d.members) {
				t.Fatal(told)
			}
			d.watchLists(true)
			for i, overlap := range []bool{true, false, true} {
				busy := d.current().server.connect(t, nil) // so that the others have long left their room when the process ends
				busy.send(`{"event":"slow","data":7000}`)
				go busy.listen()
				wait := 4 * time.Second // for the first: more than the grace of what a node takes along
				d.restart(overlap, all, func() { <-time.After(wait); wait = 300 * time.Millisecond })
				<-time.After(15 * time.Second)
				see.want(t, fmt.Sprintf("restart %d", i))
				d.check(fmt.Sprintf("restart %d", i))
			}
			d.watchLists(false)
			d.restart(true, all[1:], func() {})
			<-time.After(presenceReturn + time.Second)
			see.want(t, "within the time to come back")
			<-time.After(5 * time.Second)
			see.want(t, "after it", "-"+d.members[8-first])
		})
	}
}
