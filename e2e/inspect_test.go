package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atrium-go/atrium"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// hostile are names that clients choose, and what is shown of each.
var hostile = map[string]string{
	`<img src=x onerror="document.title='owned'">`:   `<img src=x onerror="document.title='owned'">`,
	`"quoted" 'and' so`:                              `"quoted" 'and' so`,
	"a line\nbreak\r\n":                              "a line\ufffdbreak\ufffd\ufffd",
	"\u202eright to left\u2066":                      "\ufffdright to left\ufffd",
	strings.Repeat("\U0001F469\u200d\U0001F467", 23): strings.Repeat("\U0001F469\u200d\U0001F467", 23),
}

// watched is a hub with clients, and a tab that shows the page about it.
type watched struct {
	*tab
	hub     *atrium.Hub
	clients map[string]*atrium.Client // by the room of each that no other is in
}

func watch(t *testing.T) *watched {
	h := atrium.New(atrium.Options{})
	atrium.OnCall(h, "join", func(s *atrium.Socket, room string) (bool, error) { return true, s.Join("everybody", room) })
	atrium.OnCall(h, "ask", func(_ *atrium.Socket, text string) (string, error) { return text, nil })
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/debug/atrium/", atrium.Inspect(h, &atrium.InspectOptions{Payloads: true, Actions: true}))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	w := &watched{hub: h, clients: make(map[string]*atrium.Client)}
	rooms := []string{"garden"}
	for name := range hostile {
		rooms = append(rooms, name)
	}
	for i := len(rooms); i < 120; i++ {
		rooms = append(rooms, fmt.Sprintf("room-%d", i))
	}
	for _, room := range rooms {
		c := atrium.NewClient(srv.URL, atrium.ClientOptions{Dial: atrium.DialOptions{Header: http.Header{"User-Agent": {`<b>"agent"</b>`}}}})
		t.Cleanup(func() { c.Close() })
		if err := c.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := atrium.Call[bool](t.Context(), c, "join", room); err != nil {
			t.Fatal(err)
		}
		w.clients[room] = c
	}
	w.tab = open(t, srv.URL+"/debug/atrium/")
	w.until(`document.querySelector('#status').textContent === 'Live' && document.querySelectorAll('#table tbody tr').length === 100`)
	return w
}

// isRow holds when the table's only row is so named.
func isRow(name string) string {
	return fmt.Sprintf(`(rows => rows.length === 1 && rows[0].querySelector('th').textContent === %s)([...document.querySelectorAll('#table tbody tr')])`, js(name))
}

// focused holds when an element has the focus.
func focused(selector string) string {
	return fmt.Sprintf(`document.activeElement?.matches(%s)`, js(selector))
}

// TestInspectByKeyboard finds a socket, sees its events, sends it one and disconnects it, without a
// mouse.
func TestInspectByKeyboard(t *testing.T) {
	t.Parallel()
	w := watch(t)
	c := w.clients["garden"]
	notices := make(chan string, 1)
	atrium.On(c, "notice", func(_ *atrium.Client, text string) error { notices <- text; return nil })
	gone := make(chan atrium.Reason, 1)
	c.OnDisconnect(func(_ *atrium.Client, why atrium.Reason) { gone <- why })

	w.press("/")
	w.until(focused("#search"))
	for _, letter := range "Garden" {
		w.press(string(letter))
	}
	w.until(isRow(c.ID()))
	if found := read[string](w.tab, `document.querySelector('#found').textContent`); found != "1 socket" {
		t.Errorf("it says %q", found)
	}
	for range 20 { // over the headings
		if read[bool](w.tab, focused("#table tbody button")) {
			break
		}
		w.press(kb.Tab)
	}
	w.until(focused("#table tbody button"))
	w.press(kb.Enter)
	w.until(`document.querySelector('#socket').open && document.querySelector('#facts').textContent.includes('<b>"agent"</b>')`)
	w.press(kb.Escape)
	w.until(`!document.querySelector('#socket').open`)
	w.until(focused("#table tbody button")) // where it was
	w.press(kb.Enter)
	w.until(`document.querySelector('#rooms').textContent === 'everybodygarden'`)

	if _, err := atrium.Call[string](t.Context(), c, "ask", "<i>how</i> are you?"); err != nil {
		t.Fatal(err)
	}
	w.until(`(rows => rows.length === 2 && rows[1].includes('in') && rows[1].includes('ask') && rows[1].includes('<i>how</i>') && rows[0].includes('answer to'))(
		[...document.querySelectorAll('#events tr')].map(row => row.textContent))`)

	to := func(selector string) {
		t.Helper()
		for range 20 {
			w.press(kb.Tab)
			if read[bool](w.tab, focused(selector)) {
				return
			}
		}
		t.Fatalf("Tab does not lead to %s", selector)
	}
	to("#send-event")
	for _, letter := range "notice" {
		w.press(string(letter))
	}
	to("#send-args")
	for _, letter := range `"hi"` {
		w.press(string(letter))
	}
	w.press(kb.Enter)
	if text := <-notices; text != "hi" {
		t.Errorf("the client got %q", text)
	}
	w.until(`document.querySelector('#done').textContent === 'Sent'`)
	to("#disconnect")
	w.press(kb.Enter)
	w.until(`document.querySelector('#disconnect').textContent.startsWith('Yes')`)
	w.press(kb.Enter)
	if why := <-gone; why != atrium.ReasonServerDisconnect {
		t.Errorf("the client has left: %s", why)
	}
	w.until(`document.querySelector('#gone').textContent.includes('server namespace disconnect')`)
	w.press(kb.Escape)
	w.until(`document.querySelector('#found').textContent === '0 sockets'`)
}

// TestInspectLists goes through the lists, on a phone, too. Nothing may stick out, and hostile
// names are text. With ATRIUM_SCREENSHOTS set to a directory, it leaves pictures there.
func TestInspectLists(t *testing.T) {
	t.Parallel()
	w := watch(t)
	shots := os.Getenv("ATRIUM_SCREENSHOTS")
	narrow := size{"narrow", 360, 740, true}
	look := func(name string) {
		t.Helper()
		for _, size := range []size{narrow, laptop} {
			w.size(size)
			for _, scheme := range []string{"light", "dark"} {
				w.scheme(scheme)
				if over := read[int](w.tab, `document.documentElement.scrollWidth - innerWidth`); over > 0 {
					t.Errorf("%s on a %s screen: the page is %d pixels too wide", name, size.name, over)
				}
				if shots == "" {
					continue
				}
				picture, err := chromedp.Run(w.ctx, chromedp.CaptureScreenshot())
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(shots, strings.Join([]string{"inspect", name, size.name, scheme}, "-")+".png"), picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	look("sockets")
	w.click("#later")
	w.until(`document.querySelectorAll('#table tbody tr').length === 20 && document.querySelector('#range').textContent === '101–120 of 120'`)

	r, err := http.NewRequest("GET", strings.TrimSuffix(read[string](w.tab, `location.href`), "debug/atrium/")+"socket.io/?EIO=4&transport=polling", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", `https://evil.example/<script>`)
	refused, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	w.click(`.tabs a[href="#lately"]`)
	w.until(`document.querySelector('#lately').textContent.includes('https://evil.example/<script>')`)
	look("lately")

	w.click(`.tabs a[href="#rooms"]`)
	w.until(`document.querySelector('#table tbody tr')?.textContent === 'everybody120'`)
	for name, text := range hostile {
		w.fill("#search", strings.TrimRight(strings.Split(name, "\n")[0], "\u2066"))
		w.until(isRow(text))
		look("room")
		w.click("#table tbody button")
		w.until(isRow(w.clients[name].ID()))
		w.until(fmt.Sprintf(`document.querySelector('#room bdi').textContent === %s`, js(text)))
		w.click("#table tbody button")
		w.until(fmt.Sprintf(`[...document.querySelectorAll('#rooms .chip')].some(chip => chip.textContent === %s)`, js(text)))
		event, _ := json.Marshal(name)
		if err := w.hub.To(name).Emit(name, json.RawMessage(event)); err != nil {
			t.Fatal(err)
		}
		w.until(fmt.Sprintf(`document.querySelector('#events .name bdi')?.textContent === %s`, js(text)))
		look("socket")
		w.click("#close")
		w.click(`.tabs a[href="#rooms"]`)
		w.until(`document.querySelectorAll('#table tbody tr').length === 100`)
	}
	if title := read[string](w.tab, `document.title`); title != "Atrium" {
		t.Errorf("the title is %q", title)
	}
}
