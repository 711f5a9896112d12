package atrium

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// parseDir parses the files whose paths match pattern.
func parseDir(t *testing.T, pattern string) (*token.FileSet, map[string]*ast.File) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	fset, files := token.NewFileSet(), make(map[string]*ast.File)
	for _, name := range names {
		files[name], err = parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
	}
	return fset, files
}

// A test whose name begins with a small letter does not run by itself, and go test -run with its
// name succeeds.
func TestTestsRun(t *testing.T) {
	fset, files := parseDir(t, "*_test.go")
	small := regexp.MustCompile(`^test[A-Z0-9_]`)
	for _, file := range files {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || !small.MatchString(f.Name.Name) || f.Type.Results != nil || f.Type.Params.NumFields() != 1 {
				continue
			}
			star, _ := f.Type.Params.List[0].Type.(*ast.StarExpr)
			if star == nil {
				continue
			}
			if of, ok := star.X.(*ast.SelectorExpr); ok && of.Sel.Name == "T" {
				t.Errorf("%v: %s runs in no other way than by another test: begin its name with a capital", fset.Position(f.Pos()), f.Name.Name)
			}
		}
	}
}

// A type that has more than 16 fields cannot be held in one's head. Options are a list, for the
// application to read.
func TestTypesAreSmall(t *testing.T) {
	const most = 16
	forEachStruct(t, func(at token.Position, name string, fields []*ast.Field) {
		n := 0
		for _, field := range fields {
			n += max(1, len(field.Names)) // an embedded field has no name
		}
		if n > most && name != "Options" {
			t.Errorf("%v: %s has %d fields, of at most %d: what belongs together is a type of its own", at, name, n, most)
		}
	})
}

// Each mutex is one more place in the order of ARCHITECTURE.md.
func TestMutexesAreFew(t *testing.T) {
	const most = 26
	var mutexes []string
	forEachStruct(t, func(at token.Position, name string, fields []*ast.Field) {
		for _, field := range fields {
			of, ok := field.Type.(*ast.SelectorExpr)
			if ok && (of.Sel.Name == "Mutex" || of.Sel.Name == "RWMutex") {
				mutexes = append(mutexes, fmt.Sprintf("%v: %s", at, name))
			}
		}
	})
	if len(mutexes) > most {
		t.Errorf("%d mutexes, of at most %d:\n%s", len(mutexes), most, strings.Join(mutexes, "\n"))
	}
}

// forEachStruct calls f for each struct type of the package that has a name.
func forEachStruct(t *testing.T, f func(at token.Position, name string, fields []*ast.Field)) {
	t.Helper()
	fset, files := parseDir(t, "*.go")
	for name, file := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					f(fset.Position(spec.Pos()), spec.Name.Name, s.Fields.List)
				}
			}
			return true
		})
	}
}

// Comments are wrapped at 100 columns, of which a tab takes four: here and in the packages below.
// Preformatted text and what stands behind code may be wider.
func TestCommentsAreNarrow(t *testing.T) {
	const most = 100
	for _, pattern := range []string{"*.go", "*/*.go", "*/*/*.go"} {
		fset, files := parseDir(t, pattern)
		for name, file := range files {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(source), "\n")
			for _, group := range file.Comments {
				for _, c := range group.List {
					at := fset.Position(c.Pos())
					line := lines[at.Line-1]
					width := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    "))
					prose := strings.HasPrefix(c.Text, "// ") && !strings.HasPrefix(c.Text, "//  ") && !strings.HasPrefix(c.Text, "// {")
					if width > most && prose && strings.TrimSpace(line) == c.Text {
						t.Errorf("%v: a comment of %d columns, of at most %d", at, width, most)
					}
				}
			}
		}
	}
}
