package atrium_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/atrium-go/atrium"
)

// The page about a hub, for whoever the application lets see it.
func ExampleInspect() {
	h := atrium.New(atrium.Options{})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/debug/atrium/", atrium.Inspect(h, &atrium.InspectOptions{
		Allow: func(r *http.Request) bool {
			name, password, _ := r.BasicAuth()
			return name == "ops" && password == "of the vault"
		},
	}))

	for _, password := range []string{"guessed", "of the vault"} {
		r := httptest.NewRequest("GET", "/debug/atrium/", nil)
		r.SetBasicAuth("ops", password)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Println(w.Code)
	}
	// Output:
	// 403
	// 200
}
