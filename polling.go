package atrium

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// pollLinger is how long a closed session waits for a GET to be told in.
	pollLinger = 30 * time.Second
	// pollWriteTimeout bounds the writing of a response.
	pollWriteTimeout = 20 * time.Second
	// probePause is how long a GET waits for packets while its client changes to a WebSocket: the client waits for it.
	probePause = 100 * time.Millisecond
	// minGzip is the size in bytes from which a response is compressed.
	minGzip = 1 << 10
)

// polling is HTTP long-polling as a transport: a GET that waits takes what is queued, a POST brings what the client
// sends. Between requests it is nothing but its memory. When the client has upgraded to a WebSocket, that has taken
// over: what is queued and all that comes goes there.
type polling struct {
	session  *session
	limit    int           // of what is queued, in bytes
	size     atomic.Int64  // of a POST, in bytes
	received atomic.Uint32 // requests
	upgraded atomic.Pointer[webSocket]

	mu      sync.Mutex    // guards:
	packets [][]byte      // queued, in their text form
	bytes   int           // of these
	absent  int64         // nanotime since when no GET has taken anything, though something was there; 0: nothing was
	getting bool          // a GET is served
	posting bool          // a POST is
	probing bool          // the client is trying a WebSocket
	closing bool          // nothing is queued any more
	ended   bool          // nothing is served any more
	arrived chan struct{} // closed when a waiting GET should look again
	room    chan struct{} // closed when half of the limit is free again
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
	case t.bytes > t.limit && (t.bytes/4 > t.limit || t.absent != 0 && nanotime()-t.absent >= int64(stallTimeout)):
		return tooSlow, false
	case t.bytes > t.limit:
		v = overLimit
	}
	t.queue(f.textPackets()...)
	return v, true
}

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

// wake lets a waiting GET look again. It locks.
func (t *polling) wake() {
	if ws := t.upgraded.Load(); ws != nil {
		ws.wake()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
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

func (t *polling) buffered() int {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.buffered()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes
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
		if t.bytes < max(t.limit/2, 1) {
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

func (t *polling) permit(size int64) {
	t.size.Store(size)
	if ws := t.upgraded.Load(); ws != nil {
		ws.permit(size)
	}
}

func (t *polling) heard() uint32 {
	n := t.received.Load()
	if ws := t.upgraded.Load(); ws != nil {
		n += ws.heard()
	}
	return n
}

func (t *polling) unfinished() int64 {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.unfinished()
	}
	return 0 // a POST has a deadline of its own
}

func (t *polling) ahead() int32 {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.ahead()
	}
	return 0
}

func (t *polling) overdue() (slow bool, look int64) {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.overdue()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes <= t.limit || t.ended {
		return false, 0
	}
	return nanotime()-t.absent >= int64(stallTimeout), t.absent + int64(stallTimeout)
}

func (t *polling) open() bool {
	if ws := t.upgraded.Load(); ws != nil {
		return ws.open()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.closing && !t.ended
}

// close implements transport: what is queued and the close packet wait for a GET for a while, unless drop is set.
func (t *polling) close(code StatusCode, text string, drop bool) {
	if ws := t.upgraded.Load(); ws != nil {
		ws.close(code, text, drop)
		return
	}
	t.mu.Lock()
	if t.closing || t.ended {
		t.mu.Unlock()
		return
	}
	t.closing = true
	if drop {
		t.packets, t.bytes = nil, 0
	}
	switch {
	case code == noCloseFrame: // the client has said that it goes
		t.packets, t.bytes = nil, 0
		t.queue([]byte{byte(engineNoop)})
	default:
		t.queue([]byte{byte(engineClose)})
	}
	waits := t.getting
	signal(&t.arrived)
	signal(&t.room)
	t.mu.Unlock()
	switch {
	case waits:
	case drop || code == noCloseFrame:
		t.end()
	default:
		time.AfterFunc(pollLinger, t.end)
	}
}

func (t *polling) closeNow() {
	if ws := t.upgraded.Load(); ws != nil {
		ws.closeNow()
		return
	}
	t.end()
}

// end is when nothing is served any more. It locks.
func (t *polling) end() {
	t.mu.Lock()
	first := !t.ended && t.upgraded.Load() == nil
	t.ended, t.closing = true, true
	signal(&t.arrived)
	signal(&t.room)
	t.mu.Unlock()
	if first {
		t.session.part()
	}
}

// fail ends the session because a request broke the rules, or was broken off.
func (t *polling) fail(reason Reason) {
	t.session.end(reason, StatusProtocolError, "")
}

// get serves a GET: it waits until something is queued.
func (t *polling) get(w http.ResponseWriter, r *http.Request) *engineError {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})  // the server's deadlines are for requests that do not wait;
	_ = control.SetWriteDeadline(time.Time{}) // a ResponseWriter without deadlines has none to lift
	t.received.Add(1)
	packets, err := t.waitForPackets(r.Context())
	if err != nil {
		return err
	}
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("Cache-Control", "no-store")
	body := appendPayload(nil, packets)
	if len(body) >= minGzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		body = compressed(body)
		header.Set("Content-Encoding", "gzip")
		header.Add("Vary", "Accept-Encoding")
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		t.fail(ReasonTransportError)
	}
	t.mu.Lock()
	over := t.closing && len(t.packets) == 0
	t.mu.Unlock()
	if over {
		t.end()
	}
	return nil
}

func compressed(body []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// waitForPackets waits until something is queued, and takes it.
func (t *polling) waitForPackets(ctx context.Context) ([][]byte, *engineError) {
	t.mu.Lock()
	if t.getting {
		t.mu.Unlock()
		t.fail(ReasonTransportError) // the waiting GET is answered with the close packet
		return nil, errBadRequest
	}
	if t.ended || t.upgraded.Load() != nil {
		t.mu.Unlock()
		return nil, errBadRequest
	}
	t.getting = true
	defer t.mu.Unlock()
	pause := false
	for len(t.packets) == 0 && !t.ended {
		if t.upgraded.Load() != nil || pause && t.probing {
			t.getting = false
			return [][]byte{{byte(engineNoop)}}, nil
		}
		if t.arrived == nil {
			t.arrived = make(chan struct{})
		}
		arrived := t.arrived
		var paused <-chan time.Time
		if t.probing {
			paused = time.After(probePause)
		}
		t.mu.Unlock()
		gone := false
		select {
		case <-arrived:
			pause = true
		case <-paused:
			pause = true
		case <-ctx.Done():
			gone = true
		}
		t.mu.Lock()
		if gone {
			t.getting = false
			t.mu.Unlock()
			t.fail(ReasonTransportError)
			t.end()
			t.mu.Lock()
			return nil, errBadRequest
		}
	}
	// The client may send its next GET as soon as it has the response, which is before this one's handler returns.
	t.getting = false
	packets := t.packets
	t.packets, t.bytes, t.absent = nil, 0, 0
	signal(&t.room)
	if len(packets) == 0 {
		return nil, errBadRequest
	}
	return packets, nil
}

// post serves a POST.
func (t *polling) post(w http.ResponseWriter, r *http.Request, receive func(enginePacket)) *engineError {
	t.mu.Lock()
	if t.ended || t.closing || t.upgraded.Load() != nil {
		t.mu.Unlock()
		return errBadRequest
	}
	if t.posting {
		t.mu.Unlock()
		t.fail(ReasonTransportError)
		return errBadRequest
	}
	t.posting = true
	t.mu.Unlock()
	err := t.receive(w, r, receive)
	t.mu.Lock()
	t.posting = false
	t.mu.Unlock()
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/html")
	header.Set("Content-Length", "2")
	header.Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok")
	return nil
}

func (t *polling) receive(w http.ResponseWriter, r *http.Request, receive func(enginePacket)) *engineError {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(t.session.config.messageTimeout))
	_ = control.SetWriteDeadline(time.Time{})
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream") {
		t.fail(ReasonTransportError)
		return errBadRequest
	}
	size := t.size.Load()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, size))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return &engineError{errBadRequest.code, http.StatusRequestEntityTooLarge, "the body is over the limit"}
	}
	if err != nil {
		t.fail(ReasonTransportError)
		return errBadRequest
	}
	t.received.Add(1)
	packets := payloadReader{rest: body, maxPacket: int(size)}
	for packets.next() {
		receive(packets.packet)
	}
	if packets.err != nil {
		t.session.end(ReasonParseError, StatusPolicyViolation, packets.err.Message)
		return errBadRequest
	}
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	return nil
}

// probe notes that the client tries a WebSocket, or has given up, and lets a waiting GET go.
func (t *polling) probe(yes bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || t.ended || t.upgraded.Load() != nil || yes && t.probing {
		return false
	}
	t.probing = yes
	signal(&t.arrived)
	return true
}

// upgrade makes the WebSocket the transport: what is queued goes there, ahead of all that follows.
func (t *polling) upgrade(ws *webSocket) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing || t.ended || t.posting {
		return false
	}
	for _, p := range t.packets {
		var f wireForm
		f.fromText(p)
		ws.push(&f, false, forWriter)
	}
	t.packets, t.bytes, t.absent = nil, 0, 0
	ws.permit(t.size.Load())
	t.upgraded.Store(ws)
	signal(&t.arrived)
	signal(&t.room)
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
