package atrium

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// patience is how long a test waits for what must come. It comes in milliseconds if all is well.
const patience = 10 * time.Second

// noLeaks fails the test if goroutines of this package are left when everything else is cleaned up.
// Call it first.
func noLeaks(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		var left []string
		if !poll(func() bool { left = packageGoroutines(); return len(left) == 0 }) {
			t.Fatalf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
		}
	})
}

// packageGoroutines returns the stacks of goroutines that run this package's code, but not its
// tests.
func packageGoroutines() []string {
	stacks := make([]byte, 16<<10)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 4*len(stacks))
	}
	var left []string
	for _, stack := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(stack, "atrium.(*") && !strings.Contains(stack, "atrium.noLeaks") && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return left
}

// waitUntilParked waits until a goroutine that runs the function waits for the network, and returns
// its stack.
func waitUntilParked(t *testing.T, function string) (stack string) {
	t.Helper()
	eventually(t, function+" to wait", func() bool {
		for _, g := range packageGoroutines() {
			if state, _, _ := strings.Cut(g, "\n"); strings.Contains(state, "IO wait") && strings.Contains(g, function) {
				stack = g
				return true
			}
		}
		return false
	})
	return stack
}

// waitingReader returns the stack of the one reader, when it waits for the network. The reader must
// wait on a stack that handles nothing: those frames have grown it.
func waitingReader(t *testing.T) (stack string) {
	t.Helper()
	stack = waitUntilParked(t, "(*Conn).serve(")
	if strings.Contains(stack, "(*Conn).handleInput(") {
		t.Fatalf("the reader waits deep in its stack:\n%s", stack)
	}
	return stack
}

// waitUntilGone waits until no goroutine runs the function.
func waitUntilGone(t *testing.T, function string) {
	t.Helper()
	eventually(t, function+" to end", func() bool {
		return !slices.ContainsFunc(packageGoroutines(), func(g string) bool { return strings.Contains(g, function) })
	})
}

// within returns what comes from the channel. It fails the test if nothing does.
func within[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("timed out: %s", what)
		panic("unreachable")
	}
}

// eventually waits until the condition holds. It fails the test if that never is.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !poll(holds) {
		t.Fatalf("timed out: %s", what)
	}
}

// poll waits until the condition holds, and reports whether it does. It looks often at first, then
// every ten milliseconds; in a bubble of testing/synctest these are of the bubble's time.
func poll(holds func() bool) bool {
	deadline := time.Now().Add(patience)
	for pause := time.Microsecond; !holds(); pause = min(2*pause, 10*time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
		<-time.After(pause)
	}
	return true
}

// logBuffer is where a test's hub logs to.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newLog() (*slog.Logger, *logBuffer) {
	l := new(logBuffer)
	return slog.New(slog.NewTextHandler(l, nil)), l
}

type outcome[T any] struct {
	v   T
	err error
}

// begin runs f in a goroutine of its own.
func begin[T any](f func() (T, error)) <-chan outcome[T] {
	done := make(chan outcome[T], 1)
	go func() {
		v, err := f()
		done <- outcome[T]{v, err}
	}()
	return done
}

// limited is a context for what must happen soon.
func limited(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// numbered returns a message that says which it is, filled up to n bytes.
func numbered(i, n int) string {
	s := fmt.Sprintf("%d:", i)
	return s + strings.Repeat("x", max(0, n-len(s)))
}

// newChannel returns a channel with room for what a test may put into it.
func newChannel[T any]() chan T { return make(chan T, 10_000) }

// bubble runs a test in a bubble of time, with a server over a pipe.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

// text is the same in e2e/zlib-vectors.mjs: n bytes of words, among them what stood up to 60,000
// bytes before.
func text(n, seed int) []byte {
	words := []string{"room", "join", "leave", "message", "user", `"id":`, "true", "{", "}", ",", "[1,2]", "grüße"}
	var parts []string
	var all []byte
	state := uint64(seed)
	next := func(below int) int {
		state = (state*1103515245 + 12345) & 0x7fffffff
		return int(state>>16) % below
	}
	for len(all) < n {
		var word string
		if len(parts) > 50 && next(2) == 0 {
			word = parts[len(parts)-1-next(min(len(parts), 12000))]
		} else {
			word = words[next(len(words))] // before the number, as in JavaScript
			word = fmt.Sprintf("%s%d", word, next(1000))
		}
		parts = append(parts, word)
		all = append(all, word...)
	}
	return all[:n]
}

// random returns n bytes that cannot be compressed.
func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// allocated returns how many bytes f allocates in all, which is more than it ever holds.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// held reports whether anything still refers to p.
func held[T any](p *T) func() bool {
	w := weak.Make(p)
	return func() bool { return w.Value() != nil }
}

func body(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantPanic expects f to panic with a text that contains want.
func wantPanic(t testing.TB, name, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), want) {
			t.Errorf("%s: panic %v, want %q", name, p, want)
		}
	}()
	f()
}
