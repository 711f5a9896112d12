package fuzz

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

var handshake = regexp.MustCompile(`^0\{"sid":"([\w-]{20})",.*\}$`)

// ioClient is a Socket.IO client that misbehaves: a session that polls, and perhaps a WebSocket.
type ioClient struct {
	h    *testHub
	m    medium
	t    *testing.T
	http http.Client
	sid  string
	ws   *atrium.Conn
}

// connectIO makes an ioClient, which polls or has a WebSocket.
func (h *testHub) connectIO(t *testing.T, m medium, polls bool) *ioClient {
	v := &ioClient{h: h, m: m, t: t}
	v.http.Transport = &http.Transport{DialContext: v.dial, DisableKeepAlives: true}
	if !polls {
		v.open("")
		return v
	}
	status, body := v.request("GET", "")
	found := handshake.FindStringSubmatch(body)
	if status != 200 || found == nil {
		t.Fatalf("the handshake is answered with %d %q", status, body)
	}
	v.sid = found[1]
	return v
}

func (v *ioClient) dial(context.Context, string, string) (net.Conn, error) {
	near, far := v.h.connect(v.t, v.m)
	v.h.accept <- far
	return near, nil
}

// request makes a request to the session.
func (v *ioClient) request(method, body string) (status int, answer string) {
	url := "http://here/?EIO=4&transport=polling"
	if v.sid != "" {
		url += "&sid=" + v.sid
	}
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		v.t.Fatal(err)
	}
	response, err := v.http.Do(r)
	if err != nil {
		v.t.Fatalf("%s %q: %v", method, body, err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		v.t.Fatalf("%s %q: %v", method, body, err)
	}
	return response.StatusCode, string(b)
}

// open opens a WebSocket: for the session, or as a new one.
func (v *ioClient) open(sid string) {
	url := "ws://here/?EIO=4&transport=websocket"
	if sid != "" {
		url += "&sid=" + sid
	}
	conn, response, err := atrium.Dial(context.Background(), url, atrium.DialOptions{DialContext: v.dial, Proxy: noProxy})
	if err != nil {
		if response == nil || response.StatusCode != 400 {
			v.t.Fatalf("Dial: %v", err)
		}
		return
	}
	v.ws = conn
}

// do does what one line of the input says.
func (v *ioClient) do(what byte, p []byte) {
	switch what % 4 {
	case 0:
		if v.sid == "" {
			return
		}
		body := bytes.ReplaceAll(p, []byte("|"), []byte("\x1e"))
		if status, answer := v.request("POST", string(body)); !slices.Contains([]int{200, 400, 413}, status) || status == 200 && answer != "ok" {
			v.t.Errorf("POST %q is answered with %d %q", body, status, answer)
		}
	case 1:
		if v.sid != "" && v.ws == nil {
			v.open(v.sid)
		}
	default:
		if v.ws != nil {
			// An error says that the hub has closed it; why, the session's tests say.
			_ = v.ws.Write(context.Background(), atrium.MessageType(1+what%4-2), p)
		}
	}
}

// leave ends whatever there is.
func (v *ioClient) leave() {
	if v.ws != nil {
		go v.ws.Close(atrium.StatusNormalClosure, "")
		for {
			if _, _, err := v.ws.Read(context.Background()); err != nil {
				break
			}
		}
		v.ws.NetConn().Close()
	}
	for v.sid != "" {
		v.request("POST", "1")
		if status, answer := v.request("GET", ""); status == 400 || answer == "6" {
			return
		}
	}
}

// newQuietHub is newTestHub for clients that hear nothing of each other, so that it does not matter
// when the handlers of one end.
func newQuietHub(f *testing.F) *testHub {
	h := &testHub{
		Hub:     newHub(),
		network: newNetwork(f),
	}
	h.server = serve(f, h.Hub)
	atrium.On(h.Hub, "join", func(s *atrium.Socket, room string) error { return s.Join(room) })
	atrium.OnCall(h.Hub, "echo", func(s *atrium.Socket, v json.RawMessage) (json.RawMessage, error) { return v, nil })
	atrium.OnCall(h.Hub, "ask", func(s *atrium.Socket, answer string) (atrium.Binary, error) {
		return atrium.Call[atrium.Binary](s.Context(), s, "question", answer)
	})
	h.Handle("raw", func(e *atrium.Event) {
		var a, b atrium.Binary
		if err := e.Bind(&a, &b); err != nil {
			e.ReplyError(err)
			return
		}
		e.Socket().Emit("raw", a, b)
		e.Reply(a, b)
	})
	h.Handle("boom", func(*atrium.Event) { panic("boom") })
	h.Handle("leave", func(e *atrium.Event) { e.Socket().Disconnect() })
	h.bystander = h.dial(f, overPipe, nil)
	f.Cleanup(func() {
		h.bystander.CloseNow()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			f.Error(err)
		}
	})
	if err := h.probe(h.bystander, 0, func(answer) {}); err != nil {
		f.Fatal(err)
	}
	return h
}

// FuzzEngine lets clients send anything to a hub by Socket.IO's protocols. Each line of the input
// is a POST (@), in which | stands for the separator, a WebSocket for the session (A), or a message
// on that, of text (B) or bytes (C).
func FuzzEngine(f *testing.F) {
	h := newQuietHub(f)
	for config := range uint8(4) {
		f.Add([]byte("@40\n@42[\"join\",\"r\"]|421[\"echo\",{}]\nA\nB2probe\nB5\nB42[\"echo\",1]\nB41"), config)
		f.Add([]byte("@40{\"name\":\"b\"}|452-[\"raw\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]|bAQID|b\n@1"), config)
		f.Add([]byte("B40\nB451-1[\"raw\",{\"_placeholder\":true,\"num\":0}]\nCabc\nB42[\"boom\"]\nB2"), config)
		f.Add([]byte("@40|42[\"raw\"]\nA\nB2probe\n@420[\"leave\"]\nB5\nB40\nB421[\"leave\"]\nB1"), config)
		f.Add([]byte("A\nB2\n@40/x|40\n@42[\"ask\",\"1\"]\nA\nC5\n@abc"), config)
		f.Add([]byte(fmt.Sprintf("@4%0*d\n@41", maxMessage, 1)), config)
	}
	f.Fuzz(func(t *testing.T, input []byte, config uint8) {
		defer guard(t)()
		v := h.connectIO(t, medium(config&1 != 0), config&2 != 0)
		for i, line := range bytes.Split(input, []byte("\n")) {
			if len(line) == 0 || i == 16 {
				break
			}
			v.do(line[0], line[1:])
		}
		v.leave()
		for deadline := time.Now().Add(patience / 2); ; runtime.Gosched() { // its handlers may still run
			count, err := h.Count(context.Background())
			if count == 1 && err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d sockets are left, %v", count, err)
			}
		}
		if err := h.probe(h.bystander, 0, func(answer) {}); err != nil {
			t.Fatalf("the bystander: %v", err)
		}
		if rooms := h.LocalRooms(); len(rooms) != 0 {
			t.Errorf("the rooms left are %v", rooms)
		}
	})
}
