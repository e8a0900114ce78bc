package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/console"
)

// TestEverythingHasAText: each operation, member, error and condition key of the service is
// described, and nothing else is.
func TestEverythingHasAText(t *testing.T) {
	for _, text := range console.Lacking(transport.Reference()) {
		t.Error(text)
	}
}

// TestKeyStatesOfTheManual compares the manual's table with the service's.
func TestKeyStatesOfTheManual(t *testing.T) {
	text, err := os.ReadFile("text/manual/03-key-states.md")
	must(t, err)
	_, table, found := strings.Cut(string(text), "\n| operation | ")
	heading, rows, _ := strings.Cut(table, "\n")
	if !found {
		t.Fatal("there is no table")
	}
	columns := strings.Split(strings.Trim(heading, " |"), " | ")
	results := map[string]string{"yes": "", "Disabled": "DisabledException", "state": "KMSInvalidStateException"}
	written := map[string][]string{}
	for row := range strings.Lines(rows) {
		if !strings.HasPrefix(row, "|") {
			break // behind the table
		}
		cells := strings.Split(strings.Trim(row, " |\n"), " | ")
		for _, m := range regexp.MustCompile(`\[(\w+)\]`).FindAllStringSubmatch(cells[0], -1) {
			written[m[1]] = cells[1:]
		}
	}
	for _, op := range transport.Reference().Operations {
		if !op.OfAWS {
			for _, state := range op.States {
				if state.Error != "" { // the manual says nothing of it
					t.Errorf("%s does not work in state %s", op.Name, state.Name)
				}
			}
			continue
		}
		if (written[op.Name] != nil) != (op.States != nil) {
			t.Errorf(
				"%s: is it in the table? %v; has its key states? %v",
				op.Name,
				written[op.Name] != nil,
				op.States != nil,
			)
			continue
		}
		for _, state := range op.States {
			column := slices.Index(columns, state.Name)
			if column < 0 {
				continue // the text says which one it is like
			}
			if result, known := results[written[op.Name][column]]; known && result != state.Error {
				t.Errorf(
					"%s of a key that is %s: the manual says %q, the service %q",
					op.Name,
					state.Name,
					result,
					state.Error,
				)
			}
		}
	}
}

// get asks for a page or an asset.
func get(t *testing.T, h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func newPages(t testing.TB) http.Handler {
	t.Helper()
	h, err := console.New(
		console.Config{Reference: transport.Reference(), Region: "us-east-1", Cannot: func(op string) []string {
			return map[string][]string{"Sign": {"ED25519_PH_SHA_512: the token fails <self-test> Ed25519ph."}}[op]
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var (
	linked = regexp.MustCompile(` (?:href|src)="([^"]*)"`)
	named  = regexp.MustCompile(` id="([^"]*)"`)
)

// namesIn gives the ids of a page, and fails for one that is there twice.
func namesIn(t *testing.T, where, page string) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, m := range named.FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("%s: two elements have the id %s", where, m[1])
		}
		ids[m[1]] = true
	}
	return ids
}

// TestLinks follows every link from the first page on: each leads to a page, and to an element of
// it.
func TestLinks(t *testing.T) {
	h := newPages(t)
	ids, links := map[string]map[string]bool{}, map[string]string{}
	todo := []string{"/docs"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if ids[path] != nil {
			continue
		}
		w := get(t, h, path)
		if w.Code != http.StatusOK {
			t.Errorf("%s, linked from %s: status %d", path, links[path], w.Code)
		}
		ids[path] = map[string]bool{}
		if !strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
			continue
		}
		ids[path] = namesIn(t, path, w.Body.String())
		for _, m := range linked.FindAllStringSubmatch(w.Body.String(), -1) {
			link, err := url.PathUnescape(m[1])
			if err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(link, "#") {
				link = path + link
			}
			links[link] = path
			target, _, _ := strings.Cut(link, "#")
			if !console.Serves(httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)) {
				t.Errorf("%s links to %s", path, link)
				continue
			}
			links[target] = path
			todo = append(todo, target)
		}
	}
	for link, from := range links {
		target, fragment, found := strings.Cut(link, "#")
		if found && !ids[target][fragment] {
			t.Errorf("%s links to %s, which has no such element", from, link)
		}
	}
	if len(ids) < 70 {
		t.Errorf("only %d pages and assets are linked", len(ids))
	}
}

var forbidden = regexp.MustCompile(`(?i)<script>|<style|<iframe| style=| on[a-z]+="|javascript:`)

// TestHeaders: every answer has the policy that keeps a page to itself, and pages have nothing that
// it would block.
func TestHeaders(t *testing.T) {
	h := newPages(t)
	index := get(t, h, "/docs").Body.String()
	paths := []string{"/", "/docs/", "/docs/nothing"}
	for _, m := range linked.FindAllStringSubmatch(index, -1) {
		paths = append(paths, m[1])
	}
	for _, path := range paths {
		if strings.Contains(path, "#") {
			continue
		}
		w := get(t, h, path)
		header := w.Header()
		for _, directive := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
			"base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
			if !strings.Contains(header.Get("Content-Security-Policy"), directive) {
				t.Errorf("%s: the policy lacks %s", path, directive)
			}
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" ||
			header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", path, header)
		}
		if strings.HasPrefix(header.Get("Content-Type"), "text/html") {
			body := regexp.MustCompile(
				`(?s)<pre.*?</pre>|<script type="application/json".*?</script>`,
			).ReplaceAllString(
				w.Body.String(),
				"",
			)
			if found := forbidden.FindString(body); found != "" {
				t.Errorf("%s has %s", path, found)
			}
		}
	}
}

// TestCaching: a page is asked for again and found unchanged, an asset is kept for ever, and both
// are compressed for those who can read it.
func TestCaching(t *testing.T) {
	h := newPages(t)
	index := get(t, h, "/docs")
	asset := regexp.MustCompile(`/docs/assets/[0-9a-f]{16}/style\.css`).FindString(index.Body.String())
	for path, cache := range map[string]string{"/docs": "no-cache", "/docs/Encrypt": "no-cache", asset: "public, max-age=31536000, immutable"} {
		plain, zipped := get(t, h, path), get(t, h, path, "Accept-Encoding", "br, gzip;q=0.8")
		tag := zipped.Header().Get("ETag")
		if plain.Header().Get("Content-Encoding") != "" || zipped.Header().Get("Content-Encoding") != "gzip" ||
			tag == plain.Header().Get("ETag") ||
			zipped.Header().Get("Cache-Control") != cache ||
			zipped.Body.Len() >= plain.Body.Len() {
			t.Errorf("%s: %v, %v", path, plain.Header(), zipped.Header())
		}
		if w := get(t, h, path, "Accept-Encoding", "gzip;q=0"); w.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for a client that refuses it", path)
		}
		if w := get(t, h, path, "Accept-Encoding", "gzip", "If-None-Match", tag); w.Code != http.StatusNotModified ||
			w.Body.Len() != 0 {
			t.Errorf("%s: status %d with its tag", path, w.Code)
		}
	}
	if w := get(t, h, "/"); w.Code != http.StatusFound || w.Header().Get("Location") != "/docs" {
		t.Errorf("/: %d, %v", w.Code, w.Header())
	}
	if w := get(t, h, "/docs/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown page: status %d", w.Code)
	}
}

// TestFirstPageIsSmall adds up what a browser loads for the first page, and for the largest one.
func TestFirstPageIsSmall(t *testing.T) {
	const most = 100 << 10
	h := newPages(t)
	for _, path := range []string{"/docs", "/docs/CreateKey", "/console"} {
		sum := get(t, h, path, "Accept-Encoding", "gzip").Body.Len()
		asset := regexp.MustCompile(`(?:href|src)="(/docs/assets/[^"]+)"`)
		for _, asset := range asset.FindAllStringSubmatch(get(t, h, path).Body.String(), -1) {
			sum += get(t, h, asset[1], "Accept-Encoding", "gzip").Body.Len()
		}
		t.Logf("%s: %d bytes", path, sum)
		if sum > most {
			t.Errorf("%s takes %d bytes", path, sum)
		}
	}
}

// TestOperationPage looks at the parts of one page.
func TestOperationPage(t *testing.T) {
	h := newPages(t)
	page := get(t, h, "/docs/Sign").Body.String()
	for _, want := range []string{
		`id="Parameters-KeyId"`, `id="Parameters-SigningAlgorithm"`, `<code>ECDSA_SHA_256</code>`, "1 to 4,096 bytes",
		"TrentService.Sign",
		"aws kms sign", "kms.sign(", "client.Sign(", `<code>kms:Sign</code>`, "KMSInvalidStateException", "PendingDeletion",
		"the token fails &lt;self-test&gt; Ed25519ph.", "&#34;KeyId&#34;: &#34;string&#34;", `id="try-form"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page of Sign lacks %s", want)
		}
	}
	own := get(t, h, "/docs/GetCallerAccess").Body.String()
	if !strings.Contains(own, "Verenc.GetCallerAccess") || !strings.Contains(own, "The caller needs none.") ||
		strings.Contains(own, "boto3") || strings.Contains(own, "AWS CLI") {
		t.Error("the page of GetCallerAccess is that of an operation of AWS")
	}
	if other := get(t, h, "/docs/Verify").Body.String(); strings.Contains(other, "Ed25519ph.") {
		t.Error("the page of Verify says what the token can't do of Sign")
	}
}

// TestFiles: pages in files link to each other and to their assets by relative addresses, and have
// no form.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	if err := console.Write(dir, transport.Reference()); err != nil {
		t.Fatal(err)
	}
	pages := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".html" {
			return err
		}
		pages++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		page := string(text)
		if strings.Contains(page, "Try it out") || strings.Contains(page, "sign-in") {
			t.Errorf("%s: there is a form", path)
		}
		for _, m := range linked.FindAllStringSubmatch(page, -1) {
			whole, err := url.PathUnescape(m[1])
			if err != nil {
				t.Error(err)
			}
			link, fragment, _ := strings.Cut(whole, "#")
			target := path
			if link != "" {
				target = filepath.Join(filepath.Dir(path), filepath.FromSlash(link))
			}
			other, err := os.ReadFile(target)
			if err != nil || fragment != "" && !strings.Contains(string(other), ` id="`+fragment+`"`) {
				t.Errorf("%s links to %s: %v", path, m[1], err)
			}
		}
		return nil
	})
	if err != nil || pages < 65 {
		t.Errorf("%d pages: %v", pages, err)
	}
}
