package atrium

import (
	"bytes"
	"compress/flate"
	"io"
	mathrand "math/rand/v2"
	"strings"
	"testing"
)

// mustInflate has compress/flate read what deflater has written.
func mustInflate(t *testing.T, message []byte, lookBack bool) (compressed []byte) {
	t.Helper()
	compressed = new(deflater).deflate(nil, message, lookBack)
	r := flate.NewReader(io.MultiReader(bytes.NewReader(compressed), strings.NewReader(deflateTail+deflateFinal)))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, message) {
		t.Fatalf("%d bytes, looking back %t: inflated to %d, %v", len(message), lookBack, len(got), err)
	}
	return compressed
}

// TestDeflaterSize: level 1 makes no message larger than compress/flate's does, but for a hundredth
// and a few bytes, and what cannot be compressed grows by little.
func TestDeflaterSize(t *testing.T) {
	flateSize := func(message []byte) int {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, 1)
		w.Write(message)
		w.Flush()
		return b.Len() - len(deflateTail)
	}
	for _, n := range []int{1, 10, 100, 512, 4 << 10, 64 << 10, 200 << 10} {
		for name, message := range map[string][]byte{"text": text(n, 1), "JSON": jsonText(n), "zeros": make([]byte, n)} {
			if got, most := len(mustInflate(t, message, true)), flateSize(message); got > most+most/100+8 {
				t.Errorf("%s of %d bytes: %d, and %d by compress/flate", name, n, got, most)
			}
		}
		for _, lookBack := range []bool{true, false} {
			if got := len(mustInflate(t, random(n), lookBack)); got > n+n/8+8 {
				t.Errorf("%d bytes that cannot be compressed: %d", n, got)
			}
		}
	}
}

// TestHuffmanEncoder: whatever occurs how often, no code is too long, and each is decoded to
// its symbol.
func TestHuffmanEncoder(t *testing.T) {
	var fibonacci [24]uint32 // the deepest tree for 64 Ki
	for i := range fibonacci {
		fibonacci[i] = 1
		if i > 1 {
			fibonacci[i] = fibonacci[i-1] + fibonacci[i-2]
		}
	}
	choose := mathrand.New(mathrand.NewPCG(5, 6))
	d := new(huffmanDecoder)
	for _, longest := range []uint8{maxCodeLengthBits, maxCodeBits} {
		e := new(huffmanEncoder)
		for round := range 500 {
			n := maxCodeLengths
			if longest == maxCodeBits {
				n = 2 + choose.IntN(maxLiterals-1)
			}
			clear(e.count[:])
			for range 1 + choose.IntN(n) {
				e.count[choose.IntN(n)] = fibonacci[choose.IntN(len(fibonacci))]
			}
			if round == 0 {
				copy(e.count[:n], fibonacci[:])
				n = min(n, len(fibonacci))
			}
			e.build(n, longest)
			if !d.build(e.lengths[:n]) {
				t.Fatalf("not the lengths of codes: %d", e.lengths[:n])
			}
			for symbol, count := range e.count[:n] {
				length := e.lengths[symbol]
				if length > longest || (length > 0) != (count > 0) {
					t.Fatalf("symbol %d occurs %d times: a code of %d bits", symbol, count, length)
				}
				if count > 0 && d.find(uint64(e.codes[symbol]>>4)) != uint16(symbol)<<4|uint16(length) {
					t.Fatalf("the code of symbol %d is decoded to %x", symbol, d.find(uint64(e.codes[symbol]>>4)))
				}
			}
		}
	}
}

// TestAppendRuns: what is repeated is as it was.
func TestAppendRuns(t *testing.T) {
	choose := mathrand.New(mathrand.NewPCG(7, 8))
	for range 1000 {
		var lengths, got []uint8
		for range 1 + choose.IntN(10) {
			lengths = append(lengths, bytes.Repeat([]byte{byte(choose.IntN(3))}, 1+choose.IntN(1<<choose.IntN(9)))...)
		}
		for _, run := range appendRuns(nil, lengths) {
			symbol, more := run&0xFF, int(run>>8)
			if more >= 1<<repeatBits[symbol] {
				t.Fatalf("symbol %d with %d", symbol, more)
			}
			switch {
			case symbol < 16:
				got = append(got, uint8(symbol))
			case symbol == 16:
				got = append(got, bytes.Repeat(got[len(got)-1:], int(repeatBase[symbol])+more)...)
			default:
				got = append(got, make([]byte, int(repeatBase[symbol])+more)...)
			}
		}
		if !bytes.Equal(got, lengths) {
			t.Fatalf("got %d; want %d", got, lengths)
		}
	}
}

func FuzzDeflater(f *testing.F) {
	f.Add(text(3000, 1), uint16(1))
	f.Add([]byte("abc"), uint16(1000))
	f.Add(random(100), uint16(900))
	f.Fuzz(func(t *testing.T, b []byte, times uint16) {
		message := bytes.Repeat(b, 1+int(times)%(1+200_000/(1+len(b))))
		for i := 997; i < len(message); i += 997 {
			message[i] += byte(i) // so that not all is one repetition
		}
		for _, lookBack := range []bool{true, false} {
			if got := len(mustInflate(t, message, lookBack)); got > len(message)+len(message)/8+8 {
				t.Fatalf("%d bytes became %d", len(message), got)
			}
		}
	})
}
