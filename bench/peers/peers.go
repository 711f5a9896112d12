package main

import (
	"github.com/atrium-go/atrium/bench/process"
)

// A peer is a library, or a bare loop, with a server for each kind of work that it can do.
type peer struct {
	name string
	work map[string]service
}

// The kinds of work.
const (
	echoing = "echo"
	inRoom  = "room"
)

// A service is a server, and how its clients speak to it.
type service struct {
	serve process.Kind
	dialect
}

// A dialect is how clients speak to a server.
type dialect struct {
	query    string // of the handshake's request
	greeting []word // after the handshake
	// What is around the application's data in what a client asks, in the answer, and in what is
	// said to a room.
	ask, answer, said envelope
}

// A word is a text that a client sends, and then how one begins that it expects. Either may be
// empty.
type word struct{ send, expect string }

var (
	bareDialect = dialect{}
	homeDialect = dialect{greeting: []word{{expect: welcome}}}
	plain       = dialect{
		greeting: []word{{expect: `{"event":"connect"`}},
		said:     envelope{`{"event":"said","data":"`, `"}`},
	}
	socketIO = dialect{
		query:    "?EIO=4&transport=websocket",
		greeting: []word{{expect: "0{"}, {send: "40", expect: "40{"}},
		said:     envelope{`42["said","`, `"]`},
	}
)

var peers = []peer{
	{"bare loop", map[string]service{
		echoing: {bareEcho(false), bareDialect},
		inRoom:  {bareRoom(false), homeDialect},
	}},
	{"bare loop, gathered", map[string]service{
		echoing: {bareEcho(true), bareDialect},
		inRoom:  {bareRoom(true), homeDialect},
	}},
	{"Atrium", map[string]service{
		echoing: {atriumEcho(false), bareDialect},
		inRoom:  {atriumRoom(plain.said), plain},
	}},
	{"Atrium, ReadInto", map[string]service{
		echoing: {atriumEcho(true), bareDialect},
	}},
	{"Atrium, Socket.IO", map[string]service{
		inRoom: {atriumRoom(socketIO.said), socketIO},
	}},
	{"gorilla", map[string]service{
		echoing: {gorillaEcho, bareDialect},
		inRoom:  {gorillaRoom, homeDialect},
	}},
	{"gws", map[string]service{
		echoing: {gwsEcho, bareDialect},
		inRoom:  {gwsRoom, homeDialect},
	}},
	{"gobwas", map[string]service{
		echoing: {gobwasEcho(true), bareDialect},
		inRoom:  {gobwasRoom(true), homeDialect},
	}},
	{"gobwas without net/http", map[string]service{
		echoing: {gobwasEcho(false), bareDialect},
		inRoom:  {gobwasRoom(false), homeDialect},
	}},
}

// kinds names the servers for process.Serve.
func kinds() map[string]process.Kind {
	all := make(map[string]process.Kind)
	for _, p := range peers {
		for work, s := range p.work {
			all[p.kind(work)] = s.serve
		}
	}
	return all
}

func (p peer) kind(work string) string { return p.name + ": " + work }
