package atrium

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode"
	"unicode/utf8"
)

// logRow is a row of LOGS.md.
type logRow struct {
	level             slog.Level
	message           string
	always, sometimes []string // the attributes
}

// readLogTable reads the tables of LOGS.md: the entries under "## Hub" and "## Client", and the
// attributes under "## Attributes".
func readLogTable(t *testing.T) (wings map[string]map[string]logRow, meanings map[string]string) {
	t.Helper()
	text, err := os.ReadFile("LOGS.md")
	if err != nil {
		t.Fatal(err)
	}
	wings, meanings = map[string]map[string]logRow{"Hub": {}, "Client": {}}, make(map[string]string)
	heading := ""
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			heading = strings.TrimSpace(name)
		}
		cells := strings.Split(strings.TrimSpace(line), " | ")
		switch {
		case len(cells) < 2 || strings.Contains(cells[0], "---"):
		case heading == "Attributes":
			if name := strings.Trim(cells[0], "| `"); name != "name" {
				meanings[name] = cells[1]
			}
		case wings[heading] != nil && len(cells) == 4:
			row := logRow{message: "atrium: " + cells[1]}
			if err := row.level.UnmarshalText([]byte(strings.TrimPrefix(cells[0], "| "))); err != nil {
				continue // the table's head
			}
			always, more, _ := strings.Cut(cells[2], "(")
			row.always, row.sometimes = codeWords(always), codeWords(more)
			if _, again := wings[heading][row.message]; again {
				t.Errorf("LOGS.md has %q twice", row.message)
			}
			if end := strings.TrimSuffix(cells[3], " |"); !strings.HasSuffix(end, ".") {
				t.Errorf("LOGS.md: %q ends with %q", row.message, end)
			}
			wings[heading][row.message] = row
		}
	}
	return wings, meanings
}

func codeWords(text string) (words []string) {
	for _, found := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(text, -1) {
		words = append(words, found[1])
	}
	return words
}

// logCalls are the functions that write a message, and the types that carry one.
var logCalls = map[string]bool{"debug": true, "info": true, "warn": true, "error": true, "log": true, "logApart": true,
	"Debug": true, "Info": true, "Warn": true, "Error": true, "Log": true, "LogAttrs": true, "warning": true, "logEntry": true}

// scanLogMessages finds the constant messages that the package logs, and where.
func scanLogMessages(t *testing.T) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	for _, name := range sourceFiles(t) {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		note := func(e ast.Expr) {
			if pair, ok := e.(*ast.KeyValueExpr); ok {
				e = pair.Value
			}
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, _ := strconv.Unquote(lit.Value); strings.HasPrefix(text, "atrium: ") {
					found[text] = append(found[text], fmt.Sprintf("%s:%d", name, fset.Position(lit.Pos()).Line))
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if logCalls[nameOf(n.Fun)] {
					for _, arg := range n.Args {
						note(arg)
					}
				}
			case *ast.CompositeLit:
				if logCalls[nameOf(n.Type)] {
					for _, e := range n.Elts {
						note(e)
					}
				}
			case *ast.AssignStmt: // refused.entry.level, refused.entry.message = …
				for i, to := range n.Lhs {
					if nameOf(to) == "message" && i < len(n.Rhs) {
						note(n.Rhs[i])
					}
				}
			}
			return true
		})
	}
	return found
}

func nameOf(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

// loggedEntry is an entry as it was logged.
type loggedEntry struct {
	level   slog.Level
	message string
	attrs   map[string]string
}

// logProbe keeps what is logged: as entries, and as three Handlers write it.
type logProbe struct {
	mu      sync.Mutex // guards:
	entries []loggedEntry
	written map[string]*bytes.Buffer // by Handler
	secrets []string
}

// probeHandler is the slog.Handler of a logProbe, with what With has added.
type probeHandler struct {
	p    *logProbe
	with []slog.Attr
}

func (p *logProbe) logger() *slog.Logger { return slog.New(probeHandler{p: p}) }

func (h probeHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h probeHandler) WithGroup(string) slog.Handler            { return h }
func (h probeHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return probeHandler{h.p, slices.Concat(h.with, attrs)}
}

// Handle keeps the record. naive is what the simplest of Handlers writes, which escapes nothing.
func (h probeHandler) Handle(ctx context.Context, r slog.Record) error {
	e := loggedEntry{r.Level, r.Message, make(map[string]string)}
	attrs := slices.Clone(h.with)
	r.Attrs(func(a slog.Attr) bool { attrs = append(attrs, a); return true })
	line := r.Message
	for _, a := range attrs {
		if _, twice := e.attrs[a.Key]; twice {
			e.attrs["twice"] = a.Key
		}
		e.attrs[a.Key] = a.Value.String()
		if a.Key != "stack" { // which is the program's own
			line += " " + a.Key + "=" + a.Value.String()
		}
	}
	whole := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	whole.AddAttrs(attrs...)
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.entries = append(h.p.entries, e)
	if h.p.written == nil {
		h.p.written = map[string]*bytes.Buffer{"text": {}, "JSON": {}, "naive": {}}
	}
	slog.NewTextHandler(h.p.written["text"], nil).Handle(ctx, whole)
	slog.NewJSONHandler(h.p.written["JSON"], nil).Handle(ctx, whole)
	_, err := io.WriteString(h.p.written["naive"], line+"\n")
	return err
}

// of returns the entries with the message.
func (p *logProbe) of(message string) (found []loggedEntry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.entries {
		if e.message == message {
			found = append(found, e)
		}
	}
	return found
}

// isSecret notes that a text must not be logged.
func (p *logProbe) isSecret(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets = append(p.secrets, text)
}

// check checks all that was logged against the table, and that it is harmless and has no secret.
func (p *logProbe) check(t *testing.T, rows map[string]logRow) {
	t.Helper()
	for _, e := range p.entries {
		row, ok := rows[e.message]
		if !ok {
			t.Errorf("LOGS.md has no %q", e.message)
			continue
		}
		if e.level != row.level {
			t.Errorf("%q is logged at level %v, LOGS.md has %v", e.message, e.level, row.level)
		}
		for _, key := range row.always {
			if _, ok := e.attrs[key]; !ok {
				t.Errorf("%q is without %s", e.message, key)
			}
		}
		for key, value := range e.attrs {
			if !slices.Contains(row.always, key) && !slices.Contains(row.sometimes, key) && key != "left_out" && !(key == "user" && e.attrs["socket"] != "") {
				t.Errorf("LOGS.md does not have %s=%.50q of %q", key, value, e.message)
			}
			if key != "stack" && (len(value) > maxLoggedError+len("…") || !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })) {
				t.Errorf("%q has %s=%q", e.message, key, value)
			}
		}
	}
	if n := bytes.Count(p.written["naive"].Bytes(), []byte("\n")); n != len(p.entries) {
		t.Errorf("%d entries are %d lines", len(p.entries), n)
	}
	for handler, out := range p.written {
		for _, s := range append(p.secrets, secret) {
			if strings.Contains(out.String(), s) {
				t.Errorf("the %s log has a secret: %s", handler, out)
			}
		}
		for _, r := range out.String() {
			if r == '\x1b' || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("the %s log has %q: %q", handler, r, out)
				break
			}
		}
	}
}

// LOGS.md lists each entry that the package logs, and no other; each is provoked here, at its level
// and with its attributes. Whatever clients choose is harmless in it, and what is a secret is not
// there.
func TestLogTable(t *testing.T) {
	wings, meanings := readLogTable(t)
	messages := scanLogMessages(t)
	used := make(map[string]bool)
	for wing, rows := range wings {
		provocations := map[string]map[string]provocation{"Hub": hubProvocations, "Client": clientProvocations}[wing]
		for message := range provocations {
			if _, ok := rows[message]; !ok {
				t.Errorf("%s: %q is provoked, and LOGS.md does not have it", wing, message)
			}
		}
		for message, row := range rows {
			for _, key := range slices.Concat(row.always, row.sometimes) {
				used[key] = true
			}
			if len(messages[message]) == 0 {
				t.Errorf("LOGS.md has %q, which nothing logs", message)
			}
			if provocations[message] == nil {
				t.Errorf("%s: no provocation of %q: see log_provoke_test.go", wing, message)
				continue
			}
			t.Run(strings.ReplaceAll(strings.TrimPrefix(message, "atrium: "), " ", "_"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := new(logProbe)
					provocations[message](t, p)
					if !poll(func() bool { return len(p.of(message)) > 0 }) {
						t.Fatalf("it is not logged; what is: %v", p.entries)
					}
					synctest.Wait()
					p.mu.Lock()
					defer p.mu.Unlock()
					p.check(t, rows)
				})
			})
		}
	}
	for message, places := range messages {
		_, hub := wings["Hub"][message]
		_, client := wings["Client"][message]
		if !hub && !client {
			t.Errorf("%s: LOGS.md does not have %q", strings.Join(places, ", "), message)
		}
	}
	used["left_out"], used["user"] = true, true
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if meanings[key] == "" {
			t.Errorf("LOGS.md does not say what %s means", key)
		}
		delete(meanings, key)
	}
	for key := range meanings {
		t.Errorf("LOGS.md says what %s means, which no entry has", key)
	}
}
