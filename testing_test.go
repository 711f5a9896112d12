package atrium

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"weak"
)

// noLeaks fails the test if goroutines of this package are left when everything else is cleaned up. Call it first.
func noLeaks(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			return
		}
		deadline := time.Now().Add(10 * time.Second)
		for {
			left := packageGoroutines()
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines left:\n%s", len(left), strings.Join(left, "\n\n"))
			}
			<-time.After(time.Millisecond)
		}
	})
}

// packageGoroutines returns the stacks of goroutines that run this package's code, but not its tests.
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

// within fails the test if the channel is not ready in ten seconds.
func within[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("timed out: %s", what)
		panic("unreachable")
	}
}

// eventually waits, without sleeping, until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s", what)
		}
	}
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
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
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

// text is the same in e2e/zlib-vectors.mjs: n bytes of words, among them what stood up to 60,000 bytes before.
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
