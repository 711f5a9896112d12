package atrium

import (
	"errors"
	"testing"
)

type testMessage struct {
	Room, Text string
}

func (m testMessage) Validate() error {
	if m.Text == "" {
		return errors.New("Text: expected some")
	}
	return nil
}

func TestChat(t *testing.T) {
	overKinds(t, func(t *testing.T, k kind) {
		noLeaks(t)
		h := newHub(t, Options{})
		h.Use(func(s *Socket) error {
			var auth struct{ Name string }
			if err := s.Handshake().Bind(&auth); err != nil {
				return err
			}
			if auth.Name == "mallory" {
				return Errorf("Auth failed")
			}
			s.Set("name", auth.Name)
			return nil
		})
		h.OnConnect(func(s *Socket) {
			if err := s.Join("lobby"); err != nil {
				t.Error(err)
			}
			s.To("lobby").Emit("joined", s.ID())
		})
		h.OnDisconnect(func(s *Socket, why Reason) { s.To(s.Rooms()...).Emit("left", why) })
		OnCall(h, "say", func(s *Socket, m testMessage) (int, error) {
			return len(m.Text), h.To(m.Room).Emit("said", m)
		})
		srv := serve(t, k, h)
		alice := srv.connect(t, map[string]string{"Name": "alice"})
		alice.settle()
		bob := srv.connect(t, map[string]string{"Name": "bob"})
		alice.want(`{"event":"joined","data":"` + bob.sid + `"}`)
		alice.send(`{"event":"say","data":{"Room":"lobby","Text":"<hi>"},"id":7}`)
		alice.want(`{"event":"said","data":{"Room":"lobby","Text":"<hi>"}}`)
		alice.want(`{"id":7,"data":4}`)
		bob.want(`{"event":"said","data":{"Room":"lobby","Text":"<hi>"}}`)
		bob.send(`{"event":"say","data":{"Room":"lobby"},"id":8}`)
		bob.want(`{"id":8,"error":{"message":"Text: expected some"}}`)

		mallory := &client{srv.conn(t, "Sec-WebSocket-Protocol: atrium"), t, ""}
		mallory.emit("connect", map[string]string{"Name": "mallory"})
		mallory.want(`{"event":"connect_error","data":{"message":"Auth failed"}}`)
		mallory.wantClosed(StatusPolicyViolation)

		if err := bob.Close(StatusNormalClosure, "bye"); err != nil {
			t.Error(err)
		}
		alice.want(`{"event":"left","data":"transport close"}`)
	})
}
