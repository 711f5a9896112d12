package fleet

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/atrium-go/atrium"
	"github.com/atrium-go/atrium/bench/process"
)

// goLink is an atrium.Client.
type goLink struct {
	c      *Client
	client *atrium.Client

	mu sync.Mutex // guards:
	nc net.Conn   // the last one
}

func newGoLink(c *Client) *goLink {
	l := &goLink{c: c}
	url := "ws://" + c.node.Addr + "/hub"
	if c.Kind.TLS {
		url = "wss://" + c.node.TLSAddr + "/hub"
	}
	dial := atrium.DialOptions{
		TLSConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: l.dial,
	}
	if c.Kind.Deflate {
		dial.Compression = atrium.Compression{Level: 1}
	}
	l.client = atrium.NewClient(url, atrium.ClientOptions{Dial: dial, CallTimeout: callLimit, Logger: slog.New(slog.DiscardHandler)})
	for _, event := range []string{"hello", "told", "left"} {
		atrium.On(l.client, event, func(_ *atrium.Client, data string) error {
			c.hear(event, data)
			return nil
		})
	}
	l.client.OnConnect(func(*atrium.Client) { c.up() })
	l.client.OnDisconnect(func(_ *atrium.Client, reason atrium.Reason) {
		c.down()
		if reason != atrium.ReasonClientDisconnect {
			c.fleet.Closed.Add(1)
		}
	})
	l.client.OnConnectError(func(_ *atrium.Client, err error) { l.note(err) })
	return l
}

func (l *goLink) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	nc, err := process.Dial(net.Dialer{Timeout: handshakeLimit}, addr, false)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.nc = nc
	}
	return nc, err
}

// note counts an attempt that has failed.
func (l *goLink) note(err error) {
	if l.c.leaving.Load() {
		return
	}
	if e, ok := errors.AsType[*atrium.HandshakeError](err); ok {
		l.c.fleet.noteHTTP(l.c.Kind.String(), "handshake: "+e.Response.Status)
	} else if e, ok := errors.AsType[*atrium.Error](err); ok && e.Status != 0 {
		l.c.fleet.noteHTTP(l.c.Kind.String(), fmt.Sprint("handshake: ", e.Status))
	} else {
		l.c.fleet.Refused.Add(1)
	}
}

// run implements link.
func (l *goLink) run() {
	for l.c.ctx.Err() == nil {
		if l.client.Connect(l.c.ctx) == nil {
			return // from now on it comes back by itself
		}
	}
}

// call implements link.
func (l *goLink) call(ctx context.Context, event string, data any) (json.RawMessage, error) {
	answer, err := atrium.Call[json.RawMessage](ctx, l.client, event, data)
	if errors.Is(err, atrium.ErrDisconnected) || errors.Is(err, atrium.ErrClosed) {
		if ctx.Err() == nil {
			return nil, errBroken
		}
	}
	return answer, err
}

// cut implements link.
func (l *goLink) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nc != nil {
		l.nc.Close()
	}
}

// leave implements link.
func (l *goLink) leave() { l.client.Close() }
