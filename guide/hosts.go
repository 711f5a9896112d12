package guide

import (
	"net/http"
	"slices"
)

// [hosts]

// onlyFor serves requests whose Host header is one of these. Whoever comes by another name has been
// sent by a DNS server that is not yours.
func onlyFor(hub http.Handler, hosts ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(hosts, r.Host) {
			http.Error(w, "unknown host", http.StatusMisdirectedRequest)
			return
		}
		hub.ServeHTTP(w, r)
	})
}

// [end]
