package atrium

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// pollWriteTimeout bounds the writing of a response.
	pollWriteTimeout = 20 * time.Second
	// probePause is how long a GET waits for packets while its client changes to a WebSocket: the client waits for it.
	probePause = 100 * time.Millisecond
	// minGzip is the size in bytes from which a response is compressed.
	minGzip = 1 << 10
)

// fail ends the session because a request broke the rules or was broken off: only a GET that waits is still told. It
// locks.
func (t *polling) fail(reason Reason) {
	t.session.end(reason, StatusProtocolError, "")
	t.end()
}

// served tells why no request is served any more, if so.
func (t *polling) served() *engineError {
	switch {
	case t.upgraded.Load() != nil:
		return errBadRequest
	case t.ended:
		return errSessionUnknown
	}
	return nil
}

var (
	errOverlap   = badEngine(3, "Bad request")                                                  // of two requests
	errBrokenOff = &engineError{code: 3, status: http.StatusBadRequest, message: "Bad request"} // nobody will read it
)

// get serves a GET: it waits until something is queued.
func (t *polling) get(w http.ResponseWriter, r *http.Request) *engineError {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})  // the server's deadlines are for requests that do not wait;
	_ = control.SetWriteDeadline(time.Time{}) // a ResponseWriter without deadlines has none to lift
	t.session.check()                         // which the clock may be late with
	t.received.Add(1)
	packets, err := t.take(r.Context())
	if err == errOverlap || err == errBrokenOff {
		t.fail(ReasonTransportError)
	}
	if err != nil {
		return err
	}
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	if writePayload(w, r, packets) != nil {
		t.fail(ReasonTransportError)
		return nil
	}
	t.mu.Lock()
	over := t.closing && len(t.packets) == 0
	t.mu.Unlock()
	if over {
		t.end()
	}
	return nil
}

func writePayload(w http.ResponseWriter, r *http.Request, packets [][]byte) error {
	body := appendPayload(nil, packets)
	header := w.Header()
	if len(body) >= minGzip {
		header.Add("Vary", "Accept-Encoding")
		if httpguts.HeaderValuesContainsToken(r.Header["Accept-Encoding"], "gzip") {
			body = compressed(body)
			header.Set("Content-Encoding", "gzip")
		}
	}
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	_, err := w.Write(body)
	return err
}

// gzipWriters are 800 KB each.
var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func compressed(body []byte) []byte {
	var b bytes.Buffer
	z := gzipWriters.Get().(*gzip.Writer)
	z.Reset(&b)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
	z.Reset(nil)
	gzipWriters.Put(z)
	return b.Bytes()
}

// take waits until something is queued, and takes it. It locks.
func (t *polling) take(ctx context.Context) ([][]byte, *engineError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.served(); err != nil {
		return nil, err
	}
	if t.getting {
		return nil, errOverlap
	}
	t.getting = true
	// The client may send its next GET as soon as it has the response, which is before this one's handler returns.
	defer func() { t.getting = false }()
	for paused := false; len(t.packets) == 0 || !t.woken; paused = true {
		if err := t.served(); err != nil {
			return nil, err
		}
		if paused && t.probing != nil {
			return [][]byte{{byte(engineNoop)}}, nil
		}
		if err := t.wait(ctx); err != nil {
			return nil, err
		}
	}
	packets := t.packets
	t.packets, t.bytes, t.absent, t.woken = nil, 0, 0, false
	signal(&t.room)
	return packets, nil
}

// wait waits until a GET should look again: something may have come, or its client tries a WebSocket and waits for it.
// Meanwhile t.mu is not held.
func (t *polling) wait(ctx context.Context) *engineError {
	if t.arrived == nil {
		t.arrived = make(chan struct{})
	}
	arrived := t.arrived
	var pause <-chan time.Time
	if t.probing != nil {
		pause = time.After(probePause)
	}
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-arrived:
	case <-pause:
	case <-ctx.Done():
		t.waitForPost() // which may say why the client goes
		return errBrokenOff
	}
	return nil
}

// waitForPost waits until no POST is served. It locks.
func (t *polling) waitForPost() {
	t.mu.Lock()
	posting := t.posting
	t.mu.Unlock()
	if posting != nil {
		<-posting
	}
}

// post serves a POST.
func (t *polling) post(w http.ResponseWriter, r *http.Request) *engineError {
	t.session.check()
	err := t.beginPost()
	if err == errOverlap {
		t.fail(ReasonTransportError)
	}
	if err != nil {
		return err
	}
	err = t.receive(w, r)
	t.mu.Lock()
	signal(&t.posting)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", "text/html")
	header.Set("Content-Length", "2")
	header.Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, "ok") // the client's next request tells whether it got it
	return nil
}

func (t *polling) beginPost() *engineError {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.served(); err != nil {
		return err
	}
	if t.posting != nil {
		return errOverlap
	}
	t.posting = make(chan struct{})
	return nil
}

// receive deals with the packets of a POST. It locks.
func (t *polling) receive(w http.ResponseWriter, r *http.Request) *engineError {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream") {
		t.fail(ReasonTransportError) // that was an earlier version of the protocol
		return errBadRequest
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(t.session.config.messageTimeout))
	_ = control.SetWriteDeadline(time.Time{})
	size := t.size.Load()
	body, err := io.ReadAll(io.TeeReader(http.MaxBytesReader(w, r.Body, size), (*lifeSign)(t)))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return &engineError{code: 3, status: http.StatusRequestEntityTooLarge, message: "Payload too large"}
	}
	if err != nil {
		t.fail(ReasonTransportError)
		return errBadRequest
	}
	_ = control.SetReadDeadline(time.Time{}) // for what follows may wait for handlers
	violated := t.receivePayload(payloadReader{rest: body, maxPacket: int(size)})
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	if violated != nil {
		t.fail(ReasonParseError)
		return errBadRequest
	}
	return nil
}

func (t *polling) receivePayload(r payloadReader) *Error {
	for r.next() {
		if r.packet.kind == engineClose {
			t.session.end(ReasonTransportClose, noCloseFrame, "")
			return nil
		}
		if err := t.codec.receiveEngine(t.session, r.packet); err != nil {
			return err
		}
	}
	return r.err
}

// lifeSign notes that something came of a body: a large one may take longer than a ping may.
type lifeSign polling

func (l *lifeSign) Write(p []byte) (int, error) {
	l.received.Add(1)
	return len(p), nil
}
