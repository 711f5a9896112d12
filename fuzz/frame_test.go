package fuzz

import (
	"encoding/binary"
	"math"
)

// opcode is that of a frame (RFC 6455 §5.2).
type opcode byte

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xA
)

// header is the part of a frame before its payload.
type header struct {
	Fin, Rsv1, Rsv2, Rsv3 bool
	Opcode                opcode
	Masked                bool
	Key                   [4]byte
	Length                int64
}

// appendHeader appends a header, its length in the fewest bytes.
func appendHeader(dst []byte, h header) []byte {
	first, second := byte(h.Opcode), byte(0)
	for i, set := range []bool{h.Rsv3, h.Rsv2, h.Rsv1, h.Fin} {
		if set {
			first |= 0x10 << i
		}
	}
	if h.Masked {
		second = 0x80
	}
	switch {
	case h.Length < 126:
		dst = append(dst, first, second|byte(h.Length))
	case h.Length < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, first, second|126), uint16(h.Length))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, second|127), uint64(h.Length))
	}
	if h.Masked {
		dst = append(dst, h.Key[:]...)
	}
	return dst
}

// bitReader reads numbers bit by bit, the first one the most significant, as the figure in RFC 6455
// §5.2 is drawn.
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
func slowHeader(b []byte) (h header, size int, state headerState) {
	r := &bitReader{b: b, ok: true}
	h.Fin = r.flag()
	h.Rsv1 = r.flag()
	h.Rsv2 = r.flag()
	h.Rsv3 = r.flag()
	h.Opcode = opcode(r.take(4))
	h.Masked = r.flag()
	length, shortest := r.take(7), uint64(0)
	switch length {
	case 126:
		length, shortest = r.take(16), 126
	case 127:
		length, shortest = r.take(64), 1<<16
	}
	if r.ok && (length < shortest || length > math.MaxInt64) {
		return header{}, 0, malformedHeader
	}
	h.Length = int64(length)
	if h.Masked {
		for i := range h.Key {
			h.Key[i] = byte(r.take(8))
		}
	}
	if !r.ok {
		return header{}, 0, incompleteHeader
	}
	return h, r.at / 8, wholeHeader
}

// slowMask is the sentence of RFC 6455 §5.3: octet i is combined with octet i modulo 4 of the key.
func slowMask(b []byte, key [4]byte, offset int) {
	for i := range b {
		b[i] ^= key[(offset+i)%4]
	}
}

// appendFrame appends a frame; h.Length is the payload's, whatever it says. A masked frame gets a
// masked copy.
func appendFrame(dst []byte, h header, payload []byte) []byte {
	h.Length = int64(len(payload))
	dst = appendHeader(dst, h)
	start := len(dst)
	dst = append(dst, payload...)
	if h.Masked {
		slowMask(dst[start:], h.Key, 0)
	}
	return dst
}
