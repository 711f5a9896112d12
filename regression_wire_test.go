package atrium

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// What the wire floor once got wrong and must not get wrong again. Each test is named after what it
// guards.

// Read copies a message out of the read buffer before a Close in another goroutine reads on into
// that buffer.
func TestReadCopiesBeforeCloseReadsOn(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for range 50 {
			c, p := s.start(t, UpgradeOptions{})
			texts, ended := readInBackground(c)
			done := closing(c, 1001, "")
			p.wantClose(1001, "")
			p.send(p.frame(opText, "crossing"), p.frame(opClose, closePayload(1001, "")))
			if got := within(t, texts, "a message that crosses the close frame"); got != "crossing" {
				t.Errorf("got %q", got)
			}
			within(t, ended, "the reader")
			p.hangUp()
			within(t, done, "Close")
		}
	})
}

// Close reads while it still writes: a peer that answers each message before it reads the next, as
// over a pipe or with full buffers, gets all that was queued and the close frame.
func TestCloseReadsWhileItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		for _, text := range []string{"one", "two", "three"} {
			mustWrite(t, c, opText, text)
			synctest.Wait() // the first is being written
		}
		began := time.Now()
		done := closing(c, StatusNormalClosure, "")
		for _, text := range []string{"one", "two", "three"} {
			p.want(opText, text)
			if _, err := p.nc.Write(p.frame(opText, "echo "+text)); err != nil {
				t.Fatalf("%v after %v", err, time.Since(began))
			}
		}
		p.wantClose(1000, "")
		p.send(p.frame(opClose, closePayload(1000, "")))
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// Early bytes do not set the size of the read buffer: a client that sends one short frame with its
// handshake is read a whole buffer at a time afterwards.
func TestEarlyDataMakesNoSmallBuffer(t *testing.T) {
	p := &peer{client: true}
	message := p.frame(opBinary, strings.Repeat("x", 4000))
	nc := &scriptedConn{segments: [][]byte{message}}
	c := newConn(nc, connConfig{early: p.frame(opText, "early")})
	wantMessage(t, c, opText, "early")
	wantMessage(t, c, opBinary, strings.Repeat("x", 4000))
	if nc.reads > 5 {
		t.Errorf("row 47: a message of 4000 bytes took %d reads", nc.reads)
	}
}

// A Write that waits for room goes on also with a limit of 1, half of which is 0, which nothing is
// below.
func TestWriteWithTinyBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{MaxQueuedBytes: 1})
		mustWrite(t, c, opText, "one")
		done := make(chan error, 1)
		go func() { done <- c.Write(limited(t), MessageText, []byte("two")) }()
		synctest.Wait()
		p.want(opText, "one")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// An idle outbox keeps nothing of a large frame, which was written in pieces: a broadcast of a
// megabyte is gone when it is written.
func TestIdleOutboxKeepsNoFrame(t *testing.T) {
	nc := &scriptedConn{}
	o := &outbox{nc: nc, limit: 1 << 20}
	held := func() weak.Pointer[byte] {
		frame := numberedFrame(opBinary, 1, 100_000)
		o.push(frame, forEmitter)
		o.drain(nil)
		return weak.Make(&frame[0])
	}()
	for range 3 {
		runtime.GC()
	}
	if held.Value() != nil {
		t.Error("the frame is kept")
	}
	runtime.KeepAlive(o)
}

// Close does not return nil if the peer answers the close frame with a violation: the handshake was
// not completed.
func TestCloseReportsAViolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, true, UpgradeOptions{})
		done := closing(c, StatusNormalClosure, "")
		p.wantClose(1000, "")
		p.send(p.frame(opContinuation, "nonsense"))
		p.hangUp()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Close: %v, want the violation", err)
		}
	})
}

// RFC 9110 §15.5.22: "The server MUST send an Upgrade header field in a 426 response", to a wrong
// version too.
func TestUpgradeHeaderInEvery426(t *testing.T) {
	srv, results := serveUpgrade(t, overPipe, UpgradeOptions{}, nil)
	a := request(t, srv.raw(t), handshake(get, "Sec-WebSocket-Version: 8"))
	<-results
	if a.StatusCode != 426 || a.Header.Get("Upgrade") != "websocket" {
		t.Errorf("row 42: %s, %v", a.Status, a.Header)
	}
}

// After a cut, Write's error says what has happened once: it is no CloseError within another.
func TestWriteErrorSaysItOnce(t *testing.T) {
	c, _ := newScriptedConn(false)
	wantClosed(t, c, StatusAbnormalClosure)
	if err := c.Write(context.Background(), MessageText, nil); strings.Count(err.Error(), "1006") != 1 {
		t.Errorf("got %v", err)
	}
}

// A handler that ends with the usual "defer c.CloseNow()" does not take the answer to the peer's
// close frame with it, which has perhaps not left when Read returns the CloseError.
func TestCloseNowAfterThePeersClose(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		lost := 0
		for range 20 {
			c, p := s.start(t, UpgradeOptions{})
			p.send(p.frame(opClose, closePayload(1000, "")))
			wantClosed(t, c, 1000)
			c.CloseNow()
			if h, _, err := p.read(); err != nil || h.Opcode != opClose {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of 20 close frames were not answered", lost)
		}
	})
}

// The headers that belong to the handshake are kept out of the application's however they are
// spelled.
func TestResponseHeaderNamesInLowerCase(t *testing.T) {
	r := upgradeRequest()
	b := switchingProtocols(r, http.Header{"sec-websocket-accept": {"forged"}, "connection": {"close"}}, "", "")
	if bytes.Contains(b, []byte("forged")) || bytes.Contains(b, []byte("close")) {
		t.Errorf("row 46: got %s", b)
	}
}

// A queue that was long once gives its room back, though it never runs empty. After a backlog of
// 800,000 small frames pop took 10 µs a frame, under the outbox's lock, because it moved all the
// room.
func TestOutboxGivesBackTheRoomOfABacklog(t *testing.T) {
	o := &outbox{limit: 1 << 30}
	frame := numberedFrame(opBinary, 0, 8)
	const backlog, left = 100_000, 100
	for range backlog {
		o.push(frame, forWriter)
	}
	for o.frames.len() > left {
		o.pop()
	}
	if cap(o.frames.items) > 10*left {
		t.Errorf("%d frames wait in a queue with room for %d", left, cap(o.frames.items))
	}
	for n := left; ; n-- {
		if got := o.pop(); got == nil {
			if n != 0 {
				t.Errorf("%d frames are lost", n)
			}
			break
		}
	}
}
