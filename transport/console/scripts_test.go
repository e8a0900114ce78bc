package console_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/chromedp/chromedp"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/console"
)

// vector is a request to sign.
type vector struct {
	Secret, AccessKeyID, SessionToken, Region, Body string
	Headers                                         map[string]string
	Want                                            string // Authorization
}

// signed has the AWS SDK for Go sign a vector, and gives it the headers that it has signed.
func (v vector) signed(t *testing.T, at time.Time) vector {
	t.Helper()
	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		"https://kms.example.com:8600/",
		bytes.NewReader([]byte(v.Body)),
	)
	must(t, err)
	for name, value := range v.Headers {
		r.Header.Set(name, value)
	}
	sum := sha256.Sum256([]byte(v.Body))
	by := aws.Credentials{AccessKeyID: v.AccessKeyID, SecretAccessKey: v.Secret, SessionToken: v.SessionToken}
	must(t, v4.NewSigner().SignHTTP(t.Context(), by, r, hex.EncodeToString(sum[:]), "kms", v.Region, at))
	v.Want = r.Header.Get("Authorization")
	_, rest, _ := strings.Cut(v.Want, "SignedHeaders=")
	names, _, _ := strings.Cut(rest, ",")
	v.Headers = map[string]string{}
	for name := range strings.SplitSeq(names, ";") {
		switch name {
		case "host":
			v.Headers[name] = r.Host
		case "content-length":
			v.Headers[name] = strconv.Itoa(len(v.Body))
		default:
			v.Headers[name] = r.Header.Get(name)
		}
	}
	return v
}

// TestSignatures compares the signatures of the browser with those of the AWS SDK for Go.
func TestSignatures(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs")
	at := time.Date(2026, 11, 29, 23, 59, 59, 987_000_000, time.UTC)
	target := map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "TrentService.Encrypt"}
	vectors := map[string]vector{
		"plain": {Secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", AccessKeyID: "AKIDEXAMPLE",
			Body: `{"KeyId":"alias/a"}`},
		"session token": {Secret: "s/e+c=", AccessKeyID: "ASIAEXAMPLE", SessionToken: strings.Repeat("IQoJ/+=", 40),
			Region: "eu-west-1", Body: "{}"},
		"empty body":  {Secret: "secret", AccessKeyID: "A"},
		"any text":    {Secret: "pässwort 🔑", AccessKeyID: "A", Body: "\x00 ünïcode \u202e 🔑"},
		"a long body": {Secret: "secret", AccessKeyID: "A", Body: strings.Repeat("0123456789", 20_000)},
		"spaces in a value": {Secret: "secret", AccessKeyID: "A", Body: "{}",
			Headers: map[string]string{"X-Amz-Target": "  a   b  c "}},
	}
	for name, v := range vectors {
		if v.Headers == nil {
			v.Headers = target
		}
		v.Region = cmp.Or(v.Region, region)
		v = v.signed(t, at)
		got := call[string](
			b,
			"sigv4.js",
			`await m.authorization({ key: await m.secretKey(a.Secret), accessKeyId: a.AccessKeyID, region: a.Region, service: "kms",
			headers: a.Headers, body: new TextEncoder().encode(a.Body) })`,
			v,
		)
		if got != v.Want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, v.Want)
		}
	}
	if got := call[string](b, "sigv4.js", "m.timestamp(new Date(a))", at); got != "20261129T235959Z" {
		t.Errorf("a time is written %s", got)
	}
}

// TestCommands: the browser writes the examples as curl and CLI as the server does.
func TestCommands(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	requests, err := console.RequestsOf(transport.Reference())
	must(t, err)
	var names []string
	for name := range requests {
		names = append(names, name)
	}
	slices.Sort(names)
	b.open("/docs")
	for _, name := range names {
		r := requests[name]
		got := call[[]string](b, "commands.js", `await (async () => {
			const request = new XMLHttpRequest(); request.responseType = "document"; request.open("GET", "/docs/" + a.name);
			await new Promise((done) => { request.onload = done; request.send(); });
			const { target, request: members } = JSON.parse(request.response.getElementById("schema").textContent);
			const call = { target, operation: a.name, members, request: JSON.parse(a.body), body: a.body, origin: "http://127.0.0.1:8600", region: "us-east-1" };
			return [m.curl(call), a.ofAWS ? m.cli(call) : ""];
		})()`, map[string]any{"name": name, "body": r[0], "ofAWS": service.OperationNamed(name) != nil})
		if got[0] != r[1] || got[1] != r[2] {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s", name, got[0], got[1], r[1], r[2])
		}
	}
}

// TestForms: a form gives back the example that it was filled with, for every operation.
func TestForms(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	requests, err := console.RequestsOf(transport.Reference())
	must(t, err)
	b.open("/docs")
	for name, r := range requests {
		got := call[string](b, "fields.js", `await (async () => {
			const request = new XMLHttpRequest(); request.responseType = "document"; request.open("GET", "/docs/" + a);
			await new Promise((done) => { request.onload = done; request.send(); });
			const schema = JSON.parse(request.response.getElementById("schema").textContent);
			const fields = m.fieldsOf(schema.request, { keyList: "k", listKeys() {} });
			fields.write(schema.example);
			return JSON.stringify(fields.read(), null, 2);
		})()`, name)
		if got != r[0] {
			t.Errorf("%s: %s, want %s", name, got, r[0])
		}
	}
}

// TestBlobField takes bytes as text, hex, base64 and from a file, and writes them in another form
// when that is chosen.
func TestBlobField(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/docs/Encrypt")
	field := b.field("Plaintext")
	form := func(value string) {
		t.Helper()
		eval[any](
			b,
			fmt.Sprintf(
				`(() => { const s = document.querySelector("select[aria-label='Form of Plaintext']"); s.value = %q; s.dispatchEvent(new Event("change")); })()`,
				value,
			),
		)
	}
	shows := func(want string) {
		t.Helper()
		b.wait(fmt.Sprintf("document.querySelector(%q).value === %q", field, want))
	}
	shows("Hello, world!")
	form("hex")
	shows("48656c6c6f2c20776f726c6421")
	form("base64")
	shows("SGVsbG8sIHdvcmxkIQ==")
	name := filepath.Join(t.TempDir(), "bytes")
	must(t, os.WriteFile(name, []byte{0, 0xff, 'a'}, 0o600))
	b.do(chromedp.SetUploadFiles(chromedp.CSS("input[aria-label='File for Plaintext']"), []string{name}))
	shows("AP9h")
	form("text") // which they are not
	shows("AP9h")
	form("hex")
	shows("00ff61")
	b.signIn(s.Root)
	b.fill(field, "00f")
	if status := b.send(); status != "Plaintext: This is not hex: give two digits for each byte." {
		t.Errorf("half a byte: %s", status)
	}
}

// TestExamplesAreCode: the examples in Go are compiled with the AWS SDK, and those in Python are
// read by Python.
func TestExamplesAreCode(t *testing.T) {
	requests, err := console.RequestsOf(transport.Reference())
	must(t, err)
	var program, script strings.Builder
	program.WriteString(
		"package main\n\nimport (\n\t\"context\"\n\t\"encoding/base64\"\n\t\"time\"\n\n\t\"github.com/aws/aws-sdk-go-v2/aws\"\n" +
			"\t\"github.com/aws/aws-sdk-go-v2/service/kms\"\n\t\"github.com/aws/aws-sdk-go-v2/service/kms/types\"\n)\n\n" +
			"var (\n\tcfg aws.Config\n\t_ types.Tag\n\t_ time.Time\n)\n\nfunc main() {}\n\n" +
			"func decode(s string) []byte { b, _ := base64.StdEncoding.DecodeString(s); return b }\n",
	)
	for name, r := range requests {
		if service.OperationNamed(name) == nil { // AWS's clients don't have it
			continue
		}
		program.WriteString(
			"\nfunc f" + name + "(ctx context.Context) (any, error) {\n" + r[4] + "\nreturn out, err\n}\n",
		)
		script.WriteString(r[3] + "\n\n")
	}
	dir := t.TempDir()
	goFile, pyFile := filepath.Join(dir, "examples.go"), filepath.Join(dir, "examples.py")
	must(t, os.WriteFile(goFile, []byte(program.String()), 0o600))
	must(t, os.WriteFile(pyFile, []byte(script.String()), 0o600))
	if out, err := exec.CommandContext(t.Context(), "go", "vet", goFile).CombinedOutput(); err != nil {
		t.Errorf("Go: %v: %s", err, out)
	}
	python := exec.CommandContext(t.Context(), "/usr/bin/python3", "-m", "py_compile", pyFile)
	if out, err := python.CombinedOutput(); err != nil {
		t.Errorf("Python: %v: %s", err, out)
	}
}

// TestInsecureOrigin: a page that came without TLS from another machine says that it can't sign,
// and why.
func TestInsecureOrigin(t *testing.T) {
	s := newServer(t)
	url := strings.Replace(s.URL, "127.0.0.1", "kms.example", 1)
	b := newBrowser(t, url, chromedp.Flag("host-resolver-rules", "MAP kms.example 127.0.0.1"))
	b.open("/docs/Encrypt")
	b.click("#open-sign-in")
	b.wait("!document.getElementById('insecure').hidden")
	if says := b.text("#insecure"); !strings.Contains(says, "https://") || !strings.Contains(says, "127.0.0.1") {
		t.Errorf("the page says %q", says)
	}
	if eval[bool](b, "!document.querySelector('#sign-in-form button[type=submit]').disabled") {
		t.Error("one can sign in")
	}
}

// TestSearch finds an operation, a parameter and an error, and goes there.
func TestSearch(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs/manual")
	b.do(chromedp.KeyEvent("/"))
	b.wait("document.activeElement.id === 'search'")
	b.fill("#search", "decrypt keyid")
	b.wait("document.querySelector('#results a')?.hash === '#Parameters-KeyId'")
	b.click("#results a[href$='/docs/Decrypt#Parameters-KeyId']")
	b.wait(
		"document.querySelector('h1').textContent === 'Decrypt' && location.hash === '#Parameters-KeyId' && scrollY > 0",
	)
	b.fill("#search", "disabledexc")
	b.wait("document.querySelector('#results a')?.hash === '#DisabledException'")
	if found := b.text("#found"); found != "1 result" {
		t.Errorf("it says %q", found)
	}
}

// TestKeyboard signs in and sends a request with the keyboard alone. What has the focus always
// shows it.
func TestKeyboard(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/docs/GenerateRandom")
	b.tabTo("#open-sign-in")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("document.activeElement.id === 'access-key-id'")
	for _, typed := range []string{s.Root.AccessKeyID, "\t", s.Root.SecretAccessKey, "\r"} {
		b.do(chromedp.KeyEvent(typed))
	}
	b.wait("!document.getElementById('sign-in').open")
	b.tabTo("#try-form button[type=submit]")
	b.do(chromedp.KeyEvent("\r"))
	b.wait("document.activeElement.matches('.status.good')") // where a screen reader reads on
}
