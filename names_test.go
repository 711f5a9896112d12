package atrium

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Sets and lists by name are what maps are.
func TestNames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	some := func(most int) (names []string) {
		for range rng.IntN(most + 1) {
			names = append(names, strconv.Itoa(rng.IntN(20)))
		}
		return names
	}
	want := func(step int, what string, got []string, want map[string]bool) {
		t.Helper()
		if sorted := slices.Sorted(maps.Keys(want)); !slices.Equal(got, sorted) {
			t.Fatalf("step %d, %s: %q, want %q", step, what, got, sorted)
		}
	}
	mapOf := func(names ...[]string) map[string]bool {
		m := make(map[string]bool)
		for _, name := range slices.Concat(names...) {
			m[name] = true
		}
		return m
	}
	var list []stay
	model := make(map[string]bool)
	for step := range 2000 {
		a, b := some(8), some(8)
		before := slices.Clone(a)
		set := setOf(a)
		want(step, "setOf", set, mapOf(a))
		want(step, "union", union(set, b), mapOf(a, b))
		if !slices.Equal(a, before) {
			t.Fatalf("step %d: what was given changed", step)
		}
		for i := range 20 {
			if name := strconv.Itoa(i); inSet(set, name) != slices.Contains(a, name) {
				t.Fatalf("step %d: is %s in %q?", step, name, set)
			}
		}

		added := notNamed(list, set)
		news := mapOf(a)
		maps.DeleteFunc(news, func(name string, _ bool) bool { return model[name] })
		want(step, "notNamed", added, news)
		more := make([]stay, len(added))
		for i, name := range added {
			more[i] = stay{name: name, since: uint64(step)}
			model[name] = true
		}
		list = insertNamed(list, more)
		gone := make(map[string]bool)
		list = deleteNamed(list, setOf(b), func(s stay) { gone[s.name] = true })
		for name := range gone {
			if !model[name] || !slices.Contains(b, name) {
				t.Fatalf("step %d: %s was removed", step, name)
			}
			delete(model, name)
		}
		maps.DeleteFunc(model, func(name string, _ bool) bool { return slices.Contains(b, name) })
		var got []string
		for _, s := range list {
			got = append(got, s.name)
			if at, in := findNamed(list, s.name); !in || list[at].name != s.name {
				t.Fatalf("step %d: %s is not found", step, s.name)
			}
		}
		want(step, "the list", got, model)
	}
}

// Each name was compared with all others, for seconds with as many as these, and under a lock that
// every delivery needs.
func TestManyNames(t *testing.T) {
	const n = 50_000
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(i * 7919 % n) // all of them, in no order
	}
	twice := slices.Concat(names, names)
	sorted := slices.Sorted(slices.Values(names))
	for _, test := range []struct {
		name string
		Options
	}{
		{"", Options{Limits: Limits{Rooms: n}}},
		{"with recovery", Options{Limits: Limits{Rooms: n}, Recovery: Recovery{MaxDisconnection: time.Hour, MaxBytes: 1 << 30}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			noLeaks(t)
			l := newRecoveryHub(t, overTCP, test.Options)
			a, b := newMailbox(t, l.Hub), newMailbox(t, l.Hub)
			t.Cleanup(a.drop)
			t.Cleanup(b.drop)
			if err := a.Join(twice...); err != nil {
				t.Fatal(err)
			}
			if err := b.Join(append(twice, "one more")...); !errors.Is(err, ErrTooManyRooms) || len(b.Rooms()) != 0 {
				t.Error(err, len(b.Rooms()))
			}
			if err := l.To(twice...).To(b.id).Join(t.Context(), names[:n/2]...); err != nil {
				t.Error(err)
			}
			if rooms := a.Rooms(); !slices.Equal(rooms, sorted) || len(b.Rooms()) != n/2 || len(l.LocalRooms()) != n {
				t.Errorf("%d rooms, %d, %d", len(rooms), len(b.Rooms()), len(l.LocalRooms()))
			}
			l.To(twice...).Emit("both")
			l.To(names[n/2:]...).To("x").Emit("a")
			l.Except(twice...).Emit("nobody")
			l.Except(names[n/2:]...).Except("x").Emit("b")
			for box, want := range map[mailbox][]string{a: {`{"event":"both"}`, `{"event":"a"}`}, b: {`{"event":"both"}`, `{"event":"b"}`}} {
				if diff := cmp.Diff(want, box.take()); diff != "" {
					t.Error(diff)
				}
			}
			a.Leave(names[1:]...)
			if err := l.To(names...).Leave(t.Context(), names[1:]...); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(names[:1], a.Rooms()); diff != "" || len(l.LocalRooms()) != 1 {
				t.Error(diff, l.LocalRooms())
			}
		})
	}
}

// Long lists cost no more by the name than short ones.
func BenchmarkNames(b *testing.B) {
	h := newHub(b, Options{Limits: Limits{Rooms: 1 << 20}})
	box := newMailbox(b, h)
	b.Cleanup(box.drop)
	for _, n := range []int{1, 20, 1000, 20_000} {
		names := make([]string, n)
		for i := range names {
			names[i] = "room-" + strconv.Itoa(i*7919%n)
		}
		for _, bench := range []struct {
			name string
			run  func()
		}{
			{"To", func() { h.To(names...) }},
			{"Emit", func() { h.To(names...).Local().Volatile().Emit("x") }},
			{"Join+Leave", func() { box.Join(names...); box.Leave(names...) }},
		} {
			b.Run(fmt.Sprintf("%s/names=%d", bench.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					bench.run()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/name")
			})
		}
	}
}
