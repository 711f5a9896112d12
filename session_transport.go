package atrium

import (
	"context"
	"net"
)

// transport is how a session's messages travel: over a WebSocket, or by HTTP long-polling.
type transport interface {
	// push queues a message; see outbox.push and outbox.pushVolatile. It may be called under a
	// room's lock.
	push(f *wireForm, volatile bool, by pusher) (v pushResult, wake bool)
	// pushPing queues a ping, ahead of messages if it can.
	pushPing(f *wireForm) (queued, wake bool)
	// wake has what is queued sent. It does not wait, and is called without locks.
	wake()
	// agreed returns what was agreed on compression.
	agreed() compression
	// waitUntilHalf waits until less than half of what permit permits is queued.
	waitUntilHalf(ctx context.Context) error
	// permit sets the limits of a message that is received and of what is queued, in bytes.
	permit(size int64, queued int)
	// status returns what the transport has seen and what is queued, at one moment.
	status() transportStatus

	// close sends what is queued, unless mode says otherwise, and then ends the connection. It does
	// not wait. The code noCloseFrame means that the peer has ended the connection.
	close(code StatusCode, text string, mode closeMode)
	// closeNow ends the connection at once.
	closeNow()
	// missed returns the error of a connection that has ended before all that was to be delivered
	// had left, because the peer did not take it; nil otherwise.
	missed() error
}

// transport returns how messages travel at the moment: the client may upgrade from polling, once.
// What is pushed before and after arrives in this order, because the upgrade moves what is queued
// before the session has the new transport; see polling.upgrade. A polling that was upgraded from
// refuses what is pushed.
func (s *session) transport() transport {
	if conn := s.conn.Load(); conn != nil {
		return webSocket{conn}
	}
	return s.poll
}

// onTransport calls f with the transport, and again with the new one if the client has upgraded
// meanwhile.
func (s *session) onTransport(f func(transport)) {
	t := s.transport()
	f(t)
	if now := s.transport(); now != t {
		f(now)
	}
}

// closeNow ends the connection at once.
func (s *session) closeNow() { s.onTransport(transport.closeNow) }

// waitUntilHalf waits until less than half of Limits.QueuedBytes is queued.
func (s *session) waitUntilHalf(ctx context.Context) (err error) {
	s.onTransport(func(t transport) { err = t.waitUntilHalf(ctx) })
	return err
}

// transportStatus is what a session sees of its transport.
type transportStatus struct {
	queueStatus
	received   uint32 // how often something was received
	unfinished int64  // nanotime since when the rest of a message is waited for; 0: no message is incomplete
	open       bool   // nobody has begun to close the connection
}

// webSocket is a Conn as a transport.
type webSocket struct{ *Conn }

func (t webSocket) push(f *wireForm, volatile bool, by pusher) (v pushResult, wake bool) {
	frame := f.frame(t.compression)
	if volatile {
		v, wake = t.out.pushVolatile(frame, by)
	} else {
		v, wake = t.out.push(frame, by)
	}
	if attached := len(f.base64); attached > 0 && v <= pushOverLimit && by != forWriter {
		t.out.pushedMore(attached)
	}
	return v, wake
}

func (t webSocket) pushPing(f *wireForm) (queued, wake bool) {
	t.pings.heartbeat.ping()
	return t.out.pushControl(opPing, f.whole)
}
func (t webSocket) agreed() compression                     { return t.compression }
func (t webSocket) waitUntilHalf(ctx context.Context) error { return t.out.waitBelow(ctx, 2) }
func (t webSocket) closeNow()                               { _ = t.cut(net.ErrClosed) }
func (t webSocket) missed() error                           { return t.out.closedBy().missed() }

func (t webSocket) status() transportStatus {
	return transportStatus{t.out.status(), t.reads.Load(), t.partialSince.Load(), t.State() == StateOpen}
}

func (t webSocket) permit(size int64, queued int) {
	t.readLimit.Store(size)
	t.out.bound(queued)
}

func (t webSocket) close(code StatusCode, text string, mode closeMode) {
	if code != noCloseFrame {
		t.beginClose(code, text, mode)
	}
}
