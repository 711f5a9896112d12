package atrium

import (
	"cmp"
	"slices"
)

// clientQueue is what a Client has still to send, and the calls that it waits for an answer to. It
// is pure, and guarded by Client.mu.
type clientQueue struct {
	parcels []*parcel             // that wait for a connection, in order
	size    int                   // theirs, in bytes of memory
	calls   map[int64]*clientCall // by id; nil if there are none
	nextID  int64                 // of a call; they begin at 0 and are never used twice
}

// parcel is an encoded packet for the server, for as long as it may have to be sent.
type parcel struct {
	text        []byte   // an Engine.IO message
	attachments [][]byte // that follow
	volatile    bool
	call        *clientCall // that the answer is for; nil if none is wanted
}

// clientCall is a Call to the server.
type clientCall struct {
	id      int64
	parcel  *parcel
	waits   bool       // the parcel waits for a connection
	sent    bool       // at least once
	retries int        // how often it was sent again, or is to be
	done    chan Reply // has room for the one that there will be
}

const (
	// parcelOverhead is what a parcel that waits takes beside its bytes, and attachmentOverhead
	// each of its attachments.
	parcelOverhead     = 160
	attachmentOverhead = 48
)

// size is what the parcel takes of memory, in bytes.
func (m *parcel) size() int {
	size := parcelOverhead + len(m.text)
	for _, attachment := range m.attachments {
		size += len(attachment) + attachmentOverhead
	}
	return size
}

// push queues a parcel until there is a connection.
func (q *clientQueue) push(m *parcel) {
	q.parcels = append(q.parcels, m)
	q.size += m.size()
	q.accept(m, false)
}

// accept notes that the parcel of a call was sent, or that it waits for a connection.
func (q *clientQueue) accept(m *parcel, sent bool) {
	k := m.call
	if k == nil {
		return
	}
	if q.calls == nil {
		q.calls = make(map[int64]*clientCall)
	}
	q.calls[k.id] = k
	k.waits = !sent
	k.sent = k.sent || sent
}

// remove drops the parcels for which drop is true from those that wait.
func (q *clientQueue) remove(drop func(*parcel) bool) {
	q.parcels = slices.DeleteFunc(q.parcels, func(m *parcel) bool {
		dropped := drop(m)
		if dropped {
			q.size -= m.size()
		}
		return dropped
	})
	if len(q.parcels) == 0 {
		q.parcels = nil
	}
}

// forget removes a call, so that its answer is ignored.
func (q *clientQueue) forget(k *clientCall) {
	delete(q.calls, k.id)
	if len(q.calls) == 0 {
		q.calls = nil
	}
}

// cancel removes a call whose caller has stopped waiting. If it was not sent yet, it will not be.
func (q *clientQueue) cancel(k *clientCall) {
	q.forget(k)
	if k.waits {
		q.remove(func(m *parcel) bool { return m.call == k })
	}
}

// answered removes and returns the call that the server has answered; nil if there is none.
func (q *clientQueue) answered(id int64) *clientCall {
	k := q.calls[id]
	if k == nil || !k.sent {
		return nil
	}
	q.forget(k)
	return k
}

// fail removes the calls for which which is true, also from what waits, and returns them.
func (q *clientQueue) fail(which func(*clientCall) bool) (failed []*clientCall) {
	for _, k := range q.calls {
		if which(k) {
			q.forget(k)
			failed = append(failed, k)
		}
	}
	q.remove(func(m *parcel) bool { return m.call != nil && q.calls[m.call.id] == nil })
	return failed
}

// requeue is for the end of a connection. It puts the calls that were sent in front of what waits,
// each up to retries times, and removes and returns those that were sent more often.
func (q *clientQueue) requeue(retries int) (failed []*clientCall) {
	unanswered := func(k *clientCall) bool { return k.sent && !k.waits }
	failed = q.fail(func(k *clientCall) bool { return unanswered(k) && k.retries == retries })
	var again []*clientCall
	for _, k := range q.calls {
		if unanswered(k) {
			again = append(again, k)
		}
	}
	slices.SortFunc(again, func(a, b *clientCall) int { return cmp.Compare(a.id, b.id) })
	later := q.parcels
	q.parcels, q.size = nil, 0
	for _, k := range again {
		k.retries++
		q.push(k.parcel)
	}
	for _, m := range later {
		q.push(m)
	}
	return failed
}

// wasSent reports whether a call was sent at least once: it fails when the client stops, and others
// wait for Connect.
func wasSent(k *clientCall) bool { return k.sent }
