package atrium

import (
	"slices"
	"strings"
)

// Lists of names of rooms and of ids are sets: sorted, without duplicates. A client can send a long
// list, so no function here is quadratic.

// setOf returns the names as a set: names itself if it is one already. It does not change names.
func setOf(names []string) []string {
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			return union(nil, names)
		}
	}
	return names
}

// union returns the set of the names in set and more. It changes neither.
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

// keyed is an element of a list that is sorted by key, without duplicates.
type keyed interface{ key() string }

// findNamed returns the index of the element with the name, or where to insert it.
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

// insertNamed merges more into the list. Both are sorted, and have no name in common.
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

// deleteNamed deletes the elements whose names are in the set. It calls removed for each of them
// first.
func deleteNamed[E keyed](list []E, set []string, removed func(E)) []E {
	return slices.DeleteFunc(list, func(e E) bool {
		in := inSet(set, e.key())
		if in {
			removed(e)
		}
		return in
	})
}

// userMark begins the name of a room whose members are the sockets of a user; the user's id
// follows. UTF-8 has no such byte, so that Join refuses the name, and every other method that takes
// names of rooms leaves it out: the application reaches these rooms by the id of the user alone. In
// a set of names they come last.
const userMark = "\xff"

const maxUserID = 256 // in bytes

// userRoom returns the name of the room of a user.
func userRoom(id string) string { return userMark + id }

// userOf returns the user whose room has that name. ok is false if the room is no user's.
func userOf(room string) (id string, ok bool) { return strings.CutPrefix(room, userMark) }

// userAmong returns the user whose room is in the list, of which a socket's has one at most; ""
// without one.
func userAmong[E keyed](rooms []E) string {
	if n := len(rooms); n > 0 {
		if user, ok := userOf(rooms[n-1].key()); ok {
			return user
		}
	}
	return ""
}

// withoutUsers returns the names but for those of users' rooms. It does not change names.
func withoutUsers(names []string) []string {
	isUser := func(name string) bool { return strings.HasPrefix(name, userMark) }
	if slices.ContainsFunc(names, isUser) {
		return slices.DeleteFunc(slices.Clone(names), isUser)
	}
	return names
}

// splitUsers splits a set of names into those of rooms, and the users whose rooms the others are.
func splitUsers(set []string) (rooms, users []string) {
	at, _ := slices.BinarySearch(set, userMark)
	for _, room := range set[at:] {
		users = append(users, room[len(userMark):])
	}
	return set[:at], users
}
