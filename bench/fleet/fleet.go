// Package fleet is a crowd of clients of all kinds and the servers that they are connected to. They
// check that everything comes that must. The programs soak and drain share it.
package fleet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Fleet is all of it.
type Fleet struct {
	Nodes []*Node

	ledger    *Ledger
	directory string
	rooms     int
	bus       bool
	emitters  atomic.Int64
	clients   atomic.Int64
	failed    chan error
	Counts

	mu   sync.Mutex // guards:
	away []time.Duration
	http map[string]int // responses that were no success, by what they were
}

// Counts are what has happened.
type Counts struct {
	Told, Missed     atomic.Int64 // events; those of other nodes that a Bus has lost
	Late             atomic.Int64 // of these the ones that a successor had kept, and that came behind later ones
	Calls, Again     atomic.Int64 // acknowledged; sent again
	Known            atomic.Int64 // orders whose handler ran once more, and knew the key
	Recovered, Anew  atomic.Int64 // connections that continued a socket; that began another, of clients that had one
	Refused, Cut     atomic.Int64 // attempts that failed without a response; connections that clients cut
	Joins, Leaves    atomic.Int64
	Connected        atomic.Int64 // clients at the moment
	CameBack, Closed atomic.Int64 // connections again; connections that the server ended
}

// New starts nodes with these options.
func New(nodes int, o ServerOptions) (*Fleet, error) {
	directory, err := os.MkdirTemp("", "atrium")
	if err != nil {
		return nil, err
	}
	f := &Fleet{directory: directory, rooms: o.Rooms, bus: o.Redis != "", failed: make(chan error, 1), http: make(map[string]int)}
	o.Ledger = filepath.Join(directory, "ledger")
	if f.ledger, err = OpenLedger(o.Ledger); err != nil {
		return nil, err
	}
	for i := range nodes {
		o.Recovery = filepath.Join(directory, fmt.Sprint("recovery", i))
		f.Nodes = append(f.Nodes, f.newNode(o))
	}
	return f, nil
}

// Stop ends the servers. All clients have been stopped.
func (f *Fleet) Stop() error {
	for _, n := range f.Nodes {
		n.Stop()
	}
	return errors.Join(f.ledger.Close(), os.RemoveAll(f.directory))
}

// Failed gets the first failure.
// Fail notes a failure: the first counts.
func (f *Fleet) Failed() <-chan error { return f.failed }

// Fail notes a failure: the first counts.
func (f *Fleet) Fail(err error) {
	select {
	case f.failed <- err:
	default:
	}
}

// Wait waits, or returns a failure.
func (f *Fleet) Wait(d time.Duration) error {
	select {
	case err := <-f.failed:
		return err
	case <-time.After(d):
		return nil
	}
}

// Until waits until something holds, for a time at most.
func (f *Fleet) Until(what string, limit time.Duration, holds func() bool) error {
	for end := time.Now().Add(limit); !holds(); {
		if time.Now().After(end) {
			return fmt.Errorf("after %v it is not so that %s", limit, what)
		}
		if err := f.Wait(20 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// Settle has nobody emit, join or leave any more, and checks that all clients have been told
// everything, and that their calls were carried out once.
func (f *Fleet) Settle(clients []*Client, limit time.Duration) error {
	for _, c := range clients {
		c.rest()
	}
	for _, n := range f.Nodes {
		n.Quiet()
	}
	var last error
	complete := func() bool {
		for _, c := range clients {
			if last = c.complete(); last != nil {
				return false
			}
		}
		return true
	}
	if err := f.Until("everything has come", limit, complete); err != nil {
		return errors.Join(err, last)
	}
	return nil
}

// Away returns how long clients were not connected, those that came back, in order of length.
func (f *Fleet) Away() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(slices.Values(f.away))
}

// HTTP returns how often there was which response that was no success.
func (f *Fleet) HTTP() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string]int)
	for what, n := range f.http {
		all[what] = n
	}
	return all
}

func (f *Fleet) noteHTTP(kind, what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.http[kind+": "+what]++
}

func (f *Fleet) noteAway(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = append(f.away, d)
}

// Forget forgets how long clients were away, and the responses.
func (f *Fleet) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away, f.http = nil, make(map[string]int)
}
