package atrium

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The queue counts what it takes of memory, and since when nobody has come for it.
func TestPollQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := pollQueue{limit: 250}
		q.push([]byte("4ab"))
		first := nanotime()
		<-time.After(time.Second)
		q.push([]byte("4c"), []byte("2"))
		if got, want := q.status(), (queueStatus{bytes: 6, cost: 6 + 3*frameOverhead, slowAt: first + int64(stallTimeout), since: first}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if diff := cmp.Diff([][]byte{[]byte("4ab"), []byte("4c"), []byte("2")}, q.popAll().packets); diff != "" {
			t.Error(diff)
		}
		q.push([]byte("6"))
		if got, want := q.status(), (queueStatus{bytes: 1, cost: 1 + frameOverhead, since: q.since}); got != want || q.since == first {
			t.Errorf("got %+v since %d, want %+v", got, q.since, want)
		}
	})
}

func TestPollingOverlap(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	srv := serve(t, overTCP, h)

	t.Run("GET", func(t *testing.T) {
		e := srv.joined(t)
		first := e.getting(h)
		e.get().want(t, 400, badRequest)
		within(t, first, "the first GET").want(t, 200, "1")
		e.wantOver(h, left, ReasonTransportError)
	})
	t.Run("POST", func(t *testing.T) {
		e := srv.joined(t)
		body, w := io.Pipe()
		first := make(chan reply, 1)
		go func() {
			answer, err := e.http.Post("http://example.com/socket.io/"+e.query(), "text/plain", body)
			if err != nil {
				t.Error(err)
				close(first)
				return
			}
			answer.Body.Close()
			first <- reply{status: answer.StatusCode}
		}()
		e.waitFor(h, "a POST", func(p *polling) bool { return p.posting })
		e.post("4").want(t, 400, badRequest)
		io.WriteString(w, `42["message"]`)
		w.Close()
		within(t, first, "the first POST")
		e.wantOver(h, left, ReasonTransportError)
	})
}

func TestPollingBrokenOff(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	srv := serve(t, overTCP, h)

	t.Run("GET", func(t *testing.T) {
		e := srv.joined(t)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := e.request(ctx, "GET", e.query(), "")
			gone <- err
		}()
		e.waitFor(h, "a GET", func(p *polling) bool { return p.getting })
		cancel()
		within(t, gone, "the GET")
		if r := e.get(); r.status != 400 && r.body != "1" {
			t.Errorf("the next GET is answered with %v", r)
		}
		e.wantOver(h, left, ReasonTransportError)
	})
	t.Run("POST", func(t *testing.T) {
		e := srv.joined(t)
		nc := srv.raw(t)
		fmt.Fprintf(nc, "POST /socket.io/%s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100\r\n\r\n42", e.query())
		e.waitFor(h, "a POST", func(p *polling) bool { return p.posting })
		nc.Close()
		wantReason(t, left, ReasonTransportError)
		e.wantForgotten(h) // OnDisconnect may come a moment before that
		e.wantOver(h, nil, "")
	})
	// The GET of a client that says goodbye and goes may be seen to end first.
	t.Run("GET while a POST is read", func(t *testing.T) {
		e := srv.joined(t)
		ctx, cancel := context.WithCancel(t.Context())
		go e.request(ctx, "GET", e.query(), "")
		e.waitFor(h, "a GET", func(p *polling) bool { return p.getting })
		nc := srv.raw(t)
		fmt.Fprintf(nc, "POST /socket.io/%s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2\r\n\r\n4", e.query())
		e.waitFor(h, "a POST", func(p *polling) bool { return p.posting })
		cancel()
		io.WriteString(nc, "1")
		wantReason(t, left, ReasonClientDisconnect)
		e.wantForgotten(h)
	})
}

// A POST that does not end is given up, however much of it comes.
func TestPollingEndlessPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: time.Hour, Message: 5 * time.Second}})
		left := leavings(h)
		srv := serve(t, overPipe, h)
		e := srv.joined(t)
		nc := srv.raw(t)
		start := time.Now()
		hungUp := make(chan struct{})
		go func() {
			defer close(hungUp)
			fmt.Fprintf(nc, "POST /socket.io/%s HTTP/1.1\r\nHost: example.com\r\nContent-Length: 1000\r\n\r\n", e.query())
			for range 1000 {
				if _, err := io.WriteString(nc, "4"); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}()
		wantReason(t, left, ReasonTransportError)
		wantAfter(t, h, "the end", start, 5*time.Second)
		nc.Close()
		<-hungUp
		e.wantOver(h, nil, "")
	})
}

// A slow upload is life, too.
func TestPollingSlowPost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newEcho(t, Options{Timeouts: Timeouts{PingInterval: 8 * time.Second, Ping: 6 * time.Second}})
		srv := serve(t, overPipe, h)
		e := srv.joined(t)
		body := `42["message","` + strings.Repeat("x", 26) + `"]`
		r, w := io.Pipe()
		go func() {
			for i := range body {
				<-time.After(time.Second)
				io.WriteString(w, body[i:i+1])
			}
			w.Close()
		}()
		answer, err := e.http.Post("http://example.com/socket.io/"+e.query(), "text/plain", r)
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
		got := e.get()
		for got.body == "2" {
			got = e.get()
		}
		got.body = strings.TrimPrefix(got.body, "2\x1e")
		got.want(t, 200, strings.Replace(body, "message", "message-back", 1))
		e.leave()
	})
}

func TestPollingBadPayloads(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{Limits: Limits{MessageBytes: 1000}})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	for _, test := range []struct {
		name, body string
		reason     Reason
		lines      []string
	}{
		{"of an earlier version", "42[\"message\"]", ReasonTransportError, []string{"Content-Type: application/octet-stream"}},
		{"unknown type", "abc", ReasonParseError, nil},
		{"empty", "", ReasonParseError, nil},
		{"empty packet", "3\x1e", ReasonParseError, nil},
		{"a ping", "2", ReasonParseError, nil},
		{"no base64", "b!", ReasonParseError, nil},
		{"no UTF-8", "4\xff", ReasonParseError, nil},
		{"binary from nowhere", "bAQID", ReasonParseError, nil},
		{"no Socket.IO", "4abc", ReasonParseError, nil},
		{"an empty message", "4", ReasonParseError, nil},
		{"a namespace not connected", `42/custom,["message"]`, ReasonParseError, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, waits := range []bool{false, true} {
				e := srv.polls(t)
				e.post("40").want(t, 200, "ok")
				e.get()
				var waiting <-chan reply
				if waits {
					waiting = e.getting(h)
				}
				e.post(test.body, test.lines...).want(t, 400, badRequest)
				if waits {
					within(t, waiting, "the GET").want(t, 200, "1")
				}
				e.wantOver(h, left, test.reason)
			}
		})
	}
}

// Packets before a bad one count.
func TestPollingPartlyBad(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	e := serve(t, overTCP, h).polls(t)
	e.post("40")
	e.get()
	e.post("41\x1eabc").want(t, 400, badRequest)
	wantReason(t, left, ReasonClientDisconnect)
	e.wantOver(h, nil, "")
}

// A POST over the limit ends the session at once: Socket.IO's client gives it up as well.
func TestPollingTooLarge(t *testing.T) {
	noLeaks(t)
	logger, out := newLog()
	h := newEcho(t, Options{Limits: Limits{MessageBytes: 1000}, Logger: logger})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	e := srv.joined(t)
	text := strings.Repeat("x", 1000-len(`42["message",""]`))
	e.post(`42["message","`+text+`"]`).want(t, 200, "ok")
	e.get().want(t, 200, `42["message-back","`+text+`"]`)
	const tooLarge = `{"code":3,"message":"Payload too large: a payload of 1001 bytes is over the limit of 1000"}`
	waiting := e.getting(h)
	e.post(strings.Repeat("4", 1001)).want(t, 413, tooLarge)
	within(t, waiting, "the GET").want(t, 200, "1")
	e.wantOver(h, left, ReasonMessageTooBig)
	if got := out.String(); strings.Count(got, "a payload of 1001 bytes is over the limit of 1000") != 1 || !strings.Contains(got, "Limits.MessageBytes") {
		t.Errorf("the log says %q", got)
	}

	// A body whose length is not declared.
	e = srv.joined(t)
	answer, err := e.http.Post("http://example.com/socket.io/"+e.query(), "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("4", 1001))))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	reply{status: answer.StatusCode, body: string(body)}.want(t, 413, `{"code":3,"message":"Payload too large: a payload is over the limit of 1000 bytes"}`)
	e.wantOver(h, left, ReasonMessageTooBig)
}

// Before a client is accepted it learns of the smaller limit that holds then, and its attachments
// count together, also those that come in several POSTs. Its GET is answered at once, and nobody
// waits for another.
func TestPollingTooLargeBeforeConnect(t *testing.T) {
	const both = `52-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`
	attachment := "b" + strings.Repeat("x", 60_000) // 45,000 bytes
	for _, row := range []struct {
		name, says string
		accepted   bool
		posts      []string // the last is refused
	}{
		{"a message", "a payload of 70000 bytes is over the limit of 65536", false, []string{strings.Repeat("4", 70_000)}},
		{"attachments", "a message with its attachments is over the limit of 65536 bytes", false, []string{"4" + both, attachment, attachment}},
		{"attachments of one that is accepted", "a message with its attachments is over the limit of 80000 bytes", true, []string{"4" + both, attachment, attachment}},
	} {
		t.Run(row.name, func(t *testing.T) {
			noLeaks(t)
			logger, out := newLog()
			h := newHub(t, Options{Limits: Limits{MessageBytes: 80_000}, Logger: logger})
			left := leavings(h)
			e := serve(t, overTCP, h).polls(t)
			if row.accepted {
				e.say("40")
				e.hear()
			}
			waiting := e.getting(h)
			last := len(row.posts) - 1
			for _, post := range row.posts[:last] {
				e.post(post).want(t, 200, "ok")
			}
			e.post(row.posts[last]).want(t, 413, `{"code":3,"message":"Payload too large: `+row.says+`"}`)
			within(t, waiting, "the GET").want(t, 200, "1")
			e.wantOver(h, nil, "")
			if row.accepted {
				wantReason(t, left, ReasonMessageTooBig)
			}
			h.checkNobody(t)
			if got := out.String(); strings.Count(got, row.says) != 1 {
				t.Errorf("the log says %q", got)
			}
		})
	}
}

func TestPollingPayloads(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).polls(t)
	r := e.post("40")
	r.want(t, 200, "ok")
	if r.header.Get("Content-Type") != "text/html" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("the headers are %v", r.header)
	}
	e.get()
	e.post("42[\"message\",1]\x1e6\x1e42[\"message\",\"2\"]\x1e3\x1e42[\"message\",{\"3\":[true]}]").want(t, 200, "ok")
	e.want(t, "42[\"message-back\",1]\x1e42[\"message-back\",\"2\"]\x1e42[\"message-back\",{\"3\":[true]}]")
	const two = `{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`
	e.post("452-7[\"bytes\","+two+"\x1ebAQIDBA==\x1eb\x1e42[\"message\"]").want(t, 200, "ok")
	e.want(t, "452-[\"bytes-back\","+two+"\x1ebAQIDBA==\x1eb\x1e462-7["+two+"\x1ebAQIDBA==\x1eb\x1e42[\"message-back\"]")
	// Attachments may come in another POST than their packet.
	e.post("452-[\"bytes\"," + two)
	e.post("bAQ==")
	e.post("bAg==")
	e.want(t, "452-[\"bytes-back\","+two+"\x1ebAQ==\x1ebAg==")
	e.leave()
}

// want expects the packets to be polled, in as many GETs as they come in.
func (e *engine) want(t testing.TB, payload string) {
	t.Helper()
	var got string
	for len(got) < len(payload) {
		r := e.get()
		if r.status != 200 {
			t.Fatalf("got %q, then %v", got, r)
		}
		if got != "" {
			got += "\x1e"
		}
		got += r.body
	}
	if diff := cmp.Diff(payload, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestPollingClientCloses(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	left := leavings(h)
	srv := serve(t, overTCP, h)
	t.Run("with a GET", func(t *testing.T) {
		e := srv.joined(t)
		waiting := e.getting(h)
		e.post("1").want(t, 200, "ok")
		within(t, waiting, "the GET").want(t, 200, "6")
		e.wantOver(h, left, ReasonTransportClose)
	})
	// The GET may have been sent before, and come later.
	t.Run("before a GET", func(t *testing.T) {
		e := srv.joined(t)
		e.post("1\x1e42[\"message\"]").want(t, 200, "ok")
		e.get().want(t, 200, "6")
		e.wantOver(h, left, ReasonTransportClose)
	})
	t.Run("with events", func(t *testing.T) {
		e := srv.joined(t)
		e.post("41\x1e1").want(t, 200, "ok")
		wantReason(t, left, ReasonClientDisconnect)
		e.wantForgotten(h)
	})
}

func TestPollingServerCloses(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	sockets := make(chan *Socket, 1)
	h.OnConnect(func(s *Socket) { sockets <- s })
	srv := serve(t, overTCP, h)
	t.Run("with a GET", func(t *testing.T) {
		e := srv.joined(t)
		waiting := e.getting(h)
		s := <-sockets
		s.session.end(ReasonShutdown, StatusGoingAway, "")
		within(t, waiting, "the GET").want(t, 200, "1")
		e.wantOver(h, nil, "")
	})
	t.Run("without a GET", func(t *testing.T) {
		e := srv.joined(t)
		s := <-sockets
		s.Emit("last")
		s.session.end(ReasonShutdown, StatusGoingAway, "")
		e.post(`42["message"]`).want(t, 200, "ok") // it crossed the news
		e.get().want(t, 200, `42["last"]`)
		e.get().want(t, 200, "1")
		e.wantOver(h, nil, "")
	})
	// Clients hand out messages a turn of their event loop later, but close at once: the last event
	// was lost, and the reason was "transport close".
	for _, waits := range []bool{true, false} {
		t.Run(fmt.Sprintf("after events, a GET waits: %t", waits), func(t *testing.T) {
			e := srv.joined(t)
			var first <-chan reply
			if waits {
				first = e.getting(h)
			}
			s := <-sockets
			s.Emit("bye")
			s.DisconnectClient()
			var packets []string
			if waits {
				packets = strings.Split(within(t, first, "the GET").body, "\x1e")
			}
			for last := ""; last != "1"; {
				last = e.get().body
				packets = append(packets, strings.Split(last, "\x1e")...)
			}
			if diff := cmp.Diff([]string{`42["bye"]`, "41", "1"}, packets); diff != "" {
				t.Error(diff)
			}
			e.wantOver(h, nil, "")
		})
	}
	t.Run("nobody polls for what is queued", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := New(Options{Logger: slog.New(slog.DiscardHandler)})
			e := serve(t, overPipe, h).polls(t)
			e.post("40").want(t, 200, "ok")
			synctest.Wait()
			start := time.Now()
			err := h.Shutdown(t.Context())
			if err == nil || err.Error() != "atrium: shutdown with 1 clients that did not take all that was queued for them" {
				t.Errorf("Shutdown: %v", err)
			}
			if waited := time.Since(start); waited != pollLinger {
				t.Errorf("waited for %v", waited)
			}
		})
	})
	t.Run("nobody polls, and Shutdown's context ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newEcho(t, Options{})
			serve(t, overPipe, h).polls(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown: %v", err)
			}
		})
	})
	t.Run("nobody polls", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newEcho(t, Options{})
			e := serve(t, overPipe, h).polls(t)
			start := time.Now()
			if err := h.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if waited := time.Since(start); waited != pollLinger {
				t.Errorf("waited for %v", waited)
			}
			e.get().want(t, 200, "1") // late
		})
	})
}

func TestPollingCompression(t *testing.T) {
	noLeaks(t)
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).polls(t)
	e.post("40")
	e.get()
	for _, test := range []struct {
		accepts string
		size    int
		want    string
	}{
		{"gzip, deflate", 2000, "gzip"},
		{"gzip, deflate", 100, ""},
		{"deflate", 2000, ""},
		{"gzip;q=0", 2000, ""},
		{"", 2000, ""},
	} {
		text := strings.Repeat("x", test.size)
		e.post(`42["message","` + text + `"]`)
		r := e.get("Accept-Encoding: " + test.accepts)
		if got := r.header.Get("Content-Encoding"); got != test.want {
			t.Errorf("%+v: Content-Encoding: %q", test, got)
		}
		if test.want == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(r.body))
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(z)
			r.body = string(b)
		}
		r.want(t, 200, `42["message-back","`+text+`"]`)
	}
	e.leave()
}

func TestPollingOrigins(t *testing.T) {
	noLeaks(t)
	for _, test := range []struct {
		name        string
		allowed     []string
		origin      string
		status      int
		allow, cred string
	}{
		{"listed", []string{"https://app.example.net"}, "https://app.example.net", 200, "https://app.example.net", "true"},
		{"null, listed", []string{"null"}, "null", 200, "null", "true"},
		{"file, listed", []string{"file://"}, "file://", 200, "file://", "true"},
		{"any", []string{"*"}, "https://app.example.net", 200, "*", ""},
		{"same", nil, "http://example.com", 200, "http://example.com", "true"},
		{"none", nil, "", 200, "", ""},
		{"foreign", []string{"https://app.example.net"}, "https://evil.example.net", 403, "", ""},
		{"foreign to all", nil, "null", 403, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newEcho(t, Options{AllowedOrigins: test.allowed})
			e := serve(t, overTCP, h).engine(t)
			var lines []string
			if test.origin != "" {
				lines = append(lines, "Origin: "+test.origin)
			}
			check := func(r reply, status int) {
				t.Helper()
				if r.status != status {
					t.Errorf("got %v, want %d", r, status)
				}
				got := []string{r.header.Get("Access-Control-Allow-Origin"), r.header.Get("Access-Control-Allow-Credentials")}
				if diff := cmp.Diff([]string{test.allow, test.cred}, got); diff != "" {
					t.Error(diff)
				}
				if test.allow != "" && r.header.Get("Vary") == "" {
					t.Error("no Vary")
				}
			}
			r := e.get(lines...)
			check(r, test.status)
			asks := append(lines, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type, x-token")
			preflight := e.do("OPTIONS", e.query(), "", asks...)
			if test.status == 403 {
				check(preflight, 403)
				if !strings.HasPrefix(r.body, `{"code":4,"message":"the origin `) {
					t.Errorf("refused with %s", r.body)
				}
				return
			}
			if test.origin != "" {
				check(preflight, 204)
			}
			headers, methods := preflight.header.Get("Access-Control-Allow-Headers"), preflight.header.Get("Access-Control-Allow-Methods")
			if test.origin != "" && (headers != "content-type, x-token" || !strings.Contains(methods, "POST")) {
				t.Errorf("the preflight is answered with %v", preflight.header)
			}
			e.sid = handshakeForm.FindStringSubmatch(r.body)[1]
			check(e.post("40", lines...), 200)
			check(e.get(lines...), 200)
			// A session is of use to the origins that are allowed, and to no other.
			if test.name != "any" {
				if r := e.get("Origin: https://evil.example.net"); r.status != 403 {
					t.Errorf("a foreign page polls: %v", r)
				}
			}
			e.leave()
		})
	}
}

// A page of another site without an Origin, such as an image there, has no business here.
func TestPollingCrossSite(t *testing.T) {
	h := newEcho(t, Options{})
	e := serve(t, overTCP, h).engine(t)
	if r := e.get("Sec-Fetch-Site: cross-site"); r.status != 403 {
		t.Errorf("got %v", r)
	}
}

// wrapped is the ResponseWriter of some middleware.
type wrapped struct {
	http.ResponseWriter
	inner http.ResponseWriter
}

func (w *wrapped) Unwrap() http.ResponseWriter { return w.inner }

// The deadlines of the http.Server are not for a GET that waits, not even behind middleware.
func TestPollingServerDeadlines(t *testing.T) {
	noLeaks(t)
	for _, wraps := range []bool{false, true} {
		h := newEcho(t, Options{})
		handler := http.Handler(h)
		if wraps {
			handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				h.ServeHTTP(&wrapped{struct{ http.ResponseWriter }{w}, w}, r)
			})
		}
		l := overTCP.listen(t)
		const timeout = time.Second
		srv := &http.Server{Handler: handler, ReadTimeout: timeout, WriteTimeout: timeout}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		s := &server{overTCP, l}
		e := s.polls(t)
		e.post("40")
		e.get()
		waiting := e.getting(h)
		<-time.After(timeout * 5 / 4) // it has all passed, for the request was read before
		h.Emit("late")
		within(t, waiting, "the GET").want(t, 200, `42["late"]`)
		c := e.probing()
		c.send("2probe")
		c.want("3probe")
		c.Close(StatusNormalClosure, "")
		e.leave()
	}
}
