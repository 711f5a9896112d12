package bustest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
)

// FanOut measures deliveries of events to all members of a room: by one hub that has all members,
// and by one of two hubs that have half of the members each. Hubs, members and possibly the broker
// share the machine.
func FanOut(b *testing.B, join func(t testing.TB) atrium.Bus) {
	for _, load := range []struct{ members, outstanding int }{{1000, 8}, {10, 64}} {
		for nodes := range 2 {
			b.Run(fmt.Sprintf("members=%d/hubs=%d", load.members, nodes+1), func(b *testing.B) {
				fanOut(b, nodes+1, load.members, load.outstanding, join)
			})
		}
	}
}

func fanOut(b *testing.B, nodes, members, outstanding int, join func(t testing.TB) atrium.Bus) {
	var options atrium.Options
	hubs, urls := make([]*atrium.Hub, nodes), make([]string, nodes)
	for i := range hubs {
		if nodes > 1 {
			options.Bus = join(b)
		}
		hubs[i] = atrium.New(options)
		defer hubs[i].Shutdown(context.Background())
		hubs[i].OnConnect(func(s *atrium.Socket) {
			if err := s.Join("room"); err != nil {
				b.Error(err)
			}
			if err := s.Emit("joined"); err != nil {
				b.Error(err)
			}
		})
		server := httptest.NewServer(hubs[i])
		defer server.Close()
		urls[i] = strings.Replace(server.URL, "http", "ws", 1)
	}
	got := make(chan struct{}, members*outstanding)
	for i := range members {
		conn, _, err := atrium.Dial(b.Context(), urls[i%nodes], atrium.DialOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.CloseNow()
		for range 2 { // "connect" and "joined"
			if _, _, err := conn.Read(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		go func() {
			buffer := make([]byte, 256)
			for {
				if _, _, err := conn.ReadInto(context.Background(), buffer); err != nil {
					return
				}
				got <- struct{}{}
			}
		}()
	}
	for b.Loop() {
		for range outstanding {
			if err := hubs[0].To("room").Emit("said", "hello, everybody"); err != nil {
				b.Fatal(err)
			}
		}
		for range members * outstanding {
			<-got
		}
	}
	b.ReportMetric(float64(b.N*members*outstanding)/b.Elapsed().Seconds(), "deliveries/s")
}
