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
