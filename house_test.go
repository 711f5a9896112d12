package atrium

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"testing"
)

// parseDir parses the files of this directory whose names match pattern.
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
