package atrium

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// This file says to an echo server and to an echo client what the Autobahn test suite says to them,
// case by case and under its numbers, and accepts only what it calls OK. Groups 12 and 13, which
// need compression, have a file of their own. Where the suite waits for a second to see that
// something was answered early, this test waits for the answer.

// A wireFrame is one frame to send or to expect: whole and legal, unless it says otherwise.
type wireFrame struct {
	op      opcode
	payload string
	more    bool // FIN is 0
	rsv     byte // the three reserved bits as a number: RSV1 is 4
}

func textFrame(s string) wireFrame   { return wireFrame{op: opText, payload: s} }
func binaryFrame(s string) wireFrame { return wireFrame{op: opBinary, payload: s} }
func contFrame(s string) wireFrame   { return wireFrame{op: opContinuation, payload: s} }
func pingFrame(s string) wireFrame   { return wireFrame{op: opPing, payload: s} }
func pongFrame(s string) wireFrame   { return wireFrame{op: opPong, payload: s} }

// closeFrame has no payload if the code is 0.
func closeFrame(code StatusCode, reason string) wireFrame {
	return wireFrame{op: opClose, payload: closePayload(code, reason)}
}

func (f wireFrame) unfinished() wireFrame     { f.more = true; return f }
func (f wireFrame) reserved(n byte) wireFrame { f.rsv = n; return f }

// fragments cuts a message into frames of size bytes; the last one has what is left, if it is
// nothing.
func fragments(op opcode, message string, size int) (frames []wireFrame) {
	for ; len(message) >= size; message = message[size:] {
		frames = append(frames, wireFrame{op: op, payload: message[:size], more: true})
		op = opContinuation
	}
	return append(frames, wireFrame{op: op, payload: message})
}

// A turn of a conversation: the peer sends, then Atrium answers.
type turn struct {
	send []wireFrame
	want []wireFrame
	chop int // bytes a write; 0 stands for everything in one
	held int // bytes that are never sent, of the end
}

// frameByFrame as a chop gives each frame a write of its own.
const frameByFrame = -1

func sends(frames ...wireFrame) turn          { return turn{send: frames} }
func (u turn) wants(frames ...wireFrame) turn { u.want = frames; return u }
func (u turn) chopped(bytes int) turn         { u.chop = bytes; return u }
func (u turn) withoutTheLast(bytes int) turn  { u.held = bytes; return u }

// echoed sends the frames of one message and wants it back in one.
func echoed(frames ...wireFrame) turn {
	whole := frames[0]
	whole.more = false
	for _, f := range frames[1:] {
		whole.payload += f.payload
	}
	return sends(frames...).wants(whole)
}

// A conformanceCase is a conversation and its end.
type conformanceCase struct {
	id    string
	turns []turn
	times int // the turns are repeated; 0 means once

	// end is the code of Atrium's close frame, or 1005 for an empty one. Unless a turn has a close
	// frame, it is a peer's violation that Atrium ends the connection for. 0 means that the peer
	// begins the close when all is said.
	end StatusCode
}

func (c conformanceCase) hasClose() bool {
	return slices.ContainsFunc(c.turns, func(u turn) bool {
		return slices.ContainsFunc(u.send, func(f wireFrame) bool { return f.op == opClose && f.rsv == 0 })
	})
}

// TestConformance is the suite without its groups 12 and 13, which need compression.
func TestConformance(t *testing.T) {
	overSetups(t, func(t *testing.T, s setup) {
		for _, group := range []struct {
			name  string
			cases func() []conformanceCase
			size  int // cases in the suite; what has a name instead of a number is added to it
			kinds []kind
		}{
			{"1 framing", framingCases, 16, kinds},
			{"2 pings and pongs", pingCases, 11, kinds},
			{"3 reserved bits", reservedBitCases, 7, kinds},
			{"4 opcodes", opcodeCases, 10, kinds},
			{"5 fragmentation", fragmentationCases, 20, kinds},
			{"6 UTF-8", utf8Cases, 13, kinds},
			{"6 UTF-8 sequences", utf8SequenceCases, 132, []kind{overPipe, overTCP}},
			{"7 closing", closingCases, 37, kinds},
			{"9 limits", limitCases, 54, []kind{overTCP}},
			{"10 auto-fragmentation", autoFragmentationCases, 1, kinds},
		} {
			if !slices.ContainsFunc(group.kinds, func(k kind) bool { return k.name == s.kind.name }) {
				continue
			}
			t.Run(group.name, func(t *testing.T) {
				noLeaks(t)
				numbered := 0
				for _, c := range group.cases() {
					if !strings.Contains(c.id, " ") {
						numbered++
					}
					t.Run(c.id, func(t *testing.T) { s.play(t, c) })
				}
				if numbered != group.size {
					t.Errorf("%d cases, want %d", numbered, group.size)
				}
			})
		}
	})
}

func framingCases() (cases []conformanceCase) {
	for i, frame := range []func(string) wireFrame{textFrame, binaryFrame} {
		for j, size := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			u := echoed(frame(strings.Repeat([]string{"*", "\xfe"}[i], size)))
			if j == 7 {
				u = u.chopped(997)
			}
			cases = append(cases, conformanceCase{id: fmt.Sprintf("1.%d.%d", i+1, j+1), turns: []turn{u}})
		}
	}
	return cases
}

func pingCases() []conformanceCase {
	ponged := func(payloads ...string) (u turn) {
		for _, s := range payloads {
			u.send, u.want = append(u.send, pingFrame(s)), append(u.want, pongFrame(s))
		}
		return u
	}
	ten := make([]string, 10)
	for i := range ten {
		ten[i] = fmt.Sprintf("payload-%d", i)
	}
	return []conformanceCase{
		{id: "2.1", turns: []turn{ponged("")}},
		{id: "2.2", turns: []turn{ponged("Hello, world!")}},
		{id: "2.3", turns: []turn{ponged("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")}},
		{id: "2.4", turns: []turn{ponged(strings.Repeat("\xfe", 125))}},
		{id: "2.5", turns: []turn{sends(pingFrame(strings.Repeat("\xfe", 126)))}, end: 1002},
		{id: "2.6", turns: []turn{ponged(strings.Repeat("\xfe", 125)).chopped(1)}},
		{id: "2.7", turns: []turn{sends(pongFrame(""))}},
		{id: "2.8", turns: []turn{sends(pongFrame("unsolicited pong payload"))}},
		{id: "2.9", turns: []turn{sends(pongFrame("unsolicited pong payload"), pingFrame("ping payload")).wants(pongFrame("ping payload"))}},
		{id: "2.10", turns: []turn{ponged(ten...)}},
		{id: "2.11", turns: []turn{ponged(ten...).chopped(1)}},
	}
}

// afterHello is a turn that begins with a good message, which is echoed although what follows it is
// a violation.
func afterHello(frames ...wireFrame) turn {
	hello := textFrame("Hello, world!")
	return sends(append([]wireFrame{hello}, frames...)...).wants(hello)
}

func reservedBitCases() []conformanceCase {
	hello, ping := textFrame("Hello, world!"), pingFrame("")
	return []conformanceCase{
		{id: "3.1", turns: []turn{sends(hello.reserved(1))}, end: 1002},
		{id: "3.2", turns: []turn{afterHello(hello.reserved(2), ping)}, end: 1002},
		{id: "3.3", turns: []turn{afterHello(hello.reserved(3), ping).chopped(frameByFrame)}, end: 1002},
		{id: "3.4", turns: []turn{afterHello(hello.reserved(4), ping).chopped(1)}, end: 1002},
		{id: "3.5", turns: []turn{sends(binaryFrame("\x00\xff\xfe\xfd\xfc\xfb\x00\xff").reserved(5))}, end: 1002},
		{id: "3.6", turns: []turn{sends(pingFrame("Hello, world!").reserved(6))}, end: 1002},
		{id: "3.7", turns: []turn{sends(closeFrame(0, "").reserved(7))}, end: 1002},
	}
}

func opcodeCases() (cases []conformanceCase) {
	for i, first := range []opcode{3, 11} {
		bare := func(n opcode) wireFrame { return wireFrame{op: first + n} }
		full := func(n opcode) wireFrame { return wireFrame{op: first + n, payload: "reserved opcode payload"} }
		for j, u := range []turn{
			sends(bare(0)),
			sends(full(1), pingFrame("")),
			afterHello(bare(2), pingFrame("")),
			afterHello(full(3), pingFrame("")),
			afterHello(full(4), pingFrame("")).chopped(1),
		} {
			cases = append(cases, conformanceCase{id: fmt.Sprintf("4.%d.%d", i+1, j+1), turns: []turn{u}, end: 1002})
		}
	}
	return cases
}

func fragmentationCases() (cases []conformanceCase) {
	one, two := textFrame("fragment1").unfinished(), contFrame("fragment2")
	whole, ping, pong := textFrame("fragment1fragment2"), pingFrame("ping payload"), pongFrame("ping payload")
	hello, nothing := textFrame("Hello, world!"), contFrame("non-continuation payload")
	add := func(u turn, end StatusCode) {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("5.%d", len(cases)+1), turns: []turn{u}, end: end})
	}
	chops := []int{0, frameByFrame, 1}
	add(sends(ping.unfinished(), contFrame("fragment2")), 1002)
	add(sends(pong.unfinished(), contFrame("fragment2")), 1002)
	for _, chop := range chops {
		add(sends(one, two).wants(whole).chopped(chop), 0)
	}
	for _, chop := range chops {
		add(sends(one, ping, two).wants(pong, whole).chopped(chop), 0)
	}
	for _, chop := range chops {
		add(sends(nothing, hello).chopped(chop), 1002)
	}
	for _, chop := range chops {
		add(sends(nothing.unfinished(), hello).chopped(chop), 1002)
	}
	add(sends(one, two, contFrame("fragment3").unfinished(), textFrame("fragment4")).wants(whole), 1002)
	for _, last := range []wireFrame{contFrame("fragment1").unfinished(), contFrame("fragment1")} {
		round := []wireFrame{last, textFrame("fragment2").unfinished(), contFrame("fragment3")}
		add(sends(append(round, round...)...), 1002)
	}
	add(sends(one, textFrame("fragment2")), 1002)
	for _, chop := range chops[:2] {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("5.%d", len(cases)+1), turns: []turn{
			sends(one, two.unfinished(), pingFrame("pongme 1!")).wants(pongFrame("pongme 1!")).chopped(chop),
			sends(contFrame("fragment3").unfinished(), contFrame("fragment4").unfinished(), pingFrame("pongme 2!"), contFrame("fragment5")).
				wants(pongFrame("pongme 2!"), textFrame("fragment1fragment2fragment3fragment4fragment5")).chopped(chop),
		}})
	}
	return cases
}

const kosme = "κ\u1f79σμε" // eleven bytes

func utf8Cases() []conformanceCase {
	hello := "Hello-µ@ßöäüàá-UTF-8!!"
	empty := textFrame("").unfinished()
	// The byte after the eleven and the ED or F4 is the first that cannot be text.
	surrogate, tooLarge := kosme+"\xed\xa0\x80"+"edited", kosme+"\xf4\x90\x80\x80"+"edited"
	// A ping that is answered shows that the fragment before it was accepted.
	accepted := func(s string) turn {
		return sends(textFrame(s).unfinished(), pingFrame("accepted?")).wants(pongFrame("accepted?"))
	}
	return []conformanceCase{
		{id: "6.1.1", turns: []turn{echoed(textFrame(""))}},
		{id: "6.1.2", turns: []turn{echoed(empty, contFrame("").unfinished(), contFrame(""))}},
		{id: "6.1.3", turns: []turn{echoed(empty, contFrame("middle frame payload").unfinished(), contFrame(""))}},
		{id: "6.2.1", turns: []turn{echoed(textFrame(hello))}},
		{id: "6.2.2", turns: []turn{echoed(textFrame(hello[:12]).unfinished(), contFrame(hello[12:]))}},
		{id: "6.2.3", turns: []turn{echoed(fragments(opText, hello, 1)...)}},
		{id: "6.2.4", turns: []turn{echoed(fragments(opText, kosme, 1)...)}},
		{id: "6.3.1", turns: []turn{sends(textFrame(surrogate))}, end: 1007},
		{id: "6.3.2", turns: []turn{sends(fragments(opText, surrogate, 1)...)}, end: 1007},
		// Fail fast: the rest of these messages is never sent.
		{id: "6.4.1", turns: []turn{accepted(tooLarge[:11]), sends(contFrame(tooLarge[11:15]).unfinished())}, end: 1007},
		{id: "6.4.2", turns: []turn{accepted(tooLarge[:12]), sends(contFrame(tooLarge[12:13]).unfinished())}, end: 1007},
		{id: "6.4.3", turns: []turn{sends(textFrame(tooLarge)).withoutTheLast(6).chopped(11)}, end: 1007},
		{id: "6.4.4", turns: []turn{sends(textFrame(tooLarge)).withoutTheLast(8).chopped(1)}, end: 1007},
	}
}

// utf8SequenceCases has the sequences of Markus Kuhn's decoder test, each in one frame. Besides,
// under names, it has the good ones a byte a write, and the bad ones up to the first byte that
// cannot be text, the rest being withheld.
func utf8SequenceCases() (cases []conformanceCase) {
	pad := func(lead string, n int, last string) string { return lead + strings.Repeat("\x80", n-2) + last }
	surrogate := func(r int) string { return string([]byte{0xed, 0x80 | byte(r>>6&0x3f), 0x80 | byte(r&0x3f)}) }
	leads := []string{"\xc0", "\xe0", "\xf0", "\xf8", "\xfc"} // of two to six bytes
	var prefixes, stray, lonely, short, slashes, nuls, pairs, nonCharacters, specials []string
	for i := range len(kosme) {
		prefixes = append(prefixes, kosme[:i+1])
	}
	for i := range 6 {
		stray = append(stray, strings.Repeat("\x80\xbf", 3)[:i+1])
	}
	stray = slices.Insert(stray, 1, "\xbf")
	var all []byte
	for b := byte(0x80); b < 0xbf; b++ {
		all = append(all, b)
	}
	stray = append(stray, string(all))
	for _, r := range []struct{ from, to byte }{{0xc0, 0xdf}, {0xe0, 0xef}, {0xf0, 0xf7}, {0xf8, 0xfb}, {0xfc, 0xfd}} {
		var s []byte
		for b := r.from; b < r.to; b++ {
			s = append(s, b, ' ')
		}
		lonely = append(lonely, string(s))
	}
	for i, lead := range leads {
		short = append(short, lead+strings.Repeat("\x80", i))
		slashes = append(slashes, pad(lead, i+2, "\xaf"))
		nuls = append(nuls, pad(lead, i+2, "\x80"))
	}
	for i, lead := range []string{"\xdf", "\xef", "\xf7", "\xfb", "\xfd"} {
		short = append(short, lead+strings.Repeat("\xbf", i))
	}
	for _, high := range []int{0xd800, 0xdb7f, 0xdb80, 0xdbff} {
		pairs = append(pairs, surrogate(high)+surrogate(0xdc00), surrogate(high)+surrogate(0xdfff))
	}
	for plane := rune(0); plane <= 16; plane++ {
		nonCharacters = append(nonCharacters, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	for r := rune(0xfff9); r <= 0xffff; r++ {
		specials = append(specials, string(r))
	}
	for i, group := range [][]string{
		{"hello$world", "hello¢world", "hello€world", "hello𤭢world", kosme},
		prefixes,
		{"\x00", "\u0080", "\u0800", "\U00010000"},                               // the first of each length
		{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"},                     // five and six bytes
		{"\x7f", "\u07ff", "\uffff", "\U0010ffff"},                               // the last of each length
		{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}, // past U+10FFFF
		{"\ud7ff", "\ue000", "\ufffd", "\U0010ffff", "\xf4\x90\x80\x80"},         // at other bounds
		stray,                                // continuation bytes
		lonely,                               // first bytes
		short,                                // the last byte is missing
		{strings.Join(short, "")},            //
		{"\xfe", "\xff", "\xfe\xfe\xff\xff"}, // never in UTF-8
		slashes,                              // overlong
		{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}, // overlong, the largest
		nuls, // overlong
		{surrogate(0xd800), surrogate(0xdb7f), surrogate(0xdb80), surrogate(0xdbff), surrogate(0xdc00), surrogate(0xdf80), surrogate(0xdfff)},
		pairs,
		nonCharacters,
		specials,
	} {
		for j, s := range group {
			id := fmt.Sprintf("6.%d.%d", i+5, j+1)
			if utf8.ValidString(s) {
				cases = append(cases,
					conformanceCase{id: id, turns: []turn{echoed(textFrame(s))}},
					conformanceCase{id: id + " bytewise", turns: []turn{echoed(textFrame(s)).chopped(1)}})
				continue
			}
			cases = append(cases, conformanceCase{id: id, turns: []turn{sends(textFrame(s))}, end: 1007})
			bad := 1
			for bad <= len(s) && canBecomeText([]byte(s[:bad])) {
				bad++
			}
			if bad <= len(s) {
				u := sends(textFrame("valid: " + s + "more")).withoutTheLast(len(s) + len("more") - bad)
				cases = append(cases,
					conformanceCase{id: id + " fails fast", turns: []turn{u}, end: 1007},
					conformanceCase{id: id + " fails fast bytewise", turns: []turn{u.chopped(1)}, end: 1007})
			}
		}
	}
	return cases
}

func closingCases() []conformanceCase {
	hello, bye, ping := textFrame("Hello World!"), closeFrame(1000, ""), pingFrame("")
	big := textFrame(repeated("BAsd7&jh23", 256<<10))
	cases := []conformanceCase{
		{id: "7.1.1", turns: []turn{echoed(hello)}},
		{id: "7.1.2", turns: []turn{sends(bye, bye)}, end: 1000},
		{id: "7.1.3", turns: []turn{sends(bye, ping)}, end: 1000},
		{id: "7.1.4", turns: []turn{sends(bye, hello)}, end: 1000},
		{id: "7.1.5", turns: []turn{sends(textFrame("fragment1").unfinished(), bye, contFrame("fragment2"))}, end: 1000},
		// Informational in the suite. Atrium answers in order.
		{id: "7.1.6", turns: []turn{sends(big, hello, bye, ping).wants(big, hello)}, end: 1000},
		{id: "7.3.1", turns: []turn{sends(closeFrame(0, ""))}, end: 1005},
		{id: "7.3.2", turns: []turn{sends(wireFrame{op: opClose, payload: "a"})}, end: 1002},
		{id: "7.3.3", turns: []turn{sends(bye)}, end: 1000},
		{id: "7.3.4", turns: []turn{sends(closeFrame(1000, "Hello World!"))}, end: 1000},
		{id: "7.3.5", turns: []turn{sends(closeFrame(1000, strings.Repeat("*", 123)))}, end: 1000},
		{id: "7.3.6", turns: []turn{sends(closeFrame(1000, strings.Repeat("*", 124)))}, end: 1002},
		{id: "7.5.1", turns: []turn{sends(closeFrame(1000, kosme+"\xed\xa0\x80edited"))}, end: 1007},
	}
	for i, code := range []StatusCode{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("7.7.%d", i+1), turns: []turn{sends(closeFrame(code, ""))}, end: code})
	}
	forbidden := func(id string, code StatusCode) {
		f := wireFrame{op: opClose, payload: string([]byte{byte(code >> 8), byte(code)})}
		cases = append(cases, conformanceCase{id: id, turns: []turn{sends(f)}, end: 1002})
	}
	for i, code := range []StatusCode{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		forbidden(fmt.Sprintf("7.9.%d", i+1), code)
	}
	// Informational in the suite.
	forbidden("7.13.1", 5000)
	forbidden("7.13.2", 65535)
	return cases
}

func limitCases() (cases []conformanceCase) {
	const kb, mb = 1 << 10, 1 << 20
	add := func(group, number, times int, u turn) {
		cases = append(cases, conformanceCase{id: fmt.Sprintf("9.%d.%d", group, number+1), turns: []turn{u}, times: times})
	}
	// The suite's messages are of 4 MiB where these are of 256 KiB, and it has 1,000 where these
	// are 200. The race detector looks at every byte, many times.
	stars := strings.Repeat("*", 256*kb)
	for i, frame := range []func(string) wireFrame{textFrame, binaryFrame} {
		filled := repeated([]string{"BAsd7&jh23", "\x00\xfe\x23\xfa\xf0"}[i], 16*mb)
		for j, size := range []int{64 * kb, 256 * kb, mb, 4 * mb, 8 * mb, 16 * mb} {
			if size < 16*mb || frame("").op == opBinary {
				size /= 4 // one of 16 MiB is enough
			}
			add(1+i, j, 1, echoed(frame(filled[:size])))
		}
		for j, size := range []int{64, 256, kb, 4 * kb, 16 * kb, 64 * kb, 256 * kb, mb, 4 * mb} {
			add(3+i, j, 1, sends(fragments(frame("").op, stars, size)...).wants(frame(stars)))
		}
		for j, chop := range []int{64, 128, 256, 512, kb, 2 * kb} {
			add(5+i, j, 1, echoed(frame(filled[:256*kb])).chopped(chop))
		}
		for j, size := range []int{0, 16, 64, 256, kb, 4 * kb} {
			add(7+i, j, 200, echoed(frame(filled[:size])))
		}
	}
	return cases
}

func repeated(s string, size int) string { return strings.Repeat(s, size/len(s)+1)[:size] }

func autoFragmentationCases() []conformanceCase {
	return []conformanceCase{{id: "10.1.1", turns: []turn{echoed(fragments(opText, strings.Repeat("*", 65536), 1300)...)}}}
}

// play holds one conversation with a new echo.
func (s setup) play(t *testing.T, c conformanceCase) {
	p, ended, _ := s.startEcho(t, false)
	for range max(c.times, 1) {
		for _, u := range c.turns {
			p.take(u)
		}
	}
	s.part(t, p, ended, c)
}

// part ends the conversation: first WebSocket, then TCP, then the echo.
func (s setup) part(t *testing.T, p *peer, ended <-chan error, c conformanceCase) {
	t.Helper()
	end := cmp.Or(c.end, StatusNormalClosure)
	if c.end == 0 {
		p.take(sends(closeFrame(end, "")))
	}
	if end == StatusNoStatusReceived {
		p.want(opClose, "")
	} else {
		p.wantCloseCode(end)
	}
	if c.end != 0 && !c.hasClose() {
		p.take(sends(closeFrame(end, "")))
	}
	// RFC 6455 §7.1.1: the server closes TCP first. A net.Pipe has no sides to close one by one.
	pipe := s.kind.name == overPipe.name
	if s.client || pipe {
		within(t, p.sent(), "what the peer sends")
		if half, ok := p.nc.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		} else {
			p.nc.Close()
		}
	}
	if !pipe {
		p.wantEnd()
		p.nc.Close()
	}
	err := within(t, ended, "the end of the echo")
	if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != end {
		t.Errorf("the echo ended with %v, want status %d", err, end)
	}
}

// take sends a turn and expects its answers.
func (p *peer) take(u turn) {
	p.t.Helper()
	var stream []byte
	for _, f := range u.send {
		h := frameHeader{Fin: !f.more, Rsv1: f.rsv&4 != 0, Rsv2: f.rsv&2 != 0, Rsv3: f.rsv&1 != 0, Opcode: f.op}
		stream = append(stream, p.encode(h, f.payload)...)
		if u.chop == frameByFrame {
			p.send(stream)
			stream = nil
		}
	}
	stream = stream[:len(stream)-u.held]
	if u.chop <= 0 {
		u.chop = max(len(stream), 1)
	}
	for piece := range slices.Chunk(stream, u.chop) {
		p.send(piece)
	}
	for _, f := range u.want {
		p.want(f.op, f.payload)
	}
}

// startEcho connects an echo, a server's or a client's, and its peer. The error with which the
// echo's reading ended comes when its connection is closed. The lines are of the peer's handshake;
// extensions is what the echo's says.
func (s setup) startEcho(t *testing.T, compression bool, lines ...string) (p *peer, ended <-chan error, extensions string) {
	t.Helper()
	over := make(chan error, 1)
	echo := func(c *Conn, err error) {
		for err == nil {
			var t MessageType
			var b []byte
			if t, b, err = c.Read(context.Background()); err == nil {
				err = c.Write(context.Background(), t, b)
			}
		}
		if c != nil {
			c.Close(StatusNormalClosure, "")
		}
		over <- err
	}
	const header, readLimit = "Sec-WebSocket-Extensions", 64 << 20
	if !s.client {
		srv := serve(t, s.kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			echo(Upgrade(w, r, UpgradeOptions{MaxMessageBytes: readLimit, Compression: level(compression)}))
		}))
		nc := srv.raw(t)
		r := request(t, nc, handshakeHead+strings.Join(append(lines, "", ""), "\r\n"))
		return newPeer(t, nc, r.rest, true), over, r.Header.Get(header)
	}
	srv := &server{s.kind, s.kind.listen(t)}
	defer srv.listener.Close()
	go func() {
		c, _, err := Dial(limited(t), srv.url("/"), srv.trusting(DialOptions{MaxMessageBytes: readLimit, Compression: level(compression)}))
		echo(c, err)
	}()
	nc, err := srv.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p = newPeer(t, nc, nil, false)
	r, err := http.ReadRequest(bufio.NewReader(nc)) // behind it there is nothing before the answer
	if err != nil {
		t.Fatal(err)
	}
	p.send([]byte(switching(acceptKey(r.Header.Get("Sec-WebSocket-Key")), lines...)))
	return p, over, r.Header.Get(header)
}
