package guide

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/atrium-go/atrium"
)

func handleEvents(h *atrium.Hub) {
	// [events]
	atrium.On(h, "refresh", func(s *atrium.Socket, _ any) error { // no data: any takes nothing, too
		return s.Emit("refreshed") // and sends none
	})
	h.Handle("move", func(e *atrium.Event) { // several arguments
		var x, y int
		if err := e.Bind(&x, &y); err != nil {
			e.ReplyError(err)
			return
		}
		e.Socket().Broadcast().Emit("moved", e.Socket().ID(), x, y)
	})
	// [end]

	workers := make(chan struct{}, 8)
	// [slow]
	atrium.OnAck(h, "render", func(s *atrium.Socket, page string, ack *atrium.Ack) error {
		select {
		case workers <- struct{}{}: // a channel with room for 8: so many work at a time
		default:
			return atrium.Errorf("busy: try again later")
		}
		go func() {
			defer func() { <-workers }()
			picture, err := render(s.Context(), page) // the context ends when the client goes
			if err != nil {
				ack.ReplyError(err)
				return
			}
			ack.Reply(atrium.Binary(picture))
		}()
		return nil
	})
	// [end]

	// [numbers]
	atrium.OnCall(h, "import", func(s *atrium.Socket, raw json.RawMessage) (any, error) {
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.UseNumber() // 9007199254740993 stays what it is: a json.Number
		var data any
		if err := decoder.Decode(&data); err != nil {
			return nil, atrium.Errorf("data: expected a value") // there was none: what is no JSON comes to no handler
		}
		return data, nil
	})
	// [end]
}

func render(ctx context.Context, page string) ([]byte, error) { return []byte(page), ctx.Err() }
