package atrium

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// defaultDialTimeout bounds a Dial unless an option says otherwise.
	defaultDialTimeout = 10 * time.Second
	// maxResponseHead bounds the head of a response of a server or proxy, interim responses
	// included.
	maxResponseHead = 64 << 10
	// maxRefusalBody bounds what is read of the body of a refusal.
	maxRefusalBody = 1 << 10
	// refusalBodyTimeout bounds the reading of that body, which may be an endless stream.
	refusalBodyTimeout = time.Second
)

// DialOptions are the options of Dial. The zero value is useful. A negative number or duration is
// an error of Dial.
type DialOptions struct {
	// Header is sent with the handshake. A Host in it replaces the URL's in the request only. The
	// headers of the connection and of the handshake itself (Connection, Upgrade, Sec-WebSocket-…,
	// and so on) are refused. Nil means no headers but those that net/http sends.
	Header http.Header
	// Jar has the cookies to send, and receives those that the server sets, also with a refusal.
	// Nil means no cookies but those in Header.
	Jar http.CookieJar
	// Subprotocols lists the subprotocols to offer, best first (RFC 6455 §1.9). The server chooses
	// one, or none: see Conn.Subprotocol. Nil means that none is offered.
	Subprotocols []string
	// TLSConfig is for wss, and for an https proxy, with the proxy's host as the ServerName. It is
	// cloned; NextProtos is always http/1.1. Nil means the system's roots and the URL's host as the
	// ServerName.
	TLSConfig *tls.Config
	// Proxy returns the URL of the proxy for a request, or nil for none. The request's URL has the
	// scheme http (for ws) or https (for wss). The proxy's scheme is http or https, for a proxy
	// that supports CONNECT, or socks5 (socks5h is the same: the proxy resolves names). A username
	// and password in its URL are used. Nil means http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// DialContext opens the network connection, to the server or to the proxy. It must respect ctx.
	// Nil means that of a net.Dialer.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// HandshakeTimeout bounds all of Dial: name lookup, TCP, proxy, TLS and handshake. Zero means
	// 10 seconds.
	HandshakeTimeout time.Duration
	// MaxMessageBytes bounds a received message, in bytes; a larger one ends the connection with
	// status 1009. Zero means 1 MiB.
	MaxMessageBytes int64
	// MaxQueuedBytes bounds what Write queues before it waits, in bytes; each message counts as its
	// frame and up to 96 bytes. Zero means 4 MiB.
	MaxQueuedBytes int
	// CloseTimeout bounds the time in which queued messages are written when the connection is
	// closed; see Conn.Close. Zero means 30 seconds.
	CloseTimeout time.Duration
	// Compression is offered to the server. Zero means off.
	Compression Compression
}

// HandshakeError is the error of Dial if the server, or a proxy, has responded without opening a
// WebSocket.
type HandshakeError struct {
	// Response is the response. Its Body has the first KiB of the body and need not be closed. Its
	// Request is a CONNECT if the proxy has responded.
	Response *http.Response
	// Reason says in a sentence what is wrong with the response, and quotes its body.
	Reason string
}

// Error returns the reason.
func (e *HandshakeError) Error() string { return e.Reason }

// RetryAfter returns how long to wait before another attempt, according to the Retry-After header
// of the response (RFC 9110 §10.2.3); 0 without one. A date is compared with the response's Date,
// if there is one, so that the clocks of both ends may differ.
func (e *HandshakeError) RetryAfter() time.Duration {
	header := e.Response.Header
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(seconds, math.MaxInt64/uint64(time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(at.Sub(now), 0)
}

// Dial connects to a WebSocket server (RFC 6455 §4.1). The URL's scheme is ws or wss. A username
// and password in it become Basic authentication, as in net/http. A fragment is refused. Redirects
// are not followed.
//
// The response is that of the server, if there was one. After a success its Body is empty. If the
// response does not open a WebSocket, the error matches *HandshakeError (errors.As), which has the
// status, the headers and the beginning of the body. If ctx ends first, the error matches
// ctx.Err(); after HandshakeTimeout it matches ErrTimeout.
//
// After Dial has returned, ctx has no effect. The caller must close the Conn.
func Dial(ctx context.Context, rawURL string, options DialOptions) (*Conn, *http.Response, error) {
	config, err := options.connConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("atrium: cannot dial: DialOptions.%w", err)
	}
	timeout := cmp.Or(options.HandshakeTimeout, defaultDialTimeout)
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := options.request(bounded, rawURL)
	if err != nil {
		return nil, nil, fmt.Errorf("atrium: cannot dial: %w", err)
	}
	conn, resp, err := options.connect(req, config)
	if err == nil {
		return conn, resp, nil
	}
	_, answered := errors.AsType[*HandshakeError](err)
	by, _ := bounded.Deadline()
	own, limited := ctx.Deadline()
	late := !time.Now().Before(by) // the timer of nc may fire a moment before that of the context
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case late && limited && own.Equal(by):
		err = context.DeadlineExceeded
	case late && !answered:
		return nil, resp, fmt.Errorf("%w: no handshake with %s after %v", ErrTimeout, req.URL.Host, timeout)
	}
	return nil, resp, fmt.Errorf("atrium: dialing %s: %w", req.URL.Host, err)
}

// notForHeader are the headers of the connection and of the handshake, besides Sec-WebSocket-….
var notForHeader = []string{"Connection", "Content-Length", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade"}

// request returns the request of the handshake (RFC 6455 §4.1), without the key. Its URL has the
// scheme http or https, as proxy functions and cookie jars require.
func (o *DialOptions) request(ctx context.Context, rawURL string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		return nil, urlError(err, rawURL, "a WebSocket URL begins with ws:// or wss://")
	}
	u := req.URL
	scheme, ok := map[string]string{"ws": "http", "wss": "https"}[u.Scheme]
	switch {
	case !ok:
		return nil, fmt.Errorf("the scheme of a WebSocket URL is ws or wss, not %q", u.Scheme)
	case strings.Contains(rawURL, "#"):
		return nil, errors.New("a WebSocket URL has no fragment (a # in it is written %23)") // RFC 6455 §3
	case u.Hostname() == "":
		return nil, errors.New("the URL has no host")
	case strings.Contains(u.RawQuery, " "):
		return nil, errors.New("the URL's query has a space in it (written %20)")
	}
	u.Scheme = scheme
	if u.Host, err = httpguts.PunycodeHostPort(u.Host); err != nil {
		return nil, err
	}
	req.Host = u.Host

	for name, values := range o.Header {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) {
			return nil, fmt.Errorf("DialOptions.Header: %q is no header name", name)
		}
		if strings.HasPrefix(name, "Sec-Websocket-") || slices.Contains(notForHeader, name) {
			return nil, fmt.Errorf("DialOptions.Header: %s is not for the application to set", name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) { // a CR or LF would inject a header
				return nil, fmt.Errorf("DialOptions.Header: the value of %s has a control character in it", name)
			}
			req.Header.Add(name, value)
		}
	}
	if hosts := req.Header["Host"]; len(hosts) > 0 {
		host, err := httpguts.PunycodeHostPort(hosts[0])
		if err != nil || len(hosts) > 1 || host == "" || !httpguts.ValidHostHeader(host) {
			return nil, fmt.Errorf("DialOptions.Header: Host is %q, and not one host", hosts)
		}
		req.Host = host
		req.Header.Del("Host")
	}
	if u.User != nil && req.Header.Get("Authorization") == "" {
		password, _ := u.User.Password()
		req.SetBasicAuth(u.User.Username(), password)
	}
	if o.Jar != nil {
		for _, cookie := range o.Jar.Cookies(u) {
			req.AddCookie(cookie)
		}
	}

	req.Header.Set("Upgrade", "websocket")
	req.Header.Set("Connection", "Upgrade")
	req.Header["Sec-WebSocket-Version"] = []string{"13"} // in the RFC's spelling: some servers require it
	for i, name := range o.Subprotocols {
		// RFC 6455 §4.1: the elements are unique tokens.
		if !isToken(name) || slices.Contains(o.Subprotocols[:i], name) {
			return nil, fmt.Errorf("DialOptions.Subprotocols: %q is no token, or there twice", name)
		}
	}
	if len(o.Subprotocols) > 0 {
		req.Header["Sec-WebSocket-Protocol"] = []string{strings.Join(o.Subprotocols, ", ")}
	}
	if o.Compression.Level != 0 {
		req.Header["Sec-WebSocket-Extensions"] = []string{offerDeflate()}
	}
	return req, nil
}

// urlError returns the error of parsing a URL, without the URL, which may hold a password. For one
// without a scheme, such as 127.0.0.1:80, url.Parse would complain about the colon: it is what was
// expected.
func urlError(err error, rawURL, expected string) error {
	if !strings.Contains(rawURL, "://") {
		return errors.New(expected)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// connConfig returns the configuration of the Conn as known before the handshake. Its error begins
// with the name of the invalid option.
func (o *DialOptions) connConfig() (connConfig, error) {
	config := connConfig{client: true, compression: newCompression(o.Compression), readLimit: o.MaxMessageBytes, maxQueued: o.MaxQueuedBytes,
		closeTimeout: o.CloseTimeout}
	return config, cmp.Or(o.Compression.check(), config.check(), negative(o.HandshakeTimeout, "HandshakeTimeout"))
}

// connect opens a network connection and makes the Conn, until the request's context ends.
func (o *DialOptions) connect(req *http.Request, config connConfig) (*Conn, *http.Response, error) {
	ctx := req.Context()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	via, err := o.proxyFor(req)
	if err != nil {
		return nil, nil, err
	}
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", hostPort(cmp.Or(via, req.URL)))
	if err != nil {
		return nil, nil, err
	}
	// From here on closing nc ends each wait.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	opened := false
	defer func() {
		if !opened { // or a callback has panicked
			stop()
			nc.Close()
		}
	}()
	wire, resp, err := o.open(nc, via, req)
	if err == nil {
		resp, err = o.handshake(wire, req, &config)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, resp, err
	}
	opened = true
	return newConn(wire, config), resp, nil
}

// hostPort returns a URL's host and port in the form for net.Dial.
func hostPort(u *url.URL) string {
	host, port := splitHost(u.Host, u.Scheme)
	return net.JoinHostPort(host, cmp.Or(port, "1080")) // the port of SOCKS (RFC 1928)
}

// open turns a new network connection into one to the server: through the proxy, and encrypted. The
// response, if any, is the proxy's refusal.
func (o *DialOptions) open(nc net.Conn, via *url.URL, req *http.Request) (net.Conn, *http.Response, error) {
	if via != nil {
		through, resp, err := o.throughProxy(req.Context(), nc, via, hostPort(req.URL))
		if err != nil {
			return nil, resp, fmt.Errorf("the proxy %s: %w", via.Host, err)
		}
		nc = through
	}
	if req.URL.Scheme != "https" {
		return nc, nil, nil
	}
	name := req.URL.Hostname()
	if o.TLSConfig != nil {
		name = cmp.Or(o.TLSConfig.ServerName, name)
	}
	nc, err := o.encrypt(req.Context(), nc, name)
	return nc, nil, err
}

// encrypt starts TLS.
func (o *DialOptions) encrypt(ctx context.Context, nc net.Conn, name string) (net.Conn, error) {
	config := o.TLSConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	config.ServerName = name
	config.NextProtos = []string{"http/1.1"} // the handshake is HTTP/1.1
	conn := tls.Client(nc, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// handshake performs the opening handshake on a connection to the server, and stores the result in
// config.
func (o *DialOptions) handshake(nc net.Conn, req *http.Request, config *connConfig) (*http.Response, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	req.Header["Sec-WebSocket-Key"] = []string{key}
	resp, br, err := exchange(nc, req)
	if err != nil {
		return nil, err
	}
	if cookies := resp.Cookies(); o.Jar != nil && len(cookies) > 0 {
		o.Jar.SetCookies(req.URL, cookies)
	}
	reason := checkResponse(resp, key, o.Subprotocols)
	if reason == "" {
		reason = config.compression.check(resp.Header["Sec-Websocket-Extensions"])
	}
	if reason != "" {
		return resp, newHandshakeError(nc, resp, reason)
	}
	config.subprotocol = resp.Header.Get("Sec-WebSocket-Protocol")
	// A server may send its first frames together with its response.
	early, _ := br.Peek(br.Buffered())
	config.early = bytes.Clone(early)
	return resp, nil
}

// checkResponse validates the server's response (RFC 6455 §4.1) except for the extensions, and
// returns what is wrong with it, or "". A header with a single value must not occur twice; browsers
// refuse that, too.
func checkResponse(resp *http.Response, key string, subprotocols []string) (reason string) {
	header := func(name string) string { return strings.Join(resp.Header.Values(name), ", ") }
	switch {
	case resp.StatusCode/100 == 3:
		return fmt.Sprintf("the server redirects to %.200q, which Dial does not follow: its status is %.200q", header("Location"), resp.Status)
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Sprintf("the server answers with status %.200q instead of 101", resp.Status)
	case !resp.ProtoAtLeast(1, 1):
		return "the server answers in " + resp.Proto + ", which cannot switch protocols"
	case !strings.EqualFold(header("Upgrade"), "websocket"):
		return fmt.Sprintf("the server's Upgrade header is %.200q, not websocket", header("Upgrade"))
	case !httpguts.HeaderValuesContainsToken(resp.Header["Connection"], "Upgrade"):
		return fmt.Sprintf("the server's Connection header is %.200q, without Upgrade", header("Connection"))
	case header("Sec-WebSocket-Accept") != acceptKey(key):
		return fmt.Sprintf("the server's Sec-WebSocket-Accept header is %.200q, which does not answer the key", header("Sec-WebSocket-Accept"))
	case resp.Header["Sec-Websocket-Protocol"] != nil && !slices.Contains(subprotocols, header("Sec-WebSocket-Protocol")):
		return fmt.Sprintf("the server uses the subprotocol %.200q, which was not offered", header("Sec-WebSocket-Protocol"))
	}
	return ""
}

// newHandshakeError reads the beginning of the response's body.
func newHandshakeError(nc net.Conn, resp *http.Response, reason string) *HandshakeError {
	_ = nc.SetReadDeadline(time.Now().Add(refusalBodyTimeout))       // an error leaves the context's deadline
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusalBody)) // after an error it is shorter
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if text := bytes.TrimSpace(body); len(text) > 0 {
		reason = fmt.Sprintf("%s: %q", reason, text)
	}
	return &HandshakeError{resp, reason}
}

// exchange sends a request and reads the head of the response. The reader has the bytes after it
// that were read along.
func exchange(nc net.Conn, req *http.Request) (*http.Response, *bufio.Reader, error) {
	if err := req.Write(nc); err != nil {
		return nil, nil, fmt.Errorf("sending the request: %w", err)
	}
	source := &boundedReader{nc: nc, left: maxResponseHead}
	br := bufio.NewReader(source)
	for {
		resp, err := http.ReadResponse(br, req)
		switch {
		case err != nil && source.err != nil:
			return nil, nil, fmt.Errorf("reading the response: %w", source.err)
		case err != nil:
			return nil, nil, fmt.Errorf("the response is not HTTP: %.200q", err.Error())
		case resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols:
			source.left = maxResponseHead // for a refusal's body
			return resp, br, nil
		}
		// RFC 9110 §15.2: any number of interim responses may precede the final one.
	}
}

var errResponseHead = errors.New("its head is over 64 KiB")

// boundedReader reads at most left bytes, and keeps the error that ended reading.
type boundedReader struct {
	nc   net.Conn
	left int
	err  error
}

func (r *boundedReader) Read(p []byte) (n int, err error) {
	if r.left == 0 {
		r.err = errResponseHead
		return 0, r.err
	}
	n, err = r.nc.Read(p[:min(len(p), r.left)])
	r.left -= n
	r.err = err
	return n, err
}
