//go:build unix

package bustest

import (
	"os/exec"
	"syscall"
	"testing"
)

// Process is a broker in a process of its own, which a test can kill and suspend. Its methods are
// not safe for concurrent use.
type Process struct {
	t    testing.TB
	cmd  *exec.Cmd
	gone chan struct{}
}

// StartProcess starts a command. The process is killed at the end of the test.
func StartProcess(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &Process{t: t, cmd: cmd, gone: make(chan struct{})}
	go func() {
		defer close(p.gone)
		_ = cmd.Wait() // that it was killed
	}()
	t.Cleanup(p.Kill)
	return p
}

// ID returns the process id.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Gone returns a channel that is closed when the process has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Kill sends SIGKILL and waits for the end of the process. It does nothing after that.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails if the process has ended
	<-p.gone
}

// Pause sends SIGSTOP and waits until the process has stopped.
func (p *Process) Pause() {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	if _, err := syscall.Wait4(p.ID(), nil, syscall.WUNTRACED, nil); err != nil {
		p.t.Fatal(err)
	}
}

// Resume sends SIGCONT.
func (p *Process) Resume() {
	p.t.Helper()
	p.signal(syscall.SIGCONT)
}

func (p *Process) signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}
