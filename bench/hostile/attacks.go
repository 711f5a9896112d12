package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// attacks returns the list.
func attacks(streams int, quick bool) []attack {
	n := func(whole, fewer int) int {
		if quick {
			return fewer
		}
		return whole
	}
	flood := time.Duration(n(8, 1)) * time.Second
	spray := float64(n(12, 1))
	joins, visitors := n(100_000, 5_000), n(1000, 50)
	list := []attack{
		{name: "fuzzed streams", n: streams, width: 128, each: (*attacker).fuzzed},
		{name: "half of a handshake, then nothing", n: n(10_000, 500), width: 10_000, each: halfOpen},
		{name: "a handshake, then no connect", n: n(2_000, 200), width: 2_000, each: neverConnects},
		{name: "a byte a second", n: n(500, 50), width: 500, each: dribbles},
		{name: "never read while 64 KB are broadcast 50 times a second", n: n(1000, 100), width: 1000,
			each:   func(a *attacker, i int) string { return neverReads(a, time.Duration(spray*float64(time.Second))) },
			during: func(all *neighbours) { all.spray(spray) }},
		{name: "send as fast as they can, and read", n: n(1000, 30), width: 1000, each: floods(n(1000, 30), "/hub", flood, true)},
		{name: "the same, and do not read the answers", n: n(1000, 30), width: 1000, each: floods(n(1000, 30), "/hub", flood, false)},
		{name: "the same, with Limits.EventsPerSecond: 100", n: n(1000, 30), width: 1000, each: floods(n(1000, 30), "/limited", flood, true)},
	}
	if quick {
		each := func(a *attacker, i int) string { return bombs[i%len(bombs)].each(a, i) }
		list = append(list, attack{name: "bombs of all kinds", n: len(bombs), width: 16, each: each})
	} else {
		for _, b := range bombs {
			list = append(list, attack{name: "bomb: " + b.name, n: 200, width: 32, each: b.each})
		}
	}
	return append(list,
		attack{name: "one client joins so many rooms", n: joins, width: 1, each: joiner(joins)},
		attack{name: fmt.Sprintf("%d clients join 100 rooms each", visitors), n: visitors, width: 200, each: func(a *attacker, i int) string { return joins100(a, i) }},
		attack{name: "connect, cut, and come again", n: n(20_000, 1000), width: 500, each: storms},
		attack{name: "headers of 1 MB", n: n(200, 10), width: 16, each: sends(plainHead+"X: "+strings.Repeat("x", 1<<20)+"\r\n\r\n", "")},
		attack{name: "40,000 headers", n: n(200, 10), width: 16, each: sends(plainHead+strings.Repeat("A: b\r\n", 40_000)+"\r\n", "")},
		attack{name: "a million query parameters", n: n(200, 10), width: 16,
			each: sends("GET /hub?EIO=4&transport=polling"+strings.Repeat("&a", 450_000)+" HTTP/1.1\r\nHost: hub\r\n\r\n", "")},
	)
}

// sends is a stream on a connection.
func sends(stream, _ string) func(*attacker, int) string {
	return func(a *attacker, _ int) string {
		nc := a.dial()
		defer nc.Close()
		go io.WriteString(nc, stream)
		return verdict(nc, 2*a.look)
	}
}

func halfOpen(a *attacker, i int) string {
	nc := a.dial()
	defer nc.Close()
	_, err := io.WriteString(nc, plainHead[:i%len(plainHead)])
	check(err)
	return verdict(nc, longest)
}

func neverConnects(a *attacker, i int) string {
	head := socketIOHead
	if i%2 == 0 {
		head = plainHead + "Sec-WebSocket-Protocol: atrium\r\n"
	}
	c, refused := a.upgraded(head)
	if c == nil {
		return refused
	}
	defer c.Close()
	return verdict(framed(c), longest)
}

func dribbles(a *attacker, i int) string {
	c, refused := a.upgraded(plainHead)
	if c == nil {
		return refused
	}
	defer c.Close()
	go func() {
		for _, b := range process.Frame(process.OpText, strings.Repeat("x", 100)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}()
	return verdict(framed(c), longest)
}

// framed is a WebSocket as verdict takes it: as one whose handshake is to come.
func framed(c *process.Client) net.Conn {
	return &replayed{Conn: c, first: strings.NewReader("HTTP/1.1 101 x\r\n\r\n")}
}

type replayed struct {
	net.Conn
	first *strings.Reader
}

func (c *replayed) Read(p []byte) (int, error) {
	if c.first.Len() > 0 {
		return c.first.Read(p)
	}
	return c.Conn.Read(p)
}

// neverReads is a member of the audience that does not listen, and then looks what it was told.
func neverReads(a *attacker, long time.Duration) string {
	nc := a.dial()
	_ = nc.SetReadBuffer(4 << 10)
	defer nc.Close()
	_, err := io.WriteString(nc, plainHead+"\r\n")
	check(err)
	_, err = nc.Write(process.Frame(process.OpText, `{"event":"listen"}`))
	check(err)
	time.Sleep(long + time.Second)
	return verdict(nc, longest)
}

// spray has the server broadcast to the audience.
func (all *neighbours) spray(seconds float64) {
	c := atrium.NewClient("http://"+all.addr+"/hub", atrium.ClientOptions{})
	check(c.Connect(all.quit))
	defer c.Close()
	time.Sleep(time.Second) // until the audience is there
	ctx, cancel := context.WithTimeout(all.quit, patience+time.Duration(seconds)*time.Second)
	defer cancel()
	if _, err := atrium.Call[any](ctx, c, "spray", seconds); err != nil {
		all.complain("the spray", "%v", err)
	}
}

// floods sends events, many in a write, for so long, when all n of them are there.
func floods(n int, path string, long time.Duration, reads bool) func(*attacker, int) string {
	var missing sync.WaitGroup
	missing.Add(n)
	return func(a *attacker, _ int) string {
		c, refused := a.upgraded(strings.Replace(plainHead, "/hub", path, 1))
		missing.Done()
		missing.Wait()
		if c == nil {
			return refused
		}
		defer c.Close()
		events := bytes.Repeat(process.Frame(process.OpText, `{"event":"echo","data":"0123456789","id":7}`), 64)
		told := make(chan string, 1)
		if reads {
			go func() { told <- verdict(framed(c), long+a.look) }()
		}
		_ = c.SetWriteDeadline(time.Now().Add(long))
		for err := error(nil); err == nil; {
			_, err = c.Write(events)
		}
		if !reads {
			told <- verdict(framed(c), a.look)
		}
		return <-told
	}
}

func joiner(n int) func(*attacker, int) string {
	var c *process.Client
	return func(a *attacker, i int) string {
		if c == nil {
			c, _ = a.upgraded(plainHead)
			c.Expect(`{"event":"connect"`)
		}
		if i == n-1 {
			defer c.Close()
		}
		c.Send(process.OpText, fmt.Sprintf(`{"event":"join","data":"%0200d","id":1}`, i))
		for {
			op, p, err := c.Next()
			switch {
			case err != nil || op == process.OpClose:
				return "cut"
			case op == process.OpPing:
				c.Send(process.OpPong, string(p))
			case bytes.Contains(p, []byte(`"error"`)):
				return "an error"
			default:
				return "joined"
			}
		}
	}
}

func joins100(a *attacker, i int) string {
	c, refused := a.upgraded(plainHead)
	if c == nil {
		return refused
	}
	defer c.Close()
	c.Expect(`{"event":"connect"`)
	for j := range 100 {
		c.Send(process.OpText, fmt.Sprintf(`{"event":"join","data":"%d of %d","id":%d}`, j, i, j))
	}
	for j := range 100 {
		if rest := c.Expect(fmt.Sprintf(`{"id":%d`, j)); rest != "}" {
			return rest
		}
	}
	return "joined"
}

// storms comes, connects and is cut, in turn by each way to come.
func storms(a *attacker, i int) string {
	if i%3 == 0 {
		nc, sid := a.polls()
		defer nc.Close()
		if sid == "" {
			return "refused"
		}
		_, _ = io.WriteString(nc, post(sid, "40"))
		return "let in"
	}
	head, first := plainHead, `{"event":"connect"`
	if i%3 == 1 {
		head, first = socketIOHead, `0{"sid"`
	}
	c, refused := a.upgraded(head)
	if c == nil {
		return refused
	}
	defer c.Close()
	c.Expect(first)
	if i%3 == 1 {
		c.Send(process.OpText, "40")
		c.Expect("40{")
	}
	return "let in"
}

// bomb is something small that becomes large, or seems to.
type bomb struct {
	name string
	each func(*attacker, int) string
}

// bombs are small and become large, or seem to.
var bombs = []bomb{
	{"deflate, 1:1000", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead+deflateHead, inflated[0]())
	}},
	{"deflate, over the limit", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead+deflateHead, inflated[1]())
	}},
	{"gzip in a POST", func(a *attacker, _ int) string { return a.overPolling(zipped, "Content-Encoding: gzip") }},
	{"65,537 packets", func(a *attacker, _ int) string { return a.overPolling(strings.Repeat("3\x1e", 1<<16) + "3") }},
	{"999,999 attachments", func(a *attacker, _ int) string { return a.overSocketIO(`5999999-["blob"]`) }},
	{"attachments that never come", func(a *attacker, _ int) string {
		return a.overSocketIO(`5` + `10-["blob",{"_placeholder":true,"num":0}]`)
	}},
	{"100,000 levels of JSON", func(a *attacker, _ int) string {
		return a.overSocketIO(`42["echo",` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `]`)
	}},
	{"500,000 arguments", func(a *attacker, _ int) string {
		return a.overSocketIO(`427["echo"` + strings.Repeat(",1", 500_000) + `]`)
	}},
	{"500,000 keys", func(a *attacker, _ int) string {
		return a.overSocketIO(`427["echo",{"a":1` + strings.Repeat(`,"":1`, 170_000) + `}]`)
	}},
	{"10,000 namespaces", func(a *attacker, _ int) string {
		var b []byte
		for i := range 10_000 {
			b = append(b, process.Frame(process.OpText, fmt.Sprintf("40/any-%d,", i))...)
		}
		return a.overWebSocket(socketIOHead, b)
	}},
	{"a frame of 2^63 bytes", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead, []byte("\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x01\x02\x03\x04xxxx"))
	}},
	{"a frame of 1 GB", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead, []byte("\x81\xff\x00\x00\x00\x00\x40\x00\x00\x00\x01\x02\x03\x04xxxx"))
	}},
	{"fragments without end", func(a *attacker, _ int) string {
		b := process.AppendHeader(nil, process.Header{Opcode: process.OpText, Masked: true, Unfinished: true})
		empty := process.AppendHeader(nil, process.Header{Opcode: process.OpContinuation, Masked: true, Unfinished: true})
		nc := a.dial()
		defer nc.Close()
		go nc.Write(append([]byte(plainHead+"\r\n"), append(b, bytes.Repeat(empty, 1_000_000)...)...))
		return verdict(nc, longest)
	}},
	{"100,000 pings", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead, bytes.Repeat(process.Frame(process.OpPing, strings.Repeat("x", 125)), 100_000))
	}},
	{"a header of Sec-WebSocket-Extensions of 60 KB", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead+"Sec-WebSocket-Extensions: "+strings.Repeat(`a;b="\"",`, 7000)+"x\r\n", nil)
	}},
	{"20,000 subprotocols", func(a *attacker, _ int) string {
		return a.overWebSocket(plainHead+"Sec-WebSocket-Protocol: "+strings.Repeat("ab,", 20_000)+"x\r\n", nil)
	}},
	{"upgrades of one session by polling", func(a *attacker, _ int) string {
		nc, sid := a.polls()
		defer nc.Close()
		head := strings.Replace(socketIOHead, "transport=websocket", "transport=websocket&sid="+sid, 1)
		told := ""
		for range 20 {
			c, refused := a.upgraded(head)
			if c == nil {
				return refused
			}
			defer c.Close()
			told = verdict(framed(c), a.look/4)
		}
		return told
	}},
}

// inflated are messages of 1 MB, and one of 100 MB.
var inflated = []func() []byte{
	sync.OnceValue(func() []byte {
		return bytes.Repeat(compressedFrame(`{"event":"echo","data":"`+strings.Repeat("x", 1_000_000)+`"}`), 20)
	}),
	sync.OnceValue(func() []byte { return compressedFrame(strings.Repeat("x", 100_000_000)) }),
}

// zipped is 30 MB.
var zipped = func() string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(bytes.Repeat([]byte("40\x1e"), 10_000_000))
	_ = z.Close()
	return b.String()
}()

// compressedFrame is a message by RFC 7692, in one frame.
func compressedFrame(s string) []byte {
	p := deflated(s)
	b := process.AppendHeader(nil, process.Header{Opcode: process.OpText, Masked: true, Length: len(p), Compressed: true})
	return append(b, p...) // masked with zeros
}

// overWebSocket sends a stream behind a handshake and waits for what the server says to it.
func (a *attacker) overWebSocket(head string, stream []byte) string {
	nc := a.dial()
	defer nc.Close()
	go nc.Write(append([]byte(head+"\r\n"), stream...))
	return verdict(nc, a.look)
}

// overSocketIO sends a packet when the client has been let in: until then less is allowed.
func (a *attacker) overSocketIO(packet string) string {
	c, refused := a.upgraded(socketIOHead)
	if c == nil {
		return refused
	}
	defer c.Close()
	c.Expect(`0{`)
	c.Send(process.OpText, "40")
	c.Expect(`40{`)
	go c.Write(process.Frame(process.OpText, packet))
	return verdict(framed(c), a.look)
}

// overPolling sends the body of a POST when the client has been let in.
func (a *attacker) overPolling(body string, lines ...string) string {
	nc, sid := a.polls()
	defer nc.Close()
	const get = "GET /hub?EIO=4&transport=polling&sid=%s HTTP/1.1\r\nHost: hub\r\n\r\n"
	_, _ = io.WriteString(nc, post(sid, "40")+fmt.Sprintf(get, sid))
	var told []byte
	for b := make([]byte, 4096); !bytes.Contains(told, []byte("40{")); {
		n, err := nc.Read(b)
		if err != nil {
			return "cut"
		}
		told = append(told, b[:n]...)
	}
	go io.WriteString(nc, post(sid, body, lines...))
	return verdict(nc, a.look)
}
