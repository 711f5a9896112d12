package atrium

import (
	"runtime"
	"sync/atomic"
)

// Ack sends the acknowledgement of an event after the event's handler has returned: see OnAck and
// Event.Later. One reply can be sent. Both methods may be called from any goroutine, and neither
// waits.
//
// If the socket is disconnected by then, the acknowledgement is dropped, as an Emit is;
// Socket.Context tells. If none is sent, the sender's Call ends with its time-out. Hub.Shutdown
// waits for it as for a handler, unless the Ack was dropped and collected.
type Ack struct {
	event *Event // without arguments when the handler has returned
	owed  *owed  // nil if nobody counts it
}

// owed is an acknowledgement that is to come later, as a sender counts it that bounds how many
// there are.
type owed struct {
	sender  interface{ owe(change int32) } // a *Socket
	settled atomic.Bool
}

// settle counts it no longer.
func (o *owed) settle() {
	if o.settled.CompareAndSwap(false, true) {
		o.sender.owe(-1)
	}
}

// settle notes that the acknowledgement is not owed any more. The Ack may be nil.
func (a *Ack) settle() {
	if a != nil && a.owed != nil {
		a.owed.settle()
	}
}

// Later returns an Ack with which the event is acknowledged later: the handler may return without a
// reply, so that slow work does not hold up the socket's next events. Limits.Calls bounds how many
// of a socket's events are so. Nothing else of the event may be used after the handler has
// returned.
func (e *Event) Later() *Ack {
	if e.later != nil {
		return e.later
	}
	e.later = &Ack{event: e}
	if sender, ok := e.sender.(interface{ owe(change int32) }); ok && !e.given.Load() {
		sender.owe(+1)
		e.later.owed = &owed{sender: sender}
		runtime.AddCleanup(e.later, (*owed).settle, e.later.owed) // the application may drop the Ack
	}
	return e.later
}

// Reply sends the acknowledgement. Its errors are those of Event.Reply. If an argument could not be
// encoded, Reply may be called again.
func (a *Ack) Reply(args ...any) error { return a.event.Reply(args...) }

// ReplyError reports an error to the sender, as Event.ReplyError does.
func (a *Ack) ReplyError(err error) { a.event.ReplyError(err) }

// OnAck is On for a handler whose reply comes later: f passes the Ack to the goroutine that does
// the work, and returns. If f returns an error, that is the reply. Limits.Calls bounds what one
// client can start so, and the application the work of all clients together: these handlers do not
// block, which would slow a client down.
//
//	atrium.OnAck(h, "render", func(s *atrium.Socket, job Job, ack *atrium.Ack) error {
//		return pool.Submit(s.Context(), func() { ack.Reply(render(job)) })
//	})
func OnAck[S, T any](r Registrar[S], event string, f func(S, T, *Ack) error) {
	mustFunc(f == nil, "OnAck")
	registerTyped(r, event, func(s S, v T, e *Event) error { return f(s, v, e.Later()) })
}
