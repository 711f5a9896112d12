package atrium

import (
	"encoding/binary"
	"testing"
)

// A pong answers its ping and those before it; one that is no ping's answers none.
func TestPingsAnswered(t *testing.T) {
	var p pings
	first, second, third, fourth := p.add(), p.add(), p.add(), p.add()
	p.remove(third)
	for _, payload := range [][]byte{nil, []byte("a heartbeat's"), make([]byte, 8)} {
		p.answered(payload)
		if n := len(p.waiting); n != 3 {
			t.Errorf("%d pings wait after the pong %q", n, payload)
		}
	}
	p.answered(binary.BigEndian.AppendUint64(nil, second.number))
	for i, ping := range []pendingPing{first, second, third, fourth} {
		answered := false
		select {
		case <-ping.pong:
			answered = true
		default:
		}
		if answered != (i < 2) {
			t.Errorf("ping %d is answered: %t", ping.number, answered)
		}
	}
	if len(p.waiting) != 1 || p.waiting[0] != fourth {
		t.Errorf("%v wait", p.waiting)
	}
}
