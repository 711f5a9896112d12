package atrium

import (
	"encoding/binary"
	"fmt"
	"sync"
)

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
	return z.inflate(dst, compressed, limit, text)
}

var strippedTail = []byte(deflateTail)

// maxPiece bounds what is inflated between two looks at its UTF-8, in bytes.
const maxPiece = 32 << 10

// inflater decodes deflate data (RFC 1951). All of a message lies in one slice, which therefore is
// the window, too.
type inflater struct {
	in, tail []byte // what is still to be read, one after the other
	word     uint64 // the next bits of what was read, the first is the lowest; 0 behind them
	n        int    // how many they are; negative if more were asked for than there are

	inflaterOutput
	literals, distances huffmanDecoder
	lengths             [maxLiterals + maxDistances + 138]uint8 // of the codes of those two, and room for a repetition
	own                 [8 << 10]byte                           // for messages that are not inflated into a caller's buffer
}

// inflaterOutput is what an inflater has made of a message.
type inflaterOutput struct {
	out     []byte // what has been inflated, up to at, and room
	at      int
	base    int  // where the message begins in out
	start   int  // where the data set does, behind which nothing refers back
	checked int  // up to where the text is valid
	owned   bool // out is the caller's or will be, and not the inflater's own
	limit   int64
	text    bool
	runes   utf8Stream
	guess   int // how much room a message that does not fit probably needs
}

var inflaters = sync.Pool{New: func() any { return new(inflater) }}

func (z *inflater) release() {
	z.in, z.tail, z.inflaterOutput = nil, nil, inflaterOutput{}
	inflaters.Put(z)
}

// inflate inflates a message, which the tail was stripped from.
func (z *inflater) inflate(dst, message []byte, limit int64, text bool) ([]byte, error) {
	z.in, z.tail, z.word, z.n = message, strippedTail, 0, 0
	z.inflaterOutput = inflaterOutput{out: dst, owned: len(dst) < cap(dst), limit: limit, text: text, guess: 5 * len(message)}
	if !z.owned {
		z.out = z.own[:0]
	}
	z.at, z.base, z.start, z.checked = len(z.out), len(z.out), len(z.out), len(z.out)

	if err := z.decode(); err != nil {
		return nil, err
	}
	if err := z.check(); err != nil {
		return nil, err
	}
	if text && !z.runes.complete() {
		return nil, errNotUTF8
	}
	if !z.owned || len(dst) > z.base { // what was not inflated behind dst; copied, it is just as large as it must be
		return append(dst, z.out[:z.at]...), nil
	}
	return z.out[:z.at], nil
}

// decode decodes blocks until all is read, or just the tail is left, which then was not stripped:
// no block begins as it does. When a last block has ended, a part of the tail may be left, too.
func (z *inflater) decode() error {
	const tail = 8 * len(deflateTail)
	for z.unread() > 0 && z.unread() != tail {
		final, kind := z.readBits(1) == 1, z.readBits(2)
		var err error
		switch kind {
		case 0:
			err = z.copyStored()
		case 1:
			_, fixed := fixedCodes()
			err = z.decodeBlock(&fixed[0], &fixed[1])
		case 2:
			if !z.readHeader() {
				return errNotDeflate
			}
			err = z.decodeBlock(&z.literals, &z.distances)
		default:
			err = errNotDeflate
		}
		if err != nil {
			return err
		}
		if final {
			// RFC 7692 §7.2.3.4: if the message goes on, then at the next byte. No compressor
			// refers back over that point.
			z.readBits(z.n & 7)
			z.start = z.at
			if z.unread() <= tail {
				return nil
			}
		}
	}
	return nil
}

// unread returns how many bits are still to be read; it is negative behind the end.
func (z *inflater) unread() int { return 8*(len(z.in)+len(z.tail)) + z.n }

// refill reads into word what goes into it.
func (z *inflater) refill() {
	for z.n >= 0 && z.n < 56 {
		if len(z.in) == 0 {
			if z.in, z.tail = z.tail, nil; len(z.in) == 0 {
				return
			}
		}
		z.word |= uint64(z.in[0]) << z.n
		z.in = z.in[1:]
		z.n += 8
	}
}

// readBits reads up to 16 bits. Behind the end they are 0, and n is negative.
func (z *inflater) readBits(n int) int {
	if z.n < n {
		z.refill()
	}
	v := int(z.word & (1<<n - 1))
	z.word >>= n
	z.n -= n
	return v
}

// copyStored copies a block that is not compressed (RFC 1951 §3.2.4).
func (z *inflater) copyStored() error {
	z.readBits(z.n & 7)
	length, complement := z.readBits(16), z.readBits(16)
	if z.n < 0 || length != ^complement&0xFFFF {
		return errNotDeflate
	}
	for end := z.at + length; z.at < end; {
		if z.at == len(z.out) {
			if err := z.grow(); err != nil {
				return err
			}
		}
		switch {
		case z.n > 0:
			z.out[z.at] = byte(z.readBits(8))
			z.at++
		case len(z.in) > 0:
			z.word = 0
			n := copy(z.out[z.at:min(end, len(z.out))], z.in)
			z.in = z.in[n:]
			z.at += n
		case len(z.tail) > 0:
			z.in, z.tail = z.tail, nil
		default:
			return errNotDeflate
		}
	}
	return nil
}

// readHeader reads the Huffman codes of a block (RFC 1951 §3.2.7), and reports whether they are
// valid.
func (z *inflater) readHeader() (ok bool) {
	literals, distances, codeLengths := 257+z.readBits(5), 1+z.readBits(5), 4+z.readBits(4)
	if literals > maxLiterals || distances > maxDistances {
		return false
	}
	var own [maxCodeLengths]uint8
	for _, symbol := range codeLengthOrder[:codeLengths] {
		own[symbol] = uint8(z.readBits(3))
	}
	decoder := &z.distances // which are not read yet
	if !decoder.build(own[:]) {
		return false
	}
	lengths, n := &z.lengths, 0
	for n < literals+distances {
		z.refill()
		entry := decoder.find(z.word)
		z.readBits(int(entry & 15))
		symbol := entry >> 4
		if entry == 0 || z.n < 0 || symbol == 16 && n == 0 {
			return false
		}
		value, repeat := uint8(symbol), 1
		if symbol >= 16 {
			value, repeat = 0, int(repeatBase[symbol])+z.readBits(int(repeatBits[symbol]))
		}
		if symbol == 16 {
			value = lengths[n-1]
		}
		for range repeat {
			lengths[n] = value
			n++
		}
	}
	return n == literals+distances && z.n >= 0 && z.literals.build(lengths[:literals]) && z.distances.build(lengths[literals:n])
}

// decodeBlock decodes the data of a block with these codes.
func (z *inflater) decodeBlock(literals, distances *huffmanDecoder) error {
	in, word, n, out, at := z.in, z.word, z.n, z.out, z.at
	for {
		if n < 48 { // the most that is read below, two codes of 15 bits and 5 and 13 extra bits
			if len(in) >= 8 {
				word |= binary.LittleEndian.Uint64(in) << (uint(n) & 63)
				in = in[(63-uint(n))>>3&7:]
				n |= 56
			} else {
				z.in, z.word, z.n = in, word, n
				z.refill()
				in, word, n = z.in, z.word, z.n
			}
		}
		entry := literals.lookup[word%(1<<lookupBits)]
		if entry == 0 {
			entry = literals.find(word)
		}
		word >>= entry & 15
		n -= int(entry & 15)
		symbol := entry >> 4
		if entry == 0 || n < 0 || symbol >= maxLiterals {
			return errNotDeflate
		}
		if symbol < endOfBlock {
			if at == len(out) {
				z.at = at
				if err := z.grow(); err != nil {
					return err
				}
				out = z.out
			}
			out[at] = byte(symbol)
			at++
			continue
		}
		if symbol == endOfBlock {
			z.in, z.word, z.n, z.at = in, word, n, at
			return nil
		}

		symbol -= firstLength
		extra := lengthBits[symbol] & 15
		length := int(lengthBase[symbol]) + int(word&(1<<extra-1))
		word >>= extra
		n -= int(extra)

		entry = distances.lookup[word%(1<<lookupBits)]
		if entry == 0 {
			entry = distances.find(word)
		}
		word >>= entry & 15
		n -= int(entry & 15)
		symbol = entry >> 4
		if entry == 0 || symbol >= maxDistances {
			return errNotDeflate
		}
		extra = distanceBits[symbol] & 15
		distance := int(distanceBase[symbol]) + int(word&(1<<extra-1))
		word >>= extra
		n -= int(extra)
		from := at - distance
		if n < 0 || from < z.start {
			return errNotDeflate
		}

		for at+length > len(out) {
			z.at = at
			if err := z.grow(); err != nil {
				return err
			}
			out = z.out
		}
		// What is copied may be longer than the distance: it repeats itself then.
		for end := at + length; at < end; {
			at += copy(out[at:end], out[from:at])
		}
	}
}

// grow makes room for at least one byte more, or says why there may not be any.
func (z *inflaterOutput) grow() error {
	n := int64(len(z.out) - z.base)
	if n >= z.limit {
		return inflatedTooBig(z.limit)
	}
	if err := z.check(); err != nil {
		return err
	}
	if len(z.out) == cap(z.out) {
		grown := make([]byte, len(z.out), int64(len(z.out))+min(z.limit-n, max(n, int64(z.guess))))
		copy(grown, z.out)
		z.out, z.owned = grown, true
	}
	z.out = z.out[:len(z.out)+int(min(int64(cap(z.out)-len(z.out)), z.limit-n, maxPiece))]
	return nil
}

// check validates what was inflated since it was called last, if it is text.
func (z *inflaterOutput) check() error {
	if z.text && !z.runes.valid(z.out[z.checked:z.at]) {
		return errNotUTF8
	}
	z.checked = z.at
	return nil
}
