package atrium

import "sync"

// Buffers of three sizes are pooled: bytes are in one from a read of the network until they are
// parsed, and while they are gathered for a write. Where nothing is read or written there is none.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

var bufferPools = [3]sync.Pool{
	{New: func() any { return newBuffer(smallBuffer) }},
	{New: func() any { return newBuffer(largeBuffer / 4) }},
	{New: func() any { return newBuffer(largeBuffer) }},
}

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// bufferSize returns the size of the smallest buffer for n bytes, or of the largest there is, and
// its pool.
func bufferSize(n int) (size int, pool *sync.Pool) {
	switch {
	case n <= smallBuffer:
		return smallBuffer, &bufferPools[0]
	case n <= largeBuffer/4:
		return largeBuffer / 4, &bufferPools[1]
	}
	return largeBuffer, &bufferPools[2]
}

// acquireBuffer returns a buffer for n bytes, or the largest.
func acquireBuffer(n int) *[]byte {
	_, pool := bufferSize(n)
	return pool.Get().(*[]byte)
}

// releaseBuffer gives a buffer back; nil is none.
func releaseBuffer(b *[]byte) {
	if b == nil {
		return
	}
	*b = (*b)[:cap(*b)]
	_, pool := bufferSize(len(*b))
	pool.Put(b)
}
