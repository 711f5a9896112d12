package fuzz

import (
	"bytes"
	"context"
	"errors"
	"net"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/atrium-go/atrium"
)

// streamSettings are how a stream is fed to a Conn, drawn from one number of the fuzz input.
type streamSettings struct {
	role      role   // of the Conn
	medium    medium // below it
	into      bool   // ReadInto in place of Read
	early     bool   // the first piece comes together with the handshake
	interrupt bool   // contexts of Reads end while they wait
	limit     int    // MaxMessageBytes
	deflate   bool   // compression is agreed on
}

func settings(n uint8) streamSettings {
	return streamSettings{
		role:      n&1 != 0,
		medium:    n&2 != 0,
		into:      n&4 != 0,
		early:     n&8 != 0,
		interrupt: n&16 != 0,
		deflate:   n&128 != 0,
		limit:     []int{64 << 20, 0, 125, 6000}[n>>5&3],
	}
}

// cut cuts a stream into pieces of lengths[i]+1 bytes, over and over; what is behind the thousandth
// is one piece.
func cut(stream, lengths []byte) (pieces [][]byte) {
	for i := 0; i < 1000 && len(lengths) > 0 && len(stream) > 0; i++ {
		n := min(int(lengths[i%len(lengths)])+1, len(stream))
		pieces, stream = append(pieces, stream[:n]), stream[n:]
	}
	return append(pieces, stream)
}

// outcome is what became of a stream.
type outcome struct {
	messages []message
	err      *atrium.CloseError
	sent     []byte // by the Conn
}

// feed sends the pieces to a new Conn, reads it to its end, and closes it. unfinished says that
// nothing in the stream ends the connection.
func (s streamSettings) feed(t *testing.T, u *upgrader, n *network, pieces [][]byte, unfinished bool) (o outcome) {
	var reading interruptible
	opened := make(chan struct{})
	conn, p := u.open(t, n, s.medium, s.role, s.limit, s.deflate, func(nc net.Conn, head string) {
		if s.early {
			head, pieces = head+string(pieces[0]), pieces[1:]
		}
		nc.Write([]byte(head))
		for _, piece := range pieces {
			if s.interrupt {
				reading.end()
			}
			if _, err := nc.Write(piece); err != nil {
				return
			}
		}
		<-opened
		if s.medium == overSocket || unfinished {
			hangUp(nc)
			return
		}
		// On a pipe the Conn could not send its close frame any more. If there comes none, readAll
		// hangs up.
		nc.SetReadDeadline(time.Now().Add(patience / 5))
	})
	close(opened)
	sent := make(chan []byte, 1)
	go func() { sent <- p.readAll(nil) }()

	var buf []byte
	for {
		var m message
		var kind atrium.MessageType
		var err error
		ctx := context.Background()
		if s.interrupt {
			ctx = reading.begin()
		}
		if s.into {
			var got []byte
			kind, got, err = conn.ReadInto(ctx, buf)
			m.payload = bytes.Clone(got)
			buf = got[:cap(got)]
			for i := range buf {
				buf[i] = 0xEE // what is kept of an unfinished message must not lie here
			}
			buf = buf[:min(len(buf), 64)]
		} else {
			kind, m.payload, err = conn.Read(ctx)
		}
		m.op = opcode(kind)
		if s.interrupt && errors.Is(err, context.Canceled) {
			continue
		}
		if err != nil {
			o.err = asCloseError(t, err)
			break
		}
		o.messages = append(o.messages, m)
	}
	if _, _, again := conn.Read(context.Background()); again != error(o.err) {
		t.Errorf("the second error is %v, the first was %v", again, o.err)
	}
	conn.Close(atrium.StatusNormalClosure, "") // waits for the end; what it returns depends on the stream
	o.sent = <-sent
	if conn.State() != atrium.StateClosed {
		t.Errorf("after its end the Conn is %v", conn.State())
	}
	return o
}

// interruptible hands out contexts and ends the latest.
type interruptible struct {
	mu     sync.Mutex
	cancel context.CancelFunc
}

func (i *interruptible) begin() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cancel != nil {
		i.cancel()
	}
	i.cancel = cancel
	return ctx
}

func (i *interruptible) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cancel != nil {
		i.cancel()
	}
}

// check compares an outcome with what the reference makes of the stream.
func (s streamSettings) check(t *testing.T, o outcome, want reception) {
	if !sameMessages(o.messages, want.messages) {
		t.Errorf("the messages are %v, want %v", o.messages, want.messages)
	}
	if !slices.Contains(want.codes, o.err.Code) || want.closed && o.err.Reason != want.reason {
		t.Errorf("reading ended with %v, want one of the codes %d", o.err, want.codes)
	}

	// What the Conn has sent: pongs, and a close frame if there is anyone to send it to.
	answer := receiver{fromClient: s.role == asClient, deflate: s.deflate}.receive(o.sent)
	if len(answer.messages) > 0 || len(answer.pings) > 0 || len(answer.rest) > 0 {
		t.Errorf("the Conn has sent %q", o.sent)
	}
	if o.err.Code == atrium.StatusAbnormalClosure {
		// A frame may have been cut by the end of the network connection.
		if answer.codes[0] != atrium.StatusAbnormalClosure {
			t.Errorf("the Conn has sent %q although the connection was over", o.sent)
		}
	} else {
		code := o.err.Code
		if !answer.closed || answer.codes[0] != code && !(code == atrium.StatusNoStatusReceived && answer.codes[0] == atrium.StatusNormalClosure) {
			t.Errorf("the Conn closes with %d %q, its reader says %v; it has sent %q", answer.codes, answer.reason, o.err, o.sent)
		}
		if len(want.pings) > 0 && (len(answer.pongs) == 0 || !bytes.Equal(answer.pongs[len(answer.pongs)-1], want.pings[len(want.pings)-1])) {
			t.Errorf("the last ping is not answered: pings %q, pongs %q", want.pings, answer.pongs)
		}
	}
	// RFC 6455 §5.5.3: pongs may be left out, not invented.
	pings := want.pings
	for _, pong := range answer.pongs {
		i := slices.IndexFunc(pings, func(ping []byte) bool { return bytes.Equal(ping, pong) })
		if i < 0 {
			t.Fatalf("the pongs %q do not answer the pings %q", answer.pongs, want.pings)
		}
		pings = pings[i+1:]
	}
}

// allocated is how many bytes this process has allocated. The runtime counts some hundred kilobytes
// late.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// lead is a fragment of n bytes, or for even n a message, to put in front of a stream: inputs stay
// small, for which the fuzzer is much faster, and yet messages get larger than any buffer. There is
// none if n is 0.
func lead(n uint16, r role) []byte {
	if n == 0 {
		return nil
	}
	h := header{Fin: n%2 == 0, Opcode: opText, Masked: r == asServer, Key: [4]byte{1, 2, 3, 4}}
	return appendFrame(nil, h, bytes.Repeat([]byte("€"), int(n)/3+1)[:n])
}

// FuzzConn feeds any stream to a server's or a client's Conn, whole and in pieces.
func FuzzConn(f *testing.F) {
	n, u := newNetwork(f), newUpgrader(f)
	const (
		hello   = "\x81\x85\x01\x02\x03\x04igohn"
		again   = "\x81\x02hi"
		goodbye = "\x88\x82\x00\x00\x00\x00\x03\xe8"
	)
	compressed := appendFrame(nil, header{Fin: true, Rsv1: true, Opcode: opText, Masked: true}, slowDeflate([]byte("hello hello"), 1))
	for config := range uint8(1 << 7) {
		if config%8 == 0 {
			f.Add(slices.Concat(compressed, []byte(goodbye)), []byte{0}, uint16(config)*2, config|1<<7)
		}
		f.Add([]byte(hello+goodbye+hello), []byte{0}, uint16(config)%9*1000, config)
		f.Add([]byte(again+again+"\x88\x00"), []byte{250, 1}, uint16(config)%5*4095, config)
	}
	f.Fuzz(func(t *testing.T, stream, lengths []byte, before uint16, config uint8) {
		s := settings(config)
		limit := s.limit
		if limit == 0 {
			limit = 1 << 20
		}
		if s.deflate {
			stream = stream[:min(len(stream), 8<<10)] // a longer message is looked into before it is whole
		}
		stream = append(lead(before, s.role), stream...)
		want := receiver{s.role == asServer, limit, s.deflate}.receive(stream)
		unfinished := want.codes[0] == atrium.StatusAbnormalClosure

		done, start := guard(t), allocated()
		whole := s.feed(t, u, n, [][]byte{stream}, unfinished)
		most := 2<<20 + 16*len(stream)
		if s.deflate {
			most += 4 * 1032 * len(stream) // of a byte, deflate can make that many
		}
		if bytes := allocated() - start; bytes > uint64(most) {
			t.Errorf("a stream of %d bytes made the Conn allocate %d, more than %d", len(stream), bytes, most)
		}
		s.check(t, whole, want)
		for _, m := range whole.messages {
			if len(m.payload) > limit || m.op == opText && !utf8.Valid(m.payload) {
				t.Errorf("Read has let through %v", m)
			}
		}

		pieces := s.feed(t, u, n, cut(stream, lengths), unfinished)
		s.check(t, pieces, want)
		if !sameMessages(whole.messages, pieces.messages) || whole.err.Code != pieces.err.Code || whole.err.Reason != pieces.err.Reason {
			t.Errorf("whole: %v, %v\nin pieces: %v, %v", whole.messages, whole.err, pieces.messages, pieces.err)
		}
		done()
	})
}
