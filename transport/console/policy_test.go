package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// edit has the policy editor show a text, as if it was typed.
func (b *browser) edit(text string) {
	b.Helper()
	editor := b.control("Policy document")
	eval[any](b, fmt.Sprintf("(() => { const e = document.querySelector(%q); e.value = %q; "+
		"e.dispatchEvent(new Event('input')); })()", editor, text))
}

// policyText is what the editor has.
func (b *browser) policyText() string {
	b.Helper()
	return eval[string](b, fmt.Sprintf("document.querySelector(%q).value", b.control("Policy document")))
}

// policyWith is a policy of the account's root with another name for its statement.
func policyWith(sid string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"` + sid + `","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}]}`
}

func policyOf(t *testing.T, s *server, key string) string {
	t.Helper()
	out, err := s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &key})
	must(t, err)
	return *out.Policy
}

// TestPolicyEditor: a policy that is no JSON is not sent, and the page says where it is wrong; what
// changes is shown before it is saved; what the service refuses is shown at the field, and what it
// accepts is saved.
func TestPolicyEditor(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	b := newBrowser(t, s.URL)
	b.open("/console/keys/" + key)
	b.signIn(s.Root)
	editor := b.control("Policy document")
	if !eval[bool](b, "[...document.querySelectorAll('.part button')].find((b) => b.textContent === 'Save policy …').disabled") {
		t.Error("a policy that is the saved one can be saved")
	}
	b.edit("{\n  \"Version\": \"2012-10-17\",\n  \"Statement\" []\n}")
	b.says(".says", "Line 3, column 15: a colon is expected.")
	if wrong := b.text(".paper .json-wrong"); wrong != "[" {
		t.Errorf("%q is marked", wrong)
	}
	b.show("policy", 1280, 1000, "light")
	b.press(".part", "Save policy …")
	if at := eval[float64](b, fmt.Sprintf("document.querySelector(%q).selectionStart", editor)); b.policyText()[int(at)] != '[' {
		t.Errorf("the cursor is at %v", at)
	}
	b.edit(`{"Version":"2012-10-17","Statement":[{"Effect":"Perhaps"}]}`)
	b.says(".says", "It is not saved yet.")
	b.press(".part", "Save policy …")
	b.says("dialog.ask ins", "Perhaps")
	b.press("dialog.ask", "Cancel")
	if strings.Contains(s.Received(), "PutKeyPolicy") {
		t.Error("a policy was sent")
	}
	b.press(".part", "Save policy …")
	b.press("dialog.ask", "Save policy")
	b.says(".says [role=alert]", "MalformedPolicyDocumentException")
	b.wait(fmt.Sprintf("document.activeElement === document.querySelector(%q)", editor))
	if eval[string](b, "document.activeElement.ariaInvalid") != "true" {
		t.Error("the field is not shown as wrong")
	}
	b.press(".part", "Undo changes")
	b.says(".says", "This is the policy that is saved.")
	b.edit(policyWith("Edited"))
	b.press(".part", "Save policy …")
	b.says("dialog.ask del", "Enable IAM User Permissions")
	b.says("dialog.ask ins", "Edited")
	b.show("policy changes", 1280, 1000, "light")
	b.press("dialog.ask", "Save policy")
	b.says(".done", "The policy is saved.")
	if got := policyOf(t, s, key); got != policyWith("Edited") {
		t.Errorf("the policy is %s", got)
	}
	b.edit(strings.ReplaceAll(b.policyText(), "\n", ""))
	b.press(".part", "Save policy …")
	b.says("dialog.ask", "Only the layout of the text changes.")
}

// TestPolicyColours: what is painted is the text, whatever it is, and each part has its kind.
func TestPolicyColours(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/console")
	const parts = "m.painted(a.Text, a.At).map((p) => typeof p === 'string' ? p : p.className.slice(5) + '=' + p.textContent)"
	for _, c := range []struct {
		Text string
		At   int
		want []string
	}{
		{`{"a" : "b", "c":[-1.5e3,true]}`, -1, []string{`{`, `name="a"`, ` : `, `string="b"`, `, `, `name="c"`, `:[`,
			`literal=-1.5e3`, `,`, `literal=true`, `]}`}},
		{`{"a": x}`, 6, []string{`{`, `name="a"`, `: `, `wrong=x`, `}`}},
		{`["abc"]`, 3, []string{`[`, `string="a`, `wrong=b`, `string=c"`, `]`}},
		{`{`, 1, []string{`{`, `wrong= `}},
	} {
		got := call[[]string](b, "json.js", parts, c)
		got = slices.DeleteFunc(got, func(p string) bool { return p == "" })
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.Text, got, c.want)
		}
	}
	const whole = "(() => { const p = document.createElement('pre'); p.append(...m.painted(a, -1)); return p.textContent; })()"
	for _, text := range []string{"", "\"", "\\", "tru", "fals nul -", "\"a\nb\"", "\"\\", "é\u2028\U0001F511<b>", "{\"a\\\"b\": 1}"} {
		if got := call[string](b, "json.js", whole, text); got != text {
			t.Errorf("%q is painted as %q", text, got)
		}
	}
}

// TestPolicyDiff compares texts line by line.
func TestPolicyDiff(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/console")
	for _, c := range []struct{ Before, After, want string }{
		{"a", "a", " a"},
		{"a\nb\nc", "a\nx\nc", " a-b+x c"},
		{"a\nb\nc\nd", "b\nd\ne", "-a b-c d+e"},
		{"", "a\nb", "-+a+b"},
		{"a\na\na", "a\na", " a a-a"},
		{"same", "", "-same+"},
	} {
		got := call[string](b, "console/linediff.js",
			"m.lineDiff(a.Before, a.After).map(([k, l]) => ({ same: ' ', removed: '-', added: '+' })[k] + l).join('')", c)
		if got != c.want {
			t.Errorf("%q and %q: %q, want %q", c.Before, c.After, got, c.want)
		}
	}
	long := []string{strings.Repeat("a\n", 20_000), strings.Repeat("b\n", 20_000)} // more than are compared
	if n := call[float64](b, "console/linediff.js", "m.lineDiff(a[0], a[1]).length", long); n != 40_001 {
		t.Errorf("texts that differ have %v lines", n)
	}
}

// TestPolicyKeyboard edits with the keyboard alone: who comes past with Tab is not held, who types
// can indent, and leaves with Esc and Tab.
func TestPolicyKeyboard(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	b := newBrowser(t, s.URL)
	b.open("/console/keys/" + key)
	b.signIn(s.Root)
	editor := b.control("Policy document")
	if described := eval[string](b, fmt.Sprintf("document.querySelector(%q).getAttribute('aria-describedby').split(' ')"+
		".map((id) => document.getElementById(id).textContent).join(' ')", editor)); !strings.Contains(described, "press Esc, then Tab") {
		t.Errorf("the editor is described as %q", described)
	}
	before := b.policyText()
	focused := fmt.Sprintf("document.activeElement === document.querySelector(%q)", editor)
	b.do(chromedp.Focus(chromedp.CSS(editor)))
	b.do(chromedp.KeyEvent("\t"))
	b.wait("!(" + focused + ")")
	if b.policyText() != before {
		t.Error("Tab has changed the text of somebody who came past")
	}
	b.do(chromedp.Focus(chromedp.CSS(editor)))
	eval[any](b, fmt.Sprintf("document.querySelector(%q).select()", editor))
	b.do(chromedp.KeyEvent(`{`), chromedp.KeyEvent("\r"), chromedp.KeyEvent(`"a": [`), chromedp.KeyEvent("\r"),
		chromedp.KeyEvent(`1,`), chromedp.KeyEvent("\r"), chromedp.KeyEvent("\t"), chromedp.KeyEvent("2"))
	if got := b.policyText(); got != "{\n  \"a\": [\n    1,\n      2" {
		t.Errorf("what was typed is %q", got)
	}
	eval[any](b, fmt.Sprintf("document.querySelector(%q).setSelectionRange(3, 16)", editor))
	b.do(chromedp.KeyEvent("\t"))
	if got := b.policyText(); got != "{\n    \"a\": [\n      1,\n      2" {
		t.Errorf("indented: %q", got)
	}
	for range 3 {
		b.do(chromedp.KeyEvent("\t", chromedp.KeyModifiers(chromedp.ModifierShift)))
	}
	if got := b.policyText(); got != "{\n\"a\": [\n1,\n      2" {
		t.Errorf("moved back: %q", got)
	}
	b.do(chromedp.KeyEvent("z", chromedp.KeyModifiers(chromedp.ModifierCtrl)))
	if got := b.policyText(); got != "{\n\"a\": [\n  1,\n      2" {
		t.Errorf("undone: %q", got)
	}
	b.do(chromedp.KeyEvent("\x1b"), chromedp.KeyEvent("\t"))
	b.wait("!(" + focused + ")")
	b.tabTo("#main button.primary")
	if name := eval[string](b, "document.activeElement.textContent"); name != "Save policy …" {
		t.Errorf("behind the editor is %q", name)
	}
}

// TestUnsavedPolicy: what was edited survives a change of the key's state, and is not lost without
// a question when the page is left.
func TestUnsavedPolicy(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(s.Root)
	b.says(".keys td", "off")
	b.click(".keys tbody a")
	b.loaded()
	draft := policyWith("Draft")
	b.edit(draft)
	b.press("#state-actions", "Disable")
	b.says("#console .done", "The key is disabled.")
	b.loaded()
	if got := b.policyText(); got != draft {
		t.Errorf("after the key was disabled the editor has %s", got)
	}
	b.says(".says", "It is not saved yet.")

	other := policyWith("Other") // by somebody else, meanwhile
	_, err := s.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &key, Policy: &other})
	must(t, err)
	b.press("#state-actions", "Enable")
	b.says(".says", "somebody has changed the saved policy meanwhile")

	for name, leave := range map[string]func(){
		"a link":   func() { b.click(".console-areas a") },
		"back":     func() { eval[any](b, "history.back()") },
		"sign out": func() { b.click("#sign-out") },
	} {
		leave()
		b.says("dialog.ask", "not saved")
		b.press("dialog.ask", "Stay")
		b.wait("document.querySelector('dialog.ask') === null && location.pathname === '/console/keys/" + key + "'")
		if got := b.policyText(); got != draft {
			t.Errorf("%s: the editor has %s", name, got)
		}
	}
	asked := make(chan page.DialogType, 1)
	must(t, chromedp.Listen(b.ctx, func(ev any) {
		if e, is := ev.(*page.EventJavascriptDialogOpening); is {
			asked <- e.Type
		}
	}))
	eval[any](b, "setTimeout(() => location.reload())")
	select {
	case kind := <-asked:
		if kind != page.DialogTypeBeforeunload {
			t.Errorf("the dialog is %s", kind)
		}
	case <-b.ctx.Done():
		t.Fatal("a reload asks nothing")
	}
	_, err = chromedp.Call(b.ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: false})
	must(t, err)
	if got := b.policyText(); got != draft {
		t.Errorf("after staying the editor has %s", got)
	}

	b.click(".areas a[href='/docs']")
	b.press("dialog.ask", "Leave without saving")
	b.says("h1", "API reference")
	b.click(".areas a[href='/console']")
	b.says(".keys td", "off")
	b.click(".keys tbody a")
	b.says(".says", "This is the policy that is saved.")
	if got := b.policyText(); !strings.Contains(got, "Other") {
		t.Errorf("after leaving the editor has %s", got)
	}
	b.edit(draft)
	b.press(".part", "Undo changes")
	b.click(".console-areas a")
	b.says("h1", "Keys") // without a question
}

// TestPolicyOfNewKey creates a key with a policy.
func TestPolicyOfNewKey(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/console/create")
	b.signIn(s.Root)
	b.press("#console", "Create key")
	b.wait("location.pathname.startsWith('/console/keys/')")
	b.loaded()
	usual := b.policyText()

	b.click(".console-areas a")
	b.click("#console a[href='/console/create']")
	b.click(b.check("Write a policy"))
	if offered := b.policyText(); !strings.Contains(offered, "arn:aws:iam::"+account+":root") {
		t.Errorf("the policy that is offered is %s; that of a key is %s", offered, usual)
	}
	b.show("create with a policy", 1280, 1200, "light")
	b.edit(`{"Statement": }`)
	b.press("#console", "Create key")
	b.says(".says", "Line 1, column 15: a value is expected.")
	b.edit(strings.ReplaceAll(policyWith("Lost"), "kms:*", "kms:Decrypt"))
	b.press("#console", "Create key")
	b.says(".says [role=alert]", "will not allow you to update the key policy")
	b.click(".console-areas a")
	b.press("dialog.ask", "Stay")
	b.edit(policyWith("Own"))
	b.press("#console", "Create key")
	b.wait("location.pathname.startsWith('/console/keys/')")
	b.says(".done", "The key is created.")
	key := strings.TrimPrefix(eval[string](b, "location.pathname"), "/console/keys/")
	if got := policyOf(t, s, key); got != policyWith("Own") {
		t.Errorf("the policy is %s", got)
	}
	keys, err := s.ListKeys(t.Context(), &kms.ListKeysInput{Limit: aws.Int32(10)})
	must(t, err)
	if len(keys.Keys) != 2 {
		t.Errorf("there are %d keys", len(keys.Keys))
	}
}

// check selects the check box with a label.
func (b *browser) check(label string) string {
	b.Helper()
	find := fmt.Sprintf("[...document.querySelectorAll('#console .check')].find((l) => l.textContent.includes(%q))", label)
	b.wait(find + " !== undefined")
	eval[any](b, find+".firstElementChild.id = 'checked-box'")
	return "#checked-box"
}

// TestJSONErrors: the editor finds where a text is no JSON, and nothing wrong with JSON.
func TestJSONErrors(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/console")
	for text, want := range map[string]string{
		`{"a": [1, -2.5e+3, true, null, "\u00e4\n"], "b": {}, "c": []}`: "",
		" \n":                     "2:1 the text ends here, and a value is expected",
		`{`:                       "1:2 the text ends here, and a name in double quotes is expected",
		`{"a": 1,}`:               "1:9 a name in double quotes is expected",
		"[1,\n 2\n 3]":            "3:2 a comma or ] is expected",
		`{"a" 1}`:                 "1:6 a colon is expected",
		`{"a": "b}`:               "1:7 the text in double quotes is not closed",
		`{"a": 'b'}`:              "1:7 a value is expected",
		`["\x"]`:                  "1:3 this is not an escape of JSON",
		"[\"a\tb\"]":              "1:4 a control character must be written as an escape",
		`{"a":1,"\u0061":2}`:      `1:8 the name "a" is there twice`,
		`{} {}`:                   "1:4 nothing may follow the end of the document",
		strings.Repeat("[", 5000): "1:102 this is nested too deeply",
	} {
		const where = "(() => { const e = m.jsonError(a); return e ? `${e.line}:${e.column} ${e.message}` : '' })()"
		if got := call[string](b, "console/jsonerror.js", where, text); got != want {
			t.Errorf("%.40q: %q, want %q", text, got, want)
		}
	}
}
