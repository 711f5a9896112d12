package atrium

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollLinger is how long a closed session waits for a GET to respond to, at most. A client that
	// is still there sends its next one as soon as it has the response to the last.
	pollLinger = 5 * time.Second
	// leaveLinger is how long a session waits for a GET that may have been sent before, when its
	// client has closed it, or comes back to the next process for what it has missed.
	leaveLinger = time.Second
)

// polling is HTTP long-polling as a transport: a GET that waits takes what is queued, a POST brings
// what the client sends. Between requests it is nothing but its memory. It is of no use any more
// when the client has upgraded to a WebSocket.
type polling struct {
	session  *session
	codec    *socketIOCodec // the session's
	size     atomic.Int64   // limit of a POST, in bytes
	received atomic.Uint32  // requests, and pieces of their bodies
	counts   pollCounts

	mu sync.Mutex // guards:
	pollQueue
	pollRequests
	pollEnding
	state   pollState
	probing context.CancelFunc // ends the probe of a WebSocket; nil: there is none
	arrived gate               // opens when a waiting GET should look again
	room    gate               // opens when half of the limit is free again
}

// pollState says what is done with packets and requests. It only goes forward.
type pollState uint8

const (
	pollOpen     pollState = iota
	pollClosing            // nothing is queued any more; what is waits for a GET, or goes to a WebSocket
	pollUpgraded           // a WebSocket has taken over; no request is served
	pollEnded              // no request is served, except for a GET that waits
)

// pollCounts count what has gone over the requests: as messages the packets but pings, pongs, and
// what closes or upgrades, and as bytes the bodies of POSTs and of responses to GETs, compressed.
type pollCounts struct {
	received, sent trafficCount
	roundTrip      pingTimer
}

func (t *polling) countReceived(messages, bytes int) {
	t.counts.received.add(messages, bytes)
	t.session.hub.sessions.counters.polled.received.add(messages, bytes)
}

func (t *polling) countSent(messages, bytes int) {
	t.counts.sent.add(messages, bytes)
	t.session.hub.sessions.counters.polled.sent.add(messages, bytes)
}

// pollQueue holds the packets that wait for a GET. It has no lock: polling.mu guards it.
type pollQueue struct {
	limit int // of cost
	payload
	bytes int   // of the packets
	since int64 // nanotime since when packets wait and no GET has taken any; 0: none wait
}

// payload is what a GET gets.
type payload struct {
	packets [][]byte // in their text form
	bare    bool     // one of them is not to be compressed
}

// push queues packets.
func (q *pollQueue) push(packets ...[]byte) {
	q.packets = append(q.packets, packets...)
	for _, p := range packets {
		q.bytes += len(p)
	}
	if q.since == 0 {
		q.since = nanotime()
	}
}

// popAll returns what is queued, and empties the queue.
func (q *pollQueue) popAll() payload {
	all := q.payload
	*q = pollQueue{limit: q.limit}
	return all
}

// cost is what the queue takes of memory, in bytes, as that of an outbox.
func (q *pollQueue) cost() int { return q.bytes + len(q.packets)*frameOverhead }

// status is as that of an outbox. No ping overtakes what is queued.
func (q *pollQueue) status() queueStatus {
	s := queueStatus{bytes: q.bytes, cost: q.cost(), since: q.since}
	if s.cost > q.limit {
		s.slowAt = q.since + int64(stallTimeout)
	}
	return s
}

// pollRequests are the requests that are served at the moment.
type pollRequests struct {
	getting      bool // a GET waits
	writing      int  // responses to GETs that are being written
	posting      bool // a POST is served
	postAnswered bool // its time was up before it was done: the next one waits for it
	posted       gate // opens when a POST is done
}

// pollEnding is how a session that is closed ends.
type pollEnding struct {
	closed bool        // it was closed when its client upgraded
	code   StatusCode  // for its WebSocket, should the client still upgrade
	text   string      // likewise
	mode   closeMode   // likewise
	linger *time.Timer // until it ends without a GET; nil: it does not wait
	unsent error       // the client did not come for all that was queued; nil: it did, or may still
}

// newPolling makes a session whose client polls.
func newPolling(h *Hub, codec *socketIOCodec) *polling {
	limits := &h.options.Limits
	t := &polling{session: newSession(h, nil, codec), codec: codec}
	t.limit = min(limits.QueuedBytes, maxQueuedBeforeConnect)
	t.size.Store(min(limits.MessageBytes, maxBeforeConnect))
	t.session.poll = t
	return t
}

// textPackets returns the message as packets in their text form.
func (f *wireForm) textPackets() [][]byte {
	if f.packets == nil {
		f.packets = append([][]byte{f.payload}, f.base64...)
	}
	return f.packets
}

// push implements transport.
func (t *polling) push(f *wireForm, volatile bool, _ pusher) (v pushResult, wake bool) {
	v, wake = t.pushUncounted(f, volatile)
	if v <= pushOverLimit {
		t.countSent(1+len(f.base64), 0)
	}
	return v, wake
}

func (t *polling) pushUncounted(f *wireForm, volatile bool) (v pushResult, wake bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	status := t.pollQueue.status()
	switch {
	case t.state != pollOpen:
		return pushRefused, false
	case volatile && len(t.packets) > 0 && !t.getting:
		return pushDropped, false
	case status.slowAt != 0 && (status.cost/4 > t.limit || nanotime() >= status.slowAt):
		return pushTooSlow, false
	case status.slowAt != 0:
		v = pushOverLimit
	}
	t.pollQueue.push(f.textPackets()...)
	t.bare = t.bare || f.bare
	return v, true
}

// pushPing implements transport. A client that is sent much and polls seldom gets one ping at a
// time.
func (t *polling) pushPing(f *wireForm) (queued, wake bool) {
	t.mu.Lock()
	waits := slices.ContainsFunc(t.packets, func(p []byte) bool { return string(p) == string(enginePing) })
	t.mu.Unlock()
	if waits {
		return true, false
	}
	t.counts.roundTrip.ping()
	v, wake := t.pushUncounted(f, false)
	return v != pushRefused, wake
}

// wake lets a waiting GET look again.
func (t *polling) wake() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.arrived.open()
}

// agreed implements transport. Responses are compressed as a whole: see writePayload.
func (t *polling) agreed() compression { return compression{} }

// waitUntilHalf implements transport. It returns nil when the client has upgraded.
func (t *polling) waitUntilHalf(ctx context.Context) error {
	closed := false
	err := t.room.await(ctx, &t.mu, func() bool {
		closed = t.state == pollClosing || t.state == pollEnded
		return closed || t.state == pollUpgraded || t.cost() < max(t.limit/2, 1)
	})
	if closed {
		return ErrClosed
	}
	return cmp.Or(err, ctx.Err())
}

// permit implements transport.
func (t *polling) permit(size int64, queued int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size.Store(size)
	t.limit = queued
}

// status implements transport. A POST has a deadline of its own, so that no message is incomplete.
func (t *polling) status() transportStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return transportStatus{queueStatus: t.pollQueue.status(), received: t.received.Load(), open: t.state == pollOpen}
}

// close implements transport: what is queued and the close packet wait for a GET for a while,
// unless the queue is dropped. A client that goes by itself, with noCloseFrame, is told nothing,
// but gets a response to its GET.
func (t *polling) close(code StatusCode, text string, mode closeMode) {
	t.mu.Lock()
	if t.state == pollOpen {
		t.beginClose(code, text, mode)
	}
	t.mu.Unlock()
	if mode == dropQueued {
		t.end()
	}
}

// beginClose queues the close packet. t.mu is held, as in all below that do not say that they lock.
func (t *polling) beginClose(code StatusCode, text string, mode closeMode) {
	t.state, t.code, t.text, t.mode = pollClosing, code, text, mode
	last := engineClose
	if code == noCloseFrame {
		last = engineNoop
	}
	if mode == dropQueued || code == noCloseFrame {
		t.popAll()
	}
	t.pollQueue.push([]byte{byte(last)})
	t.arrived.open()
	t.room.open()
	t.awaitGet()
}

// awaitGet lets a closed session wait for its client's next GET, unless one is served.
func (t *polling) awaitGet() {
	if t.state == pollEnded || t.getting || t.writing > 0 {
		return
	}
	wait := pollLinger
	switch {
	case t.code == noCloseFrame || t.handedOver():
		wait = leaveLinger
	case t.mode == deliverQueued:
		wait = min(wait, t.session.hub.options.Timeouts.Close)
	}
	t.linger = time.AfterFunc(wait, t.expire)
}

// handedOver reports whether the client gets what it misses from the next process.
func (t *polling) handedOver() bool {
	return t.code == StatusServiceRestart && t.session.hub.options.Recovery.saves()
}

// expire ends a closed session whose client has not come for what is queued. It locks.
func (t *polling) expire() {
	t.mu.Lock()
	if len(t.packets) > 1 && !t.handedOver() { // more than the close packet
		t.unsent = notSent(t.bytes)
	}
	t.mu.Unlock()
	t.end()
}

// closeNow implements transport.
func (t *polling) closeNow() { t.end() }

// missed implements transport.
func (t *polling) missed() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unsent
}

// end ends the serving of requests, except for a GET that waits, and the probe of a WebSocket. A
// session that has upgraded goes on. It locks.
func (t *polling) end() {
	t.mu.Lock()
	first := t.state < pollUpgraded
	if first {
		t.state = pollEnded
		t.arrived.open()
		t.room.open()
		if t.probing != nil {
			t.probing()
		}
		if t.linger != nil {
			t.linger.Stop()
		}
	}
	t.mu.Unlock()
	if first {
		t.session.hub.connectionClosed(t.session)
		t.session.part()
	}
}
