package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// A poller calls a function over HTTP long-polling: a POST has the call, and a GET its answer. Both
// go over the same connection, one after the other.
type poller struct {
	net.Conn
	in    *bufio.Reader
	path  string
	call  message
	sent  int
	heard *checker
}

func pollers(size int) func(place) (talker, error) {
	return func(p place) (talker, error) {
		nc, err := net.Dial("tcp", p.Addr)
		if err != nil {
			return nil, err
		}
		call, answer := message{p.call, size + p.call.len()}, message{p.answer, size + p.answer.len()}
		c := &poller{Conn: nc, in: bufio.NewReader(nc), path: "/hub?EIO=4&transport=polling", call: call, heard: newChecker(answer)}
		nc.SetDeadline(time.Now().Add(patience))
		opened, err := c.ask("GET", "")
		if err != nil {
			return nil, err
		}
		_, id, _ := strings.Cut(opened, `"sid":"`)
		id, _, _ = strings.Cut(id, `"`)
		c.path += "&sid=" + id
		if _, err := c.ask("POST", "40"); err != nil {
			return nil, err
		}
		welcome, err := c.ask("GET", "")
		if err == nil && !strings.HasPrefix(welcome, "40{") {
			err = fmt.Errorf("%.60q came instead of 40{", welcome)
		}
		return c, err
	}
}

func (c *poller) turn() error {
	if _, err := c.ask("POST", string(c.call.bytes(c.sent))); err != nil {
		return err
	}
	c.sent++
	got, err := c.ask("GET", "")
	if err != nil {
		return err
	}
	return c.heard.check([]byte(got))
}

// ask sends a request and returns the body of the response.
func (c *poller) ask(method, body string) (string, error) {
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", method, c.path, len(body), body)
	if err != nil {
		return "", err
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return "", err
	}
	got, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.100q", r.Status, got)
	}
	return string(got), err
}

func (c *poller) finish() error { return c.Close() }
