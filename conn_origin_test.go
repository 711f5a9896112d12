package atrium

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An entry that is equal to the header, byte for byte, matches it.
func TestOriginListedVerbatim(t *testing.T) {
	for _, origin := range []string{
		"https://app.example.com", "http://localhost:3000", "https://app.example.com:8443", "http://127.0.0.1:5173", "http://[::1]:5173",
		"http://[::ffff:7f00:1]", "https://xn--mnchen-3ya.example", "https://a_b.example.com", "https://example.com.",
		"null", "file://", "app://.", "capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://obsidian.md",
		"chrome-extension://gighmmpiobklfepjocnamgkkbiglidom", "moz-extension://5f0d6fcc-5e1a-4ce0-9d5f-6e4bf4a3c7f2",
		"ms-appx-web://7c3b5e4c-App", "ws://device.local", "wss://example.com",
	} {
		list, err := parseOrigins([]string{"https://other.example", origin})
		if err != nil {
			t.Error(err)
			continue
		}
		if !list.allows(origin) {
			t.Errorf("%s is listed and refused", origin)
		}
		for _, other := range []string{"https://app.example.net", "http://localhost:3001", "null", "file://", "file://host", ""} {
			if other != origin && list.allows(other) {
				t.Errorf("%s is listed, and %s is allowed", origin, other)
			}
		}
	}
}

// How an origin is written makes no difference where browsers make none.
func TestOriginSpellings(t *testing.T) {
	for _, row := range []struct {
		entry, header string
		want          bool
	}{
		{"HTTPS://App.Example.COM", "https://app.example.com", true},
		{"https://app.example.com/", "https://app.example.com", true},
		{"https://app.example.com", "https://app.example.com/", true},
		{"https://app.example.com:443", "https://app.example.com", true},
		{"http://app.example.com:80/", "http://app.example.com", true},
		{"https://app.example.com:", "https://app.example.com", true},
		{"https://app.example.com:80", "https://app.example.com", false},
		{"http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000", true},
		{"http://[2001:DB8::A]", "http://[2001:db8::a]", true},
		{"FILE://", "file://", true},
		{"file:///", "file://", true},
		{"file://", "file:///", true},
		{"https://*.example.com/", "https://a.example.com", true},
		{"HTTPS://*.Example.com", "https://a.b.example.com", true},
		{"https://*.example.com:443/", "https://a.example.com", true},
		{"https://*.example.com:8443/", "https://a.example.com:8443", true},
		{"https://*.example.com:8443/", "https://a.example.com", false},
		{"https://*.example.com/", "https://example.com", false},
		{"https://*.example.com/", "https://aexample.com", false},
		{"https://*.example.com/", "http://a.example.com", false},
		{"*", "null", true},
		{"*", "anything", true},
	} {
		list, err := parseOrigins([]string{row.entry})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := list.allows(row.header); got != row.want {
			t.Errorf("%s lists %s: %v, want %v", row.entry, row.header, got, row.want)
		}
	}
}

// The comparison that parses nothing lets nothing pass that the other refuses, and has the common
// cases.
func TestOriginIsHost(t *testing.T) {
	hosts := []string{"example.com", "example.com:3000", "127.0.0.1:3000", "a-b.c", "localhost", "", ":80", "a:", "a:b", "a:1:2", "a_b",
		"A.com", "[::1]", "[::1]:80", "a b", "a/", "u@a", "a?", "a%41", "%zz", "-", "."}
	matches := 0
	for _, host := range hosts {
		for _, scheme := range []string{"http", "https", "ws", "file", "HTTP", ""} {
			for _, state := range []*tls.ConnectionState{nil, {}} {
				r := &http.Request{Host: host, TLS: state}
				origin, err := parseOrigin(scheme + "://" + host)
				if !isHost(scheme+"://"+host, r) {
					continue
				}
				matches++
				if err != nil || !origin.servedBy(r) {
					t.Errorf("%s://%s with TLS %t: the same, but %v is not served", scheme, host, state != nil, origin)
				}
			}
		}
	}
	if matches < 5*3 {
		t.Errorf("%d are the same", matches)
	}
}

// An entry that no Origin header can ever equal makes New panic and is an error of Upgrade, with
// the entry and what was expected.
func TestOriginImpossible(t *testing.T) {
	for _, row := range []struct{ entry, why string }{
		{"", "it is empty"},
		{" ", "without spaces"},
		{"localhost", "it has no scheme"},
		{"localhost:5173", "it has no scheme"},
		{"example.com", "it has no scheme"},
		{"*.example.com", "it has no scheme"},
		{"//example.com", "it has no scheme"},
		{"https:/example.com", "it has no scheme"},
		{"https:example.com", "it has no scheme"},
		{"all", "it has no scheme"},
		{"NULL", "it has no scheme"},
		{"http://a,http://b", "an entry of its own"},
		{"http://a http://b", "an entry of its own"},
		{" https://example.com", "without spaces"},
		{"https://example.com ", "without spaces"},
		{"http://localhost:*", "a port cannot be a wildcard"},
		{"http://*.localhost:*", "a port cannot be a wildcard"},
		{"https://*", "a wildcard stands for whole subdomains"},
		{"http://*:3000", "a wildcard stands for whole subdomains"},
		{"https://app.*.com", "a wildcard stands for whole subdomains"},
		{"https://app-*.example.com", "a wildcard stands for whole subdomains"},
		{"https://*.*.example.com", "a wildcard stands for whole subdomains"},
		{"https://example.*", "a wildcard stands for whole subdomains"},
		{"https://*.", "it is no URL with a host"},
		{"https://example.com/*", "a wildcard stands for whole subdomains"},
		{"*://example.com", "it is no URL"},
		{"https://*.127.0.0.1", "an IP address has no subdomains"},
		{"https://example.com/path", "no path, query or user"},
		{"https://*.example.com/path", "no path, query or user"},
		{"https://example.com//", "no path, query or user"},
		{"https://example.com?q", "no path, query or user"},
		{"https://example.com?", "no path, query or user"},
		{"https://example.com#top", "no path, query or user"},
		{"https://user@example.com", "no path, query or user"},
		{"https://", "it is no URL with a host"},
		{"http:///", "it is no URL with a host"},
		{"://example.com", "it is no URL"},
		{"http://:3000", "it has no host"},
		{"file://*.", "it has no host"},
		{"https://example.com:99999", "a port is a number"},
		{"https://example.com:0", "a port is a number"},
		{"https://example.com:0443", "a port is a number"},
		{"https://example.com:https", "it is no URL"},
		{"https://bücher.example", "xn--"},
		{"https://*.bücher.example", "xn--"},
		{"http://127.1", "four numbers"},
		{"http://127.0.0.01", "four numbers"},
		{"http://[fe80::1%25eth0]", "no zones"},
		{"http://[::1", "it is no URL"},
		{`^https://.*\.example\.com$`, "a wildcard stands for whole subdomains"},
		{"https://a;b.example", "no host's name"},
	} {
		func() {
			defer func() {
				said, _ := recover().(string)
				if !strings.HasPrefix(said, "atrium: Options.AllowedOrigins: ") || !strings.Contains(said, row.why) ||
					!strings.Contains(said, `"https://example.com"`) {
					t.Errorf("%q: New panics with %q, want one that says %q", row.entry, said, row.why)
				}
			}()
			New(Options{AllowedOrigins: []string{"https://example.com", row.entry}})
		}()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		_, err := Upgrade(w, r, UpgradeOptions{AllowedOrigins: []string{row.entry, "https://example.com"}})
		if err == nil || w.Code != 500 || !strings.Contains(err.Error(), "UpgradeOptions.AllowedOrigins: ") || !strings.Contains(err.Error(), row.why) {
			t.Errorf("%q: Upgrade returns %v and answers %d", row.entry, err, w.Code)
		}
	}
}

func FuzzOrigins(f *testing.F) {
	for _, entry := range []string{"https://*.example.com:8443/", "http://[::1]:3000", "null", "file://", "http://localhost:*", "app://.", "*"} {
		f.Add(entry)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		list, err := parseOrigins([]string{entry})
		if err == nil && !list.allows(entry) {
			t.Errorf("%q is listed and refused", entry)
		}
	})
}

// A refusal does not send back all that it was sent.
func TestOriginRefusalIsShort(t *testing.T) {
	r := httptest.NewRequest("GET", "http://example.com/", nil)
	r.Header.Set("Origin", "https://a"+strings.Repeat("\xff", 60_000))
	r.Host = strings.Repeat("h", 60_000)
	if refused := checkOrigin(r, originList{}); refused == nil || len(refused.message) > 4<<10 {
		t.Errorf("got %.200v", refused)
	}
}
