package atrium

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// busFault is a way in which a Bus may fail a node.
type busFault uint8

const (
	publishFault   busFault = iota // the last Publish failed
	deafFault                      // the node does not hear what it sends itself
	subscribeFault                 // the last Subscribe failed; a Bus may take what is published all the same
	busFaults
)

// busHealth is what a node knows about the state of its Bus. All methods may be called from any goroutine, but not under
// locks: they log.
type busHealth struct {
	log *limitedLog
	has [busFaults]atomic.Bool // which faults there are; changed under mu

	mu     sync.Mutex // guards:
	errors [busFaults]error
	logged [busFaults]int64 // nanotime of the last entry about the fault
	since  time.Time        // when the first of the faults began; zero: there is none
	silent chan struct{}    // closed while questions cannot be answered
}

func newBusHealth(log *limitedLog) *busHealth {
	return &busHealth{log: log, silent: make(chan struct{})}
}

// note sets a fault to an error, or clears it with nil. It logs the error, the same one of a fault once a minute, and
// the end of the last fault.
func (h *busHealth) note(f busFault, err error) {
	if err == nil && !h.has[f].Load() {
		return
	}
	lasted, told := h.change(f, err)
	if lasted > 0 {
		h.log.info("atrium: the bus works again", slog.Duration("after", lasted))
	}
	if err != nil && !told {
		h.log.error("atrium: the bus fails", slog.Any("error", err))
	}
}

// change is note without the log. It returns how long there were faults if this was the end of the last one, and whether
// the same error was logged within the last minute.
func (h *busHealth) change(f busFault, err error) (lasted time.Duration, told bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		told = h.errors[f] != nil && h.errors[f].Error() == err.Error() && nanotime()-h.logged[f] < int64(logInterval)
		if !told {
			h.logged[f] = nanotime()
		}
	}
	muteBefore := h.mute()
	h.errors[f] = err
	h.has[f].Store(err != nil)
	switch fails := h.fails(); {
	case fails && h.since.IsZero():
		h.since = time.Now()
	case !fails && !h.since.IsZero():
		lasted = max(time.Since(h.since), 1)
		h.since = time.Time{}
	}
	switch mute := h.mute(); {
	case mute && !muteBefore:
		close(h.silent)
	case !mute && muteBefore:
		h.silent = make(chan struct{})
	}
	return lasted, told
}

// fails reports whether there is a fault.
func (h *busHealth) fails() bool { return h.mute() || h.has[subscribeFault].Load() }

// mute reports whether questions cannot be answered.
func (h *busHealth) mute() bool { return h.has[publishFault].Load() || h.has[deafFault].Load() }

// muted returns a channel that is closed as soon as, and while, questions cannot be answered.
func (h *busHealth) muted() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.silent
}

// err says since when there are faults, and what one of them is. It is nil, or matches ErrBus.
func (h *busHealth) err() (since time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, err := range h.errors {
		if err != nil {
			return h.since, fmt.Errorf("%w: %w", ErrBus, err)
		}
	}
	return time.Time{}, nil
}
