package fleet

import (
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The bounds of a Ledger.
const (
	MaxEmitters = 256
	MaxRooms    = 256
	maxClients  = 1 << 20
)

// A Ledger is what all processes of a run know together: which events were emitted, and which calls
// were carried out. It is a file that each of them maps into its memory, and so outlives the
// servers, like a database.
type Ledger struct {
	events *[MaxEmitters][MaxRooms]emitted
	calls  *[maxClients]carriedOut
	memory []byte
}

// emitted are the events of a server to a room: their numbers begin at one.
type emitted struct{ begun, done atomic.Uint64 }

// carriedOut are the calls of a client.
type carriedOut struct {
	last atomic.Uint64 // the key of the last call that was carried out
	runs atomic.Uint64 // how often the handler ran
}

const ledgerSize = int(unsafe.Sizeof([MaxEmitters][MaxRooms]emitted{}) + unsafe.Sizeof([maxClients]carriedOut{}))

// OpenLedger opens a Ledger, and makes it if it is not there.
func OpenLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(ledgerSize)); err != nil {
		return nil, err
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, ledgerSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	l := &Ledger{events: (*[MaxEmitters][MaxRooms]emitted)(unsafe.Pointer(&memory[0])), memory: memory}
	l.calls = (*[maxClients]carriedOut)(unsafe.Pointer(&memory[unsafe.Sizeof(*l.events)]))
	return l, nil
}

// Close lets go of the memory.
func (l *Ledger) Close() error { return unix.Munmap(l.memory) }

// begun and done return the number of the last event of an emitter to a room that Emit was called
// for, and has returned for.
func (l *Ledger) begun(emitter, room int) uint64 { return l.events[emitter][room].begun.Load() }
func (l *Ledger) done(emitter, room int) uint64  { return l.events[emitter][room].done.Load() }

// carryOut carries out the call of a client with a key unless it was already. The keys of a client
// are 1, 2 and so on.
func (l *Ledger) carryOut(client int, key uint64) {
	c := &l.calls[client]
	c.runs.Add(1)
	c.last.CompareAndSwap(key-1, key)
}
