package main

import (
	"bytes"
	"fmt"
)

// A message is a text of a fixed size, that of the envelope included, with a number in it by which
// the load generator knows it.
type message struct {
	envelope
	size int
}

// An envelope is what a protocol puts around the data of the application.
type envelope struct{ before, after string }

func (e envelope) len() int { return len(e.before) + len(e.after) }

const digits = 10

// data returns what the application sends as message n: the number, and letters.
func (m message) data(n int) []byte {
	b := make([]byte, m.size-m.len())
	for i := range b[digits:] {
		b[digits+i] = byte('a' + i%26)
	}
	renumber(b, n)
	return b
}

// bytes returns the whole of message n.
func (m message) bytes(n int) []byte {
	return append(append([]byte(m.before), m.data(n)...), m.after...)
}

// renumber writes n over the number that b begins with.
func renumber(b []byte, n int) {
	for i := digits - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// A checker sees to it that the messages of one connection come once each, in their order and
// unharmed.
type checker struct {
	message
	next int
	want []byte // message next
}

func newChecker(m message) *checker { return &checker{message: m, want: m.bytes(0)} }

// check fails if got is not the next message.
func (c *checker) check(got []byte) error {
	if !bytes.Equal(got, c.want) {
		return c.explain(got)
	}
	c.next++
	renumber(c.want[len(c.before):], c.next)
	return nil
}

// explain says what is wrong with a message.
func (c *checker) explain(got []byte) error {
	if len(got) != len(c.want) {
		return fmt.Errorf("message %d has %d bytes instead of %d: %.60q", c.next, len(got), len(c.want), got)
	}
	var n int
	if _, err := fmt.Sscanf(string(got[len(c.before):][:digits]), "%d", &n); err == nil && bytes.Equal(got, c.bytes(n)) {
		if n < c.next {
			return fmt.Errorf("message %d came where %d was due: it came twice, or out of order", n, c.next)
		}
		return fmt.Errorf("message %d came where %d was due, which was lost or comes out of order", n, c.next)
	}
	i := 0
	for got[i] == c.want[i] {
		i++
	}
	return fmt.Errorf("message %d: byte %d is %q instead of %q", c.next, i, got[i], c.want[i])
}
