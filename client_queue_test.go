package atrium

import (
	"slices"
	"testing"
)

func parcelTexts(parcels []*parcel) (list []string) {
	for _, m := range parcels {
		list = append(list, string(m.text))
	}
	return list
}

// What waits, and which calls, through two connections that end.
func TestClientQueue(t *testing.T) {
	var q clientQueue
	event := func(text string) *parcel { return &parcel{text: []byte(text)} }
	call := func(text string) *clientCall {
		m := event(text)
		m.call = &clientCall{id: q.nextID, parcel: m}
		q.nextID++
		return m.call
	}
	want := func(when string, calls int, waiting ...string) {
		t.Helper()
		size := 0
		for _, m := range q.parcels {
			size += m.size()
		}
		if got := parcelTexts(q.parcels); !slices.Equal(got, waiting) || len(q.calls) != calls || q.size != size {
			t.Errorf("%s: %q waits, %d bytes, %d calls; want %q, %d bytes, %d calls", when, got, q.size, len(q.calls), waiting, size, calls)
		}
	}
	sendAll := func() {
		q.remove(func(m *parcel) bool { q.accept(m, true); return true })
	}

	a, b, c := call("a"), call("b"), call("c")
	for _, m := range []*parcel{a.parcel, event("1"), b.parcel, c.parcel} {
		q.push(m)
	}
	q.cancel(b)
	want("before the first connection", 2, "a", "1", "c")
	if q.answered(a.id) != nil {
		t.Error("a call was answered that was not sent")
	}
	sendAll()
	want("sent", 2)
	if q.answered(c.id) != c || q.answered(c.id) != nil {
		t.Error("a call is answered once")
	}
	d := call("d")
	q.accept(d.parcel, true)
	q.push(event("2"))
	if failed := q.requeue(1); failed != nil {
		t.Errorf("%d calls failed", len(failed))
	}
	want("after the first connection", 2, "a", "d", "2")

	// The second connection ends before anything is sent on it: that is no attempt.
	if failed := q.requeue(1); failed != nil {
		t.Errorf("%d calls failed", len(failed))
	}
	want("after one that took nothing", 2, "a", "d", "2")
	sendAll()
	e := call("e")
	q.push(e.parcel)
	if failed := q.requeue(1); len(failed) != 2 {
		t.Errorf("%d calls failed", len(failed))
	}
	want("after the last retry", 1, "e")
	if failed := q.fail(wasSent); failed != nil {
		t.Errorf("%d calls failed that were not sent", len(failed))
	}
	if failed := q.fail(func(*clientCall) bool { return true }); len(failed) != 1 || failed[0] != e {
		t.Errorf("%d calls failed", len(failed))
	}
	want("at the end", 0)
	if q.calls != nil || q.parcels != nil {
		t.Errorf("left behind: %+v", q)
	}
}
