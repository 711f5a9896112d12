package guide

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/atrium-go/atrium"
)

// A page whose name has been pointed at the server is of the same origin as the server, by what
// both say. The name tells.
func TestDNSRebinding(t *testing.T) {
	hub := atrium.New(atrium.Options{})
	defer hub.Shutdown(t.Context())
	guarded := onlyFor(hub, "chat.example.com", "localhost:8080")
	for _, test := range []struct {
		handler http.Handler
		host    string
		status  int
	}{
		{hub, "evil.example.net:8080", http.StatusOK},
		{guarded, "evil.example.net:8080", http.StatusMisdirectedRequest},
		{guarded, "localhost", http.StatusMisdirectedRequest},
		{guarded, "chat.example.com", http.StatusOK},
		{guarded, "localhost:8080", http.StatusOK},
	} {
		r := httptest.NewRequest(http.MethodGet, "/socket.io/?EIO=4&transport=polling", nil)
		r.Host = test.host
		r.Header.Set("Origin", "http://"+test.host)
		w := httptest.NewRecorder()
		test.handler.ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: %d, want %d", test.host, w.Code, test.status)
		}
	}
}
