package atrium

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHandshake(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		before := time.Now()
		srv := serve(t, k, http.StripPrefix("/hub", h))
		nc := srv.raw(t)
		r := request(t, nc, "GET /hub/a%2Fb?x=1&x=2&empty HTTP/1.1\r\nHost: example.com:81\r\nUpgrade: websocket\r\n"+
			"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"+
			"cookie: a=b\r\nX-Twice: one\r\nx-twice:   two  \r\nX-Empty:\r\nX-Text: žluť; \"q\"\r\n\r\n")
		c := &client{newConn(nc, connConfig{client: true, readLimit: 1 << 20, maxQueued: 1 << 20, early: r.rest}), t, ""}
		t.Cleanup(func() { c.CloseNow() })
		var hello struct{ Sid string }
		c.expect("connect", &hello)
		c.sid = hello.Sid
		hs := c.socket(h).Handshake()

		want := http.Header{
			"Host": {"example.com:81"}, "Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"},
			"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"},
			"Cookie": {"a=b"}, "X-Twice": {"one", "two"}, "X-Empty": {""}, "X-Text": {`žluť; "q"`},
		}
		if diff := cmp.Diff(want, hs.Header()); diff != "" {
			t.Errorf("header: %s", diff)
		}
		hs.Header().Set("Cookie", "changed") // the caller's own
		if diff := cmp.Diff(want, hs.Header()); diff != "" {
			t.Errorf("header, again: %s", diff)
		}
		if u := hs.URL(); u.EscapedPath() != "/a%2Fb" || u.Path != "/a/b" || !cmp.Equal(u.Query()["x"], []string{"1", "2"}) || !u.Query().Has("empty") {
			t.Errorf("URL %v", u)
		}
		if got, want := hs.RemoteAddr(), nc.LocalAddr().String(); got != want {
			t.Errorf("remote address %q, want %q", got, want)
		}
		if hs.Secure() != (k.name == "tls") {
			t.Errorf("secure: %v", hs.Secure())
		}
		if at := hs.Time(); at.Before(before) || at.After(time.Now()) {
			t.Errorf("time %v", at)
		}
		if s := c.socket(h); s.Namespace() != h.Namespace || s.Namespace().Name() != "/" {
			t.Errorf("namespace %q", s.Namespace().Name())
		}
	})
}

// A handshake keeps nothing of the request, which net/http and routers use again.
func TestHandshakeKeepsNoRequest(t *testing.T) {
	r := httptest.NewRequest("GET", "/path?q=1", nil)
	r.Header.Set("X", "1")
	hs := newHandshake(r, "")
	r.Header.Set("X", "2")
	r.URL.Path, r.URL.RawQuery, r.RemoteAddr, r.Host = "/other", "", "", ""
	if hs.Header().Get("X") != "1" || hs.URL().String() != "/path?q=1" || hs.RemoteAddr() == "" || hs.Header().Get("Host") != "example.com" {
		t.Errorf("%v %v %v", hs.Header(), hs.URL(), hs.RemoteAddr())
	}
}

type testAuth struct {
	Token string
	Age   int8
	User  struct{ Tags []string }
}

func (a *testAuth) Validate() error {
	if a.Token == "" {
		return &Error{Message: "Token: expected one", Data: "Token"}
	}
	return nil
}

func TestHandshakeBind(t *testing.T) {
	tests := []struct{ auth, problem string }{
		{`{"token":"x"}`, ""},
		{`{"Token":"x","Age":-128,"User":{"Tags":["a"]},"more":1}`, ""},
		{``, "Token: expected one"},
		{`null`, "Token: expected one"},
		{`{}`, "Token: expected one"},
		{`{"Token":null}`, "Token: expected one"},
		{`7`, "auth: expected an object, got number"},
		{`"x"`, "auth: expected an object, got string"},
		{`[]`, "auth: expected an object, got array"},
		{`{"Token":5}`, "Token: expected a string, got number"},
		{`{"Token":"x","Age":200}`, "Age: expected an integer from -128 to 127, got number 200"},
		{`{"Token":"x","Age":1.5}`, "Age: expected an integer from -128 to 127, got number 1.5"},
		{`{"Token":"x","User":{"Tags":{}}}`, "User.Tags: expected an array, got object"},
		{`{"Token":"x","User":true}`, "User: expected an object, got bool"},
	}
	for _, test := range tests {
		var auth testAuth
		err := (&Handshake{auth: []byte(test.auth)}).Bind(&auth)
		e, shown := errors.AsType[*Error](err)
		switch {
		case test.problem == "":
			if err != nil || auth.Token != "x" {
				t.Errorf("%s: %v, %+v", test.auth, err, auth)
			}
		case !shown || e.Message != test.problem:
			t.Errorf("%s: got %v, want %s", test.auth, err, test.problem)
		}
	}
	kept := struct{ Token string }{"default"}
	if err := (&Handshake{}).Bind(&kept); err != nil || kept.Token != "default" {
		t.Errorf("without auth: %v, %v", err, kept)
	}
}

// The auth value reaches Bind as it was sent, and a client that offers no subprotocol has none.
func TestHandshakeAuth(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.Use(func(s *Socket) error {
			var auth any = "none"
			err := s.Handshake().Bind(&auth)
			s.Set("auth", auth)
			return err
		})
		srv := serve(t, k, h)
		for sent, want := range map[string]any{
			`{"event":"connect","data":{"a":[1]}}`: map[string]any{"a": []any{1.0}},
			`{"event":"connect","data":"secret"}`:  "secret",
			`{"event":"connect","args":[5]}`:       5.0,
			`{"event":"connect","data":null}`:      nil,
			`{"event":"connect"}`:                  "none",
			``:                                     "none",
		} {
			var c *client
			if sent == "" {
				c = srv.connect(t, nil)
			} else {
				c = srv.offer(t)
				if got := c.Subprotocol(); got != "" { // the test's client does not negotiate
					t.Error(got)
				}
				c.send(sent)
				var hello struct{ Sid string }
				c.expect("connect", &hello)
				c.sid = hello.Sid
			}
			if got, _ := c.socket(h).Get("auth"); !cmp.Equal(got, want) {
				t.Errorf("%s: auth %v, want %v", sent, got, want)
			}
		}
	})
}
