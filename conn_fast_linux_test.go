package atrium

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// userTimeout returns the kernel's own bound on a connection's silence, in milliseconds.
func userTimeout(t *testing.T, s *Socket) (ms int) {
	t.Helper()
	nc := s.session.conn.Load().nc
	if outer, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = outer.NetConn()
	}
	raw, err := nc.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	if err := raw.Control(func(fd uintptr) {
		ms, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return ms
}

// The kernel learns with a client's first ping, and not in its handshake, how long the client may
// acknowledge nothing, also below TLS and for one that began by polling.
func TestKernelWatchesPingedClients(t *testing.T) {
	for _, k := range []kind{overTCP, overTLS} {
		t.Run(k.name, func(t *testing.T) {
			noLeaks(t)
			h := newHub(t, Options{Timeouts: Timeouts{PingInterval: time.Hour, Ping: time.Minute}})
			srv := serve(t, k, h)
			c, s := connected(t, h, srv)
			if ms := userTimeout(t, s); ms != 0 {
				t.Errorf("after the handshake: %d", ms)
			}
			s.session.ping()
			c.settle()
			if ms, want := userTimeout(t, s), int((time.Hour + time.Minute).Milliseconds()); ms != want {
				t.Errorf("after a ping: %d, want %d", ms, want)
			}

			e := srv.polls(t)
			e.say("40")
			e.hear()
			upgraded := h.poll(e.sid).session
			upgraded.ping()
			w := e.probing()
			w.send("2probe")
			w.want("3probe")
			w.send("5")
			eventually(t, "the upgrade", func() bool { return upgraded.conn.Load() != nil })
			upgraded.ping()
			if ms := userTimeout(t, upgraded.liveSockets()[0]); ms == 0 {
				t.Error("nothing after the upgrade")
			}
		})
	}
}

// A client that the hub does not read, because its events wait, and that takes nothing, would stay
// for good: no ping time-out runs meanwhile. The kernel ends it, and the hub notices at its next
// ping.
func TestKernelEndsClientThatIsNotRead(t *testing.T) {
	noLeaks(t)
	handling, goOn := make(chan bool, 1), make(chan bool)
	h := newHub(t, Options{Limits: Limits{InboxEvents: 1}, Timeouts: Timeouts{PingInterval: 100 * time.Millisecond, Ping: 100 * time.Millisecond}})
	t.Cleanup(func() { close(goOn) })
	h.Handle("e", func(*Event) { blockOnce(handling, goOn) })
	nc, _ := serve(t, overTCP, h).upgrade(t)
	if err := nc.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	write(t, nc, strings.Repeat(maskedFrame(opText, `{"event":"e"}`), 10))
	within(t, handling, "the first event")
	s := h.sockets(1)[0]
	eventually(t, "the reader to wait", s.session.reading.paused)
	s.Emit("e", strings.Repeat("x", 3<<20)) // more than the two kernels take, and less than a slow consumer has
	within(t, s.Context().Done(), "the end")
	if err := s.session.conn.Load().out.closedError(); !strings.Contains(err.Error(), syscall.ETIMEDOUT.Error()) {
		t.Errorf("it ended with %v", err)
	}
}

// With more input at hand answers are left to the drainer, and leave together. It may begin before
// the last of them is queued, but is far from making a write of each. The socket keeps writes
// apart, so that they can be counted.
func TestReadyAnswersLeaveTogether(t *testing.T) {
	l, err := net.Listen("unixpacket", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	near, far := socketPair(t, l)
	c := newConn(near, connConfig{readLimit: 100, maxQueued: 1 << 20})
	defer c.CloseNow()
	peer := new(fastIO)
	peer.open(far)
	const batches, n = 100, 16
	writes := 0
	for range batches {
		write(t, far, strings.Repeat(maskedFrame(opText, "x"), n))
		for range n {
			_, p, err := c.Read(t.Context())
			if err == nil {
				err = c.Write(t.Context(), MessageText, p)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for got := 0; got < 3*n; writes++ {
			m, pooled, err := peer.wait(nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			releaseBuffer(pooled)
			got += m
		}
	}
	t.Logf("%d writes for %d batches of %d", writes, batches, n)
	if writes > batches*n/3 {
		t.Errorf("%d writes for %d batches of %d", writes, batches, n)
	}
}

// The kernel takes little more than what it can send, so that a peer's reading is noticed soon.
func TestReadyLimitsUnsent(t *testing.T) {
	near, far := socketPair(t, listenTCP(t))
	if err := far.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	f := new(fastIO)
	f.open(near)
	chunk := make([]byte, 16<<10)
	accepted := 0
	fill := func() {
		for {
			n, err := f.write(chunk, false)
			if err != nil {
				t.Fatal(err)
			}
			if accepted += n; n == 0 {
				return
			}
		}
	}
	fill()
	if accepted > 1<<20 {
		t.Errorf("the kernel took %d bytes", accepted)
	}
	// When the peer reads what fits into its own buffer, there is room again, though not a third of
	// the sender's.
	before := accepted
	if _, err := io.ReadFull(far, make([]byte, min(before, 200<<10))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room", func() bool { fill(); return accepted > before })
}
