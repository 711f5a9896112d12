package guide

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/gin-gonic/gin"
)

func TestMount(t *testing.T) {
	gin.SetMode(gin.ReleaseMode)
	for _, name := range []string{"chi", "gin", "echo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := atrium.New(atrium.Options{})
			atrium.OnCall(h, "echo", func(_ *atrium.Socket, text string) (string, error) { return text, nil })
			var complaints bytes.Buffer // of net/http, about what is written to a connection that is not its own any more
			srv := httptest.NewUnstartedServer(routers(h)[name])
			srv.Config.ErrorLog = log.New(&complaints, "", 0)
			srv.Start()
			overWebSocket(t, srv.URL)
			overPolling(t, srv.URL)
			if err := h.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			srv.Close()
			if complaints.Len() > 0 {
				t.Errorf("net/http complains: %s", &complaints)
			}
		})
	}
}

func overWebSocket(t *testing.T, url string) {
	t.Helper()
	c := atrium.NewClient(url, atrium.ClientOptions{})
	defer c.Close()
	if err := c.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := atrium.Call[string](t.Context(), c, "echo", "hello"); got != "hello" || err != nil {
		t.Errorf("over a WebSocket: %q, %v", got, err)
	}
}

// overPolling is what a Socket.IO client does that begins with polling, and stays there.
func overPolling(t *testing.T, url string) {
	t.Helper()
	url += "/socket.io/?EIO=4&transport=polling"
	status, body := get(t, url)
	var hello struct{ SID string }
	if status != http.StatusOK || json.Unmarshal([]byte(strings.TrimPrefix(body, "0")), &hello) != nil {
		t.Fatalf("polling: %d %s", status, body)
	}
	url += "&sid=" + hello.SID
	text := strings.Repeat("hello ", 1000) // enough for whatever compresses
	post(t, url, "40")
	if _, body = get(t, url); !strings.HasPrefix(body, "40{") {
		t.Fatalf("connecting by polling: %s", body)
	}
	post(t, url, `420["echo","`+text+`"]`)
	if _, body = get(t, url); body != `430["`+text+`"]` {
		t.Errorf("the answer by polling: %.100s", body)
	}
	post(t, url, "1")
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

func post(t *testing.T, url, packets string) {
	t.Helper()
	resp, err := http.Post(url, "text/plain;charset=UTF-8", strings.NewReader(packets))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := read(t, resp); status != http.StatusOK || body != "ok" {
		t.Fatalf("POST %s: %d %s", packets, status, body)
	}
}

func read(t *testing.T, resp *http.Response) (status int, body string) {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
