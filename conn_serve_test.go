package atrium

import (
	"errors"
	"fmt"
	"testing"
)

// recordingHandler is a messageHandler that records what it is called with. It ends the reading at
// the message "end".
type recordingHandler struct{ calls chan string }

var errRecordingEnd = errors.New("the end")

func (h recordingHandler) receive(op opcode, p []byte) error {
	h.calls <- fmt.Sprintf("%d %s", op, p)
	if string(p) == "end" {
		return errRecordingEnd
	}
	return nil
}

func (h recordingHandler) readEnded() {
	h.calls <- "ended"
}

func (h recordingHandler) moreEvents() bool { return false }
func (h recordingHandler) claimed() inbox   { return nil }

// Conn.serve hands over messages, and opContinuation for control frames that no message came with,
// until the handler returns an error.
func TestServe(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		client, server := k.netConns(t)
		c, p := newConn(server, connConfig{}), newPeer(t, client, nil, true)
		h := recordingHandler{make(chan string, 10)}
		c.handler = h
		go c.serve()
		p.send(p.frame(opText, "a"))
		p.send(p.frame(opBinary, "b"))
		p.send(p.frame(opPing, "alone"))
		p.want(opPong, "alone")
		p.send([]byte(string(p.frame(opPing, "with a message")) + string(p.frame(opText, "end"))))
		p.want(opPong, "with a message")
		for _, want := range []string{"1 a", "2 b", "0 ", "1 end", "ended"} {
			if got := within(t, h.calls, want); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		_ = c.CloseNow()
	})
}

// claimingHandler claims an inbox at each message.
type claimingHandler struct {
	recordingHandler
	inbox
}

func (h claimingHandler) claimed() inbox { return h.inbox }

type inboxFunc func()

func (f inboxFunc) run() { f() }

// Conn.serve goes on reading while the inbox that it has claimed is run.
func TestServeReadsOnBesideItsInbox(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		client, server := k.netConns(t)
		c, p := newConn(server, connConfig{}), newPeer(t, client, nil, true)
		handled := make(chan bool)
		h := claimingHandler{recordingHandler{make(chan string, 10)}, inboxFunc(func() { <-handled })}
		c.handler = h
		go c.serve()
		for _, message := range []string{"a", "b"} {
			p.send(p.frame(opText, message))
			if got := within(t, h.calls, message); got != "1 "+message {
				t.Errorf("got %q, want %q", got, "1 "+message)
			}
		}
		close(handled)
		p.send(p.frame(opText, "end"))
		for _, want := range []string{"1 end", "ended"} {
			if got := within(t, h.calls, want); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		_ = c.CloseNow()
	})
}
