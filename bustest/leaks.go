package bustest

import (
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
)

// goroutines finds new goroutines that run code of a Bus. Those of its client and of a broker do
// not count.
type goroutines struct {
	before   map[string]string
	packages []string
}

func watchGoroutines() *goroutines {
	return &goroutines{before: running(), packages: []string{packageOf(new(atrium.MemoryBus))}}
}

// of adds the package of a Bus to those that are searched for.
func (g *goroutines) of(bus atrium.Bus) {
	if path := packageOf(bus); !slices.Contains(g.packages, path) {
		g.packages = append(g.packages, path)
	}
}

func packageOf(bus atrium.Bus) string {
	of := reflect.TypeOf(bus)
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	return of.PkgPath()
}

// check waits until no goroutine is left, and fails the test with their stacks after Patience.
func (g *goroutines) check(t *testing.T) {
	t.Helper()
	Eventually(t, func() error {
		left := running()
		maps.DeleteFunc(left, func(id, stack string) bool {
			_, known := g.before[id]
			return known || !slices.ContainsFunc(g.packages, func(path string) bool { return strings.Contains(stack, path+".") })
		})
		if len(left) > 0 {
			return fmt.Errorf("%d goroutines are left:\n%s", len(left), strings.Join(slices.Collect(maps.Values(left)), "\n\n"))
		}
		return nil
	})
}

// running returns the stack of every goroutine by its number.
func running() map[string]string {
	buffer := make([]byte, 1<<20)
	n := runtime.Stack(buffer, true)
	for n == len(buffer) {
		buffer = make([]byte, 2*len(buffer))
		n = runtime.Stack(buffer, true)
	}
	stacks := make(map[string]string)
	for stack := range strings.SplitSeq(string(buffer[:n]), "\n\n") {
		var id string
		if _, err := fmt.Sscanf(stack, "goroutine %s", &id); err == nil {
			stacks[id] = stack
		}
	}
	return stacks
}
