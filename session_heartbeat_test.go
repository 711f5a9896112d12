package atrium

import (
	"testing"
	"testing/synctest"
	"time"
)

// A heartbeat is told what is seen, second by second, and says what to do.
func TestHeartbeat(t *testing.T) {
	const second = int64(time.Second)
	bounds := &timeouts{Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second, Connect: 20 * time.Second, Message: 5 * time.Second}, int64(time.Second / 16)}
	quiet := sessionSigns{}
	unfinished := func(since int64) sessionSigns {
		return sessionSigns{transportStatus: transportStatus{unfinished: since * second}}
	}
	slow := func(at int64) sessionSigns {
		return sessionSigns{transportStatus: transportStatus{queueStatus: queueStatus{slowAt: at * second}}}
	}
	received := func(times uint32) sessionSigns {
		return sessionSigns{transportStatus: transportStatus{received: times}}
	}
	passed := func(times int32) sessionSigns {
		return sessionSigns{transportStatus: transportStatus{queueStatus: queueStatus{bytes: 1, passedPings: times}}}
	}
	paused := func(pauses uint32, queued int) sessionSigns {
		return sessionSigns{transportStatus: transportStatus{queueStatus: queueStatus{bytes: queued}}, pauses: pauses, paused: pauses%2 != 0}
	}
	spared := func(until int64, s sessionSigns) sessionSigns { s.spared = until * second; return s }
	pinged := sessionHeartbeat{pingAt: 9 * second, awaitingPong: true} // for the first time, a second late
	again := sessionHeartbeat{pingAt: 30 * second, awaitingPong: true} // not the first
	for _, test := range []struct {
		name string
		from sessionHeartbeat
		now  int64 // seconds
		seen sessionSigns
		do   heartbeatAction
		look int64 // seconds
	}{
		{"before the ping", sessionHeartbeat{pingAt: 9 * second}, 7, quiet, actNothing, 9},
		{"the ping", sessionHeartbeat{pingAt: 9 * second}, 9, quiet, actPing, 14}, // its spread is taken off the timeout
		{"a late ping", sessionHeartbeat{pingAt: 10 * second}, 20, quiet, actPing, 25},
		{"no answer yet", pinged, 11, quiet, actNothing, 14},
		{"no answer", pinged, 14, quiet, actPingTimeout, 0},
		{"no answer to a later ping", again, 35, quiet, actNothing, 36},
		{"no answer to a later ping in time", again, 36, quiet, actPingTimeout, 0},
		{"an answer", pinged, 13, received(1), actNothing, 17},
		{"an answer as the next ping is due", pinged, 18, received(1), actPing, 23},
		{"a ping that waits", pinged, 14, passed(1), actNothing, 19},
		{"a ping that waited before", sessionHeartbeat{pingAt: 30 * second, passedPings: 1, awaitingPong: true}, 36, passed(1), actPingTimeout, 0},
		{"not read, nothing queued", again, 36, paused(1, 0), actPing, 39},
		{"not read, something queued", again, 36, paused(1, 1), actNothing, 39},
		{"not read for a while", again, 36, paused(2, 1), actNothing, 41},
		{"waits to connect", sessionHeartbeat{pingAt: 30 * second}, 19, sessionSigns{pending: true}, actNothing, 20},
		{"has not connected", sessionHeartbeat{pingAt: 30 * second}, 20, sessionSigns{pending: true}, actConnectTimeout, 0},
		{"half a message", sessionHeartbeat{pingAt: 10 * second}, 4, unfinished(2), actNothing, 7},
		{"half a message for long", sessionHeartbeat{pingAt: 10 * second}, 7, unfinished(2), actMessageTimeout, 0},
		{"over the limit", sessionHeartbeat{pingAt: 10 * second}, 5, slow(6), actNothing, 6},
		{"over the limit for long", sessionHeartbeat{pingAt: 10 * second}, 6, slow(6), actSlowConsumer, 0},
		{"no answer in a stall", again, 36, spared(37, quiet), actNothing, 37},
		{"no answer after it", again, 37, spared(37, quiet), actPingTimeout, 0},
		{"has not connected in a stall", sessionHeartbeat{pingAt: 30 * second}, 25, spared(27, sessionSigns{pending: true}), actNothing, 27},
		{"half a message in a stall", sessionHeartbeat{pingAt: 10 * second}, 7, spared(8, unfinished(2)), actNothing, 8},
		{"over the limit in a stall", sessionHeartbeat{pingAt: 10 * second}, 6, spared(9, slow(6)), actSlowConsumer, 0},
		{"a message may begin", sessionHeartbeat{pingAt: 30 * second}, 1, quiet, actNothing, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := test.from
			do, look := h.next(test.now*second, bounds, test.seen)
			if do != test.do || look != test.look*second {
				t.Errorf("heartbeatAction %d, next check after %v; want %d, %d s", do, time.Duration(look), test.do, test.look)
			}
		})
	}
}

// The first pings are spread, and none comes before the interval that the handshake has told.
func TestHeartbeatSpread(t *testing.T) {
	bounds := &timeouts{Timeouts: Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second}}
	times := make(map[int64]bool)
	for range 100 {
		h := newSessionHeartbeat(5, bounds)
		if wait := time.Duration(h.pingAt - 5); wait < 8*time.Second || wait > 9500*time.Millisecond {
			t.Fatalf("a first ping after %v", wait)
		}
		times[h.pingAt] = true
	}
	if len(times) < 50 {
		t.Errorf("100 first pings at only %d times", len(times))
	}
}

// A process that stood still for longer than the ping timeout, with its machine for example, ends
// nobody before it can have read what has come meanwhile. Who stays silent is gone a ping timeout
// later.
func TestHeartbeatAfterAStall(t *testing.T) {
	const interval, timeout, stall = 8 * time.Second, 6 * time.Second, time.Minute
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: interval, Ping: timeout}})
		srv := serve(t, overPipe, h)
		left := leavings(h)
		lives, silent, polls := srv.direct(t), srv.direct(t), srv.joined(t)
		for _, c := range []*client{lives, silent} {
			c.send("40")
			c.next()
		}
		lives.want("2")
		silent.want("2")
		polls.get().want(t, 200, "2")
		stalled := &timer{fire: func() { <-time.After(stall) }}
		h.sessions.clock.schedule(stalled, nanotime())
		<-time.After(stall / 2)
		polls.post("3").want(t, 200, "ok") // it comes before the clock notices
		<-time.After(stall / 2)
		start := time.Now()
		<-time.After(timeout / 2)
		lives.send("3")
		polls.post("3").want(t, 200, "ok")
		wantReason(t, left, ReasonPingTimeout)
		if took, ticks := time.Since(start), 2*time.Duration(h.sessions.clock.tick); took < timeout || took > timeout+ticks {
			t.Errorf("the silent one is gone %v after the stall", took)
		}
		polls.get().want(t, 200, "2")
		lives.want("2")
		lives.send(`42["message"]`)
		lives.want(`42["message-back"]`)
	})
}
