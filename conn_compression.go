package atrium

import (
	"cmp"
	"compress/flate"
	"fmt"
	"math"
	"strings"
)

// Compression configures permessage-deflate (RFC 7692), which compresses each message by itself.
// The zero value is off.
//
// Do not compress messages that mix a secret with text that others choose, because the length of
// the result tells what the secret is (CRIME): send them with Target.Compress(false) or
// Conn.WriteCompress.
//
// The memory that it takes is pooled, so that an idle connection holds none of it: 80 KB while a
// message is compressed at level 1 or for a peer that asked for a small window, 0.81 MB at levels 2
// to 9, and 13 KB while one is decompressed.
type Compression struct {
	// Level is 1, the fastest, to 9, the smallest. Any other is refused. Zero means off.
	Level int
	// Threshold is the size in bytes, as sent, from which a message is compressed, unless
	// Target.Compress or Conn.WriteCompress says otherwise. Zero means 512.
	Threshold int
}

// check returns an error that names the option that is wrong.
func (c Compression) check() error {
	if c.Level < 0 || c.Level > flate.BestCompression {
		return fmt.Errorf("Compression.Level is %d, and not one of 1 to 9", c.Level)
	}
	return negative(c.Threshold, "Compression.Threshold")
}

// compression is what one end of a connection does about permessage-deflate: what its options want
// and, after the handshake, what was agreed. The zero value neither compresses nor takes what is
// compressed. Every connection has one, so that it is small.
type compression struct {
	deflateParams       // windowBits is 0 unless it was agreed on
	wanted        int8  // the level, 1 to 9; 0: the options do not want it
	threshold     int32 // bytes from which a message is compressed unless its sender says otherwise
}

// newCompression returns what the options want, before any handshake.
func newCompression(options Compression) compression {
	if options.Level == 0 {
		return compression{}
	}
	return compression{
		wanted:    int8(options.Level),
		threshold: int32(cmp.Or(min(options.Threshold, math.MaxInt32), defaultThreshold)),
	}
}

// agreed reports whether messages may be compressed, in either direction.
func (z compression) agreed() bool { return z.windowBits != 0 }

// accept is the server's part of the handshake: it takes one of the offers, if it wants to, and
// returns the value of the answer's Sec-WebSocket-Extensions, "" for none.
func (z *compression) accept(offers []string) (response string) {
	if z.wanted != 0 {
		z.deflateParams, response = acceptDeflate(offers)
	}
	return response
}

// check is the client's part of the handshake: it reads the server's Sec-WebSocket-Extensions and
// says why the connection must be failed, or "".
func (z *compression) check(response []string) (reason string) {
	if z.wanted == 0 {
		if list := strings.Join(response, ", "); list != "" {
			return fmt.Sprintf("the server uses extensions that were not offered: %.200q", list)
		}
		return ""
	}
	params, err := checkDeflate(response)
	if err != nil {
		return err.Error()
	}
	z.deflateParams = params
	return ""
}

// frame returns a whole message as one compressed frame, with the opcode and mask of h. It returns
// nil if that is not smaller than the payload is, or if no compression was agreed on.
func (z compression) frame(h frameHeader, payload []byte) []byte {
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
