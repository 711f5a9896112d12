package atrium

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

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
