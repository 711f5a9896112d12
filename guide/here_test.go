package guide

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atrium-go/atrium"
)

func TestOnline(t *testing.T) {
	a, srv := newTestApp(t, new(memory))
	c := connected(t, srv, "7")
	connected(t, srv, "7")
	connected(t, srv, "8")
	for id, want := range map[string]bool{"7": true, "8": true, "9": false} {
		if got, err := a.online(t.Context(), id); got != want || err != nil {
			t.Errorf("online(%q) = %v, %v", id, got, err)
		}
	}
	names, err := atrium.Call[[]string](t.Context(), c, "people", "lobby")
	if err != nil || len(names) != 2 || names[0] != "name of 7" || names[1] != "name of 8" {
		t.Errorf("people: %q, %v", names, err)
	}
	if _, err := atrium.Call[[]string](t.Context(), c, "people", "elsewhere"); err == nil {
		t.Error("people of a room that the client is not in were listed")
	}
}

// A user with two devices is here once, types on one of them, and was last seen when the last of
// them had gone.
func TestWhoIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		users := new(memory)
		a, srv := newTestApp(t, users)
		defer a.hub.Shutdown(t.Context())
		desk := device(t, srv, "7")
		var notes []string
		atrium.On(desk, "note", func(_ *atrium.Client, text string) error {
			notes = append(notes, text)
			return nil
		})
		watch(desk)
		here := desk.Presence("room:lobby")
		is := func(want string) {
			t.Helper()
			<-time.After(time.Minute)
			synctest.Wait()
			var list []string
			for _, user := range here.List() {
				list = append(list, user.Key)
				for _, info := range user.Infos {
					list = append(list, string(info))
				}
			}
			if got := strings.Join(list, " "); got != want {
				t.Errorf("here are %s, want %s", got, want)
			}
		}
		if err := desk.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		phone, other := connected(t, srv, "7"), connected(t, srv, "8")
		phone.Emit("typing", true)
		is(`7 {"name":"name of 7","typing":true} {"name":"name of 7"} 8 {"name":"name of 8"}`)
		came := users.lastSeen("8")

		phone.Close()
		other.Close()
		is(`7 {"name":"name of 7"}`)
		if went := users.lastSeen("8"); !went.After(came) || came.IsZero() {
			t.Errorf("8 was seen last at %v, and came at %v", went, came)
		}
		if at := users.lastSeen("7"); at.After(came) {
			t.Errorf("7, who is online, was seen last at %v", at)
		}
		if got := strings.Join(notes, ", "); got != "name of 7 has come, name of 8 has come" {
			t.Errorf("notes: %s", got)
		}
	})
}
