package atrium

import (
	"compress/flate"
	"fmt"
	"io"
	"math"
	"sync"
)

// deflateFinal is an empty last block, which makes a flate.Reader say io.EOF.
const deflateFinal = "\x01\x00\x00\xff\xff"

var errNotDeflate = &CloseError{Code: StatusInvalidPayload, Reason: "a compressed message is not valid deflate data"}

func inflatedTooBig(limit int64) *CloseError {
	return &CloseError{Code: StatusMessageTooBig, Reason: fmt.Sprintf("a message is over the limit of %d bytes when inflated", limit)}
}

// compressedLimit bounds the compressed bytes of a message whose inflated size is bounded by limit.
// It leaves room for what deflate adds to data that it cannot compress: 5 bytes to every 127 at
// worst, in zlib with the least memory.
func compressedLimit(limit int64) int64 {
	if sum := limit + limit>>4 + 64; sum > limit {
		return sum
	}
	return limit // near the largest int64
}

// inflate appends the message that was compressed to dst and returns the extended slice. It stops
// at the first byte over limit with status 1009, and with 1007 at data that is not deflate's or, if
// it is a text, not UTF-8. It keeps neither slice.
//
// Of what senders do differently it takes all that RFC 7692 §7.2.3 shows, several blocks with
// BFINAL set among them, and a tail that was not stripped, or stripped with the last block's whole
// header. A message that is cut off elsewhere is refused, unless within a last block (BFINAL set)
// that the tail completes: the 00 00 ff ff that RFC 7692 §7.2.2 has a receiver append are then read
// as the end of that block, to the letter.
func inflate(dst, compressed []byte, limit int64, text bool) ([]byte, error) {
	z := inflaters.Get().(*inflater)
	defer z.release()

	out, err := z.inflate(dst, inflaterSource{message: compressed, tail: deflateTail}, limit, text)
	if err == errNotDeflate && z.source.part != partMessage {
		// All of the message was read. Perhaps it does not want a tail.
		out, err = z.inflate(dst, inflaterSource{message: compressed}, limit, text)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// inflater is a flate.Reader with where it reads from. reset takes every memory of an earlier
// message from it.
type inflater struct {
	flate  io.Reader // a flate.Resetter too
	source inflaterSource
	spare  [1 << 10]byte
}

// maxPiece bounds what is inflated between two looks at its UTF-8, in bytes.
const maxPiece = 32 << 10

var inflaters = sync.Pool{New: func() any {
	z := new(inflater)
	z.flate = flate.NewReader(&z.source)
	return z
}}

func (z *inflater) release() {
	z.source = inflaterSource{}
	inflaters.Put(z)
}

func (z *inflater) reset() {
	_ = z.flate.(flate.Resetter).Reset(&z.source, nil) // it has no error to return
}

// inflate inflates all of the source.
func (z *inflater) inflate(dst []byte, source inflaterSource, limit int64, text bool) ([]byte, error) {
	z.source = source
	z.reset()
	limit = min(limit, math.MaxInt64-1)
	var runes utf8Stream
	out, done := dst, int64(0)
	for {
		// One byte over the limit may be read, to see it come. A full slice grows only if there is
		// more to put into it: first to what is likely to be enough, then it doubles.
		full := len(out) == cap(out)
		piece := out[len(out):cap(out)]
		if full {
			piece = z.spare[:]
		}
		n, err := z.read(piece[:min(int64(len(piece)), limit+1-done, maxPiece)])
		piece = piece[:n]
		done += int64(n)
		switch {
		case done > limit:
			return nil, inflatedTooBig(limit)
		case text && !runes.valid(piece):
			return nil, errNotUTF8
		case err != nil && err != io.EOF:
			return nil, errNotDeflate
		case !full:
			out = out[:len(out)+n]
		case err == io.EOF:
			out = append(out, piece...)
		case n > 0:
			more := min(limit-done, max(done, 5*int64(len(source.message))))
			grown := make([]byte, len(out), int64(len(out)+n)+more)
			copy(grown, out)
			out = append(grown, piece...)
		}
		if err == io.EOF {
			if text && !runes.complete() {
				return nil, errNotUTF8
			}
			return out, nil
		}
	}
}

// read fills p. It returns io.EOF at the end of the message, and only there.
func (z *inflater) read(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = z.flate.Read(p[n:])
		n += m
		if err != io.EOF {
			continue
		}
		switch s := &z.source; {
		case s.part == partMessage && s.at < len(s.message):
			// RFC 7692 §7.2.3.4: a block had BFINAL set, yet the message goes on, at the next byte.
			// No compressor refers back over that point.
			z.reset()
			err = nil
		case s.part == partFinal && s.at < len(deflateFinal):
			err = io.ErrUnexpectedEOF // what was read was not our last block, but an unfinished one before it
		}
	}
	return n, err
}

// inflaterSource is what a flate.Reader reads: the message, the tail that was stripped from it, a
// last block.
type inflaterSource struct {
	message []byte
	tail    string

	part inflaterPart
	at   int // in the part
}

// inflaterPart is one of the three that an inflaterSource consists of.
type inflaterPart uint8

const (
	partMessage inflaterPart = iota
	partTail
	partFinal
)

// ReadByte makes inflaterSource a flate.Reader, of which no more is read than is needed.
func (s *inflaterSource) ReadByte() (byte, error) {
	if s.part == partMessage && s.at < len(s.message) {
		s.at++
		return s.message[s.at-1], nil
	}
	if rest := s.rest(); rest != "" {
		s.at++
		return rest[0], nil
	}
	if s.part != partTail {
		return 0, io.EOF
	}
	s.part, s.at = partFinal, 1
	return deflateFinal[0], nil
}

// Read is asked for the length and the content of blocks that are not compressed. It is ReadByte
// that a block begins with: the last block is not for a block before it that lacks bytes.
func (s *inflaterSource) Read(p []byte) (n int, err error) {
	if s.part == partMessage && s.at < len(s.message) {
		n = copy(p, s.message[s.at:])
	} else {
		n = copy(p, s.rest())
	}
	s.at += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// rest returns what is left of the part behind the message, which it goes on to when the message
// has been read.
func (s *inflaterSource) rest() string {
	if s.part == partMessage {
		s.part, s.at = partTail, 0
	}
	if s.part == partTail {
		return s.tail[s.at:]
	}
	return deflateFinal[s.at:]
}
