package console_test

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/chromedp/chromedp"
)

// press clicks the button with a text, which may be outside of the viewport.
func (b *browser) press(within, text string) {
	b.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll(%q)].find((e) => e.textContent.trim() === %q)",
		within+" button", text)
	b.wait(find + " !== undefined")
	eval[any](b, find+".setAttribute('data-pressed', '')")
	b.click("[data-pressed]")
	eval[any](b, "document.querySelector('[data-pressed]')?.removeAttribute('data-pressed')")
}

// says waits until an element has a text.
func (b *browser) says(selector, text string) {
	b.Helper()
	b.wait(fmt.Sprintf("[...document.querySelectorAll(%q)].some((e) => e.textContent.includes(%q))", selector, text))
}

// control selects the field with a label on a page of the console.
func (b *browser) control(label string) string {
	b.Helper()
	const find = "([...document.querySelectorAll('#console label')]" +
		".find((l) => l.textContent.startsWith(%q))?.htmlFor ?? '')"
	b.wait(fmt.Sprintf(find, label) + " !== ''")
	return "#" + eval[string](b, fmt.Sprintf(find, label))
}

// loaded waits until all parts of a page of the console are there.
func (b *browser) loaded() {
	b.Helper()
	b.wait("document.querySelector('#console section, #console table') !== null && " +
		"document.querySelector('#console [aria-busy=true]') === null")
}

func (b *browser) choose(selector, value string) {
	b.Helper()
	eval[any](b, fmt.Sprintf(
		"(() => { const s = document.querySelector(%q); s.value = %q; s.dispatchEvent(new Event('change')); })()",
		selector, value))
}

// TestConsole does what the keeper of a key does with it: creates it with alias, tag and rotation,
// disables and enables it, schedules its deletion and cancels that.
func TestConsole(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/docs")
	b.click(".areas a[href='/console']")
	b.says("#console .panel", "Sign in")
	b.signIn(s.Root)
	b.says("#console .panel", "There are no keys yet.")

	b.click("#console .panel a[href='/console/create']")
	b.choose(b.control("The key is to"), "SIGN_VERIFY")
	if b.text(b.control("Kind of key")+" option") == "SYMMETRIC_DEFAULT" {
		t.Error("SYMMETRIC_DEFAULT is offered for signatures")
	}
	offered := eval[bool](b, "document.querySelector('option[value=ENCAPSULATE_DECAPSULATE]') !== null")
	if _, can := s.Service.KeySpecs()["ML_KEM_768"]; offered != can {
		t.Errorf("ML-KEM is offered: %v; the token has it: %v", offered, can)
	}
	b.choose(b.control("The key is to"), "ENCRYPT_DECRYPT")
	b.fill(b.control("Description"), "of the test")
	b.fill(b.control("Alias"), "shop")
	b.press("#console", "Add to Tags")
	b.fill("#console .pair input[aria-label=Name]", "team")
	b.fill("#console .pair input[aria-label=Value]", "blue")
	b.click("#console .check input")
	b.show("create", 1280, 900, "light")
	b.press("#console", "Create key")
	b.wait("location.pathname.startsWith('/console/keys/')")
	b.says("h1", "alias/shop")
	b.says("#console .done", "The key is created.")
	b.loaded()
	id := strings.TrimPrefix(eval[string](b, "location.pathname"), "/console/keys/")
	for _, want := range []string{"of the test", "team", "blue", "every 365 days", "CURRENT", "alias/shop", id} {
		b.says("#console", want)
	}

	b.press("#state-actions", "Disable")
	b.says("#console .done", "The key is disabled.")
	b.press("#state-actions", "Enable")
	b.says("#console .done", "The key is enabled.")
	b.loaded()

	b.press("#state-actions", "Schedule deletion")
	b.press("dialog.ask", "Schedule deletion")
	b.says("dialog.ask [role=alert]", "neither the key's id nor one of its aliases")
	b.fill("#confirm-name", "alias/shops")
	b.press("dialog.ask", "Schedule deletion")
	if !eval[bool](b, "document.querySelector('dialog.ask').open") {
		t.Error("a wrong name is taken")
	}
	b.fill("#confirm-name", "alias/shop")
	b.fill(b.control("Waiting period"), "31")
	b.press("dialog.ask", "Schedule deletion")
	b.says("dialog.ask [role=alert]", "7 to 30 days")
	b.fill(b.control("Waiting period"), "7")
	b.press("dialog.ask", "Schedule deletion")
	b.says("#console .done", "The key is deleted in 7 days")
	b.says(".state", "PendingDeletion")
	b.press("#state-actions", "Cancel deletion")
	b.says(".state", "Disabled")
	b.press("#state-actions", "Enable")
	b.says(".state", "Enabled")
	b.loaded()

	out, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/shop")})
	must(t, err)
	if *out.KeyMetadata.KeyId != id || out.KeyMetadata.KeyState != types.KeyStateEnabled {
		t.Errorf("the service has %+v", out.KeyMetadata)
	}
	b.show("key", 1280, 1000, "light")
	b.click("#console a[href^='/docs/Encrypt?']")
	b.wait("document.getElementById('try-form')?.hidden === false")
	if key := eval[string](b, fmt.Sprintf("document.querySelector(%q).value", b.field("KeyId"))); key != id {
		t.Errorf("Try it out has the key %q", key)
	}
	b.do(chromedp.NavigateBack())
	b.says("h1", "alias/shop")
	b.click("#sign-out")
	if shown := b.text("#main"); strings.Contains(shown, "shop") || strings.Contains(shown, "blue") {
		t.Errorf("after signing out the page shows %s", shown)
	}
}

// TestKeyParts changes the aliases, tags, grants, rotation and materials of a key.
func TestKeyParts(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	_, err := s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key, Name: aws.String("reader"),
		GranteePrincipal: aws.String("arn:aws:iam::" + account + ":root"),
		Operations:       []types.GrantOperation{"Decrypt"}})
	must(t, err)
	b := newBrowser(t, s.URL)
	b.open("/console/keys/" + key)
	b.signIn(s.Root)
	b.says(".part", "Not used since")
	b.loaded()

	b.fill(b.control("New alias"), "alias/first")
	b.press(".part", "Add alias")
	b.says(".done", "The alias is added.")
	b.says("h1", "alias/first")
	b.fill(b.control("New alias"), "alias/first")
	b.press(".part", "Add alias")
	b.says("[role=alert]", "AlreadyExistsException")
	b.click("button[aria-label='Remove alias/first']")
	b.press("dialog.ask", "Cancel")
	b.click("button[aria-label='Remove alias/first']")
	b.press("dialog.ask", "Remove")
	b.says(".done", "The alias is removed.")

	b.fill(b.control("Name of the tag"), "team")
	b.fill(b.control("Its value"), "red")
	b.press(".part", "Set tag")
	b.says(".part td", "red")
	b.click("button[aria-label='Remove the tag team']")
	b.press("dialog.ask", "Remove")
	b.says(".done", "The tag is removed.")

	b.says(".part th", "reader")
	b.click("button[aria-label='Revoke the grant reader']")
	b.press("dialog.ask", "Revoke")
	b.says(".part", "The key has no grants.")

	b.fill(b.control("Period in days"), "30")
	b.press(".part", "Enable rotation")
	b.says("[role=alert]", "ValidationException")
	b.fill(b.control("Period in days"), "90")
	b.press(".part", "Enable rotation")
	b.says(".part", "every 90 days")
	b.press(".part", "Disable rotation")
	b.says(".part", "The key does not rotate by itself.")
	b.press(".part", "Rotate now")
	b.press("dialog.ask", "Rotate")
	b.says(".part td", "NON_CURRENT")
	b.says(".part td", "ON_DEMAND")
}

// TestKeyTable filters, sorts and turns the pages of the table.
func TestKeyTable(t *testing.T) {
	s := newServer(t)
	var last string
	for i := range 28 {
		spec := types.KeySpecSymmetricDefault
		usage := types.KeyUsageTypeEncryptDecrypt
		if i == 27 {
			spec, usage = types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac
		}
		last = createKey(t, s, kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
		name := fmt.Sprintf("alias/key-%02d", i)
		_, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &last})
		must(t, err)
	}
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(s.Root)
	first := func(want string) {
		t.Helper()
		b.wait(fmt.Sprintf("document.querySelector('.keys tbody th')?.textContent === %q", want))
	}
	first("alias/key-00")
	b.says(".keys td", "Enabled")
	b.says("#console .hint", "28 keys.")
	b.press("#console", "Next")
	first("alias/key-25")
	b.press("#console", "Alias") // the other way round
	first("alias/key-27")
	b.press("#console", "Spec")
	first("alias/key-27") // HMAC_256 is before SYMMETRIC_DEFAULT
	b.fill(b.control("Filter"), "generate_verify")
	b.says("#console .hint", "1 of 28 keys.")
	b.click(".keys tbody a")
	b.says("h1", "alias/key-27")
	if path := eval[string](b, "location.pathname"); path != "/console/keys/"+last {
		t.Errorf("the link leads to %s", path)
	}
	b.do(chromedp.NavigateBack())
	b.says("#console .hint", "1 of 28 keys.") // as it was left
	first("alias/key-27")

	// Names are listed in batches. Here they are small.
	eval[any](b, "document.getElementById('console').replaceChildren(document.createElement('div'))")
	call[any](b, "console/keytable.js",
		"m.keyTable(document.querySelector('#console > div'), { keys: 20, aliasPages: 1, aliases: 5 })", nil)
	b.says("#console .hint", "of 20 keys, listed so far with 5 aliases; there are more.")
	b.press("#console", "List more")
	b.says("#console .hint", "1 of 28 keys, listed so far with 10 aliases; there are more.")
}

// TestConsoleKeyboard goes to a key and asks for its deletion with the keyboard alone. The focus is
// where the next step is.
func TestConsoleKeyboard(t *testing.T) {
	s := newServer(t)
	createKey(t, s, kms.CreateKeyInput{})
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(s.Root)
	b.says(".keys td", "Enabled")
	b.tabTo(".keys tbody a")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("location.pathname.startsWith('/console/keys/')")
	b.loaded()
	b.tabTo("#state-actions .danger")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("document.activeElement.matches('dialog input')")
	b.do(chromedp.KeyEvent("\x1b"))
	b.wait("document.querySelector('dialog.ask') === null && document.activeElement.matches('#state-actions .danger')")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("document.activeElement.matches('dialog input')")
	b.tabTo("#confirm-name")
	id := strings.TrimPrefix(eval[string](b, "location.pathname"), "/console/keys/")
	b.do(chromedp.KeyEvent(id), chromedp.KeyEvent("\r"))
	b.says("#console .done", "The key is deleted in 30 days")
	b.wait("document.activeElement.id === 'title'") // where a screen reader reads on
}

// TestNotAllowed: what a principal may not do is shown as not allowed, in place.
func TestNotAllowed(t *testing.T) {
	s := newServer(t)
	carol := s.user(t, "carol")
	const may = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:user/carol"},
			"Action":["kms:DescribeKey","kms:ListGrants"],"Resource":"*"}]}`
	key := createKey(t, s, kms.CreateKeyInput{Policy: aws.String(may)})
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(carol)
	b.says("#console .warning", "Not allowed. ")
	b.says("#console .warning", "kms:ListKeys")
	if eval[bool](b, "document.querySelector('.keys').checkVisibility()") || b.text("#console .hint") != "" {
		t.Error("there is an empty table")
	}
	b.show("not allowed", 1280, 900, "light")
	b.fill(b.control("Open a key"), key)
	b.press("#console", "Open")
	b.says("#console", "The key has no grants.")
	b.loaded()
	denied := eval[[]string](b, "[...document.querySelectorAll('.part:has(.warning) h2')].map((h) => h.textContent)")
	if got := strings.Join(denied, ", "); got != "Aliases, Tags, Key policy, Who can use it, Automatic rotation, Materials, Last use" {
		t.Errorf("not allowed are %s", got)
	}
	b.press("#state-actions", "Disable")
	b.says("#console [role=alert]", "kms:DisableKey")
	b.click("#main .console-areas a")
	b.click("#console a[href='/console/create']")
	b.press("#console", "Create key")
	b.says("#console [role=alert]", "Not allowed. ")
}

// TestHostileKey: a description, a tag, a grant's name and a policy that would be code elsewhere are
// text.
func TestHostileKey(t *testing.T) {
	s := newServer(t)
	inASCII := strings.NewReplacer("\u202E", "", "\u202C", "", "\u2067", "").Replace(hostile)
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Id":%q,"Statement":[{"Effect":"Allow",`+
		`"Principal":{"AWS":"arn:aws:iam::%s:root"},"Action":"kms:*","Resource":"*"}]}`, inASCII+" \\u202e", account)
	policy = strings.ReplaceAll(policy, `\\u202e`, `\u202e`)
	key := createKey(t, s, kms.CreateKeyInput{Description: aws.String(hostile), Policy: &policy,
		Tags: []types.Tag{{TagKey: aws.String("<b>a</b>"), TagValue: aws.String(hostile)}}})
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(s.Root)
	b.says(".keys td", "Enabled")
	b.click(".keys tbody a")
	b.says("#console td", "<img src=x onerror=")
	b.loaded()
	shown := b.text("#main") + eval[string](b, "document.title + document.querySelector('textarea.policy').value")
	if n := strings.Count(shown, "<img src=x onerror="); n < 3 || strings.ContainsAny(shown, "\u202E\u202C\u2067") {
		t.Errorf("the texts are there %d times: %s", n, shown)
	}
	b.click("button[aria-label='Remove the tag <b>a</b>']")
	b.says("dialog.ask", "<b>a</b>")
	b.press("dialog.ask", "Remove")
	b.says("#console", "The key has no tags.")
	const made = "document.querySelectorAll('#main img, #main b, #console script').length + (window.hurt ?? 0)"
	if n := eval[float64](b, made); n != 0 {
		t.Errorf("a text became %v elements", n)
	}
	if path := eval[string](b, "location.pathname"); path != "/console/keys/"+key {
		t.Errorf("the page is %s", path)
	}
}

// TestNoSuchKey: a key that is not there, and an address that is none.
func TestNoSuchKey(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/console/keys/alias%2Fnothing")
	b.signIn(s.Root)
	b.says("#console .warning", "NotFoundException")
	for path, status := range map[string]int{
		"/console/keys/": 404, "/console/users": 404, "/console/": 302, "/console/keys/a/b": 200} {
		if w := get(t, newPages(t), path); w.Code != status {
			t.Errorf("%s: status %d, want %d", path, w.Code, status)
		}
	}
}

// TestConsoleScripts: pages of the console preload each module that they import.
func TestConsoleScripts(t *testing.T) {
	h := newPages(t)
	page := get(t, h, "/console").Body.String()
	preloaded := regexp.MustCompile(`modulepreload" href="(/docs/assets/[^/]+/)([^"]+)"`).
		FindAllStringSubmatch(page, -1)
	names := map[string]bool{}
	for _, m := range preloaded {
		names[m[2]] = true
	}
	for _, m := range preloaded {
		script := get(t, h, m[1]+m[2]).Body.String()
		for _, imported := range regexp.MustCompile(`(?:from |import\()"(\.[^"]+)"`).FindAllStringSubmatch(script, -1) {
			if name := path.Join(path.Dir(m[2]), imported[1]); !names[name] {
				t.Errorf("%s imports %s, which is not preloaded", m[2], name)
			}
		}
	}
}
