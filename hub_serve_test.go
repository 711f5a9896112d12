package atrium

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// movedTo is the client of a session, whose new connections are made to another hub.
func (e *engine) movedTo(s *server) *engine {
	next := s.engine(e.t)
	next.sid = e.sid
	return next
}

// awaitWaiting waits until a request waits for the hub's predecessor.
func (l *recoveryHub) awaitWaiting(t testing.TB) {
	t.Helper()
	eventually(t, "the request to wait", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.succession.changed.opened != nil
	})
}

// A client that polls and whose requests come to its server's successor is told to come back, also
// for what the predecessor had queued for it. A POST there is answered when the predecessor has
// ended.
func TestPollingMovesToTheSuccessor(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	old := successor(t, overTCP, path, Options{})
	e := old.server.polls(t)
	e.post("40").want(t, 200, "ok")
	var hello struct{ Sid, Pid string }
	if err := json.Unmarshal([]byte(e.get().body[len("40"):]), &hello); err != nil {
		t.Fatal(err)
	}
	within(t, old.came, "OnConnect")
	old.Emit("first")
	offset := offsetOf(t, e.get().body)

	l := successor(t, overTCP, path, Options{})
	moved := e.movedTo(l.server)
	posted := begin(func() (reply, error) { return moved.post(`42["lost"]`), nil })
	l.awaitWaiting(t)
	moved.get().want(t, 200, "1")
	old.Emit("second") // nobody comes for it
	if err := old.Shutdown(limited(t)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	within(t, posted, "the response to the POST").v.want(t, 200, "ok")
	back := l.enter(t, proof(hello.Pid, offset))
	wantRecovered(t, back, &recoveryClient{id: hello.Sid, pid: hello.Pid})
	wantMissed(t, back, `42["second"]`)

	moved.get().want(t, 200, "1")
	moved.post("3").want(t, 200, "ok")
	l.mu.Lock()
	l.succession.until = nanotime() // nobody can come back any more
	l.mu.Unlock()
	moved.get().want(t, 400, unknownSession)
	moved.post("3").want(t, 400, unknownSession)
}

// A predecessor that does not end may still have the session, which must not go on without what was
// posted.
func TestPostAwaitsThePredecessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	old := successor(t, overTCP, path, Options{})
	e := old.joined(t)
	within(t, old.came, "OnConnect")
	l := successor(t, overTCP, path, Options{Timeouts: Timeouts{Connect: 10 * time.Millisecond}})
	e.movedTo(l.server).post(`42["lost"]`).want(t, 400, unknownSession)
	if err := old.Shutdown(limited(t)); err != nil {
		t.Error(err)
	}
}

// A client that polls and comes back by a connection to the old process, which it has kept, is sent
// to the same address by a new one: to the next process, and there is no error on the way.
func TestServeSendsThoseThatPollToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{DrainRate: 1})
		srv, end, served := serving(t, overPipe, h, h)
		next := serve(t, overPipe, newHub(t, Options{}))
		first, last := srv.connect(t, nil), srv.connect(t, nil)
		kept := srv.engine(t)
		to := srv
		kept.http = &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return overPipe.dial(to.listener)
		}}}
		kept.do("GET", "?EIO=3&transport=polling", "") // so that it has a connection
		raw := srv.raw(t)
		synctest.Wait() // until it is accepted

		end()
		synctest.Wait()
		r := request(t, raw, "GET /socket.io/?EIO=4&transport=polling&t=%22 HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if r.StatusCode != 307 || r.Header.Get("Location") != "?EIO=4&transport=polling&t=%22" || !r.Close {
			t.Errorf("it got %s, %v", r.Status, r.Header)
		}
		to = next
		if r := kept.get(); !handshakeForm.MatchString(r.body) {
			t.Errorf("a client that follows got %v", r)
		}
		go first.wantClosed(StatusServiceRestart)
		go last.wantClosed(StatusServiceRestart)
		if err := (<-served).err; err != nil {
			t.Errorf("Serve: %v", err)
		}
		kept.http.CloseIdleConnections()
	})
}
