package atrium

import (
	"iter"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// maxExtensionsHeader bounds Sec-WebSocket-Extensions, in bytes, all its lines together. A browser
// sends about fifty.
const maxExtensionsHeader = 4 << 10

// extension is one element of a Sec-WebSocket-Extensions header (RFC 6455 §9.1): an offer of a
// client or the agreement of a server.
type extension struct {
	name   string
	params []extensionParam
	broken bool // it violates the grammar; the other fields are meaningless
}

// extensionParam is "name", with an empty value, or "name=value". A value cannot be empty.
type extensionParam struct{ name, value string }

// parseExtensions parses the lines of a Sec-WebSocket-Extensions header, in linear time. An element
// that violates the grammar is marked as broken; the others are parsed. ok is false if the header
// is too long or ends inside quotes, because then its elements are unknown.
func parseExtensions(lines []string) (list []extension, ok bool) {
	length := 0
	for _, line := range lines {
		length += len(line)
	}
	if length > maxExtensionsHeader {
		return nil, false
	}
	for _, line := range lines {
		if !quotesClosed(line) {
			return nil, false
		}
		for element := range splitUnquoted(line, ',') {
			if trimSpace(element) != "" { // RFC 9110 §5.6.1: empty elements are ignored
				list = append(list, parseExtension(element))
			}
		}
	}
	return list, true
}

// parseExtension parses one element, whose quotes are closed.
func parseExtension(element string) (e extension) {
	first := true
	for part := range splitUnquoted(element, ';') {
		name, value, valued := strings.Cut(part, "=")
		name = trimSpace(name)
		if valued {
			value, valued = unquoteToken(trimSpace(value)), !first
			if !valued || !isToken(value) {
				return extension{broken: true}
			}
		}
		switch {
		case !isToken(name):
			return extension{broken: true}
		case first:
			e.name = name
		default:
			e.params = append(e.params, extensionParam{name, value})
		}
		first = false
	}
	return e
}

// unquoteToken returns the value of a quoted-string. It returns anything else unchanged, for
// isToken to check. RFC 6455 §9.1: "the value after quoted-string unescaping MUST conform to the
// 'token' ABNF".
func unquoteToken(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		switch s[i] {
		case '"':
			return s // two strings in a row
		case '\\':
			i++ // there is a next byte: the closing quote is not escaped
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), which is the grammar of a header name.
func isToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

func trimSpace(s string) string { return strings.Trim(s, " \t") }

// splitUnquoted is strings.SplitSeq, but ignores separators inside quotes.
func splitUnquoted(s string, separator byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		start := 0
		for i, quoted := range quotedBytes(s) {
			if s[i] == separator && !quoted {
				if !yield(s[start:i]) {
					return
				}
				start = i + 1
			}
		}
		yield(s[start:])
	}
}

// quotesClosed reports whether every quoted string in s has its closing quote.
func quotesClosed(s string) bool {
	open := false
	for _, quoted := range quotedBytes(s) {
		open = quoted
	}
	return !open
}

// quotedBytes yields the index of every byte of s and whether the byte is inside quotes. An opening
// quote is inside, a closing one is not.
func quotedBytes(s string) iter.Seq2[int, bool] {
	return func(yield func(int, bool) bool) {
		quoted, escaped := false, false
		for i := range len(s) {
			switch {
			case escaped:
				escaped = false
			case s[i] == '"':
				quoted = !quoted
			case s[i] == '\\':
				escaped = quoted
			}
			if !yield(i, quoted) {
				return
			}
		}
	}
}
