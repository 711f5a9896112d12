package atrium

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What a hub that crashed while it saved has left is gone with the next New, and in nobody's way.
func TestRecoveryCrashWhileSaving(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	others := []string{"state.1", "state.new.1", "xstate.new"}
	for _, name := range append(others, "state.new") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names := func() string {
		list, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, f := range list {
			names = append(names, f.Name())
		}
		return strings.Join(names, " ")
	}
	l := successor(t, overTCP, path, Options{})
	if got := names(); got != "state.1 state.lock state.new.1 xstate.new" {
		t.Errorf("after New there are %s", got)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, path+asideSuffix); err != nil {
		t.Log(err) // Windows may forbid it
	}
	l.shutdown(t)
	if got := names(); got != "state state.1 state.lock state.new.1 xstate.new" {
		t.Errorf("after Shutdown there are %s", got)
	}
	if _, err := os.Stat(outside); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state has followed a link: %v", err)
	}
}

// A Path that has something other than a file is neither read nor replaced.
func TestRecoveryPathIsNoFile(t *testing.T) {
	noLeaks(t)
	path := t.TempDir()
	logger, log := newLog()
	h := New(Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}})
	if !strings.Contains(log.String(), "is no regular file") {
		t.Errorf("the log has %s", log)
	}
	if err := h.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("Shutdown: %v", err)
	}
}

// A predecessor that goes on for a minute without draining is told of, once.
func TestRecoveryLockHeldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		lock, had, err := openLock(path + ".lock")
		if !had || err != nil {
			t.Fatal(had, err)
		}
		logger, log := newLog()
		h := New(Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}})
		const entry = "another hub holds Recovery.Path, and does not shut down"
		<-time.After(lockPatience)
		if log.String() != "" {
			t.Errorf("too early: %s", log)
		}
		<-time.After(2 * lockPatience)
		if n := strings.Count(log.String(), entry); n != 1 {
			t.Errorf("%d entries: %s", n, log)
		}
		lock.Close()
		<-time.After(2 * lockInterval)
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// If the clock was set back between two processes that overlap, the events of the first have the
// later numbers. Nothing can be put in order then: its clients begin anew.
func TestRecoveryClockSetBack(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	logger, log := newLog()
	old := successor(t, overTCP, path, Options{})
	g, other := old.enter(t, ""), old.enter(t, "")
	old.recovery.lock()
	old.recovery.newest += uint64(time.Hour.Microseconds())
	old.recovery.unlock()
	l := successor(t, overTCP, path, Options{Logger: logger})
	old.Emit("late")
	old.shutdown(t, g, other)
	within(t, l.succession.waited, "the hand-over")
	if !strings.Contains(log.String(), "the clock must not be set back") {
		t.Errorf("the log has %s", log)
	}
	anew := l.enter(t, proof(g.pid, ""))
	if anew.socket.Recovered() || len(anew.missed) > 0 {
		t.Errorf("it came back with %q", anew.missed)
	}
	l.Emit("e")
	offset := offsetOf(t, anew.next())
	l.recovery.check(t)

	// Without overlap the second one sees the numbers before it gives its own.
	l.cut(anew)
	l.Emit("missed")
	l.recovery.lock()
	l.recovery.newest += uint64(time.Hour.Microseconds())
	l.recovery.unlock()
	l.shutdown(t)
	third := successor(t, overTCP, path, Options{})
	third.Emit("after")
	back := third.enter(t, proof(anew.pid, offset))
	wantRecovered(t, back, anew)
	wantMissed(t, back, `42["missed"]`, `42["after"]`)
}

// The namespaces of an OfFunc, which are there only while somebody is in them, outlive a restart
// with their clients.
func TestRecoveryOfFunc(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	start := func() (*recoveryHub, chan *Socket) {
		l := successor(t, overTCP, path, Options{})
		came := newChannel[*Socket]()
		projects := l.OfFunc(func(name string) bool { return strings.HasPrefix(name, "/project-") })
		projects.OnConnect(func(s *Socket) { came <- s })
		projects.OnDisconnect(func(_ *Socket, why Reason) { l.went <- why })
		return l, came
	}
	enter := func(l *recoveryHub, came chan *Socket, auth string) *recoveryClient {
		g := &recoveryClient{ioClient: l.socketIO(t)}
		g.send("40/project-1," + auth)
		g.hello()
		g.socket = within(t, came, "OnConnect")
		return g
	}
	l, came := start()
	g := enter(l, came, "")
	g.socket.Join("room")
	g.socket.Set("n", 1)
	l.shutdown(t, g)
	l, came = start()
	stranger := enter(l, came, "") // the namespace is there before its clients
	stranger.socket.Namespace().To("room").Emit("missed")
	back := enter(l, came, proof(g.pid, ""))
	wantRecovered(t, back, g)
	if n, _ := Value[int](back.socket, "n"); n != 1 || !back.socket.In("room") || back.socket.Namespace().Name() != "/project-1" {
		t.Errorf("%d, %v, in %s", n, back.socket.Rooms(), back.socket.Namespace().Name())
	}
	if len(back.missed) != 1 || !strings.HasPrefix(back.missed[0], `42/project-1,["missed"`) {
		t.Errorf("it missed %q", back.missed)
	}
	l.cut(back)
	l.cut(stranger)
	l.shutdown(t)
	l, came = start()
	wantRecovered(t, enter(l, came, proof(g.pid, "")), g)
}
