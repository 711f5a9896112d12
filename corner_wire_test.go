package atrium

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// Rows 1 and 2: a length that is refused costs nothing.
func TestHugeLength(t *testing.T) {
	for top, code := range map[byte]StatusCode{0x80: StatusProtocolError, 0x40: StatusMessageTooBig} {
		t.Run(fmt.Sprintf("%#x", top), func(t *testing.T) {
			wantAllocated(t, 32<<10, code, rawHeader(0x82, 127, top, 0, 0, 0, 0, 0, 0, 0))
		})
	}
}

// Row 17: a header of each form is cut at each of its positions, of which there are at most 14. The
// rest is sent when the beginning has been read, so that TCP does not put them together again.
func TestCutHeaders(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		texts, _ := readInBackground(c)
		for _, size := range []int{5, 200, 65536} {
			text := strings.Repeat("x", size)
			frame := p.frame(opText, text)
			for cut := 1; cut <= len(frame)-size; cut++ {
				before := c.reads.Load()
				p.send(frame[:cut])
				eventually(t, "the beginning", func() bool { return c.reads.Load() != before })
				p.send(frame[cut:])
				if got := within(t, texts, "the message"); got != text {
					t.Fatalf("%d bytes, cut at %d: got %d bytes", size, cut, len(got))
				}
			}
		}
	})
}

// Row 20: runes of each length are split at each place, with an empty fragment and a ping in
// between.
func TestSplitRunes(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for _, r := range []string{"é", "€", "𝄞"} {
			for cut := 1; cut < len(r); cut++ {
				p.send(p.part(opText, "a"+r[:cut]), p.frame(opPing, ""), p.part(opContinuation, ""), p.frame(opContinuation, r[cut:]+"z"))
				wantMessage(t, c, opText, "a"+r+"z")
				p.want(opPong, "")
			}
			for i := range len(r) - 1 { // a byte a fragment
				p.send(p.part([]opcode{opText, opContinuation}[min(i, 1)], r[i:i+1]))
			}
			p.send(p.frame(opContinuation, r[len(r)-1:]))
			wantMessage(t, c, opText, r)
		}
	})
}

// Row 22: the masking key of each frame is fresh, whatever kind it is, and comes from crypto/rand.
func TestMaskingKeys(t *testing.T) {
	keys := func(t *testing.T, c *Conn, p *peer) (keys [][4]byte) {
		for range 100 {
			mustWrite(t, c, opText, "the same again")
			h, _ := p.next()
			p.send(p.frame(opPing, ""), p.frame(opText, ""))
			wantMessage(t, c, opText, "")
			pong, _ := p.next()
			keys = append(keys, h.Key, pong.Key)
		}
		closing(c, StatusNormalClosure, "")
		h, _ := p.next()
		p.hangUp()
		c.finish()
		return append(keys, h.Key)
	}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			noLeaks(t)
			c, p := setup{k, true}.start(t, UpgradeOptions{})
			got := keys(t, c, p)
			seen := make(map[[4]byte]bool)
			ones := 0
			for _, key := range got {
				seen[key] = true
				for _, b := range key {
					ones += bits.OnesCount8(b)
				}
			}
			// 201 keys of 32 bits: one pair may be the same, once in five million runs a second;
			// and the share of ones is within a tenth of a half, which is eight standard
			// deviations.
			if len(seen) < len(got)-1 || ones < 32*len(got)*2/5 || ones > 32*len(got)*3/5 {
				t.Errorf("%d keys are %d different ones, with %d bits set", len(got), len(seen), ones)
			}
		})
	}
	t.Run("from crypto/rand", func(t *testing.T) {
		eventually(t, "others to be done with it", func() bool { return len(packageGoroutines()) == 0 })
		var got [3][][4]byte
		for i, seed := range []uint64{1, 1, 2} {
			cryptotest.SetGlobalRandom(t, seed)
			maskKeys.used = 0 // what was read ahead is not of the seed
			c, p := setup{overPipe, true}.start(t, UpgradeOptions{})
			got[i] = keys(t, c, p)
		}
		if !slices.Equal(got[0], got[1]) || slices.Equal(got[1], got[2]) {
			t.Error("the keys are not those of the seed")
		}
	})
}

// Row 35: a cut disconnects the socket, once.
func TestCutDisconnectsOnce(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		left := leavings(h)
		srv := serve(t, k, h)
		for _, begun := range []string{"", `{"event":`} {
			p := srv.peer(t)
			s := p.arrive(h)
			if begun != "" {
				p.send(p.part(opText, begun))
			}
			p.hangUp()
			wantReason(t, left, ReasonTransportClose)
			s.Disconnect() // too late
		}
		if err := h.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if len(left) > 0 {
			t.Errorf("left again: %s", <-left)
		}
	})
}

// wireHandlers are the two that a handshake may come to.
func wireHandlers(t testing.TB) map[string]http.Handler {
	return map[string]http.Handler{"Upgrade": echoHandler(UpgradeOptions{}), "Hub": newHub(t, Options{})}
}

// Row 49: a client that sends its headers a byte a second has as long as
// http.Server.ReadHeaderTimeout says: hijacking does not come in its way.
func TestSlowLoris(t *testing.T) {
	for _, name := range []string{"Upgrade", "Hub"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nc := serve(t, overPipe, wireHandlers(t)[name]).raw(t) // with ten seconds
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					wantNoHandshake(t, nc)
				}()
				start := time.Now()
				for i := range len(handshakeHead) {
					if _, err := io.WriteString(nc, handshakeHead[i:i+1]); err != nil {
						break
					}
					<-time.After(time.Second)
				}
				<-ended
				if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
					t.Errorf("it lasted %v", took)
				}
			})
		})
	}
}

// The same over a network, where it takes a moment. Afterwards others, who have longer, are served
// as before.
func TestSlowLorisTCP(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{})
	s := serveWith(t, overTCP, h, 50*time.Millisecond)
	for _, begun := range []string{"", "GET", handshakeHead} {
		nc := s.raw(t)
		io.WriteString(nc, begun)
		nc.SetReadDeadline(time.Now().Add(patience))
		wantNoHandshake(t, nc)
	}
	serve(t, overTCP, h).connect(t, nil).settle()
	h.checkArrived(t, 1)
}

// wantNoHandshake expects the server to end the connection, perhaps with a 400 of net/http's, or
// with a reset if its patience was over before it had read what came.
func wantNoHandshake(t testing.TB, nc net.Conn) {
	t.Helper()
	got, err := io.ReadAll(nc)
	if len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 400 ") || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %q, %v; want the end", got, err)
	}
}

// Row 49: ten thousand headers, or a line of a megabyte. http.Server.MaxHeaderBytes bounds what is
// read, and a Hub, which keeps the headers for as long as the client stays, takes 64 KiB.
func TestLargeHeaders(t *testing.T) {
	var many strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&many, "X-%d: y\r\n", i)
	}
	tests := []struct {
		name, lines  string
		upgrade, hub int // status
	}{
		{"some", "Cookie: " + strings.Repeat("c", 60_000) + "\r\n", 101, 101},
		{"one of 64 KiB", "Cookie: " + strings.Repeat("c", 64<<10) + "\r\n", 101, 431},
		{"ten thousand", many.String(), 101, 431},
		{"one of more than a megabyte", "Cookie: " + strings.Repeat("c", 1<<20+8<<10) + "\r\n", 431, 431},
	}
	overPlain(t, func(t *testing.T, k kind) {
		for name, handler := range wireHandlers(t) {
			srv := serve(t, k, handler)
			for _, test := range tests {
				t.Run(name+", "+test.name, func(t *testing.T) {
					want := test.upgrade
					if name == "Hub" {
						want = test.hub
					}
					nc := srv.raw(t)
					go io.WriteString(nc, handshakeHead+test.lines+"\r\n") // as far as it is read
					r, err := http.ReadResponse(bufio.NewReader(nc), nil)
					if err != nil {
						t.Fatal(err)
					}
					if r.StatusCode != want {
						t.Errorf("%s, want %d", r.Status, want)
					}
				})
			}
		}
	})
}

// Row 52: the hub says over HTTP/2 what Upgrade says, to a GET and to a CONNECT.
func TestHubHTTP2(t *testing.T) {
	srv := httptest.NewUnstartedServer(newHub(t, Options{Accept: func(*http.Request) (context.Context, error) {
		t.Error("Accept was asked")
		return nil, nil
	}}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	for _, method := range []string{http.MethodGet, http.MethodConnect} {
		t.Run(method, func(t *testing.T) {
			req, err := http.NewRequest(method, srv.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Sec-WebSocket-Version", "13")
			r, err := srv.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			const sentence = "a WebSocket needs HTTP/1.1, this request came over HTTP/2.0\n"
			if body := bodyOf(t, answer{Response: r}); r.ProtoMajor != 2 || r.StatusCode != http.StatusHTTPVersionNotSupported || body != sentence {
				t.Errorf("%s %s %q", r.Proto, r.Status, body)
			}
		})
	}
}

// Row 53: Accept is asked before anything is upgraded, and about each client.
func TestAcceptFirst(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		asked, gate := make(chan string), make(chan struct{})
		h := newHub(t, Options{Accept: func(r *http.Request) (context.Context, error) {
			asked <- r.Header.Get("Sec-WebSocket-Protocol")
			<-gate
			return nil, nil
		}})
		srv := serve(t, k, h)
		for _, subprotocol := range []string{"", "atrium", "another"} {
			nc := srv.raw(t)
			go io.WriteString(nc, handshakeHead+"Sec-WebSocket-Protocol: "+subprotocol+"\r\n\r\n")
			if got := within(t, asked, "Accept"); got != subprotocol {
				t.Errorf("asked about %q", got)
			}
			h.checkArrived(t, 0)
			heard := make(chan byte, 1)
			go func() {
				var b [1]byte
				io.ReadFull(nc, b[:])
				heard <- b[0]
			}()
			select {
			case b := <-heard:
				t.Errorf("the answer began with %q while Accept was asked", b)
			case gate <- struct{}{}:
			}
			if b := within(t, heard, "the answer"); b != 'H' {
				t.Errorf("the answer begins with %q", b)
			}
			nc.Close()
			h.awaitCountedOut(t) // not only until no socket is there: it may not have become one yet
			eventually(t, "the end of the session", func() bool { return len(h.list()) == 0 })
		}
	})
}

// checkArrived checks how many connections have become sockets.
func (h *Hub) checkArrived(t testing.TB, want int) {
	t.Helper()
	if got := len(h.list()); got != want {
		t.Errorf("%d connections have arrived, want %d", got, want)
	}
}

// Row 54: neither pings and pongs nor events put off the end that DisconnectAt sets, and Disconnect
// is at once.
func TestExpiryUnderHeartbeat(t *testing.T) {
	for name, end := range map[string]func(*Socket){
		"DisconnectAt": func(s *Socket) { s.DisconnectAt(time.Now().Add(30 * time.Millisecond)) },
		"Disconnect":   (*Socket).Disconnect,
	} {
		t.Run(name, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				noLeaks(t)
				h := newHub(t, Options{Timeouts: Timeouts{PingInterval: 5 * time.Millisecond}})
				left := leavings(h)
				h.Handle("e", func(e *Event) { e.Reply() })
				p := serve(t, k, h).peer(t)
				s := h.sockets(1)[0] // a ping may come before it is connected
				p.send(p.frame(opText, `{"event":"e","id":1}`))
				for pings, ended := 0, false; ; {
					op, m := p.next()
					switch op.Opcode {
					case opPing:
						p.send(p.frame(opPong, m), p.frame(opText, `{"event":"e","id":1}`))
						pings++
					case opClose:
						if m != closePayload(StatusNormalClosure, string(ReasonServerDisconnect)) || pings < 2 {
							t.Errorf("%q after %d pings", m, pings)
						}
						p.hangUp()
						wantReason(t, left, ReasonServerDisconnect)
						return
					}
					if pings == 2 && !ended {
						ended = true
						end(s)
					}
				}
			})
		})
	}
}

// Row 55: one more connection than the hub may have is refused until one has gone, whatever has
// become of it.
func TestMaxConnections(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		var accepts atomic.Int32
		h := newHub(t, Options{Limits: Limits{Connections: 2}, Accept: func(r *http.Request) (context.Context, error) {
			accepts.Add(1)
			switch r.Header.Get("Try") {
			case "refusal":
				return nil, Errorf("no")
			case "panic":
				panic(http.ErrAbortHandler)
			}
			return nil, nil
		}})
		srv := serve(t, k, h)
		for range 3 { // what was refused is not counted
			nc := srv.raw(t)
			if r := request(t, nc, handshakeHead+"Try: refusal\r\n\r\n"); r.StatusCode != http.StatusForbidden {
				t.Errorf("refused with %s", r.Status)
			}
			nc = srv.raw(t)
			go io.WriteString(nc, handshakeHead+"Try: panic\r\n\r\n")
			io.Copy(io.Discard, nc)
			request(t, srv.raw(t), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		}
		for range 3 {
			waiting := srv.offer(t) // one that is not accepted counts, too
			c := srv.connect(t, nil)
			before := accepts.Load()
			wantFull(t, srv, http.StatusServiceUnavailable, "the server has as many connections as it may have\n")
			if accepts.Load() != before {
				t.Error("Accept was asked")
			}
			c.settle()
			c.CloseNow()
			eventually(t, "one to leave", func() bool { return h.connections() == 1 })
			srv.connect(t, nil).CloseNow()
			waiting.CloseNow()
			eventually(t, "all to leave", func() bool { return h.connections() == 0 })
		}
		h.checkNobody(t)
	})
}

// Row 55: the same for the connections of one client, by the network's account or the
// application's.
func TestMaxConnectionsPerClient(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		t.Run("by address", func(t *testing.T) {
			noLeaks(t)
			srv := serve(t, k, newHub(t, Options{Limits: Limits{ConnectionsPerClient: 2}}))
			first := srv.connect(t, nil)
			srv.connect(t, nil)
			wantFull(t, srv, http.StatusTooManyRequests, "this client has as many connections as it may have\n")
			first.settle()
		})
		t.Run("by ClientKey", func(t *testing.T) {
			noLeaks(t)
			h := newHub(t, Options{Limits: Limits{ConnectionsPerClient: 1}, ClientKey: func(r *http.Request) string { return r.Header.Get("User") }})
			srv := serve(t, k, h)
			for range 3 {
				ann, bob := srv.connect(t, nil, "User: ann"), srv.connect(t, nil, "User: bob")
				wantFull(t, srv, http.StatusTooManyRequests, "this client has as many connections as it may have\n", "User: ann")
				ann.CloseNow()
				bob.CloseNow()
				eventually(t, "all to leave", func() bool { return h.connections() == 0 })
			}
			h.checkNobody(t)
		})
	})
	for from, want := range map[string]string{
		"192.0.2.7:1234":                  "192.0.2.7",
		"[::ffff:192.0.2.7]:1":            "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1":        "2001:db8:1:2::",
		"[2001:db8:1:2:ffff:4:5:6%eth]:1": "2001:db8:1:2::",
		"[2001:db8:1:3::]:1":              "2001:db8:1:3::",
		"pipe":                            "pipe",
	} {
		if got := remoteClient(&http.Request{RemoteAddr: from}); got != want {
			t.Errorf("%s is %q, want %q", from, got, want)
		}
	}
}

// connections returns how many connections are counted.
func (h *Hub) connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.quota.total
}

// wantFull expects a handshake to be refused for now.
func wantFull(t testing.TB, srv *server, status int, sentence string, lines ...string) {
	t.Helper()
	r := request(t, srv.raw(t), handshakeHead+strings.Join(append(lines, "", ""), "\r\n"))
	if got := bodyOf(t, r); r.StatusCode != status || got != sentence || r.Header.Get("Retry-After") == "" {
		t.Errorf("%s %v %q, want %d and when to come again", r.Status, r.Header, got, status)
	}
}
