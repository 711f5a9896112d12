package guide

import (
	"os"
	"path/filepath"
	"testing"
)

// A chat that ends leaves its state in the directory that it was given, and its successor takes it.
func TestChatLeavesItsState(t *testing.T) {
	dir := t.TempDir()
	if err := newChat(dir).Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "chat.state")
	if _, err := os.Stat(state); err != nil {
		t.Error(err)
	}
	successor := newChat(dir)
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("the state was not taken: %v", err)
	}
	if err := successor.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// Without systemd the listener is one of its own.
func TestListenerWithoutSystemd(t *testing.T) {
	l, err := listener("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// The options of a hub with bounds are ones that New takes.
func TestBoundedHub(t *testing.T) {
	if err := newBounded().Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
