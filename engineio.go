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
}

var (
	errTransportUnknown = &engineError{0, http.StatusBadRequest, "Transport unknown"}
	errSessionUnknown   = &engineError{1, http.StatusBadRequest, "Session ID unknown"}
	errHandshakeMethod  = &engineError{2, http.StatusBadRequest, "Bad handshake method"}
	errBadRequest       = &engineError{3, http.StatusBadRequest, "Bad request"}
	errProtocolVersion  = &engineError{5, http.StatusBadRequest, "Unsupported protocol version"}
)

// forbidden is a refusal in the form of Engine.IO.
func forbidden(refused *refusal) *engineError {
	return &engineError{4, refused.status, refused.message}
}

func (e *engineError) answer(w http.ResponseWriter) {
	body, _ := json.Marshal(map[string]any{"code": e.code, "message": e.message}) // nothing that could fail
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

var (
	probeAnswer = engineForm(enginePong, "probe")
)

// tryUpgrade lets a client that polls change to the WebSocket that it has opened: it sends a probe, gets an answer,
// waits for its requests to end, and says that it has changed. If it does not, it goes on polling.
func (t *polling) tryUpgrade(conn *Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), upgradeTimeout)
	defer cancel()
	if !t.probe(true) {
		_ = conn.Close(StatusPolicyViolation, "the session does not wait for an upgrade")
		return
	}
	for {
		op, p, err := conn.Read(ctx)
		switch {
		case err == nil && op == OpText && string(p) == "2probe":
			if _, wake := (*webSocket)(conn).push(probeAnswer, false, forWriter); wake {
				conn.out.wake()
			}
			continue
		case err == nil && op == OpText && string(p) == "5" && t.upgrade((*webSocket)(conn)):
			conn.out.wake()
			t.session.attach(conn)
			t.session.countWindow(+1)
			go t.session.serve()
		default:
			t.probe(false)
			_ = conn.Close(StatusPolicyViolation, "the upgrade was not completed")
		}
		return
	}
}
