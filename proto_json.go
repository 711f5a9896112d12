package atrium

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// This file scans JSON without decoding it: packets carry their arguments as bytes, and only a
// handler decodes them. The grammar is that of RFC 8259, so that it accepts what
// encoding/json.Valid accepts, down to maxDepth. Invalid UTF-8 inside strings is accepted: text
// messages were validated when read.

// maxDepth bounds the nesting of arrays and objects in one value. encoding/json stops at 10,000,
// and decodes by recursion: a message of 10 KB could grow its reader's stack by megabytes.
const maxDepth = 128

// syntaxError says where JSON is invalid, and what was expected there.
type syntaxError struct {
	offset   int
	expected string
}

func (e syntaxError) Error() string {
	return "invalid JSON at byte " + strconv.Itoa(e.offset) + ": expected " + e.expected
}

// skipSpace returns the index of the first byte at or after i that is not JSON's white space (RFC
// 8259 §2).
func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns the end of the JSON value that begins at b[i], without space before it:
// b[i:end] is the value. It ignores what follows. Its error is a syntaxError, and end is then its
// offset.
func skipValue(b []byte, i int) (end int, err error) {
	var objects [(maxDepth + 63) / 64]uint64 // bit d: the container at depth d is an object
	depth := 0
value:
	for {
		if i >= len(b) {
			return i, syntaxError{i, "a value"}
		}
		switch c := b[i]; c {
		case '"':
			i, err = skipString(b, i)
		case '{', '[':
			if depth == maxDepth {
				return i, syntaxError{i, "at most " + strconv.Itoa(maxDepth) + " levels of nesting"}
			}
			bit := uint64(1) << (depth % 64)
			objects[depth/64] &^= bit
			i = skipSpace(b, i+1)
			if i < len(b) && b[i] == c+2 { // '}' and ']' are two after '{' and '['
				i++
				break
			}
			depth++
			if c == '{' {
				objects[(depth-1)/64] |= bit
				if _, i, err = skipKey(b, i); err != nil {
					return i, err
				}
			}
			continue value
		case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			i, err = skipNumber(b, i)
		default:
			i, err = skipLiteral(b, i)
		}
		if err != nil {
			return i, err
		}

		// After a value comes the next one of its container, or the end of the container, which is
		// a value too.
		for depth > 0 {
			inObject := objects[(depth-1)/64]>>((depth-1)%64)&1 != 0
			i = skipSpace(b, i)
			switch {
			case i < len(b) && b[i] == ',':
				i = skipSpace(b, i+1)
				if inObject {
					if _, i, err = skipKey(b, i); err != nil {
						return i, err
					}
				}
				continue value
			case i < len(b) && inObject && b[i] == '}', i < len(b) && !inObject && b[i] == ']':
				i++
				depth--
			case inObject:
				return i, syntaxError{i, "',' or '}'"}
			default:
				return i, syntaxError{i, "',' or ']'"}
			}
		}
		return i, nil
	}
}

// skipKey returns the end of the key that begins at b[i], and the start of its value.
func skipKey(b []byte, i int) (end, value int, err error) {
	if i >= len(b) || b[i] != '"' {
		return i, i, syntaxError{i, "a key in quotes"}
	}
	if end, err = skipString(b, i); err != nil {
		return end, end, err
	}
	value = skipSpace(b, end)
	if value >= len(b) || b[value] != ':' {
		return end, value, syntaxError{value, "':'"}
	}
	return end, skipSpace(b, value+1), nil
}

// skipString returns the end of the string literal that begins with the quote at b[i].
func skipString(b []byte, i int) (int, error) {
	for i++; ; {
		i = skipPlain(b, i)
		if i == len(b) {
			return i, syntaxError{i, "a closing quote"}
		}
		if b[i] == '"' {
			return i + 1, nil
		}
		n := escapeLen(b[i:])
		switch {
		case n > 0:
			i += n
		case b[i] == '\\':
			return i, syntaxError{i, `an escape such as \n or \u000a`}
		default:
			return i, syntaxError{i, "no control character in a string"}
		}
	}
}

// skipPlain returns the index of the first quote, backslash or control character at or after i, or
// len(b).
//
// It processes eight bytes at a time. Subtracting k from each of them sets the top bit of an ASCII
// byte less than k, and of no ASCII byte before the first such one. XOR with 2 maps the quote,
// 0x22, to 0x20, next to the control characters, so that one subtraction finds both.
func skipPlain(b []byte, i int) int {
	const ones = 0x0101010101010101
	for ; i+8 <= len(b); i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		low := (word ^ 2*ones) - 0x21*ones
		backslash := (word ^ '\\'*ones) - ones
		if found := (low | backslash) &^ word & (0x80 * ones); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escapeLen returns the length of the escape at the start of b; 0 if there is none.
func escapeLen(b []byte) int {
	if len(b) < 2 || b[0] != '\\' {
		return 0
	}
	if strings.IndexByte(`"\/`+escapeLetters, b[1]) >= 0 {
		return 2
	}
	if _, ok := hexEscape(b); ok {
		return 6
	}
	return 0
}

// A backslash and one of the letters stand for the control character of the same index.
const (
	escapeLetters  = "bfnrt"
	escapeControls = "\b\f\n\r\t"
)

// hexEscape decodes an escape such as \u00e9 at the start of b. It does not combine surrogate
// pairs.
func hexEscape(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// skipLiteral returns the end of what is no other value.
func skipLiteral(b []byte, i int) (int, error) {
	for _, literal := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(b[i:], []byte(literal)) {
			return i + len(literal), nil
		}
	}
	return i, syntaxError{i, "a value"}
}

// skipNumber returns the end of the number that begins at b[i] (RFC 8259 §6).
func skipNumber(b []byte, i int) (int, error) {
	if b[i] == '-' {
		i++
	}
	digits := skipDigits(b, i)
	switch {
	case digits == i:
		return i, syntaxError{i, "a digit"}
	case b[i] == '0': // a digit after it is not part of the number, and is refused there
		i++
	default:
		i = digits
	}
	if i < len(b) && b[i] == '.' {
		i++
		if digits = skipDigits(b, i); digits == i {
			return i, syntaxError{i, "a digit"}
		}
		i = digits
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if digits = skipDigits(b, i); digits == i {
			return i, syntaxError{i, "a digit"}
		}
		i = digits
	}
	return i, nil
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

// objectReader iterates over the fields of an object:
//
//	object := objectReader{b: b, i: i} // b[i] is the opening brace
//	for object.next() { … object.key, object.value … }
//
// Afterwards object.i is the end of the object, unless object.err is set.
type objectReader struct {
	b     []byte
	i     int
	key   []byte // unescaped
	value []byte // one valid value; aliases b
	err   error
	begun bool
}

// next reads a field into key and value. It returns false at the end of the object and after an
// error.
func (o *objectReader) next() bool {
	if !o.nextKey() {
		return false
	}
	start := o.i
	if o.i, o.err = skipValue(o.b, start); o.err != nil {
		return false
	}
	o.value = o.b[start:o.i:o.i]
	return true
}

// nextKey is next for a caller who moves i from the start of the value, where it is then, to its
// end.
func (o *objectReader) nextKey() bool {
	i := skipSpace(o.b, o.i)
	comma := o.begun && i < len(o.b) && o.b[i] == ','
	if comma || !o.begun {
		i = skipSpace(o.b, i+1)
	}
	switch {
	case !comma && i < len(o.b) && o.b[i] == '}':
		o.i = i + 1
		return false
	case !comma && o.begun:
		o.err = syntaxError{i, "',' or '}'"}
		return false
	}
	o.begun = true
	end, value, err := skipKey(o.b, i)
	if err != nil {
		o.err = err
		return false
	}
	o.key = o.b[i+1 : end-1]
	if bytes.IndexByte(o.key, '\\') >= 0 {
		o.key = appendUnescaped(nil, o.key)
	}
	o.i = value
	return true
}

// unquote decodes the string literal b, quotes included. ok is false if b is not a string literal.
// Like encoding/json it replaces half a surrogate pair, and each byte of invalid UTF-8, with
// U+FFFD.
func unquote(b []byte) (s string, ok bool) {
	if len(b) < 2 || b[0] != '"' {
		return "", false
	}
	end := skipPlain(b, 1)
	if end == len(b)-1 && b[end] == '"' && utf8.Valid(b[1:end]) {
		return string(b[1:end]), true
	}
	if end, err := skipString(b, 0); err != nil || end != len(b) {
		return "", false
	}
	return string(appendUnescaped(make([]byte, 0, len(b)), b[1:len(b)-1])), true
}

// appendUnescaped appends the decoded b, which is a valid string literal without its quotes.
func appendUnescaped(dst, b []byte) []byte {
	for i := 0; i < len(b); {
		if b[i] != '\\' {
			r, n := utf8.DecodeRune(b[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		c := b[i+1]
		if c == 'u' {
			r, _ := hexEscape(b[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				// A second half that does not match is not consumed: it may be the first of a pair.
				second, _ := hexEscape(b[i:])
				if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		if at := strings.IndexByte(escapeLetters, c); at >= 0 {
			c = escapeControls[at]
		}
		dst = append(dst, c)
		i += 2
	}
	return dst
}

// appendQuoted appends s as a JSON string, byte for byte as encoding/json does with
// SetEscapeHTML(false), so that a frame does not depend on who encoded it: U+2028 and U+2029 are
// escaped, and invalid UTF-8 becomes \ufffd.
func appendQuoted(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // s[start:i] needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			at := strings.IndexByte(escapeControls, c)
			switch {
			case at >= 0:
				dst = append(dst, '\\', escapeLetters[at])
			case c >= ' ':
				dst = append(dst, '\\', c)
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\ufffd`...)
			start = i + n
		case r == '\u2028', r == '\u2029':
			dst = append(dst, s[start:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hex[r&0xF])
			start = i + n
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
