package atrium

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// askScript asks a ClientScript, and fails the test if it does not answer with the status.
func askScript(t *testing.T, method, target string, header http.Header, status int) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	r.Header = header
	w := httptest.NewRecorder()
	ClientScript().ServeHTTP(w, r)
	if w.Code != status {
		t.Fatalf("%s %s %v: status %d, want %d", method, target, header, w.Code, status)
	}
	return w.Result()
}

var takesGzip = http.Header{"Accept-Encoding": {"br, gzip, deflate"}}

func TestClientScriptForms(t *testing.T) {
	etags := make(map[string]string)
	for _, target := range []string{"/client.js", "/client.js?global"} {
		plain := askScript(t, "GET", target, http.Header{}, 200)
		script := body(t, plain.Body)
		gzipped := askScript(t, "GET", target, takesGzip, 200)
		packed := body(t, gzipped.Body)
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if unpacked := body(t, z); !bytes.Equal(unpacked, script) {
			t.Errorf("%s: gzipped it is another script:\n%s", target, unpacked)
		}
		if n := len(packed); n > 5<<10 {
			t.Errorf("%s: %d bytes, gzipped: want at most 5 KB", target, n)
		} else {
			t.Logf("%s: %d bytes, %d gzipped", target, len(script), n)
		}
		for want, response := range map[string]*http.Response{"": plain, "gzip": gzipped} {
			h := response.Header
			if got := h.Get("Content-Encoding"); got != want {
				t.Errorf("%s: Content-Encoding %q, want %q", target, got, want)
			}
			if other, taken := etags[h.Get("ETag")]; taken {
				t.Errorf("%s: ETag %s is that of %s", target, h.Get("ETag"), other)
			}
			etags[h.Get("ETag")] = target + " " + want
			for name, want := range map[string]string{
				"Content-Type":                "text/javascript; charset=utf-8",
				"X-Content-Type-Options":      "nosniff",
				"Cache-Control":               "no-cache",
				"Vary":                        "Accept-Encoding",
				"Access-Control-Allow-Origin": "*",
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %s: %q, want %q", target, name, got, want)
				}
			}
			if response.ContentLength <= 0 {
				t.Errorf("%s %s: no Content-Length", target, want)
			}

			unchanged := http.Header{"If-None-Match": {h.Get("ETag")}}
			if want == "gzip" {
				unchanged.Set("Accept-Encoding", "gzip")
			}
			same := askScript(t, "GET", target, unchanged, 304)
			if n := len(body(t, same.Body)); n != 0 {
				t.Errorf("%s: %d bytes with a 304", target, n)
			}
			if got := same.Header.Get("ETag"); got != h.Get("ETag") {
				t.Errorf("%s: a 304 has ETag %s, want %s", target, got, h.Get("ETag"))
			}
			unchanged.Set("If-None-Match", `"another"`)
			askScript(t, "GET", target, unchanged, 200)
		}
	}
}

func TestClientScriptMethods(t *testing.T) {
	got := askScript(t, "GET", "/client.js", http.Header{}, 200)
	head := askScript(t, "HEAD", "/client.js", http.Header{}, 200)
	if n := len(body(t, head.Body)); n != 0 {
		t.Errorf("HEAD brings %d bytes", n)
	}
	if diff := cmp.Diff(got.Header, head.Header); diff != "" {
		t.Errorf("headers of GET and HEAD (-GET +HEAD):\n%s", diff)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		refused := askScript(t, method, "/client.js", http.Header{}, 405)
		if allow := refused.Header.Get("Allow"); allow != "GET, HEAD" {
			t.Errorf("%s: Allow: %q", method, allow)
		}
	}
}

// TestClientScriptComments: what is taken for a comment is one, and all else is still there.
func TestClientScriptComments(t *testing.T) {
	served := strings.Split(string(withoutComments(clientSource)), "\n")
	for line := range strings.Lines(string(clientSource)) {
		line = strings.TrimRight(line, "\n")
		code, _, _ := strings.Cut(line, "// ")
		if code = strings.TrimSpace(code); code == "" || code == "//" {
			continue
		}
		for _, quote := range "'\"`" {
			if strings.Count(code, string(quote))%2 != 0 {
				t.Errorf("%q: what is cut off is within %c", line, quote)
			}
		}
		if served[0] != code {
			t.Fatalf("served is %q, want %q", served[0], code)
		}
		served = served[1:]
	}
	if len(served) != 1 || served[0] != "" {
		t.Errorf("served at the end: %q", served)
	}
}

// TestClientScriptNames: what is shortened are names of private members and nothing else, and they
// stay different.
func TestClientScriptNames(t *testing.T) {
	long := string(withoutComments(clientSource))
	names := make(map[string]bool)
	for _, name := range jsPrivate.FindAllString(long, -1) {
		names[name] = true
		if !strings.Contains(long, "\n"+name) && !strings.Contains(long, "\nasync "+name) && !strings.Contains(long, "\nget "+name) {
			t.Errorf("%s is not declared", name)
		}
	}
	short := string(withShortNames([]byte(long)))
	back := make(map[string]bool)
	for _, name := range jsPrivate.FindAllString(short, -1) {
		back[name] = true
	}
	if len(back) != len(names) || len(names) < 30 {
		t.Errorf("%d names became %d", len(names), len(back))
	}
	if strings.Count(long, "#") != len(jsPrivate.FindAllString(long, -1)) {
		t.Error("a # is none of a name")
	}
	if diff := cmp.Diff(jsPrivate.ReplaceAllString(long, "#"), jsPrivate.ReplaceAllString(short, "#")); diff != "" {
		t.Errorf("what else has changed: %s", diff)
	}
}

// TestClientScriptGlobal: a plain script may not have export in it.
func TestClientScriptGlobal(t *testing.T) {
	module := string(body(t, askScript(t, "GET", "/client.js", http.Header{}, 200).Body))
	if !strings.HasSuffix(module, "\nexport { connect };\n") || strings.Count(module, "export") != 1 {
		t.Error("the module does not end in its one export, which asGlobal replaces")
	}
	global := string(body(t, askScript(t, "GET", "/client.js?global", http.Header{}, 200).Body))
	if !strings.HasSuffix(global, "\nglobalThis.atrium = { connect };\n})();\n") || strings.Contains(global, "export") {
		t.Errorf("the plain script ends in %q", global[len(global)-80:])
	}
}
