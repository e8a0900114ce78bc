package console_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// chromium is the distribution's, as scripts/setup.sh browser installs it.
const chromium = "/usr/bin/chromium"

// browser is a tab of Chromium. What its console says of errors, violations of the
// Content-Security-Policy among them, fails the test.
type browser struct {
	testing.TB
	ctx context.Context
	url string // of the server

	provoking  atomic.Bool  // the test provokes violations
	violations atomic.Int32 // that were provoked
}

// newBrowser opens a tab, with further flags for Chromium.
func newBrowser(t testing.TB, url string, flags ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	if _, err := os.Stat(chromium); err != nil {
		t.Fatalf("%v: run scripts/setup.sh browser", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, closeTab := startChromium(ctx, t, flags)
	b := &browser{TB: t, ctx: ctx, url: url}
	messages := chromedp.Console(ctx)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Source == "security" && b.provoking.Load() {
				b.violations.Add(1)
				continue
			}
			// Chromium makes an error of its own of an answer with a status of 400 or more.
			answered := m.Source == "network" && m.URL == url+"/"
			if (m.Type == "error" || m.Type == "warning" || m.IsException()) && !answered {
				t.Errorf("the console says %s %s: %s (%s)", m.Source, m.Type, m.Text, m.URL)
			}
		}
	}()
	t.Cleanup(func() {
		closeTab()
		<-heard
	})
	b.prefer("light")
	return b
}

// startChromium opens a tab in a Chromium of its own. Chromium does not always come up on a busy
// machine, so it has three attempts, each with an allocator of its own: chromedp panics when one
// that failed is asked again.
func startChromium(parent context.Context, t testing.TB, flags []chromedp.ExecAllocatorOption) (context.Context,
	context.CancelFunc) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		profile, err := os.MkdirTemp("", "verenc-browser-")
		must(t, err)
		t.Cleanup(func() { _ = os.RemoveAll(profile) }) // its processes may still write there
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
			chromedp.DisableGPU, chromedp.UserDataDir(profile), chromedp.Flag("disable-quic", true),
			chromedp.Flag("disable-component-update", true))
		ctx, end := chromedp.NewExecAllocator(parent, append(options, flags...)...)
		t.Cleanup(end)
		ctx, closeTab := chromedp.NewContext(ctx)
		t.Cleanup(closeTab)
		if err = chromedp.Do(ctx); err == nil {
			return ctx, closeTab
		}
		if attempt == 3 {
			t.Fatalf("start Chromium: %v", err)
		}
		t.Logf("start Chromium, attempt %d: %v", attempt, err)
	}
}

// prefer sets what the user prefers: a scheme of colours, and that nothing moves by itself, such as
// what is about to be clicked.
func (b *browser) prefer(scheme string) {
	b.Helper()
	features := []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme},
		{Name: "prefers-reduced-motion", Value: "reduce"},
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: features})
	must(b, err)
}

// do takes actions.
func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	must(b, chromedp.Do(b.ctx, actions...))
}

func (b *browser) open(path string) {
	b.Helper()
	b.do(chromedp.Navigate(b.url + path))
}

func (b *browser) click(selector string) {
	b.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// fill gives a control a value, as typing does. Keys are lost when something else takes the focus meanwhile, such
// as a dialog that closes; then they are typed again.
func (b *browser) fill(selector, value string) {
	b.Helper()
	for range 3 {
		eval[any](b, fmt.Sprintf("document.querySelector(%q).value = ''", selector))
		b.do(chromedp.SendKeys(chromedp.CSS(selector), value, chromedp.NodeVisible))
		if value == "" || eval[bool](b, fmt.Sprintf("document.querySelector(%q).value !== ''", selector)) {
			return
		}
	}
	b.Fatalf("%s takes no text", selector)
}

// wait waits until an expression is true.
func (b *browser) wait(expression string) {
	b.Helper()
	until := chromedp.Poll[bool](expression, chromedp.WithPollingTimeout(time.Minute))
	if _, err := chromedp.Run(b.ctx, until); err != nil {
		b.Fatalf(
			"%s: %v; the page is\n%s",
			expression,
			err,
			eval[string](b, "document.getElementById('main').innerText.slice(-1500)"),
		)
	}
}

// eval gives the value of an expression, or of its promise.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return v
}

// call imports a module of the page and gives what an expression makes of it, as the value m, and
// of arguments, as the value a.
func call[T any](b *browser, module, expression string, arguments any) T {
	b.Helper()
	text, err := json.Marshal(arguments)
	must(b, err)
	return eval[T](b, fmt.Sprintf(`(async () => {
		const m = await import(new URL(%q, document.querySelector("script[type=module]").src));
		const a = %s;
		return %s;
	})()`, module, text, expression))
}

// signIn fills in the form for it.
func (b *browser) signIn(c aws.Credentials) {
	b.Helper()
	b.click("#open-sign-in")
	b.fill("#access-key-id", c.AccessKeyID)
	b.fill("#secret", c.SecretAccessKey)
	if c.SessionToken != "" {
		b.fill("#session-token", c.SessionToken)
	}
	b.click("#sign-in-form button[type=submit]")
	b.wait(fmt.Sprintf("document.getElementById('who').title.endsWith(%q)", "\n"+c.AccessKeyID))
	b.wait("!document.querySelector('dialog[open]')") // it gives the focus back
}

// send clicks Send and gives the heading of the answer. What it clicks on may be outside of the
// viewport.
func (b *browser) send() string {
	b.Helper()
	eval[any](b, "document.getElementById('answer').replaceChildren()")
	b.click("#try-form button[type=submit]")
	b.wait("document.querySelector('#answer .status, #answer .warning') !== null")
	return b.text("#answer .status, #answer .warning")
}

func (b *browser) text(selector string) string {
	b.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q)?.textContent ?? ''", selector))
}

// answer is the JSON that is shown.
func (b *browser) answer() (members map[string]any) {
	b.Helper()
	must(b, json.Unmarshal([]byte(b.text("#answer .json")), &members))
	return members
}

// field selects the control with a label.
func (b *browser) field(label string) string {
	b.Helper()
	id := eval[string](
		b,
		fmt.Sprintf(
			"[...document.querySelectorAll('#fields label')].find((l) => l.textContent.startsWith(%q)).htmlFor",
			label,
		),
	)
	return "#" + id
}

// tabTo moves the focus with the keyboard. What has it always shows it.
func (b *browser) tabTo(selector string) {
	b.Helper()
	const style = "getComputedStyle(document.activeElement.matches('.tabs input') ? " +
		"document.activeElement.nextElementSibling : document.activeElement).outlineStyle"
	for range 200 {
		if eval[bool](b, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
			return
		}
		b.do(chromedp.KeyEvent("\t"))
		if eval[string](b, style) == "none" {
			b.Errorf("%s has the focus and does not show it", eval[string](b, "document.activeElement.outerHTML.slice(0, 200)"))
		}
	}
	b.Fatalf("%s can't be reached", selector)
}

// screenshots is the folder of the pictures that the tests take, which stay when they have ended.
func screenshots() string { return cmp.Or(os.Getenv("VERENC_SCREENSHOTS"), "../../build/screenshots") }

// show sets the size of the window and the scheme of colours, and takes a picture.
func (b *browser) show(name string, width, height int64, scheme string) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, height))
	b.prefer(scheme)
	picture, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	must(b, err)
	must(b, os.MkdirAll(screenshots(), 0o755))
	file := strings.NewReplacer("/", "-", " ", "-").Replace(strings.TrimPrefix(name, "/")) + ".png"
	must(b, os.WriteFile(filepath.Join(screenshots(), file), picture, 0o644))
}
