//go:build unix && !solaris

package atrium

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A client that comes while the hub reads what its predecessor has left waits until it has.
func TestRecoveryAwaitsTheFile(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, had, err := openLock(path + ".lock")
	if !had || err != nil {
		t.Fatal(had, err)
	}
	if _, err := lock.WriteAt([]byte(draining), 0); err != nil {
		t.Fatal(err)
	}
	l := successor(t, overTCP, path, Options{Logger: slog.New(slog.DiscardHandler)})
	if err := lock.Close(); err != nil { // the predecessor ends
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0) // when the hub opens it
	if err != nil {
		t.Fatal(err)
	}
	g := &recoveryClient{ioClient: l.socketIO(t)}
	g.send("40" + proof(strings.Repeat("x", pidLength), "1"))
	eventually(t, "the client to wait", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.succession.changed.opened != nil
	})
	if err := file.Close(); err != nil { // the file is empty
		t.Fatal(err)
	}
	g.hello()
}
