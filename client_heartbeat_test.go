package atrium

import (
	"slices"
	"testing"
	"time"
)

// What becomes of a server that may be silent for 45 seconds, by what the client sees of it and
// when.
func TestClientHeartbeatLooks(t *testing.T) {
	type event struct {
		at     int64 // seconds
		see    func(*clientSigns)
		asleep int64 // seconds before, in which no timer ran
	}
	frame := func(s *clientSigns) { s.received, s.reads, s.partial = s.now, s.reads+1, false }
	part := func(s *clientSigns) { s.reads, s.partial = s.reads+1, true }
	pause := func(s *clientSigns) { s.paused, s.pauses = !s.paused, s.pauses+1 } // begins or ends
	pauses := func(s *clientSigns) { s.pauses += 2 }
	twoPause := func(s *clientSigns) { s.paused, s.pauses = true, s.pauses+2 }
	queue := func(s *clientSigns) { s.queued = true }
	for _, test := range []struct {
		name   string
		events []event
		pings  []int64 // seconds
		gone   int64   // 0: not within five minutes
	}{
		{"silence", nil, nil, 45},
		{"a frame", []event{{38, frame, 0}}, nil, 83},
		{"a part of a message counts from the next look", []event{{38, part, 0}}, nil, 40 + 45},
		{"a part that is the last", []event{{31, part, 0}, {38, frame, 0}}, nil, 83},
		{"a part behind a frame", []event{{31, frame, 0}, {33, part, 0}}, nil, 35 + 45},
		{"a pause", []event{{20, pause, 0}, {70, pause, 0}}, []int64{25, 50}, 75 + 45},
		{"a pause between two looks", []event{{42, pauses, 0}}, nil, 45 + 45},
		{"a pause without an end", []event{{6, pause, 0}}, []int64{25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 275, 300}, 0},
		{"a pause of two connections", []event{{6, twoPause, 0}, {7, queue, 0}}, nil, 0},
		{"a pause with something to write", []event{{6, pause, 0}, {7, queue, 0}}, nil, 0},
		{"a pause after a frame", []event{{24, frame, 0}, {24, pause, 0}, {60, pause, 0}}, []int64{50}, 65 + 45},
		{"a sleep", []event{{27, nil, 20}}, []int64{27}, 37},
		{"a sleep and a pong", []event{{27, nil, 20}, {30, frame, 0}}, []int64{27}, 75},
		{"a sleep that was too long", []event{{60, nil, 53}}, nil, 60},
		{"a sleep with something to write", []event{{6, queue, 0}, {27, nil, 20}}, nil, 45},
		{"a sleep and a pause", []event{{27, nil, 20}, {28, pause, 0}, {38, pause, 0}}, []int64{27, 32}, 42 + 45},
	} {
		s := clientSigns{wall: 1 << 60, reads: 7, pauses: 2}
		h := newClientHeartbeat(45*time.Second, s)
		var pings []int64
		var gone int64
		look := func() (next int64) {
			ping, wait := h.look(s)
			if ping {
				pings = append(pings, s.now/int64(time.Second))
			}
			if wait <= 0 {
				gone = s.now / int64(time.Second)
			}
			return s.now + int64(wait)
		}
		goTo := func(now int64) { s.now, s.wall = now, s.wall+now-s.now }
		next := int64(lookInterval)
		for _, e := range append(test.events, event{at: 300}) {
			at := e.at * int64(time.Second)
			for gone == 0 && next <= at-e.asleep*int64(time.Second) {
				goTo(next)
				next = look()
			}
			goTo(at)
			if e.see != nil {
				e.see(&s)
			}
			if gone == 0 && next <= at {
				next = look()
			}
		}
		if !slices.Equal(pings, test.pings) || gone != test.gone {
			t.Errorf("%s: pings %v, gone at %d; want %v, %d", test.name, pings, gone, test.pings, test.gone)
		}
	}
}
