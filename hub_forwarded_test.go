package atrium

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// trustedProxies are those of these tests: 10.x.x.x and fd00::/8.
func trustedProxies() func(*http.Request) string {
	return ForwardedClient(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
}

// forwarded is a request from an address, with header lines.
func forwarded(from string, lines ...string) *http.Request {
	r := &http.Request{RemoteAddr: from, Header: make(http.Header)}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

// The client of a proxy is who the proxy says, in each form that the headers have.
func TestForwardedClient(t *testing.T) {
	const x, f = "X-Forwarded-For: ", "Forwarded: "
	of := trustedProxies()
	for _, row := range []struct {
		what, from, want string
		lines            []string
	}{
		{"no header", "10.0.0.1:80", "10.0.0.1", nil},
		{"one hop", "10.0.0.1:80", "192.0.2.7", []string{x + "192.0.2.7"}},
		{"a proxy with IPv6", "[fd00::1]:80", "192.0.2.7", []string{x + "192.0.2.7"}},
		{"a proxy with a mapped address", "[::ffff:10.0.0.1]:80", "192.0.2.7", []string{x + "192.0.2.7"}},
		{"a proxy with a zone", "[fd00::1%eth0]:80", "192.0.2.7", []string{x + "192.0.2.7"}},
		{"the nearest counts", "10.0.0.1:80", "192.0.2.7", []string{x + "198.51.100.1, 192.0.2.7"}},
		{"trusted ones are skipped", "10.0.0.1:80", "192.0.2.7", []string{x + "198.51.100.1, 192.0.2.7,10.0.0.3 , fd00::9"}},
		{"several lines", "10.0.0.1:80", "192.0.2.7", []string{x + "198.51.100.1, 192.0.2.7", x + "10.0.0.3"}},
		{"empty elements", "10.0.0.1:80", "192.0.2.7", []string{x + "192.0.2.7, ,", x, x + "10.0.0.3,"}},
		{"all are trusted", "10.0.0.1:80", "10.0.0.9", []string{x + "10.0.0.9, 10.0.0.2"}},
		{"with a port", "10.0.0.1:80", "192.0.2.7", []string{x + "192.0.2.7:1234"}},
		{"IPv6", "10.0.0.1:80", "2001:db8:1:2::", []string{x + "2001:db8:1:2:3:4:5:6"}},
		{"IPv6 in brackets", "10.0.0.1:80", "2001:db8:1:2::", []string{x + "[2001:db8:1:2:3:4:5:6]"}},
		{"IPv6 with a port", "10.0.0.1:80", "2001:db8:1:2::", []string{x + "[2001:db8:1:2:3:4:5:6]:1234"}},
		{"IPv6 with a zone", "10.0.0.1:80", "fe80::", []string{x + "fe80::1%eth0"}},
		{"a mapped address", "10.0.0.1:80", "192.0.2.7", []string{x + "::ffff:192.0.2.7"}},
		{"garbage", "10.0.0.1:80", "10.0.0.1", []string{x + "192.0.2.7, 1.2.3"}},
		{"garbage behind a trusted hop", "10.0.0.1:80", "10.0.0.2", []string{x + "192.0.2.7, unknown, 10.0.0.2"}},
		{"an open bracket", "10.0.0.1:80", "10.0.0.1", []string{x + "[2001:db8::1"}},
		{"more behind a bracket", "10.0.0.1:80", "10.0.0.1", []string{x + "[2001:db8::1]9"}},

		{"Forwarded", "10.0.0.1:80", "192.0.2.7", []string{f + "for=192.0.2.7"}},
		{"with all parameters", "10.0.0.1:80", "192.0.2.7", []string{f + `proto=https; For=192.0.2.7 ;by=_here;host="a,b;c"`}},
		{"several elements", "10.0.0.1:80", "192.0.2.7", []string{f + `for=198.51.100.1, for="192.0.2.7:80"`, f + `for="[fd00::2]:9"`}},
		{"quoted IPv6", "10.0.0.1:80", "2001:db8:1:2::", []string{f + `for="[2001:db8:1:2::9]"`}},
		{"quoted IPv6 with a port", "10.0.0.1:80", "2001:db8:1:2::", []string{f + `for="[2001:db8:1:2::9]:4711"`}},
		{"an obfuscated port", "10.0.0.1:80", "192.0.2.7", []string{f + `for="192.0.2.7:_port"`}},
		{"quotes forgotten", "10.0.0.1:80", "2001:db8:1:2::", []string{f + `for=[2001:db8:1:2::9]:4711`}},
		{"escapes", "10.0.0.1:80", "192.0.2.7", []string{f + `for="19\2.0\.2.7"`}},
		{"unknown", "10.0.0.1:80", "10.0.0.1", []string{f + "for=198.51.100.1, for=unknown"}},
		{"an obfuscated identifier", "10.0.0.1:80", "10.0.0.2", []string{f + `for=198.51.100.1, for="_gazonk", for=10.0.0.2`}},
		{"without for", "10.0.0.1:80", "10.0.0.1", []string{f + "for=198.51.100.1, proto=https"}},
		{"for twice", "10.0.0.1:80", "10.0.0.1", []string{f + "for=198.51.100.1;for=198.51.100.2"}},
		{"open quotes", "10.0.0.1:80", "10.0.0.1", []string{f + `for=198.51.100.1, for="`, f + "for=192.0.2.7"}},
		{"quotes closed by an escaped one", "10.0.0.1:80", "10.0.0.1", []string{f + `for=198.51.100.1;x="\"`}},
		{"quotes within", "10.0.0.1:80", "10.0.0.1", []string{f + `for=198.51.100.1;x=a"b"`}},

		{"both agree", "10.0.0.1:80", "192.0.2.7", []string{x + "192.0.2.7", f + "for=192.0.2.7;proto=https"}},
		{"both agree on the network", "10.0.0.1:80", "2001:db8:1:2::", []string{x + "2001:db8:1:2::1", f + `for="[2001:db8:1:2::2]"`}},
		{"both do not", "10.0.0.1:80", "10.0.0.1", []string{x + "192.0.2.7", f + "for=198.51.100.1"}},
		{"one is broken", "10.0.0.1:80", "10.0.0.1", []string{x + "192.0.2.7", f + `for="`}},
		{"one is empty", "10.0.0.1:80", "192.0.2.7", []string{x + "192.0.2.7", f + ", "}},

		{"not a proxy", "192.0.2.1:80", "192.0.2.1", []string{x + "198.51.100.1", f + "for=198.51.100.1"}},
		{"not a proxy, with IPv6", "[2001:db8:1:2::9]:80", "2001:db8:1:2::", []string{x + "10.0.0.1"}},
		{"no address", "@", "@", []string{x + "198.51.100.1"}},
	} {
		if got := of(forwarded(row.from, row.lines...)); got != row.want {
			t.Errorf("%s: %q, want %q", row.what, got, row.want)
		}
	}
	if got := ForwardedClient(netip.MustParsePrefix("::ffff:10.0.0.0/104"))(forwarded("10.0.0.1:80", x+"192.0.2.7")); got != "192.0.2.7" {
		t.Errorf("a mapped prefix: %q", got)
	}
	if got := ForwardedClient()(forwarded("10.0.0.1:80", x+"192.0.2.7")); got != "10.0.0.1" {
		t.Errorf("nobody is trusted: %q", got)
	}
	wantPanic(t, "an invalid prefix", "ForwardedClient: prefix 2 is invalid", func() { ForwardedClient(netip.MustParsePrefix("::/0"), netip.Prefix{}) })
}

// Who does not come by a trusted proxy cannot choose by which key it is counted; who does cannot
// either, since the proxy has the last word. So a client has no more connections than it may.
func TestUntrustedClientCannotChooseItsKey(t *testing.T) {
	for name, row := range map[string]struct {
		trusted netip.Prefix
		line    func(claim string) string // what comes of a client that sends the claim
	}{
		"without a proxy": {netip.MustParsePrefix("10.0.0.0/8"), func(claim string) string { return claim }},
		"behind one":      {netip.MustParsePrefix("127.0.0.0/8"), func(claim string) string { return claim + ", 192.0.2.7" }},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			srv := serve(t, overTCP, newHub(t, Options{Limits: Limits{ConnectionsPerClient: 2}, ClientKey: ForwardedClient(row.trusted)}))
			srv.connect(t, nil, "X-Forwarded-For: "+row.line("198.51.100.1"))
			srv.connect(t, nil, "X-Forwarded-For: "+row.line("198.51.100.2, 10.0.0.1"))
			wantFull(t, srv, http.StatusTooManyRequests, "this client has as many connections as it may have\n", "X-Forwarded-For: "+row.line("198.51.100.3"))
		})
	}
}

// Whatever a client sends, the proxy's own word is the last: the client is counted by its address
// or, if its headers are no good, by that of the proxy.
func FuzzForwardedClient(f *testing.F) {
	for _, claim := range []string{"", "198.51.100.1", "for=198.51.100.1", `for="[2001:db8::1]:80"`, `for=198.51.100.1, x="`, `for=198.51.100.1, x="\`, ", ,", "10.0.0.9", "[", `a=";for=198.51.100.1`} {
		f.Add(claim, claim)
		f.Add(claim, "")
	}
	const address, network, proxy = "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "10.0.0.1"
	of := trustedProxies()
	f.Fuzz(func(t *testing.T, x, forwardedClaim string) {
		request := func(from string, x, forwarded []string) string {
			return of(&http.Request{RemoteAddr: from, Header: http.Header{"X-Forwarded-For": x, "Forwarded": forwarded}})
		}
		if got := request("192.0.2.1:1", []string{x}, []string{forwardedClaim}); got != "192.0.2.1" {
			t.Errorf("without a proxy: %q", got)
		}
		claimed := []string{forwardedClaim}
		for _, own := range []string{`for="[` + address + `]:80"`, `for="[` + address + `]";proto=https;host="example.com:80"`, `by=_p;for="[` + address + `]"`} {
			for name, got := range map[string]string{
				"a line of its own": request(proxy+":1", nil, append(claimed, own)),
				"the same line":     request(proxy+":1", nil, []string{forwardedClaim + ", " + own}),
				"beside a claim":    request(proxy+":1", []string{x}, append(claimed, own)),
			} {
				if got != network && got != proxy {
					t.Errorf("Forwarded by the proxy, in %s: %q", name, got)
				}
			}
		}
		for name, got := range map[string]string{
			"a line of its own": request(proxy+":1", []string{x, address}, nil),
			"the same line":     request(proxy+":1", []string{x + ", " + address}, nil),
		} {
			if got != network {
				t.Errorf("X-Forwarded-For by the proxy, in %s: %q", name, got)
			}
		}
		if got := request(proxy+":1", []string{x, address}, claimed); got != network && got != proxy {
			t.Errorf("X-Forwarded-For by the proxy, beside a claim: %q", got)
		}
	})
}
