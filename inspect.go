package atrium

import (
	"embed"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strconv"
	"strings"
)

// InspectOptions configure Inspect. The zero value is useful.
type InspectOptions struct {
	// Allow decides who may see the page: it is called for each request of it, of its files and of
	// its connection, and a request for which it returns false is refused with 403. It may be
	// called from many goroutines at a time; its panics are net/http's. A connection stays when
	// Allow would no longer let it pass. Zero means that requests from this machine are allowed:
	// see Inspect.
	Allow func(*http.Request) bool
	// Payloads shows the arguments of a socket's events, the first 1 KiB of each, to everyone who
	// sees the page. Zero means that it shows their names and sizes.
	Payloads bool
	// Actions lets everyone who sees the page disconnect sockets and send them events. Each action
	// is logged, with the viewer's address. Zero means that the page can only be looked at.
	Actions bool
}

// Inspect must be guarded: its page shows who is connected to the hub, from where, and what they
// do. It returns the handler of a live page about h, which is one line away, as that of
// net/http/pprof:
//
//	mux.Handle("/debug/atrium/", atrium.Inspect(h, nil))
//
// The page shows what Hub.Stats counts as it happens, the sockets and rooms of this hub, a socket's
// events, what was refused lately and why, and the figures of each node of a cluster. nil options
// are the zero value's.
//
// Without InspectOptions.Allow it answers only requests that come from this machine, are addressed
// to it by a loopback address or localhost, and do not say that a proxy has passed them on. A proxy
// on this machine that neither says so nor passes the Host on makes everyone a local user: set
// Allow behind any proxy.
//
// The path that it is mounted at ends with "/"; http.StripPrefix may be around it. The page is fed
// by a connection to the same path, which the hub's limits and figures leave out. While nobody
// looks, the page costs nothing. While somebody does, the sockets or rooms are gone through once a
// second for all viewers together, and less often if that takes over a hundredth of the time. It
// ends with the hub's Shutdown.
func Inspect(h *Hub, options *InspectOptions) http.Handler {
	i := &inspector{hub: h, viewers: make(map[*Socket]*viewer), changed: make(chan struct{}, 1)}
	if options != nil {
		i.options = *options
	}
	i.script = ClientScript()
	i.feed = i.newFeed()
	return i
}

// inspectFiles are the page. It has no build step, and fetches nothing from elsewhere.
//
//go:embed inspect
var inspectFiles embed.FS

// inspectTypes are the page's files and their types.
var inspectTypes = map[string]string{
	"page.html": "text/html; charset=utf-8",
	"page.css":  "text/css; charset=utf-8",
	"page.js":   "text/javascript; charset=utf-8",
	"charts.js": "text/javascript; charset=utf-8",
	"lists.js":  "text/javascript; charset=utf-8",
	"socket.js": "text/javascript; charset=utf-8",
	"text.js":   "text/javascript; charset=utf-8",
	"icon.svg":  "image/svg+xml",
}

// inspectPolicy lets the page have its own files and its connection, and nothing else.
const inspectPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP serves the page, its files and its connection: the last part of the path says which.
func (i *inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", inspectPolicy)
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	if !i.allows(r) {
		i.hub.logRefusal(r, warning("atrium: refused a request to Inspect", clientText("host", r.Host),
			hint("InspectOptions.Allow says who may see the page; without it, only this machine may")))
		i.respond(w, "text/plain; charset=utf-8", http.StatusForbidden, []byte(i.refusal()))
		return
	}
	name := path.Base("/" + r.URL.Path)
	if r.URL.Path == "" { // http.StripPrefix has left nothing
		at, _, _ := strings.Cut(r.RequestURI, "?")
		header.Set("Location", "./"+path.Base("/"+at)+"/")
		i.respond(w, "text/plain; charset=utf-8", http.StatusTemporaryRedirect, nil)
		return
	} else if strings.HasSuffix(r.URL.Path, "/") {
		name = "page.html"
	}
	if name == "feed" {
		// Over WebSockets alone: to those a browser always names the origin, to a poll by a page of
		// another one it need not.
		if refused := checkHandshake(r); refused != nil {
			refused.writePlain(w)
			return
		}
		i.feed.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		i.respond(w, "text/plain; charset=utf-8", http.StatusMethodNotAllowed, []byte("expected GET or HEAD\n"))
		return
	}
	if name == "client.js" {
		i.script.ServeHTTP(w, r)
		return
	}
	contentType, known := inspectTypes[name]
	if !known {
		i.respond(w, "text/plain; charset=utf-8", http.StatusNotFound, []byte("no such file: Inspect is to be mounted at a path that ends with a slash\n"))
		return
	}
	body, _ := inspectFiles.ReadFile("inspect/" + name) // it is embedded
	i.respond(w, contentType, http.StatusOK, body)
}

// respond writes a response that is not to be kept.
func (i *inspector) respond(w http.ResponseWriter, contentType string, status int, body []byte) {
	setContent(w.Header(), contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // net/http leaves it out of the response to a HEAD
}

func (i *inspector) allows(r *http.Request) bool {
	if i.options.Allow != nil {
		return i.options.Allow(r)
	}
	return isLocal(r)
}

func (i *inspector) refusal() string {
	if i.options.Allow != nil {
		return "InspectOptions.Allow refuses this request\n"
	}
	return "This page shows what the clients of a hub do. Until InspectOptions.Allow says who may see it,\n" +
		"it answers requests from its own machine only: to localhost, and not by way of a proxy.\n"
}

// isLocal reports whether a request comes from this machine and is meant for it: the Host keeps
// pages of other hosts out whose names lead here (DNS rebinding). A proxy's requests are
// everyone's. nginx sends HTTP/1.0 unless it is told otherwise, and no client of today does.
func isLocal(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if _, passedOn := r.Header[name]; passedOn {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && isLoopbackHost(r.Host) && r.ProtoAtLeast(1, 1)
}

// isLoopbackHost reports whether the value of a Host header is of this machine alone (RFC 6761
// §6.3).
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// act carries out an action of a viewer on a socket, and logs it.
func (i *inspector) act(viewer *Socket, id, what string, do func(*Socket) error) error {
	if !i.options.Actions {
		return Errorf("actions are off: InspectOptions.Actions turns them on")
	}
	s := i.socket(id)
	if s == nil {
		return errNotConnected
	}
	i.hub.options.Logger.Warn("atrium: an action of Inspect", slog.String("action", what), slog.String("socket", id),
		clientText("remote", viewer.handshake.remote))
	return do(s)
}

var errNotConnected = Errorf("the socket is not connected to this node any more")

// socket returns the connected socket with that id, whatever its namespace; nil if there is none.
func (i *inspector) socket(id string) *Socket {
	for _, n := range i.hub.allNamespaces() {
		if s := n.socket(id); s != nil {
			return s
		}
	}
	return nil
}
