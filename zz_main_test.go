package atrium

import ("testing";"net/http";"time";"fmt";"errors")

func TestZZServe(t *testing.T) {
	h := New(Options{AllowedOrigins: []string{"*"}})
	h.Use(func(s *Socket) error {
		var a struct{ Token string }
		if err := s.Handshake().Bind(&a); err != nil { return err }
		if a.Token == "bad" { return &Error{Message: "Auth failed", Data: map[string]int{"code": 7}} }
		return s.Join("lobby")
	})
	h.OnDisconnect(func(s *Socket, r Reason) { fmt.Println("gone", r) })
	OnCall(h, "echo", func(s *Socket, v any) (any, error) { return v, nil })
	OnCall(h, "fail", func(s *Socket, v any) (any, error) { return nil, Errorf("no") })
	On(h, "say", func(s *Socket, v string) error { s.To("lobby").Emit("said", v, s.ID()); return nil })
	On(h, "kick", func(s *Socket, v any) error { s.Disconnect(); return nil })
	OnCall(h, "askme", func(s *Socket, v any) (string, error) { return Call[string](s.Context(), s, "q", 1) })
	OnCall(h, "bin", func(s *Socket, v struct{ Data []byte; N int }) (int, error) { return len(v.Data) + v.N, nil })
	a := h.Namespace("/admin")
	a.OnConnect(func(s *Socket) { s.Emit("welcome", "admin") })
	OnCall(a, "ping2", func(s *Socket, v any) (string, error) { return "pong2", nil })
	srv := &http.Server{Addr: "127.0.0.1:38123", Handler: h}
	go func() { time.Sleep(15 * time.Second); srv.Close() }()
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) { t.Fatal(err) }
}
