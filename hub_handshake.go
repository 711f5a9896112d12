package atrium

import (
	"bufio"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Handshake is the request with which a client connected, and its auth value. It keeps the header
// lines as one string and parses them on each call, because a hub holds many handshakes and needs
// them rarely. Its methods are safe for concurrent use.
type Handshake struct {
	target      string // path and query
	header      string // lines
	remote      string
	subprotocol string // negotiated; "" if none
	time        int64  // Unix time in nanoseconds
	secure      bool
	auth        []byte // JSON; empty if the client sent none
}

// maxHandshake bounds what a Handshake keeps of a request, in bytes. An http.Server allows a
// megabyte (MaxHeaderBytes), which is little for a request but much for a client that stays.
const maxHandshake = 64 << 10

// handshakeSize returns about how many bytes newHandshake keeps of a request.
func handshakeSize(r *http.Request) int {
	const punctuation = len(": \r\n")
	size := len(r.RequestURI) + len(r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			size += len(name) + len(value) + punctuation
		}
	}
	return size
}

// lineBreaks are in no header that came over the network, but middleware may add any.
var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

func newHandshake(r *http.Request, subprotocol string) *Handshake {
	var header strings.Builder
	header.Grow(len("Host: \r\n") + handshakeSize(r) - len(r.RequestURI))
	line := func(name, value string) {
		if httpguts.ValidHeaderFieldName(name) {
			header.WriteString(name)
			header.WriteString(": ")
			header.WriteString(lineBreaks.Replace(value))
			header.WriteString("\r\n")
		}
	}
	line("Host", r.Host)
	for name, values := range r.Header {
		for _, value := range values {
			line(name, value)
		}
	}
	return &Handshake{
		target: r.URL.RequestURI(),
		header: header.String(),
		remote: r.RemoteAddr, subprotocol: subprotocol,
		time:   time.Now().UnixNano(),
		secure: r.TLS != nil,
	}
}

// Bind decodes the client's auth value into v, like json.Unmarshal, and validates it if v has a
// Validate() error method; values inside v are not validated, see On. Without an auth value v is
// unchanged. An error is an *Error that names the field and what was expected, or the error of
// Validate.
func (h *Handshake) Bind(v any) error {
	mustPointer(v)
	return args{json: h.auth}.bind(span{0, len(h.auth)}, v, "auth")
}

// Header returns a copy of the request's headers, Host included.
func (h *Handshake) Header() http.Header {
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(h.header + "\r\n")))
	header, err := lines.ReadMIMEHeader()
	if err != nil {
		return http.Header{} // cannot happen: net/http accepted these lines
	}
	return http.Header(header)
}

// URL returns the path and query of the request.
func (h *Handshake) URL() *url.URL {
	u, err := url.ParseRequestURI(h.target)
	if err != nil {
		return &url.URL{} // cannot happen: net/http parsed it before
	}
	return u
}

// Subprotocol returns the negotiated subprotocol, "atrium" or one of Options.Subprotocols; "" if
// there is none. A client that began by polling has none, even after its upgrade. The header
// Sec-WebSocket-Protocol has the offered ones.
func (h *Handshake) Subprotocol() string { return h.subprotocol }

// RemoteAddr returns the network address of the client as in http.Request. Behind a proxy it is the
// proxy's.
func (h *Handshake) RemoteAddr() string { return h.remote }

// Time returns when the client connected.
func (h *Handshake) Time() time.Time { return time.Unix(0, h.time) }

// Secure reports whether the request was made over TLS. It does not know of TLS that ends at a
// proxy.
func (h *Handshake) Secure() bool { return h.secure }
