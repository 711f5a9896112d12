package atrium

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// Zero options mean the defaults; a level that there is not is refused by whoever gets it.
func TestCompressionOptions(t *testing.T) {
	for _, test := range []struct {
		options Compression
		want    compression
	}{
		{Compression{}, compression{}},
		{Compression{Threshold: 1}, compression{}},
		{Compression{Level: 1}, compression{wanted: 1, threshold: 512}},
		{Compression{Level: 9, Threshold: 1}, compression{wanted: 9, threshold: 1}},
		{Compression{Level: 1, Threshold: math.MaxInt}, compression{wanted: 1, threshold: math.MaxInt32}},
	} {
		if got, err := newCompression(test.options), test.options.check(); got != test.want || err != nil {
			t.Errorf("%+v: %+v, %v", test.options, got, err)
		}
	}
	for _, test := range []struct {
		options Compression
		want    string
	}{
		{Compression{Level: -2}, "Compression.Level is -2"},
		{Compression{Level: -1, Threshold: 1}, "Compression.Level is -1"},
		{Compression{Level: 10}, "Compression.Level is 10"},
		{Compression{Level: 1000}, "Compression.Level is 1000"},
	} {
		if err := test.options.check(); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.options, err)
		}
	}
}

// level is what turns compression on, as fast as it goes, or leaves it off.
func level(on bool) Compression {
	if on {
		return Compression{Level: 1}
	}
	return Compression{}
}

// A message is compressed from the threshold on, or as its writer says, and only if that makes it
// smaller. Control frames never are. A client's frames are compressed and then masked: the peer has
// checked.
func TestWriteCompressed(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		c, p := s.startDeflate(t, UpgradeOptions{}, "")
		ctx := limited(t)
		large, small, noise := strings.Repeat("ab", 256), strings.Repeat("ab", 255), string(random(5000))

		mustWrite(t, c, opText, large)
		p.wantInflated(opText, large)
		mustWrite(t, c, opText, small)
		p.want(opText, small)
		mustWrite(t, c, opBinary, noise)
		p.want(opBinary, noise)
		for _, text := range []string{large, small, strings.Repeat("a", 40)} {
			if err := c.WriteCompress(ctx, MessageBinary, []byte(text), true); err != nil {
				t.Fatal(err)
			}
			p.wantInflated(opBinary, text)
			if err := c.WriteCompress(ctx, MessageText, []byte(text), false); err != nil {
				t.Fatal(err)
			}
			p.want(opText, text)
		}
		for _, text := range []string{"", "a", noise} {
			if err := c.WriteCompress(ctx, MessageBinary, []byte(text), true); err != nil {
				t.Fatal(err)
			}
			p.want(opBinary, text)
		}
		if err := c.WriteCompress(ctx, MessageType(opPing), nil, true); err != errMessageType {
			t.Errorf("a ping: %v", err)
		}
		messages, end := readInBackground(c)
		pinged, reason := strings.Repeat("p", 125), strings.Repeat("r", 120)
		p.send(p.frame(opPing, pinged))
		p.want(opPong, pinged)
		c.beginClose(StatusNormalClosure, reason, deliverQueued)
		p.wantClose(StatusNormalClosure, reason)
		p.nc.Close()
		within(t, end, "the end")
		if n := len(messages); n != 0 {
			t.Errorf("%d messages came", n)
		}
	})
}

// What is as long when it is compressed is sent as it is.
func TestCompressionFrameOnlyIfSmaller(t *testing.T) {
	z := compression{deflateParams{windowBits: 15}, 1, 1}
	equal := 0
	source := rand.NewChaCha8([32]byte{}) // the same bytes each time, because few are as long
	for n := range 200 {
		payload := make([]byte, n/10+n%40)
		source.Read(payload[:n/10])
		frame := z.frame(frameHeader{Fin: true, Opcode: opBinary}, payload)
		compressed := len(z.compress(nil, payload, 1))
		if (frame != nil) != (compressed < len(payload)) {
			t.Errorf("%d bytes, compressed %d: the frame has %d", len(payload), compressed, len(frame))
		}
		if compressed == len(payload) {
			equal++
		}
	}
	if equal == 0 {
		t.Error("none was as long")
	}
}

// The level and the threshold are the options'; without an agreement nothing is compressed.
func TestWriteCompressOptions(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		noLeaks(t)
		message := string(text(20_000, 1))
		sizes := make(map[int]int)
		for _, level := range []int{0, 1, 9} {
			c, p := s.startDeflate(t, UpgradeOptions{Compression: Compression{Level: level, Threshold: 100}}, "")
			mustWrite(t, c, opText, message)
			sizes[level] = p.wantInflated(opText, message)
			mustWrite(t, c, opText, message[:99])
			p.want(opText, message[:99])
			mustWrite(t, c, opText, strings.Repeat("x", 100))
			p.wantInflated(opText, strings.Repeat("x", 100))
		}
		if sizes[0] != sizes[1] || sizes[9] >= sizes[1] {
			t.Errorf("bytes by level: %v", sizes)
		}
		c, p := s.start(t, UpgradeOptions{Compression: Compression{Level: 1}})
		if err := c.WriteCompress(limited(t), MessageText, []byte(message), true); err != nil {
			t.Fatal(err)
		}
		p.want(opText, message)
	})
}

// Dial and Upgrade with each other, many messages at a time.
func TestDialUpgradeCompressed(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		srv := serve(t, k, echoHandler(UpgradeOptions{Compression: Compression{Level: 6}}))
		c, resp, err := srv.dial(t, "/", DialOptions{Compression: Compression{Level: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Sec-WebSocket-Extensions"); got != deflateName+noContext {
			t.Errorf("the server agreed on %q", got)
		}
		sizes := []int{0, 1, 511, 512, 4000, 5000, 100_000}
		var writing sync.WaitGroup
		writing.Go(func() {
			for i, n := range sizes {
				mustWrite(t, c, opText, string(text(n, i)))
				mustWrite(t, c, opBinary, string(random(1000)))
			}
		})
		for i, n := range sizes {
			wantMessage(t, c, opText, string(text(n, i)))
			if op, b, err := c.Read(limited(t)); op != MessageBinary || len(b) != 1000 || err != nil {
				t.Fatal(op, len(b), err)
			}
		}
		writing.Wait()
	})
}

// deflatedMailbox is a mailbox whose client has agreed on compression with this window.
func deflatedMailbox(t testing.TB, h *Hub, bits int) mailbox {
	t.Helper()
	m := newMailbox(t, h)
	t.Cleanup(m.drop)
	m.session.conn.Load().compression = h.sessions.compression
	m.session.conn.Load().compression.windowBits = int8(bits)
	m.session.countWindow(+1)
	return m
}

// takeFrame empties the outbox of the one frame that is in it.
func (m mailbox) takeFrame(t testing.TB) []byte {
	t.Helper()
	o := &m.session.conn.Load().out
	o.mu.Lock()
	defer o.mu.Unlock()
	frame := o.pop()
	if frame == nil || o.pop() != nil {
		t.Fatal("there is not one frame")
	}
	o.bytes -= len(frame)
	return frame
}

// payloadOf reads a frame, inflating it if it says so.
func payloadOf(t testing.TB, frame []byte) (payload string, compressed bool) {
	t.Helper()
	h, n, err := parseHeader(frame)
	if err == nil {
		err = h.check(frameRules{deflate: true})
	}
	if err != nil || n == 0 || int(h.Length) != len(frame)-n || !h.Fin || h.Opcode != opText {
		t.Fatalf("a frame with the header %+v, %v", h, err)
	}
	if !h.Rsv1 {
		return string(frame[n:]), false
	}
	out, err := inflate(nil, frame[n:], 1<<30, true)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), true
}

// A broadcast is compressed once for all who can be sent the same bytes: with a window of 15 bits,
// or one that the message fits into, and with a smaller one.
func TestBroadcastCompressedOnce(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Compression: Compression{Level: 1}})
	var boxes []mailbox
	for _, bits := range []int{15, 15, 15, 10, 10, 9, 14, 0, 0} {
		m := deflatedMailbox(t, h, bits)
		if bits == 0 {
			m.session.conn.Load().compression = compression{}
		}
		if err := m.Join("room"); err != nil {
			t.Fatal(err)
		}
		boxes = append(boxes, m)
	}
	h.sessions.windows[plainProtocol][0].Store(0)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		size  int
		forms string // for each box
	}{
		{400, "wwwwwwwww"},     // below the threshold
		{700, "aaaaabaww"},     // fits into all windows but that of 9 bits
		{5000, "aaabbbaww"},    //
		{20_000, "aaabbbbww"},  //
		{100_000, "aaabbbbww"}, //
	} {
		for name, emit := range map[string]func(data string) error{
			"everyone": func(data string) error { return h.Emit("x", data) },
			"room":     func(data string) error { return h.To("room").Emit("x", data) },
			"volatile": func(data string) error { return h.Volatile().Emit("x", data) },
			"call": func(data string) error {
				_, err := h.To("room").Call(ended, "x", data)
				return err
			},
		} {
			data := strings.Repeat("grüße, ", test.size)[:test.size]
			if err := emit(data); err != nil {
				t.Fatal(err)
			}
			forms, names := make(map[*byte]byte), map[byte]*byte{}
			for i, m := range boxes {
				frame := m.takeFrame(t)
				payload, compressed := payloadOf(t, frame)
				want := test.forms[i]
				if compressed != (want != 'w') || !strings.Contains(payload, data[:len(data)-5]) {
					t.Errorf("%s, %d bytes, box %d: %d bytes, compressed=%t", name, test.size, i, len(payload), compressed)
				}
				if names[want] == nil && forms[&frame[0]] == 0 {
					names[want], forms[&frame[0]] = &frame[0], want
				}
				if names[want] != &frame[0] || forms[&frame[0]] != want {
					t.Errorf("%s, %d bytes, box %d: not the form %c that others got", name, test.size, i, want)
				}
			}
		}
	}
}

// Compress overrides the threshold; it is a value like the others, and may come anywhere.
func TestTargetCompress(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Compression: Compression{Level: 1, Threshold: 1000}})
	m, other := deflatedMailbox(t, h, 15), deflatedMailbox(t, h, 9)
	plain := newMailbox(t, h)
	t.Cleanup(plain.drop)
	for _, box := range []mailbox{m, plain} {
		if err := box.Join("room"); err != nil {
			t.Fatal(err)
		}
	}
	small, large := strings.Repeat("x", 200), strings.Repeat("x", 2000)
	for name, target := range map[string]Target{
		"everyone":     Target{ns: h.Namespace},
		"room":         h.To("room"),
		"id":           h.To(m.ID()),
		"others":       other.Broadcast(),
		"room and id":  h.To("room", m.ID()),
		"volatile":     h.To("room").Volatile(),
		"socket":       m.alone(),
		"socket, then": other.Compress(false).To("room"),
	} {
		for rule, got := range map[string]Target{"": target, "always": target.Compress(true), "never": target.Compress(false)} {
			if name == "socket, then" && rule == "" {
				rule = "never"
			}
			for _, data := range []string{small, large} {
				if err := got.Emit("x", data); err != nil {
					t.Fatal(err)
				}
				want := rule == "always" || rule == "" && len(data) > 1000
				if _, compressed := payloadOf(t, m.takeFrame(t)); compressed != want {
					t.Errorf("%s, %d bytes, %q: compressed=%t", name, len(data), rule, compressed)
				}
				for _, box := range []mailbox{other, plain} {
					box.session.conn.Load().out.abandon()
				}
			}
		}
	}
	if target := h.To("room"); target.Compress(true).compress == target.compress {
		t.Error("Compress does nothing")
	}

	// What would not become smaller is sent as it is, to each by itself or to all.
	for _, target := range []Target{h.Compress(true), m.Compress(true)} {
		if err := target.Emit("x"); err != nil {
			t.Fatal(err)
		}
		if payload, compressed := payloadOf(t, m.takeFrame(t)); compressed || payload != `{"event":"x"}` {
			t.Errorf("got %q, compressed=%t", payload, compressed)
		}
	}
	other.take()
}

// Nothing is compressed under a lock: whoever's compression comes up when the delivery has begun
// gets the message as it is.
func TestCompressedBeforeDelivery(t *testing.T) {
	noLeaks(t)
	h := newHub(t, Options{Compression: Compression{Level: 1}})
	m := deflatedMailbox(t, h, 15)
	m.session.countWindow(-1)
	if err := h.Emit("x", strings.Repeat("x", 2000)); err != nil {
		t.Fatal(err)
	}
	if _, compressed := payloadOf(t, m.takeFrame(t)); compressed {
		t.Error("compressed though nobody was known to want it")
	}
	m.session.countWindow(+1)
}

// With Compression off, or with nobody who would have it, Emit does not do more than before.
func TestCompressionOffCostsNothing(t *testing.T) {
	message := func(h *Hub, target Target) float64 {
		m, err := newMessage("/", "x", []any{strings.Repeat("x", 2000)}, defaultMaxAttachments)
		if err != nil {
			t.Fatal(err)
		}
		m.form(plainProtocol)
		return testing.AllocsPerRun(100, func() { target.deflate(m) })
	}
	off, on := New(Options{}), New(Options{Compression: Compression{Level: 1}})
	if n := message(off, off.Compress(true)); n != 0 {
		t.Errorf("off: %v allocations", n)
	}
	if n := message(on, on.Compress(true)); n != 0 {
		t.Errorf("nobody compresses: %v allocations", n)
	}
}

// A hub and clients that compress: events, answers and questions, both ways.
func TestHubCompressed(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Compression: Compression{Level: 1}})
		long := string(jsonText(5000))
		OnCall(h, "echo", func(s *Socket, text string) (string, error) { return text, nil })
		On(h, "fail", func(s *Socket, text string) error { return Errorf("%s", text) })
		On(h, "ask", func(s *Socket, text string) error {
			answer, err := Call[string](s.Context(), s, "question", text)
			if err != nil {
				return err
			}
			return h.Emit("answered", answer)
		})
		srv := serve(t, k, h)
		var clients []*client
		for _, on := range []bool{true, true, false} {
			c, _, err := srv.dial(t, "/", DialOptions{Compression: level(on)})
			if err != nil {
				t.Fatal(err)
			}
			m := &client{c, t, ""}
			m.expect("connect", &struct{}{})
			m.settle()
			clients = append(clients, m)
		}
		if n := h.sessions.windows[plainProtocol][15].Load(); n != 2 {
			t.Errorf("%d clients are known to compress", n)
		}
		a := clients[0]
		quoted, _ := json.Marshal(long)
		a.send(`{"event":"echo","data":` + string(quoted) + `,"id":1}`)
		a.want(`{"id":1,"data":` + string(quoted) + `}`)
		a.send(`{"event":"fail","data":` + string(quoted) + `,"id":2}`)
		a.want(`{"id":2,"error":{"message":` + string(quoted) + `}}`)
		a.send(`{"event":"ask","data":` + string(quoted) + `}`)
		var question struct{ ID json.Number }
		if err := json.Unmarshal([]byte(a.next()), &question); err != nil {
			t.Fatal(err)
		}
		a.send(`{"id":` + question.ID.String() + `,"data":` + string(quoted) + `}`)
		for _, c := range clients {
			c.want(`{"event":"answered","data":` + string(quoted) + `}`)
		}

		// On the wire, answers and events are compressed; the connect message is too short.
		nc, early := srv.upgrade(t, "Sec-WebSocket-Extensions: permessage-deflate")
		p := newPeer(t, nc, early, true)
		if head, _ := p.next(); head.Rsv1 {
			t.Error("the connect message is compressed")
		}
		for _, want := range []string{`{"id":1,"data":` + string(quoted) + `}`, `{"id":1,"error":{"message":` + string(quoted) + `}}`} {
			event := "echo"
			if strings.Contains(want, "error") {
				event = "fail"
			}
			p.send(p.compressed(opText, deflated(`{"event":"`+event+`","data":`+string(quoted)+`,"id":1}`)))
			p.wantInflated(opText, want)
		}
		nc.Close()
		for _, c := range clients {
			c.CloseNow()
		}
		eventually(t, "nobody is known to compress", func() bool { return h.sessions.windows[plainProtocol][15].Load() == 0 })
	})
}

// Row 55: until a client is accepted a message is bounded by 64 KiB, when inflated, too.
func TestDeflateBeforeConnect(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{Compression: Compression{Level: 1}})
		srv := serve(t, k, h)
		open := func() *peer {
			nc, early := srv.upgrade(t, "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: atrium")
			return newPeer(t, nc, early, true)
		}
		connect := func(n int) string {
			const head, tail = `{"event":"connect","data":"`, `"}`
			return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
		}
		for _, frames := range []func(p *peer, message string) []byte{
			func(p *peer, message string) []byte { return p.compressed(opText, message) },
			func(p *peer, message string) []byte { return bytes.Join(p.inFragments(opText, message, 30), nil) },
		} {
			p := open()
			p.send(frames(p, deflated(connect(maxBeforeConnect+1))))
			p.wantCloseCode(StatusMessageTooBig)
			p.nc.Close()

			p = open()
			p.send(frames(p, deflated(connect(maxBeforeConnect))))
			if h, payload := p.next(); h.Opcode != opText || !strings.HasPrefix(payload, `{"event":"connect","data":{"sid"`) {
				t.Errorf("got %v %q", h.Opcode, payload)
			}
			// Accepted, it may send more, which is answered with an error that quotes nothing.
			p.send(frames(p, deflated(`{"event":"`+strings.Repeat("x", 100_000)+`"}`)))
			if h, payload := p.next(); h.Opcode != opText || !strings.Contains(payload, "error") {
				t.Errorf("got %v %q", h.Opcode, payload)
			}
			p.nc.Close()
		}
	})
}
