package atrium

import (
	"compress/flate"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Groups 12 and 13 of the Autobahn test suite: echoes of compressed messages. The suite's are a
// thousand a case, of files that it brings; here they are few, of data of the same kinds. Group
// 13.1 is 12.4 over again and left out, and the others of 13, which are about the handshake, go up
// to 32 KiB.

// conformanceSizes are the eighteen cases of each group: message size, and size of its fragments or
// 0 for none.
var conformanceSizes = []struct{ message, fragment int }{
	{16, 0}, {64, 0}, {256, 0}, {1 << 10, 0}, {4 << 10, 0}, {8 << 10, 0}, {16 << 10, 0}, {32 << 10, 0}, {64 << 10, 0}, {128 << 10, 0},
	{8 << 10, 256}, {16 << 10, 256}, {32 << 10, 256}, {64 << 10, 256}, {128 << 10, 256},
	{128 << 10, 1 << 10}, {128 << 10, 4 << 10}, {128 << 10, 32 << 10},
}

// deflateDemand is what the suite's end of the connection asks of Atrium's end.
type deflateDemand struct {
	noContext bool
	bits      int // of Atrium's window; 0: nothing is said
}

// offer is what the suite's client says when it demands d of the server.
func (d deflateDemand) offer() string {
	return d.parameters("permessage-deflate; client_no_context_takeover; client_max_window_bits", "server")
}

func (d deflateDemand) parameters(to, side string) string {
	if d.noContext {
		to += "; " + side + "_no_context_takeover"
	}
	if d.bits != 0 {
		to += "; " + side + "_max_window_bits=" + strconv.Itoa(d.bits)
	}
	return to
}

// TestConformanceDeflate is groups 12 and 13.
func TestConformanceDeflate(t *testing.T) {
	const size = 128 << 10
	pixels, mixed := make([]byte, size), random(size)
	for i := range pixels {
		pixels[i] = byte(i%512/4) + mixed[i]%4
	}
	for i := range size / 4 {
		mixed[i] = "0 0 obj << /Length >> "[i%22]
	}
	html := strings.ReplaceAll(string(jsonText(size)), "},", "</li>\n<li class=\"entry\">")
	prose, bitmap, sheet := &corpus{data: string(text(size, 1))}, &corpus{data: string(pixels)}, &corpus{data: string(mixed)}
	json, page := &corpus{data: string(jsonText(size))}, &corpus{data: html[:size]}
	for _, group := range []struct {
		id      string
		op      opcode
		data    *corpus
		demands []deflateDemand // the first that can be met
	}{
		{"12.1 prose", opBinary, prose, []deflateDemand{{}}},
		{"12.2 bitmap", opBinary, bitmap, []deflateDemand{{}}},
		{"12.3 sheet", opBinary, sheet, []deflateDemand{{}}},
		{"12.4 JSON", opText, json, []deflateDemand{{}}},
		{"12.5 page", opText, page, []deflateDemand{{}}},
		{"13.2 no context", opText, json, []deflateDemand{{true, 0}}},
		{"13.3 window 9", opText, json, []deflateDemand{{false, 9}}},
		{"13.3 window 8, as the suite once had it", opText, json, []deflateDemand{{false, 8}}},
		{"13.4 window 15", opText, json, []deflateDemand{{false, 15}}},
		{"13.5 no context and window 9", opText, json, []deflateDemand{{true, 9}}},
		{"13.6 no context and window 15", opText, json, []deflateDemand{{true, 15}}},
		{"13.7 three offers", opText, json, []deflateDemand{{true, 9}, {true, 0}, {false, 0}}},
	} {
		t.Run(group.id, func(t *testing.T) {
			for _, client := range []bool{false, true} {
				t.Run(map[bool]string{false: "server", true: "client"}[client], func(t *testing.T) {
					noLeaks(t)
					for _, c := range conformanceSizes {
						if strings.HasPrefix(group.id, "13.") && c.message > 32<<10 {
							continue
						}
						t.Run(fmt.Sprintf("%d by %d", c.message, c.fragment), func(t *testing.T) {
							s := setup{overTCP, client}
							p, ended := s.startDeflateEcho(t, group.demands)
							p.echoDeflated(group.op, group.data.messages(t, c.message), c.fragment, group.demands[0].bits)
							s.part(t, p, ended, conformanceCase{})
						})
					}
				})
			}
		})
	}
}

// startDeflateEcho connects an echo that compresses and meets the first demand.
func (s setup) startDeflateEcho(t *testing.T, demands []deflateDemand) (*peer, <-chan error) {
	t.Helper()
	want := demands[0]
	if s.client {
		// The suite's server accepts only if the offer lets it have what it demands.
		answer := want.parameters("permessage-deflate; server_no_context_takeover", "client")
		p, ended, offer := s.startEcho(t, true, "Sec-WebSocket-Extensions: "+answer)
		for _, needed := range []string{"server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"} {
			if !slices.Contains(strings.Split(offer, "; "), needed) {
				t.Errorf("the offer %q has no %s", offer, needed)
			}
		}
		return p, ended
	}
	var offers []string
	for _, d := range demands {
		offers = append(offers, d.offer())
	}
	p, ended, answer := s.startEcho(t, true, "Sec-WebSocket-Extensions: "+strings.Join(offers, ", "))
	got := strings.Split(answer, "; ")
	if got[0] != "permessage-deflate" {
		t.Fatalf("the answer is %q", answer)
	}
	for _, needed := range strings.Split(want.parameters("permessage-deflate", "server"), "; ") {
		if !slices.Contains(got, needed) {
			t.Errorf("the answer %q has no %s", answer, needed)
		}
	}
	return p, ended
}

// A corpus is what messages are taken from. Both forms are kept, because the race detector makes
// flate slow.
type corpus struct {
	data  string
	known map[int][]corpusMessage
}

type corpusMessage struct{ message, compressed string }

// messages returns a few messages of size bytes.
func (c *corpus) messages(t testing.TB, size int) []corpusMessage {
	if c.known[size] == nil {
		var b strings.Builder
		w, err := flate.NewWriter(&b, flate.DefaultCompression)
		if err != nil {
			t.Fatal(err)
		}
		var list []corpusMessage
		for i := range max(1, min(4, len(c.data)/8/size)) {
			message := c.data[i*size:][:size]
			b.Reset()
			w.Reset(&b) // Atrium asks for no context takeover in both roles
			io.WriteString(w, message)
			w.Flush()
			list = append(list, corpusMessage{message, strings.TrimSuffix(b.String(), deflateTail)})
		}
		if c.known == nil {
			c.known = make(map[int][]corpusMessage)
		}
		c.known[size] = list
	}
	return c.known[size]
}

// echoDeflated sends compressed messages and expects them back, one at a time. bits bounds the
// window of what comes back.
func (p *peer) echoDeflated(op opcode, messages []corpusMessage, fragment, bits int) {
	p.t.Helper()
	for i, m := range messages {
		frames := []wireFrame{{op: op, payload: m.compressed}}
		if fragment != 0 {
			frames = fragments(op, m.compressed, fragment)
		}
		frames[0].rsv = 4
		p.take(sends(frames...))

		h, got := p.next()
		if !h.Fin || h.Opcode != op || h.Rsv2 || h.Rsv3 {
			p.t.Fatalf("got %+v", h)
		}
		size := len(m.message)
		if size >= defaultThreshold && len(m.compressed) < size*3/4 && !h.Rsv1 {
			p.t.Errorf("%d bytes are echoed as they are, though they can be had in %d", size, len(m.compressed))
		}
		if h.Rsv1 {
			if i == 0 && bits != 0 && size <= 4<<10 {
				slow := slowInflater{in: []byte(got + deflateTail)}
				if !slow.inflate(len(got)) || slow.farthest > 1<<bits {
					p.t.Errorf("reaches back %d bytes, with a window of %d bits", slow.farthest, bits)
				}
			}
			inflated, err := io.ReadAll(flate.NewReader(strings.NewReader(got + deflateTail + deflateFinal)))
			if err != nil {
				p.t.Fatal(err)
			}
			got = string(inflated)
		}
		if got != m.message {
			p.t.Fatalf("message %d of %d bytes came back as %d bytes, changed", i, size, len(got))
		}
	}
}
