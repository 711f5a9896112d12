package atrium

// Ack is an acknowledgement that is given after its event's handler has returned: see OnAck and Event.Later. It can be
// given once. Both methods may be called from any goroutine, and neither waits.
//
// If the socket has gone meanwhile, the acknowledgement is dropped, as an Emit is; Socket.Context tells. One that is
// never given leaves the sender to its time-out. Hub.Shutdown does not wait for it.
type Ack struct{ event *Event } // without its arguments, once the handler has returned

// Later takes the acknowledgement from the handler, which may then return without giving it, so that slow work does not
// hold up the socket's next events. What is needed of the event beside that is to be taken before the handler returns.
func (e *Event) Later() *Ack {
	if e.later == nil {
		e.later = &Ack{e}
	}
	return e.later
}

// Reply sends the acknowledgement. Its errors are those of Event.Reply: ErrNoAck, or that an argument cannot be encoded,
// after which it may be called again.
func (a *Ack) Reply(args ...any) error { return a.event.Reply(args...) }

// ReplyError tells the sender what went wrong, as Event.ReplyError does.
func (a *Ack) ReplyError(err error) { a.event.ReplyError(err) }

// OnAck is On for a handler whose answer comes later: it hands the Ack to whoever does the work, and returns. An error
// that it returns is the answer. Work that it starts is the application's to bound: while a handler blocks, its socket
// sends no more than fits its inbox, and here nothing blocks.
//
//	atrium.OnAck(h, "render", func(s *atrium.Socket, job Job, ack *atrium.Ack) error {
//		return pool.Submit(s.Context(), func() { ack.Reply(render(job)) })
//	})
func OnAck[S, T any](r Registrar[S], event string, f func(S, T, *Ack) error) {
	mustFunc(f == nil, "OnAck")
	registerTyped(r, event, func(s S, v T, e *Event) error { return f(s, v, e.Later()) })
}
