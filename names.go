package atrium

import (
	"slices"
	"strings"
)

// Lists of names, be they of rooms or ids, are sets: in order, each name once. A long one may come from a client, so
// nothing compares each name with all the others.

// setOf returns the names as a set. It leaves names as they are, and returns them if they are one.
func setOf(names []string) []string {
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			return union(nil, names)
		}
	}
	return names
}

// union returns a set of the names of a set and more. It changes neither.
func union(set, more []string) []string {
	all := append(slices.Clip(set), more...)
	if len(all) > 1 {
		slices.Sort(all)
		all = slices.Compact(all)
	}
	return all
}

// inSet reports whether the name is in the set.
func inSet(set []string, name string) bool {
	_, in := slices.BinarySearch(set, name)
	return in
}

// keyed is an element of a list that is in the order of the names, each of which it has once.
type keyed interface{ key() string }

// findNamed finds a name in the list, or where it belongs.
func findNamed[E keyed](list []E, name string) (at int, in bool) {
	return slices.BinarySearchFunc(list, name, func(e E, name string) int { return strings.Compare(e.key(), name) })
}

// notNamed returns the names of the set that are not in the list.
func notNamed[E keyed](list []E, set []string) []string {
	out := make([]string, 0, len(set))
	for _, name := range set {
		if _, in := findNamed(list, name); !in {
			out = append(out, name)
		}
	}
	return out
}

// insertNamed puts more into the list, which has none of the names. more is such a list, too.
func insertNamed[E keyed](list, more []E) []E {
	i, j := len(list)-1, len(more)-1
	list = slices.Grow(list, len(more))[:len(list)+len(more)]
	for at := len(list) - 1; j >= 0; at-- {
		if i >= 0 && list[i].key() > more[j].key() {
			list[at] = list[i]
			i--
		} else {
			list[at] = more[j]
			j--
		}
	}
	return list
}

// deleteNamed takes those of the set out of the list, each after removed has been called for it.
func deleteNamed[E keyed](list []E, set []string, removed func(E)) []E {
	return slices.DeleteFunc(list, func(e E) bool {
		in := inSet(set, e.key())
		if in {
			removed(e)
		}
		return in
	})
}
