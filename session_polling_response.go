package atrium

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// minGzip is the size in bytes from which a response is compressed.
const minGzip = 1 << 10

// pollContent is the type of a response to a GET.
const pollContent = "text/plain; charset=UTF-8"

// writePayload writes packets as the response to a GET.
func (t *polling) writePayload(w http.ResponseWriter, r *http.Request, p payload) error {
	body := appendPayload(nil, p.packets)
	header := w.Header()
	setContent(header, pollContent)
	if !encodesResponses(header) {
		if len(body) >= minGzip && !p.bare && !t.session.hub.options.DisablePollingCompression {
			header.Add("Vary", "Accept-Encoding")
			if httpguts.HeaderValuesContainsToken(r.Header["Accept-Encoding"], "gzip") {
				body = gzipped(body)
				header.Set("Content-Encoding", "gzip")
			}
		}
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	n, err := w.Write(body)
	t.countSent(0, max(n, 0))
	return err
}

// encodesResponses reports whether a handler around this one compresses what is written, perhaps
// later: it has set Content-Encoding, as gin's does, or says that the response depends on
// Accept-Encoding, as echo's. Then neither the encoding nor the length is ours to set.
func encodesResponses(header http.Header) bool {
	return header.Get("Content-Encoding") != "" || httpguts.HeaderValuesContainsToken(header["Vary"], "Accept-Encoding")
}

// gzipWriters are 800 KB each.
var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

func gzipped(body []byte) []byte {
	var b bytes.Buffer
	z := gzipWriters.Get().(*gzip.Writer)
	z.Reset(&b)
	_, _ = z.Write(body) // a bytes.Buffer takes everything
	_ = z.Close()
	z.Reset(nil)
	gzipWriters.Put(z)
	return b.Bytes()
}

// parting has the connection of a request closed behind its response if the hub shuts down and the
// session has ended: the client comes back, by a new connection, to the next process.
func (t *polling) parting(w http.ResponseWriter) {
	if t.session.ended.Load() && t.session.hub.isClosing() {
		w.Header().Set("Connection", "close")
	}
}

// writeOK writes the response to a POST.
func writeOK(w http.ResponseWriter) {
	setContent(w.Header(), "text/html")
	_, _ = io.WriteString(w, "ok") // the client's next request tells whether it got it
}

// writeClose writes the close packet as the response to a GET of no session.
func writeClose(w http.ResponseWriter) {
	setContent(w.Header(), pollContent)
	_, _ = w.Write([]byte{byte(engineClose)}) // a client that does not get it sends no other request
}

// maxLead bounds how long before its deadline a request gets its response.
const maxLead = time.Second

// beforeDeadline returns a context that ends a little before the deadline of a request's context,
// so that there is time to respond: http.TimeoutHandler, and the like of routers, would otherwise
// do so in our place, and a Socket.IO client ends its session at any status but 200. Without a
// deadline it returns ctx.
//
// A context that ended before the request came is that of a server about to stop:
// http.Server.BaseContext often is one of signal.NotifyContext. Such a server still serves, and
// clients are to get what is queued for them. So a GET waits for a short while; without that,
// clients would get empty responses as fast as they can send requests.
func beforeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if requestOverdue(ctx) && !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		ctx = context.WithoutCancel(ctx)
		if soon := time.Now().Add(maxLead); !ok || soon.Before(deadline) {
			deadline, ok = soon, true
		}
	}
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/8, maxLead)))
}

// requestOverdue reports whether a request's context has ended for another reason than that the
// client has left, which net/http tells by context.Canceled.
func requestOverdue(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return cause != nil && !errors.Is(cause, context.Canceled)
}
