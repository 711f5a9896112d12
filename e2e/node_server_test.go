package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// A nodeServer is npm's socket.io, running node-server.mjs.
type nodeServer struct {
	t     *testing.T
	port  string
	lines chan string // what it says of connections
	stop  func()      // as the end of its process does
}

// startNode starts one; port may be "".
func startNode(t *testing.T, port string) *nodeServer {
	t.Helper()
	if _, err := os.Stat("node_modules/socket.io"); err != nil {
		t.Fatal("npm's socket.io is not there: run npm ci in e2e first")
	}
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	cmd := exec.CommandContext(ctx, "node", "node-server.mjs", port)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // which ends with us, and the server with it
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
	n := &nodeServer{t: t, lines: make(chan string, 10_000)}
	ended := make(chan struct{})
	n.stop = func() {
		cmd.Process.Kill()
		<-ended
	}
	ready := make(chan string, 1)
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if port, ok := strings.CutPrefix(lines.Text(), "port "); ok {
				ready <- port
			} else {
				n.lines <- lines.Text()
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		in.Close()
		n.stop()
		cancel()
	})
	n.port = receive(t, ready, "node's port")
	return n
}

// receive waits for what comes from the channel.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// client makes a client of the server, that is closed at the end.
func (n *nodeServer) client(t *testing.T, options atrium.ClientOptions) *atrium.Client {
	options.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	if options.Backoff.Min == 0 {
		options.Backoff = atrium.Backoff{Min: 20 * time.Millisecond, Max: 200 * time.Millisecond}
	}
	c := atrium.NewClient("http://127.0.0.1:"+n.port+"/?color=blue", options)
	t.Cleanup(func() { c.Close() })
	return c
}

var token = map[string]string{"token": "ok"}

func connect(t *testing.T, c *atrium.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Connect(ctx); err != nil {
		t.Fatal(err)
	}
}

func ask[T any](t *testing.T, c *atrium.Client, event string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	v, err := atrium.Call[T](ctx, c, event, args...)
	if err != nil {
		t.Fatalf("%s: %v", event, err)
	}
	return v
}

// TestNodeServer: atrium's Client with npm's socket.io server, unmodified, over its WebSocket.
func TestNodeServer(t *testing.T) {
	t.Parallel()
	n := startNode(t, "")

	t.Run("events and acknowledgements", func(t *testing.T) {
		t.Parallel()
		c := n.client(t, atrium.ClientOptions{Auth: token, Dial: atrium.DialOptions{Header: http.Header{"X-Test": {"header"}}}})
		welcome := make(chan string, 1)
		c.Handle("welcome", func(e *atrium.Event) {
			var text string
			var n int
			if err := e.Bind(&text, &n); err != nil {
				t.Error(err)
			}
			welcome <- fmt.Sprint(text, n)
		})
		atrium.OnCall(c, "sure?", func(_ *atrium.Client, n int) (string, error) {
			if n < 0 {
				return "", atrium.Errorf("no")
			}
			return fmt.Sprintf("sure of %d", n), nil
		})
		connect(t, c)
		if got := receive(t, welcome, "welcome"); got != "first of all2" && got != "first of all 2" {
			t.Errorf("got %q", got)
		}
		type thing struct {
			Text string
			List []float64
		}
		sent := thing{"<ünïcode> \u2028 \"", []float64{1, -2.5e300}}
		if got := ask[thing](t, c, "echo", sent); got.Text != sent.Text || !slices.Equal(got.List, sent.List) {
			t.Errorf("got %+v, want %+v", got, sent)
		}
		if got := ask[string](t, c, "ask", 7); got != "sure of 7" {
			t.Errorf("got %q", got)
		}
		// The server passes on what the client's handler has for an error.
		if _, err := atrium.Call[string](t.Context(), c, "ask", 7.5); err == nil || err.Error() != "data: expected an integer, got number 7.5" {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := atrium.Call[any](ctx, c, "silence"); !errors.Is(err, atrium.ErrTimeout) {
			t.Errorf("silence: got %v", err)
		}
		if _, err := atrium.Call[int](t.Context(), c, "echo", "text"); err == nil || err.Error() != "data: expected an integer, got string" {
			t.Errorf("the wrong type: got %v", err)
		}
		if got := ask[string](t, c, "heartbeat"); got != "heard" || c.State() != atrium.StateOpen {
			t.Errorf("heartbeat: got %q, %v", got, c.State())
		}
	})

	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		c := n.client(t, atrium.ClientOptions{Auth: token})
		picture := make(chan []byte, 10)
		c.Handle("picture", func(e *atrium.Event) {
			var name string
			var data []byte
			var more struct{ Copy []byte }
			if err := e.Bind(&name, &data, &more); err != nil || !slices.Equal(data, more.Copy) {
				t.Errorf("%s: %v, %v, %v", name, data, more, err)
			}
			picture <- data
		})
		connect(t, c)
		data := atrium.Binary{0, 1, 254, 255}
		upload := ask[struct {
			Buffers []bool
			Sum     int
			Name    string
		}](t, c, "upload", map[string]any{"name": "a.png", "data": data}, data)
		if !slices.Equal(upload.Buffers, []bool{true, true}) || upload.Sum != 1020 || upload.Name != "a.png" {
			t.Errorf("upload: %+v", upload)
		}
		download := ask[struct{ Data []byte }](t, c, "download", 300)
		for i, b := range download.Data {
			if b != byte(i) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		if len(download.Data) != 300 {
			t.Errorf("%d bytes", len(download.Data))
		}
		if err := c.Emit("picture", data); err != nil {
			t.Error(err)
		}
		if got := receive(t, picture, "the picture"); !slices.Equal(got, data) {
			t.Errorf("got %v", got)
		}
	})

	t.Run("a namespace", func(t *testing.T) {
		t.Parallel()
		c := n.client(t, atrium.ClientOptions{Namespace: "/admin", Auth: map[string]string{"name": "root"}})
		connect(t, c)
		if got, want := ask[string](t, c, "whoami"), "/admin root "+c.ID(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		for namespace, want := range map[string]string{"/": "Auth failed", "/nowhere": "Invalid namespace"} {
			c := n.client(t, atrium.ClientOptions{Namespace: namespace, AuthFunc: func(context.Context) (any, error) { return map[string]string{"token": "bad"}, nil }})
			err := c.Connect(t.Context())
			refused, ok := errors.AsType[*atrium.Error](err)
			if !ok || refused.Message != want || c.State() != atrium.StateClosed {
				t.Errorf("%s: got %v, %v", namespace, err, c.State())
			}
			if ok && namespace == "/" && fmt.Sprintf("%s", refused.Data) != `{"code":401}` {
				t.Errorf("the data of the refusal: %s", refused.Data)
			}
		}
	})

	t.Run("put out", func(t *testing.T) {
		t.Parallel()
		c := n.client(t, atrium.ClientOptions{Auth: token})
		left := make(chan atrium.Reason, 10)
		c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { left <- why })
		connect(t, c)
		if err := c.Emit("kick"); err != nil {
			t.Error(err)
		}
		if why := receive(t, left, "OnDisconnect"); why != atrium.ReasonServerDisconnect || c.State() != atrium.StateClosed {
			t.Errorf("%q, %v", why, c.State())
		}
		connect(t, c)
		c.Emit("rubbish")
		if why := receive(t, left, "OnDisconnect"); why != atrium.ReasonParseError {
			t.Errorf("after rubbish: %q", why)
		}
		if got := ask[int](t, c, "echo", 1); got != 1 { // it waits for the next connection
			t.Errorf("got %d", got)
		}
	})

	t.Run("recovery", func(t *testing.T) {
		t.Parallel()
		c := n.client(t, atrium.ClientOptions{Auth: token, Backoff: atrium.Backoff{Min: 300 * time.Millisecond, NoJitter: true}})
		left := make(chan atrium.Reason, 10)
		c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { left <- why })
		heard := make(chan string, 100)
		c.OnConnect(func(*atrium.Client) { heard <- fmt.Sprintf("connected, recovered: %v", c.Recovered()) })
		atrium.On(c, "news", func(_ *atrium.Client, n int) error { heard <- fmt.Sprint(n); return nil })
		connect(t, c)
		id := c.ID()
		want := func(all ...string) {
			t.Helper()
			for _, want := range all {
				if got := receive(t, heard, want); got != want {
					t.Fatalf("heard %q, want %q", got, want)
				}
			}
		}
		want("connected, recovered: false")
		for round := range 2 {
			c.Emit("cut")
			if why := receive(t, left, "OnDisconnect"); why != atrium.ReasonTransportClose && why != atrium.ReasonTransportError {
				t.Errorf("disconnected for %q", why)
			}
			for n := range 5 {
				want(fmt.Sprint(5*round + n))
			}
			want("connected, recovered: true")
			if c.ID() != id {
				t.Error("the id has changed")
			}
		}
	})
}

// TestNodeServerRestarts: the client comes back to a new process, and what waited arrives.
func TestNodeServerRestarts(t *testing.T) {
	t.Parallel()
	n := startNode(t, "")
	c := n.client(t, atrium.ClientOptions{Auth: token, CallRetries: 100})
	connected := make(chan string, 10)
	left := make(chan atrium.Reason, 10)
	c.OnConnect(func(*atrium.Client) { connected <- c.ID() })
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { left <- why })
	connect(t, c)
	first := receive(t, connected, "OnConnect")
	answered := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := atrium.Call[any](ctx, c, "silence") // which the next server does not answer either
		answered <- err
	}()
	n.stop()
	if why := receive(t, left, "OnDisconnect"); why != atrium.ReasonTransportClose && why != atrium.ReasonTransportError {
		t.Errorf("disconnected for %q", why)
	}
	result := make(chan int, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n, err := atrium.Call[int](ctx, c, "echo", 7)
		if err != nil {
			t.Error(err)
		}
		result <- n
	}()
	startNode(t, n.port)
	if again := receive(t, connected, "OnConnect"); again == first {
		t.Error("the id has not changed")
	}
	if got := receive(t, result, "the answer"); got != 7 {
		t.Errorf("got %d", got)
	}
	c.Close()
	if err := receive(t, answered, "the end of a call"); err != atrium.ErrClosed {
		t.Errorf("got %v", err)
	}
}
