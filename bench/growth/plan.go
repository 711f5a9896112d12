package main

import (
	"strconv"
	"sync"
)

// A plan says which members are in which rooms, and which rooms an event goes to.
//
// Each room has two members. The rooms are a ring: of a member and the next. If there are more
// rooms than members, they go around again: of a member and the one after the next, and so on. An
// event goes to each of them at once, rooms that follow on those of the event before; one room
// alone is far from the one before. Several at once are rooms of a single ring.
type plan struct{ members, rooms, each int }

func (p plan) pair(room int) (a, b int) {
	return room % p.members, (room + 1 + room/p.members) % p.members
}

// first returns the first room of event n.
func (p plan) first(n int) int {
	if p.each == 1 {
		return (n - first) * 7919 % p.rooms
	}
	return (n - first) * p.each % p.rooms
}

// reached returns how many members an event reaches.
func (p plan) reached() int { return min(p.each+1, p.members) }

// reaches reports whether event n reaches member i.
func (p plan) reaches(n, i int) bool {
	if p.each == 1 {
		a, b := p.pair(p.first(n))
		return i == a || i == b
	}
	return (i-p.first(n)+p.members)%p.members <= p.each
}

// names returns the rooms' names, in no order and twice, so that those that go around the end are
// one slice, too; and which each member joins.
func (p plan) names() (names []string, joins [][]string) {
	names, joins = make([]string, 2*p.rooms), make([][]string, p.members)
	for i := range names {
		names[i] = strconv.FormatUint(uint64(i%p.rooms)*0x9E3779B97F4A7C15, 36)
		if i < p.rooms {
			a, b := p.pair(i)
			joins[a], joins[b] = append(joins[a], names[i]), append(joins[b], names[i])
		}
	}
	return names, joins
}

// member returns what member i hears: the events that reach it, in order. That it hears them all is
// known from how many are heard together.
func (p plan) member(i int, heard *sync.WaitGroup) func([]byte) {
	last := 0
	return func(payload []byte) {
		n := number(payload, told)
		if n == 0 {
			return
		}
		if n <= last || !p.reaches(n, i) {
			wrong("member %d was told %d after %d", i, n, last)
		}
		last = n
		heard.Done()
	}
}
