package guide

import "net/http"

// [uncompressed]

// uncompressed serves clients for whom plain is true without compression, whatever they offer.
func uncompressed(hub http.Handler, plain func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if plain(r) {
			r.Header.Del("Sec-WebSocket-Extensions") // what a WebSocket offers
			r.Header.Del("Accept-Encoding")          // and a client that polls
		}
		hub.ServeHTTP(w, r)
	})
}

// [end]
