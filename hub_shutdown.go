package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Shutdown ends the hub, in a way that its clients do not notice if another process takes them in:
// they are disconnected one after another, Options.DrainRate a second, each when its events are
// answered, and told to come back.
//
// From the first moment new clients are refused with 503 and Retry-After. Those that are connected
// go on as before until it is their turn: first the idle ones, then those with handlers that run or
// with something queued. From then on nothing is read from the client but answers to Calls; when
// what it had sent is handled and acknowledged, by Event.Later too, it gets all that is queued for
// it and then the end: a close frame with status 1012, "service restart", or in a poll the close
// packet of Engine.IO. Socket.IO's clients call that "transport close" and connect again by
// themselves; a Client and client.js do so at once. Shutdown waits until all have gone and all
// handlers, OnDisconnect too, have returned.
//
// All begin to go within 60 % of the time that ctx has, even if that takes more than DrainRate; at
// 80 % of it Shutdown ends those whose handlers still run, the rest is for what is queued, and when
// ctx ends the connections that are left are cut, which is an error. Without a deadline nothing is
// ended early. A client has that long if it goes on reading: one whose network takes nothing for 5
// seconds is cut, and so is a Socket.IO client that polls and sends no request for 5 seconds.
// Shutdown's error counts those that have missed something. nil means that all that was emitted
// before has left this process, except for clients that have disconnected by themselves.
//
// With a Bus, what is queued for the other nodes is sent, and they are told. That is tried for a
// second also if ctx has ended, and for no longer than two seconds while the Bus fails; what was
// not sent is an error. When Shutdown has returned nil, the Bus's client may be closed.
//
// With Recovery.Path or Save, what Recovery keeps is saved last, also if ctx has ended; if that
// fails, it is an error. The clients that are not saved have gone for good: Shutdown waits for
// their OnExpire functions until ctx ends.
//
// A handler that does not return is waited for: every 5 seconds the log names the handlers of those
// who are to go, and so does the error. A handler that calls Shutdown waits for itself: it must
// call it in another goroutine.
//
// Calling Shutdown again, while it runs, disconnects the clients at a second rate beside the first;
// whichever ctx ends first ends all. Close the listener of an http.Server before, so that clients
// come to the next process, and call its Shutdown, which does not know of these connections, after:
// as Serve does.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	if !h.live.closing {
		h.live.closing = true
		if len(h.live.sessions) == 0 {
			close(h.live.empty)
		}
	}
	h.mu.Unlock()
	h.beginHandOver()
	h.drain(ctx)
	left := h.list()
	for _, s := range left {
		s.endShutdown()
		s.closeNow()
	}
	errs := []error{h.leftError(ctx, len(left))}
	if h.cluster != nil {
		errs = append(errs, h.cluster.close(ctx)) // also if ctx has ended, or the others would wait 5 seconds for its answers
	}
	errs = append(errs, h.handOver(ctx))
	h.endInspectors(ctx)
	return errors.Join(errs...)
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

// maxNamed bounds the handlers that are named.
const maxNamed = 10

// runningHandler is a function of the application that has not returned yet.
type runningHandler struct {
	id    string   // of its socket
	in    incoming // see queue.current
	since int64    // nanotime
}

// runningHandlers lists the handlers that run at the moment for clients that are to go, the longest
// first.
func (h *Hub) runningHandlers() []runningHandler {
	var running []runningHandler
	for _, s := range h.list() {
		if !s.reading.draining.Load() && !s.ended.Load() {
			continue
		}
		s.handling(func(socket *Socket, in incoming, since int64) {
			socket.mu.Lock() // a client that comes back gives the socket its id
			defer socket.mu.Unlock()
			running = append(running, runningHandler{socket.id, in, since})
		})
	}
	slices.SortFunc(running, func(a, b runningHandler) int { return cmp.Compare(a.since, b.since) })
	return running
}

// function names the function of the application that handles an item.
func (in incoming) function() string {
	switch in.kind {
	case incomingConnect:
		return "Use or OnConnect"
	case incomingEvent, incomingProblem:
		return fmt.Sprintf("event %.100q", in.name)
	}
	return "OnDisconnect"
}

func (r runningHandler) String() string {
	since := time.Duration(nanotime() - r.since)
	return fmt.Sprintf("%s of socket %s, for %v", r.in.function(), r.id, since.Round(time.Millisecond))
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
