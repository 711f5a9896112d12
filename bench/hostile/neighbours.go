package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// neighbours are the well-behaved clients of the server. Each calls again and again, and must hear
// every tick once, in order.
type neighbours struct {
	addr string
	quit context.Context

	mu    sync.Mutex // guards:
	took  []time.Duration
	wrong []string
	ticks int
}

const (
	callEvery = 100 * time.Millisecond
	patience  = 30 * time.Second // an answer that takes longer is lost
)

// move in moves n of them in: half plain, four of ten Socket.IO by WebSocket, the others polling.
func (all *neighbours) moveIn(n int) {
	var wg sync.WaitGroup
	for i := range n {
		live := all.poll
		switch {
		case i%10 < 5:
			live = all.plain
		case i%10 < 9:
			live = all.socketIO
		}
		wg.Go(func() {
			call := live(fmt.Sprintf("neighbour %d", i))
			go func() {
				for j := i; ; j += n {
					pause := time.After(callEvery)
					began := time.Now()
					if call == nil || !call(j) {
						return
					}
					all.mu.Lock()
					all.took = append(all.took, time.Since(began))
					all.mu.Unlock()
					select {
					case <-pause:
					case <-all.quit.Done():
						return
					}
				}
			}()
		})
	}
	wg.Wait()
}

// complain notes what must not have happened.
func (all *neighbours) complain(who, format string, args ...any) {
	if all.quit.Err() != nil {
		return
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.wrong = append(all.wrong, who+": "+fmt.Sprintf(format, args...)); len(all.wrong) <= 10 {
		fmt.Println(all.wrong[len(all.wrong)-1])
	}
}

// latency returns the quantiles of the calls since it was last asked.
func (all *neighbours) latency() latency {
	all.mu.Lock()
	took := all.took
	all.took = nil
	all.mu.Unlock()
	if len(took) == 0 {
		return latency{}
	}
	slices.Sort(took)
	return latency{took[len(took)/2], took[len(took)*99/100], len(took)}
}

// latency is how long the calls took: half of them, and all but one of a hundred.
type latency struct {
	p50, p99 time.Duration
	n        int
}

// hearing returns what checks the numbers of the ticks.
func (all *neighbours) hearing(who string) func(n int) {
	last := 0
	return func(n int) {
		if last != 0 && n != last+1 {
			all.complain(who, "tick %d came after %d", n, last)
		}
		last = n
		all.mu.Lock()
		all.ticks++
		all.mu.Unlock()
	}
}

// await waits for the answer of a call.
func (all *neighbours) await(who string, answers <-chan string, want string) bool {
	select {
	case got, ok := <-answers:
		if ok && got != want {
			all.complain(who, "got %q, want %q", got, want)
		}
		return ok && got == want
	case <-time.After(patience):
		all.complain(who, "no answer in %v", patience)
	case <-all.quit.Done():
	}
	return false
}

// plain is a client that has nothing but a WebSocket.
func (all *neighbours) plain(who string) (call func(int) bool) {
	s := &process.Server{Addr: all.addr}
	c := s.Connect(false, "200 bytes", "")
	c.Expect(`{"event":"connect"`)
	var mu sync.Mutex // one frame at a time
	send := func(op process.Opcode, text string) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := c.Write(process.Frame(op, text))
		return err
	}
	answers := make(chan string, 16)
	go func() {
		defer close(answers)
		tick := all.hearing(who)
		for {
			op, p, err := c.Next()
			var n int
			switch text := string(p); {
			case err != nil || op == process.OpClose:
				all.complain(who, "disconnected: %v %q", err, text)
				return
			case op == process.OpPing:
				_ = send(process.OpPong, text) // the next read tells
			case scanned(text, `{"event":"tick","data":%d}`, &n):
				tick(n)
			default:
				answers <- text
			}
		}
	}()
	if send(process.OpText, `{"event":"neighbour","id":1}`) != nil || !all.await(who, answers, `{"id":1,"data":null}`) {
		return nil
	}
	return func(i int) bool {
		_ = send(process.OpText, fmt.Sprintf(`{"event":"echo","data":%d,"id":%d}`, i, i))
		return all.await(who, answers, fmt.Sprintf(`{"id":%d,"data":%d}`, i, i))
	}
}

// socketIO is a Go client.
func (all *neighbours) socketIO(who string) (call func(int) bool) {
	c := atrium.NewClient("http://"+all.addr+"/hub", atrium.ClientOptions{})
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { all.complain(who, "disconnected: %s", why) })
	tick := all.hearing(who)
	atrium.On(c, "tick", func(_ *atrium.Client, n int) error { tick(n); return nil })
	check(c.Connect(all.quit))
	context.AfterFunc(all.quit, func() { _ = c.Close() })
	if _, err := atrium.Call[any](all.quit, c, "neighbour"); err != nil {
		all.complain(who, "%v", err)
		return nil
	}
	return func(i int) bool {
		ctx, cancel := context.WithTimeout(all.quit, patience)
		defer cancel()
		got, err := atrium.Call[int](ctx, c, "echo", i)
		if err != nil || got != i {
			all.complain(who, "got %d, %v, want %d", got, err, i)
			return false
		}
		return true
	}
}

var polledTick = regexp.MustCompile(`^42\["tick",(\d+),"\d+"\]$`)

// poll is a Socket.IO client that stays with polling.
func (all *neighbours) poll(who string) (call func(int) bool) {
	address := "http://" + all.addr + "/hub?EIO=4&transport=polling"
	request := func(method, body string) (string, error) {
		r, err := http.NewRequestWithContext(all.quit, method, address, strings.NewReader(body))
		check(err)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != 200 {
			err = fmt.Errorf("%s: %s", answer.Status, b)
		}
		return string(b), err
	}
	post := func(packet string) bool {
		if _, err := request("POST", packet); err != nil {
			all.complain(who, "POST %.40s: %v", packet, err)
			return false
		}
		return true
	}
	hello, err := request("GET", "")
	check(err)
	var handshake struct{ Sid string }
	check(json.Unmarshal([]byte(hello[1:]), &handshake))
	address += "&sid=" + handshake.Sid
	// A client has one POST at a time.
	posts, answers := make(chan string, 16), make(chan string, 16)
	go func() {
		for packet := range posts {
			if !post(packet) {
				return
			}
		}
	}()
	var connected atomic.Bool
	go func() {
		defer close(answers)
		tick := all.hearing(who)
		for {
			body, err := request("GET", "")
			if err != nil {
				all.complain(who, "GET: %v", err)
				return
			}
			for packet := range strings.SplitSeq(body, "\x1e") {
				n, found := 0, polledTick.FindStringSubmatch(packet)
				switch {
				case packet == "2":
					posts <- "3"
				case packet == "6":
				case found != nil:
					scanned(found[1], "%d", &n)
					tick(n)
				case !connected.Load() && strings.HasPrefix(packet, "40{"):
					connected.Store(true)
					answers <- "40"
				default:
					answers <- packet
				}
			}
		}
	}()
	posts <- "40"
	if !all.await(who, answers, "40") {
		return nil
	}
	posts <- `420["neighbour"]`
	if !all.await(who, answers, "430[null]") {
		return nil
	}
	return func(i int) bool {
		posts <- fmt.Sprintf(`42%d["echo",%d]`, i, i)
		return all.await(who, answers, fmt.Sprintf("43%d[%d]", i, i))
	}
}

// scanned reports whether the text has the form, and reads its number.
func scanned(text, form string, n *int) bool {
	got, err := fmt.Sscanf(text, form, n)
	return got == 1 && err == nil
}
