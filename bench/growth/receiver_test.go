package main

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// fails reports what hear says is wrong with these messages, "" if nothing is.
func fails(hear func([]byte), messages ...string) (reason string) {
	defer func() {
		if e := recover(); e != nil {
			reason = fmt.Sprint(e)
		}
	}()
	for _, m := range messages {
		hear([]byte(m))
	}
	return ""
}

func toldEvent(n int) string { return fmt.Sprintf("%s%d}", told, first+n) }

// leftEvent is the end of a visit; see visitor.
func leftEvent(a, b, c, d int) string {
	return fmt.Sprintf("%s%d,%d,%d,%d]}", left, first+a, first+b, first+c, first+d)
}

// TestWrongDeliveriesFail: a delivery too few, too many or out of order ends the program.
func TestWrongDeliveriesFail(t *testing.T) {
	ring := plan{members: 4, rooms: 4, each: 1} // event 0 is for members 0 and 1, event 1 for 3 and 0
	for name, test := range map[string]struct {
		hear     func(*sync.WaitGroup) func([]byte)
		messages []string
		reason   string
	}{
		"member":              {everything, []string{`{"event":"connect"}`, toldEvent(0), toldEvent(1)}, ""},
		"member, lost":        {everything, []string{toldEvent(0), toldEvent(2)}, "was told 1000000002, want 1000000001"},
		"member, twice":       {everything, []string{toldEvent(0), toldEvent(0)}, "was told 1000000000, want 1000000001"},
		"visitor":             {visitor, []string{toldEvent(4), toldEvent(5), toldEvent(6), leftEvent(3, 4, 5, 6)}, ""},
		"visitor, the least":  {visitor, []string{toldEvent(5), leftEvent(3, 4, 5, 6)}, ""},
		"visitor, nothing":    {visitor, []string{leftEvent(3, 4, 4, 6)}, ""},
		"visitor, none came":  {visitor, []string{leftEvent(3, 4, 5, 6)}, "was told 0 to 0"},
		"visitor, first lost": {visitor, []string{toldEvent(6), leftEvent(3, 4, 6, 6)}, "was told 1000000006 to 1000000006"},
		"visitor, last lost":  {visitor, []string{toldEvent(4), toldEvent(5), leftEvent(3, 4, 6, 6)}, "was told 1000000004 to 1000000005"},
		"visitor, one lost":   {visitor, []string{toldEvent(4), toldEvent(6)}, "was told 1000000006 after 1000000004"},
		"visitor, too early":  {visitor, []string{toldEvent(3), toldEvent(4), toldEvent(5), leftEvent(3, 4, 5, 6)}, "was told 1000000003 to"},
		"visitor, too late":   {visitor, []string{toldEvent(5), toldEvent(6), toldEvent(7), leftEvent(3, 4, 5, 6)}, "to 1000000007"},
		"ring":                {func(heard *sync.WaitGroup) func([]byte) { return ring.member(0, heard) }, []string{toldEvent(0), toldEvent(1)}, ""},
		"ring, another's":     {func(heard *sync.WaitGroup) func([]byte) { return ring.member(2, heard) }, []string{toldEvent(0)}, "member 2 was told"},
		"ring, twice":         {func(heard *sync.WaitGroup) func([]byte) { return ring.member(0, heard) }, []string{toldEvent(0), toldEvent(0)}, "member 0 was told"},
	} {
		var heard sync.WaitGroup
		heard.Add(len(test.messages))
		reason := fails(test.hear(&heard), test.messages...)
		if !strings.Contains(reason, test.reason) || test.reason == "" && reason != "" {
			t.Errorf("%s: %q, want %q", name, reason, test.reason)
		}
	}
}

// TestReceiver: frames are the same however the bytes come.
func TestReceiver(t *testing.T) {
	stream := "HTTP/1.1 101 Switching Protocols\r\n\r\n" + string(textFrame("one")) + string(textFrame(strings.Repeat("2", 200))) + string(textFrame("three"))
	for size := 1; size <= len(stream); size++ {
		var got []string
		r := receiver{hear: func(p []byte) { got = append(got, string(p)) }}
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			r.feed([]byte(rest[:n]))
			rest = rest[n:]
		}
		if want := "one " + strings.Repeat("2", 200) + " three"; strings.Join(got, " ") != want {
			t.Fatalf("%d bytes at a time: %q", size, got)
		}
	}
}
