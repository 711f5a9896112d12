package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	patience = 60 * time.Second // how long a test waits for one thing; what goes well takes milliseconds
	lifetime = 8 * time.Minute  // of a tab or another program, some of whose tests wait for their turn behind all others
)

// browser starts the one browser that all tests share. Each tab in it has a profile of its own.
var browser = sync.OnceValues(func() (context.Context, error) {
	path, err := findBrowser()
	if err != nil {
		return nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], // headless, no first run, no background networking, no sync
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // containers run as root
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("lang", "en-GB"),
	)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stopBrowser = func() { cancel(); stop() }
	return ctx, chromedp.Do(ctx)
})

var (
	stopBrowser = func() {}
	scratch     string // a directory that all tests share, for the program they build
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "atrium-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	stopBrowser()
	os.RemoveAll(dir)
	os.Exit(code)
}

func findBrowser() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no browser in the PATH: install Chromium (on Debian or Ubuntu: apt-get install chromium) or Google Chrome")
}

// A tab is one person's browser tab. Whatever goes wrong in it fails the test: an error in the
// console, a violation of the content security policy, a request to a host that is not ours.
type tab struct {
	t     *testing.T
	ctx   context.Context
	close func()

	mu       sync.Mutex // guards what is below
	wrongs   []string
	tolerate []string // a wrong that contains one of them is expected
	received []string // WebSocket messages
}

// open opens a tab at the address.
func open(t *testing.T, address string) *tab {
	t.Helper()
	parent, err := browser()
	if err != nil {
		t.Fatal(err)
	}
	home, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &tab{t: t}
	ctx, closeTab := chromedp.NewContext(parent, chromedp.WithNewBrowserContext(), chromedp.WithListener(func(event any) { p.watch(event, home.Host) }))
	p.close = closeTab
	t.Cleanup(func() {
		closeTab()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, wrong := range p.wrongs {
			if !slices.ContainsFunc(p.tolerate, func(expected string) bool { return strings.Contains(wrong, expected) }) {
				t.Error(wrong)
			}
		}
	})
	if err := chromedp.Do(ctx); err != nil { // the browser ties the tab to this ctx, so it has no deadline; what follows has
		t.Fatalf("opening a tab: %v", err)
	}
	limited, cancel := context.WithTimeout(ctx, lifetime)
	t.Cleanup(cancel)
	p.ctx = limited
	call(p, audits.Enable, cdp.Empty{})
	call(p, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}) // as if it were in front
	p.size(laptop)
	p.do("open "+address, chromedp.Navigate(address))
	return p
}

func (p *tab) watch(event any, host string) {
	wrong := ""
	switch event := event.(type) {
	case *network.EventRequestWillBeSent:
		wrong = foreign(event.Request.URL, host)
	case *network.EventWebSocketCreated:
		wrong = foreign(event.URL, host)
	case *network.EventWebSocketFrameReceived:
		p.mu.Lock()
		p.received = append(p.received, string(event.Response.PayloadData))
		p.mu.Unlock()
	case *runtime.EventExceptionThrown:
		details, _ := json.Marshal(event.ExceptionDetails)
		wrong = "exception in the page: " + string(details)
	case *runtime.EventConsoleAPICalled:
		if event.Type == "error" || event.Type == "warning" || event.Type == "assert" {
			args, _ := json.Marshal(event.Args)
			wrong = "console: " + string(args)
		}
	case *log.EventEntryAdded:
		if event.Entry.Level == "error" || event.Entry.Level == "warning" {
			wrong = fmt.Sprintf("console: %s %s", event.Entry.Text, event.Entry.URL)
		}
	case *audits.EventIssueAdded:
		if event.Issue.Code == "ContentSecurityPolicyIssue" {
			details, _ := json.Marshal(event.Issue.Details)
			wrong = "content security policy: " + string(details)
		}
	}
	if wrong != "" {
		p.mu.Lock()
		p.wrongs = append(p.wrongs, wrong)
		p.mu.Unlock()
	}
}

// foreign says so if the address is on another host. data: and about:blank are on none.
func foreign(address, host string) string {
	if u, err := url.Parse(address); err != nil || u.Host != "" && u.Host != host {
		return "request to another host: " + address
	}
	return ""
}

// neverReceived fails the test if a message that contains the text came over the wire, whether the
// page showed it or not.
func (p *tab) neverReceived(text string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, message := range p.received {
		if strings.Contains(message, text) {
			p.t.Errorf("the tab received %s", message)
		}
	}
}

func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

func (p *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v\n%s", what, err, p.describe())
	}
}

// read evaluates a JavaScript expression in the page.
func read[T any](p *tab, expression string) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits until a JavaScript condition holds in the page. (chromedp.Poll compiles text to code
// within the page, and the page's own content security policy rightly forbids that.)
func (p *tab) until(condition string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	script := fmt.Sprintf(`new Promise(done => {
		const look = () => { if (%s) { clearInterval(timer); done(true); } };
		const timer = setInterval(look, 10);
		look();
	})`, condition)
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("waiting for %s: %v\n%s", condition, err, p.describe())
	}
}

// describe says what is on the screen, for messages of failure.
func (p *tab) describe() string {
	ctx, cancel := context.WithTimeout(p.ctx, time.Second)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body.innerText + '\nfocus: ' + (document.activeElement.id || document.activeElement.tagName)`))
	if err != nil {
		return fmt.Sprintf("(the page does not answer: %v)", err)
	}
	return "the page shows:\n" + text
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// fill puts the text into an input, in place of what is there. It goes in as if pasted, so any text
// will do.
func (p *tab) fill(selector, text string) {
	p.t.Helper()
	p.do("focus "+selector, chromedp.WaitVisible(chromedp.CSS(selector)), chromedp.Focus(chromedp.CSS(selector)))
	read[bool](p, `(document.activeElement.select(), true)`)
	if text == "" {
		p.press("\b")
		return
	}
	call(p, input.InsertText, input.InsertTextParams{Text: text})
}

// press presses keys one after the other, on whatever has the focus. A key that writes goes down
// and writes in one event, as on a real keyboard: a page that prevents the one prevents the other.
// (chromedp.KeyEvent makes two events of it.)
func (p *tab) press(keys string, modifiers ...kb.Modifier) {
	p.t.Helper()
	for _, key := range keys {
		events := kb.Encode(key) // down, perhaps char, up
		down, char, up := events[0], events[len(events)-2], events[len(events)-1]
		down.Text, down.UnmodifiedText = char.Text, char.UnmodifiedText
		for _, event := range []*input.DispatchKeyEventParams{down, up} {
			for _, modifier := range modifiers {
				event.Modifiers |= int64(modifier)
			}
			call(p, input.DispatchKeyEvent, *event)
		}
	}
}

// js quotes a Go string for JavaScript.
func js(text string) string {
	quoted, _ := json.Marshal(text) // strings always marshal
	return string(quoted)
}

type size struct {
	name          string
	width, height int64
	touch         bool
}

var (
	phone  = size{"phone", 360, 740, true}
	laptop = size{"laptop", 1280, 800, false}
)

func (p *tab) size(s size) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: s.width, Height: s.height, DeviceScaleFactor: 2, Mobile: s.touch})
	call(p, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: s.touch})
	read[bool](p, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))`) // laid out anew
}

func (p *tab) scheme(lightOrDark string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: lightOrDark},
			{Name: "prefers-reduced-motion", Value: "reduce"}, // no picture of colours on their way
		}})
}
