package main

import (
	"bytes"
	"fmt"

	"github.com/atrium-go/atrium/bench/process"
)

// A listener hears numbered messages.
type listener struct {
	*process.Client
	messageType process.Opcode
	heard       *checker
}

// hear waits for the next message.
func (l listener) hear() error {
	got, err := next(l.Client, l.messageType)
	if err != nil {
		return err
	}
	return l.heard.check(got)
}

func (l listener) finish() error {
	defer l.Close()
	if got, err := next(l.Client, l.messageType); err == nil {
		return fmt.Errorf("after the last message came %.60q", got)
	} else if !hasEnded(err) {
		return err
	}
	return nil
}

// An echoer sends some numbered messages in one write, and hears the answers.
type echoer struct {
	listener
	frames  []byte
	numbers [][]byte // where in frames the numbers of the messages are
	key     [4]byte  // masks the numbers
	sent    int
	written chan error
}

// echoers join with messages whose data has a size, some in each turn.
func echoers(size, inFlight int, t process.Opcode) func(place) (talker, error) {
	return func(p place) (talker, error) {
		c, err := p.enter()
		if err != nil {
			return nil, err
		}
		call, answer := message{p.call, size + p.call.len()}, message{p.answer, size + p.answer.len()}
		e := &echoer{listener: listener{c, t, newChecker(answer)}, written: make(chan error, 1)}
		frame := process.Frame(t, string(call.bytes(0)))
		e.frames = bytes.Repeat(frame, inFlight)
		start := len(frame) - call.size + len(call.before)
		for i := range inFlight {
			e.numbers = append(e.numbers, e.frames[len(frame)*i+start:][:digits])
		}
		header, _ := process.ParseHeader(frame)
		for i := range e.key {
			e.key[i] = header.Key[(len(call.before)+i)%4]
		}
		return e, nil
	}
}

func (e *echoer) turn() error {
	for _, number := range e.numbers {
		renumber(number, e.sent)
		process.Mask(number, e.key)
		e.sent++
	}
	if len(e.frames) > 64<<10 {
		go e.write() // the server may not read all of it before it has written some answers
	} else {
		e.write()
	}
	for range e.numbers {
		if err := e.hear(); err != nil {
			return err
		}
	}
	return <-e.written
}

func (e *echoer) write() {
	_, err := e.Write(e.frames)
	e.written <- err
}
