//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/examples/chat/chatroom"
)

var lobby = chatroom.Room{Room: "lobby"} // where the page takes people

// crowd is simulated clients that say numbered messages in the lobby, and what they have noticed.
type crowd struct {
	addr    string
	pause   time.Duration // between two messages of a client, on average
	talking sync.WaitGroup
	clients []*atrium.Client // those that hear

	mu       sync.Mutex                // guards:
	said     map[string]int            // by sender: how many messages the server has acknowledged
	heard    map[string]map[string]int // by hearer and sender: the number of the next message
	arrived  int                       // messages, at all hearers together
	lost     int                       // those that a hearer had not got when a later one came
	again    int                       // those that came a second time, or behind a later one
	slowest  time.Duration             // the longest wait for an acknowledgement
	back     int                       // how often a client came back
	anew     int                       // and was not recovered, as all but the plain ones should be
	away     time.Duration             // the longest time that one was away
	problems []string                  // whatever else there was
}

// enter brings n clients into the lobby, every fifth a plain one, and lets them talk until ctx
// ends.
func (c *crowd) enter(ctx context.Context, n int) error {
	c.said, c.heard = make(map[string]int), make(map[string]map[string]int)
	talks := make([]func(), n)
	for i := range n {
		name := fmt.Sprintf("Client %d", i+1)
		talks[i] = func() { c.talkPlainly(ctx, name) }
		if i%5 < 4 {
			client, err := c.connect(ctx, name)
			c.clients = append(c.clients, client)
			if err != nil {
				return err
			}
			talks[i] = func() { c.talk(ctx, client, name) }
		}
	}
	for _, talk := range talks { // now that all are there, and hear the first message
		c.talking.Go(talk)
	}
	return nil
}

// connect returns a client that hears what is said in the lobby. It comes back by itself.
func (c *crowd) connect(ctx context.Context, name string) (*atrium.Client, error) {
	client := atrium.NewClient("http://"+c.addr, atrium.ClientOptions{
		Auth:        chatroom.SignIn{Name: name, Password: password},
		CallRetries: 10, // a call is sent again if the connection broke before its answer came
	})
	atrium.On(client, "said", func(_ *atrium.Client, m chatroom.Message) error {
		c.hear(name, m)
		return nil
	})
	var left time.Time
	client.OnDisconnect(func(*atrium.Client, atrium.Reason) { left = time.Now() })
	client.OnConnect(func(*atrium.Client) {
		if !client.Recovered() {
			client.Emit("join", lobby)
		}
		if !left.IsZero() {
			c.returned(time.Since(left), client.Recovered())
		}
	})
	if err := client.Connect(ctx); err != nil {
		return client, err
	}
	client.OnConnectError(func(_ *atrium.Client, err error) { c.complain(name, err) })
	_, err := atrium.Call[any](ctx, client, "join", lobby) // its answer says that it is in
	return client, err
}

// leave waits until nobody talks any more, and closes the connections.
func (c *crowd) leave() {
	c.talking.Wait()
	for _, client := range c.clients {
		client.Close()
	}
}

// talk says a message now and then. One that is on its way when ctx ends is waited for.
func (c *crowd) talk(ctx context.Context, client *atrium.Client, name string) {
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(rand.N(2 * c.pause)):
		}
		began := time.Now()
		if _, err := atrium.Call[any](context.Background(), client, "say", message(name, n)); err != nil {
			c.complain(name, err)
		}
		c.answered(name, n+1, time.Since(began))
	}
}

func message(name string, n int) chatroom.Message {
	return chatroom.Message{Room: lobby.Room, Text: fmt.Sprint("Message ", n), Key: fmt.Sprint(name, "/", n)}
}

// talkPlainly is talk for a client that has nothing but a WebSocket. It connects again by hand, and
// what it misses meanwhile it has missed; what it says must arrive all the same.
func (c *crowd) talkPlainly(ctx context.Context, name string) {
	for said := 0; ctx.Err() == nil; {
		err := c.plain(ctx, name, &said)
		if e, ok := errors.AsType[*atrium.CloseError](err); ok && e.Code == atrium.StatusServiceRestart {
			c.returned(0, true)
		} else if ctx.Err() == nil {
			c.complain(name, err)
			time.Sleep(c.pause)
		}
	}
}

// plain is one connection of such a client.
func (c *crowd) plain(ctx context.Context, name string, said *int) error {
	conn, _, err := atrium.Dial(ctx, "ws://"+c.addr+"/socket.io/", atrium.DialOptions{Subprotocols: []string{"atrium"}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	send := func(message map[string]any) {
		text, _ := json.Marshal(message)
		conn.Write(ctx, atrium.MessageText, text) // if it fails, so does Read
	}
	send(map[string]any{"event": "connect", "data": chatroom.SignIn{Name: name, Password: password}})
	send(map[string]any{"event": "join", "data": lobby, "id": *said})
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		var m struct {
			ID    *int
			Error any
		}
		if err := json.Unmarshal(text, &m); err != nil || m.Error != nil {
			return fmt.Errorf("refused: %s", text)
		}
		if m.ID != nil { // an answer: so many messages have been acknowledged
			n := *m.ID
			*said = n
			c.answered(name, n, 0)
			time.AfterFunc(rand.N(2*c.pause), func() {
				send(map[string]any{"event": "say", "data": message(name, n), "id": n + 1})
			})
		}
	}
}

// hear notes a message, which should be the next of its sender.
func (c *crowd) hear(name string, m chatroom.Message) {
	_, number, _ := strings.Cut(m.Key, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		return // a person's
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard[name] == nil {
		c.heard[name] = make(map[string]int)
	}
	c.arrived++
	if next := c.heard[name][m.From]; n < next {
		c.again++
	} else {
		c.lost += n - next
		c.heard[name][m.From] = n + 1
	}
}

func (c *crowd) answered(name string, said int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said[name], c.slowest = said, max(c.slowest, took)
}

func (c *crowd) returned(away time.Duration, recovered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.back++
	c.away = max(c.away, away)
	if !recovered {
		c.anew++
	}
}

func (c *crowd) complain(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems = append(c.problems, fmt.Sprintf("%s: %v", name, err))
}

func (c *crowd) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := fmt.Sprintf("%d messages: %d lost, %d doubled or out of order, slowest answer %v. %d reconnects: longest %v, %d began anew.",
		c.arrived, c.lost, c.again, c.slowest.Round(time.Millisecond), c.back, c.away.Round(time.Millisecond), c.anew)
	if n := len(c.problems); n > 0 {
		line += fmt.Sprintf(" %d problems, the last of %s", n, c.problems[n-1])
	}
	return line
}
