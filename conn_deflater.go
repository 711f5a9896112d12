package atrium

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"
)

// deflater compresses at level 1, or without matches (RFC 1951): in one pass it finds the literals
// and matches of a piece of the message, which it then writes as one block with dynamic or fixed
// Huffman codes. It takes the first match that it finds.
type deflater struct {
	// hashTable has, by a hash of four bytes, where in the message four bytes with that hash were
	// last. They need not be the same: whoever looks an entry up compares them.
	hashTable [1 << hashBits]uint32
	matches   []match

	literals, distances huffmanEncoder
	codeLengths         huffmanEncoder // of the code length alphabet, in which the lengths of the other two are written
	lengths             []uint8        // of the codes for literals and lengths, and for distances
	runs                []uint16       // lengths as symbols of codeLengths, and <<8 the extra bits of each

	out  []byte
	word uint64 // the bits that are not in out yet, the first is the lowest
	n    uint   // how many they are
}

// match is a repetition of earlier bytes (RFC 1951 §2), and how many literals are ahead of it. The
// last of a block is no repetition: its length is 0.
type match struct {
	literals         uint32
	length, distance uint16
}

const (
	hashBits = 12
	// minMatch and maxMatch bound the length of a match, windowSize its distance.
	minMatch, maxMatch, windowSize = 4, 258, 32 << 10
	// maxBlock and maxMatches bound a block.
	maxBlock, maxMatches = 64 << 10, 4 << 10
)

var deflaters = sync.Pool{New: func() any { return new(deflater) }}

// deflate appends the compressed form of the message to dst, without the tail. lookBack allows
// matches.
func (d *deflater) deflate(dst, message []byte, lookBack bool) []byte {
	d.out, d.word, d.n = dst, 0, 0
	clear(d.hashTable[:])
	for at := 0; at < len(message); {
		end := d.findMatches(message, at, lookBack)
		d.writeBlock(message[at:end])
		at = end
	}
	d.writeBits(0, 3) // an empty block, of which the tail is the rest
	d.writeBits(0, -d.n&7)
	dst, d.out = d.out, nil
	return dst
}

// findMatches sets the matches of a block of the message from start on, and returns where it ends.
func (d *deflater) findMatches(message []byte, start int, lookBack bool) (end int) {
	end = min(len(message), start+maxBlock)
	d.matches = d.matches[:0]
	at, literal := start, start
	if !lookBack {
		at = end
	}
	for at+minMatch <= end {
		next := binary.LittleEndian.Uint32(message[at:])
		distance := d.lookUp(next, at)
		from := at - int(distance)
		if distance-1 >= windowSize || binary.LittleEndian.Uint32(message[from:]) != next {
			at += 1 + (at-literal)>>5 // where there was no match for long, there will be few
			continue
		}
		length := minMatch + matchLength(message[from+minMatch:], message[at+minMatch:min(end, at+maxMatch)])
		d.matches = append(d.matches, match{uint32(at - literal), uint16(length), uint16(distance)})
		literal = at + length
		for at++; at < literal && at+minMatch <= end; at++ {
			d.lookUp(binary.LittleEndian.Uint32(message[at:]), at)
		}
		at = literal
		if len(d.matches) == maxMatches-1 {
			end = at
		}
	}
	d.matches = append(d.matches, match{literals: uint32(end - literal)})
	return end
}

// lookUp sets the position of four bytes in the hash table, and returns how far ahead of it the
// position is that was there; 0 at the beginning of the message.
func (d *deflater) lookUp(bytes uint32, at int) (distance uint32) {
	entry := &d.hashTable[bytes*0x9E3779B1>>(32-hashBits)]
	distance = uint32(at) - *entry
	*entry = uint32(at)
	return distance
}

// matchLength returns how many bytes of b are the same as those of a, which is not shorter.
func matchLength(a, b []byte) (n int) {
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

// writeBlock writes the text, whose matches are found, as one block with the codes that make it
// smaller.
func (d *deflater) writeBlock(text []byte) {
	extra := d.count(text)
	literals, distances := &d.literals, &d.distances
	literals.build(maxLiterals, maxCodeBits)
	distances.build(maxDistances, maxCodeBits)
	header, headerSize := d.makeHeader()
	size := headerSize + literals.size(&literals.lengths) + distances.size(&distances.lengths)

	fixed, _ := fixedCodes()
	fixedSize := literals.size(&fixed[0].lengths) + distances.size(&fixed[1].lengths)
	d.out = slices.Grow(d.out, (min(size, fixedSize)+extra)/8+16) // once, if one block is all
	if fixedSize <= size {
		d.writeBits(0b01<<1, 3)
		d.writeData(text, &fixed[0], &fixed[1])
		return
	}
	d.writeBits(0b10<<1, 3)
	d.writeHeader(header)
	d.writeData(text, literals, distances)
}

// count counts the symbols of the text, and returns how many extra bits they have.
func (d *deflater) count(text []byte) (extra int) {
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
		extra += int(lengthBits[length]) + int(distanceBits[distance])
	}
	literals[endOfBlock] = 1
	if len(d.matches) == 1 {
		distances[0] = 1 // RFC 1951 §3.2.7 allows no code for a distance, but not every inflater does
	}
	return extra
}

// blockHeader is how many code lengths of each alphabet are written (HLIT, HDIST and HCLEN in
// RFC 1951 §3.2.7).
type blockHeader struct{ literals, distances, codeLengths int }

// makeHeader sets the runs of the code lengths, and the codes for the runs. It returns the size of
// the header in bits.
func (d *deflater) makeHeader() (h blockHeader, size int) {
	h = blockHeader{maxLiterals, maxDistances, maxCodeLengths}
	for h.literals > endOfBlock+1 && d.literals.lengths[h.literals-1] == 0 {
		h.literals--
	}
	for h.distances > 1 && d.distances.lengths[h.distances-1] == 0 {
		h.distances--
	}
	d.lengths = append(append(d.lengths[:0], d.literals.lengths[:h.literals]...), d.distances.lengths[:h.distances]...)
	d.runs = appendRuns(d.runs[:0], d.lengths)
	clear(d.codeLengths.count[:])
	for _, run := range d.runs {
		d.codeLengths.count[run&0xFF]++
		size += int(repeatBits[run&0xFF])
	}
	d.codeLengths.build(maxCodeLengths, maxCodeLengthBits)
	for h.codeLengths > 4 && d.codeLengths.lengths[codeLengthOrder[h.codeLengths-1]] == 0 {
		h.codeLengths--
	}
	return h, size + 5 + 5 + 4 + 3*h.codeLengths + d.codeLengths.size(&d.codeLengths.lengths)
}

// appendRuns encodes code lengths as symbols of the code length alphabet: a length, or how often it
// is repeated (RFC 1951 §3.2.7).
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
			switch {
			case value == 0 && n >= int(repeatBase[18]):
				symbol = 18
			case value == 0:
				symbol = 17
			}
			base := int(repeatBase[symbol])
			if n < base {
				for range n {
					runs = append(runs, value)
				}
				break
			}
			repeat := min(n-base, 1<<repeatBits[symbol]-1)
			runs = append(runs, symbol|uint16(repeat)<<8)
			n -= base + repeat
		}
	}
	return runs
}

// writeHeader writes the code lengths.
func (d *deflater) writeHeader(h blockHeader) {
	d.writeBits(uint32(h.literals-257), 5)
	d.writeBits(uint32(h.distances-1), 5)
	d.writeBits(uint32(h.codeLengths-4), 4)
	for _, symbol := range codeLengthOrder[:h.codeLengths] {
		d.writeBits(uint32(d.codeLengths.lengths[symbol]), 3)
	}
	for _, run := range d.runs {
		d.word, d.n = addCode(d.word, d.n, d.codeLengths.codes[run&0xFF])
		d.writeBits(uint32(run>>8), uint(repeatBits[run&0xFF]))
	}
}

// writeData writes the text and the end of the block with these codes.
func (d *deflater) writeData(text []byte, literals, distances *huffmanEncoder) {
	out, word, n := d.out, d.word, d.n
	for _, m := range d.matches {
		for _, b := range text[:m.literals] {
			if n >= 48 {
				out = binary.LittleEndian.AppendUint64(out, word)[:len(out)+6]
				word >>= 48
				n -= 48
			}
			word, n = addCode(word, n, literals.codes[b])
		}
		// Fewer than 8 bits are left, and at most two codes of 15 and 5 and 13 extra bits follow.
		out = binary.LittleEndian.AppendUint64(out, word)[:len(out)+int(n>>3)]
		word >>= n &^ 7 & 63
		n &= 7
		if m.length == 0 {
			break
		}
		text = text[int(m.literals)+int(m.length):]

		symbol := lengthSymbols[m.length]
		word, n = addCode(word, n, literals.codes[firstLength+int(symbol)])
		word |= uint64(m.length-lengthBase[symbol]) << (n & 63)
		n += uint(lengthBits[symbol])
		symbol = distanceSymbol(m.distance)
		word, n = addCode(word, n, distances.codes[symbol])
		word |= uint64(m.distance-distanceBase[symbol]) << (n & 63)
		n += uint(distanceBits[symbol])
	}
	d.out = out
	d.word, d.n = addCode(word, n, literals.codes[endOfBlock])
	d.writeBits(0, 0)
}

// addCode adds a code of a huffmanEncoder to the n lowest bits of word.
func addCode(word uint64, n uint, code uint32) (uint64, uint) {
	return word | uint64(code>>4)<<(n&63), n + uint(code&15)
}

// writeBits writes the n lowest bits of v, up to 16.
func (d *deflater) writeBits(v uint32, n uint) {
	d.word |= uint64(v) << d.n
	d.n += n
	d.out = binary.LittleEndian.AppendUint64(d.out, d.word)[:len(d.out)+int(d.n>>3)]
	d.word >>= d.n &^ 7
	d.n &= 7
}
