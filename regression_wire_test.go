package atrium

// Bugs of the wire floor that were found once; each test is named after its bug, and says how it was mended.

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

// BUG 1, severe: a message is corrupted, and a data race. Conn.read gives readMu back before Read and ReadInto have
// copied a message that lies in the read buffer. A Close in another goroutine then takes readMu, reads on in finish
// and overwrites the buffer. Seen as "\x03\xe9ossing" for "crossing".
// Fix: copy in Conn.read, before readMu.Unlock.
func TestBug1ReadCopiesBeforeCloseReadsOn(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for range 50 {
			c, p := s.start(t, UpgradeOptions{})
			texts, ended := readInBackground(c)
			done := closing(c, 1001, "")
			p.wantClose(1001, "")
			p.send(p.frame(OpText, "crossing"), p.frame(OpClose, closePayload(1001, "")))
			if got := within(t, texts, "a message that crosses the close frame"); got != "crossing" {
				t.Errorf("got %q", got)
			}
			within(t, ended, "the reader")
			p.hangUp()
			within(t, done, "Close")
		}
	})
}

// BUG 2: Close does not read while it still writes. A peer that answers each message before it reads the next (a
// pipe, or TCP with full buffers) waits for us to read and we for it: queued messages and the close frame are lost
// after a second, though both sides behave. The doc says "reading and discarding messages if nobody else reads".
// Fix: in finish, first the reading loop, then <-c.out.closed(); both have their deadlines.
func TestBug2CloseReadsWhileItWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		for _, text := range []string{"one", "two", "three"} {
			mustWrite(t, c, OpText, text)
			synctest.Wait() // the first is being written
		}
		began := time.Now()
		done := closing(c, StatusNormalClosure, "")
		for _, text := range []string{"one", "two", "three"} {
			p.want(OpText, text)
			if _, err := p.nc.Write(p.frame(OpText, "echo "+text)); err != nil {
				t.Fatalf("%v after %v", err, time.Since(began))
			}
		}
		p.wantClose(1000, "")
		p.send(p.frame(OpClose, closePayload(1000, "")))
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// BUG 3: early bytes become the read buffer, at their own size, for good: it grows only when something that must lie
// in it whole does not fit. A client that sends one short frame with its handshake is then read eleven bytes at a
// time, a system call each.
// Fix: in fill, grow whenever len(in.buf) < readBufferSize (or copy early into a buffer of readBufferSize).
func TestBug3EarlyDataMakesASmallBuffer(t *testing.T) {
	p := &peer{client: true}
	message := p.frame(OpBinary, strings.Repeat("x", 4000))
	nc := &script{segments: [][]byte{message}}
	c := newConn(nc, connConfig{early: p.frame(OpText, "early")})
	wantMessage(t, c, OpText, "early")
	wantMessage(t, c, OpBinary, strings.Repeat("x", 4000))
	if nc.reads > 5 {
		t.Errorf("row 47: a message of 4000 bytes took %d reads", nc.reads)
	}
}

// BUG 4: with MaxQueued 1, the second Write waits for ever: room is signalled when bytes < limit/2 = 0.
// Fix: in wrote, o.bytes <= o.limit/2 - or, to agree with waitUntilHalf, max(o.limit/2, 1) in both.
func TestBug4MaxQueuedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{MaxQueued: 1})
		mustWrite(t, c, OpText, "one")
		done := make(chan error, 1)
		go func() { done <- c.Write(limited(t), OpText, []byte("two")) }()
		synctest.Wait()
		p.want(OpText, "one")
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// BUG 5: an idle outbox keeps the last frame over 16 KB: o.partial is an empty slice of it, not nil. A broadcast of a
// megabyte stays in memory until each member's next large one.
// Fix: in next, set o.partial = nil when nothing is left of it.
func TestBug5IdleOutboxKeepsALargeFrame(t *testing.T) {
	nc := &script{}
	o := &outbox{nc: nc, limit: 1 << 20}
	held := func() weak.Pointer[byte] {
		frame := numberedFrame(OpBinary, 1, 100_000)
		o.push(frame, forEmitter)
		o.drain(nil, nil)
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

// BUG 6: Close returns nil though the handshake was not completed: the peer answers the close frame with a violation.
// Fix: in Close, look at in.violated, too.
func TestBug6CloseReportsAViolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, true, UpgradeOptions{})
		done := closing(c, StatusNormalClosure, "")
		p.wantClose(1000, "")
		p.send(p.frame(OpContinuation, "nonsense"))
		p.hangUp()
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("Close: %v, want the violation", err)
		}
	})
}

// BUG 7, small: RFC 9110 §15.5.22: "The server MUST send an Upgrade header field in a 426 response". The answers to a
// wrong version do not.
// Fix: 400 instead of 426 is what RFC 6455 §4.4 has in its example, or send both headers.
func TestBug7UpgradeHeaderInEvery426(t *testing.T) {
	srv, results := serveUpgrade(t, overPipe, nil, nil)
	a := request(t, srv.raw(t), handshake(get, "Sec-WebSocket-Version: 8"))
	<-results
	if a.StatusCode == 426 && a.Header.Get("Upgrade") != "websocket" {
		t.Errorf("row 42: a 426 without Upgrade: %v", a.Header)
	}
}

// BUG 8, small: after a cut, Write's error says everything twice: abort stops the outbox with a CloseError, which
// closedError wraps in another.
// Fix: in abort's caller, c.abort(err) with the cause.
func TestBug8ErrorOnce(t *testing.T) {
	c, _ := scripted(false)
	wantClosed(t, c, StatusAbnormalClosure)
	if err := c.Write(context.Background(), OpText, nil); strings.Count(err.Error(), "1006") != 1 {
		t.Errorf("got %v", err)
	}
}

// BUG 9: a handler that ends with the usual "defer c.CloseNow()" takes the answer to the peer's close frame with it:
// Read returns the CloseError before the answer has left, and CloseNow drops what is queued. A peer that closed in
// good order sees a cut (1006).
// Fix: CloseNow of a connection that got a close frame lets finish end it; or Read waits for the drainer, within the
// deadline of the closing, before it returns the error.
func TestBug9CloseNowAfterThePeersClose(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		lost := 0
		for range 20 {
			c, p := s.start(t, UpgradeOptions{})
			p.send(p.frame(OpClose, closePayload(1000, "")))
			wantClosed(t, c, 1000)
			c.CloseNow()
			if h, _, err := p.read(); err != nil || h.Opcode != OpClose {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%d of 20 close frames were not answered", lost)
		}
	})
}

// BUG 10, small: the application's headers are compared by their canonical names, but sent as they are.
// Fix: compare http.CanonicalHeaderKey(name).
func TestBug10HeaderNamesInLowerCase(t *testing.T) {
	r := upgradeRequest()
	b := response(r, http.Header{"sec-websocket-accept": {"forged"}, "connection": {"close"}}, "", "")
	if bytes.Contains(b, []byte("forged")) || bytes.Contains(b, []byte("close")) {
		t.Errorf("row 46: got %s", b)
	}
}
