// Package promatrium exports the figures of a hub to Prometheus:
//
//	h := atrium.New(atrium.Options{})
//	prometheus.MustRegister(promatrium.New(h))
//
//	http.Handle("/socket.io/", h)
//	http.Handle("/metrics", promhttp.Handler())
//
// The module's README.md lists the metrics. dashboard.json is a dashboard for Grafana, alerts.yml
// has the rules of four alerts.
package promatrium

import (
	"github.com/atrium-go/atrium"
	"github.com/prometheus/client_golang/prometheus"
)

// New returns a collector of the figures of one hub, which it takes from Hub.Stats and Hub.Ready at
// each scrape. How many series it exports depends on the namespaces that Stats names, and on
// nothing that a client does: no room, user, socket or event is a label.
//
// For several hubs in one process, give each a label of its own:
//
//	labels := prometheus.Labels{"hub": "chat"}
//	prometheus.WrapRegistererWith(labels, registry).MustRegister(promatrium.New(chat))
func New(h *atrium.Hub) prometheus.Collector {
	return collector{func() snapshot { return snapshot{h.Stats(), h.Ready() == nil} }}
}

// snapshot is what one scrape exports.
type snapshot struct {
	atrium.Stats
	ready bool
}

// collector exports the families of the snapshots that take returns.
type collector struct{ take func() snapshot }

func (c collector) Describe(descs chan<- *prometheus.Desc) {
	for _, f := range families {
		descs <- f.desc
	}
}

func (c collector) Collect(metrics chan<- prometheus.Metric) {
	s := c.take()
	for _, f := range families {
		f.collect(s, func(m prometheus.Metric) { metrics <- m })
	}
}
