package fuzz

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/atrium-go/atrium"
)

// field is a line of an HTTP header, its name in lower case.
type field struct{ name, value string }

type fields []field

// all returns the values of the fields of that name.
func (fs fields) all(name string) (values []string) {
	for _, f := range fs {
		if f.name == name {
			values = append(values, f.value)
		}
	}
	return values
}

// elements returns the elements of the comma-separated lists in all the fields of that name.
func (fs fields) elements(name string) (elements []string) {
	for _, line := range fs.all(name) {
		for e := range strings.SplitSeq(line, ",") {
			elements = append(elements, strings.Trim(e, " \t"))
		}
	}
	return elements
}

// hasToken looks for a token, in whatever case.
func (fs fields) hasToken(name, token string) bool {
	return slices.ContainsFunc(fs.elements(name), func(e string) bool { return lower(e) == token })
}

// lower is for ASCII: to HTTP the Kelvin sign is no k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// httpRequest is a request as it stands on the wire. Whether it is one at all is left to net/http.
type httpRequest struct {
	method, target, version string
	fields
}

func parseRequest(raw []byte) (r httpRequest) {
	first := true
	for line := range strings.SplitSeq(string(raw), "\n") {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case first:
			r.method, line, _ = strings.Cut(line, " ")
			r.target, r.version, _ = strings.Cut(line, " ")
			first = false
		case line == "":
			return r
		case strings.ContainsAny(line[:1], " \t") && len(r.fields) > 0: // RFC 9112 §5.2, obsolete line folding
			last := &r.fields[len(r.fields)-1]
			last.value = strings.Trim(last.value+" "+strings.Trim(line, " \t"), " \t")
		default:
			name, value, _ := strings.Cut(line, ":")
			r.fields = append(r.fields, field{lower(name), strings.Trim(value, " \t")})
		}
	}
	return r
}

var (
	keyForm     = regexp.MustCompile(`^[A-Za-z0-9+/]{22}==$`) // 16 bytes
	versionForm = regexp.MustCompile(`^HTTP/1\.[1-9]$`)
	noLength    = regexp.MustCompile(`^0+$`)
)

// isHandshake judges by RFC 6455 §4.2.1.
func (r httpRequest) isHandshake() bool {
	version, key, length := r.all("sec-websocket-version"), r.all("sec-websocket-key"), r.all("content-length")
	return r.method == "GET" &&
		versionForm.MatchString(r.version) &&
		r.hasToken("upgrade", "websocket") &&
		r.hasToken("connection", "upgrade") &&
		len(version) == 1 && version[0] == "13" &&
		len(key) == 1 && keyForm.MatchString(key[0]) &&
		len(r.all("transfer-encoding")) == 0 &&
		!slices.ContainsFunc(length, func(s string) bool { return !noLength.MatchString(s) })
}

var allowedOrigins = []string{"https://app.example.com", "https://*.example.org"}

// fromKnownPage reports whether the Origin, if there is one, is the host's own or one of
// allowedOrigins (§10.2).
func (r httpRequest) fromKnownPage() bool {
	origins := r.all("origin")
	if len(origins) == 0 {
		return !slices.Contains(r.all("sec-fetch-site"), "cross-site")
	}
	scheme, origin, _ := strings.Cut(strings.TrimSuffix(lower(origins[0]), "/"), "://")
	port := map[string]string{"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}[scheme]
	origin = strings.TrimSuffix(origin, port)
	host := strings.Join(r.all("host"), "")
	if u, err := url.ParseRequestURI(r.target); err == nil && u.Host != "" { // RFC 9112 §3.2.2
		host = u.Host
	}
	host = strings.TrimSuffix(lower(host), port)
	return len(origins) == 1 && port != "" &&
		(origin == host || scheme == "https" && (origin == "app.example.com" || strings.HasSuffix(origin, ".example.org")))
}

// httpResponse is a response, strictly.
type httpResponse struct {
	status int
	fields
	body []byte
}

var (
	statusLine = regexp.MustCompile(`^HTTP/1\.[01] (\d{3}) [ -~]*$`)
	fieldLine  = regexp.MustCompile("^([-!#$%&'*+.^_`|~0-9A-Za-z]+): ([^\r\n]*)$")
	controls   = regexp.MustCompile(`[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]`)
	// deflateAnswer is RFC 7692 §7.1, without the parameter for windows of the client, which no
	// server needs.
	deflateAnswer = regexp.MustCompile(`^permessage-deflate(; (server|client)_no_context_takeover){2}(; server_max_window_bits=([89]|1[0-5]))?$`)
	okNames       = regexp.MustCompile(`^(allow|connection|content-length|content-type|date|upgrade|sec-websocket-(accept|protocol|version|extensions)|x-.*)$`)
)

// parseResponse reads all of raw as one response.
func parseResponse(t *testing.T, raw []byte) (r httpResponse) {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("the response has no end: %q", raw)
	}
	r.body = body
	for i, line := range strings.Split(string(head), "\r\n") {
		if i == 0 {
			m := statusLine.FindStringSubmatch(line)
			if m == nil {
				t.Fatalf("the response is %q", raw)
			}
			r.status, _ = strconv.Atoi(m[1])
			continue
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil || !okNames.MatchString(lower(m[1])) {
			t.Fatalf("the response has the header line %q, of %q", line, raw)
		}
		r.fields = append(r.fields, field{lower(m[1]), m[2]})
	}
	return r
}

// FuzzUpgrade sends raw requests to a server that upgrades them. The path and the query get into
// headers of the response, as a careless application would have it.
func FuzzUpgrade(f *testing.F) {
	n := newNetwork(f)
	var calls atomic.Int32
	s := serve(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("X-Path", r.URL.Path)
		if query, err := url.QueryUnescape(r.URL.RawQuery); err == nil {
			w.Header()["X-"+query] = []string{query}
		}
		conn, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{
			Subprotocols:   []string{"superchat", "chat"},
			AllowedOrigins: allowedOrigins,
			Compression:    atrium.Compression{Level: 1},
		})
		if err == nil {
			conn.CloseNow()
		}
	}))
	f.Add([]byte(request + "\r\n"))
	f.Add([]byte("GET /%0d%0aSet-Cookie:a?%0d%0a%0d%0ab" + strings.TrimPrefix(request, "GET /") + "\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		defer guard(t)()
		calls.Store(0)
		near, far := n.connect(t, overSocket)
		defer near.Close()
		s.accept <- far
		go func() {
			near.Write(raw)
			hangUp(near)
		}()
		answer, _ := io.ReadAll(near) // an error says that not all of raw was read
		called := calls.Load()
		if called > 1 {
			t.Fatal("one request reached Upgrade twice")
		}
		if len(answer) == 0 {
			if called > 0 {
				t.Fatal("Upgrade has not answered")
			}
			return
		}
		req, resp := parseRequest(raw), parseResponse(t, answer)
		if called == 0 {
			if resp.status < 400 {
				t.Fatalf("net/http answers %q", answer)
			}
			return
		}
		right := req.isHandshake()
		if resp.status != http.StatusSwitchingProtocols {
			if right && len(req.all("origin")) == 0 && len(req.all("sec-fetch-site")) == 0 {
				t.Fatalf("a right handshake is answered with %q", answer)
			}
			if !slices.Contains([]int{400, 403, 405, 426, 505}, resp.status) {
				t.Fatalf("the status is %d", resp.status)
			}
			if length := resp.all("content-length"); req.method != "HEAD" &&
				(len(length) != 1 || length[0] != strconv.Itoa(len(resp.body)) || !bytes.HasSuffix(resp.body, []byte("\n"))) {
				t.Fatalf("the refusal is %q", answer)
			}
			return
		}

		if !right || !req.fromKnownPage() {
			t.Fatal("Upgrade accepts what is no handshake, or comes from a foreign page")
		}
		if accept := resp.all("sec-websocket-accept"); len(accept) != 1 || accept[0] != acceptKey(req.all("sec-websocket-key")[0]) {
			t.Errorf("Sec-WebSocket-Accept: %q", accept)
		}
		if !slices.Equal(resp.all("upgrade"), []string{"websocket"}) || !slices.Equal(resp.all("connection"), []string{"Upgrade"}) {
			t.Errorf("the response is %q", answer)
		}
		if controls.Match(answer) {
			t.Errorf("a control character in the response %q", answer)
		}
		if len(resp.body) > 0 || len(resp.all("content-length")) > 0 {
			t.Errorf("a 101 response with more behind it: %q", answer)
		}
		offers := lower(strings.Join(req.all("sec-websocket-extensions"), ","))
		if accepted := resp.all("sec-websocket-extensions"); len(accepted) > 1 ||
			len(accepted) == 1 && !(deflateAnswer.MatchString(accepted[0]) && strings.Contains(offers, "permessage-deflate")) ||
			len(accepted) == 0 && offers == "permessage-deflate" {
			t.Errorf("the extensions %q are answered with %q", offers, accepted)
		}
		var want []string
		for _, ours := range []string{"chat", "superchat"} { // the last is the best
			if slices.Contains(req.elements("sec-websocket-protocol"), ours) {
				want = []string{ours}
			}
		}
		if got := resp.all("sec-websocket-protocol"); !slices.Equal(got, want) {
			t.Errorf("the subprotocol is %q, want %q", got, want)
		}
	})
}
