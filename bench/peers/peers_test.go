package main

import (
	"net"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// A fault is what a broken server sends instead of its n-th message.
type fault struct {
	name     string
	instead  func(n int, m []byte) [][]byte
	reported string // a pattern of the error; empty if nothing is wrong
}

var faults = []fault{
	{"none", func(_ int, m []byte) [][]byte { return [][]byte{m} }, ""},
	{"loses", func(n int, m []byte) [][]byte {
		if n == 5 {
			return nil
		}
		return [][]byte{m}
	}, "message 6 came where 5 was due, which was lost"},
	{"doubles", func(n int, m []byte) [][]byte {
		if n == 5 {
			return [][]byte{m, m}
		}
		return [][]byte{m}
	}, "message 5 came where 6 was due: it came twice"},
	{"reorders", reorder, "message 6 came where 5 was due"},
	{"corrupts", func(n int, m []byte) [][]byte {
		if n == 5 {
			m = slices.Clone(m)
			m[40] = '!'
		}
		return [][]byte{m}
	}, "message 5: byte 40 is '!' instead of"},
	{"cuts", func(n int, m []byte) [][]byte {
		if n == 5 {
			m = m[:50]
		}
		return [][]byte{m}
	}, "message 5 has 50 bytes instead of"},
	{"loses the last", func(n int, m []byte) [][]byte {
		if n == last {
			return nil
		}
		return [][]byte{m}
	}, "lost"},
	{"doubles the last", func(n int, m []byte) [][]byte {
		if n == last {
			return [][]byte{m, m}
		}
		return [][]byte{m}
	}, "after the last message|it came twice"},
}

// last is the number of the last message of two rounds with the loads below.
const last = 2*2*8 - 1

var loads = map[work]func(int) load{
	echo:   func(int) load { return &talks{clients: 2, turns: 2, messages: 8, join: echoers(64, 8, process.OpText)} },
	inRoom: func(int) load { return &rooms{members: 2, outstanding: 8, batches: 2} },
}

// reorder swaps messages 5 and 6.
func reorder(n int, m []byte) [][]byte {
	switch n {
	case 5:
		return nil
	case 6:
		earlier := slices.Clone(m)
		renumber(earlier, 5)
		return [][]byte{m, earlier}
	}
	return [][]byte{m}
}

// broken returns a peer with a fault.
func broken(f fault) peer {
	write := func(nc net.Conn, n int, m []byte) error {
		for _, m := range f.instead(n, m) {
			if _, err := nc.Write(append(process.AppendHeader(nil, process.Header{Opcode: process.OpText, Length: len(m)}), m...)); err != nil {
				return err
			}
		}
		return nil
	}
	echoes := func(l net.Listener) func(int) {
		hijack(l, func(nc net.Conn) {
			n := -1
			bareRead(nc, 512, func(_ process.Opcode, m []byte, _ bool) error { n++; return write(nc, n, m) })
		})
		return nil
	}
	says := func(l net.Listener) func(int) {
		var mu sync.Mutex
		var members []net.Conn
		hijack(l, func(nc net.Conn) { mu.Lock(); defer mu.Unlock(); members = append(members, nc) })
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(members) }
		return room(count, each(func(n int) {
			for _, nc := range members {
				write(nc, n, message{size: roomSize}.bytes(n))
			}
		}))
	}
	return peer{"one that " + f.name, map[work]service{echo: {echoes, bare}, inRoom: {says, bare}}}
}

func TestMain(m *testing.M) {
	var peers []peer
	for _, f := range faults {
		peers = append(peers, broken(f))
	}
	process.Serve(kinds(peers))
	m.Run()
}

func TestBrokenServerFailsTheRun(t *testing.T) {
	for _, f := range faults {
		for w, load := range loads {
			t.Run(string(w)+" "+f.name, func(t *testing.T) {
				if f.name == "loses the last" { // it will not come, however long one waits
					defer func(d time.Duration) { patience = d }(patience)
					patience = 100 * time.Millisecond
				}
				_, err := row{work: w, load: load}.measure(broken(f), 1)
				switch {
				case f.reported == "" && err != nil:
					t.Errorf("a sound server: %v", err)
				case f.reported != "" && err == nil:
					t.Error("the run succeeded")
				case f.reported != "" && !regexp.MustCompile(f.reported).MatchString(err.Error()):
					t.Errorf("the error is %q, want %q in it", err, f.reported)
				}
			})
		}
	}
}
