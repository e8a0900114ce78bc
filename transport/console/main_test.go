package console_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
)

func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }

const (
	account = "111122223333"
	region  = "us-east-1"
)

// server is the service with its pages, on a SoftHSM2 token of its own.
type server struct {
	*kms.Client // of the account's root principal

	URL     string
	Service *service.Service
	Store   *store.DB
	Root    aws.Credentials

	AuditLog *audit.Log
	AuditKey string // public
	History  *history.History

	mu       sync.Mutex
	received bytes.Buffer // guarded by mu: all requests, as they came
}

func newServer(t *testing.T) *server {
	t.Helper()
	return newServerOn(t, httptest.NewServer)
}

// newServerOn is newServer with a listener.
func newServerOn(t *testing.T, listen func(http.Handler) *httptest.Server) *server {
	t.Helper()
	soft := softhsm.New(t)
	token, err := hsm.Open(
		t.Context(),
		hsm.Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN},
	)
	must(t, err)
	t.Cleanup(func() { must(t, token.Close()) })
	s := &server{}
	s.Store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true})
	must(t, err)
	t.Cleanup(func() { must(t, s.Store.Close()) })
	keys := evidence.AuditKeys{Store: s.Store, Token: token, Now: time.Now, Rand: rand.Reader}
	signing, err := keys.Signers(t.Context())
	must(t, err)
	log, dir := auditLog(t, signing[0])
	s.AuditLog = log
	s.AuditKey, err = audit.VerifierKey(origin, signing[0].Public())
	must(t, err)
	selfTest.Do(func() { can = service.CapabilitiesOf(token.SelfTest(context.Background())) })
	s.Service, err = service.New(
		service.Config{Audit: log, Store: s.Store, Token: token, Log: zap.NewNop(), Can: can},
	)
	must(t, err)
	must(t, s.Service.InitServiceObjects(t.Context()))
	root, err := s.Service.IAM().CreateRootAccessKey(t.Context(), account)
	must(t, err)
	s.Root = aws.Credentials{AccessKeyID: root.AccessKeyID, SecretAccessKey: string(root.SecretAccessKey)}
	metrics := prometheus.NewRegistry()
	s.History, err = history.New(history.Config{Metrics: metrics, Ping: token.Ping,
		Records: func() (int64, bool) { return log.Stats().Records, true }})
	must(t, err)
	inspector, err := inspect.New(inspect.Config{
		Service:  s.Service,
		Account:  account,
		AuditLog: os.DirFS(dir),
		Examiner: &evidence.Examiner{Service: s.Service, Store: s.Store, Now: time.Now},
		Signer:   func(context.Context) (string, audit.Signer, error) { return origin, signing[0], nil },
		History:  s.History,
	})
	must(t, err)
	cfg := transport.Config{Service: s.Service, Inspector: inspector, Log: zap.NewNop(), Metrics: metrics,
		Regions: []string{region}}
	api, err := transport.New(cfg)
	must(t, err)
	pages, err := transport.Pages(cfg)
	must(t, err)
	listener := listen(s.record(transport.WithPages(api, pages)))
	t.Cleanup(listener.Close)
	s.URL = listener.URL
	s.Client = kms.New(kms.Options{BaseEndpoint: aws.String(s.URL), Region: region, HTTPClient: sdktest.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(s.Root.AccessKeyID, s.Root.SecretAccessKey, "")})
	return s
}

// can is what the token of the tests can do, which its self-test tells once for all.
var (
	selfTest sync.Once
	can      service.Capabilities
)

// record keeps what a handler is sent.
func (s *server) record(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, err := body.ReadFrom(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.received.WriteString(r.Method + " " + r.RequestURI + "\n")
		_ = r.Header.Write(&s.received) // a buffer takes everything
		s.received.Write(body.Bytes())
		s.mu.Unlock()
		r.Body = http.NoBody
		if body.Len() > 0 {
			r.Body = readCloser{&body}
		}
		h.ServeHTTP(w, r)
	})
}

type readCloser struct{ *bytes.Buffer }

func (readCloser) Close() error { return nil }

// Received is what was sent so far.
func (s *server) Received() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received.String()
}

// user makes a user with identity policies, and an access key.
func (s *server) user(t *testing.T, name string, policies ...string) aws.Credentials {
	t.Helper()
	arn := "arn:aws:iam::" + account + ":user/" + name
	user := &iam.Principal{ARN: arn, Account: account, Kind: iam.KindUser, CreatedAt: time.Now()}
	user.Name, user.UniqueID, user.Policies = name, "AIDA"+name, map[string]string{}
	for i, text := range policies {
		user.Policies[fmt.Sprintf("policy-%d", i+1)] = text
	}
	must(t, s.Store.PutPrincipal(t.Context(), user))
	c, err := s.Service.IAM().CreateAccessKey(t.Context(), account, arn)
	must(t, err)
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey)}
}

// session assumes a role that may use every key of the account. A root can't: a user of its account
// does.
func (s *server) session(t *testing.T) aws.Credentials {
	t.Helper()
	user := s.user(t, "alice")
	const use = `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`
	const trust = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account +
		`:user/alice"},"Action":"sts:AssumeRole"}}`
	role := &iam.Principal{ARN: "arn:aws:iam::" + account + ":role/operator", Account: account, Kind: iam.KindRole,
		CreatedAt: time.Now(), PrincipalDetails: iam.PrincipalDetails{Name: "operator", UniqueID: "AROAoperator",
			MaxSession: 3600, Trust: trust, Policies: map[string]string{"use": use}}}
	must(t, s.Store.PutPrincipal(t.Context(), role))
	client := sts.New(sts.Options{BaseEndpoint: &s.URL, Region: region, HTTPClient: sdktest.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(user.AccessKeyID, user.SecretAccessKey, "")})
	in := &sts.AssumeRoleInput{RoleArn: &role.ARN, RoleSessionName: aws.String("page")}
	out, err := client.AssumeRole(t.Context(), in)
	must(t, err)
	made := out.Credentials
	return aws.Credentials{AccessKeyID: *made.AccessKeyId, SecretAccessKey: *made.SecretAccessKey,
		SessionToken: *made.SessionToken}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
