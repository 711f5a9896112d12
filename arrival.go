package atrium

import (
	"context"
	"errors"
	"net/http"
)

// ServeHTTP takes a client in. It answers what is no WebSocket handshake, and whom it refuses, with a status that
// fits and one sentence.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if refused := h.takeIn(w, r); refused != nil {
		refused.answer(w)
	}
}

func (h *Hub) takeIn(w http.ResponseWriter, r *http.Request) *refusal {
	query := r.URL.Query()
	isSocketIO := query.Has("EIO")
	if isSocketIO {
		if err := checkEngine(r, query); err != nil {
			err.answer(w)
			return nil
		}
	}
	if refused := h.check(r); refused != nil {
		return refused
	}
	client, refused := h.quota.take(r)
	if refused != nil {
		return refused
	}
	added := false
	defer func() {
		if !added { // or Accept has panicked
			h.quota.giveBack(client)
		}
	}()
	base, refused := h.accept(r)
	if refused != nil {
		return refused
	}
	config := connConfig{
		compression: h.sessions.compression,
		readLimit:   min(h.options.MaxMessageSize, maxBeforeConnect),
		maxQueued:   h.options.MaxQueued,
	}
	if !isSocketIO {
		config.subprotocol = chooseSubprotocol(r, []string{plainSubprotocol})
	}
	conn, err := switchProtocols(w, r, config)
	if err != nil {
		return nil // answered, or gone
	}
	handshake := newHandshake(r)
	var s *session
	if isSocketIO {
		s = h.newSocketIO(conn, handshake, base)
	} else {
		s = h.newPlain(conn, handshake, base).session
	}
	if added = h.add(s, client); !added {
		go conn.Close(StatusGoingAway, string(ReasonShutdown))
		return nil
	}
	s.start()
	return nil
}

// newSocketIO makes the session of a Socket.IO client, who asks for its sockets.
func (h *Hub) newSocketIO(conn *Conn, handshake *Handshake, base context.Context) *session {
	s := newSession(h.sessions, conn, &socketIOCodec{host: &arrival{h, handshake, base}, sid: randomText(socketIDLength)}, socketIOProtocol)
	s.gone = func() { h.remove(s) }
	return s
}

// newPlain makes the socket of a plain client, and its session.
func (h *Hub) newPlain(conn *Conn, handshake *Handshake, base context.Context) *Socket {
	codec := new(plainCodec)
	session := newSession(h.sessions, conn, codec, plainProtocol)
	session.gone = func() { h.remove(session) }
	s := newSocket(&h.mainNamespace, handshake, base)
	s.sit(session, s.ns.name, s)
	codec.seat = &s.seat
	return s
}

// check judges a request by itself, before anybody is asked.
func (h *Hub) check(r *http.Request) *refusal {
	if h.isClosing() {
		return &refusal{http.StatusServiceUnavailable, "the server is shutting down", []string{"Retry-After", "1"}}
	}
	if err := checkHandshake(r); err != nil {
		return err
	}
	if handshakeSize(r) > maxHandshake {
		return &refusal{status: http.StatusRequestHeaderFieldsTooLarge, message: "the request's headers are over 64 KiB"}
	}
	return checkOrigin(r, h.options.AllowedOrigins)
}

// accept asks the application.
func (h *Hub) accept(r *http.Request) (context.Context, *refusal) {
	if h.options.Accept == nil {
		return context.Background(), nil
	}
	ctx, err := h.options.Accept(r)
	if err != nil {
		refused := &refusal{status: http.StatusForbidden, message: "the server refuses this client"}
		if e, ok := errors.AsType[*Error](err); ok {
			refused.message = e.Message
			if e.Status != 0 {
				refused.status = e.Status
			}
		}
		return nil, refused
	}
	if ctx == nil {
		return context.Background(), nil
	}
	return context.WithoutCancel(ctx), nil
}

// arrival is a Socket.IO client as its hub knows it. It implements host.
type arrival struct {
	hub       *Hub
	handshake *Handshake
	base      context.Context
}

func (a *arrival) seat(s *session, namespace string) (*seat, *Error) {
	n := a.hub.lookup(namespace)
	if n == nil {
		return nil, &Error{Message: "Invalid namespace"}
	}
	handshake := *a.handshake // each has its own auth value
	socket := newSocket(n, &handshake, a.base)
	if !socket.sit(s, namespace, socket) {
		return nil, nil
	}
	return &socket.seat, nil
}
