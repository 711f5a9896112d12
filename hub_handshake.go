package atrium

import (
	"bufio"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

// Handshake is what a client said of itself when it came. It keeps the request's header lines as one string, and
// takes them apart when asked: a hub holds many handshakes and is seldom asked. Its methods may be called from any
// goroutine.
type Handshake struct {
	target      string // the request's target: path and query
	header      string // lines
	remote      string
	subprotocol string // agreed on
	time        int64  // Unix time in nanoseconds
	secure      bool
	auth        []byte // JSON; empty if the client sent none
}

// maxHandshake bounds what is kept of a request, in bytes. An http.Server lets a megabyte pass (MaxHeaderBytes), which
// is little for a request, but not for a client that stays.
const maxHandshake = 64 << 10

// handshakeSize is what newHandshake keeps of a request, nearly.
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

func newHandshake(r *http.Request, subprotocol string) *Handshake {
	var b strings.Builder
	b.WriteString("Host: " + r.Host + "\r\n")
	_ = r.Header.Write(&b) // a strings.Builder takes everything
	return &Handshake{
		target: r.URL.RequestURI(),
		header: strings.Clone(b.String()), // without what the builder has to spare
		remote: r.RemoteAddr, subprotocol: subprotocol,
		time:   time.Now().UnixNano(),
		secure: r.TLS != nil,
	}
}

// Bind decodes the auth value that the client connected with into v, as json.Unmarshal does, and validates it if
// it has a Validate() error method: the value itself, not what is in it; see On. Without an auth value v stays as it is.
// An error is an *Error that names the field and what was expected, or what Validate has returned.
func (h *Handshake) Bind(v any) error { return bind(h.auth, v, "auth") }

// Header returns the request's headers, Host among them. The caller may change what it gets.
func (h *Handshake) Header() http.Header {
	lines := textproto.NewReader(bufio.NewReader(strings.NewReader(h.header + "\r\n")))
	header, err := lines.ReadMIMEHeader()
	if err != nil {
		return http.Header{} // net/http accepted these lines: it cannot happen
	}
	return http.Header(header)
}

// URL returns the path and query of the request.
func (h *Handshake) URL() *url.URL {
	u, err := url.ParseRequestURI(h.target)
	if err != nil {
		return &url.URL{} // net/http parsed it before: it cannot happen
	}
	return u
}

// Subprotocol returns the subprotocol that was agreed on when the client connected, "atrium" or one of
// Options.Subprotocols; "" if none was. A client that began by polling has none, even when it has upgraded. What was
// offered is in the header Sec-WebSocket-Protocol.
func (h *Handshake) Subprotocol() string { return h.subprotocol }

// RemoteAddr returns the client's network address as net/http gives it. Behind a proxy it is the proxy's.
func (h *Handshake) RemoteAddr() string { return h.remote }

// Time returns when the client came.
func (h *Handshake) Time() time.Time { return time.Unix(0, h.time) }

// Secure reports whether the request came over TLS. TLS that ended at a proxy does not count.
func (h *Handshake) Secure() bool { return h.secure }
