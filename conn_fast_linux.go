package atrium

import "syscall"

const (
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT, which package syscall does not name
	maxUnsent       = 128 << 10
)

// limitUnsent bounds what the kernel queues of a TCP connection beyond what it has sent, in bytes.
// Without that it takes megabytes, and when they are full takes no more until a third of them has
// left: a peer that reads slowly but steadily would look as if it did not read at all, and pings
// would wait behind it all. It makes no difference to a peer that keeps up.
func limitUnsent(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent) // an old kernel goes without
}

// writeLast is syscall.Write for bytes that the end of the stream follows: the kernel sends both in
// one packet. Without the end they leave after 200 ms.
func writeLast(fd int, p []byte) (int, error) {
	return syscall.SendmsgN(fd, p, nil, nil, syscall.MSG_MORE)
}
