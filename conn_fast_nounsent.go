//go:build unix && !linux

package atrium

import (
	"net"
	"syscall"
	"time"
)

// limitUnsent has no meaning here.
func limitUnsent(uintptr) {}

// limitSilence has none either.
func limitSilence(net.Conn, time.Duration) {}

func writeLast(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
