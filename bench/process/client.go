package process

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
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
	in *bufio.Reader
}

// Connect connects to the server and makes a WebSocket with one of the Handshakes, with the query
// added to its path.
func (s *Server) Connect(overTLS bool, handshake, query string) *Client {
	nc, err := net.Dial("tcp", s.Addr)
	check(err)
	if overTLS {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // the server's certificate is its own
	}
	request := strings.Replace(Handshakes[handshake], "/hub", "/hub"+query, 1)
	if overTLS {
		request = strings.Replace(request, "Origin: http:", "Origin: https:", 1)
	}
	_, err = io.WriteString(nc, request)
	check(err)
	c := &Client{nc, bufio.NewReaderSize(nc, 512)}
	r, err := http.ReadResponse(c.in, nil)
	check(err)
	if r.StatusCode != http.StatusSwitchingProtocols {
		panic("handshake: " + r.Status)
	}
	return c
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

// Next waits for a frame.
func (c *Client) Next() (Opcode, []byte, error) {
	for n := 2; ; n++ {
		head, err := c.in.Peek(n)
		if err != nil {
			return 0, nil, err
		}
		if h, size := ParseHeader(head); size > 0 {
			frame := make([]byte, size+h.Length)
			_, err := io.ReadFull(c.in, frame)
			return h.Opcode, frame[size:], err
		}
	}
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
