package console_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/audit"
)

// TestAuditLogPage searches the log, looks at a record with hostile text, and verifies that it is in
// the log: with the server's key, with the right key and with a wrong one.
func TestAuditLogPage(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{Description: aws.String(hostile)})
	_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/absent"), Plaintext: []byte("x")})
	if err == nil {
		t.Error("there is an alias")
	}
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.signIn(s.Root)
	b.click(".console-areas a[href='/console/audit']")
	b.says("#console .hint", origin)
	b.fill(b.control("Key"), key)
	b.fill(b.control("Operation"), "CreateKey")
	b.press("#console", "Search")
	b.says("#console .hint", "1 record found in the newest")
	b.says(".keys td", "success")
	b.click("[aria-label^='Show record']")
	b.says(".part pre", `\u202egnp.exe`)
	if !eval[bool](b, "document.activeElement.matches('.part h2') && window.hurt === undefined") {
		t.Error("the record does not have the focus, or its text has run")
	}

	b.press(".part", "Verify that it is in the log")
	b.says(".part .warning", "A new record is covered within seconds.")
	must(t, s.AuditLog.Checkpoint(t.Context()))
	b.press(".part", "Verify that it is in the log")
	b.says(".verified", "Verified with the server's own key.")
	b.says(".verified", s.AuditKey)

	b.click(".trust summary")
	pin := func(text string) {
		t.Helper()
		b.fill(b.control("Public key"), text)
		b.press(".trust", "Pin this key")
		b.says(".trust .done", "The key is pinned.")
		b.press(".part", "Verify that it is in the log")
	}
	pin(s.AuditKey)
	b.says(".verified", "which you have pinned")
	b.show("audit", 1280, 1000, "light")
	other, err := audit.VerifierKey(origin, signers(t)["ECDSA"].Public())
	must(t, err)
	pin(other)
	b.says(".part .warning", "This key has not signed it.")
	pin("garbage")
	b.says(".part .warning", "This is not a public key of an audit log.")

	b.fill(b.control("Key"), " ")
	b.fill(b.control("Operation"), " ")
	b.choose(b.control("Result"), "ERROR")
	b.press("#console", "Search")
	b.says(".keys .bad", "NotFoundException")
	b.fill(b.control("Text"), "no record has this, "+strconv.Itoa(os.Getpid()))
	b.press("#console", "Search")
	b.says("#console .hint", "0 records found")
	b.click("#sign-out")
	if shown := b.text("#main"); strings.Contains(shown, "NotFoundException") {
		t.Errorf("after signing out the page shows %s", shown)
	}
}

// TestAuditLogPages: a search shows the newest records, and goes on.
func TestAuditLogPages(t *testing.T) {
	s := newServer(t)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	const others = 120
	for n := range others {
		r := &audit.Record{EventTime: at.Add(time.Duration(n) * time.Second), EventSource: "s", EventName: "Old",
			EventID: fmt.Sprint(n), ReadOnly: true, RecipientAccountID: account, EventType: "AwsApiCall"}
		must(t, s.AuditLog.Append(t.Context(), r))
	}
	b := newBrowser(t, s.URL)
	b.open("/console/audit")
	b.signIn(s.Root)
	rows := func(want int) {
		t.Helper()
		b.wait(fmt.Sprintf("document.querySelectorAll('.keys tbody tr').length === %d && "+
			"document.querySelector('#console [aria-busy=true]') === null", want))
	}
	b.says("#console .hint", "50 records found in the newest 50; there are older ones.")
	b.fill(b.control("Operation"), "Old")
	b.press("#console", "Search")
	rows(50)
	b.press("#console", "Search further back")
	rows(100)
	b.press("#console", "Search further back")
	rows(others)
	if !eval[bool](b, "[...document.querySelectorAll('#console button')].find((e) => e.textContent === 'Search further back').hidden") {
		t.Error("there is more than everything")
	}
	// A field for a time takes no typed text: the browser has a form of its own for it.
	for label, value := range map[string]string{"From": "2026-02-03T04:05:16", "Until": "2026-02-03T04:05:26"} {
		eval[any](b, fmt.Sprintf("document.querySelector(%q).value = %q", b.control(label), value))
	}
	b.press("#console", "Search")
	rows(10)
	b.says(".keys td", "2026-02-03 04:05:25")
}

// forger answers GetAuditProof with what an attacker makes of the answer.
type forger struct {
	http.Handler
	forge atomic.Pointer[func(answer map[string]any)]
}

func (f *forger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	forge := f.forge.Load()
	if r.Header.Get("X-Amz-Target") != "Verenc.GetAuditProof" || forge == nil {
		f.Handler.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	f.Handler.ServeHTTP(answer, r)
	var members map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &members); err != nil {
		panic(err)
	}
	(*forge)(members)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(members) // a client that is gone is seen by the test
}

// TestForgedProofsAreRefusedByThePage: a server that lies about a record is found out.
func TestForgedProofsAreRefusedByThePage(t *testing.T) {
	var f *forger
	s := newServerOn(t, func(h http.Handler) *httptest.Server {
		f = &forger{Handler: h}
		return httptest.NewServer(f)
	})
	createKey(t, s, kms.CreateKeyInput{})
	createKey(t, s, kms.CreateKeyInput{})
	must(t, s.AuditLog.Checkpoint(t.Context()))

	// A log of the attacker's own has another record at the same place.
	mine := signers(t)["Ed25519"]
	log, dir := auditLog(t, mine)
	for n := range 3 {
		r := &audit.Record{EventTime: time.Unix(1, 0), EventSource: "s", EventName: "n", EventID: fmt.Sprint(n)}
		must(t, log.Append(t.Context(), r))
	}
	must(t, log.Checkpoint(t.Context()))
	key, err := audit.VerifierKey(origin, mine.Public())
	must(t, err)

	b := newBrowser(t, s.URL)
	b.open("/console/audit")
	b.signIn(s.Root)
	b.fill(b.control("Operation"), "CreateKey")
	b.press("#console", "Search")
	b.wait("document.querySelectorAll('.keys tbody tr').length === 2")
	b.click("[aria-label^='Show record']")
	index, err := strconv.ParseInt(strings.TrimPrefix(b.text(".part h2"), "Record "), 10, 64)
	must(t, err)
	verify := func(forge func(map[string]any), want string) {
		t.Helper()
		f.forge.Store(&forge)
		b.press(".part", "Verify that it is in the log")
		b.says(".part .warning", want)
		b.says(".part .warning", "Do not rely on this record.")
		if b.text(".verified") != "" {
			t.Errorf("it is verified: %s", b.text(".verified"))
		}
	}
	verify(func(a map[string]any) {
		a["Proof"] = strings.Replace(a["Proof"].(string), "index "+fmt.Sprint(index), "index "+fmt.Sprint(index-1), 1)
	}, "do not give the root that is signed")
	verify(func(a map[string]any) { a["Proof"] = "c2sp.org/tlog-proof@v1\n" }, "not a proof of an audit record")
	verify(func(a map[string]any) {
		proof, err := audit.Prove(os.DirFS(dir), min(index, 2))
		if err != nil {
			panic(err)
		}
		a["Proof"], a["LogKeys"] = string(proof), []string{key}
	}, "The proof is of another record")
	b.click(".trust summary")
	b.fill(b.control("Public key"), s.AuditKey)
	b.press(".trust", "Pin this key")
	verify(func(a map[string]any) {
		proof, err := audit.Prove(os.DirFS(dir), min(index, 2))
		if err != nil {
			panic(err)
		}
		a["Proof"], a["LogKeys"] = string(proof), []string{key}
	}, "This key has not signed it.")
	unchanged := func(map[string]any) {}
	f.forge.Store(&unchanged)
	b.press(".part", "Verify that it is in the log")
	b.says(".verified", "which you have pinned")
}

// TestAuditingIsDenied: who may not see the log or the report is told so, and why.
func TestAuditingIsDenied(t *testing.T) {
	s := newServer(t)
	carol := s.user(t, "carol")
	b := newBrowser(t, s.URL)
	b.open("/console/audit")
	b.signIn(carol)
	b.says("#console .warning", "Not allowed.")
	b.says("#console .warning", "verenc:ListAuditRecords")
	b.click(".console-areas a[href='/console/report']")
	b.says("#console .warning", "verenc:GetReport")
}
