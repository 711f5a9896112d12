package fleet

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"

	"github.com/atrium-go/atrium"
)

// hubOptions returns those of a server's hub.
func hubOptions(o ServerOptions) atrium.Options {
	return atrium.Options{
		Limits:      atrium.Limits{QueuedBytes: o.QueuedBytes},
		Timeouts:    atrium.Timeouts{PingInterval: o.PingInterval, Ping: o.Ping, Drain: o.Drain},
		Recovery:    atrium.Recovery{MaxDisconnection: o.Away, Path: o.Recovery},
		Compression: atrium.Compression{Level: o.Level, Threshold: 64},
	}
}

// errorLog writes and counts the errors that a server logs, but for those of a Bus.
type errorLog struct {
	slog.Handler
	errors atomic.Int64
}

func newErrorLog() *errorLog {
	return &errorLog{Handler: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})}
}

// Handle implements slog.Handler.
func (l *errorLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "atrium: the bus") {
		return nil
	}
	l.errors.Add(1)
	return l.Handler.Handle(ctx, r)
}

// silent is for what redis says of a server that was killed.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
