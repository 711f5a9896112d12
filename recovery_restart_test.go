package atrium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// successor makes the next hub of a Path, which the test may do before or after the one before it
// has ended.
func successor(t testing.TB, k kind, path string, options Options) *recoveryHub {
	options.Recovery.Path = path
	return newRecoveryHub(t, k, options)
}

// shutdown ends the hub, before the test's end. These clients of it read to the end.
func (l *recoveryHub) shutdown(t testing.TB, clients ...*recoveryClient) {
	t.Helper()
	for _, g := range clients {
		go g.answerPings()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := l.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

// wantRecovered checks that the client is back as the socket that it was.
func wantRecovered(t testing.TB, back *recoveryClient, as *recoveryClient) {
	t.Helper()
	if back.id != as.id || back.pid != as.pid || !back.socket.Recovered() {
		t.Fatalf("%s came back as %s", as.id, back.id)
	}
}

type savedUser struct {
	Name string
	Tags []string
}

// What a client had it has again after a restart, away or there when that began.
func TestRecoveryRestart(t *testing.T) {
	over(t, []kind{overTCP, overTLS}, func(t *testing.T, k kind) {
		noLeaks(t)
		path := filepath.Join(t.TempDir(), "state")
		old := successor(t, k, path, Options{})
		stays, away := old.enter(t, ""), old.enter(t, "")
		for _, g := range []*recoveryClient{stays, away} {
			g.socket.Join("a", "b", "left")
			g.socket.Set("user", &savedUser{"Ada", []string{"x"}})
			g.socket.Set("count", 3)
			g.socket.Set("nothing", nil)
			if err := g.socket.SetPublic("status", "here"); err != nil {
				t.Fatal(err)
			}
		}
		old.Emit("first", 1)
		offset := offsetOf(t, stays.next())
		away.next()
		old.cut(away)
		old.To("left").Emit("before leaving")
		away.socket.Leave("left")
		old.To("left").Emit("others")
		old.To("a").Emit("room", Binary("data"), "<é>")
		old.shutdown(t, stays)
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 && runtime.GOOS != "windows" {
			t.Fatalf("%v, %v", info, err)
		}

		l := successor(t, k, path, Options{})
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
		l.Emit("after")
		l.To("b").Except("a").Emit("others")
		l.To(away.id).Emit("id")
		back := l.enter(t, proof(away.pid, offset))
		wantRecovered(t, back, away)
		wantMissed(t, back, `42["before leaving"]`, `451-["room",{"_placeholder":true,"num":0},"<é>"]`, `data`, `42["after"]`, `42["id"]`)
		again := l.enter(t, proof(stays.pid, offset))
		wantRecovered(t, again, stays)
		wantMissed(t, again, `42["before leaving"]`, `42["others"]`, `451-["room",{"_placeholder":true,"num":0},"<é>"]`, `data`, `42["after"]`)
		l.recovery.check(t)
		s := back.socket
		if diff := cmp.Diff([]string{"a", "b"}, s.Rooms()); diff != "" {
			t.Error(diff)
		}
		raw, _ := s.Get("user")
		user, ok := Value[*savedUser](s, "user")
		if diff := cmp.Diff(&savedUser{"Ada", []string{"x"}}, user); !ok || diff != "" {
			t.Error(diff)
		}
		user.Name = "Grace"
		same, _ := Value[*savedUser](s, "user")
		if got := fmt.Sprintf("%T %s", raw, raw); same != user || got != `json.RawMessage {"Name":"Ada","Tags":["x"]}` {
			t.Errorf("%s, and %p became %p", got, user, same)
		}
		if _, ok := Value[string](s, "count"); ok {
			t.Error("a number is a string")
		}
		count, _ := Value[int](s, "count")
		status, _ := Value[string](s, "status")
		nothing, ok := s.Get("nothing")
		if count != 3 || status != "here" || nothing != nil || !ok {
			t.Errorf("%v, %v, %v", count, status, nothing)
		}
		if public := s.publicValues(); len(public) != 1 || string(public["status"]) != `"here"` {
			t.Errorf("public: %s", public)
		}

		// And so on, from one to the next.
		l.cut(back)
		l.shutdown(t, again)
		third := successor(t, k, path, Options{})
		last := third.enter(t, proof(away.pid, offsetOf(t, back.missed[len(back.missed)-1])))
		wantRecovered(t, last, away)
		wantMissed(t, last)
		if user, ok := Value[*savedUser](last.socket, "user"); !ok || user.Name != "Grace" {
			t.Errorf("%v, %v", user, ok)
		}
	})
}

// A client that comes to the new process while the old one drains waits, and has missed nothing of
// what either has emitted.
func TestRecoveryOverlap(t *testing.T) {
	over(t, []kind{overTCP, overTLS}, func(t *testing.T, k kind) {
		noLeaks(t)
		path := filepath.Join(t.TempDir(), "state")
		entered, released := make(chan bool), make(chan bool)
		release := sync.OnceFunc(func() { close(released) })
		old := successor(t, k, path, Options{})
		t.Cleanup(release)
		old.Handle("slow", func(*Event) { close(entered); <-released })
		g, busy := old.enter(t, ""), old.enter(t, "")
		g.socket.Join("room")
		old.Emit("first")
		offset := offsetOf(t, g.next())

		l := successor(t, k, path, Options{})
		l.To("room").Emit("new", 1)
		stranger := l.enter(t, proof(strings.Repeat("x", pidLength), "1")) // at once: nobody drains
		busy.send(`42["slow"]`)
		<-entered
		ended := begin(func() (bool, error) { return true, old.Shutdown(limited(t)) })
		go g.answerPings()
		go busy.answerPings()
		within(t, g.socket.Context().Done(), "the end of the connection")
		back := &recoveryClient{ioClient: l.socketIO(t)}
		back.send("40" + proof(g.pid, offset))
		back.send(`42["unknown"]`) // waits
		waits := func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.succession.changed.opened != nil
		}
		eventually(t, "the client to wait", waits)
		l.To("room").Emit("new", 2)
		old.To("room").Emit("old", 1)
		l.Emit("new", 3)
		release()
		if o := within(t, ended, "Shutdown"); o.err != nil {
			t.Fatal(o.err)
		}
		back.hello()
		back.socket = within(t, l.came, "OnConnect")
		wantRecovered(t, back, g)
		wantMissed(t, back, `42["old",1]`, `42["new",1]`, `42["new",2]`, `42["new",3]`)
		back.want(`42["error",{"event":"unknown","message":"event: \"unknown\" is not one that this server knows"}]`)
		if !back.socket.In("room") {
			t.Error("it is not in its room")
		}
		wantHears(t, stranger, `~42\["new",3,"\d+"\]`)
		l.recovery.check(t)
		if busyBack := l.enter(t, proof(busy.pid, "")); busyBack.id != busy.id {
			t.Error("the other did not come back")
		}
	})
}

// What a hub that has crashed had is lost, and the lock with it.
func TestRecoveryAfterCrash(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	lock, had, err := openLock(path + ".lock")
	if err != nil || !had {
		t.Fatal(err)
	}
	if _, err := lock.WriteString(draining); err != nil {
		t.Fatal(err)
	}
	l := successor(t, overTCP, path, Options{})
	c := &recoveryClient{ioClient: l.socketIO(t)}
	c.send("40" + proof(strings.Repeat("x", pidLength), "1"))
	eventually(t, "the client to wait", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.succession.changed.opened != nil
	})
	l.Emit("kept for nobody")
	lock.Close()
	c.hello()
	c.socket = within(t, l.came, "OnConnect")
	if c.socket.Recovered() || len(c.missed) > 0 {
		t.Errorf("it came back with %q", c.missed)
	}
	l.recovery.check(t)
	l.Of("/more").recovery.check(t)
}

// A file that is not what it should be is logged, and the clients begin anew.
func TestRecoveryUnusableFile(t *testing.T) {
	noLeaks(t)
	whole := func(path string) []byte {
		l := successor(t, overTCP, path, Options{})
		l.cut(l.enter(t, ""))
		l.cut(l.enter(t, ""))
		l.Emit("x")
		l.shutdown(t)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := map[string]struct {
		damage func(b []byte) []byte
		want   string
	}{
		"empty":       {func([]byte) []byte { return nil }, "line 1: the end is missing"},
		"foreign":     {func([]byte) []byte { return []byte("root:x:0:0:\n") }, "line 1: it is no JSON"},
		"other JSON":  {func([]byte) []byte { return []byte("{}\n") }, "line 1: it was not written by a hub"},
		"old version": {func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":2`), []byte(`"version":7`), 1) }, "it has version 7, this release reads 1 to 2"},
		"cut off":     {func(b []byte) []byte { return b[:len(b)-len(`"}`)-66] }, "the end is missing"},
		"half":        {func(b []byte) []byte { return b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1] }, "the end is missing"},
		"changed":     {func(b []byte) []byte { return bytes.Replace(b, []byte(`"until":1`), []byte(`"until":2`), 1) }, "the checksum is wrong"},
		"a directory": {nil, "is no regular file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if test.damage == nil {
				os.Mkdir(path, 0o700)
			} else if err := os.WriteFile(path, test.damage(whole(path)), 0o600); err != nil {
				t.Fatal(err)
			}
			logger, log := newLog()
			l := successor(t, overTCP, path, Options{Logger: logger})
			if l.enter(t, ""); !strings.Contains(log.String(), test.want) || !strings.Contains(log.String(), "level=WARN") {
				t.Errorf("the log has %s, want %q", log, test.want)
			}
			if test.damage == nil {
				os.Remove(path) // or Shutdown's error is the test's
			}
		})
	}
}

// Nothing is said of a file that is missing.
func TestRecoveryNoFile(t *testing.T) {
	logger, log := newLog()
	successor(t, overTCP, filepath.Join(t.TempDir(), "state"), Options{Logger: logger})
	if log.String() != "" {
		t.Error(log)
	}
}

// A directory that is not there is an error of Shutdown, and the hub works until then.
func TestRecoveryNoDirectory(t *testing.T) {
	noLeaks(t)
	logger, log := newLog()
	h := New(Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute, Path: filepath.Join(t.TempDir(), "no", "state")}})
	if !strings.Contains(log.String(), "Recovery.Path cannot be used") {
		t.Errorf("the log has %s", log)
	}
	if err := h.Shutdown(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Save and Load are the application's, and may do what they like.
func TestRecoverySaveAndLoad(t *testing.T) {
	noLeaks(t)
	var stored []byte
	save := func(_ context.Context, state io.Reader) (err error) { stored, err = io.ReadAll(state); return err }
	load := func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(stored)), nil }
	with := func(save func(context.Context, io.Reader) error, load func(context.Context) (io.ReadCloser, error)) Options {
		return Options{Recovery: Recovery{MaxDisconnection: time.Minute, Save: save, Load: load}}
	}
	old := newRecoveryHub(t, overTCP, with(save, func(context.Context) (io.ReadCloser, error) { return nil, fs.ErrNotExist }))
	g := old.enter(t, "")
	old.cut(g)
	old.Emit("missed")
	old.shutdown(t)
	l := newRecoveryHub(t, overTCP, with(save, load))
	back := l.enter(t, proof(g.pid, ""))
	wantRecovered(t, back, g)
	wantMissed(t, back, `42["missed"]`)

	bad := errors.New("bad")
	for name, load := range map[string]func(context.Context) (io.ReadCloser, error){
		"nothing": func(context.Context) (io.ReadCloser, error) { return nil, nil },
		"error":   func(context.Context) (io.ReadCloser, error) { return nil, bad },
		"panic":   func(context.Context) (io.ReadCloser, error) { panic(bad) },
		"goexit":  func(context.Context) (io.ReadCloser, error) { runtime.Goexit(); return nil, nil },
		"reader":  func(context.Context) (io.ReadCloser, error) { return io.NopCloser(panicReader{}), nil },
	} {
		logger, log := newLog()
		o := with(save, load)
		o.Logger = logger
		if newHub(t, o); (log.String() == "") != (name == "nothing") {
			t.Errorf("%s: the log has %q", name, log)
		}
	}
	for name, save := range map[string]func(context.Context, io.Reader) error{
		"error": func(context.Context, io.Reader) error { return bad },
		"panic": func(context.Context, io.Reader) error { panic(bad) },
	} {
		l := newRecoveryHub(t, overTCP, with(save, func(context.Context) (io.ReadCloser, error) { return nil, nil }))
		expired := make(chan string, 1)
		l.OnExpire(func(s *Socket) { expired <- s.ID() })
		g := l.enter(t, "")
		l.cut(g)
		err := l.Shutdown(limited(t))
		if err == nil || !strings.Contains(err.Error(), "bad") {
			t.Errorf("%s: Shutdown returned %v", name, err)
		}
		if id := within(t, expired, "OnExpire"); id != g.id {
			t.Errorf("%s has expired, not %s", id, g.id)
		}
		l.succession.failed = nil // newHub's Shutdown would have it, too
	}
}

type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("bad") }

// Options that do not go together.
func TestRecoveryOptions(t *testing.T) {
	save := func(context.Context, io.Reader) error { return nil }
	load := func(context.Context) (io.ReadCloser, error) { return nil, nil }
	for want, r := range map[string]Recovery{
		"Save and Load go together":         {MaxDisconnection: 1, Save: save},
		"Load go together":                  {MaxDisconnection: 1, Load: load},
		"Path stands in place of":           {MaxDisconnection: 1, Path: "x", Save: save, Load: load},
		"Recovery.MaxDisconnection is zero": {Path: "x"},
	} {
		wantPanic(t, want, want, func() { New(Options{Recovery: r}) })
	}
}

// A value that JSON does not carry makes its socket begin anew, which is said once for its type.
func TestRecoveryUnsavableValues(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	logger, log := newLog()
	old := successor(t, overTCP, path, Options{Logger: logger})
	expired := make(chan string, 10)
	old.OnExpire(func(s *Socket) { expired <- s.ID() })
	good, bad, worse := old.enter(t, ""), old.enter(t, ""), old.enter(t, "")
	good.socket.Set("time", time.Unix(1, 0))
	bad.socket.Set("conn", new(net.TCPConn))
	worse.socket.Set("conn", new(net.TCPConn))
	old.shutdown(t, good, bad, worse)
	if n := strings.Count(log.String(), "cannot be saved"); n != 1 || !strings.Contains(log.String(), `\"conn\" of type *net.TCPConn`) {
		t.Errorf("%d entries in %s", n, log)
	}
	gone := map[string]bool{within(t, expired, "OnExpire"): true, within(t, expired, "OnExpire"): true}
	if !gone[bad.id] || !gone[worse.id] {
		t.Errorf("%v have expired", gone)
	}
	l := successor(t, overTCP, path, Options{})
	back := l.enter(t, proof(good.pid, ""))
	wantRecovered(t, back, good)
	if at, _ := Value[time.Time](back.socket, "time"); !at.Equal(time.Unix(1, 0)) {
		t.Errorf("the time is %v", at)
	}
	if anew := l.enter(t, proof(bad.pid, "")); anew.socket.Recovered() {
		t.Error("it came back without its value")
	}
}

// On a cluster an event may reach both processes: a client that moves gets it once. What other
// nodes emit to the socket's id, or to its rooms, reaches it where it is.
func TestRecoveryOverlapOnACluster(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	bus := new(MemoryBus)
	other := newHub(t, Options{Bus: bus, Recovery: Recovery{MaxDisconnection: time.Minute, Path: path + "2"}})
	known := func(nodes int) {
		t.Helper()
		eventually(t, "the nodes to know each other", func() bool { return len(other.Nodes().List()) == nodes })
	}
	old := successor(t, overTCP, path, Options{Bus: bus})
	g, local := old.enter(t, ""), old.enter(t, "")
	g.socket.Join("room", "only")
	known(1)
	old.Emit("first")
	offset := offsetOf(t, g.next())

	l := successor(t, overTCP, path, Options{Bus: bus})
	mine := l.enter(t, "")
	mine.socket.Join("room")
	known(2)
	emit := func(by *Hub, room, event string, n int) { // and wait until it has arrived everywhere
		t.Helper()
		if err := errors.Join(by.To(room).Emit(event, n), by.To(room).Leave(t.Context(), "none")); err != nil {
			t.Fatal(err)
		}
	}
	emit(other, "room", "other", 1)
	emit(old.Hub, "room", "old", 1)
	emit(l.Hub, "room", "new", 1)
	go g.answerPings()
	go local.answerPings()
	old.shutdown(t)
	within(t, l.succession.waited, "the hand-over")
	l.cluster.await(t.Context(), []string{roomTopic("/", "only"), nodeTopic(old.node)})
	emit(other, "only", "other", 2) // a room that only those who are away are in
	before := l.recovery.lastNumber()
	other.To(g.id).Emit("other", 3)
	eventually(t, "the event", func() bool { return l.recovery.lastNumber() > before })
	back := l.enter(t, proof(g.pid, offset))
	wantRecovered(t, back, g)
	wantMissed(t, back, `42["other",1]`, `42["old",1]`, `42["new",1]`, `42["other",2]`, `42["other",3]`)
	wantHears(t, mine, `~42\["other",1,"\d+"\]`, `~42\["old",1,"\d+"\]`, `~42\["new",1,"\d+"\]`)

	other.To(g.id).Emit("id")
	l.To(g.id).Emit("own")
	got := []string{back.next(), back.next()}
	if all := strings.Join(bare(t, got), " "); !strings.Contains(all, `42["id"]`) || !strings.Contains(all, `42["own"]`) {
		t.Errorf("got %s", all)
	}
	if n, err := other.To(g.id).Count(limited(t)); n != 1 || err != nil {
		t.Errorf("%d have the id, %v", n, err)
	}
	l.recovery.check(t)
}
