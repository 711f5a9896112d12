//go:build unix && !solaris

package atrium

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// blockingLog is a log whose entries wait until it is closed.
type blockingLog chan struct{}

func (b blockingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (b blockingLog) Handle(context.Context, slog.Record) error { <-b; return nil }
func (b blockingLog) WithAttrs([]slog.Attr) slog.Handler        { return b }
func (b blockingLog) WithGroup(string) slog.Handler             { return b }

// A client that comes while the hub reads what its predecessor has left waits until it has.
func TestRecoveryAwaitsTheFile(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, nil, 0o600); err != nil { // which is worth a log entry
		t.Fatal(err)
	}
	lock, had, err := openLock(path + ".lock")
	if !had || err != nil {
		t.Fatal(had, err)
	}
	if _, err := lock.WriteAt([]byte(draining), 0); err != nil {
		t.Fatal(err)
	}
	log := make(blockingLog)
	l := successor(t, overTCP, path, Options{Logger: slog.New(log)})
	if err := lock.Close(); err != nil { // the predecessor ends
		t.Fatal(err)
	}
	g := &recoveryClient{ioClient: l.socketIO(t)}
	g.send("40" + proof(strings.Repeat("x", pidLength), "1"))
	eventually(t, "the client to wait", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.succession.changed.opened != nil
	})
	log <- struct{}{} // it has read the file
	close(log)
	g.hello()
}

// A named pipe, which nobody writes to, holds up neither New nor Shutdown, and is not replaced.
func TestRecoveryPathIsAPipe(t *testing.T) {
	noLeaks(t)
	path := filepath.Join(t.TempDir(), "state")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	logger, log := newLog()
	h := New(Options{Logger: logger, Recovery: Recovery{MaxDisconnection: time.Minute, Path: path}})
	if err := h.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("Shutdown: %v", err)
	}
	if !strings.Contains(log.String(), "is no regular file") {
		t.Errorf("the log has %s", log)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().IsRegular() {
		t.Errorf("it is %v, %v", info, err)
	}
}
