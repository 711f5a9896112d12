package atrium

import "time"

// eventRate is a token bucket for the events of one client: it holds burst tokens at most, of which
// each event takes one, and gets rate of them a second. The zero value is full.
type eventRate struct {
	fullAt int64 // nanotime at which it is full again, if nothing is taken until then; 0: nothing was taken yet
}

// take takes a token at the nanotime now, and reports false if there is none.
func (r *eventRate) take(now int64, rate, burst int) bool {
	each := max(int64(time.Second)/int64(rate), 1)
	missing := int64(0) // nanoseconds until it is full
	if r.fullAt != 0 {
		missing = max(r.fullAt-now, 0)
	}
	if (missing+each-1)/each >= int64(burst) {
		return false
	}
	r.fullAt = now + missing + each
	return true
}
