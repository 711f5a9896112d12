package atrium

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"
)

// This file is permessage-deflate (RFC 7692): what the handshake says about it, and messages in and out of it.
//
// It is off unless an option turns it on, for two reasons. Where a secret and text of an attacker's choice are
// compressed together, the length of the result gives the secret away byte by byte, encrypted or not (CRIME,
// BREACH). And it costs: a writer holds 1.2 MB at level 1, 0.8 MB at levels 2 to 9 and 0.75 MB for small windows,
// a reader 42 KB (measured). A 512-byte JSON text takes 6 µs at level 1, twice that at the others, and about 40 %
// of its size at each; 64 KB take 0.3 ms and 24 % at level 1, 1.4 ms and 17 % at level 6.
//
// That memory is pooled: it is held while a message is compressed or inflated and never belongs to a connection.
// This is possible because no context is taken over, in either direction: every message is compressed by itself
// (RFC 7692 §7.1.1), and a broadcast once for all.

const (
	// deflateName is the extension's name (RFC 7692 §7).
	deflateName = "permessage-deflate"
	// deflateTail ends what a sync flush writes, and is not sent (RFC 7692 §7.2.1).
	deflateTail = "\x00\x00\xff\xff"
	// deflateFinal is an empty last block, which makes a flate.Reader say io.EOF.
	deflateFinal = "\x01\x00\x00\xff\xff"

	// defaultCompressionLevel is the fastest, and on messages of a few KB as good as the others.
	defaultCompressionLevel = flate.BestSpeed
	// defaultCompressionThreshold is the size, in bytes, from which a message is compressed. A smaller one fits
	// the same network packet either way.
	defaultCompressionThreshold = 512
)

var (
	errNotDeflate     = &CloseError{Code: StatusInvalidPayload, Reason: "a compressed message is not valid deflate data"}
	errInflatedTooBig = &CloseError{Code: StatusMessageTooBig, Reason: "a message is over the limit when inflated"}
)

// deflateParams is what an end remembers of a negotiation. The zero value means that nothing was agreed.
type deflateParams struct {
	// windowBits bounds how far back the data this end sends may refer: 1<<windowBits bytes, 8 to 15. How far the
	// peer refers back is not remembered: a flate.Reader looks back as far as deflate allows.
	windowBits int
}

// deflateTerms are the parameters of an offer or of a response (RFC 7692 §7.1).
type deflateTerms struct {
	serverNoContext, clientNoContext bool
	serverBits, clientBits           int  // 0: absent
	clientBitsOpen                   bool // client_max_window_bits stands without a value, as only an offer may have it
}

// readDeflateTerms reports false if a parameter is unknown, comes twice or has a wrong value: such an offer must
// be declined (RFC 7692 §7.1), such a response fails the connection.
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

// acceptDeflate chooses the first acceptable of the offers in the lines of a request's Sec-WebSocket-Extensions.
// If there is one, response is the value of the answer's header. If there is none, or the lines cannot be read,
// the handshake goes on without compression.
//
// The answer asks for no context takeover on either side, as a server may without being offered it (RFC 7692
// §7.1.1). server_max_window_bits is answered as offered, which accepts it. client_max_window_bits is left out,
// as it may be: whatever window the client uses can be inflated here (§7.1.2.2).
func acceptDeflate(offers []string) (params deflateParams, response string, ok bool) {
	extensions, _ := parseExtensions(offers)
	for _, e := range extensions {
		terms, ok := readDeflateTerms(e)
		if !ok {
			continue
		}
		response = deflateName + "; server_no_context_takeover; client_no_context_takeover"
		if terms.serverBits == 0 {
			return deflateParams{windowBits: 15}, response, true
		}
		response += "; server_max_window_bits=" + strconv.Itoa(terms.serverBits)
		return deflateParams{windowBits: terms.serverBits}, response, true
	}
	return deflateParams{}, "", false
}

// offerDeflate is what a client's Sec-WebSocket-Extensions says. It lets the server limit the client's window,
// because any limit can be kept here, and a server that must limit it would decline otherwise (RFC 7692 §7.1.2.2).
func offerDeflate() string {
	return deflateName + "; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
}

// checkDeflate reads the lines of a response's Sec-WebSocket-Extensions to offerDeflate. No extension is not ok,
// but no error: the server does not compress. An error means that the connection must be failed: RFC 6455 §4.1
// for an extension that was not offered, RFC 7692 §7.1 for parameters that are not legal, and §7.1.1.1 if the
// server does not grant server_no_context_takeover, with which it would not have accepted the offer.
func checkDeflate(response []string) (params deflateParams, ok bool, err error) {
	extensions, ok := parseExtensions(response)
	switch {
	case ok && len(extensions) == 0:
		return deflateParams{}, false, nil
	case !ok || len(extensions) > 1:
		return deflateParams{}, false, fmt.Errorf("the server answers with extensions that were not offered: %.100q", response)
	}
	terms, ok := readDeflateTerms(extensions[0])
	if !ok || terms.clientBitsOpen || !terms.serverNoContext {
		return deflateParams{}, false, fmt.Errorf("the server answers %.100q to the offer of %s", response, deflateName)
	}
	if terms.clientBits == 0 {
		terms.clientBits = 15
	}
	return deflateParams{windowBits: terms.clientBits}, true, nil
}

// level returns the level at which a message of n bytes is really compressed. All connections for which it is the
// same can be sent the same bytes, so that a broadcast has two compressed forms at most.
//
// compress/flate looks back over 32 KB and cannot be told otherwise. For a smaller window there is
// flate.HuffmanOnly, which never looks back; and a message no longer than the window gives no chance to look
// back too far. So "window of 8 bits", which zlib turns into 9, is right without a special case.
func (p deflateParams) level(n, wanted int) int {
	if p.windowBits < 15 && n > 1<<p.windowBits {
		return flate.HuffmanOnly
	}
	return wanted
}

// compress appends the compressed form of a whole message to dst, which the sender puts into frames with RSV1 set
// on the first (RFC 7692 §6.1, §7.2.1). level is 1 to 9. The result may be longer than the payload, which then is
// better sent as it is. It takes long enough to do it without holding a lock.
func (p deflateParams) compress(dst, payload []byte, level int) []byte {
	if len(payload) == 0 {
		return append(dst, 0x00) // RFC 7692 §7.2.3.6
	}
	d := takeDeflater(p.level(len(payload), level))
	d.flate.Reset(d)
	// Neither fails, because d.Write does not.
	_, _ = d.flate.Write(payload)
	_ = d.flate.Flush()
	// Copied from a pooled buffer, dst grows once and to the right size.
	dst = append(dst, bytes.TrimSuffix(d.out, []byte(deflateTail))...)
	d.release()
	return dst
}

// deflater is a flate.Writer with where it writes to.
type deflater struct {
	flate *flate.Writer
	pool  *sync.Pool
	out   []byte
}

// deflaters has a pool for each level, that of flate.HuffmanOnly at 0: a flate.Writer cannot change its level.
var deflaters [flate.BestCompression + 1]sync.Pool

// keptDeflated bounds the buffer that a released deflater keeps for the next, in bytes.
const keptDeflated = 64 << 10

func takeDeflater(level int) *deflater {
	pool := &deflaters[max(level, 0)]
	if d, ok := pool.Get().(*deflater); ok {
		return d
	}
	d := &deflater{pool: pool}
	var err error
	if d.flate, err = flate.NewWriter(d, level); err != nil {
		panic(err) // the level is not one
	}
	return d
}

func (d *deflater) Write(p []byte) (int, error) {
	d.out = append(d.out, p...)
	return len(p), nil
}

func (d *deflater) release() {
	d.out = d.out[:0]
	if cap(d.out) > keptDeflated {
		d.out = nil
	}
	d.pool.Put(d)
}

// compressedLimit bounds the compressed bytes of a message whose inflated size is bounded by limit. It leaves room
// for what deflate adds to data that it cannot compress: 5 bytes to every 127 at worst, in zlib with the least
// memory.
func compressedLimit(limit int64) int64 {
	if sum := limit + limit>>4 + 64; sum > limit {
		return sum
	}
	return limit // near the largest int64
}

// inflate appends the message that was compressed to dst and returns the extended slice. It stops at the first
// byte over limit with status 1009, and with 1007 at data that is not deflate's or, if it is a text, not UTF-8.
// It keeps neither slice.
//
// Of what senders do differently it takes all that RFC 7692 §7.2.3 shows, several blocks with BFINAL set among
// them, and a tail that was not stripped, or stripped with the last block's whole header. A message that is cut
// off anywhere else is refused.
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

// inflateProbe looks into a compressed message while it still comes in, so that a bomb ends at its first 16 KB
// instead of being collected. The zero value is for a new message.
//
// It inflates the beginning and throws the result away: again and again, because a flate.Reader that has run dry
// does not go on, but only when four times as much has come, which costs a third of the inflating in all.
type inflateProbe struct {
	at int // bytes at which to look again
}

// firstProbe is the size in bytes up to which a compressed message is collected without being looked into.
const firstProbe = 16 << 10

// check is called with the beginning of a message whenever some has been added to it. Its error is one that inflate
// would give the whole message.
func (p *inflateProbe) check(beginning []byte, limit int64, text bool) error {
	if len(beginning) < max(p.at, firstProbe) {
		return nil
	}
	p.at = 4 * len(beginning)
	return tryInflate(beginning, limit, text)
}

// tryInflate inflates the beginning of a message into nothing, and says what is wrong with it already.
func tryInflate(beginning []byte, limit int64, text bool) error {
	z := inflaters.Get().(*inflater)
	defer z.release()

	z.begin(inflaterSource{message: beginning, partial: true})
	var runes utf8Stream
	for done := int64(0); ; {
		n, err := z.read(z.spare[:])
		done += int64(n)
		switch {
		case done > limit:
			return errInflatedTooBig
		case text && !runes.valid(z.spare[:n]):
			return errNotUTF8
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return nil
		case err != nil:
			return errNotDeflate
		}
	}
}

// inflater is a flate.Reader with where it reads from. begin takes every memory of an earlier message from it.
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

func (z *inflater) begin(source inflaterSource) {
	z.source = source
	z.reset()
}

func (z *inflater) reset() {
	_ = z.flate.(flate.Resetter).Reset(&z.source, nil) // it has no error to return
}

// inflate inflates all of the source.
func (z *inflater) inflate(dst []byte, source inflaterSource, limit int64, text bool) ([]byte, error) {
	z.begin(source)
	limit = min(limit, math.MaxInt64-1)
	var runes utf8Stream
	out, done := dst, int64(0)
	for {
		// One byte over the limit may be read, to see it come. A full slice grows only if there is more to put into
		// it: first to what is likely to be enough, then it doubles.
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
			return nil, errInflatedTooBig
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
			// RFC 7692 §7.2.3.4: a block had BFINAL set, yet the message goes on, at the next byte. Nobody's
			// compressor refers back over that point.
			z.reset()
			err = nil
		case s.part == partFinal && s.at < len(deflateFinal):
			err = io.ErrUnexpectedEOF // what was read was not our last block, but an unfinished one before it
		}
	}
	return n, err
}

// inflaterSource is what a flate.Reader reads: the message, the tail that was stripped from it, a last block.
type inflaterSource struct {
	message []byte
	tail    string
	partial bool // more of the message is to come: it ends with the bytes there are

	part part
	at   int // in the part
}

// part is one of the three that an inflaterSource consists of.
type part uint8

const (
	partMessage part = iota
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

// Read is asked for the length and the content of blocks that are not compressed. It is ReadByte that a block
// begins with: the last block is not for a block before it that lacks bytes.
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

// rest returns what is left of the part behind the message, which it goes on to when the message has been read.
func (s *inflaterSource) rest() string {
	if s.part == partMessage {
		if s.partial {
			return ""
		}
		s.part, s.at = partTail, 0
	}
	if s.part == partTail {
		return s.tail[s.at:]
	}
	return deflateFinal[s.at:]
}
