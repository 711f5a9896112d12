// Package process runs a server of a benchmark as a process of its own, so that what it costs can
// be told from what its clients cost: the program starts itself again, and asks the copy for its
// figures over a pipe.
package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The variables of the environment that make a process a server, and say that its listener is its
// file number 3.
const (
	variable  = "ATRIUM_BENCH_SERVER"
	inherited = "ATRIUM_BENCH_LISTENER"
)

// A Kind starts to serve on l. The command that it returns, which may be nil, is run at each
// Command.
type Kind func(l net.Listener) (command func(argument int))

// Answer, if a server sets it before its Kind returns, answers Ask. Neither text has line breaks.
var Answer func(question string) (answer string)

// Serve never returns in a process that Start started: there it is the server. Call it first in
// main.
func Serve(kinds map[string]Kind) {
	name := os.Getenv(variable)
	if name == "" {
		return
	}
	var l net.Listener
	var err error
	if os.Getenv(inherited) != "" {
		l = Inherited(0)
	} else {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		check(err)
	}
	command := kinds[name](l)
	fmt.Println(l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var argument int
		switch line := in.Text(); {
		case line == "memory":
			m := Own()
			fmt.Println(m.Resident, m.Heap, m.Stacks, m.Goroutines)
		case line == "allocations":
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			fmt.Println(stats.Mallocs)
		case line == "wait":
			fmt.Println()
		case strings.HasPrefix(line, "ask "):
			fmt.Println(Answer(line[len("ask "):]))
		default:
			_, err := fmt.Sscanf(line, "command %d", &argument)
			check(err)
			command(argument)
		}
	}
	os.Exit(0)
}

// Memory is what a process holds after a full garbage collection, in bytes.
type Memory struct {
	Resident, Heap, Stacks int64
	Goroutines             int
}

// Own returns this process's memory.
func Own() Memory {
	var stats runtime.MemStats
	for range 3 { // what a pool holds goes at the second collection
		debug.FreeOSMemory()
	}
	runtime.ReadMemStats(&stats)
	return Memory{resident(os.Getpid()), int64(stats.HeapAlloc), int64(stats.StackInuse), runtime.NumGoroutine()}
}

// Descriptors returns how many files this process has open.
func Descriptors() int {
	open, err := os.ReadDir("/proc/self/fd")
	check(err)
	return len(open) - 1 // without that of the directory
}

// resident returns the memory of a process that is in RAM, in bytes.
func resident(pid int) int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	check(err)
	var size, pages int64
	_, err = fmt.Sscan(string(statm), &size, &pages)
	check(err)
	return pages * int64(os.Getpagesize())
}

// A Server is a running process.
type Server struct {
	Addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// Start starts a server of one of the kinds given to Serve, which finds the arguments in os.Args.
func Start(kind string, arguments ...string) *Server {
	exe, err := os.Executable()
	check(err)
	cmd := exec.Command(exe, arguments...)
	cmd.Env = append(os.Environ(), variable+"="+kind)
	return StartCommand(cmd)
}

// StartOn starts a server that listens on sockets of its parent, which outlive it: the first is its
// Kind's, and the others it gets from Inherited.
func StartOn(sockets []*os.File, kind string, arguments ...string) *Server {
	exe, err := os.Executable()
	check(err)
	cmd := exec.Command(exe, arguments...)
	cmd.Env = append(os.Environ(), variable+"="+kind, inherited+"=1")
	cmd.ExtraFiles = sockets
	return StartCommand(cmd)
}

// Inherited returns a listener on the i-th of the sockets of StartOn.
func Inherited(i int) net.Listener {
	f := os.NewFile(uintptr(3+i), "listener")
	l, err := net.FileListener(f)
	check(err)
	check(f.Close())
	return l
}

// Listen opens a socket for StartOn, and returns its address.
func Listen() (socket *os.File, addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	f, err := l.(*net.TCPListener).File()
	check(err)
	// A File that was made of a socket in blocking mode leaves the mode alone when a process gets
	// it. Otherwise it would take it from the processes that have the socket already.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	check(err)
	socket, addr = os.NewFile(uintptr(fd), "listener"), l.Addr().String()
	check(errors.Join(f.Close(), l.Close()))
	return socket, addr
}

// StartCommand starts a server that is another program. It must do with its standard input and
// output what Serve does.
func StartCommand(cmd *exec.Cmd) *Server {
	s := &Server{cmd: cmd}
	s.cmd.Stderr = os.Stderr
	var err error
	s.in, err = s.cmd.StdinPipe()
	check(err)
	out, err := s.cmd.StdoutPipe()
	check(err)
	s.out = bufio.NewReader(out)
	check(s.cmd.Start())
	s.Addr = s.line()
	return s
}

// Stop ends the server.
func (s *Server) Stop() {
	check(s.in.Close())
	check(s.cmd.Wait())
}

// Files has this process and the servers that it starts open up to n files each, or as many as the
// system allows, and returns how many they may.
func Files(n int) int {
	var limit unix.Rlimit
	check(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	if limit.Cur < uint64(n) {
		for _, hard := range []uint64{max(limit.Max, uint64(n)), limit.Max} { // root may raise its own
			if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(hard, uint64(n)), Max: hard}) == nil {
				break
			}
		}
		check(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	}
	return int(limit.Cur)
}

// Memory asks the server for its memory.
func (s *Server) Memory() (m Memory) {
	s.tell("memory")
	_, err := fmt.Sscan(s.line(), &m.Resident, &m.Heap, &m.Stacks, &m.Goroutines)
	check(err)
	return m
}

// Resident returns the server's memory in RAM as it is, without a garbage collection.
func (s *Server) Resident() int64 { return resident(s.cmd.Process.Pid) }

// Allocations returns how often the server has allocated memory since it began.
func (s *Server) Allocations() (n int64) {
	s.tell("allocations")
	_, err := fmt.Sscan(s.line(), &n)
	check(err)
	return n
}

// CPU returns the time that the server has computed since it began, in the kernel as well. It
// reads the clock of the process (clock_getcpuclockid(3)): the sum of user and system time in
// /proc/PID/stat, without its rounding to hundredths of a second.
func (s *Server) CPU() time.Duration {
	const scheduled = 2 // the kernel's CPUCLOCK_SCHED
	var t unix.Timespec
	check(unix.ClockGettime(int32(^s.cmd.Process.Pid<<3|scheduled), &t))
	return time.Duration(t.Nano())
}

// Command has the server run its kind's command.
func (s *Server) Command(argument int) { s.tell(fmt.Sprint("command ", argument)) }

// Wait waits until the commands so far have been run.
func (s *Server) Wait() {
	s.tell("wait")
	s.line()
}

// Ask returns what the server's Answer has to say.
func (s *Server) Ask(question string) string {
	s.tell("ask " + question)
	return s.line()
}

func (s *Server) tell(line string) {
	_, err := fmt.Fprintln(s.in, line)
	check(err)
}

func (s *Server) line() string {
	line, err := s.out.ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server has ended: %v", s.cmd.Wait())
	}
	check(err)
	return strings.TrimSpace(line)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
