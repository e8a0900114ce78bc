package transport_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
)

// audited is a server with an audit log and one client at a time. It looks into the log at each
// change of the store.
type audited struct {
	*server
	*kms.Client
	dir  string
	log  *audit.Log
	wire *wiretap

	history *history.History

	mu       sync.Mutex
	expected string          // guarded by mu: the operation in progress
	before   int             // guarded by mu: records when it began
	changed  map[string]int  // guarded by mu: changes by the store's method
	faults   []string        // guarded by mu
	refuse   map[string]bool // guarded by mu: methods of the store that fail
	silent   bool            // guarded by mu: the log takes no records
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{dir: filepath.Join(t.TempDir(), "audit"), changed: map[string]int{}, refuse: map[string]bool{}}
	look := func(c *inspect.Config, s *server) {
		c.Account, c.AuditLog, c.Now = account, os.DirFS(a.dir), s.Now
		a.history = newHistory(t, s, a.log)
		c.History = a.history
	}
	a.server = newServer(t, options{inspect: look, service: func(c *service.Config) {
		keys := evidence.AuditKeys{Store: c.Store, Token: c.Token, Now: time.Now, Rand: rand.Reader}
		signers, err := keys.Signers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a.log, err = audit.Open(t.Context(),
			audit.Config{Dir: a.dir, Create: true, Origin: "kms.example.com/audit", Signers: signers}); err != nil {
			t.Fatal(err)
		}
		closeAtEnd(t, func() error { return a.log.Close(context.Background()) })
		c.Audit, c.Store = a, watchedStore{c.Store, a}
		c.TokenSources = map[string]service.TokenSource{
			"cluster-aaaabbbbccc": {Open: func(context.Context, string) (service.ClosableToken, error) {
				return nil, errors.New("no such token")
			}}}
	}})
	a.wire = &wiretap{client: a.http}
	a.Client = kms.New(a.server.Options(), func(o *kms.Options) { o.HTTPClient = a.wire })
	return a
}

// Append implements service.Auditor. It appends to the log, unless it should fail.
func (a *audited) Append(ctx context.Context, r *audit.Record) error {
	a.mu.Lock()
	silent := a.silent
	a.mu.Unlock()
	if silent {
		return errors.New("no space left on device")
	}
	return a.log.Append(ctx, r)
}

// wiretap keeps the request id of the last answer, and its body.
type wiretap struct {
	client *http.Client

	requestID string
	body      bytes.Buffer
}

func (w *wiretap) Do(r *http.Request) (*http.Response, error) {
	resp, err := w.client.Do(r)
	if err == nil {
		w.requestID = resp.Header.Get("X-Amzn-Requestid")
		w.body.Reset()
		_, err = w.body.ReadFrom(resp.Body)
		err = errors.Join(err, resp.Body.Close())
		resp.Body = readCloser{bytes.NewReader(w.body.Bytes())}
	}
	return resp, err
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// entry is a record as an auditor reads it.
type entry struct {
	EventVersion, EventTime, EventSource, EventName, AWSRegion, SourceIPAddress, UserAgent, ErrorCode,
	ErrorMessage string
	RequestID, EventID, EventType, RecipientAccountID, EventCategory string
	ReadOnly, ManagementEvent                                        bool
	UserIdentity                                                     struct {
		Type, PrincipalID, ARN, AccountID, AccessKeyID, UserName string
		SessionContext                                           *struct {
			SessionIssuer struct{ Type, PrincipalID, ARN, AccountID, UserName string }
			CreationDate  time.Time
		}
	}
	RequestParameters   map[string]json.RawMessage
	AdditionalEventData map[string]any
	Resources           []struct{ ARN, AccountID, Type string }
	TLSDetails          map[string]string
}

func (a *audited) records() (all []entry, err error) {
	err = audit.Read(os.DirFS(a.dir), func(_ int64, text []byte) error {
		var e entry
		err := json.Unmarshal(text, &e)
		all = append(all, e)
		return err
	})
	return all, err
}

// begin says which operation the next records belong to; end returns these records.
func (a *audited) begin(t *testing.T, op string) {
	t.Helper()
	all := ok(a.records())(t)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expected, a.before = op, len(all)
}

func (a *audited) end(t *testing.T) []entry {
	t.Helper()
	all := ok(a.records())(t)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, fault := range a.faults {
		t.Errorf("%s: %s", a.expected, fault)
	}
	a.expected, a.faults = "", nil
	return all[a.before:]
}

// one runs a request and returns its record. There must be exactly one.
func (a *audited) one(t *testing.T, op string, request func() error) (entry, error) {
	t.Helper()
	a.begin(t, op)
	failure := request()
	records := a.end(t)
	if len(records) != 1 {
		t.Fatalf("%s (%v): %d records, want 1: %+v", op, failure, len(records), records)
	}
	return records[0], failure
}

// change is called by the store before each change.
func (a *audited) change(method string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.expected == "" {
		return nil
	}
	a.changed[method]++
	switch all, err := a.records(); {
	case err != nil:
		a.faults = append(a.faults, err.Error())
	case len(all) != a.before+1 || all[a.before].EventName != a.expected || all[a.before].ErrorCode != "":
		a.faults = append(a.faults, fmt.Sprintf("%s changes the store after %d records: %+v", method, len(all)-a.before,
			all[a.before:]))
	}
	if a.refuse[method] {
		return errors.New("the database is gone")
	}
	return nil
}

// search looks for secrets in every file of the log.
func (a *audited) search(t *testing.T, secrets []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(a.dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(a.dir, path))
		for _, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has the secret %.40q", path, secret)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// checkShape checks what every record has.
func (a *audited) checkShape(t *testing.T, e entry, op string) {
	t.Helper()
	at, err := time.Parse(time.RFC3339, e.EventTime)
	if err != nil || a.Now().Sub(at).Abs() > 10*time.Minute {
		t.Errorf("eventTime %q", e.EventTime)
	}
	if e.EventVersion != "1.11" || e.EventSource != "kms.amazonaws.com" || e.EventName != op || e.AWSRegion != region ||
		e.SourceIPAddress != "127.0.0.1" ||
		!strings.Contains(e.UserAgent, "aws-sdk-go-v2") || e.RequestID != a.wire.requestID ||
		!uuidPattern.MatchString(e.EventID) ||
		e.EventType != "AwsApiCall" || e.EventCategory != "Management" || !e.ManagementEvent ||
		e.RecipientAccountID != account || e.TLSDetails != nil {
		t.Errorf("%s: %+v", op, e)
	}
}

// TestChangesThatFailAreCorrected: the record of a change comes before it; when the change fails, a second one says so.
func TestChangesThatFailAreCorrected(t *testing.T) {
	a := newAudited(t)
	id, _ := a.newKey(t)
	for _, test := range []struct {
		op, method string
		request    func() error
	}{
		{"CreateKey", "InsertKey", func() error {
			_, err := a.CreateKey(t.Context(), &kms.CreateKeyInput{})
			return err
		}},
		{"DisableKey", "UpdateKey", func() error {
			_, err := a.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})
			return err
		}},
		{"CreateAlias", "InsertAlias", func() error {
			_, err := a.CreateAlias(t.Context(),
				&kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: &id})
			return err
		}},
	} {
		a.refuse[test.method] = true
		a.begin(t, test.op)
		wantError(t, test.request(), "KMSInternalException", "*")
		delete(a.refuse, test.method)
		records := a.end(t)
		if len(records) != 2 {
			t.Errorf("%s: %d records", test.op, len(records))
			continue
		}
		first, second := records[0], records[1]
		if first.ErrorCode != "" || first.AdditionalEventData["corrects"] != nil {
			t.Errorf("%s: before the change %+v", test.op, first)
		}
		if second.ErrorCode != "KMSInternalException" || second.ErrorMessage == "" ||
			strings.Contains(second.ErrorMessage, "database") ||
			second.AdditionalEventData["corrects"] != first.EventID || second.EventID == first.EventID ||
			second.RequestID != first.RequestID || second.EventName != test.op {
			t.Errorf("%s: after the change failed %+v", test.op, second)
		}
	}
	// A change that the state of the key does not allow is refused before it is begun: one record.
	if e, err := a.one(t, "CancelKeyDeletion", func() error {
		_, err := a.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
		return err
	}); e.ErrorCode != "KMSInvalidStateException" {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestWhoIsRecorded: requests of users and role sessions, denied ones and malformed ones have
// records. Those of unauthenticated callers have none.
func TestWhoIsRecorded(t *testing.T) {
	a := newAudited(t)
	id, arn := a.newKey(t)
	user := &iam.Principal{ARN: "arn:aws:iam::" + account + ":user/ops/alice", Account: account,
		Kind: iam.KindUser, CreatedAt: time.Now(),
		PrincipalDetails: iam.PrincipalDetails{Name: "alice", UniqueID: "AIDAALICEALICEALICE2"}}
	role := &iam.Principal{ARN: "arn:aws:iam::" + account + ":role/backup", Account: account,
		Kind: iam.KindRole, CreatedAt: time.Now(),
		PrincipalDetails: iam.PrincipalDetails{Name: "backup", UniqueID: "AROABACKUPBACKUPBAC2", MaxSession: 3600,
			Policies: map[string]string{"all": `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`},
			Trust: `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + user.ARN +
				`"},"Action":"sts:AssumeRole"}}`}}
	for _, p := range []*iam.Principal{user, role} {
		if err := a.Store.PutPrincipal(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	key, err := a.Service.IAM().CreateAccessKey(t.Context(), account, user.ARN)
	if err != nil {
		t.Fatal(err)
	}
	as := func(c aws.Credentials) *kms.Client {
		return kms.New(a.server.client(c, region).Options(), func(o *kms.Options) { o.HTTPClient = a.wire })
	}
	alice := as(aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: string(key.SecretAccessKey)})
	var session aws.Credentials
	assumed, err := a.one(t, "AssumeRole", func() (err error) {
		session, err = a.assumeRole(t, aws.Credentials{AccessKeyID: key.AccessKeyID,
			SecretAccessKey: string(key.SecretAccessKey)}, role.ARN)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if assumed.EventSource != "sts.amazonaws.com" || !assumed.ReadOnly || assumed.UserIdentity.ARN != user.ARN ||
		assumed.RequestID != a.wire.requestID ||
		!maps.EqualFunc(assumed.RequestParameters, map[string]string{"roleArn": role.ARN, "roleSessionName": "nightly"},
			func(text json.RawMessage, want string) bool { return string(text) == `"`+want+`"` }) {
		t.Errorf("AssumeRole: %+v", assumed)
	}
	nightly := as(session)

	denied, err := a.one(t, "Encrypt", func() error {
		_, err := alice.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("what Alice would hide")})
		return err
	})
	wantError(t, err, "AccessDeniedException", denied.ErrorMessage)
	a.checkShape(t, denied, "Encrypt")
	if u := denied.UserIdentity; u.Type != "IAMUser" || u.UserName != "alice" || u.ARN != user.ARN ||
		u.PrincipalID != user.UniqueID || u.AccessKeyID != key.AccessKeyID || u.SessionContext != nil {
		t.Errorf("the user is %+v", u)
	}
	if denied.ErrorCode != "AccessDeniedException" ||
		!strings.Contains(denied.ErrorMessage, "is not authorized to perform: kms:Encrypt") ||
		len(denied.Resources) != 1 || denied.Resources[0].ARN != arn || denied.AdditionalEventData != nil {
		t.Errorf("a denied request: %+v", denied)
	}

	served, err := a.one(t, "GenerateRandom", func() error {
		_, err := nightly.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	u := served.UserIdentity
	if u.Type != "AssumedRole" || u.ARN != "arn:aws:sts::"+account+":assumed-role/backup/nightly" ||
		u.AccessKeyID != session.AccessKeyID || u.UserName != "" ||
		u.PrincipalID != role.UniqueID+":nightly" || u.SessionContext == nil {
		t.Fatalf("the role's session is %+v", u)
	}
	if i := u.SessionContext.SessionIssuer; i.Type != "Role" || i.ARN != role.ARN || i.AccountID != account ||
		i.UserName != "backup" || i.PrincipalID != role.UniqueID || u.SessionContext.CreationDate.IsZero() {
		t.Errorf("the session's issuer is %+v", u.SessionContext)
	}

	nonsense, err := a.one(t, "GenerateRandom", func() error {
		_, err := a.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(5000)})
		return err
	})
	wantError(t, err, "ValidationException", nonsense.ErrorMessage)
	if nonsense.ErrorCode != "ValidationException" || nonsense.RequestParameters != nil ||
		nonsense.UserIdentity.Type != "Root" {
		t.Errorf("a request that is not valid: %+v", nonsense)
	}

	a.begin(t, "none")
	_, err = as(aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: "not Alice's secret"}).
		ListKeys(t.Context(), &kms.ListKeysInput{})
	wantError(t, err, "InvalidSignatureException", "*")
	_, err = as(aws.Credentials{AccessKeyID: "AKIAUNKNOWNUNKNOWN22", SecretAccessKey: "x"}).ListKeys(t.Context(),
		&kms.ListKeysInput{})
	wantError(t, err, "UnrecognizedClientException", "*")
	if records := a.end(t); len(records) != 0 {
		t.Errorf("requests of nobody have records: %+v", records)
	}
	a.search(t, []string{string(key.SecretAccessKey), session.SecretAccessKey, session.SessionToken,
		"what Alice would hide"})
}

// assumeRole calls AssumeRole of the server's STS.
func (a *audited) assumeRole(t *testing.T, c aws.Credentials, role string) (aws.Credentials, error) {
	t.Helper()
	body := url.Values{"Action": {"AssumeRole"}, "Version": {"2011-06-15"}, "RoleArn": {role},
		"RoleSessionName": {"nightly"}}.Encode()
	r := post(t, a.URL, formType, "", body)
	signRequest(t, r, c, "sts", body, time.Now())
	if _, err := a.wire.Do(r); err != nil {
		return c, err
	}
	var out struct {
		AccessKeyID string `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
		Secret      string `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
		Token       string `xml:"AssumeRoleResult>Credentials>SessionToken"`
	}
	err := xml.Unmarshal(a.wire.body.Bytes(), &out)
	return aws.Credentials{AccessKeyID: out.AccessKeyID, SecretAccessKey: out.Secret, SessionToken: out.Token}, err
}

// TestTLSIsRecorded: a record says how the connection was protected.
func TestTLSIsRecorded(t *testing.T) {
	a := newAudited(t)
	h, err := transport.New(transport.Config{Service: a.Service, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Regions: []string{region}})
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewTLSServer(h)
	t.Cleanup(listener.Close)
	client := kms.New(a.server.Options(), func(o *kms.Options) {
		o.BaseEndpoint, o.HTTPClient = &listener.URL, sdktest.Of(listener.Client())
	})
	e, err := a.one(t, "ListKeys", func() error {
		_, err := client.ListKeys(t.Context(), &kms.ListKeysInput{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := e.TLSDetails; d["tlsVersion"] != "TLS 1.3" || !strings.HasPrefix(d["cipherSuite"], "TLS_") ||
		d["clientProvidedHostHeader"] != strings.TrimPrefix(listener.URL, "https://") {
		t.Errorf("%v", d)
	}
}

// TestFailsClosed: while the log takes no records, no request is answered, and nothing is changed.
func TestFailsClosed(t *testing.T) {
	a := newAudited(t)
	id, _ := a.newKey(t)
	sealed, err := a.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("the plaintext of before")})
	if err != nil {
		t.Fatal(err)
	}
	requests := map[string]func() error{
		"Decrypt": func() error {
			_, err := a.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			return err
		},
		"Encrypt": func() error {
			_, err := a.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
			return err
		},
		"GenerateDataKey": func() error {
			_, err := a.GenerateDataKey(t.Context(),
				&kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
			return err
		},
		"ListKeys":  func() error { _, err := a.ListKeys(t.Context(), &kms.ListKeysInput{}); return err },
		"CreateKey": func() error { _, err := a.CreateKey(t.Context(), &kms.CreateKeyInput{}); return err },
		"CreateAlias": func() error {
			_, err := a.CreateAlias(t.Context(),
				&kms.CreateAliasInput{AliasName: aws.String("alias/closed"), TargetKeyId: &id})
			return err
		},
		"ScheduleKeyDeletion": func() error {
			_, err := a.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id})
			return err
		},
	}
	a.silent = true
	for op, request := range requests {
		a.begin(t, op)
		wantError(t, request(), "KMSInternalException",
			"The request was rejected because an internal exception occurred. The request can be retried.")
		if text := a.wire.body.String(); strings.Contains(text, "Plaintext") || strings.Contains(text, "Blob") ||
			strings.Contains(text, "KeyId") || strings.Contains(text, "space") {
			t.Errorf("%s: the answer is %s", op, text)
		}
		if records := a.end(t); len(records) != 0 {
			t.Errorf("%s: %+v", op, records)
		}
	}
	if len(a.changed) != 0 {
		t.Errorf("the store was changed: %v", a.changed)
	}
	// the key's two, the service's, and the log's
	if objects, err := a.Token.Objects(t.Context(), "verenc/"); err != nil || len(objects) != 4 {
		t.Errorf("token objects: %v, %v", objects, err)
	}
	a.silent = false
	if opened, err := a.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil ||
		string(opened.Plaintext) != "the plaintext of before" {
		t.Errorf("afterwards: %v", err)
	}
}
