package atrium_test

import (
	"context"
	"expvar"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/atrium-go/atrium"
)

// The figures of a hub at /debug/vars, as JSON. For Prometheus there is the module promatrium.
func ExampleHub_Stats() {
	h := atrium.New(atrium.Options{})
	expvar.Publish("atrium", expvar.Func(func() any { return h.Stats() }))

	w := httptest.NewRecorder()
	expvar.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/debug/vars", nil))
	fmt.Println(h.Stats().Clients.WebSocket, w.Code)
	// Output: 0 200
}

// What Kubernetes asks before it sends clients to a pod: a readinessProbe with httpGet. A
// livenessProbe should ask for something else, because a hub that is not ready serves its clients.
func ExampleHub_Ready() {
	h := atrium.New(atrium.Options{})
	http.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})

	ask := func() {
		w := httptest.NewRecorder()
		http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest("GET", "/ready", nil))
		fmt.Printf("%d %q\n", w.Code, w.Body)
	}
	ask()
	_ = h.Shutdown(context.Background())
	ask()
	// Output:
	// 200 ""
	// 503 "atrium: shutting down: atrium: closed\n"
}
