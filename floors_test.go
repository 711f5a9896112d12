package atrium

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// floorOf reads the tables of ARCHITECTURE.md, which give each file its floor: the number of its heading, from the ground
// up. A file names nothing that is declared on a floor above it.
func floorOf(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[string]int)
	floor := -1
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "### ") {
			floor++
		}
		cells := strings.Split(line, "|")
		if floor < 0 || len(cells) < 3 {
			continue
		}
		for _, file := range regexp.MustCompile("`([a-z_]+\\.go)`").FindAllStringSubmatch(cells[1], -1) {
			if _, again := of[file[1]]; again {
				t.Errorf("ARCHITECTURE.md has %s twice", file[1])
			}
			of[file[1]] = floor
		}
	}
	return of
}

// climbs lists where a file names an object (a type, function, variable, constant, method or field) that is declared
// in a file of pkg on a higher floor.
func climbs(fset *token.FileSet, pkg *types.Package, uses map[*ast.Ident]types.Object, floorOf map[string]int) []string {
	type place struct {
		file string
		line int
	}
	found := make(map[place][]string)
	for ident, object := range uses {
		at, declared := fset.Position(ident.Pos()), fset.Position(object.Pos())
		file, home := filepath.Base(at.Filename), filepath.Base(declared.Filename)
		if floor, ok := floorOf[file]; ok && object.Pkg() == pkg && floorOf[home] > floor {
			p := place{file, at.Line}
			found[p] = append(found[p], fmt.Sprintf("%s:%d: %s is declared in %s, a higher floor", file, at.Line, ident.Name, home))
		}
	}
	order := func(a, b place) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	}
	var lines []string
	for _, p := range slices.SortedFunc(maps.Keys(found), order) {
		slices.Sort(found[p])
		lines = append(lines, slices.Compact(found[p])...)
	}
	return lines
}

// TestFloors keeps the house in order: lower floors never name upper ones.
func TestFloors(t *testing.T) {
	floorOf := floorOf(t)
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
	for _, name := range names {
		if _, ok := floorOf[name]; !ok {
			t.Errorf("%s: on no floor: give it one in ARCHITECTURE.md", name)
		}
	}
	for name := range floorOf {
		if !slices.Contains(names, name) {
			t.Errorf("ARCHITECTURE.md has %s, which does not exist", name)
		}
	}

	fset := token.NewFileSet()
	lookup := exportData(t)
	var found []string
	for _, goos := range []string{runtime.GOOS, "windows"} { // conn_fast_unix.go and conn_fast_other.go
		target := build.Default
		target.GOOS = goos
		var files []*ast.File
		for _, name := range names {
			match, err := target.MatchFile(".", name)
			if err != nil {
				t.Fatal(err)
			}
			if !match {
				continue
			}
			file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		config := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup), Error: func(err error) {
			if goos == runtime.GOOS { // the packages imported are this system's
				t.Error(err)
			}
		}}
		info := types.Info{Uses: make(map[*ast.Ident]types.Object)}
		pkg, _ := config.Check("github.com/atrium-go/atrium", fset, files, &info) // config.Error has had the error
		for _, line := range climbs(fset, pkg, info.Uses, floorOf) {
			if !slices.Contains(found, line) {
				found = append(found, line)
				t.Error(line)
			}
		}
	}
}

// exportData finds the compiled form of the packages that this one imports: much faster than their source.
func exportData(t *testing.T) importer.Lookup {
	list := exec.Command("go", "list", "-e", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}\t{{.Export}}{{end}}", ".")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		exports[path] = file
	}
	return func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("go list knows no package %s", path)
		}
		return os.Open(exports[path])
	}
}

// A house with something of everything out of place.
func TestClimbs(t *testing.T) {
	sources := map[string]string{
		"low.go": `package house
type Low struct{ up High; Same int }
type Door[T any] struct{ key T }
func (l *Low) below() int { return l.Same + local() }
func local() int { high := 1; return high }
func climb() int {
	var i interface{ Method() }
	l := &Low{up: High{Field: 1}}
	i.Method()
	l.below()
	l.up.Method(); l.up.Method()
	l.above()
	d := Door[int]{key: Const}
	_ = Variable + d.key
	return Function() + l.up.Field
}`,
		"high.go": `package house
type High struct{ Field int }
func (High) Method() {}
func (l *Low) above() { l.below(); _ = l.Same; _ = local(); _ = Door[High]{}.key }
const Const = 1
var Variable int
func Function() int { return Const }`,
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		file, err := parser.ParseFile(fset, name, sources[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	info := types.Info{Uses: make(map[*ast.Ident]types.Object)}
	pkg, err := new(types.Config).Check("house", fset, files, &info)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"low.go:2: High is declared in high.go, a higher floor",
		"low.go:8: Field is declared in high.go, a higher floor",
		"low.go:8: High is declared in high.go, a higher floor",
		"low.go:11: Method is declared in high.go, a higher floor",
		"low.go:12: above is declared in high.go, a higher floor",
		"low.go:13: Const is declared in high.go, a higher floor",
		"low.go:14: Variable is declared in high.go, a higher floor",
		"low.go:15: Field is declared in high.go, a higher floor",
		"low.go:15: Function is declared in high.go, a higher floor",
	}
	if diff := cmp.Diff(want, climbs(fset, pkg, info.Uses, map[string]int{"low.go": 0, "high.go": 1})); diff != "" {
		t.Error(diff)
	}
	if lines := climbs(fset, pkg, info.Uses, map[string]int{"low.go": 0, "high.go": 0}); lines != nil {
		t.Errorf("on one floor: %q", lines)
	}
}
