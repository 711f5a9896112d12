package atrium

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// webOrigin is a parsed Origin header (RFC 6454 §7). The host is in lower case and the port
// explicit, so that two spellings of one origin are equal. The host is empty for schemes without
// one, such as file.
type webOrigin struct{ scheme, host, port string }

// parseOrigin parses an Origin header. It accepts a slash at its end, which some clients send.
func parseOrigin(s string) (webOrigin, error) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Opaque != "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" ||
		!strings.Contains(s, "://") || u.Host == "" && defaultPort(u.Scheme) != "" {
		return webOrigin{}, fmt.Errorf("atrium: %q is no web origin", s)
	}
	o := webOrigin{scheme: u.Scheme} // in lower case
	o.host, o.port = splitHost(u.Host, o.scheme)
	return o, nil
}

// splitHost splits the value of a Host header or the host of a URL. The port defaults to that of
// scheme.
func splitHost(hostport, scheme string) (host, port string) {
	u := url.URL{Host: hostport}
	host, port = strings.ToLower(u.Hostname()), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.String() // an IPv6 address has many spellings
	}
	if port == "" {
		port = defaultPort(scheme)
	}
	return host, port
}

// defaultPort returns the port of the schemes whose URLs always have a host; "" for all others.
func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

// servedBy reports whether the request was made to its own origin. The request of an https page may
// arrive on a connection without TLS, because TLS often ends at a proxy; that of an http page may
// not arrive over TLS. An origin with the scheme ws or wss is not that of a page: Starscream, which
// Socket.IO's client for Swift uses, sends the address that it connects to.
func (o webOrigin) servedBy(r *http.Request) bool {
	switch o.scheme {
	case "https", "wss":
	case "http", "ws":
		if r.TLS != nil {
			return false
		}
	default:
		return false
	}
	host, port := splitHost(r.Host, o.scheme)
	return host != "" && o.host == host && o.port == port
}

// isHost reports whether an Origin header has the Host header letter for letter, as that of a
// server's own pages has. servedBy would say the same, with the time and the stack of a URL's
// parsing.
func isHost(origin string, r *http.Request) bool {
	scheme, host, _ := strings.Cut(origin, "://")
	if host != r.Host || scheme != "https" && (scheme != "http" || r.TLS != nil) {
		return false
	}
	const digits, letters = "0123456789", "abcdefghijklmnopqrstuvwxyz"
	name, port, _ := strings.Cut(host, ":")
	return name != "" && strings.Trim(name, letters+digits+"-.") == "" && strings.Trim(port, digits) == ""
}

// checkOrigin protects a user's cookies from other sites' pages (RFC 6455 §10.2).
func checkOrigin(r *http.Request, allowed originList) *refusal {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		if r.Header.Get("Sec-Fetch-Site") != "cross-site" || allowed.any {
			return nil
		}
		return &refusal{kind: refusedOrigin, status: http.StatusForbidden, message: "a cross-site request without an Origin header is refused",
			entry: warning("atrium: refused a cross-site request without an Origin", clientText("host", r.Host))}
	}
	if len(origins) == 1 && (isHost(origins[0], r) || allowed.allows(origins[0])) {
		return nil
	}
	origin, err := parseOrigin(origins[0])
	if len(origins) == 1 && err == nil && origin.servedBy(r) {
		return nil
	}
	sent := strings.Join(origins, ", ")
	return &refusal{
		kind:    refusedOrigin,
		status:  http.StatusForbidden,
		message: fmt.Sprintf("the origin %q may not connect to the host %q: list it in AllowedOrigins if it should", cutText(sent, maxLogged), cutText(r.Host, maxLogged)),
		entry:   warning("atrium: refused an origin", clientText("origin", sent), clientText("host", r.Host), hint(origin.mend(r))),
	}
}

// mend returns a hint for the log: how to allow the refused origin.
func (o webOrigin) mend(r *http.Request) string {
	switch host, _ := splitHost(r.Host, o.scheme); {
	case defaultPort(o.scheme) == "" || o.host != host:
		return "if it should connect, list it in AllowedOrigins; if it is the page's own, a proxy has changed the Host header"
	case o.scheme == "http" && r.TLS != nil:
		return "a page without TLS connects to a server with TLS: list it in AllowedOrigins if it should"
	}
	return "origin and host differ in the port: if a proxy drops it, let it pass on the whole Host header (nginx: $http_host); " +
		"otherwise list the origin in AllowedOrigins"
}

// originList is a parsed AllowedOrigins.
type originList struct {
	any     bool // "*" is listed
	entries []originEntry
}

// originEntry is an entry of AllowedOrigins other than "*".
type originEntry struct {
	text       string    // as listed
	origin     webOrigin // as parsed; zero for "null"
	subdomains bool      // of origin.host, which begins with "."
}

// allows reports whether the list has the origin in an Origin header.
func (l originList) allows(header string) bool {
	if l.any {
		return true
	}
	origin, err := parseOrigin(header)
	return slices.ContainsFunc(l.entries, func(e originEntry) bool {
		return e.text == header || err == nil && e.matches(origin)
	})
}

func (e originEntry) matches(o webOrigin) bool {
	if !e.subdomains {
		return e.origin == o
	}
	return e.origin.scheme == o.scheme && e.origin.port == o.port && strings.HasSuffix(o.host, e.origin.host)
}

// parseOrigins parses AllowedOrigins. It returns an error for an entry that no Origin header can
// equal: this would otherwise be noticed only when a page cannot connect.
func parseOrigins(allowed []string) (originList, error) {
	var list originList
	for _, text := range allowed {
		if text == "*" {
			list.any = true
			continue
		}
		entry, problem := parseOriginEntry(text)
		if problem != "" {
			return originList{}, fmt.Errorf(`AllowedOrigins: %q is never the origin of a page: %s; `+
				`expected an origin such as "https://example.com" or "http://localhost:3000", `+
				`all subdomains of a host as "https://*.example.com", "null", "file://", or "*" for any`, text, problem)
		}
		list.entries = append(list.entries, entry)
	}
	return list, nil
}

// parseOriginEntry parses an entry other than "*". problem, if not empty, says why it is invalid.
func parseOriginEntry(text string) (entry originEntry, problem string) {
	entry.text = text
	if text == "null" {
		return entry, "" // the origin of sandboxed frames and data: pages
	}
	scheme, host, ok := strings.Cut(text, "://")
	switch {
	case text == "":
		return entry, "it is empty"
	case strings.ContainsAny(text, ", \t\r\n"):
		return entry, "each origin is an entry of its own, without spaces and commas"
	case !ok:
		return entry, "it has no scheme"
	}
	host, entry.subdomains = strings.CutPrefix(host, "*.")
	host = strings.TrimSuffix(host, "/")
	switch {
	case strings.HasSuffix(host, ":*"):
		return entry, "a port cannot be a wildcard: list each port"
	case strings.Contains(host, "*"):
		return entry, "a wildcard stands for whole subdomains, at the host's beginning"
	case strings.ContainsAny(host, "/\\@?#"):
		return entry, "an origin has no path, query or user"
	}
	origin, err := parseOrigin(scheme + "://" + host)
	if err != nil {
		return entry, "it is no URL with a host"
	}
	if problem := origin.impossible(entry.subdomains); problem != "" {
		return entry, problem
	}
	if entry.subdomains {
		origin.host = "." + origin.host
	}
	entry.origin = origin
	return entry, ""
}

// impossible says why no client sends the origin, or returns "". suffix says that the host is a
// suffix.
func (o webOrigin) impossible(suffix bool) string {
	if o.port != "" {
		if _, err := strconv.ParseUint(o.port, 10, 16); err != nil || o.port[0] == '0' {
			return "a port is a number from 1 to 65535 without leading zeros"
		}
	}
	ip, err := netip.ParseAddr(o.host)
	switch last := o.host[strings.LastIndexByte(o.host, '.')+1:]; {
	case o.host == "":
		if suffix || o.port != "" {
			return "it has no host"
		}
	case err == nil && suffix:
		return "an IP address has no subdomains"
	case err == nil && ip.Zone() != "":
		return "browsers know no zones of IP addresses"
	case err == nil:
	case strings.ContainsFunc(o.host, func(r rune) bool { return r > '~' }):
		return "browsers send international names in their ASCII form, which begins with xn--"
	case defaultPort(o.scheme) == "":
		// The schemes of browser extensions and apps have hosts of other forms.
	case strings.ContainsFunc(o.host, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z')
	}):
		return "that is no host's name"
	case last != "" && strings.Trim(last, "0123456789") == "":
		return "browsers send an IPv4 address as four numbers, such as 127.0.0.1"
	}
	return ""
}
