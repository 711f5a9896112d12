package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium/bench/fleet"
	"github.com/atrium-go/atrium/bench/process"
)

// bad are clients that do what they should not. None of them is owed anything.
type bad struct {
	ctx    context.Context
	random *rand.Rand
	node   *fleet.Node
	counts *badCounts
}

// badCounts are how many there were of each kind.
type badCounts struct{ slow, stalled, garbage atomic.Int64 }

// patience bounds everything that a bad client waits for, and garbagePatience how long one that has
// sent garbage waits until the server hangs up: it does not need to.
const (
	patience        = 15 * time.Second
	garbagePatience = 2 * time.Second
)

// connect opens a connection that ends with the soak, and greets the hub over a WebSocket.
func (b *bad) connect(d net.Dialer, query string) (*process.Client, error) {
	d.Timeout = patience
	nc, err := process.Dial(d, b.node.Addr, false)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(b.ctx, func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	c, err := process.NewClient(nc, strings.Replace(process.Handshakes["200 bytes"], "/hub", "/hub"+query, 1))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

// again calls f until the soak ends, with a pause.
func (b *bad) again(pause time.Duration, f func()) {
	for b.ctx.Err() == nil {
		f()
		select {
		case <-time.After(time.Duration((0.5 + b.random.Float64()) * float64(pause))):
		case <-b.ctx.Done():
		}
	}
}

// flooded joins the room with much traffic, and reads that many bytes each 100 ms, until the server
// has had enough.
func (b *bad) flooded(bytes int) {
	c, err := b.connect(net.Dialer{Control: process.ShrinkBuffers}, "")
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Write(process.Frame(process.OpText, `{"event":"flood"}`)); err != nil {
		return
	}
	c.SetDeadline(time.Time{})
	if bytes == 0 {
		b.counts.stalled.Add(1)
		// Only a write tells that the server has closed the connection.
		for b.ctx.Err() == nil {
			time.Sleep(500 * time.Millisecond)
			if _, err := c.Write(process.Frame(process.OpPong, "")); err != nil {
				return
			}
		}
		return
	}
	b.counts.slow.Add(1)
	for buf := make([]byte, bytes); ; time.Sleep(100 * time.Millisecond) {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
	}
}

// garbage sends something that no client should, and waits until the server hangs up.
func (b *bad) garbage() {
	b.counts.garbage.Add(1)
	what := garbage[b.random.IntN(len(garbage))]
	if what.request != nil {
		nc, err := process.Dial(net.Dialer{Timeout: patience}, b.node.Addr, false)
		if err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(garbagePatience))
		if _, err := io.WriteString(nc, what.request(b.random)); err == nil && !what.hangsUp {
			io.Copy(io.Discard, io.LimitReader(nc, 1<<20))
		}
		return
	}
	c, err := b.connect(net.Dialer{}, what.query)
	if err != nil {
		return
	}
	defer c.Close()
	if what.query != "" {
		c.Write(process.Frame(process.OpText, "40"))
	}
	if _, err := c.Write(what.frames(b.random)); err != nil || what.hangsUp {
		return
	}
	c.SetDeadline(time.Now().Add(garbagePatience))
	for {
		if _, _, err := c.Next(); err != nil {
			return
		}
	}
}

// noise is what a garbage sender sends: in place of a request, or over a WebSocket.
type noise struct {
	request func(*rand.Rand) string
	query   string
	frames  func(*rand.Rand) []byte
	hangsUp bool // at once, instead of waiting for the server to
}

const engine = "?EIO=4&transport=websocket"

func text(s string) func(*rand.Rand) []byte {
	return func(*rand.Rand) []byte { return process.Frame(process.OpText, s) }
}

func randomBytes(r *rand.Rand) []byte {
	b := make([]byte, 1+r.IntN(2000))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func masked(h process.Header, payload string) []byte {
	h.Masked, h.Length = true, len(payload)
	return append(process.AppendHeader(nil, h), payload...) // the key is zero
}

var garbage = []noise{
	{request: func(r *rand.Rand) string { return string(randomBytes(r)) + "\r\n\r\n" }},
	{request: func(r *rand.Rand) string { // a handshake that ends somewhere
		return process.Handshakes["a browser's"][:1+r.IntN(500)]
	}, hangsUp: true},
	{request: func(r *rand.Rand) string { // one that is damaged somewhere
		b := []byte(process.Handshakes["200 bytes"])
		b[r.IntN(len(b))] = byte(r.Uint32())
		return string(b)
	}},
	{request: func(r *rand.Rand) string { // a session that there is not
		return fmt.Sprintf("GET /hub?EIO=4&transport=polling&sid=%x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", r.Uint64())
	}},
	{request: func(r *rand.Rand) string { // a session that is left where it is
		return "GET /hub?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	}},
	{frames: randomBytes},
	{query: engine, frames: randomBytes},
	{frames: func(r *rand.Rand) []byte { return process.Frame(process.OpText, string(randomBytes(r))) }}, // no UTF-8
	{frames: text(`{"event":`)},
	{frames: text(`{"event":"join","data":{"room":"none"},"id":1}`), hangsUp: true},
	{frames: text(`{"event":"nobody handles this","data":[1,2,{}],"id":-1}`)},
	{frames: text(strings.Repeat("[", 100_000))},
	{query: engine, frames: text(`42["join"`)},
	{query: engine, frames: text(`9`)},
	{query: engine, frames: text(`451-["x",{"_placeholder":true,"num":7}]`), hangsUp: true}, // without the attachment
	{query: engine, frames: text(`42["order",{"client":-1}]`), hangsUp: true},
	{frames: func(*rand.Rand) []byte { return masked(process.Header{Opcode: 0x7}, "reserved") }},
	{frames: func(*rand.Rand) []byte {
		return masked(process.Header{Opcode: process.OpText, Compressed: true}, "not agreed on")
	}},
	{frames: func(*rand.Rand) []byte { return masked(process.Header{Opcode: process.OpContinuation}, "of nothing") }},
	{frames: func(*rand.Rand) []byte {
		return masked(process.Header{Opcode: process.OpPing}, strings.Repeat("x", 126))
	}},
	{frames: func(*rand.Rand) []byte { return append([]byte{0x81, 5}, "plain"...) }}, // not masked
	{frames: func(*rand.Rand) []byte { return process.Frame(process.OpClose, "\x03") }},
	{frames: func(*rand.Rand) []byte { return process.Frame(process.OpText, strings.Repeat("x", 2<<20)) }},
	{frames: func(*rand.Rand) []byte { // a length that nobody has
		return binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, 1<<62)
	}},
	{frames: func(r *rand.Rand) []byte { // the beginning of a message, and nothing more
		return masked(process.Header{Opcode: process.OpText, Unfinished: true}, `{"event":"`)
	}, hangsUp: true},
}
