package main

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/atrium-go/atrium/bench/process"
)

// A session is what a client sends: requests, and then perhaps messages. It is valid; streams are
// made of it by changing it.
type session struct {
	requests []string
	messages []message
	polls    bool // the first request begins a session by polling, whose id the others have
}

// message is one frame, and its payload before anything is changed.
type message struct {
	op                     process.Opcode
	text                   string
	compressed, unfinished bool
}

// sidHere stands where the id of a session by polling belongs.
const sidHere = "SESSIONxxxxxxxxIDxxx"

func text(lines ...string) (list []message) {
	for _, line := range lines {
		list = append(list, message{op: process.OpText, text: line})
	}
	return list
}

// ask is a request that follows another on its connection.
func ask(method, query, body string, lines ...string) string {
	r := method + " /hub?EIO=4&transport=polling" + query + " HTTP/1.1\r\nHost: hub\r\n"
	if method == "POST" {
		r = post(sidHere, body, lines...)
		return r
	}
	return r + strings.Join(append(lines, "", ""), "\r\n")
}

var sessions = []session{
	{requests: []string{plainHead + "\r\n"}, messages: append(
		text(`{"event":"echo","data":{"a":[1,2.5e3,null,true],"b":"ü\n\ud83d\ude00"},"id":1}`, `{"event":"join","data":"a"}`,
			`{"event":"say","args":["hi",2]}`, `{"id":3,"data":null}`, `{"id":9,"error":{"message":"no","data":[]}}`, `{"event":"leave","data":"a"}`),
		message{op: process.OpPing, text: "are you there"}, message{op: process.OpPong}, message{op: process.OpClose, text: "\x03\xe8bye"})},
	{requests: []string{plainHead + "Sec-WebSocket-Protocol: atrium, bearer\r\nOrigin: http://hub\r\nCookie: a=b; c=d\r\n\r\n"}, messages: append(
		text(`{"event":"connect","data":{"token":"x"}}`, `{"event":"echo","data":"x","id":0}`),
		message{op: process.OpText, text: `{"event":"ec`, unfinished: true}, message{op: process.OpPing}, message{op: process.OpContinuation, text: `ho","id":7}`})},
	{requests: []string{socketIOHead + "\r\n"}, messages: append(
		text(`40{"token":"x"}`, `42["echo",1]`, `427["echo",{"a":"b"}]`, `40/custom,`, `42/custom,8["echo","x"]`, `431[1]`, `3`, `3probe`, `40/any-1?a=b,{}`,
			`451-9["blob",{"_placeholder":true,"num":0}]`),
		message{op: process.OpBinary, text: "\x00\x01\xfe\xff"},
		message{op: process.OpText, text: `462-["x"]`}, message{op: process.OpText, text: `41/custom,`}, message{op: process.OpText, text: `1`})},
	{requests: []string{socketIOHead + deflateHead + "\r\n"}, messages: []message{
		{op: process.OpText, text: `40`}, {op: process.OpText, text: deflated(`420["echo","` + strings.Repeat("lorem ipsum ", 20) + `"]`), compressed: true},
		{op: process.OpText, text: deflated(`42["join","b"]`)[:3], compressed: true, unfinished: true}, {op: process.OpContinuation, text: deflated(`42["join","b"]`)[3:]}}},
	{requests: []string{socketIOHead + "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=\"10\"; server_max_window_bits=9, x-other; a=\"b\\\"c\"\r\n\r\n"},
		messages: text(`40{"pid":"AAAAAAAAAAAAAAAAAAAA","offset":"7"}`, `42["say","x"]`)},
	{polls: true, requests: []string{ask("POST", "", "40{\"a\":1}\x1e42[\"echo\",1]\x1e421[\"echo\",2]\x1e3"), ask("GET", "&sid="+sidHere, "", "Accept-Encoding: gzip")}},
	{polls: true, requests: []string{ask("POST", "", "40/custom,\x1e452-/custom,1[\"blob\",{\"_placeholder\":true,\"num\":1},{\"num\":0,\"_placeholder\":true}]\x1ebAQID\x1ebBAU="),
		ask("POST", "", "41\x1e1"), ask("OPTIONS", "&sid="+sidHere, "", "Origin: http://hub", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: a, b")}},
	{polls: true, requests: []string{strings.Replace(socketIOHead, "transport=websocket", "transport=websocket&sid="+sidHere, 1) + "\r\n"},
		messages: text(`2probe`, `5`, `40`, `420["echo",1]`)},
	{requests: []string{"POST /hub?EIO=4&transport=polling&sid=" + sidHere + " HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n40{\r\n1\r\n}\r\n0\r\n\r\n",
		"GET /client.js?global HTTP/1.1\r\nHost: hub\r\nAccept-Encoding: gzip;q=0, br\r\nIf-None-Match: \"x\"\r\nRange: bytes=0-9,20-\r\n\r\n",
		"GET /hub?EIO=3&transport=%70olling&j=0 HTTP/1.1\r\nHost: [::1]:80\r\nOrigin: http://[::1]\r\nSec-Fetch-Site: cross-site\r\n\r\n"}},
}

// deflated is a message by RFC 7692.
func deflated(s string) string {
	var b bytes.Buffer
	z, _ := flate.NewWriter(&b, 9)
	_, _ = io.WriteString(z, s)
	_ = z.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// tokens are what parsers stumble over.
var tokens = []string{
	"\x00", "\xff", "\x80", "\x7f", "\xfe\xff\xff", "\x81\xfe", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\x7f\x00\x00\x00\x00\xff\xff\xff\xff", "\x88\x80\x00\x00\x00\x00",
	"\x8f\x80", "\xc1", "\xf1", "\x00\x80\x01\x02\x03\x04", "[", strings.Repeat("[", 200), strings.Repeat(`{"a":`, 130), "]", "}", `"`, `\`, `\ud800`, `\u0000`, "\x1e", "\n", "\r\n", "\r\n\r\n",
	`"_placeholder":true`, `{"_placeholder":true,"num":0}`, `"num":999999`, `,`, `-`, `:`, `/`, `/custom,`, "51-", "599999-", "50-", "6", "4", "b", "b====", "2", "5", "1",
	"9007199254740991", "9007199254740993", "1e999", "-0", "0.", "99999999999999999999999999", "null", `"__proto__"`, `"event"`, `"id":`, `"args":[`, `"error":{}`, "connect", "disconnect",
	" ", "\t", "\u2028", "\ufeff", "\u202e", "Content-Length: 5\r\n", "Content-Length: -1\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Expect: 100-continue\r\n", "Upgrade: h2c\r\n",
	"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n", "Sec-WebSocket-Version: 8\r\n", "Origin: null\r\n", "HTTP/1.0", "HTTP/2.0", "%00", "%", "&sid=", "&EIO=4", "transport=websocket", sidHere,
}

// changed changes some of what a session sends.
func changed(rng *rand.Rand, b []byte) []byte {
	for range 1 + rng.IntN(4) {
		at := rng.IntN(len(b) + 1)
		end := min(len(b), at+1+rng.IntN(16))
		switch rng.IntN(8) {
		case 0: // a bit
			if at < len(b) {
				b[at] ^= 1 << rng.IntN(8)
			}
		case 1: // a byte
			if at < len(b) {
				b[at] = byte(rng.Uint32())
			}
		case 2: // what is missing
			b = append(b[:at:at], b[end:]...)
		case 3: // what comes twice
			b = append(b[:end:end], b[at:]...)
		case 4: // the end
			b = b[:at]
		case 5: // random bytes
			random := make([]byte, 1+rng.IntN(12))
			for i := range random {
				random[i] = byte(rng.Uint32())
			}
			b = append(append(b[:at:at], random...), b[at:]...)
		default:
			b = append(append(b[:at:at], tokens[rng.IntN(len(tokens))]...), b[at:]...)
		}
	}
	return b
}

// stream makes a stream of the session: half of them have valid frames with something else in
// them, the others are changed as bytes.
func (s *session) stream(rng *rand.Rand, sid string) []byte {
	inside := rng.IntN(2) == 0
	var b []byte
	change := func(p string) string {
		if inside && rng.IntN(3) == 0 {
			return string(changed(rng, []byte(p)))
		}
		return p
	}
	for _, r := range s.requests {
		if sid != "" {
			r = strings.ReplaceAll(r, sidHere, sid)
		}
		if len(s.messages) == 0 {
			r = change(r)
		}
		b = append(b, r...)
	}
	for _, m := range s.messages {
		p := change(m.text)
		h := process.Header{Opcode: m.op, Masked: true, Key: [4]byte{byte(rng.Uint32()), 2, 3, 4}, Length: len(p), Compressed: m.compressed, Unfinished: m.unfinished}
		b = process.AppendHeader(b, h)
		n := len(b)
		b = append(b, p...)
		process.Mask(b[n:], h.Key)
	}
	if !inside {
		b = changed(rng, b)
	}
	return b
}

// fuzzed sends the i-th stream, says that this was all, and waits until the server is done with it.
func (a *attacker) fuzzed(i int) string {
	rng := a.random(i)
	s := &sessions[rng.IntN(len(sessions))]
	var nc *net.TCPConn
	var sid string
	if s.polls {
		if nc, sid = a.polls(); sid == "" {
			nc.Close()
			return "refused"
		}
	} else {
		nc = a.dial()
	}
	defer nc.Close()
	_, _ = nc.Write(s.stream(rng, sid)) // the server may hang up before it has taken all
	_ = nc.CloseWrite()
	told := verdict(nc, longest)
	if told == "served" {
		panic(fmt.Sprintf("stream %d of seed %d: the server is not done with it after %v", i, a.seed, longest))
	}
	return told
}
