package atrium

import (
	"context"
	"encoding/base64"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollLinger is how long a closed session waits for a GET to be told in, at most. A client that is still there sends
	// its next one as soon as it has the response to the last.
	pollLinger = 5 * time.Second
	// leaveLinger is how long a session that its client has closed waits for a GET that may have been sent before.
	leaveLinger = time.Second
)

// polling is HTTP long-polling as a transport: a GET that waits takes what is queued, a POST brings what the client
// sends. Between requests it is nothing but its memory. When the client has upgraded to a WebSocket, that has taken
// over: what is queued and all that comes goes there.
type polling struct {
	session  *session
	codec    *socketIOCodec // the session's
	size     atomic.Int64   // of a POST, in bytes
	received atomic.Uint32  // requests, and pieces of their bodies
	upgraded atomic.Pointer[webSocket]

	mu           sync.Mutex         // guards:
	limit        int                // of cost
	packets      [][]byte           // queued, in their text form
	bytes        int                // of these
	woken        bool               // they may leave: a socket's connect message waits until the socket is in its rooms
	absent       int64              // nanotime since when no GET has taken anything, though something was there; 0: nothing was
	getting      bool               // a GET waits
	writing      int                // responses to GETs that are being written
	posting      chan struct{}      // closed when the POST that is served has been; nil: there is none
	postAnswered bool               // already, because its time was up: the next one waits for it
	probing      context.CancelFunc // ends the trial of a WebSocket; nil: there is none
	closing      bool               // nothing is queued any more
	ended        bool               // nothing is served any more
	linger       *time.Timer        // until a closed session ends; nil: it does not wait
	unsent       error              // a closed session's client did not come for all that was queued; nil: it did, or may still
	code         StatusCode         // of a closed session, for its WebSocket should the client still upgrade
	text         string             // the reason, likewise
	mode         closeMode          // likewise
	arrived      chan struct{}      // closed when a waiting GET should look again
	room         chan struct{}      // closed when half of the limit is free again
}

// newPolling makes a session whose client polls.
func newPolling(h *Hub, codec *socketIOCodec) *polling {
	config := h.sessions
	t := &polling{session: newSession(h, nil, codec, socketIOProtocol), codec: codec, limit: min(config.maxQueued, maxQueuedBeforeConnect)}
	t.size.Store(min(config.maxMessageSize, maxBeforeConnect))
	t.session.transport = t
	return t
}

// textPackets returns the message as packets in their text form.
func (f *wireForm) textPackets() [][]byte {
	if f.packets == nil {
		f.packets = append([][]byte{f.payload}, f.base64...)
	}
	return f.packets
}

func (t *polling) push(f *wireForm, volatile bool, by pusher) (v verdict, wake bool) {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.push(f, volatile, by)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if ws := t.upgraded.Load(); ws != nil {
		return ws.push(f, volatile, by)
	}
	switch {
	case t.closing || t.ended:
		return refused, false
	case volatile && len(t.packets) > 0 && !t.getting:
		return notWaiting, false
	case t.cost() > t.limit && (t.cost()/4 > t.limit || t.absent != 0 && nanotime()-t.absent >= int64(stallTimeout)):
		return tooSlow, false
	case t.cost() > t.limit:
		v = overLimit
	}
	t.queue(f.textPackets()...)
	return v, true
}

func (t *polling) pushPing(f *wireForm) (queued, wake bool) {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.pushPing(f)
	}
	t.mu.Lock()
	waits := slices.ContainsFunc(t.packets, isPing)
	t.mu.Unlock()
	if waits {
		return true, false // the client sends much and polls seldom: one is enough
	}
	v, wake := t.push(f, false, forBroadcast)
	return v != refused, wake
}

func isPing(packet []byte) bool { return string(packet) == string(enginePing) }

// queue adds packets. t.mu is held, as in all below that say nothing else.
func (t *polling) queue(packets ...[]byte) {
	t.packets = append(t.packets, packets...)
	for _, p := range packets {
		t.bytes += len(p)
	}
	if t.absent == 0 {
		t.absent = nanotime()
	}
}

// cost is what the queue takes of memory, in bytes, as outbox.cost.
func (t *polling) cost() int { return t.bytes + len(t.packets)*frameOverhead }

// wake lets a waiting GET look again. It locks.
func (t *polling) wake() {
	if ws := t.upgraded.Load(); ws != nil {
		ws.wake()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.woken = true
	signal(&t.arrived)
}

func signal(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}

func (t *polling) agreed() compression {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.agreed()
	}
	return compression{}
}

func (t *polling) waitUntilHalf(ctx context.Context) error {
	for {
		if ws := t.upgraded.Load(); ws != nil {
			return ws.waitUntilHalf(ctx)
		}
		t.mu.Lock()
		if t.closing || t.ended {
			t.mu.Unlock()
			return ErrClosed
		}
		if t.cost() < max(t.limit/2, 1) {
			t.mu.Unlock()
			return ctx.Err()
		}
		if t.room == nil {
			t.room = make(chan struct{})
		}
		room := t.room
		t.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *polling) permit(size int64, queued int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size.Store(size)
	t.limit = queued
	if ws := t.upgraded.Load(); ws != nil {
		ws.permit(size, queued)
	}
}

// status implements transport. A POST has a deadline of its own, so that no message is incomplete.
func (t *polling) status() transportStatus {
	received := t.received.Load()
	if ws := t.upgraded.Load(); ws != nil {
		status := ws.status()
		status.received += received
		return status
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	status := transportStatus{received: received, open: !t.closing && !t.ended}
	status.bytes, status.cost = t.bytes, t.cost()
	if status.cost > t.limit && !t.ended {
		status.slowAt = t.absent + int64(stallTimeout)
	}
	return status
}

// close implements transport: what is queued and the close packet wait for a GET for a while, unless the queue is
// dropped. A client that goes by itself, with noCloseFrame, is told nothing, but a GET of its is answered.
func (t *polling) close(code StatusCode, text string, mode closeMode) {
	if ws := t.upgraded.Load(); ws != nil {
		ws.close(code, text, mode)
		return
	}
	t.mu.Lock()
	ws := t.upgraded.Load()
	if ws == nil {
		t.beginClose(code, text, mode)
	}
	t.mu.Unlock()
	switch {
	case ws != nil:
		ws.close(code, text, mode)
	case mode == dropQueued:
		t.end()
	}
}

func (t *polling) beginClose(code StatusCode, text string, mode closeMode) {
	if t.closing || t.ended {
		return
	}
	t.closing, t.code, t.text, t.mode = true, code, text, mode
	last := engineClose
	if code == noCloseFrame {
		last = engineNoop
	}
	if mode == dropQueued || code == noCloseFrame {
		t.packets, t.bytes = nil, 0
	}
	t.queue([]byte{byte(last)})
	t.woken = true
	t.signal()
	t.awaitGet()
}

// awaitGet lets a closed session wait for its client's next GET, unless one is served.
func (t *polling) awaitGet() {
	if t.ended || t.getting || t.writing > 0 {
		return
	}
	wait := pollLinger
	switch {
	case t.code == noCloseFrame:
		wait = leaveLinger
	case t.mode == deliverQueued:
		wait = min(wait, t.session.config.closeTimeout)
	}
	t.linger = time.AfterFunc(wait, t.expire)
}

// expire ends a closed session whose client has not come for what is queued. It locks.
func (t *polling) expire() {
	t.mu.Lock()
	if len(t.packets) > 1 { // more than the close packet
		t.unsent = notSent(t.bytes)
	}
	t.mu.Unlock()
	t.end()
}

// signal lets all look again who wait.
func (t *polling) signal() {
	signal(&t.arrived)
	signal(&t.room)
}

func (t *polling) closeNow() {
	if ws := t.upgraded.Load(); ws != nil {
		ws.closeNow()
		return
	}
	t.end()
}

func (t *polling) missed() error {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.missed()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unsent
}

// end is when nothing is served any more, except for a GET that waits. The trial of a WebSocket ends, too. It locks.
func (t *polling) end() {
	t.mu.Lock()
	first := !t.ended && t.upgraded.Load() == nil
	if first {
		t.ended, t.closing = true, true
		t.signal()
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

// beginProbe notes that the client tries a WebSocket, and lets a waiting GET go; the client waits for that, too. It
// reports false if there is nothing to try, and otherwise the trial is a part of the session. stop ends it. It locks.
func (t *polling) beginProbe(stop context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || t.ended || t.upgraded.Load() != nil || t.probing != nil {
		return false
	}
	t.probing = stop
	t.session.parts.Add(1)
	signal(&t.arrived)
	return true
}

// endProbe notes that the client goes on polling. It locks.
func (t *polling) endProbe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.probing = nil
}

// upgrade makes the WebSocket the transport: what is queued goes there, ahead of all that follows. A client that was
// about to upgrade when we closed the session polls no more: it gets there what is queued, and the close frame that the
// caller sends. It locks.
func (t *polling) upgrade(conn *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	told := t.closing && (t.code == noCloseFrame || len(t.packets) == 0)
	if told || t.ended || t.posting != nil {
		return false
	}
	t.probing = nil
	t.session.attach(conn)
	ws := (*webSocket)(conn)
	if t.closing {
		t.packets = t.packets[:len(t.packets)-1] // that was the close packet
		if t.linger != nil {
			t.linger.Stop()
		}
	}
	for _, p := range t.packets {
		var f wireForm
		f.fromText(p)
		ws.push(&f, false, forWriter)
	}
	t.packets, t.bytes, t.absent = nil, 0, 0
	ws.permit(t.size.Load(), t.limit)
	t.upgraded.Store(ws)
	t.signal()
	return true
}

// fromText takes a packet in its text form.
func (f *wireForm) fromText(p []byte) {
	if engineType(p[0]) != engineBase64 {
		f.set(append(newFrame(len(p)), p...))
		return
	}
	data, _ := base64.StdEncoding.AppendDecode(newFrame(len(p)), p[1:]) // it is we who encoded it
	f.whole, f.payload = sealFrame(data, OpBinary), data[headerRoom:]
}
