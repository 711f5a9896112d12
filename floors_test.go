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

// floorPlan gives each file its floor, counted from the ground up, and says which floors are wings.
// A file names nothing that is declared on a floor above its own, and a file of a wing nothing of
// the other wing.
type floorPlan struct {
	floorOf map[string]int
	wings   []int
}

// readFloorPlan reads the table of ARCHITECTURE.md. A floor begins with a row that has its name in
// bold; that of a wing says so.
func readFloorPlan(t *testing.T) floorPlan {
	t.Helper()
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	plan := floorPlan{floorOf: make(map[string]int)}
	floor := -1
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "| **"); ok {
			floor++
			if name, _, _ := strings.Cut(name, "**"); strings.HasSuffix(name, " wing") {
				plan.wings = append(plan.wings, floor)
			}
		}
		cells := strings.Split(line, "|")
		if floor < 0 || len(cells) < 3 {
			continue
		}
		for _, file := range regexp.MustCompile("`([a-z0-9_]+\\.go)`").FindAllStringSubmatch(cells[1], -1) {
			if _, again := plan.floorOf[file[1]]; again {
				t.Errorf("ARCHITECTURE.md has %s twice", file[1])
			}
			plan.floorOf[file[1]] = floor
		}
	}
	if len(plan.wings) != 2 {
		t.Errorf("ARCHITECTURE.md has %d wings, want that of the hub and that of the client", len(plan.wings))
	}
	return plan
}

// forbidden says why a file must not name what is declared in another; "" if it may.
func (plan floorPlan) forbidden(file, declaredIn string) string {
	from, ok := plan.floorOf[file]
	to := plan.floorOf[declaredIn]
	switch {
	case !ok || from == to:
		return ""
	case slices.Contains(plan.wings, from) && slices.Contains(plan.wings, to):
		return "the other wing"
	case to > from:
		return "a higher floor"
	}
	return ""
}

// violations lists where a file names an object (a type, function, variable, constant, method or
// field) of pkg that it must not name.
func (plan floorPlan) violations(fset *token.FileSet, pkg *types.Package, uses map[*ast.Ident]types.Object) []string {
	type place struct {
		file string
		line int
	}
	found := make(map[place][]string)
	for ident, object := range uses {
		at, declared := fset.Position(ident.Pos()), fset.Position(object.Pos())
		file, home := filepath.Base(at.Filename), filepath.Base(declared.Filename)
		if object.Pkg() != pkg {
			continue
		}
		if why := plan.forbidden(file, home); why != "" {
			p := place{file, at.Line}
			found[p] = append(found[p], fmt.Sprintf("%s:%d: %s is declared in %s, %s", file, at.Line, ident.Name, home, why))
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

// Lower floors never name upper ones, and the hub wing and the client wing never name each other.
func TestFloors(t *testing.T) {
	plan := readFloorPlan(t)
	names := sourceFiles(t)
	for _, name := range names {
		if _, ok := plan.floorOf[name]; !ok {
			t.Errorf("%s: on no floor: give it one in ARCHITECTURE.md", name)
		}
	}
	for name := range plan.floorOf {
		if !slices.Contains(names, name) {
			t.Errorf("ARCHITECTURE.md has %s, which does not exist", name)
		}
	}

	lookup := exportData(t)
	var found []string
	for _, goos := range []string{runtime.GOOS, "windows"} { // conn_fast_unix.go and conn_fast_other.go
		fset, pkg, uses := typeCheckPackage(t, goos, names, lookup)
		for _, line := range plan.violations(fset, pkg, uses) {
			if !slices.Contains(found, line) {
				found = append(found, line)
				t.Error(line)
			}
		}
	}
}

// ARCHITECTURE.md names only identifiers, and members of types, that exist.
func TestArchitectureNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, pkg, _ := typeCheckPackage(t, runtime.GOOS, sourceFiles(t), exportData(t))
	for _, name := range regexp.MustCompile("`([A-Za-z]+)(?:\\.([A-Za-z]+))?`").FindAllStringSubmatch(string(text), -1) {
		object := pkg.Scope().Lookup(name[1])
		switch {
		case name[2] == "go", name[1] == "runtime", strings.HasPrefix(name[1], "Test"):
			continue // a file, for TestFloors; another package; a test
		case object != nil && name[2] != "":
			object, _, _ = types.LookupFieldOrMethod(object.Type(), true, pkg, name[2])
		}
		if object == nil {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", name[0])
		}
	}
}

// sourceFiles lists the files of this package but its tests.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

// typeCheckPackage checks those of the files that are for the operating system.
func typeCheckPackage(t *testing.T, goos string, names []string, lookup importer.Lookup) (*token.FileSet, *types.Package, map[*ast.Ident]types.Object) {
	t.Helper()
	fset := token.NewFileSet()
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
	return fset, pkg, info.Uses
}

// exportData finds the compiled form of the packages that this one imports: much faster than their
// source.
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

// typeCheck checks a package of files that import nothing.
func typeCheck(t *testing.T, sources map[string]string) (fset *token.FileSet, pkg *types.Package, uses map[*ast.Ident]types.Object) {
	t.Helper()
	fset = token.NewFileSet()
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
	return fset, pkg, info.Uses
}

// One use of each kind of object that is declared on a higher floor.
func TestFloorsFindHigherFloor(t *testing.T) {
	fset, pkg, uses := typeCheck(t, map[string]string{
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
	})
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
	plan := floorPlan{floorOf: map[string]int{"low.go": 0, "high.go": 1}}
	if diff := cmp.Diff(want, plan.violations(fset, pkg, uses)); diff != "" {
		t.Error(diff)
	}
	plan.floorOf["high.go"] = 0
	if lines := plan.violations(fset, pkg, uses); lines != nil {
		t.Errorf("on one floor: %q", lines)
	}
}

// Either wing names what is below, its own and the other wing.
func TestFloorsFindOtherWing(t *testing.T) {
	fset, pkg, uses := typeCheck(t, map[string]string{
		"shared.go": `package house
type Shared struct{}`,
		"hub.go": `package house
type Hub struct{ Shared }
func (h Hub) serve() Client { return Client{} }`,
		"hub_more.go": `package house
var hub Hub`,
		"client.go": `package house
type Client struct{ Shared }
func (c Client) dial() {
	hub.serve().dial()
}`,
	})
	plan := floorPlan{map[string]int{"shared.go": 0, "hub.go": 1, "hub_more.go": 1, "client.go": 2}, []int{1, 2}}
	want := []string{
		"client.go:4: hub is declared in hub_more.go, the other wing",
		"client.go:4: serve is declared in hub.go, the other wing",
		"hub.go:3: Client is declared in client.go, the other wing",
	}
	if diff := cmp.Diff(want, plan.violations(fset, pkg, uses)); diff != "" {
		t.Error(diff)
	}
}
