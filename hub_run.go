package atrium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
)

// Serve serves what comes to l by srv until ctx ends, and then ends both in the order that clients
// notice least:
//
//  1. It closes the listener, so that new connections are made to the next process. Those that are
//     open stay: clients that poll go on with theirs. One that would begin a session by such a
//     connection is sent to the same address by a new one, with 307.
//  2. It calls Shutdown, which has Timeouts.Drain.
//  3. It calls Shutdown of srv, which waits for other requests for the rest of that time, and then
//     its Close.
//
// A nil l listens on srv.Addr, or if that is empty on ":http", with TLS ":https". If srv.TLSConfig
// is set, Serve serves TLS, with the certificates in it. What is served is srv.Handler, in which
// the hub is mounted, or which it is; nil means http.DefaultServeMux.
//
// Serve returns nil if ctx has ended, or srv was closed, and all went well after that. If it cannot
// listen, or srv fails, it ends both likewise and returns the error. Its errors are those of
// Shutdown, too. It is called once: neither a Hub nor an http.Server can be used again.
//
// In a program ctx is that of signal.NotifyContext. After context.AfterFunc(ctx, stop) a second
// signal ends the program at once; otherwise it is ignored.
func (h *Hub) Serve(ctx context.Context, srv *http.Server, l net.Listener) error {
	overTLS := srv.TLSConfig != nil // srv sets it to offer HTTP/2
	var failed error
	if l == nil {
		l, failed = net.Listen("tcp", cmp.Or(srv.Addr, defaultAddr(overTLS)))
	}
	if failed == nil {
		failed = h.serveUntil(ctx, srv, l, overTLS)
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.options.Timeouts.Drain)
	defer cancel()
	drained := h.Shutdown(limit)
	closed := srv.Shutdown(limit)
	if closed != nil {
		closed = fmt.Errorf("atrium: requests were cut off: %w", closed)
		_ = srv.Close()
	}
	return errors.Join(failed, drained, closed)
}

// defaultAddr is where net/http listens for an empty address.
func defaultAddr(overTLS bool) string {
	if overTLS {
		return ":https"
	}
	return ":http"
}

// serveUntil serves until ctx ends or srv is closed, and then returns nil, or until it fails. It
// closes l, and leaves open the connections that have come by it.
func (h *Hub) serveUntil(ctx context.Context, srv *http.Server, l net.Listener, overTLS bool) error {
	ended := make(chan error, 1)
	go func() {
		if overTLS {
			ended <- srv.ServeTLS(l, "", "")
		} else {
			ended <- srv.Serve(l)
		}
	}()
	select {
	case <-ctx.Done():
		_ = l.Close()
		<-ended // with the error of a closed listener
		h.leave()
		return nil
	case err := <-ended:
		_ = l.Close()
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("atrium: %w", err)
	}
}
