package main

import (
	"compress/flate"
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
	gobwasAccept(l, ws.Upgrade, serve)
}

func gobwasAccept(l net.Listener, upgrade func(io.ReadWriter) (ws.Handshake, error), serve func(net.Conn)) {
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				if _, err := upgrade(nc); err != nil {
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

// gobwasHelper is wsflate.DefaultHelper at level 1, as the other libraries compress, instead of 9.
var gobwasHelper = wsflate.Helper{
	Compressor: func(w io.Writer) wsflate.Compressor {
		z, err := flate.NewWriter(w, flate.BestSpeed)
		check(err)
		return z
	},
	Decompressor: wsflate.DefaultHelper.Decompressor,
}

// gobwasDeflate is as in the documentation of ws/wsflate, but for the level.
func gobwasDeflate(l net.Listener) func(int) {
	upgrade := func(nc io.ReadWriter) (ws.Handshake, error) {
		e := wsflate.Extension{Parameters: wsflate.DefaultParameters}
		u := ws.Upgrader{Negotiate: e.Negotiate}
		return u.Upgrade(nc)
	}
	gobwasAccept(l, upgrade, func(nc net.Conn) {
		defer nc.Close()
		for gobwasInflated(nc) == nil {
		}
	})
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
		if frame, err = gobwasHelper.DecompressFrame(frame); err != nil {
			return err
		}
	}
	answer, err := gobwasHelper.CompressFrame(ws.NewTextFrame(frame.Payload))
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
