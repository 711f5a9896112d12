package main

import (
	"sync"
	"time"
)

// welcome is the first message to a member of a room, where the library has none of its own.
const welcome = "you are in the room"

// room returns the command of a server with a room: a negative argument waits until as many members
// are there, a positive one says so many messages to them. say is told the number of the first.
func room(members func() int, say func(first, n int)) func(argument int) {
	said := 0
	return func(argument int) {
		if argument > 0 {
			say(said, argument)
			said += argument
			return
		}
		for members() < -argument {
			time.Sleep(time.Millisecond)
		}
	}
}

// each says the messages one after the other.
func each(say func(number int)) func(first, n int) {
	return func(first, n int) {
		for i := range n {
			say(first + i)
		}
	}
}

// A lobby is what programs make themselves for a library without rooms: a goroutine that writes
// for each member, what it has to write in a channel. It is as in gorilla's example of a chat.
type lobby[M any] struct {
	mu      sync.Mutex
	members map[chan M]bool
}

func newLobby[M any]() *lobby[M] { return &lobby[M]{members: make(map[chan M]bool)} }

// serve has a member in the room as long as read runs, which is the loop that reads. write is
// called with the member's messages, the first of which is welcome, and hangUp when there will be
// no more.
func (h *lobby[M]) serve(welcome M, write func(M) error, hangUp, read func()) {
	queue := make(chan M, 256)
	queue <- welcome
	h.mu.Lock()
	h.members[queue] = true
	h.mu.Unlock()
	go func() {
		defer hangUp()
		for m := range queue {
			if write(m) != nil {
				return
			}
		}
	}()
	read()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.members[queue] {
		h.leave(queue)
	}
}

// leave is called with mu locked.
func (h *lobby[M]) leave(queue chan M) {
	delete(h.members, queue)
	close(queue)
}

func (h *lobby[M]) say(m M) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for queue := range h.members {
		select {
		case queue <- m:
		default:
			h.leave(queue) // it reads too slowly
		}
	}
}

func (h *lobby[M]) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members)
}
