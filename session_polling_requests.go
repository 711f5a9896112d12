package atrium

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// pollWriteTimeout bounds the writing of a response.
	pollWriteTimeout = 20 * time.Second
	// probePause is how long a GET waits for packets while its client probes a WebSocket: the
	// client waits for the GET.
	probePause = 100 * time.Millisecond
)

// fail ends the session because a request broke the rules or was broken off. Only a GET that waits
// gets a response. It locks.
func (t *polling) fail(reason Reason) {
	t.session.end(reason, StatusProtocolError, "")
	t.end()
}

// Requests that end their session.
var (
	errOverlap   = badEngine("3", "Bad request")                                              // another of the kind is served
	errBrokenOff = &refusal{code: "3", status: http.StatusBadRequest, message: "Bad request"} // by the client; nothing to log
)

// served returns why no request is served any more, if so.
func (t *polling) served() *refusal {
	switch t.state {
	case pollUpgraded:
		return errBadRequest
	case pollEnded:
		return errSessionUnknown
	}
	return nil
}

// refuse returns the response to a request that is not served. One that overlaps another, or is
// broken off, ends the session. It locks.
func (t *polling) refuse(e *refusal) *refusal {
	if e == errOverlap || e == errBrokenOff {
		t.fail(ReasonTransportError)
	}
	return e
}

// get serves a GET: it waits until something is queued.
func (t *polling) get(w http.ResponseWriter, r *http.Request) *refusal {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})  // the server's deadlines are for requests that do not wait;
	_ = control.SetWriteDeadline(time.Time{}) // a ResponseWriter without deadlines has none to lift
	t.session.check()                         // the clock may be late
	t.received.Add(1)
	ctx, cancel := beforeDeadline(r.Context())
	defer cancel()
	body, refused := t.awaitPackets(ctx)
	if refused != nil {
		return t.refuse(refused)
	}
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	t.respond(w, r, body)
	return nil
}

var errNotWritten = errors.New("atrium: the ResponseWriter panicked")

// respond writes the response to a GET: the packets, or a noop if there are none.
func (t *polling) respond(w http.ResponseWriter, r *http.Request, body payload) {
	empty := len(body.packets) == 0
	if empty {
		body.packets = [][]byte{{byte(engineNoop)}}
	}
	err := errNotWritten
	defer func() {
		done := t.written(err)
		switch {
		case err != nil && empty && errors.Is(err, http.ErrHandlerTimeout):
			// Nothing is lost, and the client may still be there.
		case err != nil:
			t.fail(ReasonTransportError)
		case done:
			t.end()
		}
	}()
	if engineType(body.packets[0][0]) == engineClose {
		t.parting(w)
	}
	err = t.writePayload(w, r, body)
}

// written notes that the response to a GET was written, or with an error that it was not. It
// reports whether the session is closed and nothing is left to be sent. It locks.
func (t *polling) written(err error) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing--
	if t.state == pollOpen || t.state == pollUpgraded {
		return false
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.unsent = errNotSent
	}
	if len(t.packets) == 0 {
		return true
	}
	t.awaitGet()
	return false
}

// awaitPackets waits until something is queued, and pops all of it. It returns nothing if the GET
// is not to wait any longer: its client probes a WebSocket, or its time is up. Unless the GET is
// refused, a response is to be written. It locks.
func (t *polling) awaitPackets(ctx context.Context) (body payload, refused *refusal) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer func() {
		if refused == nil {
			t.writing++
		}
	}()
	if refused := t.served(); refused != nil {
		return body, refused
	}
	if t.getting {
		return body, errOverlap
	}
	if requestOverdue(ctx) {
		return body, nil // a response so late may not be read
	}
	t.getting = true
	// The client may send its next GET as soon as it has the response, and so before the handler of
	// this one returns.
	defer func() { t.getting = false }()
	for paused := false; len(t.packets) == 0; paused = true {
		if refused := t.served(); refused != nil {
			return body, refused
		}
		if paused && (t.probing != nil || requestOverdue(ctx)) {
			return body, nil
		}
		if refused := t.wait(ctx); refused != nil {
			return body, refused
		}
	}
	body = t.popAll()
	if last := len(body.packets) - 1; t.state != pollOpen && last > 0 {
		// The close packet goes alone: clients handle messages a turn of their event loop later,
		// but close at once.
		t.pollQueue.push(body.packets[last])
		body.packets = body.packets[:last]
	}
	if t.linger != nil {
		t.linger.Stop()
	}
	t.room.open()
	return body, nil
}

// wait waits until a GET should look again: something may be queued, or its client probes a
// WebSocket and waits for it. Meanwhile t.mu is not held.
func (t *polling) wait(ctx context.Context) *refusal {
	arrived := t.arrived.wait()
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
		if !requestOverdue(ctx) {
			if !t.session.reading.paused() { // a POST may say why the client goes
				_ = t.posted.await(context.Background(), &t.mu, func() bool { return !t.posting })
			}
			return errBrokenOff
		}
	}
	return nil
}

// post serves a POST.
func (t *polling) post(w http.ResponseWriter, r *http.Request) *refusal {
	t.session.check()
	ctx, cancel := beforeDeadline(r.Context())
	defer cancel()
	if refused := t.beginPost(ctx); refused != nil {
		return t.refuse(refused)
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(t.session.hub.options.Timeouts.Message))
	_ = control.SetWriteDeadline(time.Time{})
	body, err := t.readPost(w, r)
	if err != nil {
		t.endPost()
		return err
	}
	_ = control.SetReadDeadline(time.Time{}) // for what follows may wait for handlers
	err = t.receivePost(ctx, body)
	_ = control.SetWriteDeadline(time.Now().Add(pollWriteTimeout))
	if err != nil {
		return err
	}
	t.parting(w)
	writeOK(w)
	return nil
}

// beginPost waits until the POST before, if it had to be answered early, is done. A client that
// does not wait for the response breaks the rules. It locks.
func (t *polling) beginPost(ctx context.Context) (refused *refusal) {
	err := t.posted.await(ctx, &t.mu, func() bool {
		refused = t.served()
		switch {
		case refused != nil:
		case !t.posting:
			t.posting, t.postAnswered = true, false
		case !t.postAnswered:
			refused = errOverlap
		default:
			return false
		}
		return true
	})
	if err != nil {
		return errBrokenOff // and what it brings is lost
	}
	return refused
}

func (t *polling) endPost() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.posting = false
	t.posted.open()
}

// readPost reads the body of a POST. It locks.
func (t *polling) readPost(w http.ResponseWriter, r *http.Request) (payloadReader, *refusal) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/octet-stream") {
		t.fail(ReasonTransportError) // that was an earlier version of the protocol
		return payloadReader{}, errBadRequest
	}
	size := t.size.Load()
	body, err := io.ReadAll(io.TeeReader(http.MaxBytesReader(w, r.Body, size), (*bodyReads)(t)))
	if _, tooBig := errors.AsType[*http.MaxBytesError](err); tooBig {
		return payloadReader{}, t.failTooBig(r, size)
	}
	if err != nil {
		t.fail(ReasonTransportError)
		return payloadReader{}, errBadRequest
	}
	return payloadReader{rest: body, maxPacket: int(size)}, nil
}

// failTooBig ends the session because of a POST over the limit: Socket.IO's client ends it as well.
// It locks.
func (t *polling) failTooBig(r *http.Request, limit int64) *refusal {
	size := &oversized{limit: limit}
	problem := fmt.Sprintf("a payload is over the limit of %d bytes", limit)
	if r.ContentLength >= 0 {
		problem = fmt.Sprintf("a payload of %d bytes is over the limit of %d", r.ContentLength, limit)
		size.bytes = r.ContentLength
	}
	t.session.logTooBig(problem, size)
	t.fail(ReasonMessageTooBig)
	return payloadTooLarge(problem)
}

func payloadTooLarge(problem string) *refusal {
	return &refusal{code: "3", status: http.StatusRequestEntityTooLarge, message: "Payload too large: " + problem}
}

// receivePost handles the packets of a POST and ends it. That may wait for handlers, and so longer
// than a deadline that is not the hub's: when ctx, which has one then, ends, the POST may get its
// response before it is done. It locks.
func (t *polling) receivePost(ctx context.Context, body payloadReader) *refusal {
	receive := func() *refusal {
		defer t.endPost()
		if violated := t.receivePayload(body); violated != nil {
			t.session.endViolated(violated)
			t.end()
			if errors.Is(violated, ErrMessageTooBig) {
				return payloadTooLarge(violated.Message)
			}
			return errBadRequest
		}
		return nil
	}
	if _, limited := ctx.Deadline(); !limited {
		// While it waits for handlers nothing else notices that the client has gone.
		stop := context.AfterFunc(ctx, func() { t.fail(ReasonTransportClose) })
		defer stop()
		return receive()
	}
	received := make(chan *refusal, 1)
	go func() { received <- receive() }() // it ends with the session at the latest: see queue.pushLast
	select {
	case err := <-received:
		return err
	case <-ctx.Done():
		if !requestOverdue(ctx) {
			t.fail(ReasonTransportClose)
			return errBrokenOff
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.postAnswered = true
		return nil
	}
}

func (t *polling) receivePayload(r payloadReader) *Error {
	for r.next() {
		if k := r.packet.kind; k != enginePong && k != engineClose {
			t.countReceived(1, 0)
		}
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

// bodyReads counts the pieces of a POST's body as received: a large one may take longer than the
// ping timeout.
type bodyReads polling

func (l *bodyReads) Write(p []byte) (int, error) {
	l.received.Add(1)
	(*polling)(l).countReceived(0, len(p))
	return len(p), nil
}
