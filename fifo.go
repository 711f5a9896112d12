package atrium

// fifo is a queue in a slice. The zero value is empty. It has no lock.
//
// push appends. pop moves what is left to the front of the slice when a third of that is free, so
// that a queue that never runs empty does not grow. An emptied queue keeps its capacity: see
// shrink.
type fifo[T any] struct {
	items []T // items[head:] are queued; those before are zero
	head  int
}

// minMove is how many items have left the front of the slice, at least, before the others are moved
// there.
const minMove = 8

// len returns how many items are queued.
func (q *fifo[T]) len() int { return len(q.items) - q.head }

// push adds an item at the back.
func (q *fifo[T]) push(item T) { q.items = append(q.items, item) }

// at returns the item that i others are in front of. It is valid until the next push, pop or
// shrink.
func (q *fifo[T]) at(i int) *T { return &q.items[q.head+i] }

// pop removes the item at the front. It reports false if there is none.
func (q *fifo[T]) pop() (item T, ok bool) {
	if q.head == len(q.items) {
		return item, false
	}
	var zero T
	item, q.items[q.head] = q.items[q.head], zero
	q.head++
	switch left := q.len(); {
	case left == 0:
		q.items, q.head = q.items[:0], 0
	case q.head >= minMove && q.head > left/2:
		copy(q.items, q.items[q.head:])
		clear(q.items[left:])
		q.items, q.head = q.items[:left], 0
	}
	return item, true
}

// shrink releases the capacity for more than most items if it is more than eight times what is
// needed.
func (q *fifo[T]) shrink(most int) {
	left := q.len()
	switch room := cap(q.items); {
	case room <= most || room <= 8*left:
	case left == 0:
		q.items, q.head = nil, 0
	default:
		q.items, q.head = append(make([]T, 0, 2*left), q.items[q.head:]...), 0
	}
}
