package atrium

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path/filepath"
	"testing"
)

// TestExamplesStandAlone checks that whoever reads an example sees all of it: it names nothing that
// is declared outside of it but types, which go/doc shows with it, and what it imports.
func TestExamplesStandAlone(t *testing.T) {
	names, err := filepath.Glob("*/example*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Glob("example*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	checked := 0
	for _, name := range append(names, here...) {
		file, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, example := range doc.Examples(file) {
			checked++
			if example.Play == nil {
				t.Errorf("%s: Example%s is no whole program", name, example.Name)
				continue
			}
			for _, d := range example.Play.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name != "main" {
					t.Errorf("%s: Example%s has a helper: %s", name, example.Name, f.Name.Name)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("%d examples were found, expected 20 at least", checked)
	}
}
