package atrium

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var enginePacketsEqual = cmp.Options{cmp.AllowUnexported(enginePacket{}), cmp.Comparer(bytes.Equal)}

// readPayload reads a payload, up to its first mistake.
func readPayload(body []byte, maxPacket int) (packets []enginePacket, err *Error) {
	r := payloadReader{rest: body, maxPacket: maxPacket}
	for r.next() {
		p := r.packet
		p.data = bytes.Clone(p.data)
		packets = append(packets, p)
	}
	if r.next() {
		panic("there is something behind the end")
	}
	return packets, r.err
}

// appendPackets writes a payload of packets.
func appendPackets(packets []enginePacket) []byte {
	var list [][]byte
	for _, p := range packets {
		if p.binary {
			list = append(list, appendEngineBinary(nil, p.data))
		} else {
			list = append(list, appendEngine(nil, p.kind, p.data))
		}
	}
	return appendPayload(nil, list)
}

func TestPayload(t *testing.T) {
	text := func(kind engineType, data string) enginePacket { return enginePacket{kind: kind, data: []byte(data)} }
	bin := func(data string) enginePacket {
		return enginePacket{kind: engineMessage, binary: true, data: []byte(data)}
	}
	for _, test := range []struct {
		in   string
		want []enginePacket
	}{
		{"4", []enginePacket{text(engineMessage, "")}},
		{"4hello", []enginePacket{text(engineMessage, "hello")}},
		{"2probe\x1e3\x1e5\x1e6\x1e1\x1e0{}", []enginePacket{text(enginePing, "probe"), text(enginePong, ""), text(engineUpgrade, ""),
			text(engineNoop, ""), text(engineClose, ""), text(engineOpen, "{}")}},
		{"b", []enginePacket{bin("")}},
		{"bAQID\x1ebAQ==\x1e4é\x1eb/+8=", []enginePacket{bin("\x01\x02\x03"), bin("\x01"), text(engineMessage, "é"), bin("\xff\xef")}},
	} {
		got, err := readPayload([]byte(test.in), 100)
		if diff := cmp.Diff(test.want, got, enginePacketsEqual); err != nil || diff != "" {
			t.Errorf("%q: %v, %s", test.in, err, diff)
		}
		if again := appendPackets(got); string(again) != test.in {
			t.Errorf("%q, want %q", again, test.in)
		}
	}
	if got := string(appendEngine([]byte("x"), engineBase64, []byte("AQID"))); got != "xbAQID" {
		t.Error(got)
	}
}

func TestPayloadRefused(t *testing.T) {
	const (
		empty   = "packet: expected a type from 0 to 6, or b; it is empty"
		kind    = "packet: expected a type from 0 to 6, or b"
		padding = "packet: expected base64 with padding behind b"
		size    = "packet: expected at most 5 bytes"
		invalid = "packet: expected valid UTF-8"
	)
	for _, test := range []struct {
		in   string
		good int // packets before the mistake
		want string
	}{
		{"", 0, empty}, {"\x1e", 0, empty}, {"4a\x1e", 1, empty}, {"\x1e4a", 0, empty}, {"4a\x1e\x1e4b", 1, empty},
		{"7", 0, kind}, {"4\x1ehello", 1, kind}, {"B", 0, kind}, {"\x00", 0, kind},
		{"b!", 0, padding}, {"bAQ", 0, padding}, {"bAQ=", 0, padding}, {"bAQ==x", 0, padding}, {"b_-8=", 0, padding}, {"4\x1eb====", 1, padding},
		{"412345\x1e4123456", 1, size}, {"bAQIDBAU=\x1ebAQIDBAUG", 1, size},
		{"4\xff", 0, invalid}, {"4a\x1e4\xc3\x1e4\xa9", 1, invalid},
		{strings.Repeat("2\x1e", maxPayloadPackets) + "2", maxPayloadPackets, "payload: expected at most 65536 packets"},
	} {
		got, err := readPayload([]byte(test.in), 5)
		if len(got) != test.good || err == nil || err.Message != test.want {
			t.Errorf("%.40q: %d packets, %v, want %d, %s", test.in, len(got), err, test.good, test.want)
		}
	}
	if got, err := readPayload([]byte(strings.Repeat("2\x1e", maxPayloadPackets-1)+"2"), 5); err != nil || len(got) != maxPayloadPackets {
		t.Errorf("%d packets, %v", len(got), err)
	}
}

// slowPayload is readPayload by splitting.
func slowPayload(body []byte) (packets []enginePacket, ok bool) {
	for _, text := range strings.Split(string(body), "\x1e") {
		if text == "" || !utf8.ValidString(text) || len(packets) == maxPayloadPackets {
			return packets, false
		}
		p := enginePacket{kind: engineType(text[0]), data: []byte(text[1:])}
		if text[0] == 'b' {
			data, err := base64.StdEncoding.DecodeString(text[1:])
			if err != nil {
				return packets, false
			}
			p = enginePacket{kind: '4', binary: true, data: data}
		} else if !strings.Contains("0123456", text[:1]) {
			return packets, false
		}
		packets = append(packets, p)
	}
	return packets, true
}

// FuzzPayload checks that a payload is read as slowPayload reads it, and that what was read means
// the same when it is written again.
func FuzzPayload(f *testing.F) {
	for _, v := range readVectors(f) {
		if strings.HasSuffix(v.What, "payload") {
			f.Add([]byte(v.Payload))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := readPayload(body, len(body))
		want, ok := slowPayload(body)
		if diff := cmp.Diff(want, got, enginePacketsEqual); ok != (err == nil) || diff != "" {
			t.Fatalf("%v, %v: %s", err, ok, diff)
		}
		if !bytes.Equal(body, before) {
			t.Fatal("the payload was changed")
		}
		if len(got) == 0 {
			return
		}
		back, err := readPayload(appendPackets(got), len(body))
		if diff := cmp.Diff(got, back, enginePacketsEqual); err != nil || diff != "" {
			t.Fatalf("again: %v, %s", err, diff)
		}
		if limited, err := readPayload(body, 3); err == nil && slices.ContainsFunc(limited, func(p enginePacket) bool { return len(p.data) > 3 }) {
			t.Fatal("the limit does not hold")
		}
	})
}

// payloadDifferences are the payloads of which engine.io-parser thinks otherwise: Buffer.from takes
// anything for base64 and leaves out what it does not know, so that what arrives is not what was
// sent.
var payloadDifferences = []string{"bAQ", "bAQ=", "bAQ==x", "b====", "b!", "b_-8=", "bAQ ID", "bAQID\x1eb!\x1e4b"}

// TestPayloadVectors reads what engine.io-parser has read, and writes what it has written.
func TestPayloadVectors(t *testing.T) {
	kinds := map[string]engineType{"open": '0', "close": '1', "ping": '2', "pong": '3', "message": '4', "upgrade": '5', "noop": '6'}
	for _, v := range readVectors(t) {
		if !strings.HasSuffix(v.What, "payload") {
			continue
		}
		var want []enginePacket
		refused := false
		for _, packet := range v.Packets {
			if packet.Type == "error" {
				refused = true
				break
			}
			p := enginePacket{kind: kinds[packet.Type]}
			var data any
			if len(packet.Data) > 0 {
				if err := json.Unmarshal(packet.Data, &data); err != nil {
					t.Fatal(err)
				}
			}
			switch data := withBinary(data, func(b []byte) []byte { return b }).(type) {
			case string:
				p.data = []byte(data)
			case []byte:
				p.binary, p.data = true, data
			}
			want = append(want, p)
		}
		if v.What == "encode payload" {
			if got := string(appendPackets(want)); got != v.Payload {
				t.Errorf("%q, want %q", got, v.Payload)
			}
		}
		got, err := readPayload([]byte(v.Payload), 1000)
		differs := slices.Contains(payloadDifferences, v.Payload)
		if differs {
			if err == nil || refused {
				t.Errorf("%q: does not differ", v.Payload)
			}
			continue
		}
		if diff := cmp.Diff(want, got, enginePacketsEqual); (err != nil) != refused || diff != "" {
			t.Errorf("%q: %v, %s", v.Payload, err, diff)
		}
	}
}

func TestPayloadAllocations(t *testing.T) {
	body := appendPackets(slices.Repeat([]enginePacket{{kind: engineMessage, data: []byte(chatPacket)}}, 100))
	read := func(body []byte) {
		r := payloadReader{rest: body, maxPacket: 1000}
		for r.next() {
		}
	}
	if n := testing.AllocsPerRun(100, func() { read(body) }); n != 0 {
		t.Errorf("%v allocations for text", n)
	}
	body = appendPackets(slices.Repeat([]enginePacket{{kind: engineMessage, binary: true, data: []byte(chatPacket)}}, 100))
	if n := testing.AllocsPerRun(100, func() { read(body) }); n > 2 { // one; two under the race detector
		t.Errorf("%v allocations for base64, want one buffer", n)
	}
}

func BenchmarkPayload(b *testing.B) {
	body := appendPackets(slices.Repeat([]enginePacket{{kind: engineMessage, data: []byte(chatPacket)}}, 100))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		r := payloadReader{rest: body, maxPacket: 1000}
		for r.next() {
		}
		if r.err != nil {
			b.Fatal(r.err)
		}
	}
}

// BenchmarkPayloadSplit does the same with bytes.Split.
func BenchmarkPayloadSplit(b *testing.B) {
	body := appendPackets(slices.Repeat([]enginePacket{{kind: engineMessage, data: []byte(chatPacket)}}, 100))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		for _, text := range bytes.Split(body, []byte{payloadSeparator}) {
			if _, err := parseEngine(opText, text, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// appendEngineBinary appends a message of bytes for a payload.
func appendEngineBinary(dst, data []byte) []byte {
	return base64.StdEncoding.AppendEncode(append(dst, byte(engineBase64)), data)
}
