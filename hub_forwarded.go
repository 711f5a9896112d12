package atrium

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ForwardedClient returns a function for Options.ClientKey of a hub behind proxies: the client's IP
// address, of an IPv6 address its first 64 bits. trusted are the networks of the proxies, each of
// which must add the address that a request came from to one of the headers X-Forwarded-For and
// Forwarded (RFC 7239):
//
//	ClientKey: atrium.ForwardedClient(netip.MustParsePrefix("10.0.0.0/8")),
//
// The client is the last address that no trusted network has: RemoteAddr, or else what the headers
// say, from the right. What a client has put into them itself stands further to the left, and is
// ignored; all of it is ignored if RemoteAddr is not trusted. Where there is no address, but
// "unknown", an obfuscated identifier, which may be another one for each request, or garbage, the
// client is the trusted proxy that has added it.
//
// Since a proxy may add to one header and let the other pass as the client sent it, a request that
// has both counts as from its RemoteAddr, unless they agree on the client. A header's lines count
// as one list, in their order.
//
// A Unix socket's RemoteAddr is in no network, and is the key itself. An invalid prefix makes
// ForwardedClient panic. The function may be called from many goroutines at a time, and from
// Options.Accept, too.
func ForwardedClient(trusted ...netip.Prefix) func(*http.Request) string {
	networks := make(trustedNetworks, len(trusted))
	for i, p := range trusted {
		if !p.IsValid() {
			panic(fmt.Sprintf("atrium: ForwardedClient: prefix %d is invalid", i+1))
		}
		if mapped := p.Addr().Is4In6() && p.Bits() >= 96; mapped {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		networks[i] = p
	}
	return func(r *http.Request) string {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			return r.RemoteAddr
		}
		return networks.client(from.Addr(), r.Header)
	}
}

// trustedNetworks are those of proxies.
type trustedNetworks []netip.Prefix

func (t trustedNetworks) has(ip netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// client returns the key of the client whose request came from that address.
func (t trustedNetworks) client(from netip.Addr, header http.Header) string {
	viaX, via := xForwardedFor(header), forwardedFor(header)
	byX, by := t.walk(from, viaX), t.walk(from, via)
	switch {
	case len(via) == 0 || byX == by:
		return byX
	case len(viaX) == 0:
		return by
	}
	return addressKey(from)
}

// walk returns the key of the first address that is not trusted: from, or the last of the hops, or
// the one before it, and so on. The walk ends at the last address that there is.
func (t trustedNetworks) walk(from netip.Addr, hops []string) string {
	at := from.Unmap().WithZone("")
	for _, hop := range slices.Backward(hops) {
		next, ok := parseHop(hop)
		if !ok || !t.has(at) {
			break
		}
		at = next
	}
	return addressKey(at)
}

// xForwardedFor returns the hops that X-Forwarded-For lists.
func xForwardedFor(header http.Header) (hops []string) {
	for _, line := range header["X-Forwarded-For"] {
		for hop := range strings.SplitSeq(line, ",") {
			if hop = trimSpace(hop); hop != "" {
				hops = append(hops, hop)
			}
		}
	}
	return hops
}

// forwardedFor returns the hops that Forwarded lists (RFC 7239 §4), "" for one without an address.
// If the header ends inside quotes, its last element is such a one, and all that is known: a client
// that opens quotes must not have the proxy's own element between them.
func forwardedFor(header http.Header) (hops []string) {
	list := strings.Join(header["Forwarded"], ",")
	if !quotesClosed(list) {
		return []string{""}
	}
	for element := range splitUnquoted(list, ',') {
		if trimSpace(element) != "" { // RFC 9110 §5.6.1
			hops = append(hops, forwardedNode(element))
		}
	}
	return hops
}

// forwardedNode returns the value of an element's parameter for. It returns "" if there is none, or
// more than one, or if the element violates the grammar. A colon or bracket needs quotes, which not
// all proxies know.
func forwardedNode(element string) (node string) {
	found := false
	for pair := range splitUnquoted(element, ';') {
		name, value, ok := strings.Cut(pair, "=")
		name, value = trimSpace(name), trimSpace(value)
		unquoted := unquoteToken(value)
		if !ok || !isToken(name) || unquoted == value && strings.ContainsAny(value, `"\`) {
			return ""
		}
		if strings.EqualFold(name, "for") {
			if found {
				return ""
			}
			node, found = unquoted, true
		}
	}
	return node
}

// parseHop parses an address with or without a port; one of IPv6 may, and with a port must, stand
// in brackets.
func parseHop(hop string) (ip netip.Addr, ok bool) {
	if rest, bracketed := strings.CutPrefix(hop, "["); bracketed {
		address, port, closed := strings.Cut(rest, "]")
		if !closed || port != "" && port[0] != ':' {
			return ip, false
		}
		hop = address
	} else if strings.Count(hop, ":") == 1 {
		hop, _, _ = strings.Cut(hop, ":")
	}
	ip, err := netip.ParseAddr(hop)
	return ip.Unmap().WithZone(""), err == nil
}
