package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// buildExample builds an example once for all tests. With the race detector on here, it is on there
// too.
func buildExample(name string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(scratch, name)
		args := []string{"build", "-o", path}
		if raceDetector {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "./examples/"+name)...)
		build.Dir = ".."
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building examples/%s: %w\n%s", name, err, out)
		}
		return path, nil
	})
}

var buildChat, buildSocketIO = buildExample("chat"), buildExample("socketio")

func binary(t *testing.T, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A server is an example, running as a process of its own.
type server struct {
	t       *testing.T
	url     string // as it prints it, with a slash at the end
	addr    string
	process *exec.Cmd
	ended   chan struct{} // closed when the process is gone; then err says how
	err     error

	stdout text // behind the first line
	stderr text
}

// text is what a process has written so far.
type text struct {
	mu      sync.Mutex
	written bytes.Buffer // guarded by mu
}

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.written.Write(b)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.written.String()
}

var opens = regexp.MustCompile(`http://(\S+?)/`)

// start runs the chat until the test ends, on a free port of the loopback interface unless args say
// otherwise.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	return run(t, binary(t, buildChat), args...)
}

// run is start for any example.
func run(t *testing.T, path string, args ...string) *server {
	t.Helper()
	s := &server{t: t, ended: make(chan struct{})}
	s.process = exec.Command(path, append([]string{"-addr", "127.0.0.1:0"}, args...)...)
	s.process.Stderr = &s.stderr
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1)
	go func() {
		out := bufio.NewReader(stdout)
		line, _ := out.ReadString('\n')
		lines <- line
		io.Copy(&s.stdout, out)
		s.err = s.process.Wait()
		close(s.ended)
	}()
	t.Cleanup(s.interrupt)
	select {
	case line := <-lines:
		found := opens.FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("it printed %q instead of its address; stderr:\n%s", line, &s.stderr)
		}
		s.url, s.addr = found[0], found[1]
	case <-time.After(patience):
		t.Fatal("it did not print its address")
	}
	return s
}

// kill ends the process as a power cut would.
func (s *server) kill() {
	s.t.Helper()
	if err := s.process.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// interrupt is Ctrl-C. It fails the test unless the process leaves in peace and has complained of
// nothing.
func (s *server) interrupt() {
	s.t.Helper()
	select {
	case <-s.ended:
	default:
		s.process.Process.Signal(os.Interrupt) // fails only if it ended this very moment, and that shows below
		select {
		case <-s.ended:
		case <-time.After(patience):
			s.process.Process.Kill()
			<-s.ended
			s.t.Error("it did not end when interrupted")
		}
		if s.err != nil {
			s.t.Errorf("it ended, interrupted, with: %v", s.err)
		}
	}
	if wrong := s.stderr.String(); wrong != "" {
		s.t.Errorf("it complained:\n%s", wrong)
	}
}

// take returns the text and forgets it.
func (x *text) take() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.written.Reset()
	return x.written.String()
}

// quietAddr returns an address for a server that ends and comes back. Its port is below those that
// a system gives to whoever asks for any (on Linux from 32768 up), so that nobody gets it by chance
// in between.
func quietAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(10_000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no port is free between 20000 and 30000")
	return ""
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	s := start(t)
	out, err := exec.Command(binary(t, buildChat), "-addr", s.addr).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("a second chat on the same port ended with %v, want exit status 1", err)
	}
	for _, want := range []string{s.addr, "in use", "-addr"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it said %q, want a sentence with %q", out, want)
		}
	}
}
