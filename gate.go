package atrium

import (
	"context"
	"sync"
)

// gate lets goroutines wait until something changes. The lock of what changes guards it. The zero
// gate is closed.
type gate struct{ opened chan struct{} } // nil: nobody waits

// wait returns a channel that is closed when the gate opens next.
func (g *gate) wait() <-chan struct{} {
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened
}

// open wakes all goroutines that wait. After that the gate is closed again.
func (g *gate) open() {
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// await waits until done reports true, which it calls with mu held, first at once and then when the
// gate opens. Its error is ctx's.
func (g *gate) await(ctx context.Context, mu *sync.Mutex, done func() bool) error {
	for {
		mu.Lock()
		if done() {
			mu.Unlock()
			return nil
		}
		wait := g.wait()
		mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
