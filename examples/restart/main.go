// Restart restarts the chat of examples/chat every ten seconds, while simulated clients talk in its
// lobby, and prints what they notice: that nothing is lost, doubled or out of order. Run it, open
// the address that it prints in a browser, and take part.
//
//	go run ./examples/restart
//	go run ./examples/restart -every 3s -clients 200
//
// The program runs as two kinds of process. This one opens the listener and gives it to each server
// process that it starts, as systemd does with a socket unit: however often servers come and go,
// the address is never closed, and a client that connects between two of them waits a moment. What
// a server has to do is in server.go. What clients do is in clients.go.
//
// It needs a Unix: Windows has no such way to give a listener to another process.

//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("restart: ")
	if os.Getenv("LISTEN_FDS") != "" { // we are a server process
		if err := serve(os.Getenv("STATE_DIRECTORY")); err != nil {
			log.Fatal(err)
		}
		return
	}
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on")
	every := flag.Duration("every", 10*time.Second, "time between two restarts; with 0 there is one for each SIGHUP only")
	clients := flag.Int("clients", 20, "simulated clients")
	flag.Parse()

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(interrupted, *addr, *every, *clients); err != nil {
		log.Fatal(err)
	}
}

// run lets clients talk and restarts their server until ctx ends.
func run(ctx context.Context, addr string, every time.Duration, clients int) error {
	s, err := newSupervisor(addr)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.restart(); err != nil {
		return err
	}
	fmt.Printf("The chat is open at http://%s/ and the password is %s. Its server is process %d.\n", s.addr, password, s.server.Process.Pid)
	c := &crowd{addr: s.addr, pause: time.Second}
	defer c.leave()
	if err := c.enter(ctx, clients); err != nil {
		return err
	}

	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		case now := <-second.C:
			fmt.Println(c)
			if every == 0 || now.Sub(last) < every {
				continue
			}
		}
		last = time.Now()
		if err := s.restart(); err != nil {
			log.Print(err)
		}
		fmt.Printf("Restarted in %v. Its server is process %d.\n", time.Since(last).Round(time.Millisecond), s.server.Process.Pid)
	}
}

// supervisor starts and ends the server processes, which share a listener.
type supervisor struct {
	addr     string
	listener *os.File
	dir      string    // where a server leaves what its successor needs
	server   *exec.Cmd // the latest; nil before the first
}

func newSupervisor(addr string) (*supervisor, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w (choose another address with -addr)", err)
	}
	defer ln.Close()
	dir, err := os.MkdirTemp("", "atrium-restart-")
	if err != nil {
		return nil, err
	}
	// ln.File would do, but that the File makes the listener blocking, for all processes, each time
	// that it is given to one.
	s := &supervisor{addr: ln.Addr().String(), dir: dir}
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		return nil, err
	}
	raw.Control(func(fd uintptr) {
		var twin int
		twin, err = syscall.Dup(int(fd))
		s.listener = os.NewFile(uintptr(twin), "listener")
	})
	return s, err
}

// restart starts a server, waits until it is ready, and ends the one before. Meanwhile there are
// two, and a new connection goes to either, until the old one closes its side of the listener.
func (s *supervisor) restart() error {
	path, err := os.Executable()
	if err != nil {
		return err
	}
	successor := exec.Command(path)
	successor.Env = append(os.Environ(), "LISTEN_FDS=1", "STATE_DIRECTORY="+s.dir) // the names are systemd's
	successor.ExtraFiles = []*os.File{s.listener}                                  // from descriptor 3 on
	successor.Stderr = os.Stderr
	out, err := successor.StdoutPipe()
	if err != nil {
		return err
	}
	if err := successor.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the server did not get ready: %w", errors.Join(err, successor.Wait()))
	}
	predecessor := s.server
	s.server = successor
	return end(predecessor)
}

// end tells a server to end, as systemd and Kubernetes do, and waits until it has.
func end(server *exec.Cmd) error {
	if server == nil {
		return nil
	}
	if err := errors.Join(server.Process.Signal(syscall.SIGTERM), server.Wait()); err != nil {
		return fmt.Errorf("server process %d: %w", server.Process.Pid, err)
	}
	return nil
}

func (s *supervisor) close() {
	if err := end(s.server); err != nil {
		log.Print(err)
	}
	s.listener.Close()
	os.RemoveAll(s.dir)
}
