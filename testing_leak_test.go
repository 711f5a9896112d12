package atrium

import (
	"os"
	"runtime"
	"testing"
)

// resources are what a process runs out of. Files are -1 where the system does not tell.
type resources struct{ goroutines, files int }

func countResources() resources {
	r := resources{runtime.NumGoroutine(), -1}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		r.files = len(open)
	}
	return r
}

// leavesNothing runs a test of clients of the hub, which may do to it what they like, and waits
// until the process has no more goroutines and open files than before, and the hub no timers and
// nobody whom it counts. If that never is, it fails the test with the stacks of all goroutines.
func leavesNothing(t *testing.T, h *Hub, test func(t *testing.T)) {
	t.Helper()
	before := countResources()
	t.Run("clients", test) // what it has to clean up is cleaned up when it returns
	if t.Failed() {
		return
	}
	h.checkNobody(t)
	var now resources
	if !poll(func() bool {
		now = countResources()
		return now.goroutines <= before.goroutines && now.files <= before.files
	}) {
		stacks := make([]byte, 1<<20)
		t.Errorf("%+v were in use before, %+v are now:\n%s", before, now, stacks[:runtime.Stack(stacks, true)])
	}
}
