//go:build unix

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/examples/chat/chatroom"
)

const password = "atrium"

// serve is a server process. It runs until it gets SIGTERM; dir is where it finds what its
// predecessor has left, and leaves it for its successor. A program that is to be restarted
// unnoticed needs these lines, of which three are Atrium's.
func serve(dir string) error {
	file := os.NewFile(3, "listener")
	ln, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("descriptor 3 should be a listener: %w", err)
	}
	file.Close() // ln has a duplicate

	signal.Ignore(os.Interrupt) // Ctrl-C goes to all processes of a terminal; the supervisor decides
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	// 1. Sessions outlive connections, and with a Path the process: whoever comes back within a
	// minute continues, with id, rooms, values and all that was said meanwhile, whichever process
	// it was said to.
	h := chatroom.New(password, atrium.Options{
		Recovery: atrium.Recovery{MaxDisconnection: time.Minute, Path: filepath.Join(dir, "sessions")},
	})

	// 2. We are ready when connections can be made, which wait in the listener until Serve.
	fmt.Println("ready")

	// 3. Serve serves until SIGTERM. Then it closes our side of the listener, lets the clients go,
	// and writes the sessions.
	srv := &http.Server{Handler: chatroom.Handler(h), ReadHeaderTimeout: 5 * time.Second}
	return h.Serve(terminated, srv, ln)
}
