package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// A receiver takes apart what one client is sent.
type receiver struct {
	rest   []byte // the beginning of a frame whose end has not come
	isOpen bool   // the answer to the handshake has come
	hear   func(payload []byte)
}

func (r *receiver) feed(b []byte) {
	if len(r.rest) > 0 {
		r.rest = append(r.rest, b...)
		b = r.rest
	}
	if !r.isOpen {
		_, after, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if ok {
			b, r.isOpen = after, true
		}
	}
	for r.isOpen {
		h, size := process.ParseHeader(b)
		if size == 0 || len(b)-size < h.Length {
			break
		}
		r.hear(b[size : size+h.Length])
		b = b[size+h.Length:]
	}
	r.rest = append(r.rest[:0], b...)
}

// first is the number of the first event. All numbers have as many digits.
const first = 1_000_000_000

// A message that is told to the members of a room has a number, and a visitor is told that it has
// left, with what it should have heard: see visitor.
const (
	told = `{"event":"told","data":`
	left = `{"event":"left","args":[`
)

// number returns the number of a message of that kind, 0 if it is of another.
func number(p []byte, kind string) int {
	p, ok := bytes.CutPrefix(p, []byte(kind))
	if !ok {
		return 0
	}
	n := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// everything returns what a member hears that is told each number once, in order.
func everything(heard *sync.WaitGroup) func([]byte) {
	next := first
	return func(p []byte) {
		n := number(p, told)
		if n == 0 {
			return // the connect message
		}
		if n != next {
			wrong("a member was told %d, want %d", n, next)
		}
		next++
		heard.Done()
	}
}

// visitor returns what a client hears that joins the room and leaves it again and again. Its last
// message of each visit tells it a, b, c and d. The events up to a were emitted before it joined,
// those after b when it had joined; those up to c were emitted before it left, those after d when
// it had left. So it must have heard those from b to c, and none but those from a to d.
func visitor(heard *sync.WaitGroup) func([]byte) {
	from, to := 0, 0
	return func(p []byte) {
		if n := number(p, told); n != 0 {
			if from == 0 {
				from = n
			} else if n != to+1 {
				wrong("a visitor was told %d after %d", n, to)
			}
			to = n
		}
		if !bytes.HasPrefix(p, []byte(left)) {
			return
		}
		var bounds [4]int
		for i, s := range strings.Split(string(bytes.TrimSuffix(p[len(left):], []byte("]}"))), ",") {
			var err error
			bounds[i], err = strconv.Atoi(s)
			check(err)
		}
		a, b, c, d := bounds[0], bounds[1], bounds[2], bounds[3]
		if c > b && (from == 0 || from > b+1 || to < c) || from != 0 && (from <= a || to > d) {
			wrong("a visitor was told %d to %d, want at least those after %d and up to %d, at most those after %d and up to %d", from, to, b, c, a, d)
		}
		from, to = 0, 0
		heard.Done()
	}
}

// connect connects n clients over TCP. Client i hears with hear(i).
func connect(s *process.Server, n int, hear func(i int) func([]byte)) []*process.Client {
	clients := make([]*process.Client, n)
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < n; i += 16 {
				c := s.Connect(false, "200 bytes", query(i))
				c.Expect(`{"event":"connect"`)
				clients[i] = c
				r := receiver{isOpen: true, hear: hear(i)}
				go func() {
					defer c.Close()
					for buf := make([]byte, 1024); ; {
						n, err := c.Read(buf)
						r.feed(buf[:n])
						if err != nil {
							return
						}
					}
				}()
			}
		})
	}
	wg.Wait()
	return clients
}

// query tells the server which client it is.
func query(i int) string { return "?i=" + strconv.Itoa(i) }

// memory is a listener for connections without a network, for which no files are open.
type memory chan net.Conn

func (l memory) Accept() (net.Conn, error) { return <-l, nil }
func (l memory) Close() error              { return nil }
func (l memory) Addr() net.Addr            { return &net.TCPAddr{} }

// inMemory is the server's end of such a connection. What is written to it is heard at once, by
// the goroutine that writes.
type inMemory struct {
	net.Conn // of a pipe, from which the request comes
	receiver
}

func (c *inMemory) Write(p []byte) (int, error) {
	c.feed(p)
	return len(p), nil
}

// serveInMemory connects n clients to the handler. Client i hears with hear(i).
func serveInMemory(handler http.Handler, n int, hear func(i int) func([]byte)) {
	l := make(memory)
	go http.Serve(l, handler)
	for i := range n {
		ours, theirs := net.Pipe()
		l <- &inMemory{Conn: theirs, receiver: receiver{hear: hear(i)}}
		_, err := io.WriteString(ours, strings.Replace(process.Handshakes["200 bytes"], "/hub", "/hub"+query(i), 1))
		check(err)
	}
}

// wait waits for deliveries.
func wait(heard *sync.WaitGroup) {
	t := time.AfterFunc(time.Minute, func() { wrong("deliveries are missing a minute after their events were emitted") })
	defer t.Stop()
	heard.Wait()
}

// wrong ends the program: a delivery is lost, doubled, or not where it belongs.
func wrong(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}
