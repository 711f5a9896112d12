package atrium

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strconv"
	"sync"
)

// This file is permessage-deflate (RFC 7692): what the handshake says about it, and messages into
// it. The way out of it is in conn_inflate.go.
//
// It is off unless an option turns it on, for two reasons. Where a secret and text of an attacker's
// choice are compressed together, the length of the result gives the secret away byte by byte,
// encrypted or not (CRIME, BREACH). And it costs: a writer holds 80 KB at level 1 and for small
// windows, 0.81 MB at levels 2 to 9, a reader 13 KB (measured). 4 KB of JSON text take some 22 µs
// at level 1, two and a half times that at level 6, and come to a quarter of their size.
//
// Level 1 is this package's own: an echo takes a fifth less processor time with it than with
// compress/flate, and compressing a fifteenth of the memory. Levels 2 to 9 are compress/flate's.
//
// That memory is pooled: it is held while a message is compressed or inflated and never belongs to
// a connection. This is possible because no context is taken over, in either direction: every
// message is compressed by itself (RFC 7692 §7.1.1), and a broadcast once for all.

const (
	// deflateName is the extension's name (RFC 7692 §7).
	deflateName = "permessage-deflate"
	// deflateTail ends what a sync flush writes, and is not sent (RFC 7692 §7.2.1).
	deflateTail = "\x00\x00\xff\xff"

	// defaultThreshold is the size, in bytes, from which a message is compressed. A smaller one
	// fits the same network packet either way.
	defaultThreshold = 512
)

// deflateParams is what an end remembers of a negotiation. The zero value means that nothing was
// agreed.
type deflateParams struct {
	// windowBits bounds how far back the data this end sends may refer: 1<<windowBits bytes, 8 to
	// 15. How far the peer refers back is not remembered: a flate.Reader looks back as far as
	// deflate allows.
	windowBits int8
}

// deflateTerms are the parameters of an offer or of a response (RFC 7692 §7.1).
type deflateTerms struct {
	serverNoContext, clientNoContext bool
	serverBits, clientBits           int  // 0: absent
	clientBitsOpen                   bool // client_max_window_bits stands without a value, as only an offer may have it
}

// readDeflateTerms reports false if a parameter is unknown, comes twice or has a wrong value: such
// an offer must be declined (RFC 7692 §7.1), such a response fails the connection.
func readDeflateTerms(e extension) (t deflateTerms, ok bool) {
	if e.broken || e.name != deflateName {
		return t, false
	}
	for _, p := range e.params {
		switch p.name {
		case "server_no_context_takeover":
			ok = p.value == "" && !t.serverNoContext
			t.serverNoContext = true
		case "client_no_context_takeover":
			ok = p.value == "" && !t.clientNoContext
			t.clientNoContext = true
		case "server_max_window_bits":
			ok = t.serverBits == 0
			t.serverBits = windowBits(p.value)
			ok = ok && t.serverBits != 0
		case "client_max_window_bits":
			ok = t.clientBits == 0
			t.clientBits, t.clientBitsOpen = windowBits(p.value), p.value == ""
			if t.clientBitsOpen {
				t.clientBits = 15
			}
			ok = ok && t.clientBits != 0
		default:
			ok = false
		}
		if !ok {
			return t, false
		}
	}
	return t, true
}

// windowBits reads 8 to 15 without leading zeros (RFC 7692 §7.1.2); anything else is 0.
func windowBits(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 8 || n > 15 || strconv.Itoa(n) != s {
		return 0
	}
	return n
}

// acceptDeflate chooses the first acceptable of the offers in the lines of a request's
// Sec-WebSocket-Extensions. If there is one, response is the value of the answer's header. If there
// is none, or the lines cannot be read, the handshake goes on without compression.
//
// The answer asks for no context takeover on either side, as a server may without being offered it
// (RFC 7692 §7.1.1). server_max_window_bits is answered as offered, which accepts it.
// client_max_window_bits is left out, as it may be: whatever window the client uses can be inflated
// here (§7.1.2.2).
func acceptDeflate(offers []string) (params deflateParams, response string) {
	extensions, _ := parseExtensions(offers)
	for _, e := range extensions {
		terms, ok := readDeflateTerms(e)
		if !ok {
			continue
		}
		response = deflateName + "; server_no_context_takeover; client_no_context_takeover"
		if terms.serverBits == 0 {
			return deflateParams{windowBits: 15}, response
		}
		response += "; server_max_window_bits=" + strconv.Itoa(terms.serverBits)
		return deflateParams{windowBits: int8(terms.serverBits)}, response
	}
	return deflateParams{}, ""
}

// offerDeflate is what a client's Sec-WebSocket-Extensions says. It lets the server limit the
// client's window, because any limit can be kept here, and a server that must limit it would
// decline otherwise (RFC 7692 §7.1.2.2).
func offerDeflate() string {
	return deflateName + "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
}

// checkDeflate reads the lines of a response's Sec-WebSocket-Extensions to offerDeflate. Without an
// extension it returns zero: the server does not compress. An error means that the connection must
// be failed: RFC 6455 §4.1 for an extension that was not offered, RFC 7692 §7.1 for parameters that
// are not legal, and §7.1.1.1 if the server does not grant server_no_context_takeover, with which
// it would not have accepted the offer.
func checkDeflate(response []string) (deflateParams, error) {
	extensions, ok := parseExtensions(response)
	switch {
	case ok && len(extensions) == 0:
		return deflateParams{}, nil
	case !ok || len(extensions) > 1:
		return deflateParams{}, fmt.Errorf("the server answers with extensions that were not offered: %.100q", response)
	}
	terms, ok := readDeflateTerms(extensions[0])
	if !ok || terms.clientBitsOpen || !terms.serverNoContext {
		return deflateParams{}, fmt.Errorf("the server answers %.100q to the offer of %s", response, deflateName)
	}
	if terms.clientBits == 0 {
		terms.clientBits = 15
	}
	return deflateParams{windowBits: int8(terms.clientBits)}, nil
}

// level returns the level at which a message of n bytes is really compressed. All connections for
// which it is the same can be sent the same bytes, so that a broadcast has two compressed forms at
// most.
//
// All look back over 32 KB. For a smaller window there is flate.HuffmanOnly, which never looks
// back; and a message no longer than the window gives no chance to look back too far. So "window of
// 8 bits", which zlib turns into 9, is right without a special case.
func (p deflateParams) level(n, wanted int) int {
	if p.windowBits < 15 && n > 1<<p.windowBits {
		return flate.HuffmanOnly
	}
	return wanted
}

// compress appends the compressed form of a whole message to dst, which the sender puts into frames
// with RSV1 set on the first (RFC 7692 §6.1, §7.2.1). level is 1 to 9. The result may be longer
// than the payload, which then is better sent as it is. It takes long enough to do it without
// holding a lock.
func (p deflateParams) compress(dst, payload []byte, level int) []byte {
	if len(payload) == 0 {
		return append(dst, 0x00) // RFC 7692 §7.2.3.6
	}
	level = p.level(len(payload), level)
	if level <= 1 {
		d := deflaters.Get().(*deflater)
		dst = d.deflate(dst, payload, level == 1)
		deflaters.Put(d)
		return dst
	}
	d := acquireFlateWriter(level)
	d.flate.Reset(d)
	// Neither fails, because d.Write does not.
	_, _ = d.flate.Write(payload)
	_ = d.flate.Flush()
	// Copied from a pooled buffer, dst grows once and to the right size.
	dst = append(dst, bytes.TrimSuffix(d.out, []byte(deflateTail))...)
	d.release()
	return dst
}

// flateWriter is a flate.Writer with where it writes to.
type flateWriter struct {
	flate *flate.Writer
	pool  *sync.Pool
	out   []byte
}

// flateWriters has a pool for each level from 2 on: a flate.Writer cannot change its level.
var flateWriters [flate.BestCompression + 1]sync.Pool

// keptDeflated bounds the buffer that a released flateWriter keeps for the next, in bytes.
const keptDeflated = 64 << 10

func acquireFlateWriter(level int) *flateWriter {
	pool := &flateWriters[level]
	if d, ok := pool.Get().(*flateWriter); ok {
		return d
	}
	d := &flateWriter{pool: pool}
	var err error
	if d.flate, err = flate.NewWriter(d, level); err != nil {
		panic(err) // the level is not one
	}
	return d
}

func (d *flateWriter) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

func (d *flateWriter) release() {
	d.out = d.out[:0]
	if cap(d.out) > keptDeflated {
		d.out = nil
	}
	d.pool.Put(d)
}
