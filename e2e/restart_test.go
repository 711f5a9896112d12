package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

var buildRestart = buildExample("restart")

// TestRestartExample restarts the server of examples/restart twice while somebody says numbered
// messages, and looks at what clients of all kinds notice; then it kills the server.
func TestRestartExample(t *testing.T) {
	t.Parallel()
	needNode(t, "socket.io-client")
	needPython(t)
	s := run(t, binary(t, buildRestart), "-every", "0", "-clients", "0")
	ada, p := enter(t, s, "Ada", "lobby"), open(t, s.url)
	all := witnesses{
		witnessProgram(t, "node", "restart.mjs", strings.TrimSuffix(s.url, "/")),
		witnessProgram(t, python, "restart-client.py", s.url),
		witnessTab(t, p),
		witnessClient(t, s.url),
	}
	all.until(t, "in the lobby", func(w witness) bool { return w.Joined == 1 })
	speech := speak(t, s.url)

	restart := func(times int) {
		t.Helper()
		if err := s.process.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "restarted", func() bool { return len(serverProcess.FindAllString(s.stdout.String(), -1)) == times })
		all.until(t, "back", func(w witness) bool { return w.Joined == times+1 })
		next := int(speech.said.Load())
		all.until(t, "hears again", func(w witness) bool { return len(w.Heard) > 0 && slices.Max(w.Heard) > next })
	}
	restart(1)
	restart(2)
	speech.quiet.Lock()
	speakOn := sync.OnceFunc(speech.quiet.Unlock)
	defer speakOn() // the speaker ends before the test does
	last := int(speech.said.Load()) - 1
	all.until(t, "hears the last", func(w witness) bool { return slices.Contains(w.Heard, last) })
	for name, w := range all.notes() {
		w.check(t, name, last)
	}
	ada.until(shows(strconv.Itoa(last)))
	messages := ada.messages()
	for i, text := range messages {
		if want := strconv.Itoa(last + 1 - len(messages) + i); text != want {
			t.Errorf("Ada reads %q where %q should be", text, want)
			break
		}
	}
	if notices := read[int](ada, `document.querySelectorAll('.notice').length`); notices != 1 { // that she is in
		t.Errorf("Ada reads %d notices, expected one", notices)
	}
	ada.until(fmt.Sprintf(`document.querySelector('#people-count').textContent === '%d here'`, len(all.notes())+2)) // and the speaker
	for _, p := range []*tab{ada, p} {
		p.mu.Lock()
		for _, wrong := range p.wrongs {
			t.Errorf("a page: %s", wrong)
		}
		p.tolerate = append(p.tolerate, "net::ERR_") // from now on
		p.mu.Unlock()
	}

	// A server that is killed leaves nothing to its successor. Everyone begins anew, at once.
	speakOn()
	processes := serverProcess.FindAllStringSubmatch(s.stdout.String(), -1)
	pid, _ := strconv.Atoi(processes[len(processes)-1][1])
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	restart(3)
	for name, w := range all.notes() {
		if end := w.Connects[len(w.Connects)-1]; end.Recovered || end.ID == w.Connects[0].ID {
			t.Errorf("%s: recovered from a server that was killed: %+v", name, w.Connects)
		}
	}
	read[bool](p, `(leave(), true)`)
	for complaint := range strings.Lines(s.stderr.take()) {
		if !expectedComplaint.MatchString(complaint) {
			t.Errorf("it said: %s", complaint)
		}
	}
}

// serverProcess finds what examples/restart prints behind each restart.
var serverProcess = regexp.MustCompile(`Restarted in .* process (\d+)`)

// expectedComplaint matches what examples/restart says of a server that was killed.
var expectedComplaint = regexp.MustCompile(`: signal: killed\n`)

// A witness is what a client in the chat's lobby has noticed.
type witness struct {
	Connects []connected
	Joined   int      // how often it has connected and is in the lobby since
	Reasons  []string // of its disconnects
	Errors   []string
	Heard    []int // numbers of messages
	Away     []int // for how many milliseconds
}

type connected struct {
	ID        string
	Recovered bool
}

// check fails the test unless a client has noticed no more of two restarts than its kind has to.
func (w witness) check(t *testing.T, name string, last int) {
	t.Helper()
	if len(w.Connects) != 3 {
		t.Errorf("%s: connected %d times, expected 3", name, len(w.Connects))
	}
	if len(w.Errors) > 0 {
		t.Errorf("%s: errors: %q", name, w.Errors)
	}
	heard := slices.Clone(w.Heard)
	python, plain := strings.HasPrefix(name, "Python"), strings.HasSuffix(name, "plain")
	if python { // it gives each message to a thread
		slices.Sort(heard)
	}
	for i := 1; i < len(heard); i++ {
		if heard[i] <= heard[i-1] {
			t.Errorf("%s: message %d came after %d", name, heard[i], heard[i-1])
		}
	}
	switch {
	case python:
	case plain:
		if !slices.Equal(w.Reasons, []string{"1012", "1012"}) {
			t.Errorf("%s: the close codes are %q, expected 1012", name, w.Reasons)
		}
	default:
		if heard[0] != 0 || len(heard) != last+1 {
			t.Errorf("%s: heard %d messages from %d on, expected %d", name, len(heard), heard[0], last+1)
		}
		if !slices.Equal(w.Reasons, []string{"transport close", "transport close"}) {
			t.Errorf("%s: the reasons are %q, expected transport close", name, w.Reasons)
		}
		for i, connect := range w.Connects {
			if connect.ID != w.Connects[0].ID || connect.Recovered != (i > 0) {
				t.Errorf("%s: connect %d: %+v; the first: %+v", name, i, connect, w.Connects[0])
			}
		}
	}
	t.Logf("%s: heard %d messages, was away for %v ms; errors: %q", name, len(heard), w.Away, w.Errors)
}

// witnesses are functions that return what clients have noticed, by their names.
type witnesses []func() map[string]witness

func (all witnesses) notes() map[string]witness {
	notes := make(map[string]witness)
	for _, ask := range all {
		maps.Copy(notes, ask())
	}
	return notes
}

// until waits until a condition holds for each witness.
func (all witnesses) until(t *testing.T, what string, holds func(witness) bool) {
	t.Helper()
	late := make(map[string]witness)
	defer func() {
		if t.Failed() {
			t.Logf("not %s: %+v", what, late)
		}
	}()
	waitUntil(t, what, func() bool {
		late = all.notes()
		maps.DeleteFunc(late, func(_ string, w witness) bool { return holds(w) })
		return len(late) == 0
	})
}

// witnessProgram runs a program that prints, for each line of its input, what its clients have
// noticed.
func witnessProgram(t *testing.T, name string, args ...string) func() map[string]witness {
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	program := exec.CommandContext(ctx, name, args...)
	program.Stderr = os.Stderr
	in, err := program.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		in.Close()
		if err := program.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	answers := json.NewDecoder(out)
	return func() (notes map[string]witness) {
		if _, err := in.Write([]byte("\n")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := answers.Decode(&notes); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return notes
	}
}

// witnessTab has clients in a page of the chat: client.js, a WebSocket, and Socket.IO's own.
func witnessTab(t *testing.T, p *tab) func() map[string]witness {
	for _, file := range []string{"restart-witness.js", "node_modules/socket.io-client/dist/socket.io.min.js"} {
		script, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		read[bool](p, string(script)+";true")
	}
	read[bool](p, `import('/client.js').then(({ connect }) => {
		watchClientScript('browser, client.js', connect, '/socket.io/');
		watchPlain('browser, plain', location.origin);
		watchSocketIO('browser', io, location.origin);
		watchSocketIO('browser, polling', io, location.origin, ['polling']);
		return true;
	})`)
	return func() map[string]witness { return read[map[string]witness](p, `witnesses`) }
}

// witnessClient is a Client.
func witnessClient(t *testing.T, url string) func() map[string]witness {
	var mu sync.Mutex // guards:
	var noted witness
	var left time.Time
	note := func(f func()) {
		mu.Lock()
		defer mu.Unlock()
		f()
	}
	c := newChatClient(t, url, "Go")
	atrium.On(c, "said", func(_ *atrium.Client, m chatMessage) error {
		n, err := strconv.Atoi(m.Key)
		note(func() { noted.Heard = append(noted.Heard, n) })
		return err
	})
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) {
		note(func() { noted.Reasons, left = append(noted.Reasons, string(why)), time.Now() })
	})
	c.OnConnectError(func(_ *atrium.Client, err error) { note(func() { noted.Errors = append(noted.Errors, err.Error()) }) })
	c.OnConnect(func(*atrium.Client) {
		note(func() {
			if len(noted.Connects) > 0 {
				noted.Away = append(noted.Away, int(time.Since(left).Milliseconds()))
			}
			noted.Connects = append(noted.Connects, connected{c.ID(), c.Recovered()})
		})
		if !c.Recovered() {
			ask[any](t, c, "join", chatMessage{Room: "lobby"})
		}
		note(func() { noted.Joined++ })
	})
	connect(t, c)
	return func() map[string]witness {
		mu.Lock()
		defer mu.Unlock()
		return map[string]witness{"Go": noted}
	}
}

type chatMessage struct {
	Room string `json:"room"`
	Text string `json:"text"`
	Key  string `json:"key"`
}

func newChatClient(t *testing.T, url, name string) *atrium.Client {
	c := atrium.NewClient(url, atrium.ClientOptions{
		Auth:        map[string]string{"name": name, "password": password},
		CallRetries: 100,
		Logger:      slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// A speaker says messages with the numbers 0, 1, 2, … to the lobby, one after the other.
type speaker struct {
	said     atomic.Int64 // the number of the next
	quiet    sync.Mutex   // held while it says one, and to keep it quiet
	speaking sync.WaitGroup
}

func speak(t *testing.T, url string) *speaker {
	s := new(speaker)
	c := newChatClient(t, url, "Speaker")
	connect(t, c)
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() {
		stop()
		s.speaking.Wait()
	})
	s.speaking.Go(func() {
		for ctx.Err() == nil {
			s.quiet.Lock()
			n := strconv.FormatInt(s.said.Load(), 10)
			_, err := atrium.Call[any](ctx, c, "say", chatMessage{"lobby", n, n})
			if err == nil {
				s.said.Add(1)
			} else if _, refused := errors.AsType[*atrium.Error](err); refused { // not in the room: it has begun anew, or now
				c.Emit("join", chatMessage{Room: "lobby"})
			} else if ctx.Err() == nil {
				t.Errorf("the speaker: %v", err)
			}
			s.quiet.Unlock()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	return s
}
