package fuzz

import (
	"bytes"
	"context"
	"net"
	"testing"

	"github.com/atrium-go/atrium"
)

// script is fuzz input that decides things, a byte each. When it is used up it says 0.
type script []byte

func (s *script) next() int {
	if len(*s) == 0 {
		return 0
	}
	n := (*s)[0]
	*s = (*s)[1:]
	return int(n)
}

// lengths are where headers and buffers change.
var lengths = []int{0, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 70000}

// drawMessage makes a message of pieces of data, over and over.
func drawMessage(data []byte, s *script) message {
	if len(data) == 0 {
		data = []byte("x")
	}
	choice := s.next()
	n := s.next()
	if choice&2 != 0 {
		n = lengths[n%len(lengths)]
	}
	p := bytes.Repeat(data, n/len(data)+1)[:n]
	if choice&1 != 0 {
		return message{opBinary, p}
	}
	return message{opText, bytes.ToValidUTF8(p, []byte("€"))}
}

// appendMessage appends the message as frames, fragmented and with pings and pongs between, and
// compressed if it may be, as the script says.
func appendMessage(dst []byte, m message, s *script, sender role, deflate bool) []byte {
	h := header{Opcode: m.op, Masked: sender == asClient}
	rest := m.payload
	if deflate {
		if level := s.next() % 13; level < 12 {
			h.Rsv1, rest = true, slowDeflate(rest, level-2)
		}
	}
	for !h.Fin {
		choice := s.next()
		n := len(rest)
		if h.Fin = choice&1 == 0; !h.Fin {
			n = min(s.next()*max(len(rest)/64, 1), n)
		}
		if h.Masked && choice&2 != 0 {
			h.Key = [4]byte{byte(s.next()), byte(s.next()), byte(s.next()), byte(s.next())}
		}
		dst = appendFrame(dst, h, rest[:n])
		rest, h.Opcode, h.Rsv1 = rest[n:], opContinuation, false
		if choice&4 != 0 {
			control := header{Fin: true, Opcode: opPing + opcode(choice>>3&1), Masked: h.Masked, Key: h.Key}
			dst = appendFrame(dst, control, m.payload[:min(len(m.payload), 125, choice)])
		}
	}
	return dst
}

// readMessages reads as many messages as are expected, and compares.
func readMessages(t *testing.T, c *atrium.Conn, into bool, want []message, each func(message)) {
	ctx := context.Background()
	var buf []byte
	for i, m := range want {
		var got message
		var kind atrium.MessageType
		var err error
		if into {
			kind, buf, err = c.ReadInto(ctx, buf)
			got.payload = buf
		} else {
			kind, got.payload, err = c.Read(ctx)
		}
		got.op = opcode(kind)
		if err != nil {
			t.Errorf("message %d of %d: %v", i+1, len(want), err)
			return
		}
		if !sameMessages([]message{got}, []message{m}) {
			t.Errorf("message %d of %d is %v, want %v", i+1, len(want), got, m)
		}
		if each != nil {
			each(got)
		}
	}
}

// FuzzRoundTrip sends messages and has them sent back: what was sent is what Read returns, whoever
// sends and however it comes in frames.
func FuzzRoundTrip(f *testing.F) {
	n, u := newNetwork(f), newUpgrader(f)
	for config := range uint8(32) {
		f.Add([]byte("hé€𝄞"), []byte{0, 9, 1, 3, 2, 1, 2, 3, 4, 5, 4, 1, 200, 0, 2, 3, 0, 3, 9, 3, 7, 9, 9, 9, 9, 5, 100, 12}, config)
		f.Add([]byte("\xff\x00"), []byte{1, 0, 0, 3, 4, 5, 1, 5, 1, 5, 1, 4, 3, 8, 0, 3, 6, 0}, config)
	}
	f.Fuzz(func(t *testing.T, data, decisions []byte, config uint8) {
		conn, medium, into, both, deflate := role(config&1 != 0), medium(config&2 != 0), config&4 != 0, config&8 != 0, config&16 != 0
		defer guard(t)()
		s := script(decisions)
		var messages []message
		var wire []byte
		for range 8 {
			if len(s) == 0 {
				break
			}
			m := drawMessage(data, &s)
			messages = append(messages, m)
			wire = appendMessage(wire, m, &s, !conn, deflate)
		}
		if both {
			betweenConns(t, u, n, medium, into, deflate, messages)
		} else {
			withPeer(t, u, n, medium, conn, into, deflate, messages, wire)
		}
	})
}

// withPeer has a Conn read messages that a raw peer sends, and send them back.
func withPeer(t *testing.T, u *upgrader, n *network, m medium, r role, into, deflate bool, messages []message, wire []byte) {
	conn, p := u.open(t, n, m, r, 0, deflate, func(nc net.Conn, head string) {
		nc.Write([]byte(head))
		nc.Write(wire)
	})
	sent := make(chan []byte, 1)
	goodbye := appendFrame(nil, header{Fin: true, Opcode: opClose, Masked: r == asServer}, nil)
	go func() { sent <- p.readAll(goodbye) }()
	readMessages(t, conn, into, messages, func(got message) {
		if err := conn.Write(context.Background(), atrium.MessageType(got.op), got.payload); err != nil {
			t.Error(err)
		}
	})
	if err := conn.Close(atrium.StatusNormalClosure, "done"); err != nil {
		t.Errorf("Close = %v", err)
	}
	got := receiver{r == asClient, 1 << 30, deflate}.receive(<-sent)
	if !sameMessages(got.messages, messages) || !got.closed || got.codes[0] != atrium.StatusNormalClosure || got.reason != "done" || len(got.rest) > 0 {
		t.Errorf("sent back were %v, want %v; then a close frame with %d %q, then %q", got.messages, messages, got.codes, got.reason, got.rest)
	}
}

// betweenConns has a client's Conn send messages, and a server's send them back.
func betweenConns(t *testing.T, u *upgrader, n *network, m medium, into, deflate bool, messages []message) {
	near, far := n.connect(t, m)
	u.options = atrium.UpgradeOptions{Compression: level(deflate)}
	u.accept <- far
	client := dial(t, near, atrium.DialOptions{Compression: level(deflate)})
	server := <-u.upgraded

	over := make(chan struct{})
	go func() {
		defer close(over)
		readMessages(t, server, into, messages, func(got message) {
			if err := server.Write(context.Background(), atrium.MessageType(got.op), got.payload); err != nil {
				t.Error(err)
			}
		})
		_, _, err := server.Read(context.Background())
		if e := asCloseError(t, err); e.Code != atrium.StatusGoingAway || e.Reason != "enough" {
			t.Errorf("the server's Conn ended with %v", err)
		}
		server.Close(atrium.StatusNormalClosure, "") // the closing has begun: it waits for the end
	}()
	for _, m := range messages {
		if err := client.Write(context.Background(), atrium.MessageType(m.op), m.payload); err != nil {
			t.Error(err)
		}
	}
	readMessages(t, client, into, messages, nil)
	if err := client.Close(atrium.StatusGoingAway, "enough"); err != nil {
		t.Errorf("Close = %v", err)
	}
	<-over
}
