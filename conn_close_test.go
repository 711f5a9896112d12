package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// What a peer's close frame does: the application is told, and the frame is answered.
func TestCloseReceived(t *testing.T) {
	type row struct {
		name    string
		payload string
		tell    StatusCode // to the application
		reason  string
		answer  StatusCode // to the peer; 0 is the empty payload
	}
	rows := []row{
		{"24 empty", "", 1005, "", 0},
		{"25 one byte", "\x03", 1002, "*", 1002},
		{"28 reason", closePayload(4321, "für immer"), 4321, "für immer", 4321},
		{"28 longest reason", closePayload(1000, strings.Repeat("r", 123)), 1000, strings.Repeat("r", 123), 1000},
		{"29 FF", closePayload(1000, "\xff"), 1007, "*", 1007},
		{"29 truncated", closePayload(1000, "abc\xe2\x82"), 1007, "*", 1007},
		{"29 surrogate", closePayload(3000, "\xed\xa0\x80"), 1007, "*", 1007},
		{"29 forbidden code comes first", closePayload(1005, "\xff"), 1002, "*", 1002},
	}
	for _, code := range []StatusCode{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		rows = append(rows, row{fmt.Sprint("26 status ", code), closePayload(code, "") + "why", 1002, "*", 1002})
	}
	rows[len(rows)-13].payload = "\x00\x00why" // closePayload takes 0 for no payload
	for _, code := range []StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		corner := "28"
		if 1012 <= code && code <= 1014 {
			corner = "27"
		}
		rows = append(rows, row{fmt.Sprint(corner, " status ", code), closePayload(code, "why"), code, "why", code})
	}
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				p.send(p.frame(opText, "before"), p.frame(opClose, row.payload))
				wantMessage(t, c, opText, "before")
				e := wantClosed(t, c, row.tell)
				if row.reason == "*" {
					if e.Reason == "" {
						t.Error("no reason is given")
					}
				} else if e.Reason != row.reason {
					t.Errorf("the reason is %q, want %q", e.Reason, row.reason)
				}
				if again := wantClosed(t, c, row.tell); again != e {
					t.Errorf("the next Read: %v, want %v", again, e)
				}
				p.wantClose(row.answer, e.Reason)
				// RFC 6455 §7.1.1: the server closes TCP first. A pipe has no sides to close apart,
				// so one on which more may come stays open for a while.
				if !s.client && (row.reason != "*" || s.kind.name != "pipe") {
					p.wantEnd()
				}
				p.hangUp()
				c.finish()
				if got := c.State(); got != StateClosed {
					t.Errorf("at last the state is %v", got)
				}
			})
		}
	})
}

func TestClose(t *testing.T) {
	rows := []struct {
		name   string
		code   StatusCode
		reason string
		sent   string
	}{
		{"1000", 1000, "", ""},
		{"1011", 1011, "because", "because"},
		{"1014", 1014, "", ""},
		{"3000", 3000, "", ""},
		{"4999", 4999, "é", "é"},
		{"30 fits", 1000, strings.Repeat("r", 123), strings.Repeat("r", 123)},
		{"30 124 bytes", 1000, strings.Repeat("r", 124), strings.Repeat("r", 123)},
		{"30 much too long", 1000, strings.Repeat("r", 1<<20), strings.Repeat("r", 123)},
		{"30 cut before a rune of two", 1000, strings.Repeat("é", 100), strings.Repeat("é", 61)},
		{"30 cut before a rune of three", 1000, "12" + strings.Repeat("€", 100), "12" + strings.Repeat("€", 40)},
		{"30 cut before a rune of four", 1000, strings.Repeat("𝄞", 31), strings.Repeat("𝄞", 30)},
		{"30 rune that just fits", 1000, "123" + strings.Repeat("𝄞", 31), "123" + strings.Repeat("𝄞", 30)},
	}
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				done := closing(c, row.code, row.reason)
				p.wantClose(row.code, row.sent)
				if got := c.State(); got != StateClosing {
					t.Errorf("before the answer the state is %v", got)
				}
				p.send(p.frame(opClose, closePayload(row.code, "")))
				if !s.client {
					p.wantEnd() // RFC 6455 §7.1.1: the server closes TCP first
				}
				p.hangUp()
				if err := within(t, done, "Close"); err != nil {
					t.Errorf("Close: %v", err)
				}
				if got := c.State(); got != StateClosed {
					t.Errorf("at last the state is %v", got)
				}
				wantClosed(t, c, row.code) // the peer's answer
			})
		}
	})
}

// Row 31: codes that are for local use, or nobody's, are refused, and nothing happens.
func TestCloseRefusesCodes(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for _, code := range []StatusCode{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
			if err := c.Close(code, "x"); err == nil || errors.Is(err, ErrClosed) {
				t.Errorf("%d: got %v, want an error of its own", code, err)
			}
		}
		wantAlive(t, c, p)
	})
}

// Row 32: what follows a close frame is ignored, and nothing follows ours.
func TestCloseIsLast(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		t.Run("received", func(t *testing.T) {
			noLeaks(t)
			c, p := s.start(t, UpgradeOptions{})
			after := []byte("\xff\xff garbage, and then ")
			after = append(after, p.frame(opText, "a message")...)
			p.send(slices.Concat(p.frame(opClose, closePayload(1001, "")), after), after)
			wantClosed(t, c, 1001)
			p.wantClose(1001, "")
			if !s.client {
				p.wantEnd()
			}
			wantClosed(t, c, 1001)
			p.nc.Close()
		})
		t.Run("sent", func(t *testing.T) {
			noLeaks(t)
			c, p := s.start(t, UpgradeOptions{})
			texts, ended := readInBackground(c)
			done := closing(c, 1001, "")
			p.wantClose(1001, "")
			if err := c.Write(limited(t), MessageText, []byte("late")); err != ErrClosed {
				t.Errorf("Write: %v, want %v", err, ErrClosed)
			}
			// Messages that come before the peer's close frame are still whoever reads's; pings are
			// not answered.
			p.send(p.frame(opPing, "late"), p.frame(opText, "crossing"))
			if got := within(t, texts, "a message that crosses the close frame"); got != "crossing" {
				t.Errorf("got %q", got)
			}
			p.send(p.frame(opClose, closePayload(1001, "")))
			within(t, ended, "the reader")
			if !s.client {
				p.wantEnd()
			}
			p.hangUp()
			if err := within(t, done, "Close"); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	})
}

// Row 33: both close at once. Each sends one close frame.
func TestCloseAtOnce(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for range 10 {
			c, p := s.start(t, UpgradeOptions{})
			_, ended := readInBackground(c)
			p.send(p.frame(opClose, closePayload(4001, "peer")))
			// Whichever is first, and ErrClosed if that is the peer.
			done := closing(c, 4002, "conn")
			h, payload := p.next()
			if h.Opcode != opClose || payload != closePayload(4001, "peer") && payload != closePayload(4002, "conn") {
				t.Fatalf("got %v %q", h.Opcode, payload)
			}
			if !s.client {
				p.wantEnd()
			}
			p.hangUp()
			if err := within(t, done, "Close"); err != nil && err != ErrClosed {
				t.Errorf("Close: %v", err)
			}
			if e, ok := errors.AsType[*CloseError](within(t, ended, "the reader")); !ok || e.Code != 4001 || e.Reason != "peer" {
				t.Errorf("Read: %v", e)
			}
		}
	})
}

// TestCloseAfterFinish: the reader, which has the peer's close frame, may be in finish already when
// another that was first to close queues the close frame.
func TestCloseAfterFinish(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		c.state.Store(int32(StateClosing)) // another begins
		p.send(p.frame(opClose, closePayload(4001, "peer")))
		wantClosed(t, c, 4001)
		eventually(t, "finish to wait", func() bool {
			return slices.ContainsFunc(packageGoroutines(), func(g string) bool {
				return strings.Contains(g, "[chan receive") && strings.Contains(g, "(*Conn).finish")
			})
		})
		c.state.Store(int32(StateOpen))
		if !c.beginClose(4002, "conn", deliverQueued) { // and goes on
			t.Fatal("the closing has begun")
		}
		p.wantClose(4002, "conn")
		if !s.client {
			p.wantEnd()
		}
		p.hangUp()
		c.finish()
		if ending := c.out.closedBy(); ending.why() != nil || ending.step != stepOver {
			t.Errorf("the closing ended with %v in step %d", ending.why(), ending.step)
		}
	})
}

// deadlineless is a network connection that knows no deadlines.
type deadlineless struct{ net.Conn }

func (deadlineless) SetDeadline(time.Time) error      { return nil }
func (deadlineless) SetReadDeadline(time.Time) error  { return nil }
func (deadlineless) SetWriteDeadline(time.Time) error { return nil }

// halfCloser is a network connection whose sending side can be closed apart, like TCP's.
type halfCloser struct {
	net.Conn
	closed *bool
}

func (h halfCloser) CloseWrite() error {
	*h.closed = true
	return nil
}

// Row 33: a peer that does not play its part costs time, but not more than was promised.
func TestCloseTakesNoLonger(t *testing.T) {
	drain := func(p *peer) {
		go io.Copy(io.Discard, p.nc)
	}
	answer := func(p *peer) {
		h, _ := p.next()
		if h.Opcode != opClose {
			p.t.Errorf("got %v", h.Opcode)
		}
		p.send(p.frame(opClose, closePayload(1000, "")))
		<-p.sent()
	}
	rows := []struct {
		name   string
		client bool
		wrap   func(net.Conn) net.Conn
		peer   func(p *peer)
		takes  time.Duration
		clean  bool // the handshake is completed
	}{
		{name: "the peer never answers a server", peer: drain, takes: answerTimeout},
		{name: "the peer never answers a client", client: true, peer: drain, takes: answerTimeout},
		{name: "the peer does not read", peer: func(*peer) {}, takes: stallTimeout},
		{name: "the peer does not read a client", client: true, peer: func(*peer) {}, takes: stallTimeout},
		{name: "the peer cuts", peer: func(p *peer) { p.next(); p.nc.Close() }},
		{name: "the peer answers, a pipe has no sides", peer: answer, clean: true},
		{name: "the server answers and does not close", client: true, peer: answer, takes: lingerTimeout, clean: true},
		{name: "the client answers and does not close", peer: answer, takes: lingerTimeout, clean: true,
			wrap: func(nc net.Conn) net.Conn { return halfCloser{nc, new(bool)} }},
		{name: "the server answers late and does not close", client: true, takes: 900*time.Millisecond + lingerTimeout, clean: true,
			peer: func(p *peer) {
				h, _ := p.next()
				<-time.After(900 * time.Millisecond)
				p.send(p.frame(h.Opcode, closePayload(1000, "")))
			}},
		{name: "the server answers and closes late", client: true, takes: 300 * time.Millisecond, clean: true,
			peer: func(p *peer) {
				answer(p)
				<-time.After(300 * time.Millisecond)
				p.hangUp()
			}},
		{name: "the peer sends messages instead", takes: answerTimeout, peer: func(p *peer) {
			drain(p)
			for range 200 {
				p.send(p.frame(opText, "no, listen"))
				<-time.After(10 * time.Millisecond)
			}
		}},
		{name: "the peer sends a message without end", takes: answerTimeout, peer: func(p *peer) {
			drain(p)
			for op := opText; ; op = opContinuation {
				if _, err := p.nc.Write(p.part(op, "and ")); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		}},
		{name: "the peer goes on after its close frame", client: true, takes: lingerTimeout, clean: true, peer: func(p *peer) {
			answer(p)
			for {
				if _, err := p.nc.Write([]byte("more")); err != nil {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
		}},
		{name: "the network connection knows no deadlines", peer: func(*peer) {}, takes: stallTimeout,
			wrap: func(nc net.Conn) net.Conn { return deadlineless{nc} }},
		{name: "the network connection knows no deadlines and lingers", client: true, takes: lingerTimeout, clean: true, peer: answer,
			wrap: func(nc net.Conn) net.Conn { return deadlineless{nc} }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := startPipe(t, row.client, UpgradeOptions{})
				if row.wrap != nil {
					c.nc = row.wrap(c.nc)
					c.out.nc = c.nc
				}
				began := time.Now()
				over := make(chan time.Duration, 1)
				var err error
				go func() {
					err = c.Close(StatusNormalClosure, "")
					over <- time.Since(began)
				}()
				row.peer(p)
				if took := <-over; took != row.takes {
					t.Errorf("Close took %v, want %v", took, row.takes)
				}
				if row.clean && err != nil {
					t.Errorf("Close: %v", err)
				}
				if e, ok := errors.AsType[*CloseError](err); !row.clean && (!ok || e.Code != StatusAbnormalClosure) {
					t.Errorf("Close: %v, want 1006", err)
				}
				if got := c.State(); got != StateClosed {
					t.Errorf("at last the state is %v", got)
				}
			})
		})
	}
}

// Row 33, in real time: the peer does not read, or reads and never answers. Queued messages and the
// close frame get their time, then the connection is closed, and a Read ends with it.
func TestCloseUnanswered(t *testing.T) {
	noLeaks(t)
	var all sync.WaitGroup
	for _, k := range []kind{overTCP, overTLS} {
		for _, client := range []bool{false, true} {
			for _, blocked := range []bool{false, true} {
				c, p := setup{k, client}.start(t, UpgradeOptions{MaxQueuedBytes: 100_000, CloseTimeout: time.Second})
				all.Go(func() {
					if blocked {
						fill(t, c, 50_000)
					} else {
						go io.Copy(io.Discard, p.nc)
					}
					err := c.Close(StatusGoingAway, "")
					_, _, readErr := c.Read(limited(t))
					for _, err := range []error{err, readErr} {
						if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != StatusAbnormalClosure {
							t.Errorf("%s, client %t, blocked %t: %v, want 1006", k.name, client, blocked, err)
						}
					}
					if got := c.State(); got != StateClosed {
						t.Errorf("at last the state is %v", got)
					}
				})
			}
		}
	}
	all.Wait()
}

// Row 34: what was queued before Close is delivered before its frame, also to a peer that reads
// late.
func TestCloseDeliversWhatIsQueued(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, reader := range []bool{false, true} {
			t.Run(fmt.Sprintf("reader=%t", reader), func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				if reader {
					readInBackground(c)
				}
				sizes := []int{10, 100_000, 0, 16 << 10, 10, 10, 70_000, 1}
				for i, n := range sizes {
					mustWrite(t, c, opBinary, numbered(i, n))
				}
				done := closing(c, StatusNormalClosure, "bye")
				for i, n := range sizes {
					p.want(opBinary, numbered(i, n))
				}
				p.wantClose(1000, "bye")
				p.send(p.frame(opClose, closePayload(1000, "")))
				if !s.client {
					p.wantEnd()
				}
				p.hangUp()
				if err := within(t, done, "Close"); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
	})
}

// Queued messages are delivered as well when it is the peer, or its mistake, that ends the
// connection.
func TestQueuedMessagesPrecedeTheAnswer(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, code := range []StatusCode{1001, 1002} {
			t.Run(fmt.Sprint(code), func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				for i := range 5 {
					mustWrite(t, c, opBinary, numbered(i, 30_000))
				}
				if code == 1001 {
					p.send(p.frame(opClose, closePayload(1001, "")))
				} else {
					p.send(p.frame(opContinuation, ""))
				}
				wantClosed(t, c, code)
				for i := range 5 {
					p.want(opBinary, numbered(i, 30_000))
				}
				p.wantCloseCode(code)
				p.hangUp()
			})
		}
	})
}

// Row 35: a connection cut, at any point, is status 1006 with the cause, the same at every later
// Read.
func TestCut(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		cuts := []struct {
			name string
			send func(p *peer) []byte
		}{
			{"between messages", func(p *peer) []byte { return nil }},
			{"within a header", func(p *peer) []byte { return p.frame(opText, "hello")[:1] }},
			{"within a message", func(p *peer) []byte { b := p.frame(opText, "hello"); return b[:len(b)-1] }},
			{"within a large message", func(p *peer) []byte { return p.frame(opText, strings.Repeat("x", 100_000))[:50_000] }},
			{"between fragments", func(p *peer) []byte { return p.part(opText, "hello") }},
			{"within a close frame", func(p *peer) []byte { b := p.frame(opClose, closePayload(1000, "")); return b[:len(b)-1] }},
		}
		noLeaks(t)
		for _, cut := range cuts {
			t.Run(cut.name, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{})
				p.send(p.frame(opText, "last words"), cut.send(p))
				go func(sent <-chan struct{}) {
					<-sent
					p.nc.Close()
				}(p.sent())
				wantMessage(t, c, opText, "last words")
				e := wantClosed(t, c, StatusAbnormalClosure)
				if e.Err == nil || !errors.Is(e, ErrClosed) {
					t.Errorf("got %#v, want a cause and ErrClosed", e)
				}
				for range 3 {
					if again := wantClosed(t, c, StatusAbnormalClosure); again != e {
						t.Errorf("a later Read: %v, want %v", again, e)
					}
				}
				if err := c.Close(StatusNormalClosure, ""); !errors.Is(err, ErrClosed) {
					t.Errorf("Close: %v, want ErrClosed", err)
				}
				if got := c.State(); got != StateClosed {
					t.Errorf("the state is %v", got)
				}
			})
		}
	})
}

func TestCloseTwice(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		done := closing(c, StatusNormalClosure, "")
		p.wantClose(1000, "")
		p.send(p.frame(opClose, closePayload(1000, "")))
		p.hangUp()
		if err := within(t, done, "Close"); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := c.Close(StatusNormalClosure, ""); err != ErrClosed {
			t.Errorf("Close again: %v, want %v", err, ErrClosed)
		}
		c.CloseNow()
		if err := c.Close(StatusNormalClosure, ""); err != ErrClosed {
			t.Errorf("Close after CloseNow: %v, want %v", err, ErrClosed)
		}
		if got := c.State(); got != StateClosed {
			t.Errorf("the state is %v", got)
		}
	})
}

// Many Closes are one close frame. One of them is told how it went, all return when it is over.
func TestCloseFromManyGoroutines(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, reader := range []bool{false, true} {
			c, p := s.start(t, UpgradeOptions{})
			if reader {
				readInBackground(c)
			}
			const closers = 10
			results := make(chan error, closers)
			for i := range closers {
				go func() {
					err := c.Close(StatusCode(4000+i), "")
					if got := c.State(); got != StateClosed {
						t.Errorf("when Close returns the state is %v", got)
					}
					results <- err
				}()
			}
			h, payload := p.next()
			if h.Opcode != opClose {
				t.Fatalf("got %v", h.Opcode)
			}
			p.send(p.frame(opClose, payload))
			if !s.client {
				p.wantEnd()
			}
			p.hangUp()
			var clean int
			for range closers {
				switch err := within(t, results, "Close"); err {
				case nil:
					clean++
				case ErrClosed:
				default:
					t.Errorf("Close: %v", err)
				}
			}
			if clean != 1 {
				t.Errorf("%d Closes had closed it, want 1", clean)
			}
		}
	})
}

func TestCloseNow(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		_, ended := readInBackground(c)
		mustWrite(t, c, opText, "perhaps") // what is queued may be lost
		if err := c.CloseNow(); err != nil {
			t.Errorf("CloseNow: %v", err)
		}
		if got := c.State(); got != StateClosed {
			t.Errorf("the state is %v", got)
		}
		if e, ok := errors.AsType[*CloseError](within(t, ended, "a Read that waits")); !ok || e.Code != StatusAbnormalClosure {
			t.Errorf("Read: %v, want 1006", e)
		}
		if err := c.Write(limited(t), MessageText, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Write: %v, want ErrClosed", err)
		}
		for { // the peer sees the end, and no close frame
			h, _, err := p.read()
			if err != nil {
				break
			}
			if h.Opcode == opClose {
				t.Error("a close frame was sent")
			}
		}
		c.CloseNow() // harmless
	})
}

// CloseNow ends a Close that waits for its peer, and one with a blocked writer.
func TestCloseNowWithinClose(t *testing.T) {
	for _, read := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c, p := startPipe(t, false, UpgradeOptions{})
			began := time.Now()
			done := closing(c, StatusNormalClosure, "")
			if read {
				p.wantClose(1000, "")
			}
			synctest.Wait()
			c.CloseNow()
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("Close: %v, want ErrClosed", err)
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("Close took %v", took)
			}
		})
	}
}

// CloseNow and Close from many goroutines, while others read, write and ping, leave a closed
// connection.
func TestCloseRace(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for i := range 10 {
			c, p := s.start(t, UpgradeOptions{MaxQueuedBytes: 1000})
			p.leave()
			var all sync.WaitGroup
			all.Go(func() {
				for {
					if _, _, err := c.Read(context.Background()); err != nil {
						return
					}
				}
			})
			all.Go(func() {
				for c.Write(context.Background(), MessageText, make([]byte, 100)) == nil {
				}
			})
			all.Go(func() {
				for {
					if err := c.Ping(context.Background()); errors.Is(err, ErrClosed) || c.State() == StateClosed {
						return
					}
				}
			})
			all.Go(func() { c.Close(StatusGoingAway, "") })
			if i%2 == 0 {
				all.Go(func() { c.CloseNow() })
			}
			if i%3 == 0 {
				all.Go(func() { p.send(p.frame(opClose, "")) })
			}
			over := make(chan struct{})
			go func() {
				all.Wait()
				close(over)
			}()
			within(t, over, "everybody")
			c.finish()
			if got := c.State(); got != StateClosed {
				t.Errorf("the state is %v", got)
			}
		}
	})
}

// Nobody reads, and much has come that nobody will: Close reads and discards it. To close a socket
// with unread input would reset the connection, and the reset could overtake the last message and
// the close frame.
func TestCloseDiscardsWhatIsUnread(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		message := p.frame(opBinary, strings.Repeat("x", 50_000))
		p.send(message)
		wantMessage(t, c, opBinary, strings.Repeat("x", 50_000))
		for range 5 {
			p.send(message)
		}
		sent := p.sent()
		if s.kind.name != "pipe" {
			within(t, sent, "the peer's writes") // into the kernel's buffers
		}
		mustWrite(t, c, opText, "last words")
		done := closing(c, StatusNormalClosure, "")
		p.want(opText, "last words")
		p.wantClose(1000, "")
		p.send(p.frame(opClose, closePayload(1000, "")))
		if !s.client {
			p.wantEnd() // not: connection reset
		}
		p.hangUp()
		if err := within(t, done, "Close"); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// A peer that is told off in the middle of its message can read why, though it goes on sending.
func TestViolatorReadsTheCloseFrame(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{MaxMessageBytes: 1000})
		p.send(p.frame(opBinary, strings.Repeat("x", 300_000)))
		sent := p.sent()
		wantClosed(t, c, StatusMessageTooBig)
		if s.kind.name != "pipe" { // a pipe has no room for the close frame meanwhile
			within(t, sent, "the peer's write") // what nobody wants is read nevertheless
		}
		p.wantCloseCode(StatusMessageTooBig)
		if !s.client && s.kind.name != "pipe" {
			p.wantEnd() // not: connection reset
		}
		p.hangUp()
	})
}

// A Read that waits while another goroutine closes gets what still comes.
func TestCloseWhileAnotherReads(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		texts, ended := readInBackground(c)
		p.send(p.frame(opText, "one"), p.part(opText, "tw"))
		if got := within(t, texts, "a message"); got != "one" {
			t.Errorf("got %q", got)
		}
		waitReading(c) // between two Reads, Close would discard what comes
		done := closing(c, StatusNormalClosure, "")
		p.wantClose(1000, "")
		p.send(p.frame(opContinuation, "o"), p.frame(opClose, closePayload(1000, "fine")))
		if got := within(t, texts, "the message begun before"); got != "two" {
			t.Errorf("got %q", got)
		}
		if e, ok := errors.AsType[*CloseError](within(t, ended, "the reader")); !ok || e.Code != 1000 || e.Reason != "fine" {
			t.Errorf("Read: %v", e)
		}
		p.hangUp()
		if err := within(t, done, "Close"); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// Row 33, with somebody reading. A Read whose context ends neither prolongs Close nor shortens it:
// the context's interruption and the closing handshake share one deadline of the network
// connection. In real time, for Close waits for the reader at a mutex, which stops a synctest
// clock.
func TestCloseUnansweredWhileContextsEnd(t *testing.T) {
	noLeaks(t)
	c, p := setup{overTCP, false}.start(t, UpgradeOptions{})
	go io.Copy(io.Discard, p.nc)
	read := make(chan error, 1)
	go func() {
		for {
			ctx, cancel := context.WithTimeout(context.Background(), 70*time.Millisecond)
			_, _, err := c.Read(ctx)
			cancel()
			if err != context.DeadlineExceeded {
				read <- err
				return
			}
		}
	}()
	began := time.Now()
	if err := within(t, closing(c, StatusNormalClosure, ""), "Close"); !errors.Is(err, ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(began); took < answerTimeout {
		t.Errorf("Close took %v, want %v", took, answerTimeout)
	}
	if e, ok := errors.AsType[*CloseError](within(t, read, "the reader")); !ok || e.Code != StatusAbnormalClosure {
		t.Errorf("Read: %v", e)
	}
}

// A peer that reads the queue late, but in time, gets all of it.
func TestCloseWaitsForALateReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		for i := range 10 {
			mustWrite(t, c, opBinary, numbered(i, 30_000))
		}
		done := closing(c, StatusNormalClosure, "")
		<-time.After(stallTimeout - time.Millisecond)
		for i := range 10 {
			p.want(opBinary, numbered(i, 30_000))
		}
		p.wantClose(1000, "")
		p.send(p.frame(opClose, closePayload(1000, "")))
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// A slow consumer's queue is dropped, but not the rest of a frame that it has the beginning of, nor
// the close frame.
func TestBeginCloseDropsTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		for i := range 5 {
			mustWrite(t, c, opBinary, numbered(i, 50_000))
			synctest.Wait()
		}
		if !c.beginClose(StatusPolicyViolation, "slow consumer", dropQueued) {
			t.Error("the closing had begun")
		}
		if c.beginClose(StatusNormalClosure, "again", deliverQueued) {
			t.Error("the closing began twice")
		}
		p.want(opBinary, numbered(0, 50_000))
		p.wantClose(1008, "slow consumer")
		p.send(p.frame(opClose, closePayload(1008, "")))
		c.finish()
		p.wantEnd()
	})
}
