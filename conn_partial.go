package atrium

import "slices"

// partial is a message of which not all has come yet. Its memory grows with what was received, not
// with what a header announced: it is at most twice that, or a large buffer more.
type partial struct {
	head []byte   // in the memory of whoever reads the message
	more *buffers // what follows, if the head is full and holds as much as a large buffer
}

// buffers are large pooled buffers, full but for the last: what is in them is not moved while more
// comes.
type buffers []*[]byte

// size returns how many bytes have come.
func (m *partial) size() int {
	if m.more == nil {
		return len(m.head)
	}
	last := len(*m.more) - 1
	return len(m.head) + last*largeBuffer + len(*(*m.more)[last])
}

// add copies what has come to the end of the message.
func (m *partial) add(p []byte) {
	if m.more == nil && len(p) <= max(cap(m.head), largeBuffer)-len(m.head) {
		m.head = append(m.head, p...)
		return
	}
	for len(p) > 0 {
		n := copy(m.room(), p)
		m.extend(n)
		p = p[n:]
	}
}

// room returns memory for the next bytes of the message, which extend then adds.
func (m *partial) room() []byte {
	if m.more == nil {
		if len(m.head) == cap(m.head) && len(m.head) < largeBuffer {
			m.head = slices.Grow(m.head, len(m.head))
		}
		if len(m.head) < cap(m.head) {
			return m.head[len(m.head):cap(m.head)]
		}
		m.more = new(buffers)
	}
	if n := len(*m.more); n == 0 || len(*(*m.more)[n-1]) == largeBuffer {
		b := acquireBuffer(largeBuffer)
		*b = (*b)[:0]
		*m.more = append(*m.more, b)
	}
	last := *(*m.more)[len(*m.more)-1]
	return last[len(last):cap(last)]
}

// extend adds the n bytes that were put into room.
func (m *partial) extend(n int) {
	end := &m.head
	if m.more != nil {
		end = (*m.more)[len(*m.more)-1]
	}
	*end = (*end)[:len(*end)+n]
}

// join returns the message in one piece, and leaves nothing.
func (m *partial) join() []byte {
	p := m.head
	if m.more != nil {
		p = append(make([]byte, 0, m.size()), m.head...)
		for _, b := range *m.more {
			p = append(p, *b...)
			releaseBuffer(b)
		}
	}
	*m = partial{}
	return p
}
