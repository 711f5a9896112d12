package atrium

import (
	"cmp"
	"log/slog"
	"slices"
	"time"
)

// backlogInterval is the least time between two looks at all queues.
const backlogInterval = time.Second

// backlog keeps the queues of all clients of a hub together within Limits.TotalQueuedBytes. It adds
// them up at intervals, so that deliveries count nothing; and so seldom that this takes at most a
// hundredth of the time of one processor.
type backlog struct {
	hub   *Hub
	most  int // noBound: it never looks
	timer timer
}

func (b *backlog) init(h *Hub, most int) {
	b.hub, b.most = h, most
	b.timer.fire = func() { go b.look() }
}

// watch sets the timer. It is called when the first client connects.
func (b *backlog) watch() {
	if b.most < noBound {
		b.hub.sessions.clock.scheduleBefore(&b.timer, after(backlogInterval))
	}
}

// look disconnects the clients with the longest queues if all together are over the bound, and sets
// the timer again while there are clients.
func (b *backlog) look() {
	start := time.Now()
	list := b.hub.list()
	if len(list) == 0 {
		return
	}
	type queue struct {
		session *session
		cost    int
	}
	total, queues := 0, make([]queue, len(list))
	for i, s := range list {
		queues[i] = queue{s, s.transport().status().cost}
		total += queues[i].cost
	}
	if total > b.most {
		b.hub.log.warn("atrium: the queues of all clients are over Limits.TotalQueuedBytes", slog.Int("bytes", total), slog.Int("limit", b.most))
		slices.SortFunc(queues, func(x, y queue) int { return cmp.Compare(y.cost, x.cost) })
		for _, q := range queues {
			if total <= b.most-b.most/8 { // not just below it, or it would be the next client's turn at once
				break
			}
			if q.session.ended.Load() {
				continue // what is queued for it has Timeouts.Close to leave, and counts until then
			}
			q.session.endSlow()
			total -= q.cost
		}
	}
	b.hub.sessions.clock.scheduleBefore(&b.timer, after(max(backlogInterval, 100*time.Since(start))))
}
