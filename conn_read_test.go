package atrium

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// An incomingMessage is a message as Read returns it.
type incomingMessage struct {
	Op   opcode
	Text string
}

// A conversation is a legal stream of frames, and what a reader must make of it.
type conversation struct {
	stream   []byte
	messages []incomingMessage
	pings    []string
}

// Sizes of payloads are drawn from these and their neighbours: where a header changes its form, the
// read buffer ends and direct reads into the message begin.
var payloadSizes = []int{0, 1, 20, 125, 127, 500, smallBuffer - 8, smallBuffer, smallBuffer + 8, 2*smallBuffer + 1, 20_000, 65535, 3*largeBuffer + 1}

// newConversation draws messages, fragments them anywhere, also within runes, and puts control
// frames between. It ends with a message.
func newConversation(r *rand.Rand, p *peer, messages int) *conversation {
	c := &conversation{}
	add := func(h frameHeader, payload string) { c.stream = append(c.stream, p.encode(h, payload)...) }
	controls := func() {
		for r.IntN(4) == 0 {
			payload := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(126))
			if r.IntN(3) == 0 {
				add(frameHeader{Fin: true, Opcode: opPong}, payload)
				continue
			}
			add(frameHeader{Fin: true, Opcode: opPing}, payload)
			c.pings = append(c.pings, payload)
		}
	}
	for range messages {
		size := max(0, payloadSizes[r.IntN(len(payloadSizes))]+r.IntN(3)-1)
		m := incomingMessage{opText, randomUTF8(r, size)}
		if r.IntN(2) == 0 {
			m = incomingMessage{opBinary, randomBytes(r, size)}
		}
		c.messages = append(c.messages, m)
		op, rest := m.Op, m.Text
		controls()
		for range r.IntN(4) {
			cut := r.IntN(len(rest) + 1)
			add(frameHeader{Opcode: op}, rest[:cut])
			op, rest = opContinuation, rest[cut:]
			controls()
		}
		add(frameHeader{Fin: true, Opcode: op}, rest)
	}
	return c
}

// randomUTF8 returns n or few more bytes of UTF-8, in runes of all lengths.
func randomUTF8(r *rand.Rand, n int) string {
	runes := []rune{'a', 'é', '€', '𝄞', utf8.MaxRune, 0, '\uFFFD', '\uD7FF', '\uE000'}
	var b strings.Builder
	for b.Len() < n {
		b.WriteRune(runes[r.IntN(len(runes))])
	}
	return b.String()
}

func randomBytes(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// cutAnywhere cuts a stream into segments, some of a byte, some long.
func cutAnywhere(r *rand.Rand, stream []byte) (segments [][]byte) {
	for len(stream) > 0 {
		n := min(len(stream), 1+r.IntN([]int{1, 10, 200, 5000, 50_000}[r.IntN(5)]))
		segments = append(segments, stream[:n])
		stream = stream[n:]
	}
	return segments
}

// readSome reads n messages, by Read and ReadInto in turn, each with the context that it is given.
func readSome(c *Conn, n int) (messages []incomingMessage, err error) {
	buf := make([]byte, 0, 1000)
	for i := range n {
		var op MessageType
		var p []byte
		if i%2 == 0 {
			op, p, err = c.Read(context.Background())
		} else {
			op, p, err = c.ReadInto(context.Background(), buf)
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, incomingMessage{opcode(op), string(p)})
	}
	return messages, nil
}

// newScriptedConn returns a Conn that receives the segments and then the end of the connection. Its
// peer is for making frames.
func newScriptedConn(client bool, segments ...[]byte) (*Conn, *scriptedConn) {
	nc := &scriptedConn{segments: segments, keep: true}
	return newConn(nc, connConfig{client: client}), nc
}

// Row 17, as a property: the same stream cut anywhere gives the same messages.
func TestReadProperty(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		p := &peer{client: r.IntN(2) == 0}
		want := newConversation(r, p, 1+r.IntN(8))
		segments := cutAnywhere(r, want.stream)
		c, nc := newScriptedConn(!p.client, segments...)
		if r.IntN(3) == 0 { // row 47: some of it came together with the handshake
			c = newConn(nc, connConfig{client: !p.client, early: bytes.Clone(segments[0])})
			nc.segments = segments[1:]
		}
		got, err := readSome(c, len(want.messages))
		if diff := cmp.Diff(want.messages, got); diff != "" || err != nil {
			t.Fatalf("seed %d: %v (-want +got)\n%s", seed, err, diff)
		}
		wantClosed(t, c, StatusAbnormalClosure)
	}
}

func TestReadConversation(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for seed := range uint64(4) {
			r := rand.New(rand.NewPCG(seed, 2))
			want := newConversation(r, p, 6)
			p.send(cutAnywhere(r, want.stream)...)
			done := make(chan []incomingMessage)
			go func() {
				got, err := readSome(c, len(want.messages))
				if err != nil {
					t.Error(err)
				}
				done <- got
			}()
			for _, ping := range want.pings { // rows 13, 14: answered at once and byte for byte
				p.want(opPong, ping)
			}
			if diff := cmp.Diff(want.messages, within(t, done, "the messages")); diff != "" {
				t.Fatalf("seed %d: (-want +got)\n%s", seed, diff)
			}
			wantAlive(t, c, p)
		}
	})
}

// sample is a stream with each thing that a stream may have.
func sample(p *peer) (stream []byte, want []incomingMessage) {
	long := strings.Repeat("é", 100)
	return slices.Concat(
		p.frame(opText, "héllo"),
		p.frame(opBinary, ""),
		p.part(opText, "\xe2\x82"), // row 20: a rune split over fragments is valid
		p.frame(opPing, "ping"),
		p.part(opContinuation, ""),
		p.frame(opContinuation, "\xac!"),
		p.frame(opPong, "nobody asked"),
		p.frame(opText, long),
		p.frame(opBinary, "\xff\xfe"),
	), []incomingMessage{{opText, "héllo"}, {opBinary, ""}, {opText, "€!"}, {opText, long}, {opBinary, "\xff\xfe"}}
}

func TestReadEveryCut(t *testing.T) {
	for _, client := range []bool{false, true} {
		p := &peer{client: !client}
		check := func(t *testing.T, want []incomingMessage, segments ...[]byte) {
			t.Helper()
			c, _ := newScriptedConn(client, segments...)
			got, err := readSome(c, len(want))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("cut behind %d bytes: %v (-want +got)\n%s", len(segments[0]), err, diff)
			}
		}
		t.Run("everything in two", func(t *testing.T) {
			stream, want := sample(p)
			for cut := 1; cut < len(stream); cut++ {
				check(t, want, stream[:cut], stream[cut:])
			}
		})
		t.Run("everything in one", func(t *testing.T) {
			stream, want := sample(p)
			check(t, want, stream)
		})
		t.Run("a header of each form", func(t *testing.T) {
			for _, size := range []int{0, 125, 126, 65535, 65536} {
				text := randomUTF8(rand.New(rand.NewPCG(1, 1)), size-3)
				text += strings.Repeat("a", size-len(text))
				stream := p.frame(opText, text)
				for cut := 1; cut <= min(maxHeaderSize, len(stream)-1); cut++ { // of 14 bytes at most
					check(t, []incomingMessage{{opText, text}}, stream[:cut], stream[cut:])
				}
			}
		})
	}
}

func TestReadPiecemeal(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		stream, want := sample(p)
		check := func(t *testing.T, segments ...[]byte) {
			p.send(segments...)
			for _, m := range want {
				wantMessage(t, c, m.Op, m.Text)
			}
			p.want(opPong, "ping")
		}
		t.Run("bytes one at a time", func(t *testing.T) {
			check(t, slices.Collect(slices.Chunk(stream, 1))...)
		})
		t.Run("frames in one segment", func(t *testing.T) { check(t, stream) })
		wantAlive(t, c, p)
	})
}

// Row 13: the pong comes while the message around the ping still has to.
func TestReadPingWithinMessage(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		texts, _ := readInBackground(c)
		p.send(p.part(opText, "begun, "), p.frame(opPing, "?"))
		p.want(opPong, "?")
		p.send(p.frame(opContinuation, "ended"))
		if got := within(t, texts, "the message"); got != "begun, ended" {
			t.Errorf("got %q", got)
		}
	})
}

// Row 14.
func TestReadPingEchoed(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		readInBackground(c)
		for _, payload := range []string{"", strings.Repeat("p", 125), "\x00\xff\xfe not UTF-8"} {
			p.send(p.frame(opPing, payload))
			p.want(opPong, payload)
		}
	})
}

// Row 15.
func TestReadUnsolicitedPong(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for _, payload := range []string{"", "a", "\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x01", strings.Repeat("p", 125)} {
			p.send(p.frame(opPong, payload))
		}
		wantAlive(t, c, p) // and nothing was answered
	})
}

// Row 16: a peer that sends pings and reads nothing costs a few kilobytes, and gets its latest ping
// answered.
func TestReadPingFlood(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		const pings = 2000
		c, p := s.start(t, UpgradeOptions{})
		payload := func(i int) string { return fmt.Sprintf("%0125d", i) }
		var flood []byte
		for i := range pings {
			flood = append(flood, p.frame(opPing, payload(i))...)
		}
		p.send(flood, p.frame(opText, "done"))
		wantMessage(t, c, opText, "done")
		// The pongs that wait and those that are being written, either at most maxPongs.
		if n := c.out.status().bytes; n > 2*maxPongs {
			t.Errorf("%d bytes are queued, at most %d were expected", n, 2*maxPongs)
		}
		for last := -1; last < pings-1; {
			h, got := p.next()
			i, err := strconv.Atoi(got)
			if h.Opcode != opPong || err != nil || got != payload(i) || i <= last {
				t.Fatalf("got %v %q after the pong %d", h.Opcode, got, last)
			}
			last = i
		}
		wantAlive(t, c, p)
	})
}

func TestReadEmpty(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		t.Run("messages", func(t *testing.T) {
			for _, op := range []opcode{opText, opBinary} {
				p.send(p.frame(op, ""), p.part(op, ""), p.frame(opContinuation, ""))
				for range 2 {
					got, b, err := c.Read(limited(t))
					if err != nil || got != MessageType(op) || b == nil || len(b) != 0 {
						t.Errorf("got %v %#v, %v", got, b, err)
					}
				}
			}
		})
		t.Run("many fragments", func(t *testing.T) {
			stream := p.part(opText, "a")
			stream = append(stream, bytes.Repeat(p.part(opContinuation, ""), 50_000)...)
			p.send(stream, p.frame(opContinuation, "b"))
			wantMessage(t, c, opText, "ab")
		})
		wantAlive(t, c, p)
	})
}

// Row 23: all zeros are a key like any other.
func TestReadZeroMask(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		c, p := setup{k, false}.start(t, UpgradeOptions{})
		p.send(encodeFrame(frameHeader{Fin: true, Opcode: opText, Masked: true, Length: 5}, "plain"))
		wantMessage(t, c, opText, "plain")
	})
}

const testReadLimit = 1000

// violations are streams that end with the first byte that shows the violation.
var violations = []struct {
	name   string
	code   StatusCode
	stream func(p *peer) []byte
}{
	{"1 top bit of the length", 1002, rawHeader(0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0)},
	{"1 all bits of the length", 1002, rawHeader(0x82, 127, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)},
	{"2 length 2^62", 1009, rawHeader(0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0)},
	{"2 length 2^63-1", 1009, rawHeader(0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)},
	{"2 length one over the limit", 1009, rawHeader(0x82, 126, testReadLimit>>8, testReadLimit&0xFF+1)},
	{"2 not the last fragment", 1009, rawHeader(0x02, 126, testReadLimit>>8, testReadLimit&0xFF+1)},
	{"4 fragments one over the limit", 1009, func(p *peer) []byte {
		return slices.Concat(p.part(opBinary, strings.Repeat("x", testReadLimit-1)), p.frame(opPing, "ignored"), p.part(opContinuation, "x"), rawHeader(0x80, 1)(p))
	}},
	{"4 length 2^63-1 after a fragment", 1009, func(p *peer) []byte {
		return append(p.part(opText, "x"), rawHeader(0x80, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)(p)...)
	}},
	{"5 126 with 5", 1002, rawHeader(0x82, 126, 0, 5)},
	{"5 126 with 125", 1002, rawHeader(0x82, 126, 0, 125)},
	{"5 126 with 0", 1002, rawHeader(0x82, 126, 0, 0)},
	{"5 127 with 200", 1002, rawHeader(0x82, 127, 0, 0, 0, 0, 0, 0, 0, 200)},
	{"5 127 with 65535", 1002, rawHeader(0x82, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF)},
	{"6 unmasked text", 1002, wrongMask(opText)},
	{"6 unmasked ping", 1002, wrongMask(opPing)},
	{"6 unmasked close", 1002, wrongMask(opClose)},
	{"7 masked text", 1002, wrongMask(opText)},
	{"7 masked ping", 1002, wrongMask(opPing)},
	{"7 masked close", 1002, wrongMask(opClose)},
	{"8 RSV1", 1002, rawHeader(0x80|0x40|0x1, 1)},
	{"8 RSV2", 1002, rawHeader(0x80|0x20|0x1, 1)},
	{"8 RSV3", 1002, rawHeader(0x80|0x10|0x1, 1)},
	{"8 RSV1 on a fragment", 1002, rawHeader(0x40|0x2, 1)},
	{"8 RSV2 on ping", 1002, rawHeader(0x80|0x20|0x9, 0)},
	{"8 RSV3 on close", 1002, rawHeader(0x80|0x10|0x8, 0)},
	{"8 RSV2 on a continuation", 1002, func(p *peer) []byte {
		return append(p.part(opText, "x"), rawHeader(0x80|0x20, 1)(p)...)
	}},
	{"9 RSV1 on ping", 1002, rawHeader(0x80|0x40|0x9, 0)},
	{"9 RSV1 on pong", 1002, rawHeader(0x80|0x40|0xA, 0)},
	{"9 RSV1 on close", 1002, rawHeader(0x80|0x40|0x8, 0)},
	{"9 RSV1 on a continuation", 1002, func(p *peer) []byte {
		return append(p.part(opText, "x"), rawHeader(0x80|0x40, 1)(p)...)
	}},
	{"10 opcode 3", 1002, rawHeader(0x83, 0)},
	{"10 opcode 4", 1002, rawHeader(0x84, 0)},
	{"10 opcode 5", 1002, rawHeader(0x85, 0)},
	{"10 opcode 6", 1002, rawHeader(0x86, 0)},
	{"10 opcode 7", 1002, rawHeader(0x87, 0)},
	{"10 opcode 11", 1002, rawHeader(0x8B, 0)},
	{"10 opcode 12", 1002, rawHeader(0x8C, 0)},
	{"10 opcode 13", 1002, rawHeader(0x8D, 0)},
	{"10 opcode 14", 1002, rawHeader(0x8E, 0)},
	{"10 opcode 15", 1002, rawHeader(0x8F, 0)},
	{"11 ping that is not final", 1002, rawHeader(0x09, 0)},
	{"11 pong that is not final", 1002, rawHeader(0x0A, 0)},
	{"11 close that is not final", 1002, rawHeader(0x08, 2)},
	{"11 ping of 126 bytes", 1002, rawHeader(0x89, 126, 0, 126)},
	{"11 pong of 65536 bytes", 1002, rawHeader(0x8A, 127, 0, 0, 0, 0, 0, 1, 0, 0)},
	{"11 close of 126 bytes", 1002, rawHeader(0x88, 126, 0, 126)},
	{"12 continuation of nothing", 1002, rawHeader(0x80, 0)},
	{"12 first continuation of nothing", 1002, rawHeader(0x00, 0)},
	{"12 continuation after the end", 1002, func(p *peer) []byte {
		return slices.Concat(p.part(opText, "x"), p.frame(opContinuation, "y"), rawHeader(0x80, 0)(p))
	}},
	{"12 text within a message", 1002, func(p *peer) []byte { return append(p.part(opBinary, ""), rawHeader(0x81, 1)(p)...) }},
	{"12 binary within a message", 1002, func(p *peer) []byte { return append(p.part(opText, "x"), rawHeader(0x02, 1)(p)...) }},
}

// rawHeader returns the bytes of a header, the mask excepted: that depends on the role.
func rawHeader(b ...byte) func(*peer) []byte {
	return func(p *peer) []byte {
		b := bytes.Clone(b)
		if p.client {
			b[1] |= 0x80
			b = append(b, 1, 2, 3, 4)
		}
		return b
	}
}

func wrongMask(op opcode) func(*peer) []byte {
	return func(p *peer) []byte {
		return appendHeader(nil, frameHeader{Fin: true, Opcode: op, Masked: !p.client, Length: 2})
	}
}

func TestReadViolation(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, v := range violations {
			if strings.HasPrefix(v.name, "6 ") && s.client || strings.HasPrefix(v.name, "7 ") && !s.client {
				continue // who must mask and who must not depends on the role
			}
			t.Run(v.name, func(t *testing.T) {
				c, p := s.start(t, UpgradeOptions{MaxMessageBytes: testReadLimit})
				limit := strings.Repeat("x", testReadLimit)
				p.send(slices.Concat(p.frame(opText, limit), v.stream(p)))
				wantMessage(t, c, opText, limit) // what came before counts
				_, got, err := c.Read(limited(t))
				if string(got) == "xy" { // one more message, before the violation
					_, _, err = c.Read(limited(t))
				}
				if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != v.code || e.Reason == "" {
					t.Fatalf("Read: %v, want %d and a reason", err, v.code)
				}
				if !errors.Is(err, ErrClosed) || errors.Is(err, ErrMessageTooBig) != (v.code == 1009) {
					t.Errorf("%v matches the wrong sentinels", err)
				}
				if _, _, again := c.Read(limited(t)); again != err {
					t.Errorf("the next Read: %v, want %v", again, err)
				}
				if c.State() == StateOpen {
					t.Error("the state is still OPEN")
				}
				for {
					h, payload := p.next()
					if h.Opcode == opPong {
						continue
					}
					if want := closePayload(v.code, err.(*CloseError).Reason); h.Opcode != opClose || payload != want {
						t.Fatalf("got %v %q, want a close frame with %q", h.Opcode, payload, want)
					}
					break
				}
				p.nc.Close()
				c.finish()
				if got := c.State(); got != StateClosed {
					t.Errorf("at last the state is %v", got)
				}
			})
		}
	})
}

// The limit is a message's: with fragments, pings between them, and anew for each message.
func TestReadLimit(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{MaxMessageBytes: testReadLimit})
		third, rest := strings.Repeat("x", testReadLimit/3), strings.Repeat("y", testReadLimit-2*(testReadLimit/3))
		for range 3 {
			p.send(p.part(opBinary, third), p.frame(opPing, strings.Repeat("p", 125)), p.part(opContinuation, third), p.frame(opContinuation, rest))
			wantMessage(t, c, opBinary, third+third+rest)
			p.want(opPong, strings.Repeat("p", 125))
		}
	})
}

// Row 3: memory grows with what was received, not with what a header announces.
func TestReadMemory(t *testing.T) {
	const declared = 16 << 20
	for _, sent := range []int{1, 5000, 1 << 20} {
		t.Run(fmt.Sprintf("%d of 16 MB", sent), func(t *testing.T) {
			// A buffer that doubles costs its size thrice at most, garbage included; the rest is
			// the read buffer.
			wantAllocated(t, 4*sent+32<<10, StatusAbnormalClosure, func(p *peer) []byte {
				header := appendHeader(nil, frameHeader{Fin: true, Opcode: opBinary, Masked: p.client, Length: declared})
				return append(header, make([]byte, sent)...)
			})
		})
	}
}

// A message that comes in many fragments, empty ones too, takes no more memory than one that comes
// in one.
func TestReadMemoryOfFragments(t *testing.T) {
	const n = 1000
	for _, size := range []int{0, 1000} {
		wantAllocated(t, 4*size*n+32<<10, StatusAbnormalClosure, func(p *peer) []byte {
			stream := p.part(opBinary, "")
			return append(stream, bytes.Repeat(p.part(opContinuation, strings.Repeat("x", size)), n)...)
		})
	}
}

// wantAllocated checks how many bytes it takes to read a stream that ends the connection with the
// code, or is cut off.
func wantAllocated(t *testing.T, most int, code StatusCode, stream func(*peer) []byte) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		least := math.MaxInt
		for try := 0; try < 10 && least > most; try++ { // other goroutines may allocate, too
			c, p := s.start(t, UpgradeOptions{MaxMessageBytes: 16 << 20})
			p.send(stream(p))
			go func(sent <-chan struct{}) {
				<-sent
				p.nc.Close()
			}(p.sent())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err := c.Read(context.Background())
			runtime.ReadMemStats(&after)
			if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != code {
				t.Fatalf("got %v, want %d", err, code)
			}
			least = min(least, int(after.TotalAlloc-before.TotalAlloc))
		}
		if least > most {
			t.Errorf("%d bytes were allocated, at most %d were expected", least, most)
		}
	})
}

// What is not UTF-8 begins with the first bytes, which are fine, and is betrayed by the last one.
var notUTF8 = []struct {
	name       string
	fine, last string
}{
	{"overlong C0", "abc", "\xc0"},
	{"overlong C1", "", "\xc1"},
	{"overlong E0 80", "é\xe0", "\x80"},
	{"overlong F0 8F", "\xf0", "\x8f"},
	{"surrogate ED A0", "abc\xed", "\xa0"},
	{"surrogate ED BF", "\xed", "\xbf"},
	{"above 10FFFF: F4 90", "𝄞\xf4", "\x90"},
	{"above 10FFFF: F5", "€", "\xf5"},
	{"FF", "", "\xff"},
	{"continuation byte alone", "a", "\x80"},
	{"lead byte after a lead byte", "\xe2\x82", "\xe2"},
	{"ASCII after a lead byte", "\xf0\x9d\x84", "a"},
}

// Row 19: the verdict falls at the first byte that no valid text could have, before the frame or
// the message ends.
func TestReadNotUTF8(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		ways := []struct {
			name string
			send func(p *peer, fine, last string)
		}{
			{"a frame", func(p *peer, fine, last string) {
				b := p.frame(opText, fine+last+strings.Repeat("x", 500))
				p.send(b[:len(b)-500])
			}},
			{"a long frame", func(p *peer, fine, last string) {
				pad := strings.Repeat("é", smallBuffer)
				b := p.frame(opText, pad+fine+last+strings.Repeat("x", 50_000))
				p.send(b[:len(b)-50_000])
			}},
			{"byte by byte", func(p *peer, fine, last string) {
				b := p.frame(opText, fine+last+strings.Repeat("x", 500))
				p.send(slices.Collect(slices.Chunk(b[:len(b)-500], 1))...)
			}},
			{"fragments", func(p *peer, fine, last string) {
				p.send(p.part(opText, fine), p.part(opContinuation, ""), p.part(opContinuation, last))
			}},
		}
		noLeaks(t)
		for _, bad := range notUTF8 {
			for _, way := range ways {
				t.Run(bad.name+", "+way.name, func(t *testing.T) {
					c, p := s.start(t, UpgradeOptions{})
					way.send(p, bad.fine, bad.last)
					e := wantClosed(t, c, StatusInvalidPayload)
					p.wantClose(1007, e.Reason)
					p.nc.Close()
				})
			}
		}
	})
}

// A text must not end within a rune. The same bytes are fine in a binary message.
func TestReadTruncatedUTF8(t *testing.T) {
	overRoles(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for _, text := range []string{"\xc3", "abc\xe2\x82", "\xf0\x9d\x84", strings.Repeat("x", 10_000) + "\xf0"} {
			ways := []struct {
				name   string
				stream func(p *peer, op opcode) []byte
			}{
				{"in a frame", func(p *peer, op opcode) []byte { return p.frame(op, text) }},
				{"at the end of the last fragment", func(p *peer, op opcode) []byte {
					return append(p.part(op, text[:len(text)-1]), p.frame(opContinuation, text[len(text)-1:])...)
				}},
				{"before an empty last fragment", func(p *peer, op opcode) []byte {
					return append(p.part(op, text), p.frame(opContinuation, "")...)
				}},
			}
			for _, way := range ways {
				t.Run(fmt.Sprintf("truncated: %d bytes, %s", len(text), way.name), func(t *testing.T) {
					c, p := s.start(t, UpgradeOptions{})
					p.send(way.stream(p, opBinary), way.stream(p, opText))
					wantMessage(t, c, opBinary, text)
					e := wantClosed(t, c, StatusInvalidPayload)
					p.wantClose(1007, e.Reason)
					p.nc.Close()
				})
			}
		}
	})
}

// A Read whose context ends at any point of the stream loses nothing, also if the buffer that it
// was given serves something else in between.
func TestReadResumes(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		stream, want := sample(p)
		buf := make([]byte, 0, 16) // too small for some of the messages
		read := func(ctx context.Context, i int) (incomingMessage, error) {
			if i%2 == 0 {
				op, b, err := c.Read(ctx)
				return incomingMessage{opcode(op), string(b)}, err
			}
			op, b, err := c.ReadInto(ctx, buf)
			m := incomingMessage{opcode(op), string(b)}
			clear(buf[:cap(buf)])
			return m, err
		}
		for cut := range stream {
			p.send(stream[:cut])
			ctx := p.untilSent()
			var got []incomingMessage
			for {
				m, err := read(ctx, cut)
				if err == context.Canceled {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, m)
			}
			p.send(stream[cut:])
			for len(got) < len(want) {
				m, err := read(limited(t), cut/2)
				if err != nil {
					t.Fatalf("cut behind %d bytes, %d messages: %v", cut, len(got), err)
				}
				got = append(got, m)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("cut behind %d bytes: (-want +got)\n%s", cut, diff)
			}
			p.want(opPong, "ping")
		}
	})
}

// A large message, which is read past the buffer, is resumed as well.
func TestReadResumesLarge(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		text := randomUTF8(rand.New(rand.NewPCG(3, 3)), 200_000)
		buf := make([]byte, 0, 300_000)
		for range 3 {
			interruptReads(t, c, p, p.frame(opText, text), 30_001, buf)
			_, got, err := c.ReadInto(limited(t), buf)
			if err != nil || string(got) != text {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
		}
	})
}

// interruptReads sends a message in pieces of size bytes, and reads into buf after each but the
// last, until a context ends. The message is left to be read.
func interruptReads(t *testing.T, c *Conn, p *peer, stream []byte, size int, buf []byte) {
	t.Helper()
	last := len(stream) - 10
	for piece := range slices.Chunk(stream[:last], size) {
		p.send(piece)
		if _, _, err := c.ReadInto(p.untilSent(), buf); err != context.Canceled {
			t.Fatalf("got %v, want %v", err, context.Canceled)
		}
		clear(buf[:cap(buf)])
	}
	p.send(stream[last:])
}

// A context bounds the wait of one call, of whatever kind, and never harms the connection.
func TestContextHarmsNothing(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		for range 5 {
			cancelled, cancel := context.WithCancel(context.Background())
			cancel()
			if _, _, err := c.Read(cancelled); err != context.Canceled {
				t.Errorf("Read, context cancelled: %v", err)
			}
			idle, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			if _, _, err := c.Read(idle); err != context.DeadlineExceeded {
				t.Errorf("Read, deadline passed: %v", err)
			}
			cancel()
			wantAlive(t, c, p)
		}
	})
}

// A context that ends at the moment data arrives loses nothing.
func TestReadCancelledWhileDataArrives(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		const messages = 400
		c, p := s.start(t, UpgradeOptions{})
		r := rand.New(rand.NewPCG(4, 4))
		ended, sent := 0, -1
		buf := make([]byte, 0, 100)
		for i := 0; i < messages; {
			if sent < i {
				sent = i
				p.send(cutAnywhere(r, p.frame(opText, numbered(i, r.IntN(300))))...)
			}
			ctx, cancel := context.WithCancel(context.Background())
			go cancel()
			_, b, err := c.ReadInto(ctx, buf)
			if err == context.Canceled {
				ended++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := numbered(i, len(b)); string(b) != want {
				t.Fatalf("got %q, want %q", b, want)
			}
			i++
		}
		t.Logf("%d of the Reads were cancelled", ended)
		wantAlive(t, c, p)
	})
}

func TestReadIntoAllocations(t *testing.T) {
	for _, size := range []int{0, 100, 4000, 100_000} {
		for _, client := range []bool{false, true} {
			p := &peer{client: !client}
			frame := p.frame(opBinary, strings.Repeat("x", size))
			c, nc := newScriptedConn(client)
			buf, one := make([]byte, 0, size), make([][]byte, 1)
			run := func() {
				one[0] = frame
				nc.segments = one
				_, b, err := c.ReadInto(context.Background(), buf)
				if err != nil || len(b) != size || size > 0 && &b[0] != &buf[:1][0] {
					t.Fatalf("%d bytes, %v, or not in the buffer given", len(b), err)
				}
			}
			// Goroutines that earlier tests leave to end may allocate, too: the smallest of some
			// counts is this one's.
			if n := min(testing.AllocsPerRun(20, run), testing.AllocsPerRun(20, run), testing.AllocsPerRun(20, run)); n != 0 {
				t.Errorf("%d bytes, client=%t: %v allocations", size, client, n)
			}
		}
	}
}

// The slice that Read returns is the caller's.
func TestReadReturnsTheCallersSlice(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.start(t, UpgradeOptions{})
		var texts []string
		for i, n := range []int{10, 10, 5000, 10, 10_000, 300} {
			texts = append(texts, numbered(i, n))
			p.send(p.part(opText, texts[i][:n/2]), p.frame(opContinuation, texts[i][n/2:]), p.frame(opText, texts[i]))
		}
		var kept [][]byte
		for range 2 * len(texts) {
			_, b, err := c.Read(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, b)
		}
		for i, b := range kept {
			if string(b) != texts[i/2] {
				t.Errorf("message %d has changed", i)
			}
		}
	})
}

// Timeouts.Message is measured from partialSince, the heartbeat by reads.
func TestReadPartialSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := startPipe(t, false, UpgradeOptions{})
		texts, _ := readInBackground(c)
		synctest.Wait()
		since := func(want time.Duration) {
			t.Helper()
			synctest.Wait()
			got := time.Duration(0)
			if s := c.partialSince.Load(); s != 0 {
				got = time.Duration(nanotime() - s)
			}
			if got != want {
				t.Errorf("a message is unfinished for %v, want %v", got, want)
			}
		}
		since(0)
		whole := p.frame(opText, "hello")
		p.send(whole[:1])
		synctest.Wait()
		<-time.After(time.Second)
		since(time.Second)
		p.send(whole[1:8])
		<-time.After(time.Second)
		since(2 * time.Second)
		p.send(whole[8:])
		since(0)
		<-texts

		reads := c.reads.Load()
		p.send(p.part(opText, "a"))
		synctest.Wait()
		<-time.After(time.Second)
		p.send(p.frame(opPing, ""), p.part(opContinuation, "b")) // neither ends the message
		p.want(opPong, "")
		<-time.After(time.Second)
		since(2 * time.Second)
		if n := c.reads.Load() - reads; n != 3 {
			t.Errorf("bytes came %d times, want 3", n)
		}
		p.send(p.frame(opContinuation, "c"))
		since(0)

		ping := p.frame(opPing, "ping") // a control frame that stops midway keeps the connection waiting, too
		p.send(ping[:3])
		synctest.Wait()
		<-time.After(time.Second)
		since(time.Second)
		p.send(ping[3:])
		p.want(opPong, "ping")
		since(0)
	})
}

// BenchmarkRead parses, unmasks and checks small text messages that came 4 KB at a time.
func BenchmarkRead(b *testing.B) {
	p := &peer{client: true}
	for _, size := range []int{16, 125, 1000} {
		frame := p.frame(opText, strings.Repeat("é", size/2))
		stream := bytes.Repeat(frame, smallBuffer/len(frame))
		for _, into := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/into=%t", size, into), func(b *testing.B) {
				c, nc := newScriptedConn(false, stream)
				nc.again = true
				buf := make([]byte, 0, size)
				ctx := context.Background()
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					var err error
					if into {
						_, _, err = c.ReadInto(ctx, buf)
					} else {
						_, _, err = c.Read(ctx)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
