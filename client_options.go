package atrium

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// ClientOptions configure a Client. The zero value is ready to use. NewClient panics if a number or
// duration is negative, or out of range in Backoff or Dial.
//
// A panic, or runtime.Goexit, in one of the functions is logged. In AuthFunc and Dial it fails the
// attempt; in Backoff it makes the delay Max.
type ClientOptions struct {
	// Auth is what the server's Handshake.Bind decodes, or its socket.handshake.auth: anything that
	// encoding/json encodes as an object. Zero means none.
	Auth any
	// AuthFunc returns what Auth would be. It is called before each attempt, for a token that may
	// have expired. It must end with its context, and its error counts as a failed attempt. With
	// both Auth and AuthFunc NewClient panics. Zero means Auth.
	AuthFunc func(context.Context) (any, error)
	// Namespace is the namespace to connect to. Zero means "/".
	Namespace string
	// Dial configures the network connection: headers, cookies, TLS, proxy, compression, limits.
	// MaxMessageBytes bounds the messages of the server, and MaxQueuedBytes what waits to be sent
	// while connected. With HandshakeTimeout NewClient panics: Timeout bounds it.
	Dial DialOptions

	// Timeout bounds one attempt, from the name lookup until the server has let the client in or
	// refused it. A client that comes back is sent what it has missed before it is let in: as long
	// as something comes, Timeout begins anew, ten times at most. Zero means 20 seconds.
	Timeout time.Duration
	// Backoff gives the delays between attempts. It starts again when a connection has lasted for
	// Backoff.Max, so that a server that ends connections at once is not asked again at once. A
	// wait that the server asks for with a Retry-After header is added. When the server has closed
	// a connection that had lasted for Backoff.Min with status 1012, service restart, as
	// Hub.Shutdown does, nothing has failed: the first delay is a quarter of Min, with its Jitter,
	// and does not count. Zero means Socket.IO's: 1 to 5 seconds.
	Backoff Backoff
	// MaxAttempts bounds how many attempts in a row may fail before the client stops. Zero means no
	// bound.
	MaxAttempts int

	// MaxAttachments bounds the Binary values of an event or an acknowledgement, in either
	// direction; see Limits.Attachments. An event with more is not handled: its acknowledgement is
	// an error, or else the error is logged. A Call whose answer has more returns an *Error. Zero
	// means 10.
	MaxAttachments int
	// MaxOfflineBytes bounds what waits to be sent while the client is not connected, in bytes of
	// memory: each message counts as its bytes and 160. An Emit or Call beyond it fails with
	// ErrBufferFull. Zero means 1 MiB.
	MaxOfflineBytes int
	// CallTimeout is how long a Call waits whose context has no deadline. Zero means 10 seconds.
	CallTimeout time.Duration
	// CallRetries is how often a Call is sent again if the connection broke before the answer came.
	// When the client is connected again, such Calls are sent in their old order, with their old
	// ids, before anything new. The server may have handled one already, if only the answer was
	// lost: a Call is handled at least once, and what must not be done twice needs a key of its
	// own. Zero means never: such a Call fails with ErrDisconnected.
	CallRetries int

	// Logger gets the panics of handlers, with their stacks, the errors that servers see as
	// "internal error", and those that no server and no function gets. LOGS.md lists its entries.
	// Zero means slog.Default().
	Logger *slog.Logger
}

// normalize puts the defaults in place of zeros. It panics with the name of an option that is
// refused.
func (o ClientOptions) normalize() ClientOptions {
	_, err := o.Dial.connConfig()
	must("ClientOptions.Dial.", err)
	must("ClientOptions.Backoff.", o.Backoff.check())
	must("ClientOptions.", cmp.Or(
		setDefault(&o.Timeout, 20*time.Second, "Timeout"),
		setDefault(&o.MaxAttempts, noBound, "MaxAttempts"),
		setDefault(&o.MaxAttachments, defaultMaxAttachments, "MaxAttachments"),
		setDefault(&o.MaxOfflineBytes, 1<<20, "MaxOfflineBytes"),
		setDefault(&o.CallTimeout, 10*time.Second, "CallTimeout"),
		setDefault(&o.CallRetries, 0, "CallRetries"),
	))
	switch {
	case o.Auth != nil && o.AuthFunc != nil:
		panic("atrium: ClientOptions.Auth and AuthFunc are both set")
	case o.Dial.HandshakeTimeout != 0:
		panic("atrium: ClientOptions.Dial.HandshakeTimeout is set: it is Timeout that bounds an attempt")
	}
	o.Namespace = cmp.Or(o.Namespace, "/")
	o.Backoff = o.Backoff.normalize()
	o.Dial.HandshakeTimeout = o.Timeout
	o.Dial.MaxMessageBytes = cmp.Or(o.Dial.MaxMessageBytes, defaultReadLimit)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// check returns what is wrong with the options or the address, before the first attempt.
func (o ClientOptions) check(address string) error {
	if _, err := o.Dial.request(context.Background(), address); err != nil {
		return err
	}
	probe := packet{kind: packetConnect}
	if _, err := probe.parseNamespace([]byte(o.Namespace), 0); err != nil {
		return fmt.Errorf("ClientOptions.Namespace: %w", err)
	}
	if o.Namespace[0] != '/' || strings.ContainsAny(o.Namespace, ",?") {
		return fmt.Errorf("ClientOptions.Namespace: %q does not begin with a / or has a comma or question mark in it", o.Namespace)
	}
	_, err := encodeAuth("Auth", o.Auth)
	return err
}

// encodeAuth encodes auth as a JSON object and returns it without its braces. Its error names the
// option that auth comes from.
func encodeAuth(option string, auth any) ([]byte, error) {
	if auth == nil {
		return nil, nil
	}
	encoded, err := encodeArgs([]any{auth}, noBound)
	if err != nil {
		return nil, fmt.Errorf("ClientOptions.%s: %w", option, err)
	}
	b := encoded.json
	if string(b) == "null" {
		return nil, nil
	}
	if b[0] != '{' {
		return nil, fmt.Errorf("ClientOptions.%s: expected what JSON makes an object of, got %T", option, auth)
	}
	return b[1 : len(b)-1], nil
}

// webSocketURL returns the address of the WebSocket of the server at a URL.
func webSocketURL(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", urlError(err, server, "a server's URL begins with http://, https://, ws:// or wss://")
	}
	scheme, ok := map[string]string{"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}[u.Scheme]
	if !ok {
		return "", fmt.Errorf("the scheme of a server's URL is http, https, ws or wss, not %q", u.Scheme)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return "", fmt.Errorf("the URL's query: %w", err)
	}
	query.Set("EIO", "4")
	query.Set("transport", "websocket")
	u.Scheme, u.RawQuery = scheme, query.Encode()
	if u.Path == "" || u.Path == "/" {
		u.Path = "/socket.io/"
	}
	return u.String(), nil
}
