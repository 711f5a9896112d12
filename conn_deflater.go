package atrium

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// deflater compresses at level 1, or without looking back: in one pass it splits a piece of the
// message into bytes and references to earlier ones, which it then writes as one block with codes
// made to measure. It takes the first reference that it sees.
type deflater struct {
	// heads has, by a hash of four bytes, where in the message such were seen last. What an entry
	// refers to is looked at, so that a wrong one does no harm.
	heads   [1 << hashBits]uint32
	matches []match

	literals, distances prefixEncoder
	meta                prefixEncoder // of the lengths of the words of those two
	lengths             []uint8       // of the words of those two
	runs                []uint16      // lengths as symbols of meta, and <<8 the bits that follow one

	out  []byte
	word uint64 // the bits that are not in out yet, the first is the lowest
	n    uint   // how many they are
}

// match is a reference to earlier bytes, and how many bytes without a reference are ahead of it.
// The last of a block has no reference: its length is 0.
type match struct {
	literals         uint32
	length, distance uint16
}

const (
	hashBits = 12
	// minMatch and maxMatch bound the length of a reference, maxReach its distance.
	minMatch, maxMatch, maxReach = 4, 258, 32 << 10
	// maxBlock and maxMatches bound what is written with the same codes.
	maxBlock, maxMatches = 64 << 10, 4 << 10
)

var deflaters = sync.Pool{New: func() any { return new(deflater) }}

// deflate appends the compressed form of the message to dst, without the tail.
func (d *deflater) deflate(dst, message []byte, lookBack bool) []byte {
	d.out, d.word, d.n = dst, 0, 0
	clear(d.heads[:])
	for at := 0; at < len(message); {
		end := d.match(message, at, lookBack)
		d.block(message[at:end])
		at = end
	}
	d.bits(0, 3) // an empty block, of which the tail is the rest
	d.bits(0, -d.n&7)
	dst, d.out = d.out, nil
	return dst
}

// match makes matches of the message from start on, and returns where they end.
func (d *deflater) match(message []byte, start int, lookBack bool) (end int) {
	end = min(len(message), start+maxBlock)
	d.matches = d.matches[:0]
	at, literal := start, start
	if !lookBack {
		at = end
	}
	for at+minMatch <= end {
		next := binary.LittleEndian.Uint32(message[at:])
		distance := d.seen(next, at)
		from := at - int(distance)
		if distance-1 >= maxReach || binary.LittleEndian.Uint32(message[from:]) != next {
			at += 1 + (at-literal)>>5 // where nothing has come again for long, little will
			continue
		}
		length := minMatch + common(message[from+minMatch:], message[at+minMatch:min(end, at+maxMatch)])
		d.matches = append(d.matches, match{uint32(at - literal), uint16(length), uint16(distance)})
		literal = at + length
		for at++; at < literal && at+minMatch <= end; at++ {
			d.seen(binary.LittleEndian.Uint32(message[at:]), at)
		}
		at = literal
		if len(d.matches) == maxMatches-1 {
			end = at
		}
	}
	d.matches = append(d.matches, match{literals: uint32(end - literal)})
	return end
}

// seen notes where four bytes are, and returns how far back such may have been; 0 if nowhere.
func (d *deflater) seen(bytes uint32, at int) (distance uint32) {
	head := &d.heads[bytes*0x9E3779B1>>(32-hashBits)]
	distance = uint32(at) - *head
	*head = uint32(at)
	return distance
}

// common returns with how many of its bytes b begins as a does, which is not shorter.
func common(a, b []byte) (n int) {
	for ; n+8 <= len(b); n += 8 {
		if differ := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); differ != 0 {
			return n + bits.TrailingZeros64(differ)>>3
		}
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// block writes the matches, which the text consists of, as one block.
func (d *deflater) block(text []byte) {
	more := d.count(text)
	literals, distances := &d.literals, &d.distances
	literals.set(maxLiterals, maxWord)
	distances.set(maxDistances, maxWord)
	header, headerSize := d.describe()
	size := headerSize + literals.size(&literals.lengths) + distances.size(&distances.lengths)

	fixed := fixedEncoders()
	fixedSize := literals.size(&fixed[0].lengths) + distances.size(&fixed[1].lengths)
	d.out = slices.Grow(d.out, (min(size, fixedSize)+more)/8+16) // once, if one block is all
	if fixedSize <= size {
		d.bits(0b01<<1, 3)
		d.content(text, &fixed[0], &fixed[1])
		return
	}
	d.bits(0b10<<1, 3)
	d.codes(header)
	d.content(text, literals, distances)
}

// count counts the symbols that stand for the text, and returns how many bits more they need than
// their words.
func (d *deflater) count(text []byte) (more int) {
	literals, distances := &d.literals.count, &d.distances.count
	clear(literals[:])
	clear(distances[:])
	for _, m := range d.matches {
		for _, b := range text[:m.literals] {
			literals[b]++
		}
		if m.length == 0 {
			break
		}
		text = text[int(m.literals)+int(m.length):]
		length, distance := lengthSymbols[m.length], distanceSymbol(m.distance)
		literals[firstLength+int(length)]++
		distances[distance]++
		more += int(lengthBits[length]) + int(distanceBits[distance])
	}
	literals[endOfBlock] = 1
	if len(d.matches) == 1 {
		distances[0] = 1 // RFC 1951 allows a code without a word, but not everybody does
	}
	return more
}

// codesHeader is how many symbols have their lengths written.
type codesHeader struct{ literals, distances, meta int }

// describe makes the runs for the two codes, and the code for the runs. It returns how many bits
// the codes take to write.
func (d *deflater) describe() (h codesHeader, size int) {
	h = codesHeader{maxLiterals, maxDistances, maxMeta}
	for h.literals > endOfBlock+1 && d.literals.lengths[h.literals-1] == 0 {
		h.literals--
	}
	for h.distances > 1 && d.distances.lengths[h.distances-1] == 0 {
		h.distances--
	}
	d.lengths = append(append(d.lengths[:0], d.literals.lengths[:h.literals]...), d.distances.lengths[:h.distances]...)
	d.runs = appendRuns(d.runs[:0], d.lengths)
	clear(d.meta.count[:])
	for _, run := range d.runs {
		d.meta.count[run&0xFF]++
		size += int(metaBits[run&0xFF])
	}
	d.meta.set(maxMeta, maxMetaWord)
	for h.meta > 4 && d.meta.lengths[metaOrder[h.meta-1]] == 0 {
		h.meta--
	}
	return h, size + 5 + 5 + 4 + 3*h.meta + d.meta.size(&d.meta.lengths)
}

// appendRuns turns lengths into symbols of the meta code: a length, or how often one comes again
// (RFC 1951 §3.2.7).
func appendRuns(runs []uint16, lengths []uint8) []uint16 {
	for len(lengths) > 0 {
		value, n := uint16(lengths[0]), 1
		for n < len(lengths) && lengths[n] == lengths[0] {
			n++
		}
		lengths = lengths[n:]
		if value != 0 {
			runs = append(runs, value)
			n--
		}
		for n > 0 {
			symbol := uint16(16)
			if value == 0 {
				symbol = 17
				if n >= int(metaBase[18]) {
					symbol = 18
				}
			}
			base := int(metaBase[symbol])
			if n < base {
				runs = append(runs, value)
				n--
				continue
			}
			repeat := min(n-base, 1<<metaBits[symbol]-1)
			runs = append(runs, symbol|uint16(repeat)<<8)
			n -= base + repeat
		}
	}
	return runs
}

// codes writes the two codes.
func (d *deflater) codes(h codesHeader) {
	d.bits(uint32(h.literals-257), 5)
	d.bits(uint32(h.distances-1), 5)
	d.bits(uint32(h.meta-4), 4)
	for _, symbol := range metaOrder[:h.meta] {
		d.bits(uint32(d.meta.lengths[symbol]), 3)
	}
	for _, run := range d.runs {
		w := d.meta.words[run&0xFF]
		d.bits(w>>4, uint(w&15))
		d.bits(uint32(run>>8), uint(metaBits[run&0xFF]))
	}
}

// content writes the text and the end of the block in these codes.
func (d *deflater) content(text []byte, literals, distances *prefixEncoder) {
	out, word, n := d.out, d.word, d.n
	for _, m := range d.matches {
		for _, b := range text[:m.literals] {
			if n >= 48 {
				out = binary.LittleEndian.AppendUint64(out, word)[:len(out)+6]
				word >>= 48
				n -= 48
			}
			w := literals.words[b]
			word |= uint64(w>>4) << (n & 63)
			n += uint(w & 15)
		}
		// Fewer than 8 bits are left, to which come at most two words of 15 and 5 and 13 more.
		out = binary.LittleEndian.AppendUint64(out, word)[:len(out)+int(n>>3)]
		word >>= n &^ 7 & 63
		n &= 7
		if m.length == 0 {
			break
		}
		text = text[int(m.literals)+int(m.length):]

		symbol := lengthSymbols[m.length]
		w := literals.words[firstLength+int(symbol)]
		word |= uint64(w>>4) << (n & 63)
		n += uint(w & 15)
		word |= uint64(m.length-lengthBase[symbol]) << (n & 63)
		n += uint(lengthBits[symbol])
		symbol = distanceSymbol(m.distance)
		w = distances.words[symbol]
		word |= uint64(w>>4) << (n & 63)
		n += uint(w & 15)
		word |= uint64(m.distance-distanceBase[symbol]) << (n & 63)
		n += uint(distanceBits[symbol])
	}
	d.out, d.word, d.n = out, word, n
	w := literals.words[endOfBlock]
	d.bits(w>>4, uint(w&15))
}

// bits writes the n lowest bits of v, up to 16.
func (d *deflater) bits(v uint32, n uint) {
	d.word |= uint64(v) << d.n
	d.n += n
	d.out = binary.LittleEndian.AppendUint64(d.out, d.word)[:len(d.out)+int(d.n>>3)]
	d.word >>= d.n &^ 7
	d.n &= 7
}
