package atrium

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
)

// readAll returns a channel that gets all that the client receives until its connection ends.
func (g *recoveryClient) readAll() <-chan []string {
	done := make(chan []string, 1)
	go func() {
		var all []string
		for {
			_, p, err := g.Read(context.Background())
			if err != nil {
				done <- all
				return
			}
			all = append(all, string(p))
		}
	}()
	return done
}

// restart replaces the hub by another, which is there before the old one ends if they overlap.
func (m *awayModel) restart(path string, overlap bool) {
	old := m.l
	var next *recoveryHub
	var later []func() // what the next one emits comes after all that the old one does
	emitNext := func() {
		names, except := m.someNames(3), m.someNames(2)
		m.event++
		event := m.event
		if err := next.To(names...).Except(except...).Emit("n", event); err != nil {
			m.t.Fatal(err)
		}
		later = append(later, func() {
			for _, g := range m.all {
				if g.inAny(names) && !g.inAny(except) {
					g.mail = append(g.mail, fmt.Sprintf(`42["n",%d]`, event))
				}
			}
		})
	}
	if overlap {
		next = successor(m.t, overPipe, path, Options{})
		for range m.rng.IntN(20) {
			switch m.rng.IntN(4) {
			case 0:
				emitNext()
			case 1:
				m.act()
			default:
				m.emit()
			}
		}
	}
	received := make(map[*modelGuest]<-chan []string)
	for _, g := range m.all {
		if !g.away {
			received[g] = g.readAll()
		}
	}
	ended := begin(func() (bool, error) { return true, old.Shutdown(limited(m.t)) })
	if overlap {
		emitNext()
	} else {
		within(m.t, ended, "Shutdown")
		next = successor(m.t, overPipe, path, Options{})
	}
	for _, g := range m.all {
		if all, live := received[g]; live { // and the network has lost the rest
			got := within(m.t, all, "the end of a connection")
			got = got[:m.rng.IntN(len(got)+1)]
			m.same(g, g.mail[:len(got)], bare(m.t, got))
			if len(got) > 0 {
				g.offset = offsetOf(m.t, got[len(got)-1])
			}
			g.mail = g.mail[len(got):]
		}
		g.away, g.first = true, nil
	}
	for _, f := range later {
		f()
	}
	m.l, m.hubs = next, []*Hub{next.Hub}
	for _, g := range m.all {
		if m.rng.IntN(2) == 0 {
			m.comeBack(g)
		}
	}
	if overlap {
		within(m.t, ended, "Shutdown")
		within(m.t, next.succession.waited, "the hand-over")
	}
}

// The same over restarts, with overlap and without: whatever either process has emitted arrives
// once, in order, and clients are where they were.
func TestRestartModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			noLeaks(t)
			path := filepath.Join(t.TempDir(), "state")
			m := &awayModel{t: t, rng: rand.New(rand.NewPCG(seed, 7))}
			m.l = successor(t, overPipe, path, Options{})
			m.hubs = []*Hub{m.l.Hub}
			for range 5 {
				m.enter()
			}
			for range 12 {
				for range m.rng.IntN(40) {
					m.step()
				}
				m.restart(path, m.rng.IntN(3) > 0)
			}
			for _, g := range m.all {
				if g.away {
					m.comeBack(g)
				}
				m.read(g, len(g.mail))
			}
		})
	}
}
