package guide

import (
	"net/http"
	"net/http/pprof"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/promatrium"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// [operations]

// operations is for those who run the server: let it listen where nobody else comes, such as
// localhost:6060.
func operations(h *atrium.Hub) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(promatrium.New(h), collectors.NewGoCollector())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/debug/atrium/", atrium.Inspect(h, nil)) // a live page
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	return mux
}

// [end]
