package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atrium-go/atrium"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const password = "atrium"

// enter opens a tab and signs in. The address names the room.
func enter(t *testing.T, s *server, name, room string) *tab {
	t.Helper()
	p := open(t, s.url+"#/"+url.PathEscape(room))
	p.signIn(name, password)
	p.until(inRoom(room))
	return p
}

func (p *tab) signIn(name, password string) {
	p.t.Helper()
	p.fill("#name", name)
	p.fill("#password", password)
	p.click("#enter")
}

func (p *tab) say(text string) {
	p.t.Helper()
	p.fill("#text", text)
	p.press("\r")
}

// Conditions for until, in the words of the page.

func inRoom(room string) string {
	return fmt.Sprintf(`(!document.querySelector('#chat').hidden && !document.querySelector('#conversation').hidden &&
		document.querySelector('#room-name').textContent === %s)`, js(room))
}

func shows(text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.log:not([hidden]) .text')].some(e => e.textContent === %s)`, js(text))
}

// mine holds when a message of our own is in the state: waiting, sending, sent or failed.
func mine(text, state string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('.log:not([hidden]) .mine[data-state=%s] .text')].some(e => e.textContent === %s)`, state, js(text))
}

func connection(state string) string {
	return fmt.Sprintf(`document.querySelector('#connection').textContent === %s`, js(state))
}

// complains holds when the error stands beside the input, and the input says so to those who cannot
// see.
func complains(input, errorID, part string) string {
	return fmt.Sprintf(`(() => {
		const input = document.querySelector(%s), error = document.querySelector('#' + %s);
		return error.textContent.includes(%s) && error.checkVisibility() && input.ariaInvalid === 'true' &&
			input.getAttribute('aria-describedby').split(' ').includes(error.id);
	})()`, js(input), js(errorID), js(part))
}

func isHere(names ...string) string {
	return fmt.Sprintf(`JSON.stringify([...document.querySelectorAll('.person-name')].map(e => e.textContent)) === %s`, js(fmt.Sprintf(`["%s"]`, strings.Join(names, `","`))))
}

func (p *tab) messages() []string {
	p.t.Helper()
	return read[[]string](p, `[...document.querySelectorAll('.log:not([hidden]) .text')].map(e => e.textContent)`)
}

func TestTalk(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada := enter(t, s, "Ada", "lobby")
	ben := enter(t, s, "Ben", "lobby")
	cleo := enter(t, s, "Cleo", "kitchen")
	ada.until(isHere("Ada", "Ben"))
	cleo.until(isHere("Cleo"))
	ada.until(`[...document.querySelectorAll('#others .room-link')].some(e => e.textContent.includes('kitchen'))`)

	ada.say("Hello, is anybody here?")
	ada.until(mine("Hello, is anybody here?", "sent"))
	ada.until(`document.querySelector('.mine .state-text').textContent === 'Sent' && document.querySelector('.mine use').getAttribute('href') === '#tick-icon'`)
	ben.until(shows("Hello, is anybody here?"))
	if from := read[string](ben, `document.querySelector('.message .from').textContent`); from != "Ada" {
		t.Errorf("Ben reads that %q said it, want Ada", from)
	}
	ben.say("I am.")
	ben.until(mine("I am.", "sent"))
	ada.until(shows("I am."))

	// Ben goes to the kitchen. What he says there comes after all that, so had Cleo heard anything,
	// it would be here.
	ben.fill("#room", "kitchen")
	ben.press("\r")
	ben.until(inRoom("kitchen"))
	ben.say("Tea?")
	cleo.until(shows("Tea?"))
	if got := cleo.messages(); !slices.Equal(got, []string{"Tea?"}) {
		t.Errorf("Cleo, alone in the kitchen until Ben came, heard %q", got)
	}
	cleo.neverReceived("anybody here")

	// He is still in the lobby too, and is told that something new is there.
	ada.say("Ben?")
	ben.until(`[...document.querySelectorAll('#mine .room-link')].some(e => e.textContent.includes('lobby') && e.textContent.includes('1 new'))`)
	ben.until(`document.title.startsWith('(1)')`)
	ben.click(`#mine a[title="lobby"]`)
	ben.until(inRoom("lobby"))
	ben.until(`document.title.startsWith('lobby')`)
	ben.until(shows("Ben?"))
}

func TestWrongPassword(t *testing.T) {
	t.Parallel()
	p := open(t, start(t).url)
	p.until(fmt.Sprintf(`document.querySelector('#password-hint').textContent.includes(%s)`, js(password)))
	p.signIn("Ada", "sesame")
	p.until(complains("#password", "password-error", "Auth failed"))
	p.until(`document.activeElement.id === 'password'`)
	p.signIn("Ada", password)
	p.until(inRoom("lobby"))
}

func TestValidation(t *testing.T) {
	t.Parallel()
	p := open(t, start(t).url)

	p.signIn("", password)
	p.until(complains("#name", "name-error", "Please enter a name"))
	p.signIn(strings.Repeat("ü", 25), password)
	p.until(complains("#name", "name-error", "25 characters"))
	p.signIn(strings.Repeat("ü", 24), password)
	p.until(inRoom("lobby"))

	p.fill("#room", strings.Repeat("r", 33))
	p.press("\r")
	p.until(complains("#room", "room-error", "33 characters"))
	p.until(inRoom("lobby"))
	p.fill("#room", "kitchen")
	p.until(`document.querySelector('#room').ariaInvalid !== 'true' && document.querySelector('#room-error').textContent === ''`)
	p.press("\r")
	p.until(inRoom("kitchen"))

	// A message that is refused is back where it was written, to be mended.
	long := strings.Repeat("long ", 401)
	p.say(long)
	p.until(complains("#text", "message-error", "2005 characters"))
	p.until(fmt.Sprintf(`document.querySelector('#text').value === %s`, js(long)))
	if got := p.messages(); len(got) != 0 {
		t.Errorf("a refused message still stands in the log: %.50q", got)
	}
	p.say(long[:2000])
	p.until(mine(long[:2000], "sent"))
	p.until(`document.querySelector('#text').ariaInvalid !== 'true'`)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := start(t, "-addr", quietAddr(t))
	ada := enter(t, s, "Ada", "lobby")
	ben := enter(t, s, "Ben", "lobby")
	for _, p := range []*tab{ada, ben} {
		p.tolerate = []string{"WebSocket connection to"} // refused, while nobody listens
	}
	ada.fill("#room", "kitchen")
	ada.press("\r")
	ada.until(inRoom("kitchen"))
	ada.say("before")
	ada.until(mine("before", "sent"))

	s.kill()
	ada.until(connection("Offline") + ` || ` + connection("Connecting"))
	ada.until(`document.querySelector('#offline').checkVisibility()`)
	ada.say("meanwhile, one")
	ada.say("meanwhile, two")
	long := strings.Repeat("long ", 401)
	ada.say(long)
	for _, text := range []string{"meanwhile, one", "meanwhile, two", long} {
		ada.until(mine(text, "waiting"))
	}
	ada.fill("#text", "a draft")

	s = start(t, "-addr", s.addr)
	for _, p := range []*tab{ada, ben} {
		p.until(connection("Connected"))
		p.until(`!document.querySelector('#offline').checkVisibility()`)
	}
	ada.until(inRoom("kitchen")) // where she was
	ada.until(isHere("Ada"))
	ada.until(mine("meanwhile, one", "sent"))
	ada.until(mine("meanwhile, two", "sent"))

	// One of them is refused. She is writing something else by now, so it stays in the log and says
	// why.
	ada.until(mine(long, "failed"))
	ada.until(`document.querySelector('[data-state=failed] .state-text').textContent.includes('2005 characters')`)
	ada.until(`document.querySelector('#text').value === 'a draft'`)
	ada.click("[data-state=failed] .edit")
	ada.until(fmt.Sprintf(`document.querySelector('#text').value === %s`, js(long+"\na draft")))

	// She is back in her other room too.
	ada.click(`#mine a[title="lobby"]`)
	ada.until(inRoom("lobby"))
	ada.until(isHere("Ada", "Ben"))
	ben.say("after")
	ada.until(shows("after"))
	ada.say("indeed")
	ada.until(mine("indeed", "sent"))
	ben.until(shows("indeed"))

	// A graceful end looks the same from here.
	s.interrupt()
	ada.until(`document.querySelector('#offline').checkVisibility()`)
	ada.click("#retry")
	ada.until(`document.querySelector('#offline').checkVisibility()`)

	// A server with another password does not want us. That is an answer, not an accident: no
	// trying on and on.
	start(t, "-addr", s.addr, "-password", "sesame")
	ada.until(complains("#password", "password-error", "Auth failed"))
	ada.signIn("Ada", "sesame")
	ada.until(inRoom("lobby"))
	ada.until(shows("indeed"))
	ada.say("and again")
	ada.until(mine("and again", "sent"))
}

// TestTextOfEveryPlane sends text from each plane of Unicode that has characters assigned, and from
// the private ones.
func TestTextOfEveryPlane(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada := enter(t, s, "Ada 🌿", "سلام 🏛️")
	ben := enter(t, s, "בן", "سلام 🏛️")
	ada.until(isHere("Ada 🌿", "בן"))
	texts := []struct{ plane, text string }{
		{"0, precomposed and combining", "é e\u0301 n\u0303\u0323 q\u0323\u0307 한글 ᄒ\u1161ᆫ"},
		{"0, right to left", "שלום עולם, مرحبا بالعالم (1 < 2) \u200f\u202bx\u202c\u2066y\u2069"},
		{"0, edges and invisibles", "\u00a0\u00ad\u200b\u200d\u2028\u2029\ufeff\ud7ff\ue000\uf8ff\uffef\ufffd"},
		{"0, what HTML and JSON trip over", `<b>&amp;</b> "quoted" \u0041 </script> <!-- {"event":"x"} '` + "`" + `\`},
		{"1, SMP: emoji", "😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇦🇶 𝄞 𐍈 𝔸 𞤀𞤁 🀄"},
		{"2, SIP", "𠀀𠮷𪜀𫝀\U0002fa1d"},
		{"3, TIP", "\U00030000\U0003134a\U00031350\U000323af"},
		{"14, SSP: tags and variation selectors", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f 葛\U000e0100"},
		{"15, private", "\U000f0000\U000ffffd"},
		{"16, private, and the last character of all", "\U00100000\U0010fffd"},
		{"white space", "  two\n\n\tlines  and  spaces  "},
	}
	for _, c := range texts {
		ada.say(c.text)
		ada.until(mine(c.text, "sent"))
	}
	ben.until(fmt.Sprintf(`document.querySelectorAll('.log:not([hidden]) .text').length === %d`, len(texts)))
	for _, p := range []*tab{ada, ben} {
		got := p.messages()
		for i, c := range texts {
			if i >= len(got) || got[i] != c.text {
				t.Errorf("plane %s: arrived as %+q, want %+q", c.plane, got[i:min(i+1, len(got))], c.text)
			}
		}
	}
}

func TestTyping(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada := enter(t, s, "Ada", "lobby")
	ben := enter(t, s, "Ben", "lobby")
	cleo := enter(t, s, "Cleo", "kitchen")
	typing := `document.querySelector('#typing').checkVisibility({visibilityProperty: true}) && document.querySelector('#typing-names').textContent === '\u2068Ada\u2069 is typing…'`

	ada.do("type", chromedp.SendKeys(chromedp.CSS("#text"), "Hm"))
	ben.until(typing)
	ada.press("\r") // what she has said, she types no more
	ben.until(shows("Hm"))
	ben.until(`!document.querySelector('#typing').checkVisibility({visibilityProperty: true})`)

	ada.do("type", chromedp.SendKeys(chromedp.CSS("#text"), "So"))
	ben.until(typing)
	ben.until(`!document.querySelector('#typing').checkVisibility({visibilityProperty: true})`) // she stopped: it fades by itself
	cleo.neverReceived(`"typing":true`)
}

// TestTwoWindows: Ada in two windows is one person. What she says in one is hers in the other.
func TestTwoWindows(t *testing.T) {
	t.Parallel()
	s := start(t)
	ben := enter(t, s, "Ben", "lobby")
	ada, also := enter(t, s, "Ada", "lobby"), enter(t, s, "Ada", "lobby")
	for _, p := range []*tab{ben, ada, also} {
		p.until(isHere("Ada", "Ben"))
		p.until(`document.querySelector('#mine .count').textContent === '2'`)
	}
	ada.say("Hello")
	also.until(mine("Hello", "sent"))
	ben.until(shows("Hello"))

	// She types in one window, and it is closed.
	also.do("type", chromedp.SendKeys(chromedp.CSS("#text"), "Hm"))
	typing := `document.querySelector('#typing').checkVisibility({visibilityProperty: true})`
	ben.until(typing)
	also.close()
	ben.until(`!` + typing)
	ben.until(isHere("Ada", "Ben"))
	ada.close()
	ben.until(isHere("Ben"))
}

// TestTalkToOnePerson: what Ada says to Ben alone shows in all windows of the two, and in no other.
func TestTalkToOnePerson(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada, also := enter(t, s, "Ada", "lobby"), enter(t, s, "Ada", "kitchen")
	ben := enter(t, s, "Ben", "lobby")
	cleo := enter(t, s, "Cleo", "lobby")
	ada.until(isHere("Ada", "Ben", "Cleo"))
	ada.click(`#people a[title="Talk to Ben"]`)
	ada.until(inRoom("@Ben"))
	ada.until(isHere("Ada", "Ben"))
	ada.say("Psst")
	ada.until(mine("Psst", "sent"))

	ben.until(`[...document.querySelectorAll('#mine .room-link')].some(e => e.textContent === '@Ada1 new')`)
	ben.click(`#mine a[title="@Ada"]`)
	ben.until(inRoom("@Ada"))
	ben.until(shows("Psst"))
	also.click(`#mine a[title="@Ben"]`)
	also.until(mine("Psst", "sent"))
	ben.say("What?")
	for _, p := range []*tab{ada, also} {
		p.until(shows("What?"))
	}

	// In Ben's conversation stand those of the two who are here. He goes, and she is told.
	ben.close()
	ada.until(isHere("Ada"))
	ada.say("Still there?")
	ada.until(complains("#text", "message-error", "Ben is not here."))
	ada.until(`document.querySelector('#text').value === 'Still there?'`)
	ada.click("#leave")
	ada.until(inRoom("lobby"))
	ada.say("Hello all")
	cleo.until(shows("Hello all"))
	cleo.neverReceived("Psst")
	cleo.neverReceived("What?")
}

func TestLeave(t *testing.T) {
	t.Parallel()
	s := start(t)
	ada := enter(t, s, "Ada", "lobby")
	ben := enter(t, s, "Ben", "lobby")
	ada.fill("#room", "kitchen")
	ada.press("\r")
	ada.until(inRoom("kitchen"))
	ben.until(isHere("Ada", "Ben"))
	ben.until(`[...document.querySelectorAll('.room-link')].map(e => e.textContent).join() === 'lobby2 people,kitchen1 people'`)

	ada.click("#leave")
	ada.until(inRoom("lobby"))
	ben.until(`[...document.querySelectorAll('.room-link')].map(e => e.textContent).join() === 'lobby2 people'`)
	ada.click("#leave")
	ada.until(`document.querySelector('#nowhere').checkVisibility()`)
	ben.until(isHere("Ben"))
	ben.say("Gone?")
	ben.until(mine("Gone?", "sent"))

	// Back again, by the list: she has missed what was said.
	ada.click(`#others a[title="lobby"]`)
	ada.until(inRoom("lobby"))
	ben.until(isHere("Ada", "Ben"))
	if got := ada.messages(); len(got) != 0 {
		t.Errorf("Ada was away, and yet reads %q", got)
	}

	ben.click("#sign-out")
	ben.until(`document.querySelector('#sign-in').checkVisibility()`)
	ada.until(isHere("Ada"))
}

// TestKeyboard does everything without a mouse, and sees to it that the focus is visible wherever
// it goes.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := start(t)
	ben := enter(t, s, "Ben", "lobby")
	ada := open(t, s.url)

	ada.until(`document.activeElement.id === 'name'`)
	ada.press("Ada")
	ada.tabTo("password")
	ada.press(password)
	ada.tabTo("enter")
	ada.press("\r")
	ada.until(inRoom("lobby"))
	ada.until(`document.activeElement.id === 'text'`)
	ada.press("No mouse")
	ada.press("\r", kb.ModifierShift)
	ada.press("at all")
	ada.press("\r")
	ada.until(mine("No mouse\nat all", "sent"))
	ben.until(shows("No mouse\nat all"))

	ada.tabTo("skip") // round the end of the page to its beginning
	ada.press("\r")
	ada.until(`document.activeElement.id === 'text'`)

	ada.tabTo("room")
	ada.press("kitchen")
	ada.press("\r")
	ada.until(inRoom("kitchen"))
	ada.until(`document.activeElement.id === 'text'`)
	ada.tabTo("leave")
	ada.press("\r")
	ada.until(inRoom("lobby"))
	ada.tabTo("sign-out")
	ada.press("\r")
	ada.until(`document.activeElement.id === 'name'`)
	ben.until(isHere("Ben"))
}

// tabTo presses Tab until the element has the focus. Each stop on the way must have a name and a
// visible outline.
func (p *tab) tabTo(id string) {
	p.t.Helper()
	for range 40 {
		p.press("\t")
		stop := read[struct {
			ID, What string
			Outline  bool
			Named    bool
		}](p, `(() => {
			const e = document.activeElement, style = getComputedStyle(e);
			return {
				ID: e.id, What: e.outerHTML.slice(0, 80),
				Outline: e === document.body || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2),
				Named: e === document.body || Boolean(e.ariaLabel || e.labels?.[0]?.textContent || e.textContent.trim()),
			};
		})()`)
		if !stop.Outline || !stop.Named {
			p.t.Errorf("the focus comes to %s, visible there: %t, has a name: %t", stop.What, stop.Outline, stop.Named)
		}
		if stop.ID == id {
			return
		}
	}
	p.t.Fatalf("Tab does not come to #%s\n%s", id, p.describe())
}

// TestServerSaysGo: the server's wish, and the page does not come back by itself.
func TestServerSaysGo(t *testing.T) {
	t.Parallel()
	h := atrium.New(atrium.Options{})
	visits := make(chan struct{}, 10)
	h.OnConnect(func(*atrium.Socket) { visits <- struct{}{} })
	atrium.On(h, "join", func(*atrium.Socket, struct{ Room string }) error { return nil })
	atrium.OnCall(h, "say", func(s *atrium.Socket, _ struct{ Text string }) (time.Time, error) {
		if len(visits) == 1 {
			s.Disconnect()
		}
		return time.Now(), nil
	})
	mux := http.NewServeMux()
	mux.Handle("/socket.io/", h)
	mux.Handle("/client.js", atrium.ClientScript())
	mux.Handle("/", http.FileServerFS(os.DirFS("../examples/chat/chatroom/page")))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)

	p := open(t, srv.URL+"/")
	p.signIn("Ada", "")
	p.until(inRoom("lobby"))
	p.say("Throw me out")
	p.until(`document.querySelector('#sign-in').checkVisibility() && document.querySelector('#sign-in-error').textContent === 'The server has ended this session.'`)
	p.signIn("Ada", "")
	p.until(inRoom("lobby"))
	p.until(mine("Throw me out", "sent")) // whether the server had heard it was not known, so it was said again
	if len(visits) != 2 {
		t.Errorf("the page connected %d times, want 2: once for each sign-in", len(visits))
	}
}
