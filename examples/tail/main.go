// Tail connects to a Socket.IO server, prints each event as a line of JSON, and sends the lines
// that it reads:
//
//	go run ./examples/chat &
//	go run ./examples/tail -auth '{"name":"Tail","password":"atrium"}' -join 'join {"room":"lobby"}' -say 'say {"room":"lobby"}' http://127.0.0.1:8080
//
//	go run ./examples/socketio &
//	go run ./examples/tail -auth '{"name":"Tail","token":"atrium"}' -join 'join-room "lobby"' -say 'send-msg {"room":"lobby"}' http://127.0.0.1:3000
//
// It stays connected until it is interrupted. It exits with status 1 if the server refuses it, and
// with 2 if its flags are invalid.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
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

// options are the flags and the argument.
type options struct {
	url       string
	auth      map[string]any
	joinEvent string // "" for none
	joinData  any
	sayEvent  string // "" for none
	sayData   map[string]any
	wait      time.Duration
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("tail: ")
	o, err := parseOptions()
	if err != nil {
		log.Print(err)
		flag.Usage()
		os.Exit(2)
	}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(interrupted, o); err != nil {
		log.Fatal(err)
	}
}

// parseOptions parses the command line.
func parseOptions() (options, error) {
	auth := flag.String("auth", "{}", "the auth value, an `object` of JSON")
	join := flag.String("join", "", "`event`, and its data in JSON, to send after each connect")
	say := flag.String("say", "", "`event`, and its data, an object of JSON, to send for each line of standard input, which is added as text")
	wait := flag.Duration("wait", 10*time.Second, "how long to wait for the first connection")
	flag.Usage = func() {
		log.Print("usage: tail [-auth '{…}'] [-join 'EVENT JSON'] [-say 'EVENT {…}'] URL")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		return options{}, fmt.Errorf("expected one URL, got %d arguments", flag.NArg())
	}
	o := options{url: flag.Arg(0), wait: *wait, sayData: make(map[string]any)}
	if err := json.Unmarshal([]byte(*auth), &o.auth); err != nil {
		return options{}, fmt.Errorf("-auth: %w", err)
	}
	var err error
	if o.joinEvent, err = parseEvent(*join, &o.joinData); err != nil {
		return options{}, fmt.Errorf("-join: %w", err)
	}
	if o.sayEvent, err = parseEvent(*say, &o.sayData); err != nil {
		return options{}, fmt.Errorf("-say: %w", err)
	}
	if o.sayData == nil {
		return options{}, errors.New("-say: expected an object, got null")
	}
	return o, nil
}

// parseEvent parses an event's name and, after a space, its data, which it decodes into data.
func parseEvent(text string, data any) (event string, err error) {
	event, encoded, ok := strings.Cut(text, " ")
	if ok {
		err = json.Unmarshal([]byte(encoded), data)
	}
	return event, err
}

// run stays connected until ctx ends, or until the client gives up: then it returns why.
func run(ctx context.Context, o options) error {
	c := atrium.NewClient(o.url, atrium.ClientOptions{Auth: o.auth, CallRetries: 10})
	defer c.Close()

	// A client in StateClosed does not reconnect by itself; whatever else fails is logged.
	closed := make(chan error, 1)
	report := func(err error) {
		switch {
		case ctx.Err() != nil: // we close the connection
		case c.State() != atrium.StateClosed:
			log.Print(err)
		default:
			select {
			case closed <- err:
			default: // it is closed for an earlier reason
			}
		}
	}

	// Handlers and functions like OnConnect are registered before Connect, so that nothing is
	// missed.
	out := json.NewEncoder(os.Stdout)
	c.HandleAny(func(e *atrium.Event) {
		_ = out.Encode(map[string]any{"event": e.Name(), "args": e.Args()})
	})
	var reading sync.Once
	c.OnConnect(func(*atrium.Client) {
		if o.joinEvent != "" {
			if _, err := atrium.Call[any](ctx, c, o.joinEvent, o.joinData); err != nil {
				report(fmt.Errorf("%s: %w", o.joinEvent, err))
			}
		}
		if o.sayEvent != "" {
			reading.Do(func() { go sendLines(ctx, c, o, report) })
		}
	})
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { report(fmt.Errorf("%s: %s", o.url, why)) })

	first, cancel := context.WithTimeout(ctx, o.wait)
	defer cancel()
	if err := c.Connect(first); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", o.url, err)
	}
	// From now on the client reconnects by itself, and reports why it could not.
	c.OnConnectError(func(_ *atrium.Client, err error) { report(fmt.Errorf("%s: %w", o.url, err)) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-closed:
		return err
	}
}

// sendLines sends each line of standard input as an event, and waits for its acknowledgement.
func sendLines(ctx context.Context, c *atrium.Client, o options, report func(error)) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		o.sayData["text"] = in.Text()
		if _, err := atrium.Call[any](ctx, c, o.sayEvent, o.sayData); err != nil {
			report(fmt.Errorf("%s: %w", o.sayEvent, err))
		}
	}
}
