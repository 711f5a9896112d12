package atrium

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// readSlowly reads in pieces, one each time the pause is over, until the connection ends.
func readSlowly(nc net.Conn, piece int, pause time.Duration) {
	buf := make([]byte, piece)
	for {
		<-time.After(pause)
		if _, err := io.ReadFull(nc, buf); err != nil {
			return
		}
	}
}

// What is queued leaves as long as the peer takes it, and not for a second only: neither the
// queue's length nor the peer's speed cuts it.
func TestCloseDeliversToASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		for i := range 10 {
			mustWrite(t, c, opBinary, numbered(i, 100_000))
		}
		began := time.Now()
		done := closing(c, StatusNormalClosure, "bye")
		for i := range 10 { // 50 KB a second
			<-time.After(2 * time.Second)
			p.want(opBinary, numbered(i, 100_000))
		}
		p.wantClose(1000, "bye")
		<-time.After(answerTimeout - time.Millisecond) // which begins when the close frame has left
		p.send(p.frame(opClose, closePayload(1000, "")))
		if err := <-done; err != nil {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
	})
}

// A peer that takes nothing any more is cut after a while, one that takes next to nothing when
// CloseTimeout is over. Close says that not everything was sent.
func TestCloseSaysWhatWasNotSent(t *testing.T) {
	rows := []struct {
		name  string
		pause time.Duration
		after time.Duration
	}{
		{"nothing", time.Hour, stallTimeout},
		{"next to nothing", 4 * time.Second, 22 * time.Second},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := startPipe(t, false, UpgradeOptions{CloseTimeout: 22 * time.Second})
				mustWrite(t, c, opBinary, strings.Repeat("x", 1_000_000))
				began := time.Now()
				var reading sync.WaitGroup
				defer reading.Wait()
				reading.Go(func() { readSlowly(p.nc, writeChunk, row.pause) })
				err := c.Close(StatusNormalClosure, "")
				if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != StatusAbnormalClosure || !errors.Is(err, errNotSent) || !errors.Is(err, ErrClosed) {
					t.Errorf("Close: %v", err)
				}
				if took := time.Since(began); took != row.after {
					t.Errorf("Close took %v, want %v", took, row.after)
				}
			})
		})
	}
}

// A peer that has answered before it has taken everything, and then takes no more, has missed
// something.
func TestCloseAnsweredTooEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		mustWrite(t, c, opBinary, strings.Repeat("x", 100_000))
		done := closing(c, StatusNormalClosure, "")
		p.send(p.frame(opClose, closePayload(1000, "")))
		if err := <-done; !errors.Is(err, errNotSent) {
			t.Errorf("Close: %v", err)
		}
	})
}

// The same over real networks, where it is the kernel that takes: a peer that reads late, after
// more than a second.
func TestCloseWaitsForALateReaderOverTCP(t *testing.T) {
	noLeaks(t)
	for _, k := range []kind{overTCP, overTLS} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			c, p := setup{k, false}.start(t, UpgradeOptions{MaxQueuedBytes: 1 << 20})
			// Little is left to be read when the close frame has left: then there is answerTimeout.
			under := p.nc
			if overTLS, ok := under.(*tls.Conn); ok {
				under = overTLS.NetConn()
			}
			if err := under.(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
				t.Fatal(err)
			}
			n := fill(t, c, 64<<10)
			done := closing(c, StatusNormalClosure, "")
			<-time.After(answerTimeout + 500*time.Millisecond)
			for i := range n {
				p.want(opBinary, numbered(i, 64<<10))
			}
			p.wantClose(1000, "")
			p.send(p.frame(opClose, closePayload(1000, "")))
			p.hangUp()
			if err := within(t, done, "Close"); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// slowClient is a client with three megabytes queued for it, which it reads at the speed that the
// pause says: 100 KB each time. It returns what it has got when it is cut, or has read the close
// frame.
func slowClient(t *testing.T, h *Hub, pause time.Duration) (s *Socket, got <-chan string) {
	p := serve(t, overPipe, h).peer(t)
	s = p.arrive(h)
	for i := range 30 {
		if err := s.Emit("bye", numbered(i, 100_000)); err != nil {
			t.Error(err)
		}
	}
	result := make(chan string, 1)
	go func() {
		for n := 0; ; n++ {
			<-time.After(pause)
			hd, m, err := p.read()
			switch {
			case err != nil:
				result <- fmt.Sprintf("%d, cut", n)
				return
			case hd.Opcode == opClose:
				result <- fmt.Sprintf("%d, closed with %d", n, int(m[0])<<8|int(m[1]))
				p.send(p.frame(opClose, closePayload(1000, "")))
				return
			}
		}
	}()
	return s, result
}

// Shutdown delivers what is queued for as long as its ctx lasts and the clients take it: three
// megabytes at 200 KB a second came to 8 % once. What it could not deliver it counts.
func TestShutdownDeliversToSlowReaders(t *testing.T) {
	rows := []struct {
		name  string
		pause time.Duration // for 100 KB
		limit time.Duration // of Shutdown's context; 0: none
		got   string
		err   string
		takes time.Duration
	}{
		{"in time", 500 * time.Millisecond, 30 * time.Second, "30, closed with 1012", "", 15500 * time.Millisecond},
		{"without a deadline", 4 * time.Second, 0, "30, closed with 1012", "", 124 * time.Second},
		{"not in time", 500 * time.Millisecond, 5200 * time.Millisecond, "10, cut",
			"atrium: shutdown with 1 clients left: context deadline exceeded", 5200 * time.Millisecond},
		{"stalled", time.Hour, 30 * time.Second, "0, cut",
			"atrium: shutdown with 1 clients that did not take all that was queued for them", stallTimeout},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := New(Options{Timeouts: Timeouts{PingInterval: time.Hour, Ping: time.Hour}, Logger: slog.New(slog.DiscardHandler)})
				_, got := slowClient(t, h, row.pause)
				ctx, cancel := context.WithCancel(t.Context())
				if row.limit > 0 {
					ctx, cancel = context.WithTimeout(t.Context(), row.limit)
				}
				defer cancel()
				began := time.Now()
				err := h.Shutdown(ctx)
				if took := time.Since(began); took != row.takes {
					t.Errorf("Shutdown took %v, want %v", took, row.takes)
				}
				if err == nil && row.err != "" || err != nil && err.Error() != row.err {
					t.Errorf("Shutdown: %v, want %s", err, row.err)
				}
				if text := <-got; text != row.got {
					t.Errorf("the client got %s, want %s", text, row.got)
				}
			})
		})
	}
}

// Disconnect delivers likewise, within Timeouts.Close; what that cuts is logged.
func TestDisconnectDeliversToSlowReaders(t *testing.T) {
	rows := []struct {
		name string
		end  func(s *Socket)
	}{
		{"Disconnect", (*Socket).Disconnect},
		{"DisconnectClient", (*Socket).DisconnectClient},
		{"DisconnectAt", func(s *Socket) { s.DisconnectAt(time.Now()) }},
	}
	for _, row := range rows {
		for _, limit := range []time.Duration{0, 5200 * time.Millisecond} {
			t.Run(fmt.Sprint(row.name, limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					logger, log := newLog()
					h := newHub(t, Options{Timeouts: Timeouts{Close: limit, PingInterval: 2 * time.Second, Ping: time.Hour}, Logger: logger})
					s, got := slowClient(t, h, 500*time.Millisecond)
					row.end(s)
					want, logged := "30, closed with 1000", false
					if limit > 0 {
						want, logged = "10, cut", true
					}
					if text := <-got; text != want {
						t.Errorf("the client got %s, want %s", text, want)
					}
					h.awaitCountedOut(t)
					if strings.Contains(log.String(), "without what was queued for it") != logged {
						t.Errorf("the log has %q", log.String())
					}
				})
			})
		}
	}
}

// What doc.go promises of violations holds for every way to end, also for the deferred CloseNow:
// the answer to a message that came in the same segment, and the close frame, leave.
func TestCloseNowAfterAViolation(t *testing.T) {
	ends := []struct {
		name string
		end  func(c *Conn)
	}{
		{"CloseNow", func(c *Conn) { c.CloseNow() }},
		{"Close", func(c *Conn) { c.Close(StatusNormalClosure, "") }},
		{"nothing", func(*Conn) {}},
	}
	violations := []struct {
		name  string
		frame func(p *peer) []byte
		code  StatusCode
	}{
		{"a reserved bit", func(p *peer) []byte { b := p.frame(opText, "x"); b[0] |= 0x40; return b }, 1002},
		{"not UTF-8", func(p *peer) []byte { return p.frame(opText, "\xff") }, 1007},
		{"too big", func(p *peer) []byte { return p.frame(opText, strings.Repeat("x", 2000)) }, 1009},
	}
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		for _, end := range ends {
			lost := 0
			for i := range 100 {
				violation := violations[i%len(violations)]
				c, p := setup{k, false}.start(t, UpgradeOptions{MaxMessageBytes: 1000})
				p.send(append(p.frame(opText, "hello"), violation.frame(p)...))
				handled := make(chan struct{})
				go func() { // the usual echo
					defer close(handled)
					defer end.end(c)
					for {
						op, m, err := c.Read(context.Background())
						if err != nil || c.Write(context.Background(), op, m) != nil {
							return
						}
					}
				}()
				echo, text, err := p.read()
				last, reason, lastErr := p.read()
				if err != nil || echo.Opcode != opText || text != "hello" || lastErr != nil || last.Opcode != opClose ||
					!strings.HasPrefix(reason, closePayload(violation.code, "")) {
					lost++
				}
				p.nc.Close()
				within(t, handled, "the handler")
				c.finish()
			}
			if lost > 0 {
				t.Errorf("%s: %d of 100 did not get their answer and the close frame", end.name, lost)
			}
		}
	})
}
