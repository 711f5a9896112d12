package atrium

import "unicode/utf8"

// utf8Stream validates a text that comes in pieces. It fails at the first byte that no valid text
// could have there.
type utf8Stream struct {
	tail [utf8.UTFMax]byte // an unfinished rune
	n    uint8
}

// valid reports whether the text can still become valid UTF-8 with p added.
func (u *utf8Stream) valid(p []byte) bool {
	for u.n > 0 && len(p) > 0 {
		u.tail[u.n] = p[0]
		u.n++
		p = p[1:]
		if utf8.FullRune(u.tail[:u.n]) {
			// FullRune is also true of what cannot become a rune any more.
			if r, size := utf8.DecodeRune(u.tail[:u.n]); r == utf8.RuneError && size == 1 {
				return false
			}
			u.n = 0
		}
	}
	// An unfinished rune at the end is at most three bytes and begins at the last byte that can
	// begin one.
	end := len(p)
	for i := len(p) - 1; i >= 0 && i >= len(p)-(utf8.UTFMax-1); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				end = i
			}
			break
		}
	}
	if u.n == 0 {
		u.n = uint8(copy(u.tail[:], p[end:]))
	}
	return utf8.Valid(p[:end])
}

// complete reports whether the text may end here.
func (u *utf8Stream) complete() bool { return u.n == 0 }
