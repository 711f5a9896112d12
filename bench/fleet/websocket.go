package fleet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// webSocket is a WebSocket as a wire.
type webSocket struct {
	*process.Client
	mu      sync.Mutex // guards writing
	inflate bytes.Buffer
}

const handshakeLimit = 20 * time.Second

// openWebSocket connects to the client's node.
func openWebSocket(c *Client, query string) (*webSocket, error) {
	addr := c.node.Addr
	if c.Kind.TLS {
		addr = c.node.TLSAddr
	}
	nc, err := process.Dial(net.Dialer{Timeout: handshakeLimit}, addr, c.Kind.TLS)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(handshakeLimit))
	request := strings.Replace(process.Handshakes["200 bytes"], "/hub", "/hub"+query, 1)
	if c.Kind.Deflate {
		request = strings.Replace(request, "\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n", 1)
	}
	ws, err := process.NewClient(nc, request)
	if err != nil {
		nc.Close()
		if status, ok := strings.CutPrefix(err.Error(), "handshake: HTTP/1.1 "); ok {
			return nil, httpError{"handshake", status}
		}
		return nil, err
	}
	nc.SetDeadline(time.Time{})
	return &webSocket{Client: ws}, nil
}

func (w *webSocket) send(text string) error { return w.frame(process.OpText, text) }

func (w *webSocket) frame(op process.Opcode, payload string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.SetWriteDeadline(time.Now().Add(handshakeLimit))
	_, err := w.Write(process.Frame(op, payload))
	return err
}

func (w *webSocket) receive() (string, error) {
	for {
		op, p, err := w.Next()
		switch {
		case err != nil:
			return "", ended(err)
		case op == process.OpPing:
			if err := w.frame(process.OpPong, string(p)); err != nil {
				return "", err
			}
		case op == process.OpClose:
			w.frame(process.OpClose, string(p))
			code := uint16(1005)
			if len(p) >= 2 {
				code = binary.BigEndian.Uint16(p)
			}
			return "", fmt.Errorf("%w with %d", errEnded, code)
		case op == process.OpText && w.Compressed:
			w.inflate.Reset()
			err := process.Inflate(&w.inflate, p)
			return w.inflate.String(), err
		case op == process.OpText:
			return string(p), nil
		}
	}
}

func (w *webSocket) leave(bye string) {
	if bye != "" {
		w.send(bye)
	}
	w.frame(process.OpClose, "\x03\xe8")
	w.Close()
}

func (w *webSocket) cut() { w.Close() }
