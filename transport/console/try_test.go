package console_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/chromedp/chromedp"

	"github.com/verenc/kms/service/iam"
)

// TestTryItOut does what a new user does: signs in, makes the key of the example and a data key,
// and decrypts that with the right and the wrong encryption context, without ever leaving the
// document.
func TestTryItOut(t *testing.T) {
	s := newServer(t)
	b := newBrowser(t, s.URL)
	b.open("/")
	b.click("#page-list a[href='/docs/GenerateDataKeyWithoutPlaintext']")
	b.wait("document.getElementById('try-form')?.hidden === false")
	b.click("#try-form button[type=submit]") // which asks who it is
	b.wait("document.getElementById('sign-in').open")
	b.fill("#access-key-id", s.Root.AccessKeyID)
	b.fill("#secret", s.Root.SecretAccessKey)
	b.do(chromedp.SendKeys(chromedp.CSS("#secret"), "\r"))
	b.wait("!document.getElementById('sign-in').open")
	if status := b.send(); status != "Status 400 NotFoundException" {
		t.Fatalf("without a key: %s", status)
	}
	b.click("#answer .note button")
	b.wait("document.querySelector('#answer .status.good') !== null")
	made := b.answer()
	blob, _ := made["CiphertextBlob"].(string)
	if blob == "" || made["KeyId"] == "" || b.text("#answer .facts code") == "without id" {
		t.Errorf("a data key: %v", made)
	}
	checkCommands(t, s, b)

	b.click("#page-list a[href='/docs/Decrypt']")
	b.wait("document.title.startsWith('Decrypt') && document.getElementById('try-form')?.hidden === false")
	if status := b.send(); status != "Status 200" {
		t.Fatalf("with the context: %s: %s", status, b.text("#answer"))
	}
	plaintext, err := base64.StdEncoding.DecodeString(b.answer()["Plaintext"].(string))
	if err != nil || len(plaintext) != 32 {
		t.Errorf("the data key has %d bytes: %v", len(plaintext), err)
	}
	if shown := b.text("#answer .blob summary"); shown != "Plaintext: 32 bytes" {
		t.Errorf("the blob's summary is %q", shown)
	}
	b.fill("#fields .pair input[aria-label=Value]", "red")
	if status := b.send(); status != "Status 400 InvalidCiphertextException" {
		t.Errorf("with another context: %s", status)
	}

	b.do(chromedp.NavigateBack())
	b.wait("document.querySelector('h1').textContent === 'GenerateDataKeyWithoutPlaintext'")
	if who := b.text("#who"); who != "root" {
		t.Errorf("after going back %q is signed in", who)
	}
	checkSecrecy(t, s, b)
	b.do(chromedp.Reload())
	b.wait("document.getElementById('try-form')?.hidden === false")
	if who := b.text("#who"); who != "" {
		t.Errorf("after a reload %q is signed in", who)
	}
}

// checkCommands runs the commands for the request that was just sent.
func checkCommands(t *testing.T, s *server, b *browser) {
	t.Helper()
	const shown = "[...document.querySelectorAll('#answer .commands code')].map((c) => c.textContent)"
	for i, command := range eval[[]string](b, shown) {
		name := []string{"curl", "AWS CLI"}[i]
		cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
		cmd.Env = append(
			os.Environ(),
			"AWS_ACCESS_KEY_ID="+s.Root.AccessKeyID,
			"AWS_SECRET_ACCESS_KEY="+s.Root.SecretAccessKey,
			"AWS_CONFIG_FILE=/dev/null",
			"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"CiphertextBlob"`) {
			t.Errorf("%s: %v: %s\n%s", name, err, out, command)
		}
		if strings.Contains(command, s.Root.SecretAccessKey) {
			t.Errorf("%s: the command has the secret", name)
		}
	}
}

// checkSecrecy looks for the secret where it must not be.
func checkSecrecy(t *testing.T, s *server, b *browser) {
	t.Helper()
	page := eval[string](
		b,
		`document.documentElement.outerHTML + [...document.querySelectorAll("input, textarea")].map((i) => i.value).join(" ")`,
	)
	if strings.Contains(page, s.Root.SecretAccessKey) {
		t.Error("the document has the secret")
	}
	if strings.Contains(s.Received(), s.Root.SecretAccessKey) || strings.Contains(s.Received(), "Cookie:") {
		t.Error("the server was sent the secret, or a cookie")
	}
	stored := eval[float64](
		b,
		"localStorage.length + sessionStorage.length + document.cookie.length + Object.keys(history.state ?? {}).filter((k) => k !== 'scroll').length",
	)
	databases := eval[float64](
		b,
		"Promise.all([indexedDB.databases(), caches.keys()]).then((all) => all.flat().length)",
	)
	if stored != 0 || databases != 0 {
		t.Errorf("%v items are stored, and %v databases and caches", stored, databases)
	}
}

// TestRefusals: a principal without permission and a value that is none are answered in words.
func TestRefusals(t *testing.T) {
	s := newServer(t)
	carol := s.user(t, "carol")
	key := createKey(t, s, kms.CreateKeyInput{})
	b := newBrowser(t, s.URL)
	b.open("/docs/Encrypt")
	b.signIn(carol)
	b.fill(b.field("KeyId"), key)
	b.wait("document.querySelector('#fields .hint').textContent.includes('AccessDeniedException')")
	if status := b.send(); status != "Status 400 AccessDeniedException" ||
		!strings.Contains(b.text("#answer"), "kms:Encrypt") {
		t.Errorf("a principal without permission: %s: %s", status, b.text("#answer"))
	}
	b.open("/docs/GenerateRandom")
	b.signIn(s.Root)
	b.fill(b.field("NumberOfBytes"), "many")
	if status := b.send(); status != "NumberOfBytes: give a number." {
		t.Errorf("a value that is no number: %s", status)
	}
	b.fill(b.field("NumberOfBytes"), "16")
	if status := b.send(); status != "Status 200" {
		t.Errorf("GenerateRandom: %s", status)
	}
}

// TestClientCertificate: over TLS, one may sign in with the client certificate of the connection,
// and requests are not signed. The connection is given one here, since Chromium has none to choose.
func TestClientCertificate(t *testing.T) {
	var certificate *x509.Certificate
	s := newServerOn(t, func(h http.Handler) *httptest.Server {
		l := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.TLS.PeerCertificates = []*x509.Certificate{certificate}
			r.TLS.VerifiedChains = [][]*x509.Certificate{r.TLS.PeerCertificates}
			h.ServeHTTP(w, r)
		}))
		certificate = l.Certificate()
		return l
	})
	fingerprint := sha256.Sum256(certificate.Raw)
	must(t, s.Store.PutCertificate(t.Context(), &iam.Certificate{Name: hex.EncodeToString(fingerprint[:]),
		PrincipalARN: "arn:aws:iam::" + account + ":root", CreatedAt: time.Now()}))
	b := newBrowser(t, s.URL, chromedp.IgnoreCertErrors)
	b.open("/docs/GenerateRandom")
	b.click("#open-sign-in")
	b.click("#use-certificate")
	b.wait("document.getElementById('who').title === 'arn:aws:iam::" + account + ":root'")
	if status := b.send(); status != "Status 200" {
		t.Errorf("with a certificate: %s: %s", status, b.text("#answer"))
	}
	if strings.Contains(s.Received(), "Authorization:") {
		t.Error("the request was signed")
	}
}

// TestSessionToken signs in with temporary credentials. The commands have a place for the token,
// and not the token.
func TestSessionToken(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	session := s.session(t)
	b := newBrowser(t, s.URL)
	b.open("/docs/Encrypt")
	b.signIn(session)
	b.fill(b.field("KeyId"), key)
	b.wait("document.querySelector('#fields datalist option')?.value === '" + key + "'") // completed from ListKeys
	if status := b.send(); status != "Status 200" {
		t.Errorf("with a session token: %s: %s", status, b.text("#answer"))
	}
	if commands := b.text("#answer .commands"); !strings.Contains(
		commands,
		`-H "X-Amz-Security-Token: $AWS_SESSION_TOKEN"`,
	) ||
		strings.Contains(commands, session.SessionToken) {
		t.Errorf("the commands are %s", commands)
	}
}

func createKey(t *testing.T, s *server, in kms.CreateKeyInput) string {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &in)
	must(t, err)
	return *out.KeyMetadata.KeyId
}

// hostile is a text that would be code in HTML, attributes, JavaScript or URLs, and one that is
// written from right to left.
const hostile = `</script><script>window.hurt=1</script><img src=x onerror="window.hurt=1">'"` + "`${window.hurt=1}` javascript:alert(1) \u202Egnp.exe\u202C \u2067abc"

// TestHostileTexts: what others have written in a description, a tag and a policy is shown and does
// nothing.
func TestHostileTexts(t *testing.T) {
	s := newServer(t)
	key := createKey(
		t,
		s,
		kms.CreateKeyInput{
			Description: aws.String(hostile),
			Tags:        []types.Tag{{TagKey: aws.String("<b>a</b>"), TagValue: aws.String(hostile)}},
		},
	)
	b := newBrowser(t, s.URL)
	b.open("/docs/DescribeKey")
	b.signIn(s.Root)
	for _, operation := range []string{"DescribeKey", "ListResourceTags"} {
		if operation != "DescribeKey" {
			b.click("#page-list a[href='/docs/" + operation + "']")
			b.wait("document.querySelector('h1').textContent === '" + operation + "'")
		}
		b.fill(b.field("KeyId"), key)
		if status := b.send(); status != "Status 200" {
			t.Fatalf("%s: %s", operation, status)
		}
		shown := b.text("#answer .json")
		if !strings.Contains(shown, "<img src=x onerror=") || strings.ContainsAny(shown, "\u202E\u202C\u2067") ||
			!strings.Contains(shown, `\u202egnp.exe\u202c`) {
			t.Errorf("%s shows %s", operation, shown)
		}
		const made = "document.querySelectorAll('#answer img, #answer script, #answer b').length + (window.hurt ?? 0)"
		if n := eval[float64](b, made); n != 0 {
			t.Errorf("%s: a text became %v elements", operation, n)
		}
	}
}

// TestPolicyHolds: the browser lets no text become HTML or a script, whatever a script of the page
// does.
func TestPolicyHolds(t *testing.T) {
	b := newBrowser(t, newServer(t).URL)
	b.open("/docs/Encrypt")
	b.provoking.Store(true)
	attempts := map[string]string{
		"innerHTML":    "document.body.innerHTML = '<img src=x>'",
		"script":       "document.createElement('script').src = '/docs/x.js'",
		"parser":       "new DOMParser().parseFromString('<p>', 'text/html')",
		"another site": "trustedTypes.createPolicy('any', { createHTML: (s) => s })",
	}
	for name, attempt := range attempts {
		refused := eval[bool](
			b,
			"(() => { try { "+attempt+"; return false } catch (e) { return e instanceof TypeError } })()",
		)
		if !refused {
			t.Errorf("%s: the policy lets it be", name)
		}
	}
	b.do(chromedp.Reload()) // behind what the console has said
	if n := int(b.violations.Load()); n != len(attempts) {
		t.Errorf("the console tells of %d violations", n)
	}
}
