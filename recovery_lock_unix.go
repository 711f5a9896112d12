//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package atrium

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks the file for this hub alone, until it is closed or the process ends. It reports
// false if another hub, of this process or another, has locked it.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, os.NewSyscallError("flock", err)
		}
	}
}
