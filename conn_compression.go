package atrium

import (
	"cmp"
	"compress/flate"
	"fmt"
	"math"
	"strings"
)

// compression is what one end of a connection does about permessage-deflate: what its options want and, after the
// handshake, what was agreed. The zero value neither compresses nor takes what is compressed. Every connection has one,
// so that it is small.
type compression struct {
	deflateParams       // windowBits is 0 unless it was agreed on
	wanted        int8  // the level, 1 to 9; 0: the options do not want it
	threshold     int32 // bytes from which a message is compressed unless its sender says otherwise
}

// newCompression reads the options of that name. Zero means the default; a level that there is not is an error,
// which begins with the option's name.
func newCompression(on bool, level, threshold int) (compression, error) {
	switch {
	case level < 0 || level > flate.BestCompression:
		return compression{}, fmt.Errorf("CompressionLevel is %d, and not one of 1 to 9", level)
	case !on:
		return compression{}, nil
	}
	return compression{
		wanted:    int8(cmp.Or(level, defaultCompressionLevel)),
		threshold: int32(cmp.Or(min(max(threshold, 0), math.MaxInt32), defaultCompressionThreshold)),
	}, nil
}

// agreed reports whether messages may be compressed, in either direction.
func (z compression) agreed() bool { return z.windowBits != 0 }

// accept is the server's part of the handshake: it takes one of the offers, if it wants to, and returns the value of
// the answer's Sec-WebSocket-Extensions, "" for none.
func (z *compression) accept(offers []string) (response string) {
	if z.wanted != 0 {
		z.deflateParams, response, _ = acceptDeflate(offers)
	}
	return response
}

// check is the client's part of the handshake: it reads the server's Sec-WebSocket-Extensions and says why the
// connection must be failed, or "".
func (z *compression) check(response []string) (reason string) {
	if z.wanted == 0 {
		if list := strings.Join(response, ", "); list != "" {
			return fmt.Sprintf("the server uses extensions that were not offered: %.200q", list)
		}
		return ""
	}
	params, _, err := checkDeflate(response)
	if err != nil {
		return err.Error()
	}
	z.deflateParams = params
	return ""
}

// frame returns a whole message as one compressed frame, with the opcode and mask of h. It returns nil if that is
// not smaller than the payload is, or if no compression was agreed on.
func (z compression) frame(h Header, payload []byte) []byte {
	if !z.agreed() {
		return nil
	}
	var room [headerRoom]byte
	b := z.compress(room[:], payload, int(z.wanted))
	if len(b)-headerRoom >= len(payload) {
		return nil
	}
	h.Rsv1 = true
	return prependHeader(b, h)
}
