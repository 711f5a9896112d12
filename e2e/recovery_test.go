package e2e

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
)

// TestRecovery runs recovery.mjs: npm's socket.io-client, unmodified, whose connection is cut.
func TestRecovery(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("node_modules/socket.io-client"); err != nil {
		t.Fatal("npm's socket.io-client is not there: run npm ci in e2e first")
	}
	for _, transports := range []string{"default", "websocket", "polling"} {
		t.Run(transports, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(recoveryHub(t))
			defer srv.Close()
			_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
			ctx, cancel := context.WithTimeout(t.Context(), lifetime)
			defer cancel()
			out, err := exec.CommandContext(ctx, "node", "recovery.mjs", port, transports).CombinedOutput()
			if err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// recoveryHub is what recovery.mjs talks to.
func recoveryHub(t *testing.T) *atrium.Hub {
	h := atrium.New(atrium.Options{
		Recovery: atrium.Recovery{MaxDisconnection: time.Minute},
		Logger:   slog.New(slog.DiscardHandler),
	})
	atrium.On(h, "join", func(s *atrium.Socket, room string) error { return s.Join(room) })
	h.Handle("say", func(e *atrium.Event) {
		var room string
		var number json.Number
		var data []byte
		var err error
		if len(e.Args()) == 2 {
			if err = e.Bind(&room, new(any)); err == nil {
				err = h.To(room).Emit("said", e.Args()[1])
			}
		} else if err = e.Bind(&room, &number, &data); err == nil {
			err = h.To(room).Emit("said", number, atrium.Binary(data))
		}
		if err != nil {
			t.Error(err)
		}
	})
	h.Handle("say-volatile", func(e *atrium.Event) {
		var room, text string
		if err := e.Bind(&room, &text); err != nil {
			t.Error(err)
		}
		if err := h.To(room).Volatile().Emit("volatile", text); err != nil {
			t.Error(err)
		}
	})
	atrium.OnCall(h, "count", func(s *atrium.Socket, id string) (int, error) { return h.To(id).Count(s.Context()) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = h.Shutdown(ctx)
	})
	return h
}
