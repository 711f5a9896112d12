package atrium

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// A corner is a row of the list of corner cases, or a part of one: a number and a few words, and its test. The tests
// stand with others of the same file of the package; those that fit nowhere else, in corner_wire_test.go,
// corner_deflate_test.go and corner_hub_test.go.
type corner struct {
	name string
	test func(t *testing.T)
}

// of gives a test that is shared by several rows the number of one.
func of(row int, test func(t *testing.T, row int)) func(*testing.T) {
	return func(t *testing.T) { test(t, row) }
}

// TestCorner shows what Atrium does in each of the corner cases: go test -run 'TestCorner/19'. Unless the row itself
// says otherwise they are tested over net.Pipe and TCP, most of them over TLS as well, and those of the wire in both
// roles: server and client share one table of bytes and what must become of them.
func TestCorner(t *testing.T) {
	for _, c := range slices.Concat(wireCorners, deflateCorners, hubCorners) {
		t.Run(c.name, c.test)
	}
}

func TestCornersAreComplete(t *testing.T) {
	var want, got []int
	for row := 1; row <= 81; row++ {
		want = append(want, row)
	}
	for _, c := range slices.Concat(wireCorners, deflateCorners, hubCorners) {
		row, _ := strconv.Atoi(regexp.MustCompile(`^\d+`).FindString(c.name))
		got = append(got, row)
	}
	slices.Sort(got)
	if !slices.Equal(slices.Compact(got), want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
