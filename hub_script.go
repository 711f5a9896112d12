package atrium

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/net/http/httpguts"
)

// clientSource is the client for browsers. client.d.ts documents and types it.
//
//go:embed client.js
var clientSource []byte

// ClientScript returns a handler that serves client.js, Atrium's client for browsers: a connection
// to this or any other Socket.IO server that reconnects by itself, in less than 5 KB (gzipped),
// without npm or a bundler.
//
//	mux.Handle("/socket.io/", hub)
//	mux.Handle("/client.js", atrium.ClientScript())
//
// It is an ES module:
//
//	<script type="module">
//		import { connect } from '/client.js'
//		const socket = connect('/socket.io/', { auth: { token } })
//		socket.on('msg', (text) => …)
//		const receipt = await socket.call('send-msg', { room: 'lobby', text: 'hi' })
//	</script>
//
// With the query ?global the handler serves a plain script instead, with the function
// atrium.connect:
//
//	<script src="/client.js?global"></script>
//
// The file client.d.ts in this directory documents it.
//
// Browsers cache the script and revalidate it each time. Pages of any origin may load it. Of a
// Content-Security-Policy it needs script-src and connect-src, and it works with Trusted Types.
func ClientScript() http.Handler {
	source := withShortNames(withoutComments(clientSource))
	module, global := newServedScript(source), newServedScript(asGlobal(source))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "client.js: expected GET or HEAD", http.StatusMethodNotAllowed)
			return
		}
		if r.URL.Query().Has("global") {
			global.serve(w, r)
		} else {
			module.serve(w, r)
		}
	})
}

// jsComment matches a comment to the end of its line, with the space before it. client.js has "// "
// nowhere else.
var jsComment = regexp.MustCompile(`(?m)(^|[ \t]+)//( .*)?$`)

// jsIndentation matches the space before a line, and empty lines. client.js has no strings of
// several lines.
var jsIndentation = regexp.MustCompile(`(?m)^\s+`)

// withoutComments removes comments and indentation.
func withoutComments(source []byte) []byte {
	return jsIndentation.ReplaceAll(jsComment.ReplaceAll(source, nil), nil)
}

// jsPrivate matches the name of a private member. client.js has no # anywhere else.
var jsPrivate = regexp.MustCompile(`#\w+`)

// withShortNames renames private members, which only the class can name, to a letter each. There
// are fewer than letters.
func withShortNames(source []byte) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	short := make(map[string][]byte)
	return jsPrivate.ReplaceAllFunc(source, func(name []byte) []byte {
		if short[string(name)] == nil {
			short[string(name)] = []byte{'#', letters[len(short)]}
		}
		return short[string(name)]
	})
}

// asGlobal makes a plain script of the module: its one export becomes a member of a global object,
// and everything else is local. Classes are strict code in a plain script, too.
func asGlobal(module []byte) []byte {
	script := bytes.Replace(module, []byte("export {"), []byte("globalThis.atrium = {"), 1)
	return append(append([]byte("(() => {\n"), script...), "})();\n"...)
}

// servedScript is a script in its two encodings.
type servedScript struct{ plain, gzipped encodedScript }

// encodedScript is a script in one encoding. Each has its own ETag (RFC 9110 §8.8.3.3).
type encodedScript struct {
	body []byte
	etag string
}

func newServedScript(source []byte) *servedScript {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails for unknown levels only
	_, _ = z.Write(source)                                // a bytes.Buffer takes everything
	_ = z.Close()
	return &servedScript{newEncodedScript(source), newEncodedScript(b.Bytes())}
}

func newEncodedScript(body []byte) encodedScript {
	sum := sha256.Sum256(body)
	return encodedScript{body, strconv.Quote(base64.RawURLEncoding.EncodeToString(sum[:12]))}
}

func (s *servedScript) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	form := s.plain
	if httpguts.HeaderValuesContainsToken(r.Header["Accept-Encoding"], "gzip") {
		form = s.gzipped
		header.Set("Content-Encoding", "gzip")
		header.Set("Content-Length", strconv.Itoa(len(form.body))) // ServeContent leaves it out of what is encoded
	}
	header.Set("Content-Type", "text/javascript; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Access-Control-Allow-Origin", "*") // modules are fetched with CORS
	header.Set("Cache-Control", "no-cache")        // cached, and revalidated
	header.Set("ETag", form.etag)
	header.Add("Vary", "Accept-Encoding")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(form.body))
}
