package main

import (
	"net"

	"github.com/coder/websocket"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// A peer is a library, or a bare loop, with a server for each kind of work that it can do.
type peer struct {
	name string
	work map[work]service
}

// A work is what a server does for its clients.
type work string

const (
	echo      work = "echo"      // answers a message with the same
	deflate   work = "deflate"   // the same, compressed without context
	handshake work = "handshake" // no more than that
	inRoom    work = "room"      // takes clients into a room, and says messages to it
	call      work = "call"      // calls a function with a typed value, and answers with another
	polling   work = "polling"   // the same over HTTP
)

// A service is a server, and how its clients speak to it.
type service struct {
	serve process.Kind // nil for the server on Node
	dialect
}

var peers = []peer{
	{"hijack only", map[work]service{
		handshake: {bareHandshake, bare},
	}},
	{"bare loop", map[work]service{
		echo:   {bareEcho(false), bare},
		inRoom: {bareRoom(false), homeRoom},
	}},
	{"bare loop, gathered", map[work]service{
		echo:   {bareEcho(true), bare},
		inRoom: {bareRoom(true), homeRoom},
	}},
	{"Atrium", map[work]service{
		echo:      {atriumEcho(false, atrium.Compression{}), bare},
		deflate:   {atriumEcho(false, atrium.Compression{Level: 1}), bare},
		handshake: {atriumEcho(false, atrium.Compression{}), bare},
		inRoom:    {atriumRoom(plain.said), plain},
		call:      {atriumCall, plain},
	}},
	{"Atrium, ReadInto", map[work]service{
		echo:    {atriumEcho(true, atrium.Compression{}), bare},
		deflate: {atriumEcho(true, atrium.Compression{Level: 1}), bare},
	}},
	{"Atrium, Socket.IO", map[work]service{
		inRoom:  {atriumRoom(socketIO.said), socketIO},
		call:    {atriumCall, socketIO},
		polling: {atriumCall, socketIO},
	}},
	{"gorilla", map[work]service{
		echo:      {gorillaEcho(false), bare},
		deflate:   {gorillaEcho(true), bare},
		handshake: {gorillaEcho(false), bare},
		inRoom:    {gorillaRoom, homeRoom},
		call:      {gorillaCall, homeCallLine},
	}},
	{"coder", map[work]service{
		echo:      {coderEcho(websocket.CompressionDisabled), bare},
		deflate:   {coderEcho(websocket.CompressionNoContextTakeover), bare},
		handshake: {coderEcho(websocket.CompressionDisabled), bare},
		inRoom:    {coderRoom, homeRoom},
		call:      {coderCall, homeCallLine},
	}},
	{"gobwas", map[work]service{
		echo:      {gobwasEcho(true), bare},
		handshake: {gobwasEcho(true), bare},
		inRoom:    {gobwasRoom(true), homeRoom},
	}},
	{"gobwas without net/http", map[work]service{
		echo:      {gobwasEcho(false), bare},
		deflate:   {gobwasDeflate, bare},
		handshake: {gobwasEcho(false), bare},
		inRoom:    {gobwasRoom(false), homeRoom},
	}},
	{"gws", map[work]service{
		echo:      {gwsEcho(false), bare},
		deflate:   {gwsEcho(true), bare},
		handshake: {gwsEcho(false), bare},
		inRoom:    {gwsRoom, homeRoom},
		call:      {gwsCall, homeCall},
	}},
	{"melody", map[work]service{
		echo:      {melodyEcho(false), bare},
		deflate:   {melodyEcho(true), bare},
		handshake: {melodyEcho(false), bare},
		inRoom:    {melodyRoom, homeRoom},
	}},
	{"centrifuge", map[work]service{
		inRoom: {centrifugeRoom, centrifugal},
		call:   {centrifugeCall, centrifugal},
	}},
	{onNode, map[work]service{
		inRoom:  {nil, socketIO},
		call:    {nil, socketIO},
		polling: {nil, socketIO},
	}},
}

// kinds names the servers of peers, for process.Serve.
func kinds(peers []peer) map[string]process.Kind {
	all := make(map[string]process.Kind)
	for _, p := range peers {
		for w, s := range p.work {
			if s.serve == nil {
				continue
			}
			all[p.kind(w, false)] = s.serve
			all[p.kind(w, true)] = func(l net.Listener) func(int) { return s.serve(process.Secure(l)) }
		}
	}
	return all
}

func (p peer) kind(w work, overTLS bool) string {
	if overTLS {
		w += " over TLS"
	}
	return p.name + ": " + string(w)
}

// start starts a peer's server.
func (p peer) start(w work, overTLS bool) place {
	s := p.work[w]
	if s.serve != nil {
		return place{Server: process.Start(p.kind(w, overTLS)), dialect: s.dialect, isTLS: overTLS}
	}
	return place{Server: process.StartCommand(nodeCommand()), dialect: s.dialect}
}
