package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

// polling is HTTP long-polling as a wire: a GET that waits, and POSTs one after the other, each
// with all that has been queued meanwhile.
type polling struct {
	client *Client
	http   *http.Transport
	url    string
	ctx    context.Context
	cancel context.CancelFunc

	arrived []string // of receive

	mu      sync.Mutex // guards:
	queued  []string
	posting bool
	failed  error // of a POST
}

// separator is between the packets of a payload.
const separator = "\x1e"

// openPolling makes a polling wire, whose first GET is the handshake.
func openPolling(c *Client) (*polling, error) {
	dial := func(context.Context, string, string) (net.Conn, error) {
		return process.Dial(net.Dialer{Timeout: handshakeLimit}, c.node.Addr, false)
	}
	p := &polling{client: c, http: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 2}, url: "http://" + c.node.Addr + "/hub?EIO=4&transport=polling"}
	p.ctx, p.cancel = context.WithCancel(c.ctx)
	text, err := p.ask("GET", "")
	if err != nil {
		p.cut()
		return nil, err
	}
	var opened struct{ SID string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "0")), &opened); err != nil {
		p.cut()
		return nil, fmt.Errorf("%w: %.60q in place of a handshake", errProtocol, text)
	}
	p.url += "&sid=" + opened.SID
	p.arrived = []string{text}
	return p, nil
}

// ask sends a request and returns the body of the response.
func (p *polling) ask(method, body string) (string, error) {
	r, err := http.NewRequestWithContext(p.ctx, method, p.url, strings.NewReader(body))
	check(err)
	if method == "POST" {
		r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	response, err := (&http.Client{Transport: p.http}).Do(r) // which follows a 307
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		what := method
		if !strings.Contains(p.url, "&sid=") {
			what = "handshake"
		}
		err = httpError{what, fmt.Sprintf("%s: %.100s", response.Status, b)}
	}
	return string(b), err
}

func (p *polling) receive() (string, error) {
	for len(p.arrived) == 0 {
		body, err := p.ask("GET", "")
		if err != nil {
			return "", p.ended(err)
		}
		p.arrived = strings.Split(body, separator)
	}
	text := p.arrived[0]
	p.arrived = p.arrived[1:]
	return text, nil
}

// ended returns why a wire has ended whose GET has failed: it may be a POST that has.
func (p *polling) ended(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return p.failed
	}
	return ended(err)
}

func (p *polling) send(text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued = append(p.queued, text)
	if !p.posting {
		p.posting = true
		go p.post()
	}
	return nil
}

// post sends what is queued until nothing is.
func (p *polling) post() {
	for {
		p.mu.Lock()
		body := strings.Join(p.queued, separator)
		p.queued = nil
		if body == "" || p.failed != nil {
			p.posting = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if _, err := p.ask("POST", body); err != nil {
			p.mu.Lock()
			p.failed = err
			p.mu.Unlock()
			p.cancel()
		}
	}
}

func (p *polling) leave(bye string) {
	p.ask("POST", bye+separator+"1") // if another is on its way, the server ends the session as well
	p.cut()
}

func (p *polling) cut() {
	p.cancel()
	p.http.CloseIdleConnections()
}

// upgraded returns a WebSocket that continues the session, with what the last GET has brought in
// front.
func (p *polling) upgraded() (wire, error) {
	ws, err := openWebSocket(p.client, strings.Replace(p.url[strings.Index(p.url, "?"):], "=polling", "=websocket", 1))
	if err != nil {
		p.cut()
		return nil, err
	}
	fail := func(err error) (wire, error) {
		ws.cut()
		p.cut()
		return nil, err
	}
	ws.SetDeadline(time.Now().Add(handshakeLimit))
	if err := ws.send("2probe"); err != nil {
		return fail(err)
	}
	if text, err := ws.receive(); err != nil || text != "3probe" {
		return fail(fmt.Errorf("%w: %q in answer to a probe: %w", errEnded, text, err))
	}
	if err := ws.send("5"); err != nil {
		return fail(err)
	}
	ws.SetDeadline(time.Time{})
	p.cut()
	return &continued{webSocket: ws, before: p.arrived}, nil
}

// continued is a WebSocket behind what came before it.
type continued struct {
	*webSocket
	before []string
}

func (w *continued) receive() (string, error) {
	if len(w.before) > 0 {
		text := w.before[0]
		w.before = w.before[1:]
		return text, nil
	}
	return w.webSocket.receive()
}
