package atrium

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
	"unsafe"
)

const (
	noContext = "; server_no_context_takeover; client_no_context_takeover"
	// deflateFinal is an empty last block, which makes a flate.Reader say io.EOF.
	deflateFinal = "\x01\x00\x00\xff\xff"
)

func TestAcceptDeflate(t *testing.T) {
	const answer = deflateName + noContext
	lines := func(lines ...string) []string { return lines }
	tests := []struct {
		name   string
		offers []string
		want   string // "": declined
		bits   int
	}{
		{"nothing offered", nil, "", 0},
		{"another extension", lines("x-webkit-deflate-frame"), "", 0},
		{"the plain offer", lines("permessage-deflate"), answer, 15},
		{"not this name", lines("Permessage-Deflate, permessage-deflate2, permessage"), "", 0},
		{"Chrome's and Firefox's", lines("permessage-deflate; client_max_window_bits"), answer, 15},
		{"Safari's", lines("permessage-deflate"), answer, 15},
		{"our own", lines(offerDeflate()), answer, 15},

		{"58 an unknown parameter", lines("permessage-deflate; foo"), "", 0},
		{"58 an unknown parameter with a value", lines("permessage-deflate; foo=1"), "", 0},
		{"58 a parameter in capitals", lines("permessage-deflate; Server_No_Context_Takeover"), "", 0},
		{"58 server_no_context_takeover twice", lines("permessage-deflate; server_no_context_takeover; server_no_context_takeover"), "", 0},
		{"58 client_no_context_takeover twice", lines("permessage-deflate; client_no_context_takeover; client_no_context_takeover"), "", 0},
		{"58 server_max_window_bits twice", lines("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"), "", 0},
		{"58 client_max_window_bits twice", lines("permessage-deflate; client_max_window_bits; client_max_window_bits=9"), "", 0},
		{"58 server_no_context_takeover with a value", lines("permessage-deflate; server_no_context_takeover=1"), "", 0},
		{"58 client_no_context_takeover with a value", lines("permessage-deflate; client_no_context_takeover=true"), "", 0},
		{"58 server_no_context_takeover with an empty value", lines("permessage-deflate; server_no_context_takeover="), "", 0},
		{"58 server_max_window_bits without a value", lines("permessage-deflate; server_max_window_bits"), "", 0},
		{"58 server_max_window_bits=", lines("permessage-deflate; server_max_window_bits="), "", 0},
		{"58 server_max_window_bits=07", lines("permessage-deflate; server_max_window_bits=07"), "", 0},
		{"58 server_max_window_bits=7", lines("permessage-deflate; server_max_window_bits=7"), "", 0},
		{"58 server_max_window_bits=08", lines("permessage-deflate; server_max_window_bits=08"), "", 0},
		{"58 server_max_window_bits=16", lines("permessage-deflate; server_max_window_bits=16"), "", 0},
		{"58 server_max_window_bits=+9", lines("permessage-deflate; server_max_window_bits=+9"), "", 0},
		{"58 server_max_window_bits=-9", lines("permessage-deflate; server_max_window_bits=-9"), "", 0},
		{"58 server_max_window_bits=0x9", lines("permessage-deflate; server_max_window_bits=0x9"), "", 0},
		{"58 server_max_window_bits=1_0", lines("permessage-deflate; server_max_window_bits=1_0"), "", 0},
		{"58 server_max_window_bits, huge", lines("permessage-deflate; server_max_window_bits=99999999999999999999"), "", 0},
		{"58 client_max_window_bits=", lines("permessage-deflate; client_max_window_bits="), "", 0},
		{"58 client_max_window_bits=07", lines("permessage-deflate; client_max_window_bits=07"), "", 0},
		{"58 client_max_window_bits=16", lines("permessage-deflate; client_max_window_bits=16"), "", 0},
		{"58 single quotes", lines("permessage-deflate; server_max_window_bits='10'"), "", 0},
		{"58 quotes around too much", lines(`permessage-deflate; "server_max_window_bits=10"`), "", 0},
		{"58 quotes with spaces", lines(`permessage-deflate; server_max_window_bits=" 10"`), "", 0},
		{"58 empty quotes", lines(`permessage-deflate; server_max_window_bits=""`), "", 0},
		{"58 a semicolon too many", lines("permessage-deflate;"), "", 0},

		{"58 the next offer wins", lines("permessage-deflate; foo, permessage-deflate; server_max_window_bits=10"), answer + "; server_max_window_bits=10", 10},
		{"58 the first acceptable offer wins", lines("permessage-deflate; server_max_window_bits=9, permessage-deflate"), answer + "; server_max_window_bits=9", 9},
		{"58 after wrong quotes", lines(`permessage-deflate; server_max_window_bits="1"0, permessage-deflate`), answer, 15},
		{"58 after a broken offer", lines("a b c, permessage-deflate;;, permessage-deflate"), answer, 15},
		{"58 on another line", lines("foo; bar", "permessage-deflate; server_max_window_bits=16", "permessage-deflate"), answer, 15},

		{"59 client_max_window_bits=8", lines("permessage-deflate; client_max_window_bits=8"), answer, 15},
		{"59 client_max_window_bits=15", lines("permessage-deflate; client_max_window_bits=15"), answer, 15},

		{"60 a quoted value", lines(`permessage-deflate; server_max_window_bits="10"; client_max_window_bits="8"`), answer + "; server_max_window_bits=10", 10},
		{"60 a quoted value with escapes", lines(`permessage-deflate; server_max_window_bits="\1\0"`), answer + "; server_max_window_bits=10", 10},
		{"60 a comma in another offer's quotes", lines(`foo; bar=", permessage-deflate, ", permessage-deflate; server_max_window_bits=8`), answer + "; server_max_window_bits=8", 8},

		{"61 both takeovers declined", lines("permessage-deflate" + noContext), answer, 15},
		{"61 server_no_context_takeover", lines("permessage-deflate; server_no_context_takeover"), answer, 15},
		{"61 client_no_context_takeover", lines("permessage-deflate; client_no_context_takeover"), answer, 15},

		{"62 server_max_window_bits=8", lines("permessage-deflate; server_max_window_bits=8"), answer + "; server_max_window_bits=8", 8},
		{"62 server_max_window_bits=9", lines("permessage-deflate; server_max_window_bits=9"), answer + "; server_max_window_bits=9", 9},
		{"62 server_max_window_bits=14", lines("permessage-deflate; server_max_window_bits=14"), answer + "; server_max_window_bits=14", 14},
		{"62 server_max_window_bits=15", lines("permessage-deflate; server_max_window_bits=15"), answer + "; server_max_window_bits=15", 15},
		{"62 all parameters", lines("permessage-deflate ;client_max_window_bits=9;\tserver_max_window_bits = 12; client_no_context_takeover;server_no_context_takeover"),
			answer + "; server_max_window_bits=12", 12},

		{"50 an unclosed quote behind a good offer", lines(`permessage-deflate, permessage-deflate; server_max_window_bits="10`), "", 0},
		{"50 an unclosed quote ahead of a good offer", lines(`foo; bar="1, permessage-deflate`), "", 0},
		{"50 thousands of offers", lines(strings.Repeat("foo, ", 20000) + "permessage-deflate"), "", 0},
		{"50 thousands of lines", append(make([]string, 20000), "permessage-deflate"), answer, 15},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			params, response := acceptDeflate(test.offers)
			if response != test.want || int(params.windowBits) != test.bits {
				t.Errorf("got %q, %+v; want %q, %d bits", response, params, test.want, test.bits)
			}
		})
	}
}

func TestCheckDeflate(t *testing.T) {
	const good = deflateName + noContext
	lines := func(lines ...string) []string { return lines }
	tests := []struct {
		name     string
		response []string
		bits     int // 0: not agreed
		fails    bool
	}{
		{"no header", nil, 0, false},
		{"an empty header", lines(""), 0, false},
		{"our own server", lines(good), 15, false},
		{"only what must be", lines("permessage-deflate; server_no_context_takeover"), 15, false},
		{"server_max_window_bits", lines(good + "; server_max_window_bits=8"), 15, false},
		{"client_max_window_bits=8", lines(good + "; client_max_window_bits=8"), 8, false},
		{"client_max_window_bits=15", lines(good + "; client_max_window_bits=15"), 15, false},
		{"all parameters", lines(good + `; client_max_window_bits="12"; server_max_window_bits=9`), 12, false},

		{"61 server_no_context_takeover not granted", lines("permessage-deflate"), 0, true},
		{"61 the other side's only", lines("permessage-deflate; client_no_context_takeover"), 0, true},
		{"66 an unknown parameter", lines(good + "; foo"), 0, true},
		{"66 a duplicate parameter", lines(good + "; server_no_context_takeover"), 0, true},
		{"66 a duplicate server_max_window_bits", lines(good + "; server_max_window_bits=9; server_max_window_bits=9"), 0, true},
		{"66 server_no_context_takeover with a value", lines("permessage-deflate; server_no_context_takeover=1"), 0, true},
		{"66 client_max_window_bits without a value", lines(good + "; client_max_window_bits"), 0, true},
		{"66 client_max_window_bits=16", lines(good + "; client_max_window_bits=16"), 0, true},
		{"66 client_max_window_bits=7", lines(good + "; client_max_window_bits=7"), 0, true},
		{"66 server_max_window_bits without a value", lines(good + "; server_max_window_bits"), 0, true},
		{"66 server_max_window_bits=07", lines(good + "; server_max_window_bits=07"), 0, true},
		{"66 a malformed parameter", lines(good + "; server_max_window_bits="), 0, true},
		{"66 a malformed extension", lines(good + ";"), 0, true},
		{"66 malformed as a whole", lines(good + `; server_max_window_bits="9`), 0, true},
		{"66 another extension", lines("foo"), 0, true},
		{"66 a second extension", lines(good + ", foo"), 0, true},
		{"66 a second extension on another line", lines(good, "foo"), 0, true},
		{"66 permessage-deflate twice", lines(good + ", " + good), 0, true},
		{"66 too long", lines(good + strings.Repeat(" ", maxExtensionsHeader)), 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			params, err := checkDeflate(test.response)
			if int(params.windowBits) != test.bits || (err != nil) != test.fails {
				t.Errorf("got %+v, %v; want %d bits, failure %t", params, err, test.bits, test.fails)
			}
		})
	}
}

// TestDeflateRoundTrip, at every window size and level: what compress writes is read by inflate,
// and by a reader that remembers no more than the window.
func TestDeflateRoundTrip(t *testing.T) {
	messages := map[string][]byte{
		"63 empty":        {},
		"one byte":        {0},
		"a short text":    []byte(`{"event":"typing","data":{"room":"lobby"}}`),
		"a repetition":    bytes.Repeat([]byte("ab"), 128),
		"256 bytes":       text(256, 1),
		"257 bytes":       text(257, 1),
		"700 bytes":       text(700, 1),
		"a window":        text(32<<10, 2),
		"windows":         text(70<<10, 3),
		"zeros":           make([]byte, 70<<10),
		"random":          random(70_000),
		"random, a block": random(65_535),
		"random twice":    bytes.Repeat(random(1000), 2),
	}
	for name, message := range messages {
		t.Run(name, func(t *testing.T) {
			reaches := make(map[string]int) // how far back what is known to be right refers
			for bits := 8; bits <= 15; bits++ {
				for level := 1; level <= 9; level++ {
					p := deflateParams{windowBits: int8(bits)}
					if level > 1 && p.level(len(message), level) == p.level(len(message), 1) {
						continue
					}
					dst := []byte("dst")
					compressed, found := bytes.CutPrefix(p.compress(dst, message, level), dst)
					if !found {
						t.Fatal("compress has overwritten dst")
					}
					farthest, known := reaches[string(compressed)]
					if !known {
						slow := slowInflater{in: append(bytes.Clone(compressed), deflateTail...)}
						if !slow.inflate(len(compressed)) || !bytes.Equal(slow.out, message) {
							t.Fatalf("%d bits, level %d: not a valid compressed message", bits, level)
						}
						got, err := inflate(dst, compressed, int64(len(message)), false)
						if err != nil || !bytes.Equal(got, append(dst, message...)) {
							t.Fatalf("%d bits, level %d: inflated to %d bytes, %v; want %d", bits, level, len(got), err, len(message))
						}
						farthest = slow.farthest
						reaches[string(compressed)] = farthest
					}
					if farthest > 1<<bits {
						t.Fatalf("%d bits, level %d: refers back %d bytes", bits, level, farthest)
					}
					// All that are sent to at one level can be sent the same.
					if bits < 15 && p.level(len(message), level) == level && !bytes.Equal(compressed, deflateParams{windowBits: 15}.compress(nil, message, level)) {
						t.Fatalf("%d bits, level %d: not what others of the same level get", bits, level)
					}
				}
			}
		})
	}
}

// TestCompressSmallWindow: where the window is small, long messages have no references, short ones
// do.
func TestCompressSmallWindow(t *testing.T) {
	for bits := 8; bits <= 14; bits++ {
		for _, n := range []int{1 << bits, 1<<bits + 1} {
			p := deflateParams{windowBits: int8(bits)}
			compressed := p.compress(nil, bytes.Repeat([]byte("abcdefgh"), n/8+1)[:n], 6)
			slow := slowInflater{in: append(compressed, deflateTail...)}
			if !slow.inflate(len(compressed)) {
				t.Fatal("not valid")
			}
			if short := n <= 1<<bits; short != (slow.farthest > 0) {
				t.Errorf("%d bits, %d bytes: refers back %d", bits, n, slow.farthest)
			}
		}
	}
}

// TestCompressPooled, row 65: what a pooled writer has written before, for whomever, leaves no
// trace.
func TestCompressPooled(t *testing.T) {
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			choose := mathrand.New(mathrand.NewPCG(7, uint64(worker)))
			for range 60 {
				message := text(choose.IntN(5000), choose.IntN(100))
				level := 1 + choose.IntN(9)
				bits := 8 + choose.IntN(8)
				p := deflateParams{windowBits: int8(bits)}
				got := p.compress(nil, message, level)
				if want := freshlyCompressed(t, message, p.level(len(message), level)); !bytes.Equal(got, want) {
					t.Errorf("level %d, %d bits: a used writer writes something else than a new one", level, bits)
				}
			}
		})
	}
	group.Wait()
}

func freshlyCompressed(t testing.TB, message []byte, level int) []byte {
	if len(message) == 0 {
		return []byte{0}
	}
	if level <= 1 {
		return new(deflater).deflate(nil, message, level == 1)
	}
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Error(err)
		return nil
	}
	w.Write(message)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte(deflateTail))
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestInflate(t *testing.T) {
	tests := []struct {
		name       string
		compressed string
		want       string
		code       StatusCode // 0: none
	}{
		{"RFC 7692 §7.2.3.1, one block", "f2 48 cd c9 c9 07 00", "Hello", 0},
		{"RFC 7692 §7.2.3.1, its fragments together", "f2 48 cd" + "c9 c9 07 00", "Hello", 0},
		{"RFC 7692 §7.2.3.3, no compression", "00 05 00 fa ff 48 65 6c 6c 6f 00", "Hello", 0},
		{"63 RFC 7692 §7.2.3.4, BFINAL", "f3 48 cd c9 c9 07 00 00", "Hello", 0},
		{"RFC 7692 §7.2.3.5, two blocks", "f2 48 05 00 00 00 ff ff ca c9 c9 07 00", "Hello", 0},
		{"63 RFC 7692 §7.2.3.6, empty", "00", "", 0},

		{"63 empty, without a byte", "", "", 0},
		{"63 empty, with its tail", "00 00 00 ff ff", "", 0},
		{"63 empty, BFINAL", "01", "", 0},
		{"63 empty, BFINAL with its tail", "01 00 00 ff ff", "", 0},
		{"63 empty, BFINAL, fixed codes", "03 00", "", 0},
		{"63 extra tail", "f2 48 cd c9 c9 07 00 00 00 ff ff", "Hello", 0},
		{"63 two extra tails", "f2 48 cd c9 c9 07 00 00 00 ff ff 00 00 00 ff ff", "Hello", 0},
		{"63 an empty block ahead of the tail", "f2 48 cd c9 c9 07 00 00 00 ff ff 00", "Hello", 0},
		{"63 missing tail, at a byte's end", "00 05 00 fa ff 48 65 6c 6c 6f", "Hello", 0},
		{"63 missing tail, BFINAL", "f3 48 cd c9 c9 07 00", "Hello", 0},
		{"63 missing tail, BFINAL, stored", "01 05 00 fa ff 48 65 6c 6c 6f", "Hello", 0},
		{"63 BFINAL mid-stream", "f3 48 cd c9 c9 07 00" + "f3 48 cd c9 c9 07 00 00", "HelloHello", 0},
		{"63 BFINAL mid-stream, stored", "01 05 00 fa ff 48 65 6c 6c 6f" + "f2 48 cd c9 c9 07 00", "HelloHello", 0},
		{"63 BFINAL mid-stream, an empty one", "f3 48 cd c9 c9 07 00" + "01 00 00 ff ff" + "f2 48 cd c9 c9 07 00", "HelloHello", 0},
		{"63 BFINAL everywhere", strings.Repeat("03 00", 1000), "", 0},

		{"57 a reserved block type", "07", "", 1007},
		{"57 ff", "ff", "", 1007},
		{"57 lengths that differ", "00 05 00 05 00 48 65 6c 6c 6f 00", "", 1007},
		{"57 a stored block cut off", "00 05 00 fa ff 48", "", 1007},
		{"57 a stored block cut off at the tail's length", "00 09 00 f6 ff", "", 1007},
		{"57 the same, BFINAL", "01 09 00 f6 ff", "", 1007},
		{"57 a stored block's length cut off", "00 05 00", "", 1007},
		{"57 cut off in a block", "f2 48 cd c9", "", 1007},
		{"57 cut off in a code", "4a", "", 1007},
		{"57 cut off in the codes' lengths", "04 c0", "", 1007},
		{"57 refers back too far", "03 02", "", 1007},
		{"57 garbage behind BFINAL", "f3 48 cd c9 c9 07 00 ff", "", 1007},
		{"57 garbage behind the message", "f2 48 cd c9 c9 07 00 00 00 ff ff ff", "", 1007},
		{"57 text that was not compressed", "7b 22 65 76 65 6e 74 22 3a 22 61 22 7d", "", 1007},
		{"57 zlib's header", "78 9c f2 48 cd c9 c9 07 00", "", 1007},
		{"57 gzip's header", "1f 8b 08 00 00 00 00 00 00 ff f2 48 cd c9 c9 07 00", "", 1007},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			compressed := unhex(t, test.compressed)
			kept := bytes.Clone(compressed)
			got, err := inflate(nil, compressed, 1<<20, true)
			if code := codeOf(t, err); string(got) != test.want || code != test.code {
				t.Errorf("got %q, %v; want %q, code %d", got, err, test.want, test.code)
			}
			if !bytes.Equal(compressed, kept) {
				t.Error("inflate has changed what it reads")
			}
		})
	}
}

// codeOf returns the code of a *CloseError, 0 if there is none.
func codeOf(t testing.TB, err error) StatusCode {
	t.Helper()
	if err == nil {
		return 0
	}
	e, ok := errors.AsType[*CloseError](err)
	if !ok {
		t.Fatalf("%v is no *CloseError", err)
	}
	return e.Code
}

// TestInflateVectors reads what Node's zlib has written, at every window size: see
// e2e/zlib-vectors.mjs.
func TestInflateVectors(t *testing.T) {
	file, err := os.ReadFile("testdata/deflate-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	tested := 0
	for line := range strings.Lines(string(file)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var size, seed int
		var encoded string
		if _, err := fmt.Sscan(line, &size, &seed, &encoded); err != nil {
			t.Fatal(err)
		}
		compressed, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		got, err := inflate(nil, compressed, int64(size), false)
		if err != nil || !bytes.Equal(got, text(size, seed)) {
			t.Errorf("seed %d: %d bytes, %v", seed, len(got), err)
		}
		tested++
	}
	if tested != 114 {
		t.Errorf("%d vectors", tested)
	}
}

// TestInflateLimit, row 56: the limit is on what comes out, to the byte.
func TestInflateLimit(t *testing.T) {
	for _, n := range []int{0, 1, 511, 512, 513, 4096, 100_000} {
		compressed := deflateParams{windowBits: 15}.compress(nil, text(n, 4), 6)
		for _, dst := range [][]byte{nil, make([]byte, 0, 100), make([]byte, 5, 300_000)} {
			for _, limit := range []int64{0, 1, int64(n) - 1, int64(n), int64(n) + 1, math.MaxInt64} {
				if limit < 0 {
					continue
				}
				want := StatusCode(0)
				if int64(n) > limit {
					want = StatusMessageTooBig
				}
				out, err := inflate(dst, compressed, limit, false)
				if got := codeOf(t, err); got != want {
					t.Errorf("%d bytes, limit %d: %v", n, limit, err)
				}
				if want == 0 && !bytes.Equal(out[len(dst):], text(n, 4)) {
					t.Errorf("%d bytes, limit %d: inflated to something else", n, limit)
				}
			}
		}
	}
	for _, limit := range []int64{0, 1, 1 << 20, math.MaxInt64 - 100, math.MaxInt64} {
		if compressedLimit(limit) < limit {
			t.Errorf("compressedLimit(%d) = %d", limit, compressedLimit(limit))
		}
	}
}

// TestInflateText, row 21.
func TestInflateText(t *testing.T) {
	long := bytes.Repeat([]byte("grüße, 世界, 🏛️ "), 10_000)
	tests := []struct {
		name string
		text []byte
		ok   bool
	}{
		{"ASCII", []byte("Hello"), true},
		{"runes at every place of a chunk", long, true},
		{"the last rune unfinished", append(bytes.Clone(long), "\xE4\xB8"...), false},
		{"a bad byte at the end", append(bytes.Clone(long), 0xFF), false},
		{"a surrogate", []byte("\xED\xA0\x80"), false},
		{"overlong", []byte("\xC0\x80"), false},
		{"beyond Unicode", []byte("\xF4\x90\x80\x80"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			compressed := deflateParams{windowBits: 15}.compress(nil, test.text, 1)
			want := StatusInvalidPayload
			if test.ok {
				want = 0
			}
			got, err := inflate(nil, compressed, 1<<20, true)
			if codeOf(t, err) != want || test.ok && !bytes.Equal(got, test.text) {
				t.Errorf("as a text: %v", err)
			}
			if _, err := inflate(nil, compressed, 1<<20, false); err != nil {
				t.Errorf("as bytes: %v", err)
			}
		})
	}

	// It fails at the bad byte, and does not inflate the gigabyte behind it.
	bad := deflateParams{windowBits: 15}.compress(nil, []byte("\xC0\x80"), 1)
	bomb := append(append(bad, deflateTail...), bomb(1<<30)...)
	if _, err := inflate(nil, bomb, math.MaxInt64, true); codeOf(t, err) != StatusInvalidPayload {
		t.Error(err)
	}
}

// bomb returns n zeros, n being a multiple of 1 MiB, compressed about a thousand times.
func bomb(n int) []byte {
	part := deflateParams{windowBits: 15}.compress(nil, make([]byte, 1<<20), 9)
	part = append(part, deflateTail...)
	return bytes.TrimSuffix(bytes.Repeat(part, n>>20), []byte(deflateTail))
}

// TestInflateBomb, row 56: a gigabyte of zeros in about a megabyte.
func TestInflateBomb(t *testing.T) {
	bomb := bomb(1 << 30)
	if len(bomb) > 1_100_000 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	const limit = 1 << 20

	t.Run("all of it", func(t *testing.T) {
		used := allocated(func() {
			if _, err := inflate(nil, bomb, limit, false); codeOf(t, err) != StatusMessageTooBig {
				t.Error(err)
			}
		})
		if used > 2_000_000 {
			t.Errorf("%d bytes allocated", used)
		}
	})
	t.Run("of one byte at a time", func(t *testing.T) {
		// BFINAL in every block: each costs a reset, and that must stay cheap.
		blocks := bytes.Repeat([]byte{0x03, 0x00}, 1<<19)
		used := allocated(func() {
			if out, err := inflate(nil, blocks, limit, false); len(out) != 0 || err != nil {
				t.Errorf("%d bytes, %v", len(out), err)
			}
		})
		if used > 2_000_000 {
			t.Errorf("%d bytes allocated", used)
		}
	})
}

// TestInflateDamagedOnce: a message with an error at its end is inflated once, and not again in the
// hope that it is valid without a tail.
func TestInflateDamagedOnce(t *testing.T) {
	cost := func(message []byte, want StatusCode) uint64 {
		return allocated(func() {
			if _, err := inflate(nil, message, 1<<20, false); codeOf(t, err) != want {
				t.Errorf("got %v; want code %d", err, want)
			}
		})
	}
	whole := bomb(1 << 20)
	valid, damaged := cost(whole, 0), cost(append(bytes.Clone(whole), 0x02), StatusInvalidPayload)
	if damaged > valid+valid/2 {
		t.Errorf("%d bytes allocated for a damaged message, and %d for a valid one", damaged, valid)
	}
}

// TestInflateDictionary, row 65: what one message held cannot be referred to by another, nor by the
// same one's second data set, whatever happened to the first.
func TestInflateDictionary(t *testing.T) {
	secret := []byte("the secret is 4711, the secret is 4711")
	var withSecret bytes.Buffer
	w, err := flate.NewWriterDict(&withSecret, 9, secret)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(secret)
	w.Flush()
	thief := bytes.TrimSuffix(withSecret.Bytes(), []byte(deflateTail))
	honest := deflateParams{windowBits: 15}.compress(nil, secret, 9)

	steal := func(after string) {
		t.Helper()
		if out, err := inflate(nil, thief, 1<<20, true); codeOf(t, err) != StatusInvalidPayload {
			t.Errorf("after %s: inflated to %q, %v", after, out, err)
		}
		if out, err := inflate(nil, append([]byte{0x03, 0x00}, thief...), 1<<20, true); codeOf(t, err) != StatusInvalidPayload {
			t.Errorf("after %s and an empty block: inflated to %q, %v", after, out, err)
		}
	}
	for range 20 { // the pool may drop one
		inflate(nil, honest, 1<<20, true)
		steal("a message")
		inflate(nil, honest, 5, true)
		steal("a message over the limit")
		inflate(nil, append(bytes.Clone(honest), 0xFF), 1<<20, true)
		steal("a message with an error")
		if out, err := inflate(nil, honest, 1<<20, true); err != nil || !bytes.Equal(out, secret) {
			t.Errorf("%q, %v", out, err)
		}
	}
	final := slices.Concat(honest, []byte(deflateTail+deflateFinal), thief)
	if out, err := inflate(nil, final, 1<<20, true); codeOf(t, err) != StatusInvalidPayload {
		t.Errorf("behind BFINAL: inflated to %q, %v", out, err)
	}
}

// TestInflateConcurrently shares the pool between messages that end well and that do not.
func TestInflateConcurrently(t *testing.T) {
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := range 100 {
				message := text(i*50, worker)
				compressed := deflateParams{windowBits: 15}.compress(nil, message, 1)
				if out, err := inflate(nil, compressed, 1<<20, false); err != nil || !bytes.Equal(out, message) {
					t.Errorf("%d bytes: %d, %v", len(message), len(out), err)
				}
				if _, err := inflate(nil, append(compressed, 0xFF), 1<<20, false); err == nil {
					t.Error("garbage at the end was not noticed")
				}
			}
		})
	}
	group.Wait()
}

// TestDeflateMemory keeps the figures of conn_deflate.go's first comment.
func TestDeflateMemory(t *testing.T) {
	message := text(20_000, 1)
	for level, most := range map[int]uint64{2: 830_000, 6: 830_000, 9: 830_000} {
		used := allocated(func() {
			w, err := flate.NewWriter(io.Discard, level)
			if err != nil {
				t.Fatal(err)
			}
			w.Write(message)
			w.Flush()
		})
		if used > most {
			t.Errorf("a writer of level %d takes %d bytes", level, used)
		}
	}
	d := new(deflater)
	d.deflate(nil, random(100_000), true)
	d.deflate(nil, text(100_000, 1), true)
	if used := unsafe.Sizeof(*d) + uintptr(cap(d.matches))*unsafe.Sizeof(match{}); used > 80_000 {
		t.Errorf("a writer of level 1 takes %d bytes", used)
	}
	if used := allocated(func() { inflaters.New() }); used > 14_000 {
		t.Errorf("a reader takes %d bytes", used)
	}

	// The pools work. The race detector makes them forget one in four.
	dst := make([]byte, 0, len(message))
	compressed := deflateParams{windowBits: 15}.compress(nil, message, 1)
	if used := allocated(func() {
		for range 100 {
			deflateParams{windowBits: 15}.compress(dst, message, 1)
		}
	}); used/100 > 60_000 {
		t.Errorf("compress allocates %d bytes a message", used/100)
	}
	if used := allocated(func() {
		for range 100 {
			inflate(dst, compressed, 1<<20, true)
		}
	}); used/100 > 10_000 {
		t.Errorf("inflate allocates %d bytes a message", used/100)
	}
}

// slowInflater is RFC 1951 read aloud, a bit at a time. It allows and forbids what compress/flate
// does: a code that has only one word and uses one bit for it, but no other incomplete code.
type slowInflater struct {
	in       []byte
	bit      int // position in in
	out      []byte
	start    int // of the data set in out
	farthest int // distance
	bad      bool
}

// slowLimit is what slowInflater does not inflate any more.
const slowLimit = 1 << 21

// inflate reads all of in: data sets one after the other, each ending with a last block, which is
// padded to a byte, or the last one with in. It may end before in does, if it has read message
// bytes.
func (s *slowInflater) inflate(message int) (ok bool) {
	for s.bit < 8*len(s.in) {
		final := s.bits(1) == 1
		s.block(s.bits(2))
		if s.bad {
			return false
		}
		if final {
			s.bit = (s.bit + 7) &^ 7
			s.start = len(s.out)
			if s.bit >= 8*message {
				return true
			}
		}
	}
	return true
}

func (s *slowInflater) bits(n int) (v int) {
	if s.bit+n > 8*len(s.in) {
		s.bad = true
		s.bit = 8 * len(s.in)
		return 0
	}
	for i := range n {
		v |= int(s.in[s.bit>>3]>>(s.bit&7)&1) << i
		s.bit++
	}
	return v
}

func (s *slowInflater) block(kind int) {
	switch kind {
	case 0:
		s.bit = (s.bit + 7) &^ 7
		n, complement := s.bits(16), s.bits(16)
		if n != ^complement&0xFFFF {
			s.bad = true
		}
		for i := 0; i < n && !s.bad; i++ {
			s.emit(byte(s.bits(8)))
		}
	case 1:
		var lengths []int
		for i, n := range []int{144, 112, 24, 8} {
			for range n {
				lengths = append(lengths, []int{8, 9, 7, 8}[i])
			}
		}
		distances := make([]int, 32)
		for i := range distances {
			distances[i] = 5
		}
		s.compressed(s.code(lengths), s.code(distances))
	case 2:
		literals, distances, meta := 257+s.bits(5), 1+s.bits(5), 4+s.bits(4)
		if literals > 286 || distances > 30 {
			s.bad = true
			return
		}
		order := []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
		metaLengths := make([]int, 19)
		for _, i := range order[:meta] {
			metaLengths[i] = s.bits(3)
		}
		metaCode := s.code(metaLengths)
		var lengths []int
		for len(lengths) < literals+distances && !s.bad {
			value, repeat := 0, 1
			switch symbol := s.symbol(metaCode); {
			case symbol < 16:
				value = symbol
			case symbol == 16:
				if len(lengths) == 0 {
					s.bad = true
					return
				}
				value, repeat = lengths[len(lengths)-1], 3+s.bits(2)
			case symbol == 17:
				repeat = 3 + s.bits(3)
			default:
				repeat = 11 + s.bits(7)
			}
			for range repeat {
				lengths = append(lengths, value)
			}
		}
		if s.bad || len(lengths) != literals+distances {
			s.bad = true
			return
		}
		s.compressed(s.code(lengths[:literals]), s.code(lengths[literals:]))
	default:
		s.bad = true
	}
}

func (s *slowInflater) compressed(literals, distances map[string]int) {
	lengthBase := []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	for !s.bad {
		symbol := s.symbol(literals)
		switch {
		case s.bad || symbol == 256:
			return
		case symbol < 256:
			s.emit(byte(symbol))
			continue
		case symbol > 285:
			s.bad = true
			return
		}
		extra := max(0, (symbol-261)/4)
		if symbol == 285 {
			extra = 0
		}
		length := lengthBase[symbol-257] + s.bits(extra)
		symbol = s.symbol(distances)
		if s.bad || symbol > 29 {
			s.bad = true
			return
		}
		extra = max(0, symbol/2-1)
		distance := 1 + symbol
		if extra > 0 {
			distance = 1 + (2+symbol&1)<<extra
		}
		distance += s.bits(extra)
		if s.bad || distance > len(s.out)-s.start {
			s.bad = true
			return
		}
		s.farthest = max(s.farthest, distance)
		for range length {
			s.emit(s.out[len(s.out)-distance])
		}
	}
}

func (s *slowInflater) emit(b byte) {
	s.out = append(s.out, b)
	s.bad = s.bad || len(s.out) > slowLimit
}

// code gives each code word, as a string of 0 and 1, its symbol (RFC 1951 §3.2.2).
func (s *slowInflater) code(lengths []int) map[string]int {
	words := make(map[string]int)
	next, free := 0, 1<<15
	for length := 1; length <= 15; length++ {
		next <<= 1
		for symbol, l := range lengths {
			if l == length {
				words[fmt.Sprintf("%0*b", length, next)] = symbol
				next++
				free -= 1 << (15 - length)
			}
		}
	}
	_, single := words["0"]
	if free != 0 && len(words) > 0 && !(single && len(words) == 1) {
		s.bad = true
	}
	return words
}

func (s *slowInflater) symbol(code map[string]int) int {
	word := make([]byte, 0, 15)
	for len(word) < 15 && !s.bad {
		word = append(word, '0'+byte(s.bits(1)))
		if symbol, ok := code[string(word)]; ok && !s.bad {
			return symbol
		}
	}
	s.bad = true
	return 0
}

// slowInflate says what inflate should, without a limit. Of a message that is cut off, out has as
// much as can be made of it and what is put behind it.
func slowInflate(message []byte) (out []byte, ok bool) {
	for _, tail := range []string{deflateTail, ""} {
		s := slowInflater{in: append(bytes.Clone(message), tail...)}
		if s.inflate(len(message)) {
			return s.out, true
		}
	}
	for _, tail := range []string{deflateTail + deflateFinal, deflateFinal} {
		s := slowInflater{in: append(bytes.Clone(message), tail...)}
		s.inflate(math.MaxInt / 8)
		if len(s.out) > len(out) {
			out = s.out
		}
	}
	return out, false
}

// TestInflateDamaged has messages that are cut off, or have one bit changed, against slowInflate.
func TestInflateDamaged(t *testing.T) {
	check := func(message []byte) {
		t.Helper()
		got, err := inflate(nil, message, slowLimit/2, false)
		want, ok := slowInflate(message)
		if ok != (err == nil) || ok && !bytes.Equal(got, want) {
			t.Errorf("%x: got %q, %v; want %q, %t", message, got, err, want, ok)
		}
	}
	for b := range 256 {
		check([]byte{byte(b)})
	}
	choose := mathrand.New(mathrand.NewPCG(3, 4))
	for i := range 300 {
		message := deflateParams{windowBits: 15}.compress(nil, text(50+i, i), 1+i%9)
		check(message[:choose.IntN(len(message))])
		message[choose.IntN(len(message))] ^= 1 << choose.IntN(8)
		check(message)
	}
}

// plainlyInflated is what a flate.Reader for every data set makes of b.
func plainlyInflated(b []byte, limit int) (out []byte) {
	r := bytes.NewReader(b)
	for r.Len() > 0 && len(out) <= limit {
		part, err := io.ReadAll(io.LimitReader(flate.NewReader(r), int64(limit)+1))
		out = append(out, part...)
		if err != nil {
			break
		}
	}
	return out
}

func FuzzInflate(f *testing.F) {
	for _, seed := range []string{
		"f248cdc9c90700", "f348cdc9c9070000", "00", "01", "0300", "000500faff48656c6c6f00",
		"f2480500" + "0000ffff" + "cac9c90700", "000400fbff", "010900f6ff", "ff", "04c0", "0302",
	} {
		b, _ := hex.DecodeString(seed)
		f.Add(b, uint32(1000), true)
	}
	for _, level := range []int{1, 6} {
		for _, n := range []int{100, 3000} {
			compressed := deflateParams{windowBits: 15}.compress(nil, text(n, n), level)
			f.Add(compressed, uint32(n), true)
			f.Add(compressed[:n/8], uint32(n), false)
			f.Add(append(compressed, deflateTail...), uint32(n-1), false)
		}
	}
	f.Fuzz(func(t *testing.T, message []byte, limit32 uint32, isText bool) {
		limit := int64(limit32 % (slowLimit / 2))
		got, err := inflate(nil, message, limit, isText)
		code := codeOf(t, err)

		want, ok := slowInflate(message)
		tooBig, valid := int64(len(want)) > limit, !isText || utf8.Valid(want)
		switch code {
		case 0:
			if !ok || tooBig || !valid || !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes; want ok %t, %d bytes, valid %t", len(got), ok, len(want), valid)
			}
			if int64(cap(got)) > limit+limit/2+64 { // size classes round up
				t.Fatalf("%d bytes for a limit of %d", cap(got), limit)
			}
			plain := plainlyInflated(append(bytes.Clone(message), deflateTail+deflateFinal...), len(got))
			if !bytes.Equal(plain, got) {
				t.Fatal("compress/flate itself says something else")
			}
		case StatusMessageTooBig:
			if !tooBig {
				t.Fatalf("too big, with %d bytes and a limit of %d", len(want), limit)
			}
		case StatusInvalidPayload:
			if ok && valid {
				t.Fatalf("invalid, but it is %q", want)
			}
		default:
			t.Fatal(err)
		}

		// Taken as a message to send, it comes back, over any window.
		for bits := 8; bits <= 15; bits++ {
			level := 1 + len(message)%9
			compressed := deflateParams{windowBits: int8(bits)}.compress(nil, message, level)
			back, err := inflate(nil, compressed, int64(len(message)), false)
			if err != nil || !bytes.Equal(back, message) {
				t.Fatalf("%d bits, level %d: %v", bits, level, err)
			}
		}
	})
}

// jsonText returns n bytes of what events carry.
func jsonText(n int) []byte {
	choose := mathrand.New(mathrand.NewPCG(1, 2))
	words := strings.Fields("lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor")
	word := func() string { return words[choose.IntN(len(words))] }
	var b strings.Builder
	b.WriteString(`{"event":"history","data":[`)
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"user":"%s%d","text":"%s %s %s","at":%d,"read":%t},`,
			i, word(), choose.IntN(1000), word(), word(), word(), 1_700_000_000+choose.IntN(1e6), choose.IntN(2) == 0)
	}
	return []byte(b.String()[:n])
}

var benchmarkSizes = []int{200, 4 << 10, 64 << 10}

func BenchmarkCompress(b *testing.B) {
	for _, size := range benchmarkSizes {
		for _, bits := range []int{15, 9} {
			message := jsonText(size)
			for _, level := range []int{1, 6} {
				b.Run(fmt.Sprintf("%dB/window%d/level%d", size, bits, level), func(b *testing.B) {
					dst := make([]byte, 0, 2*size)
					b.ReportAllocs()
					b.SetBytes(int64(size))
					var n int
					for b.Loop() {
						n = len(deflateParams{windowBits: int8(bits)}.compress(dst, message, level))
					}
					b.ReportMetric(100*float64(n)/float64(size), "%size")
				})
			}
		}
	}
}

func BenchmarkInflate(b *testing.B) {
	for _, size := range benchmarkSizes {
		compressed := deflateParams{windowBits: 15}.compress(nil, jsonText(size), 1)
		for _, into := range []string{"new", "buf"} {
			b.Run(fmt.Sprintf("%dB/%s", size, into), func(b *testing.B) {
				var dst []byte
				if into == "buf" {
					dst = make([]byte, 0, size)
				}
				b.ReportAllocs()
				b.SetBytes(int64(size))
				for b.Loop() {
					if _, err := inflate(dst, compressed, 1<<20, true); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("%dB/flate", size), func(b *testing.B) { // to compare with
			r := flate.NewReader(nil)
			whole := append(bytes.Clone(compressed), deflateTail+deflateFinal...)
			dst := make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				r.(flate.Resetter).Reset(bytes.NewReader(whole), nil)
				if _, err := io.ReadFull(r, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkInflateWorst has the costliest megabytes that a peer can send: nothing but the ends of
// data sets, and nothing but codes for the next byte.
func BenchmarkInflateWorst(b *testing.B) {
	ends := bytes.Repeat([]byte{0x03, 0x00}, 1<<19)
	var codes bytes.Buffer
	w, _ := flate.NewWriter(&codes, flate.HuffmanOnly)
	for codes.Len() < 1<<20 {
		w.Write([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabcdefghaaaaaaaaaaaaaaaaaaaaa"))
		w.Flush()
	}
	for name, message := range map[string][]byte{"ends": ends, "codes": codes.Bytes()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(message)))
			for b.Loop() {
				if _, err := inflate(nil, message, 1<<30, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
