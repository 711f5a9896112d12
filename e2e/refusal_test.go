package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// What GUIDE.md says of a connection that does not come about is what a browser shows. A page
// learns close code 1006 and nothing else; the console has the status.
func TestRefusals(t *testing.T) {
	t.Parallel()
	hub := atrium.New(atrium.Options{})
	refusing := atrium.New(atrium.Options{Accept: func(*http.Request) (context.Context, error) {
		return nil, &atrium.Error{Message: "who are you?", Status: http.StatusUnauthorized}
	}})
	full := atrium.New(atrium.Options{Limits: atrium.Limits{Connections: 1}})
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "a page") })
	mux.Handle("/ws", hub)
	mux.Handle("/accept", refusing)
	mux.Handle("/full", full)
	mux.HandleFunc("/wrapped", func(w http.ResponseWriter, r *http.Request) { hub.ServeHTTP(struct{ http.ResponseWriter }{w}, r) })
	mux.HandleFunc("/proxy", func(w http.ResponseWriter, r *http.Request) { r.Header.Del("Upgrade"); hub.ServeHTTP(w, r) })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	first, _, err := atrium.Dial(t.Context(), "ws://"+host+"/full", atrium.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.CloseNow()

	p := open(t, srv.URL+"/")
	p.tolerate = []string{"WebSocket connection to", "request to another host", "favicon", "CORS policy", "net::ERR_FAILED"}
	other := strings.Replace(host, "127.0.0.1", "localhost", 1)
	const response = "Error during WebSocket handshake: Unexpected response code: "
	for _, test := range []struct{ address, console string }{
		{other + "/ws", response + "403"},
		{host + "/nothing", response + "404"},
		{host + "/wrapped", response + "501"},
		{host + "/proxy", response + "426"},
		{host + "/full", response + "503"},
		{host + "/ws?EIO=4&transport=websocket&sid=lost", response + "400"},
		{host + "/accept", "HTTP Authentication failed; no valid credentials available"},
	} {
		if code := read[int](p, fmt.Sprintf(`new Promise((done) => { new WebSocket(%s).onclose = (event) => done(event.code) })`, js("ws://"+test.address))); code != 1006 {
			t.Errorf("%s: the page sees code %d", test.address, code)
		}
		p.wants("WebSocket connection to 'ws://" + test.address + "' failed: " + test.console)
	}
	read[int](p, fmt.Sprintf(`new Promise((done) => { new WebSocket(%s, ['bearer', 'token']).onclose = (event) => done(event.code) })`, js("ws://"+host+"/ws")))
	p.wants("Sent non-empty 'Sec-WebSocket-Protocol' header but no response was received")
	// A Socket.IO client that polls is refused in another way: by the browser, which may not show
	// it the answer.
	polling := "http://" + other + "/ws?EIO=4&transport=polling"
	if refused := read[bool](p, fmt.Sprintf(`fetch(%s).then(() => false, () => true)`, js(polling))); !refused {
		t.Error("a page of another origin has read the answer")
	}
	p.wants("'" + polling + "' from origin '" + srv.URL + "' has been blocked by CORS policy")
}

// wants waits until the console has the text.
func (p *tab) wants(text string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; read[bool](p, "true") { // what the browser tells comes in between
		p.mu.Lock()
		found := slices.ContainsFunc(p.wrongs, func(wrong string) bool { return strings.Contains(wrong, text) })
		wrongs := slices.Clone(p.wrongs)
		p.mu.Unlock()
		if found {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the console has no %q, but:\n%s", text, strings.Join(wrongs, "\n"))
		}
	}
}
