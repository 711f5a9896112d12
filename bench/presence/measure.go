package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// patience is how long it may take until all have been told what they are to be told.
const patience = time.Minute

// figures are what a round has measured: of a second, of a member.
type figures struct {
	cpu             time.Duration // of the server, a second
	messages, bytes float64       // a second, to a member
	memory          float64       // of the server for a member, before anybody comes and goes, in bytes
	behind          time.Duration // how long telling took when the last one had left
}

// measure has members enter, and others come and go.
func (o options) measure(kind string, compressed bool) (f figures) {
	profile := ""
	if o.profile != "" {
		profile = o.profile + strings.NewReplacer(" ", "-", ",", "").Replace(kind)
	}
	s := process.Start(kind, profile)
	defer s.Stop()
	c := &crowd{server: s, compressed: compressed, failed: make(chan error, 1)}
	before := s.Memory().Resident
	staying := c.fill(o.members - o.visitors())
	if strings.HasPrefix(kind, untold) {
		staying = staying[:0:0] // whose lists are not the true ones
	}
	c.settle(staying)
	f.memory = float64(s.Memory().Resident-before) / float64(c.staying)

	var visitors sync.WaitGroup
	end := make(chan struct{})
	visitors.Go(func() { o.comeAndGo(c, &visitors, end) })
	time.Sleep(o.warmUp)
	if profile != "" {
		s.Command(profileBegins)
	}
	at, cpu, messages, bytes := time.Now(), s.CPU(), c.messages.Load(), c.bytes.Load()
	time.Sleep(o.last)
	seconds := time.Since(at).Seconds()
	f.cpu = time.Duration(float64(s.CPU()-cpu) / seconds)
	each := seconds * float64(c.staying)
	f.messages, f.bytes = float64(c.messages.Load()-messages)/each, float64(c.bytes.Load()-bytes)/each
	if profile != "" {
		s.Command(profileEnds)
	}
	close(end)
	visitors.Wait()
	at = time.Now()
	c.settle(staying)
	f.behind = time.Since(at)
	return f
}

// fill has n members enter that stay.
func (c *crowd) fill(n int) []*member {
	c.staying = n
	all := make([]*member, n)
	var wg sync.WaitGroup
	const workers = 16
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				all[i] = c.enter(fmt.Sprintf("member%05d", i), true)
			}
		})
	}
	wg.Wait()
	return all
}

// comeAndGo has visitors come, and leave after a visit, until end is closed.
func (o options) comeAndGo(c *crowd, visitors *sync.WaitGroup, end <-chan struct{}) {
	t := time.NewTicker(time.Second / time.Duration(o.joins))
	defer t.Stop()
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		case <-t.C:
		}
		visitors.Go(func() {
			m := c.enter(fmt.Sprintf("visitor%05d", i), false)
			time.Sleep(o.visit)
			m.leave()
		})
	}
}

// settle waits until all members have the list of them all.
func (c *crowd) settle(all []*member) {
	var want set
	for _, m := range all {
		want.add(m.key)
	}
	deadline := time.Now().Add(patience)
	for _, m := range all {
		for !m.has(want) {
			select {
			case err := <-c.failed:
				check(err)
			case <-time.After(10 * time.Millisecond):
			}
			if time.Now().After(deadline) {
				check(fmt.Errorf("%s has %d in its list after %v, want the %d who are there", m.key, m.list.n, patience, want.n))
			}
		}
	}
	select {
	case err := <-c.failed:
		check(err)
	default:
	}
}

// has reports whether the member has that list.
func (m *member) has(want set) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list == want
}
