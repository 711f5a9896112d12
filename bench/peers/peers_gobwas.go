package main

import (
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
	"github.com/gobwas/ws/wsutil"

	"github.com/atrium-go/atrium/bench/process"
)

// gobwasServe upgrades on net/http, or on the connection itself, which is what gobwas is known for.
func gobwasServe(l net.Listener, onHTTP bool, serve func(net.Conn)) {
	if onHTTP {
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if nc, _, _, err := ws.UpgradeHTTP(r, w); err == nil {
				go serve(nc)
			}
		}))
		return
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := ws.Upgrade(nc); err != nil {
					nc.Close()
					return
				}
				serve(nc)
			}()
		}
	}()
}

// gobwasEcho is as in gobwas's documentation.
func gobwasEcho(onHTTP bool) process.Kind {
	return func(l net.Listener) func(int) {
		gobwasServe(l, onHTTP, func(nc net.Conn) {
			defer nc.Close()
			for {
				p, op, err := wsutil.ReadClientData(nc)
				if err != nil {
					return
				}
				if err := wsutil.WriteServerMessage(nc, op, p); err != nil {
					return
				}
			}
		})
		return nil
	}
}

// gobwasDeflate is as in the documentation of ws/wsflate.
func gobwasDeflate(l net.Listener) func(int) {
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				e := wsflate.Extension{Parameters: wsflate.DefaultParameters}
				u := ws.Upgrader{Negotiate: e.Negotiate}
				if _, err := u.Upgrade(nc); err != nil {
					return
				}
				for gobwasInflated(nc) == nil {
				}
			}()
		}
	}()
	return nil
}

// gobwasInflated answers a message.
func gobwasInflated(nc net.Conn) error {
	header, err := ws.ReadHeader(nc)
	if err != nil {
		return err
	}
	if header.OpCode.IsControl() || header.Length > 1<<20 {
		return errors.ErrUnsupported
	}
	frame := ws.Frame{Header: header, Payload: make([]byte, header.Length)}
	if _, err := io.ReadFull(nc, frame.Payload); err != nil {
		return err
	}
	frame = ws.UnmaskFrameInPlace(frame)
	if compressed, err := wsflate.IsCompressed(frame.Header); err != nil {
		return err
	} else if compressed {
		if frame, err = wsflate.DecompressFrame(frame); err != nil {
			return err
		}
	}
	answer, err := wsflate.CompressFrame(ws.NewTextFrame(frame.Payload))
	if err != nil {
		return err
	}
	return ws.WriteFrame(nc, answer)
}

// gobwasRoom compiles the frame of each message once for all members.
func gobwasRoom(onHTTP bool) process.Kind {
	return func(l net.Listener) func(int) {
		h := newLobby[[]byte]()
		compile := func(text []byte) []byte { return ws.MustCompileFrame(ws.NewTextFrame(text)) }
		gobwasServe(l, onHTTP, func(nc net.Conn) {
			write := func(frame []byte) error {
				_, err := nc.Write(frame)
				return err
			}
			h.serve(compile([]byte(welcome)), write, func() { nc.Close() }, func() {
				for {
					if _, _, err := wsutil.ReadClientData(nc); err != nil {
						return
					}
				}
			})
		})
		said := message{size: roomSize}
		return room(h.count, each(func(n int) { h.say(compile(said.data(n))) }))
	}
}
