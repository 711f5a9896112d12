package guide

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "put the snippets into the documents")

// fence is a block of code with what stands before it, which for Go is the file that it is a part
// of:
//
//	<!-- users.go: ban -->
var fence = regexp.MustCompile("(?m)^(?:<!-- (\\S+)(?:: ([^>]+))? -->\n)?```(\\w*)\n((?s:.*?))^```$")

// TestSnippetsAreCode checks that each piece of Go in the documents is a part of a file here, which
// compiles and is tested.
func TestSnippetsAreCode(t *testing.T) {
	shown := make(map[string]bool)
	for _, document := range []string{"GUIDE.md", "README.md", "CLUSTER.md", "SOCKETIO.md", "SECURITY.md", "RUNNING.md"} {
		path := filepath.Join("..", document)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		mended := fence.ReplaceAllStringFunc(string(text), func(block string) string {
			match := fence.FindStringSubmatch(block)
			file, name, language, code := match[1], match[2], match[3], match[4]
			if language != "go" {
				return block
			}
			if file == "" {
				t.Errorf("%s: this Go is no part of a file:\n%s", document, code)
				return block
			}
			want, err := part(file, name)
			if err != nil {
				t.Errorf("%s: %v", document, err)
				return block
			}
			shown[file+": "+name] = true
			if code != want && !*update {
				t.Errorf("%s: this is not %s: %s any more (go test -update mends it):\n%s", document, file, name, code)
			}
			return strings.Replace(block, "```go\n"+code, "```go\n"+want, 1)
		})
		if *update && mended != string(text) {
			if err := os.WriteFile(path, []byte(mended), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	comment, err := os.ReadFile("../doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"package hub", "package client"} {
		code, err := part("documents.go", name)
		if err != nil {
			t.Fatal(err)
		}
		code = strings.ReplaceAll(code, "ChatMessage", "Message") // there is no other there
		shown["documents.go: "+name] = true
		if !strings.Contains(string(comment), "//\n"+asComment(code)+"//\n") {
			t.Errorf("the package comment in doc.go does not have the part %q of documents.go", name)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range begin.FindAllStringSubmatch(string(source), -1) {
			if name := match[1]; name != "end" && !shown[file+": "+name] {
				t.Errorf("%s: no document shows the part %q", file, name)
			}
		}
	}
}

// begin is a line that begins a part, or ends one.
var begin = regexp.MustCompile(`(?m)^\s*// \[([a-z0-9 ]+)\]$\n`)

// part returns the part of a file that has the name, or all of the file, without the indentation
// that its lines share.
func part(file, name string) (string, error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	if name == "" {
		return string(source), nil
	}
	_, text, ok := strings.Cut(string(source), "// ["+name+"]\n")
	text, _, ended := strings.Cut(text, "// [end]")
	if !ok || !ended {
		return "", fmt.Errorf("%s has no part %q", file, name)
	}
	text = strings.Trim(strings.TrimRight(text, "\t\n"), "\n") + "\n"
	indentation := text[:len(text)-len(strings.TrimLeft(text, "\t"))]
	return strings.ReplaceAll("\n"+text, "\n"+indentation, "\n")[1:], nil
}

// TestLinks checks that each link from one document into the repository leads somewhere.
func TestLinks(t *testing.T) {
	documents, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, document := range documents {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(string(text), ""), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(match[1], "#")
			target := filepath.Join("..", file)
			if file == "" {
				target = document
			}
			content, err := os.ReadFile(target)
			if info, statErr := os.Stat(target); statErr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v", document, err)
			} else if anchor != "" && !hasHeading(string(content), anchor) {
				t.Errorf("%s: %s has no heading for #%s", document, target, anchor)
			}
		}
	}
}

// hasHeading reports whether a document has a heading with the anchor, as GitHub makes them: in
// lower case, without punctuation, with a hyphen for each space.
func hasHeading(document, anchor string) bool {
	punctuation := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for line := range strings.Lines(document) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			heading = punctuation.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			if strings.ReplaceAll(heading, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

// asComment indents code as godoc wants it.
func asComment(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		if line == "\n" {
			b.WriteString("//\n")
		} else {
			b.WriteString("//\t" + line)
		}
	}
	return b.String()
}

// TestScriptsParse checks that Node can read each piece of JavaScript in the guide and in README.
func TestScriptsParse(t *testing.T) {
	for _, document := range []string{"GUIDE.md", "README.md"} {
		text, err := os.ReadFile(filepath.Join("..", document))
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, match := range fence.FindAllStringSubmatch(string(text), -1) {
			if match[3] != "js" {
				continue
			}
			found++
			script := filepath.Join(t.TempDir(), "snippet.mjs")
			if err := os.WriteFile(script, []byte(match[4]), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("node", "--check", script).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", document, err, out, match[4])
			}
		}
		if found == 0 {
			t.Errorf("%s: no JavaScript was found", document)
		}
	}
}
