package atrium

import (
	"math/bits"
	"slices"
	"sync"
)

// This file is the Huffman codes of deflate (RFC 1951 §3.2.2). The codes of an alphabet are given
// by their lengths, one for each symbol, 0 for a symbol without a code. Codes of the same length
// are consecutive in the order of their symbols, and lie behind the shorter ones.

const (
	// maxCodeBits is the length of the longest code of literals, lengths and distances, in bits,
	// and maxCodeLengthBits that of the code length alphabet.
	maxCodeBits, maxCodeLengthBits = 15, 7
	// endOfBlock is the symbol behind the literals, and firstLength that of the first length.
	endOfBlock, firstLength = 256, 257
	// maxLiterals, maxDistances and maxCodeLengths are how many symbols the literal/length alphabet
	// has, that of distances, and the code length alphabet (RFC 1951 §3.2.7).
	maxLiterals, maxDistances, maxCodeLengths = 286, 30, 19
)

// lengthBase, lengthBits, distanceBase and distanceBits are the least that a symbol stands for,
// and how many extra bits, which are added to it, follow (RFC 1951 §3.2.5).
var (
	lengthBase   = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits   = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceBits = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// codeLengthOrder is the order in which the lengths of the codes of the code length alphabet are
// written (RFC 1951 §3.2.7).
var codeLengthOrder = [maxCodeLengths]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// repeatBase and repeatBits are how often, at least, the symbols 16 to 18 of the code length
// alphabet repeat the length before, or 0, and how many extra bits follow.
var (
	repeatBase = [maxCodeLengths]uint8{16: 3, 17: 3, 18: 11}
	repeatBits = [maxCodeLengths]uint8{16: 2, 17: 3, 18: 7}
)

// lengthSymbols has the symbol of each length, less firstLength.
var lengthSymbols = func() (symbols [maxMatch + 1]uint8) {
	for symbol, base := range lengthBase {
		for length := int(base); length <= maxMatch; length++ {
			symbols[length] = uint8(symbol)
		}
	}
	return symbols
}()

// distanceSymbol returns the symbol of a distance.
func distanceSymbol(distance uint16) uint8 {
	d := distance - 1
	if d < 4 {
		return uint8(d)
	}
	n := bits.Len16(d) - 2
	return uint8(2*n + 2 + int(d>>n&1))
}

// firstCodes returns the first code of each length, and how many there are. The first bit of a code
// is the highest of 16; zeros follow the last.
func firstCodes(lengths []uint8) (first [maxCodeBits + 1]uint16, count [maxCodeBits + 1]int) {
	for _, length := range lengths {
		count[length]++
	}
	code := uint16(0)
	for length := 1; length <= maxCodeBits; length++ {
		first[length] = code
		code += uint16(count[length]) << (16 - length)
	}
	return first, count
}

// lookupBits is the length of the longest code whose symbol a huffmanDecoder looks up.
const lookupBits = 9

// huffmanDecoder decodes the symbols of an alphabet. The first bit of a code is the lowest of those
// it is looked up by.
type huffmanDecoder struct {
	// lookup has, for the next lookupBits bits, the symbol <<4 and the length of its code; 0 if the
	// code is longer.
	lookup [1 << lookupBits]uint16
	// Codes that are longer. As firstCodes has them, those of a length are below its end, and their
	// symbols begin at the code plus offset.
	end     [maxCodeBits + 1]uint32
	offset  [maxCodeBits + 1]uint16
	symbols [maxLiterals + 2]uint16 // by code
}

// build sets the codes of these lengths. It reports false if one is the prefix of another, or if
// there are bits that no code begins with, unless there is no code at all or one of one bit.
func (d *huffmanDecoder) build(lengths []uint8) (ok bool) {
	next, count := firstCodes(lengths)
	used := len(lengths) - count[0]
	index, end := 0, 0
	for length := 1; length <= maxCodeBits; length++ {
		d.offset[length] = uint16(index) - next[length]>>(16-length)
		index += count[length]
		end += count[length] << (16 - length)
		d.end[length] = uint32(end)
	}
	if end != 1<<16 && used > 0 && !(used == 1 && count[1] == 1) {
		return false
	}
	clear(d.lookup[:])
	for symbol, length := range lengths {
		if length == 0 {
			continue
		}
		code := next[length]
		next[length] += 1 << (16 - length)
		if length > lookupBits {
			d.symbols[d.offset[length]+code>>(16-length)] = uint16(symbol)
			continue
		}
		for i := int(bits.Reverse16(code)); i < len(d.lookup); i += 1 << length {
			d.lookup[i] = uint16(symbol)<<4 | uint16(length)
		}
	}
	return true
}

// find returns the symbol <<4 of the next code and its length; 0 if there is none.
func (d *huffmanDecoder) find(next uint64) uint16 {
	if entry := d.lookup[next%(1<<lookupBits)]; entry != 0 {
		return entry
	}
	code := bits.Reverse16(uint16(next))
	for length := lookupBits + 1; length <= maxCodeBits; length++ {
		if uint32(code) < d.end[length] {
			return d.symbols[d.offset[length]+code>>(16-length)]<<4 | uint16(length)
		}
	}
	return 0
}

// huffmanEncoder makes the codes of an alphabet: the more often a symbol occurs, the shorter its
// code.
type huffmanEncoder struct {
	count   [maxLiterals]uint32     // how often each symbol occurs
	lengths [maxLiterals + 2]uint8  // of the codes
	codes   [maxLiterals + 2]uint32 // a code, its first bit the lowest, <<4, and its length

	// The tree of Huffman's algorithm. Its leaves are the symbols that occur, the rarest first; its
	// inner nodes follow in the order in which they are made, which is by weight, too.
	leaves  []uint32 // a symbol, and <<9 how often it occurs
	weights [2 * maxLiterals]uint32
	parents [2 * maxLiterals]uint16
	depths  [2 * maxLiterals]uint8
}

// build makes codes of at most longest bits for those of n symbols that occur.
func (e *huffmanEncoder) build(n int, longest uint8) {
	e.leaves = e.leaves[:0]
	for symbol, count := range e.count[:n] {
		e.lengths[symbol] = 0
		if count > 0 {
			e.leaves = append(e.leaves, count<<9|uint32(symbol))
		}
	}
	slices.Sort(e.leaves)
	for i, leaf := range e.leaves {
		e.weights[i] = leaf >> 9
	}
	// If a code is too long, all are made again for weights that differ less.
	for e.buildTree(len(e.leaves)) > longest {
		for i := range e.leaves {
			e.weights[i] = (e.weights[i] + 1) / 2
		}
	}
	for i, leaf := range e.leaves {
		e.lengths[leaf%(1<<9)] = max(e.depths[i], 1)
	}
	e.assignCodes(n)
}

// size returns how many bits all that occurs takes with codes of these lengths.
func (e *huffmanEncoder) size(lengths *[maxLiterals + 2]uint8) (n int) {
	for _, leaf := range e.leaves {
		n += int(leaf>>9) * int(lengths[leaf%(1<<9)])
	}
	return n
}

// buildTree makes the tree of n leaves, and returns how deep it is.
func (e *huffmanEncoder) buildTree(n int) (deepest uint8) {
	leaf, inner, root := 0, n, 2*n-2
	for made := n; made <= root; made++ {
		e.weights[made] = 0
		for range 2 {
			lightest := inner
			if inner == made || leaf < n && e.weights[leaf] <= e.weights[inner] {
				lightest = leaf
				leaf++
			} else {
				inner++
			}
			e.weights[made] += e.weights[lightest]
			e.parents[lightest] = uint16(made)
		}
	}
	e.depths[root] = 0
	for i := root - 1; i >= 0; i-- {
		e.depths[i] = e.depths[e.parents[i]] + 1
		deepest = max(deepest, e.depths[i])
	}
	return deepest
}

// assignCodes makes the codes of n symbols from their lengths.
func (e *huffmanEncoder) assignCodes(n int) {
	next, _ := firstCodes(e.lengths[:n])
	for symbol, length := range e.lengths[:n] {
		if length > 0 {
			e.codes[symbol] = uint32(bits.Reverse16(next[length]))<<4 | uint32(length)
			next[length] += 1 << (16 - length)
		}
	}
}

// fixedCodes returns the fixed codes (RFC 1951 §3.2.6): the first are for literals and lengths, the
// second for distances.
var fixedCodes = sync.OnceValues(func() (e *[2]huffmanEncoder, d *[2]huffmanDecoder) {
	e, d = new([2]huffmanEncoder), new([2]huffmanDecoder)
	for i, lengths := range [][]uint8{
		slices.Concat(slices.Repeat([]uint8{8}, 144), slices.Repeat([]uint8{9}, 112), slices.Repeat([]uint8{7}, 24), slices.Repeat([]uint8{8}, 8)),
		slices.Repeat([]uint8{5}, 32),
	} {
		copy(e[i].lengths[:], lengths)
		e[i].assignCodes(len(lengths))
		d[i].build(lengths)
	}
	return e, d
})
