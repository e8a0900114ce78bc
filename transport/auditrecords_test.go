package transport_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/inspect"
)

// newHistory is the history of a server's metrics.
func newHistory(t *testing.T, s *server, log *audit.Log) *history.History {
	t.Helper()
	h, err := history.New(history.Config{Metrics: s.Metrics, Ping: s.Token.Ping, Now: s.Now,
		Records: func() (int64, bool) { return log.Stats().Records, true }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// listedRecords is an answer of ListAuditRecords.
type listedRecords struct {
	Records []struct {
		LogIndex, Record string
	}
	LogOrigin, NextMarker        string
	RecordsRead, UnreadableLines int
	Truncated                    bool
}

// events lists the operations in the records of all pages.
func (a *audited) events(t *testing.T, c aws.Credentials, filter map[string]any) (names []string) {
	t.Helper()
	request := map[string]any{"Limit": 3}
	for name, value := range filter {
		request[name] = value
	}
	for {
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		var page listedRecords
		if code, message := a.own(t, c, "ListAuditRecords", string(body), &page); code != "" {
			t.Fatalf("%s: %s: %s", body, code, message)
		}
		for _, r := range page.Records {
			var e audit.Record
			if err := json.Unmarshal([]byte(r.Record), &e); err != nil {
				t.Fatal(err)
			}
			names = append(names, e.EventName)
		}
		if page.LogOrigin != "kms.example.com/audit" || page.UnreadableLines > 0 ||
			page.Truncated != (page.NextMarker != "") {
			t.Errorf("the page is %+v", page)
		}
		if !page.Truncated {
			return names
		}
		request["Marker"] = page.NextMarker
	}
}

func TestAuditRecordsAreListedByTheirAccount(t *testing.T) {
	a := newAudited(t)
	key, _ := a.newKey(t)
	auditor := a.user(t, account, "auditor", identityPolicy("verenc:ListAuditRecords"))
	denied := a.user(t, account, "app", identityPolicy("kms:*"))
	other := a.root(t, otherAccount)
	in := &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}
	if _, err := a.Encrypt(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if _, err := denied.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(absentKey)}); err == nil {
		t.Error("there is such a key")
	}
	if _, err := other.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		who    aws.Credentials
		filter map[string]any
		want   string
	}{
		{auditor.Secret, map[string]any{"OperationName": "Encrypt"}, "Encrypt"},
		{auditor.Secret, map[string]any{"KeyId": key, "OperationName": "CreateKey", "Result": "SUCCESS"}, "CreateKey"},
		{auditor.Secret, map[string]any{"KeyId": key}, "Encrypt CreateKey"},
		{auditor.Secret, map[string]any{"Principal": "user/app", "Result": "ERROR"}, "DescribeKey"},
		{auditor.Secret, map[string]any{"ErrorCode": "NotFoundException"}, "DescribeKey"},
		{auditor.Secret, map[string]any{"Text": strings.ToUpper(absentKey), "OperationName": "DescribeKey"}, "DescribeKey"},
		{auditor.Secret, map[string]any{"OperationName": "ListKeys"}, ""}, // the other account's
		{auditor.Secret, map[string]any{"EndTime": time.Now().Add(-24 * time.Hour).Unix()}, ""},
		{auditor.Secret, map[string]any{"StartTime": time.Now().Add(24 * time.Hour).Unix()}, ""},
		{auditor.Secret, map[string]any{"StartTime": time.Now().Add(-time.Hour).Unix(), "OperationName": "Encrypt"}, "Encrypt"},
		{other.Secret, nil, "ListKeys"},
	} {
		if got := strings.Join(a.events(t, c.who, c.filter), " "); got != c.want {
			t.Errorf("%v: %s, want %s", c.filter, got, c.want)
		}
	}
	if code, message := a.own(t, denied.Secret, "ListAuditRecords", "{}", nil); code != "AccessDeniedException" ||
		!strings.Contains(message, "verenc:ListAuditRecords") {
		t.Errorf("%s: %s", code, message)
	}
}

func TestAuditRecordsAreAskedForInBounds(t *testing.T) {
	a := newAudited(t)
	marker := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	a.own(t, a.server.Secret, "ListAuditRecords", "{}", &listedRecords{}) // a log without records has no positions
	for body, want := range map[string]string{
		`{"Limit":101}`:           "ValidationException",
		`{"Limit":0}`:             "ValidationException",
		`{"Result":"MAYBE"}`:      "ValidationException",
		`{"ErrorCode":"*"}`:       "ValidationException",
		`{"OperationName":"a b"}`: "ValidationException",
		`{"Text":"` + strings.Repeat("x", 257) + `"}`:                                 "ValidationException",
		`{"StartTime":"yesterday"}`:                                                   "SerializationException",
		`{"Marker":"x"}`:                                                              "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:") + `"}`:                            "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:other.example/audit 0.-1") + `"}`:    "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:kms.example.com/audit 0.7") + `"}`:   "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:kms.example.com/audit ") + `"}`:      "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:kms.example.com/audit 9.-1") + `"}`:  "InvalidMarkerException",
		`{"Marker":"` + marker("ListAuditRecords:kms.example.com/audit 0.-1") + `"}`:  "",
		`{"Marker":"` + marker("ListAuditRecords:kms.example.com/audit 0.-01") + `"}`: "InvalidMarkerException",
	} {
		if code, message := a.own(t, a.server.Secret, "ListAuditRecords", body, &listedRecords{}); code != want {
			t.Errorf("%s: %s %s, want %s", body, code, message, want)
		}
	}
	for body, want := range map[string]string{
		`{}`:                             "ValidationException",
		`{"LogIndex":"01"}`:              "ValidationException",
		`{"LogIndex":"-1"}`:              "ValidationException",
		`{"LogIndex":7}`:                 "SerializationException",
		`{"LogIndex":"9999"}`:            "NotFoundException",
		`{"LogIndex":"999999999999999"}`: "NotFoundException",
	} {
		if code, message := a.own(t, a.server.Secret, "GetAuditProof", body, nil); code != want {
			t.Errorf("%s: %s %s, want %s", body, code, message, want)
		}
	}
	without := newServer(t, options{inspect: func(c *inspect.Config, _ *server) { c.Examiner = nil }})
	for name, body := range map[string]string{"ListAuditRecords": "{}", "GetAuditProof": `{"LogIndex":"0"}`,
		"GetReport": "{}"} {
		if code, _ := without.own(t, without.Secret, name, body, nil); code != "UnsupportedOperationException" {
			t.Errorf("%s without a log: %s", name, code)
		}
	}
}

// TestAuditProofsAreGivenToTheirAccount: the auditor's verifier accepts the proof of a listed record,
// with a key that it has from the token.
func TestAuditProofsAreGivenToTheirAccount(t *testing.T) {
	a := newAudited(t)
	key, _ := a.newKey(t)
	_, err := a.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key})
	if err != nil {
		t.Fatal(err)
	}
	var listed listedRecords
	if code, _ := a.own(t, a.server.Secret, "ListAuditRecords", `{"OperationName":"DescribeKey"}`, &listed); code != "" {
		t.Fatal(code)
	}
	one := listed.Records[0]
	request := fmt.Sprintf(`{"LogIndex":%q}`, one.LogIndex)
	if code, message := a.own(t, a.server.Secret, "GetAuditProof", request, nil); code != "NotFoundException" ||
		!strings.Contains(message, "within seconds") {
		t.Errorf("before a checkpoint: %s %s", code, message)
	}
	if err := a.log.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Proof, LogOrigin string
		LogKeys          []string
	}
	if code, message := a.own(t, a.server.Secret, "GetAuditProof", request, &answer); code != "" {
		t.Fatal(code, message)
	}
	keys := evidence.AuditKeys{Store: a.Store, Token: a.Token, Now: time.Now, Rand: rand.Reader}
	signers, err := keys.Signers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := audit.VerifierKey("kms.example.com/audit", signers[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	proven, err := audit.VerifyProof([]byte(answer.Proof), trusted)
	if err != nil || fmt.Sprint(proven.Index) != one.LogIndex || string(proven.Record) != one.Record {
		t.Errorf("the proof proves %+v, %v", proven, err)
	}
	if len(answer.LogKeys) != 1 || answer.LogKeys[0] != trusted || answer.LogOrigin != proven.Origin {
		t.Errorf("the answer is %+v", answer)
	}
	other := a.root(t, otherAccount)
	if code, _ := a.own(t, other.Secret, "GetAuditProof", request, nil); code != "NotFoundException" {
		t.Errorf("another account: %s", code)
	}
	auditor := a.user(t, account, "lister", identityPolicy("verenc:ListAuditRecords"))
	if code, _ := a.own(t, auditor.Secret, "GetAuditProof", request, nil); code != "AccessDeniedException" {
		t.Errorf("without the permission: %s", code)
	}
}

// given is an answer of GetReport.
type given struct {
	AccountId, Region         string
	KeyCount                  int
	MoreKeys, FindingsOmitted bool
	CreationDate              float64
	Findings                  []struct{ Severity, About, Text string }
	Plots                     []struct {
		Name, Title, SVG string
		Columns          []string
		Rows             []struct {
			Label  string
			Values []string
		}
	}
}

func (g *given) plots() string {
	var names []string
	for _, p := range g.Plots {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}

func TestReportHasPlots(t *testing.T) {
	a := newAudited(t)
	key, _ := a.newKey(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.history.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	var g given
	records := func() string { // in the audit log, at the end of the period
		const dark = `{"ColorScheme":"DARK","Period":"DAY"}`
		if code, message := a.own(t, a.server.Secret, "GetReport", dark, &g); code != "" {
			t.Fatal(code, message)
		}
		rows := g.Plots[3].Rows
		return rows[len(rows)-1].Values[0]
	}
	for begun := time.Now(); records() == "–"; {
		if time.Since(begun) > time.Minute {
			t.Fatal("no sample is taken")
		}
	}
	if g.AccountId != account || g.Region != region || g.KeyCount != 1 || g.MoreKeys || g.FindingsOmitted {
		t.Errorf("the report is %+v", g)
	}
	if got := g.plots(); got != "requests errors token audit specs states ages rotations" {
		t.Errorf("the plots are %s", got)
	}
	for _, p := range g.Plots {
		if !strings.HasPrefix(p.SVG, "<svg") || len(p.Columns) == 0 || len(p.Rows) == 0 ||
			len(p.Rows[0].Values) != len(p.Columns)-1 {
			t.Errorf("%s has %d rows of %v", p.Name, len(p.Rows), p.Columns)
		}
	}
	if specs := g.Plots[4].Rows; fmt.Sprint(specs) != "[{SYMMETRIC_DEFAULT [1]}]" {
		t.Errorf("the specs are %v", specs)
	}
	found := false
	for _, f := range g.Findings {
		found = found || f.About == key && f.Text == "automatic rotation is off"
	}
	if !found {
		t.Errorf("the findings are %+v", g.Findings)
	}

	// It is the same for a minute, and then another one.
	a.newKey(t)
	again := func() (n given) {
		if code, message := a.own(t, a.server.Secret, "GetReport", "{}", &n); code != "" {
			t.Fatal(code, message)
		}
		return n
	}
	if n := again(); n.KeyCount != 1 || n.CreationDate != g.CreationDate {
		t.Errorf("within a minute there are %d keys", n.KeyCount)
	}
	a.advance(2 * time.Minute)
	if n := again(); n.KeyCount != 2 {
		t.Errorf("after a minute there are %d keys", n.KeyCount)
	}

	// Another account has its own keys, and no numbers of the server.
	var others given
	if code, message := a.own(t, a.root(t, otherAccount).Secret, "GetReport", "{}", &others); code != "" {
		t.Fatal(code, message)
	}
	if got := others.plots(); others.KeyCount != 0 || got != "specs states ages rotations" {
		t.Errorf("the other account has %d keys, %s", others.KeyCount, got)
	}
	denied := a.user(t, account, "app", identityPolicy("kms:*"))
	if code, _ := a.own(t, denied.Secret, "GetReport", "{}", nil); code != "AccessDeniedException" {
		t.Errorf("without the permission: %s", code)
	}
}

// TestRecordsOfDeniedRequestsTellNothing: a caller can read the records of its own account. That of a
// request that was denied a key of another account is like that for a key that does not exist.
func TestRecordsOfDeniedRequestsTellNothing(t *testing.T) {
	a := newAudited(t)
	_, key := a.newKey(t)
	prefix := key[:strings.Index(key, ":key/")+1]
	absent := key[:len(key)-len(absentKey)] + absentKey
	ok(a.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/hush"), TargetKeyId: &key}))(t)
	blob := ok(a.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}))(t).CiphertextBlob
	eve := a.root(t, otherAccount)
	for _, id := range []string{key, absent, prefix + "alias/hush", prefix + "alias/none"} {
		_, err := eve.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		wantError(t, err, "AccessDeniedException", "*")
	}
	_, err := eve.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
	wantError(t, err, "AccessDeniedException", "*")
	a.own(t, eve.Secret, "GetKeyAttestation", fmt.Sprintf(`{"KeyId":%q}`, key), nil)
	denied := 0
	for _, r := range ok(a.records())(t) {
		if r.UserIdentity.AccountID != otherAccount || r.ErrorCode == "" {
			continue
		}
		denied++
		if len(r.Resources) > 0 || r.RecipientAccountID != otherAccount {
			t.Errorf("%s: %v, for account %s", r.EventName, r.Resources, r.RecipientAccountID)
		}
	}
	if denied != 6 {
		t.Errorf("%d records of denied requests", denied)
	}
}
