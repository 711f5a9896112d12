package atrium

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// If the system cannot say who holds the lock, nobody waits for its holder, and nothing that may be
// another hub's is touched.
func TestRecoveryLockFails(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	lock, had, err := openLock(path + ".lock")
	if !had || err != nil {
		t.Fatal(had, err)
	}
	defer lock.Close()
	if err := writeFile(path, nil); err != nil {
		t.Fatal(err)
	}
	logger, log := newLog()
	h := New(Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}})
	const oPath = 0x200000 // O_PATH: a descriptor that cannot be locked
	fd, err := syscall.Open(path, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Dup3(fd, int(h.succession.lock.Fd()), syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	within(t, h.succession.waited, "the end of the wait")
	if got := log.String(); !strings.Contains(got, "Recovery.Path cannot be used") || !strings.Contains(got, "flock") {
		t.Errorf("the log has %s", got)
	}
	if err := h.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "flock") {
		t.Errorf("Shutdown: %v", err)
	}
	if err := mustBeRegular(path); err != nil {
		t.Error(err)
	}
	if left := h.load(); left != nil || strings.Contains(log.String(), "cannot be used: its") {
		t.Errorf("the file has been changed: %s", log)
	}
}
