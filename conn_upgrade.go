package atrium

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// responseTimeout bounds the write of the 101 response.
const responseTimeout = 10 * time.Second

// UpgradeOptions are the options of Upgrade. The zero value is useful. With a negative number or
// duration, or an entry of a list that can never have an effect, Upgrade answers all requests with
// 500, and its error names the option.
type UpgradeOptions struct {
	// AllowedOrigins lists the web origins that may connect besides the server's own: an exact one
	// ("https://app.example.com", "http://localhost:3000"), all subdomains of a host
	// ("https://*.example.com"), "null" for sandboxed frames, "file://" for files and for devices
	// that send it, or "*" for any. Case, a slash at the end and the scheme's default port make no
	// difference. Any other entry that no Origin header can ever equal, such as "localhost:3000" or
	// "http://localhost:*", is refused.
	//
	// Nil means same origin only: the Origin header's host and port equal the Host header's.
	// Requests without an Origin are not from a script in a page; they are accepted unless they
	// have Sec-Fetch-Site: cross-site.
	AllowedOrigins []string
	// Subprotocols lists the subprotocols of the server, best first (RFC 6455 §1.9). The first one
	// that the client offers is chosen. If there is none, the connection has no subprotocol, and a
	// browser that has offered some closes it. A name that is no token (RFC 9110 §5.6.2) is
	// refused.
	Subprotocols []string
	// MaxMessageBytes bounds a received message, in bytes; a larger one ends the connection with
	// status 1009. Zero means 1 MiB.
	MaxMessageBytes int64
	// MaxQueuedBytes bounds what Write queues before it waits, in bytes; each message counts as its
	// frame and up to 96 bytes. Zero means 4 MiB.
	MaxQueuedBytes int
	// CloseTimeout bounds the time in which queued messages are written when the connection is
	// closed; see Conn.Close. Zero means 30 seconds.
	CloseTimeout time.Duration
	// Compression is used with clients that offer it. Zero means off.
	Compression Compression
}

// Upgrade responds to a WebSocket opening handshake (RFC 6455 §4.2) and takes the network
// connection over from net/http. It works with any ResponseWriter that can be hijacked, also one
// that middleware has wrapped if the wrapper has an Unwrap method. Headers that were set on w are
// sent with the 101 response.
//
// If Upgrade returns an error for a request, it has already responded with an HTTP status and one
// plain sentence. The handler can simply return. The error has details for the log, such as the
// type of a ResponseWriter that cannot be hijacked.
//
// The Conn does not end with the request. The caller must close it.
func Upgrade(w http.ResponseWriter, r *http.Request, options UpgradeOptions) (*Conn, error) {
	config := connConfig{
		compression:  newCompression(options.Compression),
		readLimit:    options.MaxMessageBytes,
		maxQueued:    options.MaxQueuedBytes,
		closeTimeout: options.CloseTimeout,
	}
	origins, bad := parseOrigins(options.AllowedOrigins)
	bad = cmp.Or(bad, checkSubprotocols(options.Subprotocols), options.Compression.check(), config.check())
	var err *refusal
	if bad != nil {
		err = &refusal{status: http.StatusInternalServerError, message: "UpgradeOptions." + bad.Error()}
	} else if err = checkHandshake(r); err == nil {
		err = checkOrigin(r, origins)
	}
	if err != nil {
		err.writePlain(w)
		return nil, err
	}
	config.subprotocol, _ = chooseSubprotocol(r, options.Subprotocols)
	return switchProtocols(w, r, config, func(*Conn) {})
}

// checkHandshake validates a request (RFC 6455 §4.2.1).
func checkHandshake(r *http.Request) *refusal {
	const proxy = "a proxy in front must speak HTTP/1.1 to this server and pass on the headers Upgrade and Connection"
	switch {
	case r.ProtoMajor > 1:
		// RFC 8441, WebSocket in an HTTP/2 stream, is not supported; browsers fall back to
		// HTTP/1.1.
		return malformed(http.StatusHTTPVersionNotSupported, "a WebSocket needs HTTP/1.1, this request came over "+r.Proto, proxy)
	case r.Method != http.MethodGet:
		return malformed(http.StatusMethodNotAllowed, "a WebSocket handshake is a GET request", "", "Allow", "GET")
	case !r.ProtoAtLeast(1, 1):
		return malformed(http.StatusHTTPVersionNotSupported, "a WebSocket handshake needs HTTP/1.1 or later", proxy)
	case !httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket"):
		return malformed(http.StatusUpgradeRequired, "this address speaks WebSocket: the request has no Upgrade: websocket header", proxy, "Upgrade", "websocket")
	case !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade"):
		return malformed(http.StatusUpgradeRequired, "a WebSocket handshake needs a Connection: Upgrade header", proxy, "Upgrade", "websocket")
	case len(r.Header["Sec-Websocket-Version"]) != 1 || r.Header["Sec-Websocket-Version"][0] != "13":
		return malformed(http.StatusUpgradeRequired, "the WebSocket version must be 13", "", "Upgrade", "websocket", "Sec-WebSocket-Version", "13")
	case len(r.Header["Sec-Websocket-Key"]) != 1 || !validKey(r.Header["Sec-Websocket-Key"][0]):
		return malformed(http.StatusBadRequest, "a WebSocket handshake needs one Sec-WebSocket-Key header of 16 bytes in base64", "")
	case r.ContentLength != 0:
		return malformed(http.StatusBadRequest, "a WebSocket handshake has no body", "")
	}
	return nil
}

// malformed returns the refusal of an invalid handshake. mend, if not empty, is a hint for the log:
// the usual cause.
func malformed(status int, problem, mend string, header ...string) *refusal {
	entry := warning("atrium: refused a malformed WebSocket handshake", slog.String("problem", problem))
	if mend != "" {
		entry.attrs = append(entry.attrs, hint(mend))
	}
	return &refusal{kind: refusedMalformed, status: status, message: problem, header: header, entry: entry}
}

func validKey(key string) bool {
	var b [18]byte
	if len(key) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Decode(b[:], []byte(key))
	return err == nil && n == 16
}

// acceptKey returns the Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	var text [24 + 36]byte // on the stack
	sum := sha1.Sum(append(append(text[:0], key...), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// chooseSubprotocol returns the first of ours that the client offers, "" if there is none, and how
// many it offers. Names are case-sensitive.
func chooseSubprotocol(r *http.Request, ours []string) (chosen string, offered int) {
	best := len(ours)
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for offer := range strings.SplitSeq(line, ",") {
			name := trimSpace(offer)
			if name == "" {
				continue // RFC 9110 §5.6.1: empty elements are ignored
			}
			offered++
			if i := slices.Index(ours, name); i >= 0 && i < best {
				best, chosen = i, ours[i] // not a substring of the header, which would keep it alive
			}
		}
	}
	return chosen, offered
}

// checkSubprotocols refuses a list with a name that no client can offer.
func checkSubprotocols(names []string) error {
	for _, name := range names {
		if !isToken(name) {
			//lint:ignore ST1005 it begins with the option's name
			return fmt.Errorf("Subprotocols: %q is no token: expected letters, digits and some punctuation, without spaces and commas", name)
		}
	}
	return nil
}

// switchProtocols makes the Conn of a request that passed checkHandshake, and sends the 101
// response. What begin queues, which it calls with the Conn, leaves in the same write.
func switchProtocols(w http.ResponseWriter, r *http.Request, config connConfig, begin func(*Conn)) (*Conn, error) {
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		e := notHijacked(w, err)
		e.writePlain(w)
		return nil, e
	}
	// Remove net/http's deadlines.
	_ = nc.SetDeadline(time.Time{})
	// A client may send its first frames before it has read the whole response.
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	config.early = bytes.Clone(early)
	extensions := config.compression.accept(r.Header["Sec-Websocket-Extensions"])
	response := switchingProtocols(r, w.Header(), config.subprotocol, extensions)
	c := newConn(nc, config)
	c.out.state = writerWriting
	begin(c)
	_ = nc.SetWriteDeadline(time.Now().Add(responseTimeout))
	if err := c.out.respond(response); err != nil {
		_ = c.cut(err)
		return nil, fmt.Errorf("atrium: answering the handshake: %w", err)
	}
	_ = nc.SetWriteDeadline(time.Time{})
	return c, nil
}

// notHijacked returns the refusal for a connection that cannot be taken over from net/http.
func notHijacked(w http.ResponseWriter, err error) *refusal {
	writer := fmt.Sprintf("%T", hijackedWriter(w))
	return &refusal{
		kind:    refusedMalformed,
		status:  http.StatusNotImplemented,
		message: "this server cannot hand its connection over to a WebSocket: " + err.Error(),
		detail:  ", by the ResponseWriter " + writer,
		entry: warning("atrium: a ResponseWriter does not hand its connection over to a WebSocket", slog.String("writer", writer),
			slog.Any("error", loggedError{err}), hint("its middleware must not wrap this handler, or its ResponseWriter needs a method Hijack, or Unwrap; "+
				"until then Socket.IO clients stay with polling, and others cannot connect")),
	}
}

// hijackedWriter returns the ResponseWriter that http.ResponseController hijacks: the first in the
// chain of wrappers that is a Hijacker, or the last.
func hijackedWriter(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if _, hijacks := w.(http.Hijacker); hijacks || !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// switchingProtocols returns the 101 response with the application's headers. It omits an empty
// subprotocol and empty extensions.
func switchingProtocols(r *http.Request, header http.Header, subprotocol, extensions string) []byte {
	b := make([]byte, 0, 256) // room for a first message, too
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	b = append(b, acceptKey(r.Header["Sec-Websocket-Key"][0])...)
	if subprotocol != "" {
		b = append(append(b, "\r\nSec-WebSocket-Protocol: "...), subprotocol...)
	}
	if extensions != "" {
		b = append(append(b, "\r\nSec-WebSocket-Extensions: "...), extensions...)
	}
	for name, values := range header {
		name = http.CanonicalHeaderKey(name)
		if ours := strings.HasPrefix(name, "Sec-Websocket-") || name == "Connection" || name == "Upgrade" ||
			name == "Content-Length" || name == "Transfer-Encoding"; ours || !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range values {
			if httpguts.ValidHeaderFieldValue(value) { // no CR or LF: it cannot inject a header
				b = append(b, "\r\n"+name+": "+value...)
			}
		}
	}
	return append(b, "\r\n\r\n"...)
}
