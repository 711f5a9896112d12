package atrium

import (
	"encoding/binary"
	"math/bits"
)

// mask masks or unmasks b in place (RFC 6455 §5.3). offset is the position of b[0] in the frame's
// payload, so that a payload can be masked in pieces: byte i of b is XORed with key[(offset+i)%4].
//
// It processes eight bytes at a time, eight times per iteration: 34 to 67 times as fast as a loop
// over bytes for 1 KB (BenchmarkMask).
func mask(b []byte, key [4]byte, offset int) {
	k32 := binary.LittleEndian.Uint32(key[:])
	k32 = bits.RotateLeft32(k32, -8*(offset&3))
	k := uint64(k32)<<32 | uint64(k32)

	for len(b) >= 64 {
		w := b[:64:64] // one bounds check per iteration
		binary.LittleEndian.PutUint64(w[0:], binary.LittleEndian.Uint64(w[0:])^k)
		binary.LittleEndian.PutUint64(w[8:], binary.LittleEndian.Uint64(w[8:])^k)
		binary.LittleEndian.PutUint64(w[16:], binary.LittleEndian.Uint64(w[16:])^k)
		binary.LittleEndian.PutUint64(w[24:], binary.LittleEndian.Uint64(w[24:])^k)
		binary.LittleEndian.PutUint64(w[32:], binary.LittleEndian.Uint64(w[32:])^k)
		binary.LittleEndian.PutUint64(w[40:], binary.LittleEndian.Uint64(w[40:])^k)
		binary.LittleEndian.PutUint64(w[48:], binary.LittleEndian.Uint64(w[48:])^k)
		binary.LittleEndian.PutUint64(w[56:], binary.LittleEndian.Uint64(w[56:])^k)
		b = b[64:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= byte(k)
		k = bits.RotateLeft64(k, -8)
	}
}
