package main

import "github.com/atrium-go/atrium/bench/process"

// A row is a piece of work for each peer that can do it.
type row struct {
	name    string
	work    work
	overTLS bool
	memory  bool   // of a connection is measured
	skip    string // peers of this name
	load    func(part int) load
}

// rows are the rows of the table.
var rows = []row{
	echoRow("echo 64 B, 1 in flight, 100 connections", 64, 1, 100, 200),
	echoRow("echo 64 B, 16 in flight, 100 connections", 64, 16, 100, 40),
	echoRow("echo 1 KB, 1 in flight, 100 connections", 1<<10, 1, 100, 200),
	echoRow("echo 1 KB, 16 in flight, 100 connections", 1<<10, 16, 100, 30),
	echoRow("echo 16 KB, 1 in flight, 100 connections", 16<<10, 1, 100, 60),
	echoRow("echo 16 KB, 16 in flight, 100 connections", 16<<10, 16, 100, 8),
	talkRow("echo 16 KB of bytes instead of text, which is UTF-8, 1 in flight, 100 connections", echo, 100, 100, 1, echoers(16<<10, 1, process.OpBinary)),
	echoRow("echo 1 MB, 1 in flight, 4 connections", 1<<20, 1, 4, 40),
	overTLS(echoRow("echo 64 B over TLS, 1 in flight, 100 connections", 64, 1, 100, 100)),
	overTLS(echoRow("echo 16 KB over TLS, 1 in flight, 100 connections", 16<<10, 1, 100, 50)),
	withMemory(talkRow("echo of 4 KB of JSON, compressed, 1,000 connections", deflate, 1000, 10, 1, deflaters)),
	roomRow("room of 1,000, 1 outstanding", 1000, 0, 1, 40),
	roomRow("room of 1,000, 8 outstanding", 1000, 0, 8, 10),
	roomRow("room of 5,000, 8 outstanding", 5000, 0, 8, 3),
	withoutBare(roomRow("room of 1,000, 8 outstanding, and 10 more who do not read", 1000, 10, 8, 30)),
	handshakeRow("connect, handshake, close", handshake, 2000),
	handshakeRow("connect, handshake, join a room, close", inRoom, 2000),
	talkRow("typed call, 64 B, 100 connections", call, 100, 100, 1, echoers(64, 1, process.OpText)),
	talkRow("typed call by polling, 64 B, 100 clients", polling, 100, 20, 1, pollers(64)),
	withMemory(talkRow("memory of 10,000 connections, each after an echo", echo, 10_000, 1, 1, echoers(64, 1, process.OpText))),
	withMemory(roomRow("memory of a room of 10,000, after two messages", 10_000, 0, 1, 1)),
	withMemory(overTLS(talkRow("memory of 2,000 connections over TLS, each after an echo", echo, 2000, 1, 1, echoers(64, 1, process.OpText)))),
}

func overTLS(r row) row {
	r.overTLS = true
	return r
}

// withoutBare is for what the bare loops, which wait for each write, cannot do.
func withoutBare(r row) row {
	r.skip = "bare"
	return r
}

func withMemory(r row) row {
	r.memory = true
	return r
}

func talkRow(name string, w work, clients, turns, messages int, join func(place) (talker, error)) row {
	return row{name: name, work: w, load: func(part int) load {
		return &talks{clients: max(4, clients/part), turns: max(1, turns/part), messages: messages, join: join}
	}}
}

func echoRow(name string, size, inFlight, connections, bursts int) row {
	return talkRow(name, echo, connections, bursts, inFlight, echoers(size, inFlight, process.OpText))
}

func roomRow(name string, members, stalled, outstanding, batches int) row {
	return row{name: name, work: inRoom, load: func(part int) load {
		return &rooms{members: members / part, stalled: stalled, outstanding: outstanding, batches: max(1, batches/part)}
	}}
}

func handshakeRow(name string, w work, times int) row {
	return row{name: name, work: w, load: func(part int) load { return &handshakes{times: times / part} }}
}
