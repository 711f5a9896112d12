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
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium"
)

func main() {
	log := log.New(os.Stderr, "tail: ", 0)
	auth := flag.String("auth", "{}", "who we are, an `object` of JSON")
	join := flag.String("join", "", "`event`, and its data in JSON, to send whenever we are connected")
	say := flag.String("say", "", "`event`, and its data, an object of JSON, to which a line of standard input is added as text")
	wait := flag.Duration("wait", 10*time.Second, "how long to wait for the first connection")
	flag.Usage = func() {
		log.Print("usage: tail [-auth '{…}'] [-join 'EVENT JSON'] [-say 'EVENT {…}'] URL")
		flag.PrintDefaults()
	}
	flag.Parse()
	joining, joinData, _ := strings.Cut(*join, " ")
	saying, sayData, _ := strings.Cut(*say, " ")
	var who, line map[string]any
	var data any
	bad := func(text string, v any) bool { return json.Unmarshal([]byte(text), v) != nil }
	if bad(*auth, &who) || bad(cmp.Or(joinData, "null"), &data) || bad(cmp.Or(sayData, "{}"), &line) || line == nil || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}

	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := atrium.NewClient(flag.Arg(0), atrium.ClientOptions{Auth: who, CallRetries: 10})
	defer c.Close()
	check := func(what string, wrong any) {
		if wrong == nil || interrupted.Err() != nil {
			return // or it was we
		}
		if log.Printf("%s: %v", what, wrong); c.State() == atrium.StateClosed {
			os.Exit(1)
		}
	}
	ask := func(event string, data any) {
		_, err := atrium.Call[any](context.Background(), c, event, data)
		check(event, err)
	}
	read := sync.OnceFunc(func() {
		for in := bufio.NewScanner(os.Stdin); saying != "" && in.Scan(); {
			line["text"] = in.Text()
			ask(saying, line)
		}
	})
	c.OnConnect(func() {
		if joining != "" {
			ask(joining, data)
		}
		go read()
	})
	out := json.NewEncoder(os.Stdout)
	c.HandleAny(func(e *atrium.Event) { out.Encode(map[string]any{"event": e.Name(), "args": e.Args()}) })
	c.OnDisconnect(func(why atrium.Reason) { check(flag.Arg(0), why) })
	ctx, cancel := context.WithTimeout(interrupted, *wait)
	defer cancel()
	check(flag.Arg(0), c.Connect(ctx))
	c.OnConnectError(func(err error) { check(flag.Arg(0), err) }) // from now on it connects again by itself
	<-interrupted.Done()
}
