package atrium

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// nodeStats are the figures of one node of a cluster.
type nodeStats struct {
	Node  string `json:"node"`
	Stats *Stats `json:"stats,omitempty"` // nil: it has not answered
	Self  bool   `json:"self,omitempty"`
}

func (h *Hub) nodeStats() nodeStats {
	stats := h.Stats()
	return nodeStats{Node: h.node, Stats: &stats}
}

// askNodes returns the figures of all nodes of the hub's cluster, this one first, and those at the
// end that have not answered.
func (h *Hub) askNodes(ctx context.Context) []nodeStats {
	self := h.nodeStats()
	self.Self = true
	if h.cluster == nil {
		return []nodeStats{self}
	}
	ctx, cancel := context.WithTimeout(ctx, clusterWait)
	defer cancel()
	values, err := h.cluster.ask("", &clusterMessage{kind: clusterStats}).wait(ctx)
	others := decodeAll[nodeStats](values)
	slices.SortFunc(others, func(a, b nodeStats) int { return strings.Compare(a.Node, b.Node) })
	if incomplete, ok := errors.AsType[*ClusterError](err); ok {
		for _, node := range incomplete.Missing {
			others = append(others, nodeStats{Node: node})
		}
	}
	for i := range others {
		others[i].Node = printable(others[i].Node, maxLogged)
	}
	return append([]nodeStats{self}, others...)
}
