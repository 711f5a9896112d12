package process

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Handshakes are two requests for a WebSocket: one of 200 bytes, as a program sends it, and one of
// a browser.
var Handshakes = map[string]string{
	"200 bytes": "GET /hub HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: device/1.0 (7)\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
	"a browser's": "GET /hub HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36\r\n" +
		"Upgrade: websocket\r\nOrigin: http://127.0.0.1:3000\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r\nCookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
}

// Client is one end of a connection that does no more than it must.
type Client struct {
	net.Conn
	// Compressed is set if the message that Next has returned last is compressed (RFC 7692).
	Compressed bool

	in         []byte // in[r:w] has been read from the network
	r, w       int
	message    []byte // what has come of a message in several frames
	fragmented Header // its first frame's
}

// Connect connects to the server and makes a WebSocket with one of the Handshakes, with the query
// added to its path.
func (s *Server) Connect(overTLS bool, handshake, query string) *Client {
	nc, err := s.Dial(net.Dialer{}, overTLS)
	check(err)
	request := strings.Replace(Handshakes[handshake], "/hub", "/hub"+query, 1)
	if overTLS {
		request = strings.Replace(request, "Origin: http:", "Origin: https:", 1)
	}
	c, err := NewClient(nc, request)
	check(err)
	return c
}

var connections atomic.Int64

// Dial connects to the server.
func (s *Server) Dial(d net.Dialer, overTLS bool) (net.Conn, error) { return Dial(d, s.Addr, overTLS) }

// Dial connects to a server of this machine.
func Dial(d net.Dialer, addr string, overTLS bool) (net.Conn, error) {
	// An address has ports for 28,000 connections, those included that were closed a minute ago.
	d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(connections.Add(1)/10_000))}
	nc, err := d.Dial("tcp", addr)
	if overTLS && err == nil {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the server's certificate is its own
	}
	return nc, err
}

// ShrinkBuffers is a Control of a Dialer. It has the kernels hold as little as they can for a
// connection, at the server too: its buffer depends on the size of segments. Who does not read then
// holds the server up at 30 KB.
func ShrinkBuffers(_, _ string, rc syscall.RawConn) error {
	var err error
	control := rc.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 2048),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 536))
	})
	return errors.Join(control, err)
}

// NewClient makes a WebSocket of a connection with the request.
func NewClient(nc net.Conn, request string) (*Client, error) {
	if _, err := io.WriteString(nc, request); err != nil {
		return nil, err
	}
	c := &Client{Conn: nc, in: make([]byte, 512)}
	for {
		if err := c.read(); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		head, _, complete := bytes.Cut(c.in[:c.w], []byte("\r\n\r\n"))
		if !complete {
			continue
		}
		c.r = len(head) + len("\r\n\r\n")
		if status, _, _ := strings.Cut(string(head), "\r\n"); !strings.HasPrefix(status, "HTTP/1.1 101") {
			return nil, fmt.Errorf("handshake: %s", status)
		}
		return c, nil
	}
}

// Send sends a frame.
func (c *Client) Send(op Opcode, payload string) {
	_, err := c.Write(Frame(op, payload))
	check(err)
}

// Frame returns a client's frame.
func Frame(op Opcode, payload string) []byte {
	h := Header{Opcode: op, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: len(payload)}
	b := AppendHeader(nil, h)
	n := len(b)
	b = append(b, payload...)
	Mask(b[n:], h.Key)
	return b
}

// Next waits for a message, or for a frame that belongs to none. The payload is valid until the
// next call.
func (c *Client) Next() (Opcode, []byte, error) {
	for {
		h, size := ParseHeader(c.in[c.r:c.w])
		if size == 0 || c.w-c.r-size < h.Length {
			if err := c.need(size + h.Length); err != nil {
				return 0, nil, err
			}
			continue
		}
		payload := c.in[c.r+size : c.r+size+h.Length]
		c.r += size + h.Length
		switch {
		case h.Opcode == OpContinuation:
			c.message = append(c.message, payload...)
			h.Opcode, h.Compressed, payload = c.fragmented.Opcode, c.fragmented.Compressed, c.message
		case h.Unfinished:
			c.fragmented, c.message = h, append(c.message[:0], payload...)
		}
		if !h.Unfinished {
			c.Compressed = h.Compressed
			return h.Opcode, payload, nil
		}
	}
}

// need reads more of a frame of at least so many bytes, for which it makes room.
func (c *Client) need(frame int) error {
	if c.r > 0 {
		c.w, c.r = copy(c.in, c.in[c.r:c.w]), 0
	}
	if frame > len(c.in) {
		c.in = append(c.in, make([]byte, frame-len(c.in))...)
	}
	return c.read()
}

// read reads what is there. A buffer that it fills is made twice as large, up to a bound.
func (c *Client) read() error {
	n, err := c.Read(c.in[c.w:])
	c.w += n
	if c.w == len(c.in) && len(c.in) < 64<<10 {
		c.in = append(c.in, make([]byte, len(c.in))...)
	}
	if n > 0 {
		return nil
	}
	return err
}

// Expect waits for a message, answering pings on the way, and returns what follows prefix in it.
func (c *Client) Expect(prefix string) string {
	for {
		op, p, err := c.Next()
		check(err)
		if op == OpPing {
			c.Send(OpPong, string(p))
			continue
		}
		rest, ok := bytes.CutPrefix(p, []byte(prefix))
		if !ok {
			panic("got " + string(p) + ", want " + prefix)
		}
		return string(rest)
	}
}
