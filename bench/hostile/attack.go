package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// attack is one of the list: what it does, how often, and with how many at a time.
type attack struct {
	name  string
	n     int
	width int
	// each is the i-th time. It returns what the offender was told.
	each func(a *attacker, i int) (told string)
	// during, if set, runs beside them, in the process of the neighbours.
	during func(all *neighbours)
}

// attacker is what all attacks need.
type attacker struct {
	server process.Server
	seed   uint64
	quick  bool
	look   time.Duration // how long an attacker listens to what it is told
}

// run does it all and returns how often the offenders were told what.
func (a *attacker) run(t attack) tally {
	told := make(tally)
	var mu sync.Mutex // guards told
	work := make(chan int)
	var wg sync.WaitGroup
	for range min(t.width, t.n) {
		wg.Go(func() {
			for i := range work {
				was := t.each(a, i)
				mu.Lock()
				told[was]++
				mu.Unlock()
			}
		})
	}
	for i := range t.n {
		work <- i
	}
	close(work)
	wg.Wait()
	return told
}

// random returns a source that is the same whenever the i-th time runs.
func (a *attacker) random(i int) *rand.Rand { return rand.New(rand.NewPCG(a.seed, uint64(i))) }

// dial connects. What it returns leaves nothing behind when it is closed: 28,000 connections would
// use up the ports of an address otherwise.
func (a *attacker) dial() *net.TCPConn {
	nc, err := a.server.Dial(net.Dialer{}, false)
	check(err)
	_ = nc.(*net.TCPConn).SetLinger(0)
	return nc.(*net.TCPConn)
}

const (
	plainHead    = "GET /hub HTTP/1.1\r\nHost: hub\r\n" + upgradeHead
	socketIOHead = "GET /hub?EIO=4&transport=websocket HTTP/1.1\r\nHost: hub\r\n" + upgradeHead
	upgradeHead  = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	deflateHead  = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
	pollHead     = "GET /hub?EIO=4&transport=polling HTTP/1.1\r\nHost: hub\r\n\r\n"
)

// upgraded connects with a request for a WebSocket, and reads the answer. It returns nil and the
// status if the server refuses.
func (a *attacker) upgraded(head string) (*process.Client, string) {
	nc := a.dial()
	c, err := process.NewClient(nc, head+"\r\n")
	if err != nil {
		nc.Close()
		if status, ok := strings.CutPrefix(err.Error(), "handshake: HTTP/1.1 "); ok {
			return nil, "HTTP " + status[:len("503")]
		}
		return nil, "cut in the handshake"
	}
	return c, ""
}

// polls begins a session by polling and returns its id, and the connection.
func (a *attacker) polls() (nc *net.TCPConn, sid string) {
	nc = a.dial()
	_, err := io.WriteString(nc, pollHead)
	check(err)
	b := make([]byte, 4096)
	n, err := nc.Read(b)
	if err != nil {
		return nc, ""
	}
	_, after, _ := bytes.Cut(b[:n], []byte(`"sid":"`))
	if len(after) < 20 {
		return nc, ""
	}
	return nc, string(after[:20])
}

// post is a POST of a polling session.
func post(sid, body string, lines ...string) string {
	return fmt.Sprintf("POST /hub?EIO=4&transport=polling&sid=%s HTTP/1.1\r\nHost: hub\r\nContent-Length: %d\r\n%s\r\n%s",
		sid, len(body), strings.Join(append(lines, ""), "\r\n"), body)
}

// verdict reads what the server has to say for so long, and sums it up: a status that is no
// success, the code of a close frame, that the connection was cut, or that it is still served.
func verdict(nc net.Conn, wait time.Duration) string {
	_ = nc.SetReadDeadline(time.Now().Add(wait))
	var r reading
	b := make([]byte, 16<<10)
	for {
		n, err := nc.Read(b)
		r.feed(b[:n])
		switch {
		case r.code != 0:
			return strings.TrimSpace("close " + strconv.Itoa(r.code) + " " + r.reason)
		case r.status != 0:
			return "HTTP " + strconv.Itoa(r.status)
		case err == nil:
		case isTimeout(err) && r.wrong:
			return "an error, and served"
		case isTimeout(err):
			return "served"
		case r.bytes == 0:
			return "cut, told nothing"
		case r.wrong:
			return "an error, then cut"
		default:
			return "cut"
		}
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

// reading is what a connection has brought so far: HTTP responses, and then perhaps frames.
type reading struct {
	bytes  int
	head   []byte // of a response that is not whole, or of a frame
	skip   int    // bytes of a body, or of a payload
	framed bool
	wrong  bool // an answer was an error
	status int  // of the first response that is no success
	code   int  // of a close frame
	reason string
}

func (r *reading) feed(b []byte) {
	r.bytes += len(b)
	r.wrong = r.wrong || bytes.Contains(b, []byte(`"error":{`)) || bytes.Contains(b, []byte(`["error",`)) || bytes.Contains(b, []byte(`"event":"error"`))
	for len(b) > 0 {
		n := min(r.skip, len(b))
		r.skip, b = r.skip-n, b[n:]
		r.head = append(r.head, b...)
		b = nil
		if r.framed {
			h, size := process.ParseHeader(r.head)
			if size == 0 || h.Opcode == process.OpClose && len(r.head) < size+h.Length {
				return
			}
			if h.Opcode == process.OpClose && h.Length >= 2 {
				r.code = int(r.head[size])<<8 | int(r.head[size+1])
				if reason := string(r.head[size+2 : size+h.Length]); !strings.ContainsAny(reason, ":0123456789") {
					r.reason = reason // it does not depend on what was sent
				}
				return
			}
			r.skip, b, r.head = h.Length, slices.Clone(r.head[size:]), nil
			continue
		}
		head, rest, whole := bytes.Cut(r.head, []byte("\r\n\r\n"))
		if !whole {
			return
		}
		status, _ := strconv.Atoi(string(head[min(len(head), len("HTTP/1.1 ")):min(len(head), len("HTTP/1.1 200"))]))
		if status >= 300 {
			r.status = status
			return
		}
		r.framed = status == 101
		if _, length, ok := bytes.Cut(head, []byte("Content-Length: ")); ok && !r.framed {
			length, _, _ = bytes.Cut(length, []byte("\r\n"))
			r.skip, _ = strconv.Atoi(string(length))
		}
		b, r.head = slices.Clone(rest), nil
	}
}

// tally is how often offenders were told what.
type tally map[string]int

func (t tally) String() string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return t[b] - t[a] })
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == 8 {
			fmt.Fprintf(&b, "and %d more", len(names)-i)
			break
		}
		fmt.Fprintf(&b, "%s: %d", name, t[name])
	}
	return b.String()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
