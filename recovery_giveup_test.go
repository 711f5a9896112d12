package atrium

import (
	"path/filepath"
	"testing"
	"testing/synctest"
)

// A hub that is to end right after its predecessor has ended, before it has looked at the lock
// again, keeps what it has, and what it was to be handed.
func TestRecoveryEndsRightAfterPredecessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "state")
		old := successor(t, overPipe, path, Options{})
		handed := old.enter(t, "")
		old.cut(handed)
		l := successor(t, overPipe, path, Options{})
		synctest.Wait()
		own := l.enter(t, "")
		l.cut(own)
		old.shutdown(t)
		l.shutdown(t)

		next := successor(t, overPipe, path, Options{})
		wantRecovered(t, next.enter(t, proof(handed.pid, "")), handed)
		wantRecovered(t, next.enter(t, proof(own.pid, "")), own)
	})
}
