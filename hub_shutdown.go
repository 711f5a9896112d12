package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Shutdown ends the hub: new clients are refused with 503, each client gets what is queued for it
// and then a close frame with status 1001, and Shutdown waits until all handlers, OnDisconnect too,
// have returned. If ctx ends first it closes the connections that are left and returns an error.
//
// A client has as long as ctx lasts, if it goes on reading: one whose network takes nothing for 5
// seconds is cut, and so is a Socket.IO client that polls and sends no request for 5 seconds.
// Shutdown's error counts those that have missed something. nil means that all that was emitted
// before has left this process, except for clients that have disconnected by themselves.
//
// With a Bus, what is queued for the other nodes is sent, and they are told. That is tried for a
// second also if ctx has ended, and for no longer than two seconds while the Bus fails; what was
// not sent is an error. When Shutdown has returned nil, the Bus's client may be closed.
//
// A handler that does not return is waited for: every 5 seconds the log names the handlers that
// still run, and so does the error. A handler that calls Shutdown waits for itself: it must call it
// in another goroutine.
//
// Call Shutdown before http.Server.Shutdown, which does not know of these connections. Calling it
// again waits again.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.live.closing {
		h.live.closing = true
		if len(h.live.clients) == 0 {
			close(h.live.empty)
		}
	}
	h.mu.Unlock()
	for _, s := range h.list() {
		s.end(ReasonShutdown, StatusGoingAway, string(ReasonShutdown))
	}
	h.awaitEmpty(ctx)
	var lost error
	if h.cluster != nil {
		lost = h.cluster.close(ctx) // also if ctx has ended, or the others would wait 5 seconds for its answers
	}
	left := h.list()
	for _, s := range left {
		s.closeNow()
	}
	return errors.Join(h.leftError(ctx, len(left)), lost)
}

// awaitEmpty waits until no session is left, or ctx ends. Meanwhile it logs the handlers that it
// waits for.
func (h *Hub) awaitEmpty(ctx context.Context) {
	patience := time.NewTicker(handlerPatience)
	defer patience.Stop()
	for {
		select {
		case <-h.live.empty:
			return
		case <-ctx.Done():
			return
		case <-patience.C:
			if running := h.runningHandlers(); len(running) > 0 {
				h.log.warn("atrium: Shutdown waits for handlers", slog.String("handlers", describeHandlers(running)))
			}
		}
	}
}

// leftError returns how many clients a Shutdown has left behind, and how many have missed
// something; nil if none.
func (h *Hub) leftError(ctx context.Context, left int) error {
	h.mu.Lock()
	missed := h.live.missed
	h.mu.Unlock()
	var errs []error
	if left > 0 {
		err := fmt.Errorf("atrium: shutdown with %d clients left: %w", left, ctx.Err())
		if running := h.runningHandlers(); len(running) > 0 {
			err = fmt.Errorf("%w; handlers that have not returned: %s", err, describeHandlers(running))
		}
		errs = append(errs, err)
	}
	if missed > 0 {
		errs = append(errs, fmt.Errorf("atrium: shutdown with %d clients that did not take all that was queued for them", missed))
	}
	return errors.Join(errs...)
}

const (
	// handlerPatience is how long Shutdown waits for handlers before the log names them, and again
	// each time.
	handlerPatience = 5 * time.Second
	// maxNamed bounds the handlers that are named.
	maxNamed = 10
)

// runningHandler is a function of the application that has not returned yet.
type runningHandler struct {
	id    string   // of its socket
	in    incoming // see queue.current
	since int64    // nanotime
}

// runningHandlers lists the handlers that run at the moment, the longest first.
func (h *Hub) runningHandlers() []runningHandler {
	var running []runningHandler
	for _, s := range h.list() {
		s.handling(func(socket *Socket, in incoming, since int64) {
			socket.mu.Lock() // a client that comes back gives the socket its id
			defer socket.mu.Unlock()
			running = append(running, runningHandler{socket.id, in, since})
		})
	}
	slices.SortFunc(running, func(a, b runningHandler) int { return cmp.Compare(a.since, b.since) })
	return running
}

func (r runningHandler) String() string {
	what := "OnDisconnect"
	switch r.in.kind {
	case incomingConnect:
		what = "Use or OnConnect"
	case incomingEvent, incomingProblem:
		what = fmt.Sprintf("event %.100q", r.in.name)
	}
	since := time.Duration(nanotime() - r.since)
	return fmt.Sprintf("%s of socket %s, for %v", what, r.id, since.Round(time.Millisecond))
}

// describeHandlers returns the first of a list, as text.
func describeHandlers(running []runningHandler) string {
	var names []string
	for _, r := range running[:min(len(running), maxNamed)] {
		names = append(names, r.String())
	}
	if more := len(running) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, "; ")
}
