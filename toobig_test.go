package atrium

import (
	"errors"
	"strings"
	"testing"
)

// Too big a message has a reason of its own, and the log and the client learn its size and the
// limit.
func TestMessageTooBig(t *testing.T) {
	const size, limit = 100_001, 100_000
	text := func(n int) string { return `42["e","` + strings.Repeat("x", n-len(`42["e",""]`)) + `"]` }
	overPlain(t, func(t *testing.T, k kind) {
		for _, row := range []struct {
			name, query string
			before      bool // it is accepted
			send        func(p *peer)
			says        string
			hint        string
		}{
			{"plain", "", false, func(p *peer) { p.send(p.frame(opText, text(size))) },
				"a message of 100001 bytes is over the limit of 100000", "Limits.MessageBytes"},
			{"Socket.IO", "?EIO=4&transport=websocket", false, func(p *peer) { p.send(p.frame(opText, text(size))) },
				"a message of 100001 bytes is over the limit of 100000", "Limits.MessageBytes"},
			{"before it is accepted", "?EIO=4&transport=websocket", true, func(p *peer) { p.send(p.frame(opText, text(70_000))) },
				"a message of 70000 bytes is over the limit of 65536", "before a client is accepted"},
			{"attachments", "?EIO=4&transport=websocket", false, func(p *peer) {
				p.send(p.frame(opText, `452-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`))
				p.send(p.frame(opBinary, strings.Repeat("x", 60_000)))
				p.send(p.frame(opBinary, strings.Repeat("x", 60_000)))
			}, "a message with its attachments is over the limit of 100000 bytes", "Limits.MessageBytes"},
		} {
			t.Run(row.name, func(t *testing.T) {
				noLeaks(t)
				logger, out := newLog()
				h := newHub(t, Options{Limits: Limits{MessageBytes: limit}, Logger: logger})
				left := leavings(h)
				connected := make(chan struct{}, 1)
				h.OnConnect(func(*Socket) { connected <- struct{}{} })
				nc := serve(t, k, h).raw(t)
				a := request(t, nc, handshake("GET /"+row.query+" HTTP/1.1"))
				p := newPeer(t, nc, a.rest, true)
				switch {
				case row.query != "":
					p.read() // Engine.IO's handshake
					if row.before {
						break
					}
					p.send(p.frame(opText, "40"))
					fallthrough
				default:
					p.read()
					within(t, connected, "OnConnect")
				}
				row.send(p)
				p.wantClose(StatusMessageTooBig, row.says)
				if !row.before {
					wantReason(t, left, ReasonMessageTooBig)
				}
				h.awaitCountedOut(t)
				if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") ||
					!strings.Contains(got, `"atrium: a client sent too big a message"`) || !strings.Contains(got, row.says) || !strings.Contains(got, row.hint) {
					t.Errorf("the log says %q", got)
				}
			})
		}
	})
}

// A message in fragments tells its size as far as it is known, one that is inflated the limit.
func TestTooBigSays(t *testing.T) {
	for _, row := range []struct {
		h        frameHeader
		received int
		want     string
	}{
		{frameHeader{Fin: true, Length: 1001}, 0, "a message of 1001 bytes is over the limit of 1000"},
		{frameHeader{Fin: true, Length: 600}, 500, "a message of 1100 bytes is over the limit of 1000"},
		{frameHeader{Length: 600}, 500, "a message of at least 1100 bytes is over the limit of 1000"},
		{frameHeader{Fin: true, Length: 1<<63 - 1}, 500, "a message of 9223372036854776307 bytes is over the limit of 1000"},
	} {
		if e := tooBig(row.h, row.received, 1000); e.Reason != row.want || e.Code != StatusMessageTooBig || !errors.Is(e, ErrMessageTooBig) {
			t.Errorf("%v, want %q", e, row.want)
		}
	}
	if e := inflatedTooBig(1000); e.Reason != "a message is over the limit of 1000 bytes when inflated" || !errors.Is(e, ErrMessageTooBig) {
		t.Error(e)
	}
}

// Who sent too big a message may not know why it was disconnected, and comes back.
func TestMessageTooBigIsRecoverable(t *testing.T) {
	if !ReasonMessageTooBig.recoverable() {
		t.Error("it is not")
	}
}
