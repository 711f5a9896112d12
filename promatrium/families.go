package promatrium

import (
	"strings"

	"github.com/atrium-go/atrium"
	"github.com/prometheus/client_golang/prometheus"
)

// family is a metric with all its labels.
type family struct {
	desc    *prometheus.Desc
	collect func(s snapshot, send func(prometheus.Metric))
}

var families = []family{
	gauge("start_time_seconds", "When the hub was made, since the epoch.",
		func(s snapshot) float64 { return float64(s.Start.UnixNano()) / 1e9 }),
	gauge("ready", "1 if the hub works in full, 0 if it shuts down or its Bus fails.",
		func(s snapshot) float64 {
			if s.ready {
				return 1
			}
			return 0
		}),

	gauges("clients", "Clients that are connected.", clients, "protocol", "transport"),
	gauge("clients_pending", "Connections of clients that are not accepted yet.", func(s snapshot) float64 { return float64(s.Clients.Pending) }),
	counter("clients_opened_total", "Connections of clients that have begun.", func(s snapshot) uint64 { return s.Clients.Opened }),
	counter("clients_upgraded_total", "Clients that went from polling to a WebSocket.", func(s snapshot) uint64 { return s.Clients.Upgraded }),
	counter("clients_slow_total", "Clients that were disconnected because they did not read.", func(s snapshot) uint64 { return s.Clients.Slow }),
	counter("clients_silent_total", "Clients that were disconnected because nothing came from them.", func(s snapshot) uint64 { return s.Clients.Silent }),
	counters("refused_total", "Handshakes that were refused; for the reason use, sockets.", refusals, "reason"),

	gauges("sockets", "Sockets; those of the namespaces of OfFunc together as *.",
		func(s snapshot) samples {
			return perNamespace(s, func(n atrium.NamespaceStats) int { return n.Sockets })
		}, "namespace"),
	gauges("rooms", "Rooms with members; those of the namespaces of OfFunc together as *.",
		func(s snapshot) samples { return perNamespace(s, func(n atrium.NamespaceStats) int { return n.Rooms }) }, "namespace"),
	counters("disconnects_total", "Sockets that have left.", disconnects, "reason"),

	counter("received_events_total", "Events from clients.", func(s snapshot) uint64 { return s.Received.Events }),
	counter("received_messages_total", "WebSocket messages and polling packets from clients, without heartbeats.", func(s snapshot) uint64 { return s.Received.Messages }),
	counter("received_bytes_total", "Bytes from clients, with frame headers, before TLS.", func(s snapshot) uint64 { return s.Received.Bytes }),
	counter("sent_events_total", "Events to clients.", func(s snapshot) uint64 { return s.Sent.Events }),
	counter("sent_messages_total", "WebSocket messages and polling packets to clients, without heartbeats.", func(s snapshot) uint64 { return s.Sent.Messages }),
	counter("sent_bytes_total", "Bytes to clients, with frame headers, before TLS.", func(s snapshot) uint64 { return s.Sent.Bytes }),
	counter("deliveries_total", "Events queued for a client: one emit to a room of ten is ten.", func(s snapshot) uint64 { return s.Deliveries }),
	counter("dropped_events_total", "Volatile events that were not queued for a client.", func(s snapshot) uint64 { return s.Dropped }),

	histogram("handler_duration_seconds", "From the call of a handler to its return.", func(s snapshot) atrium.Histogram { return s.Handlers.Duration }),
	histogram("handler_wait_seconds", "From the receipt of an event to the call of its handler.", func(s snapshot) atrium.Histogram { return s.Handlers.Wait }),
	counter("handler_errors_total", "Errors that handlers have returned.", func(s snapshot) uint64 { return s.Handlers.Errors }),
	counter("handler_panics_total", "Panics of the application's functions.", func(s snapshot) uint64 { return s.Handlers.Panics }),
	gauge("calls_pending", "Calls to clients that wait for the answer.", func(s snapshot) float64 { return float64(s.Calls.Pending) }),
	counters("calls_total", "Calls to clients that have ended.", func(s snapshot) samples {
		return samples{{"answered"}: float64(s.Calls.Answered), {"timed_out"}: float64(s.Calls.TimedOut)}
	}, "result"),

	gauge("outbox_bytes", "Bytes queued for clients.", func(s snapshot) float64 { return float64(s.Outboxes.Bytes) }),
	gauge("outbox_largest_bytes", "Bytes queued for the client for which most are.", func(s snapshot) float64 { return float64(s.Outboxes.Largest) }),
	gauge("inbox_bytes", "Bytes of events that wait for their handlers.", func(s snapshot) float64 { return float64(s.Inboxes.Bytes) }),
	gauge("inbox_largest_bytes", "Bytes that wait of the client of which most do.", func(s snapshot) float64 { return float64(s.Inboxes.Largest) }),

	gauge("recovery_away", "Clients that are away and may come back.", func(s snapshot) float64 { return float64(s.Recovery.Away) }),
	counter("recovery_attempts_total", "Clients that wanted to come back to their socket.", func(s snapshot) uint64 { return s.Recovery.Tried }),
	counters("recoveries_total", "What came of the clients that wanted to come back.", func(s snapshot) samples {
		return samples{{"recovered"}: float64(s.Recovery.Recovered), {"anew"}: float64(s.Recovery.Anew)}
	}, "result"),

	gauge("cluster_failing_seconds", "For how long the Bus has not worked; 0 while it does.", func(s snapshot) float64 { return s.Cluster.Failing.Seconds() }),
	gauge("cluster_nodes", "Other nodes of the cluster.", func(s snapshot) float64 { return float64(s.Cluster.Nodes) }),
	gauge("cluster_topics", "Topics of the Bus that are subscribed to.", func(s snapshot) float64 { return float64(s.Cluster.Topics) }),
	counter("cluster_published_total", "Messages that the Bus has taken.", func(s snapshot) uint64 { return s.Cluster.Published }),
	counter("cluster_failed_total", "Calls of the Bus that have failed.", func(s snapshot) uint64 { return s.Cluster.Failed }),
	counter("cluster_dropped_total", "Messages to other nodes that were dropped because a queue was full.", func(s snapshot) uint64 { return s.Cluster.Dropped }),
	counter("cluster_received_total", "Messages of other nodes.", func(s snapshot) uint64 { return s.Cluster.Received }),
	counter("cluster_malformed_total", "Messages of the Bus that are none of a node, or of another version.", func(s snapshot) uint64 { return s.Cluster.Malformed }),
	counter("cluster_repeated_total", "Messages that the Bus had brought before.", func(s snapshot) uint64 { return s.Cluster.Repeated }),
}

func gauge(name, help string, value func(snapshot) float64) family {
	return labeled(name, help, prometheus.GaugeValue, func(s snapshot) samples { return samples{{}: value(s)} })
}

func counter(name, help string, value func(snapshot) uint64) family {
	return labeled(name, help, prometheus.CounterValue, func(s snapshot) samples { return samples{{}: float64(value(s))} })
}

func gauges(name, help string, values func(snapshot) samples, labels ...string) family {
	return labeled(name, help, prometheus.GaugeValue, values, labels...)
}

func counters(name, help string, values func(snapshot) samples, labels ...string) family {
	return labeled(name, help, prometheus.CounterValue, values, labels...)
}

// samples are values by those of their labels, of which there are at most two.
type samples map[[2]string]float64

func labeled(name, help string, kind prometheus.ValueType, values func(snapshot) samples, labels ...string) family {
	desc := newDesc(name, help, labels...)
	return family{desc, func(s snapshot, send func(prometheus.Metric)) {
		for of, value := range values(s) {
			send(prometheus.MustNewConstMetric(desc, kind, value, of[:len(labels)]...))
		}
	}}
}

func histogram(name, help string, value func(snapshot) atrium.Histogram) family {
	desc := newDesc(name, help)
	return family{desc, func(s snapshot, send func(prometheus.Metric)) {
		h := value(s)
		buckets, count := make(map[float64]uint64), uint64(0)
		for i, n := range h.Counts {
			count += n
			if i < len(atrium.HistogramBounds) {
				buckets[atrium.HistogramBounds[i].Seconds()] = count
			}
		}
		send(prometheus.MustNewConstHistogram(desc, count, h.Sum.Seconds(), buckets))
	}}
}

func newDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("atrium_"+name, help, labels, nil)
}

// clients are those that are connected by protocol and transport, of which Stats has the sums.
func clients(s snapshot) samples {
	c := s.Clients
	return samples{
		{"plain", "websocket"}:    float64(c.Plain),
		{"socketio", "websocket"}: float64(max(c.SocketIO-c.Polling, 0)), // they are not counted in the same moment
		{"socketio", "polling"}:   float64(c.Polling),
	}
}

func refusals(s snapshot) samples {
	r := s.Refused
	return samples{
		{"origin"}:        float64(r.Origin),
		{"accept"}:        float64(r.Accept),
		{"use"}:           float64(r.Use),
		{"full"}:          float64(r.Full),
		{"per_client"}:    float64(r.PerClient),
		{"malformed"}:     float64(r.Malformed),
		{"unknown"}:       float64(r.Unknown),
		{"shutting_down"}: float64(r.ShuttingDown),
	}
}

// reasons are those for which a socket can leave: each has a series from the start, or the first
// disconnect would not show in its rate.
var reasons = []atrium.Reason{
	atrium.ReasonServerDisconnect, atrium.ReasonClientDisconnect, atrium.ReasonPingTimeout, atrium.ReasonTransportClose,
	atrium.ReasonTransportError, atrium.ReasonMessageTooBig, atrium.ReasonParseError, atrium.ReasonShutdown,
	atrium.ReasonForcedServerClose, atrium.ReasonSlowConsumer,
}

func disconnects(s snapshot) samples {
	values := make(samples)
	for _, reason := range reasons {
		values[[2]string{string(reason)}] = 0
	}
	for reason, n := range s.Disconnects {
		values[[2]string{string(reason)}] = float64(n)
	}
	return values
}

// perNamespace makes labels of the names, which may be any bytes: those that differ only in what is
// no UTF-8 share a series.
func perNamespace(s snapshot, figure func(atrium.NamespaceStats) int) samples {
	values := make(samples)
	for name, n := range s.Namespaces {
		values[[2]string{strings.ToValidUTF8(name, "\uFFFD")}] += float64(figure(n))
	}
	return values
}
