package main

import (
	"net"
	"net/http"

	"github.com/olahol/melody"

	"github.com/atrium-go/atrium/bench/process"
)

// newMelody raises melody's limit on messages, which is 512 bytes.
func newMelody(l net.Listener, compress bool) *melody.Melody {
	m := melody.New()
	m.Config.MaxMessageSize = 2 << 20
	m.Upgrader.EnableCompression = compress
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.HandleRequest(w, r) }))
	return m
}

func melodyEcho(compress bool) process.Kind {
	return func(l net.Listener) func(int) {
		m := newMelody(l, compress)
		m.HandleMessage(func(s *melody.Session, p []byte) { s.Write(p) })
		m.HandleMessageBinary(func(s *melody.Session, p []byte) { s.WriteBinary(p) })
		return nil
	}
}

// melodyRoom takes all of melody's sessions for the room, as its examples do.
func melodyRoom(l net.Listener) func(int) {
	m := newMelody(l, false)
	m.HandleConnect(func(s *melody.Session) { s.Write([]byte(welcome)) })
	said := message{size: roomSize}
	return room(m.Len, each(func(n int) { check(m.Broadcast(said.data(n))) }))
}
