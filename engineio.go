package atrium

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// engineError is a refusal of an Engine.IO request in the form that its clients know: {"code":…,"message":…}.
type engineError struct {
	code    int
	status  int
	message string
	header  []string // that the status asks for: names and values in turn
}

var (
	errTransportUnknown = &engineError{code: 0, status: http.StatusBadRequest, message: "Transport unknown"}
	errSessionUnknown   = &engineError{code: 1, status: http.StatusBadRequest, message: "Session ID unknown"}
	errHandshakeMethod  = &engineError{code: 2, status: http.StatusBadRequest, message: "Bad handshake method"}
	errBadRequest       = &engineError{code: 3, status: http.StatusBadRequest, message: "Bad request"}
	errTooBig           = &engineError{code: 3, status: http.StatusRequestEntityTooLarge, message: "Payload too large"}
	errProtocolVersion  = &engineError{code: 5, status: http.StatusBadRequest, message: "Unsupported protocol version"}
)

// forbidden is a refusal in the form of Engine.IO; nil if there is none.
func forbidden(refused *refusal) *engineError {
	if refused == nil {
		return nil
	}
	return &engineError{4, refused.status, refused.message, refused.header}
}

func (e *engineError) answer(w http.ResponseWriter) {
	body, _ := json.Marshal(map[string]any{"code": e.code, "message": e.message}) // nothing that could fail
	for h := e.header; len(h) > 0; h = h[2:] {
		w.Header().Set(h[0], h[1])
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

// checkEngine judges the query of an Engine.IO request by itself.
func checkEngine(query url.Values) *engineError {
	switch transport := query.Get("transport"); {
	case transport != "websocket" && transport != "polling":
		return errTransportUnknown
	case query.Get("EIO") != "4":
		return errProtocolVersion
	}
	return nil
}

// upgradeTimeout bounds the change from polling to a WebSocket.
const upgradeTimeout = 10 * time.Second

// tryUpgrade lets a client that polls change to the WebSocket that it has opened: it sends a probe, gets an answer,
// waits for its requests to end, and says that it has changed. If it does not, it goes on polling.
func (t *polling) tryUpgrade(conn *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTimeout)
	defer cancel()
	if !t.beginProbe(cancel) {
		_ = conn.Close(StatusPolicyViolation, "the session does not wait for an upgrade")
		return
	}
	defer t.session.part()
	if probed(ctx, conn) && t.upgrade(conn) {
		conn.out.wake()
		if t.closing { // which does not change any more
			t.close(t.code, t.text, false)
		}
		t.session.countWindow(+1)
		go t.session.serve()
		return
	}
	t.endProbe()
	_ = conn.Close(StatusPolicyViolation, "the upgrade was not completed")
}

// probed answers probes until the client says that it changes. It reports false if it says anything else, or nothing.
func probed(ctx context.Context, conn *Conn) bool {
	for {
		op, p, err := conn.Read(ctx)
		if err != nil || op != OpText || string(p) != "2probe" {
			return err == nil && op == OpText && string(p) == "5"
		}
		if conn.Write(ctx, OpText, []byte("3probe")) != nil {
			return false
		}
	}
}
