package atrium

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"
)

const (
	// turnShare and endShare are parts of the time that a Shutdown has: within the first, all
	// clients are let go; at the end of the second, those whose handlers still run are ended.
	turnShare = 0.6
	endShare  = 0.8
	// turnGrain is the least time between two turns. With shorter intervals several clients go in
	// one turn.
	turnGrain = time.Millisecond
	// handlerPatience is how long Shutdown waits for handlers before the log names them, and again
	// each time.
	handlerPatience = 5 * time.Second
)

// drain lets the clients go, one after another, and returns when none is left or ctx ends.
func (h *Hub) drain(ctx context.Context) {
	began := time.Now()
	deadline, limited := ctx.Deadline()
	share := func(part float64) time.Duration { return time.Duration(part * float64(deadline.Sub(began))) }
	var end <-chan time.Time
	if limited {
		end = time.After(share(endShare))
	}
	patience := time.NewTicker(handlerPatience)
	defer patience.Stop()
	waiting := h.idleFirst()
	turn := time.NewTimer(0)
	defer turn.Stop()
	for {
		select {
		case <-h.live.empty:
			return
		case <-ctx.Done():
			return
		case <-turn.C:
			interval := time.Second / time.Duration(h.options.DrainRate)
			if limited {
				interval = min(interval, (share(turnShare)-time.Since(began))/time.Duration(max(len(waiting), 1)))
			}
			n, pause := perTurn(interval, len(waiting))
			if waiting = letGo(waiting, n); len(waiting) > 0 {
				turn.Reset(pause)
			}
		case <-end:
			for _, s := range h.list() {
				s.endShutdown()
			}
		case <-patience.C:
			if running := h.runningHandlers(); len(running) > 0 {
				h.log.warn("atrium: Shutdown waits for handlers", slog.Int("count", len(running)), slog.String("handlers", printable(describeHandlers(running), maxLoggedError)))
			}
		}
	}
}

// idleFirst returns the clients in the order in which they are to go: those that nothing is done
// for come first, and otherwise it is random, so that those of one user do not go together.
func (h *Hub) idleFirst() []*session {
	var idle, busy []*session
	list := h.list()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	for _, s := range list {
		if s.busy() || s.transport().status().bytes > 0 {
			busy = append(busy, s)
		} else {
			idle = append(idle, s)
		}
	}
	return append(idle, busy...)
}

// letGo lets up to n of the clients go that have not gone by themselves, and returns the others.
func letGo(waiting []*session, n int) []*session {
	for ; n > 0 && len(waiting) > 0; waiting = waiting[1:] {
		if s := waiting[0]; !s.ended.Load() {
			s.letGo()
			n--
		}
	}
	return waiting
}

// perTurn returns how many of the clients go in one turn, and the time until the next, so that
// there is the interval between two clients on average.
func perTurn(interval time.Duration, clients int) (n int, pause time.Duration) {
	switch {
	case interval >= turnGrain:
		return 1, interval
	case interval <= 0:
		return clients, 0
	}
	n = int((turnGrain + interval - 1) / interval)
	return n, time.Duration(n) * interval
}
