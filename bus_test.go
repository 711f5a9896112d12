package atrium_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bustest"
)

func TestMemoryBus(t *testing.T) {
	bus := new(atrium.MemoryBus)
	bustest.Run(t, func(testing.TB) atrium.Bus { return bus })
	if bus.Dropped() == 0 {
		t.Error("nothing counts as dropped after a subscriber that was slow had 24 MiB sent")
	}
}

// A queue holds 16 MiB with 64 bytes for each message, or one message of any size. Beyond, what
// comes is dropped, and what came before stays.
func TestMemoryBusBound(t *testing.T) {
	const room = 16 << 20 / (1<<10 + 64)
	bus := new(atrium.MemoryBus)
	got, gate := make(chan uint32), make(chan struct{})
	cancel, err := bus.Subscribe(t.Context(), "topic", func(msg []byte) {
		got <- binary.BigEndian.Uint32(msg)
		<-gate
	})
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	send := func(number uint32, size int) {
		t.Helper()
		msg := make([]byte, size)
		binary.BigEndian.PutUint32(msg, number)
		if err := bus.Publish(t.Context(), "topic", msg); err != nil {
			t.Fatal(err)
		}
	}
	send(0, 4)
	<-got // it is in delivery, and the queue is empty
	for i := range uint32(room + 10) {
		send(1+i, 1<<10)
	}
	if n := bus.Dropped(); n != 10 {
		t.Errorf("%d messages were dropped, want 10", n)
	}
	close(gate)
	for i := range uint32(room) {
		if n := <-got; n != 1+i {
			t.Fatalf("message %d came in place of %d", n, 1+i)
		}
	}
	send(1, 17<<20)
	<-got
	if n := bus.Dropped(); n != 10 {
		t.Errorf("%d messages were dropped, want 10: a large one has room in an empty queue", n)
	}
}

func ExampleMemoryBus() {
	bus := new(atrium.MemoryBus)
	got := make(chan string)
	cancel, err := bus.Subscribe(context.Background(), "news", func(msg []byte) { got <- string(msg) })
	if err != nil {
		fmt.Println(err)
		return
	}
	defer cancel()
	if err := bus.Publish(context.Background(), "news", []byte("it is a hall")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-got)
	// Output: it is a hall
}
