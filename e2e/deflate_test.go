package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atrium-go/atrium"
)

// node prepares a program of this directory, and ends it with the test.
func node(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := os.Stat("node_modules/ws"); err != nil {
		t.Fatal("npm's ws is not there: run npm ci in e2e first")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// echo is a server that sends every message back, compressed if the client offers it.
func echo(t *testing.T) (address string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{Compression: atrium.Compression{Level: 6, Threshold: 1}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			op, p, err := c.Read(context.Background())
			if err != nil {
				return
			}
			if err := c.Write(context.Background(), op, p); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// samples are messages that refer back near and far, or not at all.
func samples() [][]byte {
	var list [][]byte
	r := rand.New(rand.NewPCG(7, 692))
	for _, n := range []int{100, 256, 257, 300, 600, 5000, 33_000, 100_000} {
		var b bytes.Buffer
		for b.Len() < n {
			fmt.Fprintf(&b, "%d grüße, ", r.IntN(500))
		}
		list = append(list, b.Bytes()[:n], bytes.Repeat([]byte("ab"), n/2))
	}
	return list
}

// TestZlibInflates has what Upgrade sends inflated by Node's zlib, with exactly the window that was
// agreed on: that of a client which has no more memory than it says.
func TestZlibInflates(t *testing.T) {
	t.Parallel()
	address := echo(t)
	var compressed bytes.Buffer
	var want []string
	for bits := 8; bits <= 15; bits++ {
		nc, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=%d\r\n\r\n", address, bits)
		in := bufio.NewReader(nc)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.HasSuffix(got, fmt.Sprintf("; server_max_window_bits=%d", bits)) {
			t.Fatalf("agreed on %q", got)
		}
		for _, message := range samples() {
			if _, err := nc.Write(maskedFrame(message)); err != nil {
				t.Fatal(err)
			}
			isCompressed, payload := readFrame(t, in)
			if !isCompressed {
				t.Fatalf("%d bytes are not compressed", len(message))
			}
			fmt.Fprintf(&compressed, "%d %x\n", bits, payload)
			want = append(want, hex.EncodeToString(message))
		}
	}
	inflate := node(t, "deflate.mjs")
	inflate.Stdin = &compressed
	out, err := inflate.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d messages instead of %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d bits, message %d: %.100s", 8+i/len(samples()), i%len(samples()), got[i])
		}
	}
}

// readFrame reads one frame that is not masked, and reports whether it is compressed.
func readFrame(t *testing.T, in *bufio.Reader) (compressed bool, payload []byte) {
	t.Helper()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	head := read(2) // RFC 6455 §5.2
	length := int(head[1])
	if n := map[int]int{126: 2, 127: 8}[length]; n > 0 {
		length = 0
		for _, b := range read(n) {
			length = length<<8 | int(b)
		}
	}
	return head[0]&0x40 != 0, read(length)
}

// maskedFrame returns a binary message as a client's frame, with a key of zeros.
func maskedFrame(message []byte) []byte {
	n := len(message)
	frame := []byte{0x82, 0x80 | byte(n)}
	switch {
	case n >= 1<<16:
		frame = []byte{0x82, 0x80 | 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	case n >= 126:
		frame = []byte{0x82, 0x80 | 126, byte(n >> 8), byte(n)}
	}
	return append(append(frame, 0, 0, 0, 0), message...)
}

// TestWSClient has npm's ws as the client of Upgrade: every window, with context takeover, in
// fragments.
func TestWSClient(t *testing.T) {
	t.Parallel()
	address := echo(t)
	for bits := 9; bits <= 15; bits++ {
		out, err := node(t, "ws-client.mjs", "ws://"+address, fmt.Sprint(bits)).Output()
		if err != nil || !strings.HasPrefix(string(out), "ok permessage-deflate") {
			t.Errorf("%d bits: %v, %s", bits, err, out)
		}
	}
}

// TestWSServer has npm's ws as the server that Dial dials.
func TestWSServer(t *testing.T) {
	t.Parallel()
	for bits := 9; bits <= 15; bits++ {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			server := node(t, "ws-server.mjs", fmt.Sprint(bits))
			stdin, err := server.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := server.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			defer server.Wait()
			defer stdin.Close()
			port, err := bufio.NewReader(stdout).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			var counted *countingConn
			c, resp, err := atrium.Dial(ctx, "ws://127.0.0.1:"+strings.TrimSpace(port), atrium.DialOptions{
				Compression: atrium.Compression{Level: 1, Threshold: 1},
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					nc, err := new(net.Dialer).DialContext(ctx, network, address)
					counted = &countingConn{Conn: nc}
					return counted, err
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			if got := resp.Header.Get("Sec-WebSocket-Extensions"); !strings.Contains(got, fmt.Sprintf("client_max_window_bits=%d", bits)) {
				t.Fatalf("agreed on %q", got)
			}
			total := int64(0)
			for i, message := range samples() {
				op := []atrium.MessageType{atrium.MessageText, atrium.MessageBinary}[i/2%2]
				message = bytes.ToValidUTF8(message, []byte("?"))
				if err := c.Write(ctx, op, message); err != nil {
					t.Fatal(err)
				}
				gotOp, got, err := c.Read(ctx)
				if err != nil || gotOp != op || !bytes.Equal(got, message) {
					t.Fatalf("message %d: got %v, %d bytes, %v; want %v, %d bytes", i, gotOp, len(got), err, op, len(message))
				}
				total += int64(len(message))
			}
			if read, written := counted.read.Load(), counted.written.Load(); read > total*3/4 || written > total*3/4 {
				t.Errorf("%d bytes took %d there and %d back", total, written, read)
			}
			c.Close(atrium.StatusNormalClosure, "") // Node may take longer than Close gives it for an answer
		})
	}
}

// countingConn counts the bytes that pass.
type countingConn struct {
	net.Conn
	read, written atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}
