package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

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

// TestClientScript runs the scenarios of client-scenarios.mjs with client.js, against a hub and against Node's own server;
// as a plain script against a hub only.
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

// TestClientScriptOffline: the browser itself says that it is offline, and online again.
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
	p.until(`socket.state === 'waiting' && !navigator.onLine`)
	read[bool](p, `(socket.call('echo', 'kept').then((answer) => { window.answer = answer; }), true)`)
	offline(false)
	p.until(`window.answer === 'kept'`)
	if got := read[string](p, `states.join()`); got != "open,waiting,connecting,open" {
		t.Errorf("its states were %s", got)
	}
	read[bool](p, `(socket.close(), true)`)
}

// TestClientTypes has the compiler of TypeScript look at a page that uses client.d.ts as it should, and as it should not.
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
		"pingInterval": h.options.PingInterval.Milliseconds(),
		"pingTimeout":  h.options.PingTimeout.Milliseconds(),
		"recovery":     h.options.Recovery.MaxDisconnection.Milliseconds(),
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
