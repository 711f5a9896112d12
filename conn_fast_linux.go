package atrium

import (
	"math"
	"net"
	"syscall"
	"time"
)

const (
	tcpUserTimeout  = 18 // TCP_USER_TIMEOUT, which package syscall does not name
	tcpNotSentLowat = 25 // TCP_NOTSENT_LOWAT, likewise
	maxUnsent       = 128 << 10
)

// limitUnsent bounds what the kernel queues of a TCP connection beyond what it has sent, in bytes.
// Without that it takes megabytes, and when they are full takes no more until a third of them has
// left: a peer that reads slowly but steadily would look as if it did not read at all, and pings
// would wait behind it all. It makes no difference to a peer that keeps up.
func limitUnsent(fd uintptr) {
	_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxUnsent) // an old kernel goes without
}

// limitSilence has the kernel end a TCP connection, also one below TLS, whose peer has for so long
// acknowledged nothing of what was sent, or had no room for it; at least a second. Without that
// the kernel goes on for a quarter of an hour, which matters where no ping timeout ends the
// connection: while the hub does not read it, or has closed it already.
func limitSilence(nc net.Conn, d time.Duration) {
	if outer, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = outer.NetConn()
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	ms := min(max(d, time.Second).Milliseconds(), math.MaxInt32)
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(ms)) // it is an addition
	})
}

// writeLast is syscall.Write for bytes that the end of the stream follows: the kernel sends both in
// one packet. Without the end they leave after 200 ms.
func writeLast(fd int, p []byte) (int, error) {
	return syscall.SendmsgN(fd, p, nil, nil, syscall.MSG_MORE)
}
