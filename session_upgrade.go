package atrium

import (
	"context"
	"encoding/base64"
	"time"
)

// upgradeTimeout bounds the upgrade from polling to a WebSocket.
const upgradeTimeout = 10 * time.Second

// tryUpgrade lets a client that polls upgrade to the WebSocket that it has opened: it sends a
// probe, gets an answer, waits for its requests to end, and says that it upgrades. If it does not,
// it goes on polling.
func (t *polling) tryUpgrade(conn *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTimeout)
	defer cancel()
	if !t.beginProbe(cancel) {
		_ = conn.Close(StatusPolicyViolation, "the session does not wait for an upgrade")
		return
	}
	defer t.session.part()
	if !probed(ctx, conn) || !t.upgrade(conn) {
		t.endProbe()
		_ = conn.Close(StatusPolicyViolation, "the upgrade was not completed")
		return
	}
	conn.wake()
	if t.closed { // which does not change any more
		webSocket{conn}.close(t.code, t.text, t.mode)
	}
	t.session.countWindow(+1)
	go conn.serve()
}

// beginProbe notes that the client probes a WebSocket, and lets a waiting GET go, because the
// client waits for that, too. It reports false if the session cannot upgrade; otherwise the probe
// is a part of the session. stop ends the probe. It locks.
func (t *polling) beginProbe(stop context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state != pollOpen || t.probing != nil {
		return false
	}
	t.probing = stop
	t.session.parts.Add(1)
	t.arrived.open()
	return true
}

// endProbe notes that the client goes on polling. It locks.
func (t *polling) endProbe() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.probing = nil
}

// probed answers probes until the client says that it upgrades. It reports false if it says
// anything else, or nothing.
func probed(ctx context.Context, conn *Conn) bool {
	for {
		op, p, err := conn.Read(ctx)
		if err != nil || op != MessageText || string(p) != "2probe" {
			return err == nil && op == MessageText && string(p) == "5"
		}
		if conn.Write(ctx, MessageText, []byte("3probe")) != nil {
			return false
		}
	}
}

// upgrade makes the WebSocket the session's transport. What is queued moves there first: what is
// pushed meanwhile waits for t.mu, is refused here then, and is pushed again there, behind it. See
// session.push.
//
// A client that was about to upgrade when we closed the session polls no more: it gets there what
// is queued, and the close frame that the caller sends. It locks.
func (t *polling) upgrade(conn *Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	closed := t.state == pollClosing
	told := closed && (t.code == noCloseFrame || len(t.packets) == 0)
	if told || t.state > pollClosing || t.posting {
		return false
	}
	packets := t.popAll().packets
	if closed {
		packets = packets[:len(packets)-1] // that was the close packet
		if t.linger != nil {
			t.linger.Stop()
		}
	}
	ws := webSocket{conn}
	for _, p := range packets {
		var f wireForm
		if engineType(p[0]) != engineBase64 {
			f.set(append(newFrame(len(p)), p...))
		} else {
			data, _ := base64.StdEncoding.AppendDecode(newFrame(len(p)), p[1:]) // it is we who encoded it
			f.whole = prependHeader(data, frameHeader{Fin: true, Opcode: opBinary})
		}
		ws.push(&f, false, forWriter)
	}
	ws.permit(t.size.Load(), t.limit)
	conn.reads.Add(t.received.Load()) // so that the heartbeat's count goes on
	t.session.attach(conn)
	t.session.hub.upgraded()
	t.state, t.closed, t.probing = pollUpgraded, closed, nil
	t.arrived.open()
	t.room.open()
	return true
}
