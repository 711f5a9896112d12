package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// A page that knows nothing of Atrium but the address.
const barePage = `<!doctype html>
<html lang="en"><title>Bare</title><link rel="icon" href="data:,">
<script>
	const got = [];
	const socket = new WebSocket(location.origin.replace('http', 'ws') + '/events');
	socket.onmessage = ({ data }) => got.push(data);
	socket.onclose = ({ code }) => got.push('closed ' + code);
</script>`

type sum struct{ A, B int }

func (s sum) Validate() error {
	if s.A < 0 || s.B < 0 {
		return atrium.Errorf("No negative numbers")
	}
	return nil
}

// TestBareWebSocket: new WebSocket(url) is client enough.
func TestBareWebSocket(t *testing.T) {
	t.Parallel()
	h := atrium.New(atrium.Options{})
	atrium.On(h, "shout", func(s *atrium.Socket, text string) error { return s.Emit("heard", text+"!") })
	atrium.On(h, "secret", func(*atrium.Socket, string) error { return fmt.Errorf("the password is 1234") })
	atrium.OnCall(h, "add", func(_ *atrium.Socket, s sum) (int, error) { return s.A + s.B, nil })
	ids := make(chan string, 1)
	h.OnConnect(func(s *atrium.Socket) {
		s.Join("everyone")
		ids <- s.ID()
	})
	mux := http.NewServeMux()
	mux.Handle("/events", h)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, barePage)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)

	p := open(t, srv.URL+"/")
	received := 0
	next := func() string {
		t.Helper()
		p.until(fmt.Sprintf(`got.length > %d`, received))
		received++
		return read[string](p, fmt.Sprintf(`got[%d]`, received-1))
	}
	expect := func(want string) {
		t.Helper()
		if got := next(); !sameJSON(got, want) {
			t.Errorf("the page received %s, want %s", got, want)
		}
	}
	send := func(message string) {
		t.Helper()
		read[bool](p, `(socket.send(`+js(message)+`), true)`)
	}

	id := <-ids
	expect(`{"event":"connect","data":{"sid":"` + id + `"}}`)

	h.To("everyone").Emit("news", map[string]int{"n": 1})
	expect(`{"event":"news","data":{"n":1}}`)
	send(`{"event":"shout","data":"hello 🌿"}`)
	expect(`{"event":"heard","data":"hello 🌿!"}`)

	send(`{"event":"add","data":{"A":2,"B":40},"id":7}`)
	expect(`{"id":7,"data":42}`)
	send(`{"event":"add","data":{"A":-1,"B":1},"id":9007199254740991}`)
	expect(`{"id":9007199254740991,"error":{"message":"No negative numbers"}}`)
	send(`{"event":"secret","data":"","id":8}`)
	expect(`{"id":8,"error":{"message":"internal error"}}`)
	send(`{"event":"add","data":{"A":-1,"B":1}}`)
	expect(`{"event":"error","data":{"event":"add","message":"No negative numbers"}}`)

	// The hub may ask as well.
	answer := make(chan string, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		replies, err := h.To("everyone").Call(ctx, "well?")
		answer <- fmt.Sprintf("%s %v", replies[0].Data, err)
	}()
	var question struct {
		Event string
		ID    int64
	}
	if err := json.Unmarshal([]byte(next()), &question); err != nil || question.Event != "well?" {
		t.Fatalf("the page was asked %+v (%v), want well?", question, err)
	}
	send(fmt.Sprintf(`{"id":%d,"data":"yes"}`, question.ID))
	select {
	case got := <-answer:
		if got != `["yes"] <nil>` && got != `"yes" <nil>` {
			t.Errorf("the hub got the answer %s", got)
		}
	case <-time.After(patience):
		t.Error("the hub got no answer")
	}

	read[bool](p, `(socket.send(new Uint8Array([1, 2, 3])), true)`)
	if got := next(); got != "closed 1003" {
		t.Errorf("after a binary message the page saw %s, want closed 1003", got)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	s, _ := json.Marshal(x) // what was JSON is JSON again, keys in order
	u, _ := json.Marshal(y)
	return string(s) == string(u)
}
