package atrium

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// trickle writes text a byte at a time, until that fails, and reports whether it did.
func trickle(nc net.Conn, text string, pause time.Duration) (cut bool) {
	for i := range len(text) {
		if _, err := io.WriteString(nc, text[i:i+1]); err != nil {
			return true
		}
		<-time.After(pause)
	}
	return false
}

// untilCut reads what comes until the connection ends.
func untilCut(nc net.Conn) string {
	nc.SetReadDeadline(time.Now().Add(patience))
	text, _ := io.ReadAll(nc)
	return string(text)
}

// broken is a number of clients that go wrong in the same way, at a time.
const broken = 20

// Each kind of broken peer costs its bound and nothing more: it is gone in that time, for the
// reason that it has, and the hub is where it was before: no goroutine, file, timer or count is
// left.
func TestBrokenPeersLeaveNothing(t *testing.T) {
	const soon = 300 * time.Millisecond // a busy machine gets that far
	pings := Timeouts{PingInterval: soon, Ping: soon}
	connects := Timeouts{PingInterval: time.Hour, Connect: soon}
	messages := Timeouts{PingInterval: time.Hour, Message: soon}
	const wsHead = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	tests := []struct {
		name     string
		timeouts Timeouts
		reason   Reason                                       // "" if it was never connected
		do       func(t *testing.T, srv *server, nc net.Conn) // returns when the hub has cut the connection
	}{
		{"a plain client that answers no ping", pings, ReasonPingTimeout, func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead+"\r\n")
			untilCut(nc)
		}},
		{"a Socket.IO client that answers no ping", pings, ReasonPingTimeout, func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, strings.Replace(handshakeHead, "GET /", "GET /?EIO=4&transport=websocket", 1)+"\r\n"+maskedFrame(opText, "40"))
			untilCut(nc)
		}},
		{"a client that polls once and never again", pings, ReasonPingTimeout, func(t *testing.T, srv *server, nc net.Conn) {
			srv.joined(t)
		}},
		{"a client that stops reading", pings, ReasonPingTimeout, func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead+"\r\n")
			io.ReadFull(nc, make([]byte, len("HTTP/1.1 101"))) // it is let in
		}},
		{"a handshake byte by byte", Timeouts{}, "", func(t *testing.T, srv *server, nc net.Conn) {
			for !trickle(nc, handshakeHead, time.Millisecond) { // ReadHeaderTimeout of the http.Server
			}
		}},
		{"a handshake that ends in the middle", Timeouts{}, "", func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead)
			untilCut(nc)
		}},
		{"a client that never connects", connects, "", func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead+"Sec-WebSocket-Protocol: atrium\r\n\r\n")
			untilCut(nc)
		}},
		{"a Socket.IO client that never connects", connects, "", func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, strings.Replace(handshakeHead, "GET /", "GET /?EIO=4&transport=websocket", 1)+"\r\n")
			for !trickle(nc, maskedFrame(opText, "3"), 10*time.Millisecond) { // it is there, and says so
			}
		}},
		{"a frame byte by byte", messages, ReasonForcedServerClose, func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead+"\r\n")
			go trickle(nc, maskedFrame(opText, strings.Repeat("x", 1000)), 5*time.Millisecond)
			if said := untilCut(nc); !strings.HasSuffix(said, closePayload(StatusPolicyViolation, "message timeout")) {
				t.Errorf("it was told %q", said)
			}
		}},
		{"fragments without end", messages, ReasonForcedServerClose, func(t *testing.T, srv *server, nc net.Conn) {
			fragment := func(op opcode) string {
				return string(encodeFrame(frameHeader{Opcode: op, Masked: true, Length: 1}, "x"))
			}
			io.WriteString(nc, handshakeHead+"\r\n")
			go trickle(nc, fragment(opText)+strings.Repeat(fragment(opContinuation), 200), 2*time.Millisecond)
			if said := untilCut(nc); !strings.HasSuffix(said, closePayload(StatusPolicyViolation, "message timeout")) {
				t.Errorf("it was told %q", said)
			}
		}},
		{"a polling body byte by byte", messages, ReasonTransportError, func(t *testing.T, srv *server, nc net.Conn) {
			e := srv.joined(t)
			fmt.Fprintf(nc, "POST /socket.io/%s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10000\r\n\r\n", e.query())
			for !trickle(nc, strings.Repeat("4", 1000), 5*time.Millisecond) {
			}
		}},
		{"a polling body that ends in the middle", messages, ReasonTransportError, func(t *testing.T, srv *server, nc net.Conn) {
			e := srv.joined(t)
			fmt.Fprintf(nc, "POST /socket.io/%s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10000\r\n\r\n42[", e.query())
			untilCut(nc)
		}},
		{"an upgrade from polling that stops in the middle", pings, ReasonPingTimeout, func(t *testing.T, srv *server, nc net.Conn) {
			e := srv.joined(t)
			fmt.Fprintf(nc, "GET /socket.io/?EIO=4&transport=websocket&sid=%s HTTP/1.1\r\nHost: example.com\r\n%s\r\n%s", e.sid, wsHead, maskedFrame(opText, "2probe"))
			untilCut(nc)
		}},
		{"a client that closes and does not wait", messages, ReasonTransportClose, func(t *testing.T, srv *server, nc net.Conn) {
			io.WriteString(nc, handshakeHead+"\r\n"+maskedFrame(opClose, closePayload(StatusNormalClosure, "")))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHub(t, Options{Timeouts: test.timeouts})
			left := leavings(h)
			var came atomic.Int32 // a busy machine may not let each in before its time is up
			h.OnConnect(func(s *Socket) { came.Add(1) })
			headers := patience
			if test.timeouts == (Timeouts{}) {
				headers = soon
			}
			srv := serveWith(t, overTCP, h, headers)
			leavesNothing(t, h, func(t *testing.T) {
				var all sync.WaitGroup
				for range broken {
					nc := srv.raw(t)
					all.Go(func() { test.do(t, srv, nc) })
				}
				all.Wait()
				h.awaitCountedOut(t)
				eventually(t, "OnDisconnect", func() bool { return len(left) == int(came.Load()) })
			})
			for range came.Load() {
				wantReason(t, left, test.reason)
			}
			if connected := came.Load() > 0; connected != (test.reason != "") {
				t.Errorf("%d clients were connected", came.Load())
			}
		})
	}
}

// A half-open connection, whose other end swallows everything and says nothing, is found when the
// ping interval and the ping time-out have passed, to two ticks of the hub's clock.
func TestHalfOpenPeerIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const interval, timeout = 5 * time.Second, 4 * time.Second
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: interval, Ping: timeout}})
		left := leavings(h)
		srv := serve(t, overPipe, h)
		for range 20 {
			nc, _ := srv.upgrade(t)
			start := time.Now()
			go io.Copy(io.Discard, nc)
			wantReason(t, left, ReasonPingTimeout)
			wantAfter(t, h, "found", start, interval+timeout)
			nc.Close()
		}
		h.checkNobody(t)
	})
}

// byteASecond takes a byte a second until the connection ends.
func byteASecond(nc net.Conn) (done <-chan struct{}) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		readSlowly(nc, 1, time.Second)
	}()
	return ended
}

// A client that takes a byte a second of what it is sent holds its queue no longer than one that
// takes nothing: the ping time-out finds it, because its pings wait behind the rest, or before that
// its queue is over the bound.
func TestByteASecondReaderIsFound(t *testing.T) {
	for _, row := range []struct {
		name   string
		bytes  int
		most   time.Duration
		reason Reason
	}{
		{"within QueuedBytes", 100_000, 25*time.Second + 20*time.Second + 25*time.Second/4, ReasonPingTimeout},
		{"over it", 6 << 20, stallTimeout + time.Second, ReasonSlowConsumer},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHub(t, Options{})
				left := leavings(h)
				nc, _ := serve(t, overPipe, h).upgrade(t)
				h.sockets(1)
				h.Emit("e", strings.Repeat("x", row.bytes))
				h.Emit("e")
				start, done := time.Now(), byteASecond(nc)
				if why, took := <-left, time.Since(start); why != row.reason || took > row.most {
					t.Errorf("left for %q after %v, want %q after %v at most", why, took, row.reason, row.most)
				}
				<-done
				h.checkNobody(t)
			})
		})
	}
}

// One that polls, and takes its response so, is found as well: a response has 20 seconds.
func TestByteASecondPollingReaderIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour}})
		left := leavings(h)
		srv := serve(t, overPipe, h)
		e := srv.joined(t)
		h.Emit("e", strings.Repeat("x", 100_000))
		nc := srv.raw(t)
		go fmt.Fprintf(nc, "GET /socket.io/%s HTTP/1.1\r\nHost: example.com\r\n\r\n", e.query())
		start, done := time.Now(), byteASecond(nc)
		if why, took := <-left, time.Since(start); why != ReasonTransportError || took > pollWriteTimeout {
			t.Errorf("left for %q after %v, want %q after %v at most", why, took, ReasonTransportError, pollWriteTimeout)
		}
		<-done
		h.checkNobody(t)
	})
}
