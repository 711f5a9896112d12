package fleet

import (
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium/bench/process"
)

func TestMain(m *testing.M) {
	process.Serve(Kinds)
	m.Run()
}

// everyKind are the kinds of clients.
var everyKind = []Kind{
	{Protocol: Plain}, {Protocol: Plain, TLS: true}, {Protocol: Plain, Deflate: true},
	{Protocol: SocketIO}, {Protocol: SocketIO, TLS: true}, {Protocol: SocketIO, Deflate: true},
	{Protocol: Polling}, {Protocol: Polling, Upgrade: true},
	{Protocol: Go}, {Protocol: Go, TLS: true, Deflate: true},
}

// patience bounds what must come.
const patience = time.Minute

// startFleet starts a server with that flaw.
func startFleet(t *testing.T, flaw string) *Fleet {
	t.Helper()
	f, err := New(1, ServerOptions{
		Rooms: 5, Every: 50 * time.Millisecond, Padding: 200, Drain: 5 * time.Second, Away: time.Minute,
		PingInterval: 10 * time.Second, Ping: 10 * time.Second, Level: 1, Flaw: flaw,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// addFor adds a client that is stopped before the fleet is.
func (f *Fleet) addFor(t *testing.T, k Kind) *Client {
	c := f.Add(f.Nodes[0], k, 20*time.Millisecond, 1)
	t.Cleanup(c.Stop)
	return c
}

// TestFlawsAreFound: clients of each kind find out what the server does wrong. What is late after a
// Leave may come when the client has joined again.
func TestFlawsAreFound(t *testing.T) {
	for flaw, want := range map[string]string{"lose": "lost", "double": "doubled", "reorder": "out of order", "late": "late", "twice": "doubled"} {
		for _, k := range everyKind {
			t.Run(flaw+", "+k.String(), func(t *testing.T) {
				t.Parallel()
				f := startFleet(t, flaw)
				f.addFor(t, k)
				err := f.Wait(patience)
				joinedAgain := flaw == "late" && err != nil && strings.Contains(err.Error(), "before the client joined")
				if err == nil || !strings.Contains(err.Error(), want) && !joinedAgain {
					t.Errorf("got %v, want what is %s", err, want)
				}
			})
		}
	}
}

// TestNothingIsFound: clients of each kind that are cut, and whose server is replaced, find nothing
// wrong with one that does as it should.
func TestNothingIsFound(t *testing.T) {
	f := startFleet(t, "")
	var clients []*Client
	for _, k := range everyKind {
		clients = append(clients, f.addFor(t, k))
	}
	until := func(what string, holds func() bool) {
		t.Helper()
		if err := f.Until(what, patience, holds); err != nil {
			t.Fatal(err)
		}
	}
	wave := func() {
		t.Helper()
		connections, calls := f.CameBack.Load()+int64(len(clients)), f.Calls.Load()+500
		for _, c := range clients {
			c.Cut()
		}
		until("all have come back, and called", func() bool {
			return f.CameBack.Load() >= connections && int(f.Connected.Load()) == len(clients) && f.Calls.Load() >= calls
		})
	}
	until("all are connected, and have called", func() bool { return int(f.Connected.Load()) == len(clients) && f.Calls.Load() > 500 })
	wave()
	back := f.CameBack.Load() + int64(len(clients))
	if _, d := f.Nodes[0].Replace(); d.Error != "" || d.Left.Sockets > 0 {
		t.Errorf("the server has ended with %+v", d)
	}
	until("all are back", func() bool { return f.CameBack.Load() >= back })
	wave()
	if err := f.Settle(clients, patience); err != nil {
		t.Fatal(err)
	}
	if f.Recovered.Load() < 3*7 {
		t.Errorf("%d connections continued their socket, want 7 each time", f.Recovered.Load())
	}
}
