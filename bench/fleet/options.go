package fleet

import (
	"log/slog"
	"os"

	"github.com/atrium-go/atrium"
)

// hubOptions returns those of a server's hub.
func hubOptions(o ServerOptions) atrium.Options {
	return atrium.Options{
		Limits:      atrium.Limits{QueuedBytes: o.QueuedBytes},
		Timeouts:    atrium.Timeouts{PingInterval: o.PingInterval, Ping: o.Ping},
		Recovery:    atrium.Recovery{MaxDisconnection: o.Away},
		Compression: atrium.Compression{Level: o.Level, Threshold: 64},
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

// CanRecover is set if the servers keep their sessions over a restart.
const CanRecover = false
