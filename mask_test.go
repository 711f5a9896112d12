package atrium

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// slowMask is RFC 6455 §5.3 as it is written, but that & 3 spares the byte loop a division.
func slowMask(b []byte, key [4]byte, offset int) {
	for i := range b {
		b[i] ^= key[(offset+i)&3]
	}
}

// maskSample returns n bytes that look like nothing in particular.
func maskSample(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// Every length up to several rounds of the widest loop, at every offset into the key and every
// alignment; and not a byte beside it.
func TestMask(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	sample := maskSample(400)
	for length := range 301 {
		for offset := range 8 {
			for start := range 8 {
				got, want := bytes.Clone(sample), bytes.Clone(sample)
				mask(got[start:start+length], key, offset)
				slowMask(want[start:start+length], key, offset)
				if !bytes.Equal(got, want) {
					t.Fatalf("length %d, offset %d, start %d: differs", length, offset, start)
				}
				mask(got[start:start+length], key, offset)
				if !bytes.Equal(got, sample) {
					t.Fatalf("length %d, offset %d, start %d: twice is not the identity", length, offset, start)
				}
			}
		}
	}
}

func TestMaskKeysAndOffsets(t *testing.T) {
	sample := maskSample(100)
	for _, key := range [][4]byte{{}, {1}, {0, 1}, {0, 0, 1}, {0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0x7f, 1}} {
		for _, offset := range []int{0, 1, 2, 3, 4, 125, 65535, 65537, 1<<31 - 1, math.MaxInt - 200} {
			got, want := bytes.Clone(sample), bytes.Clone(sample)
			mask(got, key, offset)
			slowMask(want, key, offset)
			if !bytes.Equal(got, want) {
				t.Errorf("key %x, offset %d: differs", key, offset)
			}
		}
	}
	mask(nil, [4]byte{1, 2, 3, 4}, 3)
}

// A payload masked in pieces is the payload masked at once, wherever it is cut.
func TestMaskInPieces(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	sample := maskSample(200)
	want := bytes.Clone(sample)
	mask(want, key, 0)
	for first := range len(sample) {
		for second := first; second < len(sample); second += 7 {
			got := bytes.Clone(sample)
			mask(got[:first], key, 0)
			mask(got[first:second], key, first)
			mask(got[second:], key, second)
			if !bytes.Equal(got, want) {
				t.Fatalf("cut at %d and %d: differs", first, second)
			}
		}
	}
}

func FuzzMask(f *testing.F) {
	f.Add([]byte("Hello"), uint32(0x37fa213d), 0, 2)
	f.Add(maskSample(200), uint32(1), 3, 100)
	f.Fuzz(func(t *testing.T, b []byte, k uint32, offset, cut int) {
		key := [4]byte{byte(k >> 24), byte(k >> 16), byte(k >> 8), byte(k)}
		offset = offset & (1<<30 - 1)
		cut = min(max(cut, 0), len(b))
		got, want := bytes.Clone(b), bytes.Clone(b)
		mask(got[:cut], key, offset)
		mask(got[cut:], key, offset+cut)
		slowMask(want, key, offset)
		if !bytes.Equal(got, want) {
			t.Fatal("differs")
		}
	})
}

func benchmarkMask(b *testing.B, mask func([]byte, [4]byte, int)) {
	for _, size := range []int{16, 125, 1024, 16384} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			payload := maskSample(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				mask(payload, [4]byte{1, 2, 3, 4}, 1)
			}
		})
	}
}

func BenchmarkMask(b *testing.B)         { benchmarkMask(b, mask) }
func BenchmarkMaskByteLoop(b *testing.B) { benchmarkMask(b, slowMask) }
