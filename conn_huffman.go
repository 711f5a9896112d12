package atrium

import (
	"math/bits"
	"slices"
	"sync"
)

// This file is the prefix codes of deflate (RFC 1951 §3.2.2). A code is given by the lengths of its
// words, one for each symbol, 0 for a symbol without one. Words of the same length count up in the
// order of the symbols, and lie behind the shorter ones.

const (
	// maxWord is the length of the longest word, in bits.
	maxWord = 15
	// maxMetaWord is that of the code of lengths of words.
	maxMetaWord = 7
	// endOfBlock is the symbol behind the literal bytes, and firstLength that of the first length.
	endOfBlock, firstLength = 256, 257
	// maxLiterals, maxDistances and maxMeta are how many symbols there are in the code of literals
	// and lengths, of distances, and of the lengths of the words of those two (RFC 1951 §3.2.7).
	maxLiterals, maxDistances, maxMeta = 286, 30, 19
)

// lengthBase, lengthBits, distanceBase and distanceBits are what a symbol stands for, and how many
// bits that are added to it follow (RFC 1951 §3.2.5).
var (
	lengthBase   = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthBits   = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distanceBase = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distanceBits = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// metaOrder is the order in which the lengths of the words of the meta code come (RFC 1951 §3.2.7).
var metaOrder = [maxMeta]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// metaBase and metaBits are how often the symbols 16 to 18 of the meta code repeat the length
// before, or 0, and how many bits that are added to it follow.
var (
	metaBase = [maxMeta]uint8{16: 3, 17: 3, 18: 11}
	metaBits = [maxMeta]uint8{16: 2, 17: 3, 18: 7}
)

// lengthSymbols has the symbol of each length, counted from the first.
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

// fixedLengths are the lengths of the words of RFC 1951 §3.2.6.
func fixedLengths() (literals, distances []uint8) {
	literals = slices.Concat(slices.Repeat([]uint8{8}, 144), slices.Repeat([]uint8{9}, 112), slices.Repeat([]uint8{7}, 24), slices.Repeat([]uint8{8}, 8))
	return literals, slices.Repeat([]uint8{5}, 32)
}

// firstWords returns the first word of each length, and how many there are. The first of the 16
// bits is the highest; a word that is shorter has zeros behind it.
func firstWords(lengths []uint8) (words [maxWord + 1]uint16, count [maxWord + 1]int) {
	for _, length := range lengths {
		count[length]++
	}
	word := uint16(0)
	for length := 1; length <= maxWord; length++ {
		words[length] = word
		word += uint16(count[length]) << (16 - length)
	}
	return words, count
}

// quickBits is the length of the words up to which a prefixDecoder looks a symbol up.
const quickBits = 9

// prefixDecoder finds the symbol that a word stands for. A word's first bit is the lowest of the
// bits that it is looked up by.
type prefixDecoder struct {
	// quick has, for the next quickBits bits, the symbol <<4 and the length of its word; 0 if the
	// word is longer.
	quick [1 << quickBits]uint16
	// Those that are longer. The words of a length are the 16 next bits, the first of them the
	// highest, below end; their symbols are at offset, plus the word.
	end     [maxWord + 1]uint32
	offset  [maxWord + 1]uint16
	symbols [maxLiterals + 2]uint16 // by word
}

// set sets the code. It reports false if a word is ambiguous, or if bits are left that are no word,
// unless the code has no word at all or one of one bit.
func (d *prefixDecoder) set(lengths []uint8) (ok bool) {
	next, count := firstWords(lengths)
	used := len(lengths) - count[0]
	index, end := 0, 0
	for length := 1; length <= maxWord; length++ {
		d.offset[length] = uint16(index) - next[length]>>(16-length)
		index += count[length]
		end += count[length] << (16 - length)
		d.end[length] = uint32(end)
	}
	if end != 1<<16 && used > 0 && !(used == 1 && count[1] == 1) {
		return false
	}
	clear(d.quick[:])
	for symbol, length := range lengths {
		if length == 0 {
			continue
		}
		word := next[length]
		next[length] += 1 << (16 - length)
		if length > quickBits {
			d.symbols[d.offset[length]+word>>(16-length)] = uint16(symbol)
			continue
		}
		for i := int(bits.Reverse16(word)); i < len(d.quick); i += 1 << length {
			d.quick[i] = uint16(symbol)<<4 | uint16(length)
		}
	}
	return true
}

// find returns the symbol <<4 of the next word and the word's length; 0 if there is none.
func (d *prefixDecoder) find(next uint64) uint16 {
	if entry := d.quick[next%(1<<quickBits)]; entry != 0 {
		return entry
	}
	word := bits.Reverse16(uint16(next))
	for length := quickBits + 1; length <= maxWord; length++ {
		if uint32(word) < d.end[length] {
			return d.symbols[d.offset[length]+word>>(16-length)]<<4 | uint16(length)
		}
	}
	return 0
}

// fixedDecoders are those of RFC 1951 §3.2.6.
var fixedDecoders = sync.OnceValue(func() *[2]prefixDecoder {
	var d [2]prefixDecoder
	literals, distances := fixedLengths()
	d[0].set(literals)
	d[1].set(distances)
	return &d
})

// prefixEncoder has the words of a code that is made to measure: the oftener a symbol occurs, the
// shorter its word.
type prefixEncoder struct {
	count   [maxLiterals]uint32     // how often each symbol occurs
	lengths [maxLiterals + 2]uint8  // of the words
	words   [maxLiterals + 2]uint32 // a word, its first bit the lowest, <<4, and its length

	// The tree of Huffman's algorithm. Its leaves are the symbols that occur, the rarest first; its
	// inner nodes follow in the order in which they are made, which is by weight, too.
	leaves  []uint32 // a symbol, and <<9 how often it occurs
	weights [2 * maxLiterals]uint32
	parents [2 * maxLiterals]uint16
	depths  [2 * maxLiterals]uint8
}

// set makes words of at most longest bits for those of n symbols that occur.
func (e *prefixEncoder) set(n int, longest uint8) {
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
	// A code with words that are too long is made again for symbols that differ less.
	for e.grow(len(e.leaves)) > longest {
		for i := range e.leaves {
			e.weights[i] = (e.weights[i] + 1) / 2
		}
	}
	for i, leaf := range e.leaves {
		e.lengths[leaf%(1<<9)] = max(e.depths[i], 1)
	}
	e.number(n)
}

// size returns how many bits all that occurs takes with words of these lengths.
func (e *prefixEncoder) size(lengths *[maxLiterals + 2]uint8) (n int) {
	for _, leaf := range e.leaves {
		n += int(leaf>>9) * int(lengths[leaf%(1<<9)])
	}
	return n
}

// grow makes the tree of n leaves, and returns how deep it is.
func (e *prefixEncoder) grow(n int) (deepest uint8) {
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

// number makes the words of n symbols from their lengths.
func (e *prefixEncoder) number(n int) {
	next, _ := firstWords(e.lengths[:n])
	for symbol, length := range e.lengths[:n] {
		if length > 0 {
			e.words[symbol] = uint32(bits.Reverse16(next[length]))<<4 | uint32(length)
			next[length] += 1 << (16 - length)
		}
	}
}

// fixedEncoders are those of RFC 1951 §3.2.6.
var fixedEncoders = sync.OnceValue(func() *[2]prefixEncoder {
	var e [2]prefixEncoder
	literals, distances := fixedLengths()
	copy(e[0].lengths[:], literals)
	copy(e[1].lengths[:], distances)
	e[0].number(len(literals))
	e[1].number(len(distances))
	return &e
})
