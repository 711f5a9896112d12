package process

import "encoding/binary"

// Opcode is that of a frame (RFC 6455 §5.2).
type Opcode byte

// The opcodes that the benchmarks need.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

// Header is the part before the payload of a frame.
type Header struct {
	Opcode Opcode
	Masked bool
	Key    [4]byte
	Length int
	// Unfinished is set if a frame with the rest of the message follows, and Compressed if the
	// message is (RFC 7692).
	Unfinished, Compressed bool
}

// ParseHeader reads the header that b begins with, and returns its size; 0 if b ends before it
// does. It checks nothing.
func ParseHeader(b []byte) (h Header, size int) {
	if len(b) < 2 {
		return h, 0
	}
	h = Header{Opcode: Opcode(b[0] & 0x0F), Masked: b[1]&0x80 != 0, Length: int(b[1] & 0x7F),
		Unfinished: b[0]&0x80 == 0, Compressed: b[0]&0x40 != 0}
	size = 2
	switch {
	case h.Length == 126 && len(b) >= 4:
		h.Length, size = int(binary.BigEndian.Uint16(b[2:])), 4
	case h.Length == 127 && len(b) >= 10:
		h.Length, size = int(binary.BigEndian.Uint64(b[2:])), 10
	case h.Length >= 126:
		return h, 0
	}
	if h.Masked {
		if len(b) < size+4 {
			return h, 0
		}
		h.Key = [4]byte(b[size:])
		size += 4
	}
	return h, size
}

// AppendHeader appends a header.
func AppendHeader(b []byte, h Header) []byte {
	first, second := byte(h.Opcode), byte(0)
	if !h.Unfinished {
		first |= 0x80
	}
	if h.Compressed {
		first |= 0x40
	}
	if h.Masked {
		second = 0x80
	}
	switch {
	case h.Length < 126:
		b = append(b, first, second|byte(h.Length))
	case h.Length < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, first, second|126), uint16(h.Length))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, second|127), uint64(h.Length))
	}
	if h.Masked {
		b = append(b, h.Key[:]...)
	}
	return b
}

// Mask masks a payload, or unmasks it.
func Mask(b []byte, key [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(key[:])) * (1<<32 + 1)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
	}
	for i := range b {
		b[i] ^= key[i%4]
	}
}
