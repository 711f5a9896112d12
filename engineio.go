package atrium

import (
	"encoding/json"
	"net/http"
	"net/url"
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

func (e *engineError) answer(w http.ResponseWriter) {
	body, _ := json.Marshal(map[string]any{"code": e.code, "message": e.message}) // nothing that could fail
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_, _ = w.Write(body)
}

// checkEngine judges the query of an Engine.IO request.
func checkEngine(r *http.Request, query url.Values) *engineError {
	switch {
	case query.Get("transport") != "websocket":
		return errTransportUnknown
	case query.Has("sid"):
		return errSessionUnknown
	case r.Method != http.MethodGet:
		return errHandshakeMethod
	case query.Get("EIO") != "4":
		return errProtocolVersion
	}
	return nil
}
