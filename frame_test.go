package atrium

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// The examples of RFC 6455 §5.7, headers and payloads.
func TestHeaderRFCSamples(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	for _, test := range []struct {
		name    string
		wire    []byte
		header  frameHeader
		payload string
	}{
		{"an unmasked text message", []byte("\x81\x05Hello"), frameHeader{Fin: true, Opcode: opText, Length: 5}, "Hello"},
		{"a masked text message", []byte("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
			frameHeader{Fin: true, Opcode: opText, Masked: true, Key: key, Length: 5}, "Hello"},
		{"a first fragment", []byte("\x01\x03Hel"), frameHeader{Opcode: opText, Length: 3}, "Hel"},
		{"a last fragment", []byte("\x80\x02lo"), frameHeader{Fin: true, Opcode: opContinuation, Length: 2}, "lo"},
		{"an unmasked ping", []byte("\x89\x05Hello"), frameHeader{Fin: true, Opcode: opPing, Length: 5}, "Hello"},
		{"a masked pong", []byte("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
			frameHeader{Fin: true, Opcode: opPong, Masked: true, Key: key, Length: 5}, "Hello"},
		{"256 bytes of binary", []byte("\x82\x7e\x01\x00" + strings.Repeat("x", 256)),
			frameHeader{Fin: true, Opcode: opBinary, Length: 256}, strings.Repeat("x", 256)},
		{"64 KiB of binary", []byte("\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + strings.Repeat("x", 65536)),
			frameHeader{Fin: true, Opcode: opBinary, Length: 65536}, strings.Repeat("x", 65536)},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, n, err := parseHeader(test.wire)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.header, h); diff != "" {
				t.Error(diff)
			}
			payload := bytes.Clone(test.wire[n:])
			if h.Masked {
				mask(payload, h.Key, 0)
			}
			if string(payload) != test.payload {
				t.Errorf("payload %.20q", payload)
			}
			if got := appendHeader(nil, h); !bytes.Equal(got, test.wire[:n]) {
				t.Errorf("AppendHeader gives % x, want % x", got, test.wire[:n])
			}
		})
	}
}

// headerLengths are those at which the form of a length changes, and the extremes.
var headerLengths = []int64{0, 1, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537, 1 << 31, 1<<32 - 1, 1 << 32, 1 << 62, math.MaxInt64}

// What appendHeader writes, parseHeader reads, and of each proper prefix it asks for more.
func TestHeaderRoundTrip(t *testing.T) {
	for first := range 256 {
		for _, length := range headerLengths {
			for _, masked := range []bool{false, true} {
				want := frameHeader{
					Fin: first&0x80 != 0, Rsv1: first&0x40 != 0, Rsv2: first&0x20 != 0, Rsv3: first&0x10 != 0,
					Opcode: opcode(first & 0x0F), Masked: masked, Length: length,
				}
				size := 2
				switch {
				case length > 65535:
					size = 10
				case length > 125:
					size = 4
				}
				if masked {
					want.Key = [4]byte{1, 2, 0, 0xff}
					size += 4
				}
				wire := appendHeader([]byte("x"), want)[1:]
				if len(wire) != size || len(wire) > maxHeaderSize || wire[0] != byte(first) {
					t.Fatalf("%+v: wrote % x, want %d bytes", want, wire, size)
				}
				for cut := range wire {
					if h, n, err := parseHeader(wire[:cut:cut]); h != (frameHeader{}) || n != 0 || err != nil {
						t.Fatalf("% x: cut at %d: %+v, %d, %v", wire, cut, h, n, err)
					}
				}
				for _, behind := range []string{"", "payload and more"} {
					h, n, err := parseHeader(append(bytes.Clone(wire), behind...))
					if h != want || n != len(wire) || err != nil {
						t.Fatalf("% x: got %+v, %d, %v; want %+v", wire, h, n, err, want)
					}
				}
			}
		}
	}
}

func TestAppendHeaderNegativeLength(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a negative length does not panic")
		}
	}()
	appendHeader(nil, frameHeader{Length: -1})
}

// Rows 1, 2 and 5 of the corner cases.
func TestHeaderLengths(t *testing.T) {
	const (
		top      = "a frame length has its top bit set"
		shortest = "a frame length is not in its shortest form"
	)
	for _, test := range []struct {
		wire   string // without the first byte
		length int64
		reason string
	}{
		{"\x7e\x00\x7e", 126, ""},
		{"\x7e\x00\x7d", 0, shortest},
		{"\x7e\x00\x05", 0, shortest},
		{"\x7e\x00\x00", 0, shortest},
		{"\x7e\xff\xff", 65535, ""},
		{"\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 65536, ""},
		{"\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 0, shortest},
		{"\x7f\x00\x00\x00\x00\x00\x00\x00\xc8", 0, shortest},
		{"\x7f\x00\x00\x00\x00\x00\x00\x00\x00", 0, shortest},
		{"\x7f\x40\x00\x00\x00\x00\x00\x00\x00", 1 << 62, ""},
		{"\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", math.MaxInt64, ""},
		{"\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 0, top},
		{"\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 0, top},
		{"\x7f\x80\x00\x00\x00\x00\x00\x00\x05", 0, top},
	} {
		for _, masked := range []bool{false, true} {
			wire := []byte("\x82" + test.wire)
			whole := len(wire)
			if masked {
				wire[1] |= 0x80
				wire = append(wire, "\x01\x02\x03\x04"...)
			}
			h, n, err := parseHeader(wire)
			if test.reason == "" {
				if err != nil || h.Length != test.length || n != len(wire) {
					t.Errorf("% x: %+v, %d, %v", wire, h, n, err)
				}
				continue
			}
			want := &CloseError{Code: StatusProtocolError, Reason: test.reason}
			if diff := cmp.Diff(error(want), err); diff != "" || h != (frameHeader{}) || n != 0 {
				t.Errorf("% x: %+v, %d: %s", wire, h, n, diff)
			}
			// The length condemns the frame: nothing waits for the key.
			if _, _, err := parseHeader(wire[:whole]); err == nil {
				t.Errorf("% x passes without its key", wire[:whole])
			}
			if _, n, err := parseHeader(wire[:whole-1]); n != 0 || err != nil {
				t.Errorf("% x: %d, %v", wire[:whole-1], n, err)
			}
		}
	}
}

// Rows 6 to 12 and 23 of the corner cases: every first byte, for either sender, in and between
// messages, with and without permessage-deflate. The tables have the legal ones; all others are
// refused.
func TestHeaderCheck(t *testing.T) {
	const anyLength = math.MaxInt64
	type place struct {
		first      byte
		fragmented bool
	}
	legal := map[place]int64{ // to the greatest legal length
		{0x01, false}: anyLength, // the first fragment of a text
		{0x02, false}: anyLength, // the first fragment of a binary message
		{0x81, false}: anyLength, // a text
		{0x82, false}: anyLength, // a binary message
		{0x00, true}:  anyLength, // a further fragment
		{0x80, true}:  anyLength, // the last fragment
		{0x88, false}: 125,       // control frames, also between fragments
		{0x88, true}:  125,
		{0x89, false}: 125,
		{0x89, true}:  125,
		{0x8A, false}: 125,
		{0x8A, true}:  125,
	}
	compressed := map[place]bool{ // legal, too, if permessage-deflate was agreed on
		{0x41, false}: true,
		{0x42, false}: true,
		{0xC1, false}: true,
		{0xC2, false}: true,
	}
	for first := range 256 {
		for _, length := range headerLengths {
			for _, fragmented := range []bool{false, true} {
				for _, masked := range []bool{false, true} {
					for i := range 4 {
						fromClient, deflate := i&1 != 0, i&2 != 0
						// The key stays zero: a peer may choose it so (row 23).
						wire := appendHeader(nil, frameHeader{Masked: masked, Length: length})
						wire[0] = byte(first)
						h, _, err := parseHeader(wire)
						if err != nil {
							t.Fatal(err)
						}
						greatest, ok := legal[place{byte(first), fragmented}]
						ok = ok && length <= greatest || deflate && compressed[place{byte(first), fragmented}]
						ok = ok && masked == fromClient
						err = h.check(frameRules{fromClient: fromClient, fragmented: fragmented, deflate: deflate})
						name := fmt.Sprintf("first byte %#02x, length %d, masked %v, from client %v, fragmented %v, deflate %v", first, length, masked, fromClient, fragmented, deflate)
						if ok != (err == nil) {
							t.Fatalf("%s: %v", name, err)
						}
						var closeError *CloseError
						if err != nil && (!errors.As(err, &closeError) || closeError.Code != StatusProtocolError || closeError.Reason == "") {
							t.Fatalf("%s: %#v", name, err)
						}
					}
				}
			}
		}
	}
}

func TestHeaderCheckReasons(t *testing.T) {
	text := frameHeader{Fin: true, Opcode: opText}
	for _, test := range []struct {
		header frameHeader
		rules  frameRules
		reason string
	}{
		{frameHeader{Fin: true, Rsv1: true, Opcode: opText}, frameRules{}, "a reserved bit is set"},
		{frameHeader{Fin: true, Rsv2: true, Opcode: opText}, frameRules{}, "a reserved bit is set"},
		{frameHeader{Fin: true, Rsv3: true, Opcode: opText}, frameRules{}, "a reserved bit is set"},
		{frameHeader{Fin: true, Rsv1: true, Opcode: opPing}, frameRules{deflate: true}, "a reserved bit is set"},
		{frameHeader{Rsv1: true, Opcode: opContinuation}, frameRules{fragmented: true, deflate: true}, "a reserved bit is set"},
		{frameHeader{Fin: true, Rsv1: true, Opcode: opText}, frameRules{fragmented: true, deflate: true}, "a new message began inside a fragmented one"},
		{text, frameRules{fromClient: true}, "a client must mask its frames"},
		{frameHeader{Fin: true, Opcode: opText, Masked: true}, frameRules{}, "a server must not mask its frames"},
		{text, frameRules{fragmented: true}, "a new message began inside a fragmented one"},
		{frameHeader{Opcode: opContinuation}, frameRules{}, "a continuation frame continues nothing"},
		{frameHeader{Opcode: opClose}, frameRules{}, "a control frame is fragmented"},
		{frameHeader{Fin: true, Opcode: opPong, Length: 126}, frameRules{}, "a control frame carries more than 125 bytes"},
		{frameHeader{Fin: true, Opcode: 0x3}, frameRules{}, "a frame has a reserved opcode 0x3"},
		{frameHeader{Fin: true, Opcode: 0xF}, frameRules{fragmented: true}, "a frame has a reserved opcode 0xf"},
	} {
		want := &CloseError{Code: StatusProtocolError, Reason: test.reason}
		if diff := cmp.Diff(error(want), test.header.check(test.rules)); diff != "" {
			t.Errorf("%+v: %s", test.header, diff)
		}
	}
}

func TestOpcode(t *testing.T) {
	names := map[opcode]string{0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
	for op := range opcode(16) {
		want, ok := names[op]
		if !ok {
			want = fmt.Sprintf("reserved opcode 0x%x", byte(op))
		}
		if got := op.String(); got != want {
			t.Errorf("Opcode(%d) is %q, want %q", op, got, want)
		}
		if got := op.control(); got != (op >= 8) {
			t.Errorf("Opcode(%d).control() = %v", op, got)
		}
	}
}

// slowHeader reads a header as RFC 6455 §5.2 draws it, bit by bit. ok is false while bits are
// missing; legal is false if the length is in a form that must not be.
func slowHeader(b []byte) (h frameHeader, n int, ok, legal bool) {
	at := 0
	missing := false
	take := func(width int) (v uint64) {
		for range width {
			if at/8 >= len(b) {
				missing = true
				return 0
			}
			v = v<<1 | uint64(b[at/8]>>(7-at%8)&1)
			at++
		}
		return v
	}
	h.Fin = take(1) == 1
	h.Rsv1 = take(1) == 1
	h.Rsv2 = take(1) == 1
	h.Rsv3 = take(1) == 1
	h.Opcode = opcode(take(4))
	h.Masked = take(1) == 1
	length := take(7)
	legal = true
	switch length {
	case 126:
		length = take(16)
		legal = length > 125
	case 127:
		length = take(64)
		legal = length > 65535 && length < 1<<63
	}
	if missing {
		return frameHeader{}, 0, false, true
	}
	if !legal {
		return frameHeader{}, 0, true, false
	}
	h.Length = int64(length)
	if h.Masked {
		for i := range h.Key {
			h.Key[i] = byte(take(8))
		}
	}
	if missing {
		return frameHeader{}, 0, false, true
	}
	return h, at / 8, true, true
}

// FuzzHeader checks that parseHeader agrees with slowHeader, and that appendHeader undoes it.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{
		"", "\x81", "\x81\x05Hello", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "\x82\x7e\x01\x00", "\x82\xfe\x00\x7e\x01\x02\x03\x04",
		"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", "\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", "\x82\x7e\x00\x05", "\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := parseHeader(b)
		want, size, ok, legal := slowHeader(b)
		if h != want || n != size || (err == nil) != legal {
			t.Fatalf("ParseHeader = %+v, %d, %v; slowHeader = %+v, %d, %v, %v", h, n, err, want, size, ok, legal)
		}
		if !ok || !legal {
			return
		}
		if wire := appendHeader(nil, h); !bytes.Equal(wire, b[:n]) {
			t.Fatalf("appendHeader(%+v) = % x", h, wire)
		}
	})
}

func TestStatusCodeOnWire(t *testing.T) {
	ranges := []struct{ from, to int }{
		{1000, 1003}, {1007, 1011}, // RFC 6455 §7.4.1
		{1012, 1014}, // IANA's registry
		{3000, 3999}, // libraries and frameworks
		{4000, 4999}, // private use
	}
	legal := make(map[int]bool)
	for _, r := range ranges {
		for code := r.from; code <= r.to; code++ {
			legal[code] = true
		}
	}
	for code := range 1 << 16 {
		if got := StatusCode(code).onWire(); got != legal[code] {
			t.Errorf("StatusCode(%d).onWire() = %v", code, got)
		}
		payload := []byte{byte(code >> 8), byte(code), 'x'}
		got, reason, err := parseClosePayload(payload)
		if legal[code] {
			if got != StatusCode(code) || reason != "x" || err != nil {
				t.Errorf("close code %d: %d, %q, %v", code, got, reason, err)
			}
			continue
		}
		want := &CloseError{Code: StatusProtocolError, Reason: fmt.Sprintf("close code %d must not be sent", code)}
		if diff := cmp.Diff(error(want), err); diff != "" || got != 0 || reason != "" {
			t.Errorf("close code %d: %d, %q: %s", code, got, reason, diff)
		}
	}
}

// Rows 24 to 29 of the corner cases.
func TestClosePayload(t *testing.T) {
	for _, test := range []struct {
		payload string
		code    StatusCode
		reason  string
		answer  StatusCode // of the error, if there is to be one
	}{
		{"", StatusNoStatusReceived, "", 0},
		{"\x03", 0, "", StatusProtocolError},
		{"\x03\xe8", 1000, "", 0},
		{"\x03\xe8bye", 1000, "bye", 0},
		{"\x03\xe9Größe 😀", 1001, "Größe 😀", 0},
		{"\x03\xe8" + strings.Repeat("x", 123), 1000, strings.Repeat("x", 123), 0},
		{"\x03\xf4", 1012, "", 0},
		{"\x03\xf5", 1013, "", 0},
		{"\x03\xf6", 1014, "", 0},
		{"\x0b\xb8", 3000, "", 0},
		{"\x13\x87", 4999, "", 0},
		{"\x00\x00", 0, "", StatusProtocolError},
		{"\x03\xe7", 0, "", StatusProtocolError}, // 999
		{"\x03\xec", 0, "", StatusProtocolError}, // 1004
		{"\x03\xed", 0, "", StatusProtocolError}, // 1005
		{"\x03\xee", 0, "", StatusProtocolError}, // 1006
		{"\x03\xf7", 0, "", StatusProtocolError}, // 1015
		{"\x0b\xb7", 0, "", StatusProtocolError}, // 2999
		{"\x13\x88", 0, "", StatusProtocolError}, // 5000
		{"\xff\xff", 0, "", StatusProtocolError},
		{"\x03\xe8\xff", 0, "", StatusInvalidPayload},
		{"\x03\xe8ok\xc3", 0, "", StatusInvalidPayload},
		{"\x03\xe8\xed\xa0\x80", 0, "", StatusInvalidPayload},
		{"\x03\xe8\xc0\x80", 0, "", StatusInvalidPayload},
		{"\x03\xe8\xf4\x90\x80\x80", 0, "", StatusInvalidPayload},
		{"\x03\xed\xff", 0, "", StatusProtocolError}, // the code is looked at first
	} {
		code, reason, err := parseClosePayload([]byte(test.payload))
		var closeError *CloseError
		switch {
		case test.answer == 0:
			if code != test.code || reason != test.reason || err != nil {
				t.Errorf("%q: %d, %q, %v", test.payload, code, reason, err)
			}
		case !errors.As(err, &closeError) || closeError.Code != test.answer || code != 0 || reason != "":
			t.Errorf("%q: %d, %q, %v; want an error with %d", test.payload, code, reason, err, test.answer)
		}
	}
}

// Row 30 of the corner cases: a long reason is cut between runes, and never fails.
func TestCloseReason(t *testing.T) {
	for _, test := range []struct {
		name, reason, want string
	}{
		{"empty", "", ""},
		{"short", "bye", "bye"},
		{"exactly 123 bytes", strings.Repeat("x", 123), strings.Repeat("x", 123)},
		{"124 bytes", strings.Repeat("x", 124), strings.Repeat("x", 123)},
		{"a megabyte", strings.Repeat("x", 1<<20), strings.Repeat("x", 123)},
		{"two bytes over the edge", strings.Repeat("x", 122) + "é", strings.Repeat("x", 122)},
		{"two bytes before the edge", strings.Repeat("x", 121) + "éx", strings.Repeat("x", 121) + "é"},
		{"three bytes over the edge", strings.Repeat("x", 121) + "€", strings.Repeat("x", 121)},
		{"four bytes over the edge", strings.Repeat("x", 120) + "😀", strings.Repeat("x", 120)},
		{"four bytes before the edge", strings.Repeat("x", 119) + "😀x", strings.Repeat("x", 119) + "😀"},
		{"many runes", strings.Repeat("é", 100), strings.Repeat("é", 61)},
	} {
		t.Run(test.name, func(t *testing.T) {
			payload := appendClosePayload([]byte("before"), StatusGoingAway, test.reason)
			if want := "before\x03\xe9" + test.want; string(payload) != want {
				t.Fatalf("got %q, want %q", payload, want)
			}
			payload = payload[len("before"):]
			code, reason, err := parseClosePayload(payload)
			if code != StatusGoingAway || reason != test.want || err != nil || len(payload) > maxControlPayload {
				t.Errorf("read back as %d, %q, %v", code, reason, err)
			}
		})
	}
	if got := appendClosePayload([]byte("before"), StatusNoStatusReceived, "dropped"); string(got) != "before" {
		t.Errorf("status 1005 is %q", got)
	}
	// Not text at all: whatever is sent fits.
	for _, reason := range []string{strings.Repeat("\x80", 200), strings.Repeat("\xff", 200)} {
		if got := appendClosePayload(nil, StatusNormalClosure, reason); len(got) > maxControlPayload || !utf8.Valid(got[2:]) {
			t.Errorf("%q is sent", got)
		}
	}
}

func TestHeaderAllocatesNothing(t *testing.T) {
	wire := appendHeader(nil, frameHeader{Fin: true, Opcode: opText, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: 1 << 20})
	buffer := make([]byte, 0, maxHeaderSize)
	n := testing.AllocsPerRun(100, func() {
		h, _, err := parseHeader(wire)
		if err == nil {
			err = h.check(frameRules{fromClient: true})
		}
		if err != nil {
			t.Error(err)
		}
		buffer = appendHeader(buffer[:0], h)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParseHeader(b *testing.B) {
	for _, length := range []int64{20, 1000, 1 << 20} {
		b.Run(fmt.Sprint(length), func(b *testing.B) {
			wire := appendHeader(nil, frameHeader{Fin: true, Opcode: opText, Masked: true, Key: [4]byte{1, 2, 3, 4}, Length: length})
			b.ReportAllocs()
			for b.Loop() {
				h, _, err := parseHeader(wire)
				if err == nil {
					err = h.check(frameRules{fromClient: true})
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendHeader(b *testing.B) {
	h := frameHeader{Fin: true, Opcode: opText, Length: 1000}
	buffer := make([]byte, 0, maxHeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		buffer = appendHeader(buffer[:0], h)
	}
}
