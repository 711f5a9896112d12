package atrium

import (
	"bytes"
	"log/slog"
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
	for _, text := range []string{"", "plain", strings.Repeat("ü", 400), strings.Repeat("x", 255) + "€", "\xff\xfe"} {
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
