package promatrium_test

import (
	"net/http"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/promatrium"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func ExampleNew() {
	h := atrium.New(atrium.Options{})
	prometheus.MustRegister(promatrium.New(h))

	http.Handle("/socket.io/", h)
	http.Handle("/metrics", promhttp.Handler())
}
