package atrium

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"
	"time"
)

// busFault is a way in which a Bus may fail a node.
type busFault uint8

const (
	publishFault   busFault = iota // the last Publish failed
	echoFault                      // what the node sends itself does not come back
	subscribeFault                 // the last Subscribe failed; a Bus may take what is published all the same
	busFaults
)

// busHealth is what a node knows about the state of its Bus.
type busHealth struct {
	has [busFaults]atomic.Bool // which faults there are; changed under cluster.mu

	// Guarded by cluster.mu.
	errors  [busFaults]error
	since   time.Time     // when the first of the faults began; zero: there is none
	cutting chan struct{} // closed while the node is cut off
}

// set sets a fault to an error, or clears it with nil. It returns how long there were faults if
// this was the end of the last one. cluster.mu is held.
func (h *busHealth) set(f busFault, err error) (lasted time.Duration) {
	before := h.cutOff()
	h.errors[f] = err
	h.has[f].Store(err != nil)
	switch fails := h.fails(); {
	case fails && h.since.IsZero():
		h.since = time.Now()
	case !fails && !h.since.IsZero():
		lasted = max(time.Since(h.since), 1)
		h.since = time.Time{}
	}
	switch cutOff := h.cutOff(); {
	case cutOff && !before:
		close(h.cutting)
	case !cutOff && before:
		h.cutting = make(chan struct{})
	}
	return lasted
}

// fails reports whether there is a fault.
func (h *busHealth) fails() bool { return h.cutOff() || h.has[subscribeFault].Load() }

// cutOff reports whether the node is cut off: none of its requests can be answered.
func (h *busHealth) cutOff() bool { return h.has[publishFault].Load() || h.has[echoFault].Load() }

// err returns since when there are faults, and one of them. The error is nil, or matches ErrBus.
// cluster.mu is held.
func (h *busHealth) err() (since time.Time, err error) {
	for _, err := range h.errors {
		if err != nil {
			return h.since, fmt.Errorf("%w: %w", ErrBus, err)
		}
	}
	return time.Time{}, nil
}

// noteFault sets a fault to an error, or clears it with nil. It logs the error, and the end of the
// last fault.
func (c *cluster) noteFault(f busFault, err error) {
	if err == nil && !c.health.has[f].Load() {
		return
	}
	c.mu.Lock()
	lasted := c.health.set(f, err)
	c.mu.Unlock()
	if lasted > 0 {
		c.topics.log.info("atrium: the bus works again", slog.Duration("duration", lasted))
	}
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrPermission):
		c.topics.log.warn("atrium: the bus refuses this node", append(loggedFailure(err), hint("its account at the broker must be allowed to publish "+
			"and to subscribe to all topics: see Permissions in the package of the Bus"))...)
	default:
		c.topics.log.error("atrium: the bus fails", loggedFailure(err)...)
	}
}

// busError is err of the node's health for callers that do not hold cluster.mu.
func (c *cluster) busError() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.health.err()
}
