package atrium

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// closeStep is how far the closing of a connection has come.
type closeStep uint8

const (
	stepDeliver closeStep = iota // what is queued and the close frame are leaving
	stepAnswer                   // they have left, or cannot leave; the peer's close frame is waited for
	stepLinger                   // the peer's end of TCP is waited for
	stepOver                     // the network connection is closed
)

// ending bounds the steps of a closing connection, and cuts the connection when one takes too long:
// with a timer of its own, because deadlines of the network connection would bound each write
// alone, and not every net.Conn knows them.
//
// A nil ending is that of a connection which is not closing; it does nothing.
type ending struct {
	conn *Conn
	by   int64 // nanotime until when delivery may go on
	drop bool  // the queue was dropped
	fin  bool  // the reader has seen the peer's end, and sends our end of TCP behind the close frame

	mu    sync.Mutex // guards:
	step  closeStep
	due   int64       // nanotime when the step has taken too long
	timer *time.Timer // fires at due, or before; nil until watch
	cause error       // why the connection was cut; nil if it was not
}

var (
	errNotSent    = errors.New("atrium: the peer did not take all that was queued")
	errUnanswered = errors.New("atrium: the peer did not answer the close frame")
)

func notSent(bytes int) error { return fmt.Errorf("%w: %d bytes are left", errNotSent, bytes) }

// newEnding begins the first step.
func newEnding(c *Conn, mode closeMode) *ending {
	now := nanotime()
	e := &ending{conn: c, drop: mode == dropQueued, fin: mode == answerPeer && !c.client}
	switch mode {
	case deliverQueued, answerPeer:
		e.by = after(c.closeTimeout)
	case deliverAll:
		e.by = math.MaxInt64
	case dropQueued:
		e.by = now + int64(dropTimeout)
	}
	e.due = min(now+int64(stallTimeout), e.by)
	return e
}

// watch sets the timer, once. By then the close frame has often left.
func (e *ending) watch() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.step != stepOver && e.timer == nil {
		e.timer = time.AfterFunc(time.Duration(e.due-nanotime()), e.check)
	}
}

// advance begins a later step, which may take d. If that is over later than the timer fires, check
// sets it anew. It may be called with the outbox's lock.
func (e *ending) advance(step closeStep, d time.Duration) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if step <= e.step {
		return
	}
	before := e.due
	e.step, e.due = step, nanotime()+int64(d)
	switch {
	case e.timer == nil:
	case step == stepOver:
		e.timer.Stop()
	case e.due < before:
		e.timer.Reset(d)
	}
}

// check cuts the connection if the step has taken too long, and otherwise sees when to look again.
func (e *ending) check() {
	if cause := e.overdue(); cause != nil {
		_ = e.conn.cut(cause)
	}
}

// overdue returns why the connection is to be cut now; nil if it is not.
func (e *ending) overdue() error {
	unsent, takenAt, failure := e.conn.out.progress()
	e.mu.Lock()
	defer e.mu.Unlock()
	now := nanotime()
	if e.step == stepDeliver {
		e.due = min(takenAt+int64(stallTimeout), e.by)
	}
	switch {
	case e.step == stepOver:
		return nil
	case now < e.due:
		e.timer.Reset(time.Duration(e.due - now))
		return nil
	case failure != nil:
		e.cause = failure
	case e.step == stepDeliver:
		e.cause = notSent(unsent)
	default:
		e.cause = errUnanswered
	}
	e.step = stepOver
	return e.cause
}

// why returns why the connection was cut; nil if it was not.
func (e *ending) why() error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause
}

// missed returns an error if the peer was cut before all that was to be delivered had left.
func (e *ending) missed() error {
	if cause := e.why(); errors.Is(cause, errNotSent) && !e.drop {
		return cause
	}
	return nil
}
