package atrium

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

func TestLimitedLogLeavesOutAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLimitedLog(slog.New(slog.NewTextHandler(&out, nil)))
		for range logBurst + 7 {
			l.warn("atrium: one kind", slog.Int("n", 1))
		}
		l.error("atrium: another kind")
		if got := strings.Count(out.String(), "one kind"); got != logBurst {
			t.Errorf("%d entries of a kind were written, want %d", got, logBurst)
		}
		if !strings.Contains(out.String(), "another kind") {
			t.Error("a kind was left out because of another")
		}
		time.Sleep(logInterval)
		out.Reset()
		l.warn("atrium: one kind", slog.Int("n", 2))
		if !strings.Contains(out.String(), "n=2") || !strings.Contains(out.String(), "left_out=7") {
			t.Errorf("after the interval: %q, want the entry with left_out=7", out.String())
		}
		out.Reset()
		l.warn("atrium: one kind")
		if strings.Contains(out.String(), "left_out") {
			t.Errorf("the count was told twice: %q", out.String())
		}
	})
}

func TestClientTextIsCut(t *testing.T) {
	for _, text := range []string{"", "plain", strings.Repeat("ü", 400), strings.Repeat("x", 255) + "€", "\xff\xfe", strings.Repeat("\xff", 256)} {
		got := clientText("k", text).Value.String()
		if !utf8.ValidString(got) || len(got) > maxLogged+len("…") {
			t.Errorf("clientText(%.20q…) = %.20q… with %d bytes", text, got, len(got))
		}
		if len(text) <= maxLogged && utf8.ValidString(text) && got != text {
			t.Errorf("clientText(%q) = %q", text, got)
		}
	}
}

// A line of the log is what it looks like, whatever a client has chosen, and whatever the handler
// escapes: no second line, no command to a terminal, no text that reads backwards.
func TestClientTextPrints(t *testing.T) {
	const replaced = "�"
	for text, want := range map[string]string{
		"a\nlevel=ERROR":        "a" + replaced + "level=ERROR",
		"a\r\x00\t\x7f":         "a" + strings.Repeat(replaced, 4),
		"\x1b[2J":               replaced + "[2J",
		"\u009b2J":              replaced + "2J", // a terminal's other escape
		"\u202egnp.exe":         replaced + "gnp.exe",
		"\u2066\u2069\u200f":    strings.Repeat(replaced, 3),
		"\u2028\u2029\u0085":    strings.Repeat(replaced, 3),
		"a\u00a0b\ufeff":        "a" + replaced + "b" + replaced, // look like nothing, or like a space
		"\xff\xc3":              strings.Repeat(replaced, 2),
		"Zürich 東京 שלום 👋 \"\\": "Zürich 東京 שלום 👋 \"\\",
	} {
		if got := clientText("k", text).Value.String(); got != want {
			t.Errorf("clientText(%q) = %q, want %q", text, got, want)
		}
	}
}

// A connect and a disconnect cost nothing while nobody wants them logged, and a Handler that is
// told to write Debug does so within a second.
func TestDebugEntriesAreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logBuffer
		var level slog.LevelVar
		h := newHub(t, Options{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level}))})
		s := newMailbox(t, h)
		defer s.drop()
		log := func() { s.logConnected(); s.logDisconnected(ReasonTransportClose); s.logRefused(io.EOF) }
		log()
		if n := testing.AllocsPerRun(100, log); n != 0 || out.String() != "" {
			t.Errorf("%v allocations, logged %q", n, out.String())
		}
		level.Set(slog.LevelDebug)
		<-time.After(levelInterval)
		log()
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d entries: %s", n, out.String())
		}
		level.Set(slog.LevelInfo)
		<-time.After(levelInterval)
		log()
		if n := strings.Count(out.String(), "\n"); n != 2 {
			t.Errorf("%d entries after Debug was turned off", n)
		}
	})
}

// Losses by ping timeouts are logged when they are 10 and more than a tenth of the clients within a
// minute, once in that minute.
func TestSilenceIsToldOnce(t *testing.T) {
	second := int64(time.Second)
	for _, row := range []struct {
		name    string
		clients int
		apart   int64
		lost    int
		want    []int // the losses that are logged
	}{
		{"too few", 5, 0, 9, nil},
		{"ten of few", 20, 0, 20, []int{10}},
		{"a tenth", 200, 0, 20, nil},
		{"more than a tenth", 200, 0, 30, []int{21}},
		{"over time", 20, 7 * second, 20, nil},
		{"for long", 20, 5 * second, 30, []int{10, 22}},
	} {
		var q silence
		var told []int
		for i := range row.lost {
			if q.add(int64(i)*row.apart, row.clients) {
				told = append(told, i+1)
			}
		}
		if !slices.Equal(told, row.want) {
			t.Errorf("%s: told after %v, want %v", row.name, told, row.want)
		}
	}
}

// An error as the log has it is one harmless line, and still the error that it was; the stack of a
// panic is apart.
func TestFailureIsLogged(t *testing.T) {
	var nobody *Error
	err := callApart("Bus.Publish", func() error { panic("a\nb\u202e" + strings.Repeat("x", 2000)) })
	attrs := loggedFailure(fmt.Errorf("wrapped: %w", err))
	if len(attrs) != 2 || attrs[1].(slog.Attr).Key != "stack" || !strings.Contains(attrs[1].(slog.Attr).Value.String(), "TestFailureIsLogged") {
		t.Errorf("got %v", attrs)
	}
	text := attrs[0].(slog.Attr).Value.String()
	if !strings.HasPrefix(text, "wrapped: atrium: Bus.Publish panicked: a�b�xxx") || len(text) > maxLoggedError+len("…") {
		t.Errorf("got %q", text)
	}
	if got, _ := loggedFailure(io.EOF)[0].(slog.Attr).Value.Any().(error); !errors.Is(got, io.EOF) {
		t.Errorf("%v is not the error that it was", got)
	}
	if got := loggedFailure(fmt.Errorf("wrapped: %w", nobody))[0].(slog.Attr).Value.String(); !strings.Contains(got, "PANIC") && !strings.Contains(got, "nil") {
		t.Errorf("an error that cannot say what it is: %q", got)
	}
	if got := (loggedPanic{fmt.Errorf("a\n%w", io.EOF)}); got.Error() != "a�EOF" || !errors.Is(got, io.EOF) {
		t.Errorf("a panic: %q", got)
	}
}
