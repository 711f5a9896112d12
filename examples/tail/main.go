// Tail connects to a Socket.IO server, prints each event as a line of JSON, and sends the lines that it reads:
//
//	go run ./examples/chat &
//	go run ./examples/tail -auth '{"name":"Tail","password":"atrium"}' -join 'join {"room":"lobby"}' -say 'say {"room":"lobby"}' http://127.0.0.1:8080
//
//	go run ./examples/socketio &
//	go run ./examples/tail -auth '{"name":"Tail","token":"atrium"}' -join 'join-room "lobby"' -say 'send-msg {"room":"lobby"}' http://127.0.0.1:3000
//
// It stays connected until it is interrupted. It exits with 1 if the server does not want it, and 2 if its flags are wrong.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("tail: ")
	auth := flag.String("auth", "{}", "who we are, an object of JSON")
	join := flag.String("join", "", "event, and its data in JSON, to send whenever we are connected")
	say := flag.String("say", "", "event, and its data, an object of JSON, to which a line of standard input is added as text")
	wait := flag.Duration("wait", 10*time.Second, "how long to wait for the first connection")
	flag.Parse()
	joining, joinData, _ := strings.Cut(*join, " ")
	saying, sayData, _ := strings.Cut(*say, " ")
	line := make(map[string]any)
	if json.Unmarshal([]byte(sayData), &line) != nil && *say != "" || joinData != "" && !json.Valid([]byte(joinData)) || !json.Valid([]byte(*auth)) || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: tail [-auth JSON] [-join 'EVENT JSON'] [-say 'EVENT {…}'] URL")
		os.Exit(2)
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := atrium.NewClient(flag.Arg(0), atrium.ClientOptions{Auth: json.RawMessage(*auth), Retries: 10})
	defer c.Close()
	ask := func(event string, data any) {
		if _, err := atrium.Call[any](context.Background(), c, event, data); err != nil && interrupted.Err() == nil {
			log.Printf("%s: %v", event, err)
		}
	}
	c.HandleAny(func(e *atrium.Event) {
		out, _ := json.Marshal(map[string]any{"event": e.Name(), "args": e.Args()}) // it was valid when it came
		fmt.Println(string(out))
	})
	read := func() {
		for in := bufio.NewScanner(os.Stdin); saying != "" && in.Scan(); {
			line["text"] = in.Text()
			ask(saying, line)
		}
	}
	var reading sync.Once
	c.OnConnect(func() {
		if joining != "" {
			ask(joining, json.RawMessage(joinData))
		}
		reading.Do(func() { go read() })
	})
	ctx, cancel := context.WithTimeout(interrupted, *wait)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	// From now on it connects again by itself, until it is told not to.
	lost := func(what any) {
		if interrupted.Err() != nil {
			return // it was we
		}
		if log.Print(what); c.State() == atrium.StateClosed {
			os.Exit(1)
		}
	}
	c.OnDisconnect(func(why atrium.Reason) { lost(why) })
	c.OnConnectError(func(err error) { lost(err) })
	<-interrupted.Done()
}
