package fuzz

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/atrium-go/atrium"
)

// bitReader reads numbers bit by bit, the first one the most significant, as the figure in RFC 6455 §5.2 is drawn.
type bitReader struct {
	b  []byte
	at int  // in bits
	ok bool // there were enough so far
}

func (r *bitReader) take(bits int) (v uint64) {
	for range bits {
		if r.at/8 == len(r.b) {
			r.ok = false
			return 0
		}
		v = v<<1 | uint64(r.b[r.at/8]>>(7-r.at%8)&1)
		r.at++
	}
	return v
}

func (r *bitReader) flag() bool { return r.take(1) == 1 }

// headerState is what the slow parser thinks of a frame's first bytes.
type headerState int

const (
	wholeHeader headerState = iota
	incompleteHeader
	malformedHeader // its length is not in the fewest bytes, or has the top bit of 64 set
)

// slowHeader is the figure of RFC 6455 §5.2, read from left to right.
func slowHeader(b []byte) (h atrium.Header, size int, state headerState) {
	r := &bitReader{b: b, ok: true}
	h.Fin = r.flag()
	h.Rsv1 = r.flag()
	h.Rsv2 = r.flag()
	h.Rsv3 = r.flag()
	h.Opcode = atrium.Opcode(r.take(4))
	h.Masked = r.flag()
	length, shortest := r.take(7), uint64(0)
	switch length {
	case 126:
		length, shortest = r.take(16), 126
	case 127:
		length, shortest = r.take(64), 1<<16
	}
	if r.ok && (length < shortest || length > math.MaxInt64) {
		return atrium.Header{}, 0, malformedHeader
	}
	h.Length = int64(length)
	if h.Masked {
		for i := range h.Key {
			h.Key[i] = byte(r.take(8))
		}
	}
	if !r.ok {
		return atrium.Header{}, 0, incompleteHeader
	}
	return h, r.at / 8, wholeHeader
}

// slowMask is the sentence of RFC 6455 §5.3: octet i is combined with octet i modulo 4 of the key.
func slowMask(b []byte, key [4]byte, offset int) {
	for i := range b {
		b[i] ^= key[(offset+i)%4]
	}
}

// appendFrame appends a frame; h.Length is the payload's, whatever it says. A masked frame gets a masked copy.
func appendFrame(dst []byte, h atrium.Header, payload []byte) []byte {
	h.Length = int64(len(payload))
	dst = atrium.AppendHeader(dst, h)
	start := len(dst)
	dst = append(dst, payload...)
	if h.Masked {
		slowMask(dst[start:], h.Key, 0)
	}
	return dst
}

// FuzzParseHeader compares ParseHeader, AppendHeader and Mask with the slow ones.
func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{
		"", "\x81", "\x81\x05Hello", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "\x82\x7e\x01\x00", "\x88\x80\x00\x00\x00\x00",
		"\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234 and a payload of more than sixty-four bytes, which Mask takes in rounds",
	} {
		f.Add([]byte(s), int64(len(s)), uint32(len(s)))
	}
	f.Fuzz(func(t *testing.T, b []byte, length int64, offset uint32) {
		original := bytes.Clone(b)
		h, n, err := atrium.ParseHeader(b)
		want, size, state := slowHeader(b)
		if !bytes.Equal(b, original) {
			t.Fatal("ParseHeader has written to its argument")
		}
		if h != want || n != size || (err != nil) != (state == malformedHeader) {
			t.Fatalf("ParseHeader = %+v, %d, %v; the slow parser says %+v, %d, %v", h, n, err, want, size, state)
		}
		if e, ok := errors.AsType[*atrium.CloseError](err); err != nil && (!ok || e.Code != atrium.StatusProtocolError) {
			t.Fatalf("the error is %v", err)
		}
		if state == wholeHeader {
			for cut := range n {
				if h, n, err := atrium.ParseHeader(b[:cut:cut]); h != (atrium.Header{}) || n != 0 || err != nil {
					t.Fatalf("the first %d bytes alone are %+v, %d, %v", cut, h, n, err)
				}
			}
			if again := atrium.AppendHeader([]byte("before"), h); string(again) != "before"+string(b[:n]) {
				t.Fatalf("AppendHeader = %q", again)
			}
		}

		// The same flags with any length.
		h.Length = length & math.MaxInt64
		wire := atrium.AppendHeader(nil, h)
		if again, n, state := slowHeader(wire); again != h || n != len(wire) || state != wholeHeader {
			t.Fatalf("AppendHeader(%+v) is read as %+v, %d of %d bytes, %v", h, again, n, len(wire), state)
		}
		if again, n, err := atrium.ParseHeader(wire); again != h || n != len(wire) || err != nil {
			t.Fatalf("ParseHeader(AppendHeader(%+v)) = %+v, %d, %v", h, again, n, err)
		}

		at := int(offset & math.MaxInt32)
		key := [4]byte{byte(length), byte(length >> 8), byte(length >> 16), byte(length >> 24)}
		fast, slow := bytes.Clone(b), bytes.Clone(b)
		start := min(int(offset%9), len(b)) // words that are not aligned
		atrium.Mask(fast[start:], key, at)
		slowMask(slow[start:], key, at)
		if !bytes.Equal(fast, slow) {
			t.Fatalf("Mask at offset %d: %x, want %x", at, fast, slow)
		}
		atrium.Mask(fast[start:], key, at)
		if !bytes.Equal(fast, b) {
			t.Fatal("Mask twice is not the beginning")
		}
	})
}
