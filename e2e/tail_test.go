package e2e

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var buildTail = buildExample("tail")

// A tailer is examples/tail, running.
type tailer struct {
	t      *testing.T
	lines  chan string
	in     io.Writer
	ended  chan struct{} // closed when the process is gone; then err says how
	err    error
	stderr bytes.Buffer // complete then
	cmd    *exec.Cmd
}

func startTail(t *testing.T, args ...string) *tailer {
	t.Helper()
	p := &tailer{t: t, lines: make(chan string, 1000), ended: make(chan struct{})}
	p.cmd = exec.Command(binary(t, buildTail), args...)
	p.cmd.Stderr = &p.stderr
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.in = in
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// until waits for a line with the text in it.
func (p *tailer) until(text string) {
	p.t.Helper()
	for !strings.Contains(receive(p.t, p.lines, text), text) {
	}
}

// exits waits for the end of the process, with the code, and returns what it complained of.
func (p *tailer) exits(code int) string {
	p.t.Helper()
	receive(p.t, p.ended, "the end of tail")
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("tail exits with %d, want %d; stderr: %s", got, code, &p.stderr)
	}
	return p.stderr.String()
}

// TestTail: two terminals talk to each other, in either example.
func TestTail(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name            string
		server          *server
		join, say, what string
		bad             string
	}{
		{"chat", start(t), `join {"room":"lobby"}`, `say {"room":"lobby"}`, `"said"`, `{"name":"Eve","password":"wrong"}`},
		{"socketio", run(t, binary(t, buildSocketIO)), `join-room "lobby"`, `send-msg {"room":"lobby"}`, `"msg"`, `{"name":"Eve","token":"wrong"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := func(name string) []string {
				return []string{"-auth", `{"name":"` + name + `","password":"atrium","token":"atrium"}`, "-join", test.join, "-say", test.say, test.server.url}
			}
			ada := startTail(t, args("Ada")...)
			switch test.name {
			case "chat":
				ada.until(`"Ada"`) // among the people of the room
			default:
				io.WriteString(ada.in, "first\n")
				ada.until("first")
			}
			ben := startTail(t, args("Ben")...)
			ada.until(`Ben`)
			io.WriteString(ben.in, "Hello from a terminal\n")
			ada.until("Hello from a terminal")
			io.WriteString(ada.in, strings.Repeat(" ", 10)+"\n") // refused, and said so
			io.WriteString(ada.in, "And back\n")
			ben.until("And back")
			for _, p := range []*tailer{ada, ben} {
				p.cmd.Process.Signal(os.Interrupt)
			}
			if wrong := ada.exits(0); strings.Count(wrong, "\n") != 1 || !strings.Contains(wrong, "tail: s") {
				t.Errorf("Ada's tail said %q, want the refusal of an empty message", wrong)
			}
			if wrong := ben.exits(0); wrong != "" {
				t.Errorf("Ben's tail said %q", wrong)
			}
			if wrong := startTail(t, "-auth", test.bad, test.server.url).exits(1); !strings.HasSuffix(wrong, ": Auth failed\n") || strings.Count(wrong, "\n") != 1 {
				t.Errorf("with the wrong password tail said %q", wrong)
			}
		})
	}
	if wrong := startTail(t, "-join", "join {", "http://127.0.0.1").exits(2); !strings.Contains(wrong, "usage: ") {
		t.Errorf("with wrong flags tail said %q", wrong)
	}
	if wrong := startTail(t, "gopher://127.0.0.1").exits(1); !strings.Contains(wrong, "http, https, ws or wss") {
		t.Errorf("with a wrong URL tail said %q", wrong)
	}
	if wrong := startTail(t, "-wait", "300ms", "http://"+quietAddr(t)).exits(1); !strings.Contains(wrong, "refused") {
		t.Errorf("with nobody there tail said %q", wrong)
	}
}
