package atrium

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// startDeflate connects a Conn that has agreed with its peer on compression, by a handshake of
// Upgrade or Dial in which the peer's header has the parameters.
func (s setup) startDeflate(t testing.TB, opts UpgradeOptions, parameters string) (*Conn, *peer) {
	t.Helper()
	opts.Compression.Level = max(opts.Compression.Level, 1)
	if !s.client {
		conns := make(chan *Conn, 1)
		srv := serve(t, s.kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := Upgrade(w, r, opts)
			if err != nil {
				t.Error(err)
			}
			conns <- c
		}))
		nc, early := srv.upgrade(t, "Sec-WebSocket-Extensions: permessage-deflate"+parameters)
		c := within(t, conns, "Upgrade")
		if !c.compression.agreed() {
			t.Fatal("compression was not agreed on")
		}
		t.Cleanup(func() { c.CloseNow() })
		return c, newPeer(t, nc, early, true)
	}
	accepted, over := make(chan net.Conn), make(chan struct{})
	srv := dialScript(t, s.kind, func(nc net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(nc))
		if err != nil {
			t.Error(err)
			return
		}
		if got := r.Header["Sec-Websocket-Extensions"]; len(got) != 1 || got[0] != offerDeflate() {
			t.Errorf("the offer is %q", got)
		}
		answer := "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover" + parameters
		io.WriteString(nc, switching(acceptKey(r.Header.Get("Sec-WebSocket-Key")), answer))
		accepted <- nc
		<-over
	})
	dialed := make(chan struct{})
	var c *Conn
	go func() {
		defer close(dialed)
		var err error
		c, _, err = Dial(limited(t), srv.url("/"), srv.trusting(DialOptions{
			MaxMessageBytes: opts.MaxMessageBytes, MaxQueuedBytes: opts.MaxQueuedBytes,
			Compression: opts.Compression,
		}))
		if err != nil {
			t.Error(err)
		}
	}()
	nc := within(t, accepted, "Dial")
	t.Cleanup(func() { close(over) })
	within(t, dialed, "Dial's return")
	if c == nil || !c.compression.agreed() {
		t.Fatal("compression was not agreed on")
	}
	t.Cleanup(func() { c.CloseNow() })
	return c, newPeer(t, nc, nil, false)
}

// deflated returns a message as any compressor might have it.
func deflated(message string) string {
	return string(deflateParams{windowBits: 15}.compress(nil, []byte(message), 6))
}

// compressed returns a whole message that is sent compressed.
func (p *peer) compressed(op opcode, payload string) []byte {
	return p.encode(frameHeader{Fin: true, Rsv1: true, Opcode: op}, payload)
}

// inFragments returns a compressed message in fragments of so many bytes, and an empty last one.
func (p *peer) inFragments(op opcode, payload string, size int) (frames [][]byte) {
	h := frameHeader{Rsv1: true, Opcode: op}
	for piece := range slices.Chunk([]byte(payload), size) {
		frames = append(frames, p.encode(h, string(piece)))
		h = frameHeader{Opcode: opContinuation}
	}
	h.Fin = true
	return append(frames, p.encode(h, ""))
}

// wantInflated expects the next frame to be a compressed message, and returns how many bytes it
// took.
func (p *peer) wantInflated(op opcode, text string) int {
	p.t.Helper()
	h, payload := p.next()
	if h.Opcode != op || !h.Fin || !h.Rsv1 || h.Rsv2 || h.Rsv3 {
		p.t.Fatalf("got %+v %.100q, want a compressed %v", h, payload, op)
	}
	if out, err := inflate(nil, []byte(payload), 1<<30, false); err != nil || string(out) != text {
		p.t.Fatalf("got %.100q, %v; want %.100q", out, err, text)
	}
	return len(payload)
}

// wantViolation expects the Conn to end with the code, on both sides.
func wantViolation(t *testing.T, c *Conn, p *peer, code StatusCode) {
	t.Helper()
	e := wantClosed(t, c, code)
	p.wantClose(code, e.Reason)
	p.nc.Close()
	c.finish()
}

// Row 9: with compression agreed on, RSV1 is still illegal on control and continuation frames, and
// RSV2 and RSV3 anywhere.
func TestDeflateReservedBits(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for name, frames := range map[string]func(p *peer) []byte{
			"ping":         func(p *peer) []byte { return p.compressed(opPing, "") },
			"pong":         func(p *peer) []byte { return p.compressed(opPong, "") },
			"close":        func(p *peer) []byte { return p.compressed(opClose, "\x03\xe8") },
			"continuation": func(p *peer) []byte { return append(p.part(opText, "a"), p.compressed(opContinuation, "b")...) },
			"continuation of a compressed message": func(p *peer) []byte {
				return append(p.encode(frameHeader{Rsv1: true, Opcode: opText}, "\xf2"), p.compressed(opContinuation, "\x48")...)
			},
			"RSV2": func(p *peer) []byte { return p.encode(frameHeader{Fin: true, Rsv2: true, Opcode: opText}, "") },
			"RSV3": func(p *peer) []byte { return p.encode(frameHeader{Fin: true, Rsv3: true, Opcode: opText}, "") },
			"RSV1 and RSV2": func(p *peer) []byte {
				return p.encode(frameHeader{Fin: true, Rsv1: true, Rsv2: true, Opcode: opText}, "\x00")
			},
		} {
			t.Run(name, func(t *testing.T) {
				c, p := s.startDeflate(t, UpgradeOptions{}, "")
				p.send(frames(p))
				wantViolation(t, c, p, StatusProtocolError)
			})
		}
		t.Run("not agreed on", func(t *testing.T) { // row 8
			c, p := s.start(t, UpgradeOptions{Compression: Compression{Level: 1}})
			p.send(p.compressed(opText, deflated("hello")))
			wantViolation(t, c, p, StatusProtocolError)
		})
	})
}

// Row 21: UTF-8 is checked after inflating, and in a long message before all of it has come.
func TestDeflateUTF8(t *testing.T) {
	noise := func(n int) string { // text that does not become much smaller
		r := rand.New(rand.NewPCG(21, 21))
		b := make([]byte, n)
		for i := range b {
			b[i] = ' ' + byte(r.IntN(95))
		}
		return string(b)
	}
	bad := []string{"row 19/truncated", "abc\xe2\x82"}
	for _, test := range notUTF8 {
		bad = append(bad, test.name, test.fine+test.last)
	}
	long := deflated("\xff" + noise(200_000))
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for i := 0; i < len(bad); i += 2 {
			t.Run(bad[i], func(t *testing.T) {
				c, p := s.startDeflate(t, UpgradeOptions{}, "")
				if i%4 == 0 {
					p.send(p.compressed(opText, deflated(bad[i+1])))
				} else {
					p.send(p.inFragments(opText, deflated(bad[i+1]), 3)...)
				}
				wantViolation(t, c, p, StatusInvalidPayload)
			})
		}
		t.Run("long", func(t *testing.T) {
			c, p := s.startDeflate(t, UpgradeOptions{}, "")
			p.send(p.compressed(opText, long))
			wantViolation(t, c, p, StatusInvalidPayload)
		})
		t.Run("valid", func(t *testing.T) {
			c, p := s.startDeflate(t, UpgradeOptions{}, "")
			for _, text := range []string{"€", strings.Repeat("𝄞é€", 50), noise(20_000) + "€" + noise(20_000)} {
				p.send(p.inFragments(opText, deflated(text), 1+len(text)/100)...)
				wantMessage(t, c, opText, text)
			}
			p.send(p.compressed(opBinary, deflated("\xff\xfe")))
			wantMessage(t, c, opBinary, "\xff\xfe")
			wantAlive(t, c, p)
		})
	})
}

// Row 56: a message is bounded by what it inflates to, and a bomb is not inflated beyond that.
func TestDeflateBomb(t *testing.T) {
	const limit = 128 << 10 // little, because compressing and inflating under the race detector is slow
	opts := UpgradeOptions{MaxMessageBytes: limit}
	bomb := string(bomb(1 << 30))
	noise, full := string(random(limit/2)), string(random(limit))
	noisy, large := deflated(noise+strings.Repeat("x", limit)), deflated(strings.Repeat("x", limit+1))
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for name, frames := range map[string]func(p *peer) [][]byte{
			"1 GB in one frame": func(p *peer) [][]byte { return [][]byte{p.compressed(opBinary, bomb)} },
			"1 GB in fragments": func(p *peer) [][]byte { return p.inFragments(opText, bomb, 10_000) },
			"a small one": func(p *peer) [][]byte {
				return [][]byte{p.compressed(opBinary, large)}
			},
			"in small fragments": func(p *peer) [][]byte { return p.inFragments(opText, large, 10) },
			"behind what does not compress": func(p *peer) [][]byte {
				return [][]byte{p.compressed(opBinary, noisy)}
			},
			"nothing, at length": func(p *peer) [][]byte {
				return [][]byte{p.compressed(opBinary, strings.Repeat("\x00\x00\x00\xff\xff", limit/4))}
			},
			"the same, in fragments": func(p *peer) [][]byte {
				return p.inFragments(opBinary, strings.Repeat("\x00\x00\x00\xff\xff", limit/4), 100_000)
			},
		} {
			t.Run(name, func(t *testing.T) {
				c, p := s.startDeflate(t, opts, "")
				p.send(frames(p)...)
				wantViolation(t, c, p, StatusMessageTooBig)
			})
		}
		t.Run("behind another message, noticed early", func(t *testing.T) {
			c, p := s.startDeflate(t, opts, "")
			p.send(p.compressed(opBinary, deflated(noise)))
			wantMessage(t, c, opBinary, noise)
			p.send(p.compressed(opBinary, bomb)[:100_000]) // the rest never comes
			wantViolation(t, c, p, StatusMessageTooBig)
		})
		t.Run("at the limit", func(t *testing.T) {
			c, p := s.startDeflate(t, opts, "")
			for _, text := range []string{strings.Repeat("x", limit), full} {
				p.send(p.compressed(opBinary, deflated(text)))
				wantMessage(t, c, opBinary, text)
				p.send(p.inFragments(opBinary, deflated(text), limit/3)...)
				wantMessage(t, c, opBinary, text)
			}
			wantAlive(t, c, p)
		})
	})
	for _, client := range []bool{false, true} {
		t.Run(fmt.Sprintf("memory, client=%t", client), func(t *testing.T) {
			p := &peer{client: !client}
			for name, frames := range map[string][][]byte{
				"one frame": {p.compressed(opBinary, bomb)}, "fragments": p.inFragments(opBinary, bomb, 10_000),
			} {
				c, _ := newScriptedConn(client, frames...)
				c.compression.windowBits = 15
				// The limit is 1 MiB. All that is allocated, to collect the bomb and to inflate it
				// up to the limit, is several times what is held, because slices grow.
				if used := allocated(func() { wantClosed(t, c, StatusMessageTooBig) }); used > 12<<20 {
					t.Errorf("%s: %d bytes allocated", name, used)
				} else {
					t.Logf("%s: %d bytes allocated", name, used)
				}
				c.finish()
			}
		})
	}
}

// Row 57.
func TestDeflateInvalid(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		for name, message := range map[string]string{
			"a reserved block type":        "\x07",
			"not deflate":                  `{"event":"a"}`,
			"cut off":                      "\xf2\x48\xcd\xc9",
			"refers back before the start": "\x03\x02",
		} {
			t.Run(name, func(t *testing.T) {
				c, p := s.startDeflate(t, UpgradeOptions{}, "")
				p.send(p.compressed(opText, message))
				wantViolation(t, c, p, StatusInvalidPayload)
			})
			t.Run(name+", in fragments", func(t *testing.T) {
				c, p := s.startDeflate(t, UpgradeOptions{}, "")
				p.send(p.inFragments(opBinary, message, 1)...)
				wantViolation(t, c, p, StatusInvalidPayload)
			})
		}
		t.Run("a long one", func(t *testing.T) {
			c, p := s.startDeflate(t, UpgradeOptions{}, "")
			p.send(p.compressed(opText, strings.Repeat("\xff", 100_000)))
			wantViolation(t, c, p, StatusInvalidPayload)
		})
	})
}

// Rows 58 to 62: how a server answers an offer. TestAcceptDeflate has more offers; these show that
// the answer is what is sent and kept to.
func TestDeflateOffers(t *testing.T) {
	const yes = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	message := strings.Repeat("a text of which there is enough to refer back, ", 100)
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv := serve(t, k, echoHandler(UpgradeOptions{Compression: Compression{Level: 1}}))
		for _, test := range []struct {
			name   string
			offers []string
			want   string // "": declined
		}{
			{"58 unknown parameter", []string{"permessage-deflate; foo"}, ""},
			{"58 duplicate parameter", []string{"permessage-deflate; client_max_window_bits; client_max_window_bits"}, ""},
			{"58 =07", []string{"permessage-deflate; server_max_window_bits=07"}, ""},
			{"58 =16", []string{"permessage-deflate; server_max_window_bits=16"}, ""},
			{"58 =", []string{"permessage-deflate; server_max_window_bits="}, ""},
			{"58 wrong quotes", []string{`permessage-deflate; server_max_window_bits="10`}, ""},
			{"58 server_max_window_bits without a value", []string{"permessage-deflate; server_max_window_bits"}, ""},
			{"58 the first acceptable wins", []string{"permessage-deflate; foo, permessage-deflate; server_max_window_bits=10, permessage-deflate"}, yes + "; server_max_window_bits=10"},
			{"58 on another line", []string{"foo", "permessage-deflate"}, yes},
			{"58 nothing offered", nil, ""},
			{"59 offered", []string{"permessage-deflate; client_max_window_bits=9"}, yes},
			{"59 offered without a value", []string{"permessage-deflate; client_max_window_bits"}, yes},
			{"60 quoted", []string{`permessage-deflate; server_max_window_bits="12"; client_max_window_bits="9"`}, yes + "; server_max_window_bits=12"},
			{"61 server_no_context_takeover", []string{"permessage-deflate; server_no_context_takeover"}, yes},
			{"61 client_no_context_takeover", []string{"permessage-deflate; client_no_context_takeover"}, yes},
			{"61 takeover wanted", []string{"permessage-deflate"}, yes},
			{"62 8 bits", []string{"permessage-deflate; server_max_window_bits=8"}, yes + "; server_max_window_bits=8"},
			{"62 9 bits", []string{"permessage-deflate; server_max_window_bits=9"}, yes + "; server_max_window_bits=9"},
			{"62 14 bits", []string{"permessage-deflate; server_max_window_bits=14"}, yes + "; server_max_window_bits=14"},
			{"62 15 bits", []string{"permessage-deflate; server_max_window_bits=15"}, yes + "; server_max_window_bits=15"},
		} {
			t.Run(test.name, func(t *testing.T) {
				nc := srv.raw(t)
				head := handshakeHead
				for _, offer := range test.offers {
					head += "Sec-WebSocket-Extensions: " + offer + "\r\n"
				}
				r := request(t, nc, head+"\r\n")
				if got := strings.Join(r.Header["Sec-Websocket-Extensions"], "|"); r.StatusCode != 101 || got != test.want {
					t.Fatalf("got %s, %q; want %q", r.Status, got, test.want)
				}
				p := newPeer(t, nc, r.rest, true)
				p.send(p.frame(opText, message))
				if test.want == "" {
					p.want(opText, message)
					return
				}
				bits := 15
				fmt.Sscanf(test.want, yes+"; server_max_window_bits=%d", &bits)
				h, payload := p.next()
				slow := slowInflater{in: []byte(payload + deflateTail)}
				if !h.Rsv1 || !slow.inflate(len(payload)) || string(slow.out) != message || slow.farthest > 1<<bits {
					t.Errorf("got %+v, %d bytes of which some refer back %d", h, len(slow.out), slow.farthest)
				}
				// Row 61: nothing is taken over from one message to the next.
				p.send(p.compressed(opText, deflated(message)))
				if _, again := p.next(); again != payload {
					t.Error("the same message is compressed in another way the next time")
				}
			})
		}
	})
}

// Row 63: what some senders do.
func TestDeflateTails(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.startDeflate(t, UpgradeOptions{}, "")
		for _, test := range []struct{ message, want string }{
			{"\x00", ""},
			{"", ""},
			{"\x00\x00\x00\xff\xff", ""},
			{"\xf2\x48\xcd\xc9\xc9\x07\x00", "Hello"},
			{"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", "Hello"},
			{"\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
			{"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
			{"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "HelloHello"},
			{"\x00\x05\x00\xfa\xffHello", "Hello"},
		} {
			p.send(p.compressed(opText, test.message))
			wantMessage(t, c, opText, test.want)
			p.send(p.inFragments(opBinary, test.message, 2)...)
			wantMessage(t, c, opBinary, test.want)
		}
		if op, b, err := readEmpty(t, c, p); op != MessageText || b == nil || len(b) != 0 || err != nil {
			t.Errorf("an empty message is %v, %v, %v", op, b, err)
		}
		wantAlive(t, c, p)
	})
}

func readEmpty(t *testing.T, c *Conn, p *peer) (MessageType, []byte, error) {
	p.send(p.compressed(opText, "\x00"))
	return c.Read(limited(t))
}

// deflatedSample is a stream with each thing that a stream with compression may have.
func deflatedSample(p *peer) (stream []byte, want []incomingMessage, pings int) {
	euro := p.inFragments(opText, deflated("€!"), 2)
	long := strings.Repeat("é, wieder é, ", 60)
	noise := string(random(5000))
	return slices.Concat(
		p.compressed(opText, deflated("héllo")),
		p.compressed(opBinary, "\x00"),
		bytes.Join(euro, p.frame(opPing, "")),
		p.frame(opText, "as it is"), // row 64: an uncompressed message between compressed ones
		p.part(opText, "\xe2\x82"),
		p.frame(opContinuation, "\xac"),
		p.compressed(opText, deflated(long)),
		p.inFragments(opBinary, deflated(noise), 4000)[0],
		slices.Concat(p.inFragments(opBinary, deflated(noise), 4000)[1:]...),
		p.compressed(opBinary, deflated("\xff\xfe")),
	), []incomingMessage{{opText, "héllo"}, {opBinary, ""}, {opText, "€!"}, {opText, "as it is"}, {opText, "€"}, {opText, long}, {opBinary, noise}, {opBinary, "\xff\xfe"}}, len(euro) - 1
}

// Row 64: RSV1 on the first fragment only, pings between them, uncompressed messages between
// compressed ones.
func TestDeflateFragments(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.startDeflate(t, UpgradeOptions{}, "")
		stream, want, pings := deflatedSample(p)
		for range 3 {
			p.send(stream)
			got, err := readSome(c, len(want))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("%v (-want +got)\n%s", err, diff)
			}
			for range pings {
				p.want(opPong, "")
			}
		}
		wantAlive(t, c, p)
	})
}

// Rows 17 and 64: the same stream cut anywhere gives the same messages.
func TestDeflateEveryCut(t *testing.T) {
	for _, client := range []bool{false, true} {
		p := &peer{client: !client}
		stream, want, _ := deflatedSample(p)
		check := func(segments ...[]byte) {
			t.Helper()
			c, _ := newScriptedConn(client, segments...)
			c.compression.windowBits = 15
			got, err := readSome(c, len(want))
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("cut behind %d bytes: %v (-want +got)\n%s", len(segments[0]), err, diff)
			}
		}
		for cut := 1; cut < len(stream); cut += 1 + cut/400 {
			check(bytes.Clone(stream[:cut]), bytes.Clone(stream[cut:]))
		}
		check(slices.Collect(slices.Chunk(bytes.Clone(stream), 1))...)
	}
}

// A Read whose context ends anywhere in a compressed message loses nothing, also if the buffer that
// it was given serves something else in between.
func TestReadResumesDeflated(t *testing.T) {
	text := randomUTF8(rand.New(rand.NewPCG(3, 3)), 100_000)
	compressed := deflated(text)
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.startDeflate(t, UpgradeOptions{}, "")
		buf := make([]byte, 0, 150_000)
		for round := range 3 {
			stream := bytes.Join(p.inFragments(opText, compressed, 9000), nil)
			interruptReads(t, c, p, stream, 7001, buf)
			if round == 2 {
				wantMessage(t, c, opText, text)
				continue
			}
			_, got, err := c.ReadInto(limited(t), buf)
			if err != nil || string(got) != text {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			if &got[0] != &buf[:1][0] {
				t.Error("not in the buffer given")
			}
		}
		wantAlive(t, c, p)
	})
}

// What Read returns of compressed messages is the caller's, and ReadInto with a large enough buffer
// does not allocate.
func TestReadDeflatedMemory(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		c, p := s.startDeflate(t, UpgradeOptions{}, "")
		var kept [][]byte
		for i := range 20 {
			p.send(p.compressed(opText, deflated(numbered(i, 2000))))
			_, b, err := c.Read(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, b)
		}
		for i, b := range kept {
			if string(b) != numbered(i, 2000) {
				t.Errorf("message %d has changed", i)
			}
		}
	})
	for _, client := range []bool{false, true} {
		p := &peer{client: !client}
		frame := p.compressed(opText, deflated(strings.Repeat("x", 3000)))
		c, nc := newScriptedConn(client)
		c.compression.windowBits = 15
		buf, one := make([]byte, 0, 3000), make([][]byte, 1)
		run := func() {
			one[0] = frame
			nc.segments = one
			_, b, err := c.ReadInto(context.Background(), buf)
			if err != nil || len(b) != 3000 || &b[0] != &buf[:1][0] {
				t.Fatalf("%d bytes, %v, or not in the buffer given", len(b), err)
			}
		}
		// The race detector makes pools forget one in four.
		least := min(testing.AllocsPerRun(20, run), testing.AllocsPerRun(20, run), testing.AllocsPerRun(20, run))
		if least > 2 {
			t.Errorf("client=%t: %v allocations", client, least)
		}
		t.Logf("client=%t: %v allocations", client, least)
	}
}

// Row 65: no message can refer to one before it, of this connection or of another, also after an
// error.
func TestDeflateContext(t *testing.T) {
	const secret = "the secret is 4711, the secret is 4711"
	var b bytes.Buffer
	w, err := flate.NewWriterDict(&b, 9, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(secret))
	w.Flush()
	thief := strings.TrimSuffix(b.String(), deflateTail)
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		honest, other := s.startDeflate(t, UpgradeOptions{}, "")
		for _, before := range []string{deflated(secret), deflated(secret) + "\xff"} {
			c, p := s.startDeflate(t, UpgradeOptions{}, "")
			other.send(other.compressed(opText, deflated(secret)))
			wantMessage(t, honest, opText, secret)
			p.send(p.compressed(opText, before), p.compressed(opText, thief))
			if before == deflated(secret) {
				wantMessage(t, c, opText, secret)
			}
			wantViolation(t, c, p, StatusInvalidPayload)
		}
		wantAlive(t, honest, other)
	})
}

// Row 66: what a client makes of a server's answer to its offer.
func TestDeflateAnswers(t *testing.T) {
	for _, test := range []struct {
		answer string
		ok     bool
		bits   int
	}{
		{"", true, 0},
		{"permessage-deflate; server_no_context_takeover", true, 15},
		{"permessage-deflate; server_no_context_takeover; client_no_context_takeover", true, 15},
		{`permessage-deflate; client_max_window_bits="9"; server_no_context_takeover`, true, 9},
		{"permessage-deflate; server_no_context_takeover; server_max_window_bits=8; client_max_window_bits=15", true, 15},

		{"permessage-deflate", false, 0}, // does not grant what was asked for
		{"permessage-deflate; server_no_context_takeover; foo", false, 0},
		{"permessage-deflate; server_no_context_takeover; foo=1", false, 0},
		{"permessage-deflate; server_no_context_takeover; server_no_context_takeover", false, 0},
		{"permessage-deflate; server_no_context_takeover; server_max_window_bits=10; server_max_window_bits=10", false, 0},
		{"permessage-deflate; server_no_context_takeover=1", false, 0},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits", false, 0},
		{"permessage-deflate; server_no_context_takeover; client_max_window_bits=7", false, 0},
		{"permessage-deflate; server_no_context_takeover; server_max_window_bits=016", false, 0},
		{"permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover", false, 0},
		{"permessage-deflate; server_no_context_takeover, foo", false, 0},
		{"x-webkit-deflate-frame", false, 0},
		{`permessage-deflate; server_no_context_takeover="`, false, 0},
		{"Permessage-Deflate; server_no_context_takeover", false, 0},
	} {
		t.Run(test.answer, func(t *testing.T) {
			overKinds(t, func(t *testing.T, k kind) {
				noLeaks(t)
				srv := answering(t, k, func(accept string) string {
					return switching(accept, "Sec-WebSocket-Extensions: "+test.answer)
				})
				c, _, err := srv.dial(t, "/", DialOptions{Compression: Compression{Level: 1}})
				if test.ok {
					if err != nil || int(c.compression.windowBits) != test.bits {
						t.Errorf("%v, %+v", err, c.compression)
					}
					return
				}
				if _, ok := errors.AsType[*HandshakeError](err); !ok || !strings.Contains(err.Error(), "the server answers") {
					t.Errorf("got %v, want a HandshakeError", err)
				}
			})
		})
	}
}
