package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/chromedp/cdproto/network"
)

// clientPage has client.js in both of its forms, under a policy as strict as they come.
const (
	clientPolicy = "default-src 'none'; script-src 'self'; connect-src 'self' ws://127.0.0.1:*; img-src data:; require-trusted-types-for 'script'; trusted-types 'none'"
	clientPage   = `<!doctype html>
<html lang="en"><title>client.js</title><link rel="icon" href="data:,">
<script src="/client.js?global"></script>
<script type="module" src="/client-page.mjs"></script>`
)

// TestClientScript runs the scenarios of client-scenarios.mjs with client.js, against a hub and
// against Node's own server; as a plain script against a hub only.
func TestClientScript(t *testing.T) {
	t.Parallel()
	needNode(t, "socket.io")
	l := newLab(t)
	names := read[[]string](openClient(t, l), `names`)
	for _, c := range []struct{ server, form string }{{"hub", "module"}, {"node", "module"}, {"hub", "plain script"}} {
		t.Run(c.server+"/"+c.form, func(t *testing.T) {
			for _, name := range names {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					p := openClient(t, l)
					if wrong := read[string](p, fmt.Sprintf(`run(%s, %s, %s)`, js(name), js(c.server), js(c.form))); wrong != "" {
						t.Error(wrong)
					}
				})
			}
		})
	}
}

func openClient(t *testing.T, l *lab) *tab {
	t.Helper()
	p := open(t, l.url+"/client")
	p.tolerate = []string{
		"request to another host: ws://127.0.0.1:", // the hubs'
		"WebSocket connection to",                  // when it is cut or refused
	}
	p.until(`window.run !== undefined`)
	return p
}

// TestClientScriptGlobal: the plain script leaves one name behind.
func TestClientScriptGlobal(t *testing.T) {
	t.Parallel()
	p := openClient(t, newLab(t))
	got := read[string](p, `JSON.stringify([Object.keys(atrium), typeof atrium.connect, typeof connect, typeof Socket, typeof PACKET])`)
	if want := `[["connect"],"function","function","undefined","undefined"]`; got != want {
		t.Errorf("the page has %s, want %s", got, want)
	}
}

// TestClientScriptOffline: the browser itself says that it is offline, which is not so for a server
// on this machine.
func TestClientScriptOffline(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := openClient(t, l)
	p.tolerate = append(p.tolerate, "net::ERR_INTERNET_DISCONNECTED")
	read[bool](p, `(async () => {
		const { url } = await (await fetch('/lab/start', { method: 'POST' })).json();
		window.states = [];
		window.socket = connect(url + '/socket.io/', { auth: { token: 'ok' }, reconnect: { min: 1, max: 1 } });
		socket.onstate = (state) => states.push(state);
		return true;
	})()`)
	p.until(`socket.state === 'open'`)
	offline := func(offline bool) {
		call(p, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1})
	}
	offline(true)
	p.until(`!navigator.onLine`)
	if got := read[string](p, `socket.call('echo', 'offline')`); got != "offline" {
		t.Errorf("the answer is %q", got)
	}
	offline(false)
	p.until(`navigator.onLine`)
	if got := read[string](p, `socket.call('echo', 'online')`); got != "online" {
		t.Errorf("the answer is %q", got)
	}
	if got := read[string](p, `states.join()`); got != "open" {
		t.Errorf("its states were %s", got)
	}
	read[bool](p, `(socket.close(), true)`)
}

// TestClientScriptAddress: what a relative address is relative to, where the page, frame or worker
// has none of its own.
func TestClientScriptAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	p := open(t, l.url+"/elsewhere/bare")
	p.until(`window.addresses !== undefined`)
	socketIO := "ws://" + strings.TrimPrefix(l.url, "http://") + "/socket.io/?EIO=4&transport=websocket"
	for where, want := range map[string]string{
		"page":   socketIO,
		"blob":   socketIO,
		"srcdoc": socketIO,
		"data":   "TypeError: url: expected an absolute http or ws URL, not /socket.io/",
	} {
		if got := read[string](p, fmt.Sprintf(`addresses(%s)`, js(where))); got != want {
			t.Errorf("%s: got %q, want %q", where, got, want)
		}
	}
}

// TestClientTypes has the compiler of TypeScript look at a page that uses client.d.ts as it should,
// and as it should not.
func TestClientTypes(t *testing.T) {
	t.Parallel()
	needNode(t, "typescript")
	out, err := exec.CommandContext(t.Context(), "node", "node_modules/typescript/bin/tsc",
		"--noEmit", "--strict", "--noUnusedLocals", "--target", "es2022", "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler",
		"client-types.ts", "../client.d.ts").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}

func needNode(t *testing.T, module string) {
	t.Helper()
	if _, err := os.Stat("node_modules/" + module); err != nil {
		t.Fatalf("npm's %s is not there: run npm ci in e2e first", module)
	}
}

// beginNode starts client-server.mjs, and returns its address.
func (h *labHub) beginNode() (string, error) {
	options, _ := json.Marshal(map[string]int64{ // nothing that could fail
		"maxPayload":     h.options.Limits.MessageBytes,
		"maxAttachments": int64(h.options.Limits.Attachments),
		"pingInterval":   h.options.Timeouts.PingInterval.Milliseconds(),
		"pingTimeout":    h.options.Timeouts.Ping.Milliseconds(),
		"recovery":       h.options.Recovery.MaxDisconnection.Milliseconds(),
	})
	node := exec.CommandContext(h.lab.t.Context(), "node", "client-server.mjs", string(options))
	node.Stderr = os.Stderr
	node.WaitDelay = time.Second
	if _, err := node.StdinPipe(); err != nil { // it ends when we do
		return "", err
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := node.Start(); err != nil {
		return "", err
	}
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		node.Process.Kill()
		return "", fmt.Errorf("client-server.mjs printed %q instead of its port: %w", port, err)
	}
	h.mu.Lock()
	h.node = node
	h.mu.Unlock()
	return "127.0.0.1:" + strings.TrimSpace(port), nil
}

// TestClientScriptBadServer: what a server may not say ends the connection, and the page is told
// why.
func TestClientScriptBadServer(t *testing.T) {
	t.Parallel()
	const hello, welcome = `0{"pingInterval":25000,"pingTimeout":20000}`, `40{"sid":"x"}`
	cases := []struct {
		says []string // binary if it begins with a zero byte
		want string
	}{
		{[]string{`{"event":"connect","data":{"sid":"x"}}`}, `connect_error expected Socket.IO, not {"event":"connect","data":{"sid":"x"}}`},
		{[]string{""}, "connect_error expected Socket.IO, not "},
		{[]string{"0{}"}, "connect_error expected Socket.IO, not 0{}"},
		{[]string{"0nonsense"}, "connect_error "}, // and the browser's own words
		{[]string{"\x00"}, "connect_error "},
		{[]string{hello, "40"}, "connect_error expected a sid: Socket.IO 3 or 4"},
		{[]string{hello, `44{"message":"No.","data":7}`}, "connect_error No."},
		{[]string{hello, `44"No."`}, "connect_error No."},
		{[]string{hello, "1"}, "connect_error transport close"},
		{[]string{hello, welcome, `41`}, "disconnect io server disconnect"},
		{[]string{hello, welcome, `1`}, "disconnect transport close"},
		{[]string{hello, welcome, welcome}, "disconnect parse error"},
		{[]string{hello, welcome, `4`}, "disconnect parse error"},
		{[]string{hello, welcome, `49`}, "disconnect parse error"},
		{[]string{hello, welcome, `42`}, "disconnect parse error"},
		{[]string{hello, welcome, `42{}`}, "disconnect parse error"},
		{[]string{hello, welcome, `42["x"`}, "disconnect parse error"},
		{[]string{hello, welcome, `42["connect"]`}, "disconnect parse error"},
		{[]string{hello, welcome, `43{}`}, "disconnect parse error"},
		{[]string{hello, welcome, "\x00"}, "disconnect parse error"},
		{[]string{hello, welcome, `45["x"]`}, "disconnect parse error"},
		{[]string{hello, welcome, `451-["x",{"_placeholder":true,"num":0}]`, `42["x"]`}, "disconnect parse error"},
		{[]string{hello, welcome, `451-["x",{"_placeholder":true,"num":1}]`, "\x00"}, "disconnect parse error"},
		{[]string{hello, welcome, `451-["x",{"_placeholder":true,"num":"length"}]`, "\x00"}, "disconnect parse error"},
		// What is no violation.
		{slices.Concat([]string{hello, welcome, `4511-["x"]`}, slices.Repeat([]string{"\x00"}, 11), []string{`42["x","fine"]`}), "x fine"},
		{[]string{hello, welcome, "6", `40/other,{"sid":"y"}`, `42/other,["x",1]`, `437[1]`, `42["x","fine"]`}, "x fine"},
		{[]string{hello, `42["x","early"]`, welcome}, "x early"},
		{[]string{hello, welcome, `451-["x",{"_placeholder":true,"num":0}]`, "2", "\x00"}, "x [object ArrayBuffer]"},
	}
	l := newLab(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/{i}", func(w http.ResponseWriter, r *http.Request) {
		c, err := atrium.Upgrade(w, r, atrium.UpgradeOptions{AllowedOrigins: []string{l.url}})
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		i, _ := strconv.Atoi(r.PathValue("i")) // 0 if the page were wrong
		for _, text := range cases[i].says {
			op := atrium.MessageText
			if strings.HasPrefix(text, "\x00") {
				op = atrium.MessageBinary
			}
			if c.Write(r.Context(), op, []byte(text)) != nil {
				return // it has gone already
			}
		}
		for err == nil {
			_, _, err = c.Read(r.Context())
		}
	})
	bad := httptest.NewServer(mux)
	t.Cleanup(bad.Close)
	p := openClient(t, l)
	p.tolerate = append(p.tolerate, "expected at most 10 binary values, not 11")
	for i, c := range cases {
		got := read[string](p, fmt.Sprintf(`new Promise((done) => {
			const socket = connect(%s, { reconnect: false });
			socket.on('connect_error', (error) => done('connect_error ' + error.message));
			socket.on('disconnect', (reason) => done('disconnect ' + reason));
			socket.on('x', (arg) => { done('x ' + arg); socket.close(); });
		})`, js(fmt.Sprintf("%s/%d", bad.URL, i))))
		if got != c.want && !(strings.HasSuffix(c.want, " ") && strings.HasPrefix(got, c.want)) {
			t.Errorf("%q: the page has %q, want %q", c.says, got, c.want)
		}
	}
}
