package guide

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
)

// What the first table of GUIDE.md quotes is what the hub answers.
func TestRefusals(t *testing.T) {
	guide, err := os.ReadFile("../GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| ([0-9, ]+) \| (.+?) \|`)
	quoted := regexp.MustCompile("`([^`]+)`")
	var expected, seen []string
	for _, match := range row.FindAllStringSubmatch(string(guide), -1) {
		for _, quote := range quoted.FindAllStringSubmatch(match[2], -1) {
			expected = append(expected, match[1]+": "+quote[1])
		}
	}
	if len(expected) < 10 {
		t.Fatalf("the table was not found: %q", expected)
	}

	hub := atrium.New(atrium.Options{})
	ended := atrium.New(atrium.Options{})
	if err := ended.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	refusing := atrium.New(atrium.Options{Accept: func(*http.Request) (context.Context, error) { return nil, errors.New("no") }})
	full := atrium.New(atrium.Options{Limits: atrium.Limits{Connections: 1}})
	crowded := atrium.New(atrium.Options{Limits: atrium.Limits{ConnectionsPerClient: 1}})
	mux := http.NewServeMux()
	for path, h := range map[string]http.Handler{"/ws": hub, "/ended": ended, "/refusing": refusing, "/full": full, "/crowded": crowded} {
		mux.Handle(path, h)
	}
	mux.HandleFunc("/wrapped", func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(struct{ http.ResponseWriter }{w}, r) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	for _, path := range []string{"/full", "/crowded"} {
		c, _, err := atrium.Dial(t.Context(), "ws"+strings.TrimPrefix(srv.URL, "http")+path, atrium.DialOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
	}

	for _, request := range []struct {
		path   string
		header http.Header
	}{
		{"/ws", http.Header{"Origin": {"https://other.example"}}},
		{"/refusing", nil},
		{"/nothing", nil},
		{"/ws?EIO=4&transport=polling&sid=lost", nil},
		{"/ws?EIO=3&transport=polling", nil},
		{"/ws", http.Header{"Upgrade": nil}},
		{"/wrapped", nil},
		{"/ended", nil},
		{"/full", nil},
		{"/crowded", nil},
		{"/ws", http.Header{"Cookie": {strings.Repeat("x", 64<<10)}}},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+request.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{
			"Connection":            {"Upgrade"},
			"Upgrade":               {"websocket"},
			"Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key":     {"dGhlIHNhbXBsZSBub25jZQ=="},
		}
		for name, values := range request.header {
			r.Header[name] = values
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		status, body := read(t, resp)
		found := false
		for _, e := range expected {
			statuses, quote, _ := strings.Cut(e, ": ")
			if strings.Contains(statuses, fmt.Sprint(status)) && matches(quote, body) {
				found = true
				seen = append(seen, e)
			}
		}
		if !found {
			t.Errorf("GUIDE.md does not have %d %s, of %s %v", status, body, request.path, request.header)
		}
	}
	for _, e := range expected {
		if !strings.Contains(strings.Join(seen, "\n"), e) {
			t.Errorf("GUIDE.md has %q, and no answer is so", e)
		}
	}
}

// matches reports whether the text has the quote in it, of which … may be anything.
func matches(quote, text string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(quote), "…", ".*")
	return regexp.MustCompile(pattern).MatchString(text)
}
