//go:build unix && !linux

package atrium

import "syscall"

// limitUnsent has no meaning here.
func limitUnsent(uintptr) {}

func writeLast(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
