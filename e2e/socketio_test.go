package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// TestSocketIO runs the scenarios of socketio-scenarios.mjs with npm's socket.io-client,
// unmodified, in Node and in the browser: over its default transports (polling, then a WebSocket),
// polling only and WebSocket only.
func TestSocketIO(t *testing.T) {
	t.Parallel()
	for _, transports := range []string{"default", "polling", "websocket"} {
		t.Run("node/"+transports, func(t *testing.T) {
			t.Parallel()
			n := startScenarios(t, newLab(t).url)
			for _, name := range n.names {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					if wrong := n.run(name, transports); wrong != "" {
						t.Error(wrong)
					}
				})
			}
		})
		t.Run("browser/"+transports, func(t *testing.T) {
			t.Parallel()
			p := open(t, newLab(t).url+"/")
			p.tolerate = []string{
				"request to another host: http://127.0.0.1:", "request to another host: ws://127.0.0.1:", // the hubs'
				"WebSocket connection to", "Failed to load resource", // when it is cut or refused
			}
			p.until(`window.run !== undefined`)
			for _, name := range read[[]string](p, `names`) {
				if strings.HasPrefix(name, "a crowd") {
					continue
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					if wrong := read[string](p, `run(`+js(name)+`, `+js(transports)+`)`); wrong != "" {
						t.Error(wrong)
					}
				})
			}
		})
	}
}

// scenarioRunner is a Node that runs scenarios, many at a time.
type scenarioRunner struct {
	t     *testing.T
	names []string // of the scenarios that there are

	mu      sync.Mutex // guards:
	in      io.Writer
	waiting []chan string // by id, for the error
}

func startScenarios(t *testing.T, lab string) *scenarioRunner {
	t.Helper()
	if _, err := os.Stat("node_modules/socket.io-client"); err != nil {
		t.Fatal("npm's socket.io-client is not there: run npm ci in e2e first")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", "socketio-node.mjs", lab)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &scenarioRunner{t: t, in: in}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &r.names) != nil {
		t.Fatalf("node said %q instead of the scenarios' names", lines.Text())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			var result struct {
				ID    int
				Error string
			}
			if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
				t.Errorf("node said %q", lines.Text())
				continue
			}
			r.mu.Lock()
			r.waiting[result.ID] <- result.Error
			r.mu.Unlock()
		}
		cmd.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range r.waiting {
			close(w)
		}
	}()
	t.Cleanup(func() {
		in.Close()
		<-ended
	})
	return r
}

// run runs a scenario and returns what went wrong.
func (r *scenarioRunner) run(name, transports string) string {
	result := make(chan string, 1)
	r.mu.Lock()
	id := len(r.waiting)
	r.waiting = append(r.waiting, result)
	order, _ := json.Marshal(map[string]any{"id": id, "name": name, "transports": transports}) // nothing that could fail
	_, err := r.in.Write(append(order, '\n'))
	r.mu.Unlock()
	if err != nil {
		return err.Error()
	}
	wrong, ok := <-result
	if !ok {
		return "node has ended"
	}
	return wrong
}
