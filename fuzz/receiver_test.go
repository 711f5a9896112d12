package fuzz

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/atrium-go/atrium"
)

// message is a whole message.
type message struct {
	op      opcode
	payload []byte
}

func (m message) String() string {
	if len(m.payload) > 200 {
		return fmt.Sprintf("%v of %d bytes: %q…", m.op, len(m.payload), m.payload[:200])
	}
	return fmt.Sprintf("%v %q", m.op, m.payload)
}

func sameMessages(a, b []message) bool {
	return slices.EqualFunc(a, b, func(a, b message) bool { return a.op == b.op && bytes.Equal(a.payload, b.payload) })
}

// reception is what a receiver makes of a stream.
type reception struct {
	messages []message
	pings    [][]byte
	pongs    [][]byte
	frames   []header
	partial  bool // a message has begun and not ended

	// closed says that a valid close frame ended it: with code, 1005 if it has none, and reason.
	closed bool
	reason string
	// codes are those that it may end with; the first is the one to expect. 1006 says that the
	// stream has just ended.
	codes []atrium.StatusCode
	// rest is what follows the frame that ended it.
	rest []byte
}

// receiver is the reference: it receives a whole stream, one frame after the other, by the letter
// of RFC 6455 and with no thought of speed.
type receiver struct {
	fromClient bool // the sender must mask its frames, or must not
	limit      int  // bytes a message
	deflate    bool // permessage-deflate was agreed on (RFC 7692), without context takeover
}

func (rc receiver) receive(stream []byte) (r reception) {
	var op opcode       // of the message in progress
	var text []byte     // that message
	compressed := false // it is
	fail := func(codes ...atrium.StatusCode) reception {
		r.codes = codes
		return r
	}
	for b := stream; ; {
		r.rest = b
		r.partial = op != 0
		broken := len(b) > 0 && rc.broken(b[:min(len(b), 2)], op != 0)
		h, size, state := slowHeader(b)
		switch {
		case state == incompleteHeader && broken:
			// What has come is wrong already, but nobody need look before the header is there.
			return fail(atrium.StatusAbnormalClosure, atrium.StatusProtocolError)
		case state == incompleteHeader:
			return fail(atrium.StatusAbnormalClosure)
		case state == malformedHeader, broken:
			return fail(atrium.StatusProtocolError)
		}
		r.frames = append(r.frames, h)
		control := h.Opcode >= 8
		if !control && h.Opcode != opContinuation {
			op, compressed = h.Opcode, h.Rsv1
		}
		limit := rc.limit
		if compressed {
			limit += limit/16 + 64 // deflate adds so much to what it cannot compress, at worst
		}
		if !control && h.Length > int64(limit-len(text)) {
			return fail(atrium.StatusMessageTooBig)
		}
		payload := bytes.Clone(b[size:])
		whole := int64(len(payload)) >= h.Length
		if whole {
			payload = payload[:h.Length]
		}
		b = b[size+len(payload):]
		r.rest = b
		if h.Masked {
			slowMask(payload, h.Key, 0)
		}
		if control {
			if !whole {
				return fail(atrium.StatusAbnormalClosure)
			}
			switch h.Opcode {
			case opPing:
				r.pings = append(r.pings, payload)
			case opPong:
				r.pongs = append(r.pongs, payload)
			case opClose:
				return rc.close(r, payload)
			}
			continue
		}
		text = append(text, payload...)
		finished := whole && h.Fin
		if finished && compressed {
			var codes []atrium.StatusCode
			if text, codes = slowInflate(text, rc.limit, op == opText); len(codes) > 0 {
				return fail(codes...)
			}
		}
		if op == opText && !(compressed && !finished) && (finished && !utf8.Valid(text) || !beginsUTF8(text)) {
			return fail(atrium.StatusInvalidPayload)
		}
		if !whole {
			return fail(atrium.StatusAbnormalClosure)
		}
		if finished {
			r.messages = append(r.messages, message{op, text})
			op, text = 0, nil
		}
	}
}

// broken reports whether a frame that begins with b, one byte or two, is illegal whatever follows.
func (rc receiver) broken(b []byte, fragmented bool) bool {
	fin, reserved, opcode := b[0]&0x80 != 0, b[0]&0x70, opcode(b[0]&0x0f)
	if rc.deflate && (opcode == opText || opcode == opBinary) { // RFC 7692 §6
		reserved &^= 0x40
	}
	if reserved != 0 { // §5.2
		return true
	}
	switch opcode {
	case opContinuation:
		if !fragmented { // §5.4
			return true
		}
	case opText, opBinary:
		if fragmented { // §5.4
			return true
		}
	case opClose, opPing, opPong:
		if !fin || len(b) > 1 && b[1]&0x7f > 125 { // §5.5
			return true
		}
	default: // §5.2
		return true
	}
	return len(b) > 1 && (b[1]&0x80 != 0) != rc.fromClient // §5.1
}

// close judges the payload of a close frame (§5.5.1, §7.4).
func (rc receiver) close(r reception, payload []byte) reception {
	switch {
	case len(payload) == 0:
		r.closed, r.codes = true, []atrium.StatusCode{atrium.StatusNoStatusReceived}
		return r
	case len(payload) == 1:
		r.codes = []atrium.StatusCode{atrium.StatusProtocolError}
		return r
	}
	code := atrium.StatusCode(binary.BigEndian.Uint16(payload))
	legal, text := legalCode(code), utf8.Valid(payload[2:])
	switch {
	case !legal && !text:
		r.codes = []atrium.StatusCode{atrium.StatusProtocolError, atrium.StatusInvalidPayload}
	case !legal:
		r.codes = []atrium.StatusCode{atrium.StatusProtocolError}
	case !text:
		r.codes = []atrium.StatusCode{atrium.StatusInvalidPayload}
	default:
		r.closed, r.reason, r.codes = true, string(payload[2:]), []atrium.StatusCode{code}
	}
	return r
}

// legalCode reports whether a close frame may carry the code: those of RFC 6455 §7.4 and IANA's
// registry.
func legalCode(code atrium.StatusCode) bool {
	switch code {
	case 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014:
		return true
	}
	return code >= 3000 && code < 5000
}

// beginsUTF8 reports whether some valid text begins with b.
func beginsUTF8(b []byte) bool {
	for tail := range min(len(b), 3) + 1 {
		if cut := len(b) - tail; utf8.Valid(b[:cut]) && (tail == 0 || runeBeginnings()[string(b[cut:])]) {
			return true
		}
	}
	return false
}

// runeBeginnings holds what any rune's encoding begins with, and is longer than.
var runeBeginnings = sync.OnceValue(func() map[string]bool {
	beginnings := make(map[string]bool)
	for r := rune(utf8.RuneSelf); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		s := string(r)
		for n := 1; n < len(s); n++ {
			beginnings[s[:n]] = true
		}
	}
	return beginnings
})

// slowInflate inflates a message (RFC 7692 §7.2.2). If it cannot, it says with which codes a
// receiver may answer. Some senders leave the tail at a message's end that should have been
// stripped: that is accepted, too.
func slowInflate(message []byte, limit int, text bool) (inflated []byte, codes []atrium.StatusCode) {
	inflated, ok := inflateBlocks(message, "\x00\x00\xff\xff", limit)
	if !ok && len(inflated) <= limit {
		if again, ok := inflateBlocks(message, "", limit); ok || len(again) > limit {
			inflated = again
		} else {
			return nil, []atrium.StatusCode{atrium.StatusInvalidPayload}
		}
	}
	if len(inflated) > limit {
		codes = append(codes, atrium.StatusMessageTooBig)
		if text && !beginsUTF8(inflated) {
			codes = append(codes, atrium.StatusInvalidPayload)
		}
	}
	return inflated, codes
}

// inflateBlocks inflates blocks that end exactly with the message and its tail. It stops a little
// over limit.
func inflateBlocks(message []byte, tail string, limit int) (inflated []byte, ok bool) {
	// Whether a block ends there is seen from a last one behind it, whose content must come out as
	// it went in.
	const content = "an ending"
	last := append([]byte{1, byte(len(content)), 0, ^byte(len(content)), 0xff}, content...)
	in := bytes.NewReader(slices.Concat(message, []byte(tail), last))
	for {
		began := in.Len()
		part, err := io.ReadAll(io.LimitReader(flate.NewReader(in), int64(limit-len(inflated)+len(last)+1)))
		inflated = append(inflated, part...)
		switch {
		case len(inflated) > limit+len(last):
			return inflated, false
		case err != nil || in.Len() == began:
			return inflated[:min(len(inflated), limit)], false
		case in.Len() >= len(last) && in.Len() < len(last)+len(tail):
			// It was a last block that was cut off, and the tail completes it: right by the letter
			// of §7.2.2.
			return inflated, true
		case in.Len() == 0:
			inflated, ok = bytes.CutSuffix(inflated, []byte(content))
			return inflated, ok && !bytes.HasSuffix(inflated, last[:5])
		}
		// RFC 7692 §7.2.3.4: it was a last block, and yet there are more.
	}
}

// slowDeflate is a sender's part (RFC 7692 §7.2.1). Level is flate's.
func slowDeflate(message []byte, level int) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		panic(err)
	}
	w.Write(message)
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\x00\x00\xff\xff"))
}
