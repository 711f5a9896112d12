package atrium

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"unicode/utf8"
)

// canBecomeText is the slow, obvious answer to whether valid text could begin with s: it tries all
// endings that differ in what matters.
func canBecomeText(s []byte) bool {
	var try func(s []byte, more int) bool
	try = func(s []byte, more int) bool {
		if utf8.Valid(s) {
			return true
		}
		for _, b := range []byte{0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF} {
			if more > 0 && try(append(s, b), more-1) {
				return true
			}
		}
		return false
	}
	return try(slices.Grow(bytes.Clone(s), 3), 3)
}

// checkStream feeds s to a utf8Stream in the pieces that cut returns the ends of, and compares.
func checkStream(t *testing.T, s []byte, cut func(from int) int) {
	t.Helper()
	var u utf8Stream
	for from := 0; from < len(s); {
		to := cut(from)
		piece := bytes.Clone(s[from:to])
		got, want := u.valid(piece), canBecomeText(s[:to])
		clear(piece) // it is the reader's, and is used again
		if got != want {
			t.Fatalf("%q up to %d: valid is %t, want %t", s, to, got, want)
		}
		if !got {
			return
		}
		from = to
		if got, want := u.complete(), utf8.Valid(s[:to]); got != want {
			t.Fatalf("%q up to %d: complete is %t, want %t", s, to, got, want)
		}
	}
}

func TestUTF8Stream(t *testing.T) {
	t.Run("row 19/all rune beginnings", func(t *testing.T) {
		// The ends of all ranges of RFC 3629 §4, byte by byte, in two pieces and in one.
		edges := []byte{0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xED, 0xEE, 0xF0, 0xF1, 0xF4, 0xF5}
		for _, a := range edges {
			for _, b := range edges {
				for _, c := range edges {
					s := []byte{a, b, c, 'x'}
					for step := 1; step <= len(s); step++ {
						checkStream(t, s, func(from int) int { return min(from+step, len(s)) })
					}
				}
			}
		}
	})
	t.Run("row 20/random splits", func(t *testing.T) {
		r := rand.New(rand.NewPCG(5, 5))
		for range 5000 {
			s := []byte(randomUTF8(r, r.IntN(30)))
			for r.IntN(2) == 0 && len(s) > 0 { // most are broken a little
				switch i := r.IntN(len(s)); r.IntN(3) {
				case 0:
					s[i] ^= 1 << r.IntN(8)
				case 1:
					s = slices.Delete(s, i, i+1)
				case 2:
					s = s[:i]
				}
			}
			checkStream(t, s, func(from int) int { return from + 1 + r.IntN(min(len(s)-from, 1+r.IntN(10))) })
		}
	})
}

func FuzzUTF8Stream(f *testing.F) {
	f.Add([]byte("héllo €𝄞"), uint64(1))
	f.Add([]byte("\xed\xa0\x80"), uint64(0))
	f.Add([]byte("\xf4\x90\x80\x80"), uint64(3))
	f.Add([]byte("\xe0\x80\xaf\xc0\xaf"), uint64(7))
	f.Fuzz(func(t *testing.T, s []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 6))
		checkStream(t, s[:min(len(s), 1000)], func(from int) int { return from + 1 + r.IntN(min(len(s), 1000)-from) })
	})
}
