package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/chromedp/chromedp"
)

// paste pastes a text into a field.
func (b *browser) paste(selector, text string) {
	b.Helper()
	eval[any](b, fmt.Sprintf("(() => { const clipboardData = new DataTransfer(); clipboardData.setData('text', %q); "+
		"document.querySelector(%q).dispatchEvent(new ClipboardEvent('paste', "+
		"{ clipboardData, bubbles: true, cancelable: true })); })()", text, selector))
}

// TestSignIn: wrong credentials are refused in the form, where it says what is wrong; right ones
// may be pasted as a file has them.
func TestSignIn(t *testing.T) {
	s := newServer(t)
	session := s.session(t)
	b := newBrowser(t, s.URL)
	b.open("/docs/GenerateRandom")
	b.click("#open-sign-in")
	b.wait("document.activeElement.id === 'access-key-id'")
	fill := func(c aws.Credentials, region string) {
		t.Helper()
		for field, value := range map[string]string{"access-key-id": c.AccessKeyID, "secret": c.SecretAccessKey,
			"session-token": c.SessionToken, "region": region} {
			eval[any](b, fmt.Sprintf("document.getElementById(%q).value = %q", field, value))
		}
		b.click("#sign-in-form button[type=submit]")
	}
	wrong := s.Root
	wrong.SecretAccessKey = "not" + wrong.SecretAccessKey
	unknown := s.Root
	unknown.AccessKeyID = "AKIAAAAAAAAAAAAAAAAA"
	expired := session
	expired.SessionToken = "not" + expired.SessionToken
	for _, c := range []struct {
		by                  aws.Credentials
		region, says, focus string
	}{
		{wrong, region, "not the one of this access key ID", "secret"},
		{unknown, region, "knows no such access key", "access-key-id"},
		{expired, region, "knows no such access key, session token", "access-key-id"},
		{s.Root, "mars-1", "region", ""},
	} {
		fill(c.by, c.region)
		b.says("#sign-in-error", c.says)
		if c.focus != "" {
			b.wait(fmt.Sprintf("document.activeElement.id === %q", c.focus))
		}
		if !eval[bool](b, "document.getElementById('sign-in').open") || b.text("#who") != "" {
			t.Errorf("%s: %s is signed in", c.says, b.text("#who"))
		}
	}
	file := "[default]\naws_access_key_id = " + session.AccessKeyID + "\r\naws_secret_access_key=" +
		session.SecretAccessKey + "\n aws_session_token = " + session.SessionToken + "\n"
	b.fill("#region", region)
	b.paste("#access-key-id", file)
	b.wait("document.activeElement.id === 'secret'")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("!document.getElementById('sign-in').open")
	if who := b.text("#who"); who != "assumed-role/operator/page" {
		t.Errorf("signed in is %q", who)
	}
	if status := b.send(); status != "Status 200" {
		t.Errorf("GenerateRandom: %s", status)
	}
	b.click("#sign-out")
	b.wait("!document.getElementById('open-sign-in').hidden")
	b.click("#open-sign-in")
	b.paste("#access-key-id", "no file")
	if left := eval[string](b, "document.getElementById('secret').value + document.getElementById('session-token').value"); left != "" {
		t.Errorf("the form still has %q", left)
	}
}

// TestFirstSteps: somebody who has never used a key service makes a key and a data key, and opens
// it, by the steps of the first page, from the page alone.
func TestFirstSteps(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/")
	b.show("first page", 1280, 800, "light")
	b.click(".start [data-sign-in]")
	b.paste("#access-key-id", "aws_access_key_id="+s.Root.AccessKeyID+"\naws_secret_access_key="+s.Root.SecretAccessKey)
	b.click("#sign-in-form button[type=submit]")
	b.wait("document.getElementById('who').textContent === 'root'")
	b.click(".start a[href='/console/create']")
	b.fill(b.control("Alias"), "example")
	b.press("#console", "Create key")
	b.says("h1", "alias/example")
	b.says("#console .done", "The key is created.")
	b.loaded()
	b.click("#console a[href^='/docs/GenerateDataKeyWithoutPlaintext?']")
	b.wait("document.getElementById('try-form')?.hidden === false")
	if status := b.send(); status != "Status 200" {
		t.Fatalf("a data key: %s: %s", status, b.text("#answer"))
	}
	b.show("data key", 1280, 800, "light")
	b.click("#answer .next a")
	b.wait("document.title.startsWith('Decrypt') && document.getElementById('try-form')?.hidden === false")
	if status := b.send(); status != "Status 200" || b.answer()["Plaintext"] == nil {
		t.Fatalf("the data key is not opened: %s: %s", status, b.text("#answer"))
	}
}

// TestSamples: the examples are in colours, and what is shown of them is what is copied.
func TestSamples(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs/Encrypt")
	b.wait("document.querySelector('.in-json .json-name') !== null && document.querySelector('#Syntax + pre .json-name') !== null")
	eval[any](b, "navigator.clipboard.writeText = async (text) => { window.copied = text; }; 0")
	for language, want := range map[string]string{"in-cli": "aws kms encrypt", "in-json": `{`} {
		eval[any](b, fmt.Sprintf("document.getElementById(%q).click()", language))
		b.click(".tabs .copy")
		b.wait(fmt.Sprintf("window.copied === document.querySelector('pre.%s').textContent", language))
		if copied := eval[string](b, "window.copied"); !strings.HasPrefix(copied, want) {
			t.Errorf("%s: %q is copied", language, copied)
		}
	}
}
