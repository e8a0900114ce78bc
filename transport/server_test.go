package transport_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
)

const (
	account     = "111122223333"
	region      = "us-east-1"
	otherRegion = "eu-west-1"
)

// server is the whole service on a token of its own, behind a real HTTP listener.
type server struct {
	*kms.Client // of the account's root principal

	URL     string
	Service *service.Service
	Store   *store.DB
	Token   *hsm.Token
	Metrics *prometheus.Registry
	Log     *lockedBuffer
	Secret  aws.Credentials
	Soft    softhsm.Token
	Faults  *faults.Module // with options.faults

	log  *zap.Logger
	http *http.Client // its own: the end of one test's server disturbs no other's connections

	mu     sync.Mutex
	offset time.Duration // guarded by mu: how far its clock is ahead
	aged   time.Duration // guarded by mu: how much farther the service's is

	inspect func(*inspect.Config)
}

// grantees are principals that policies and grants of the tests name; they have no access keys.
var grantees = []string{"role/worker", "role/worker0", "role/worker1", "role/worker2", "role/worker3", "user/bob",
	"user/carol"}

// options change a server before it is made.
type options struct {
	faults  bool     // put a module between that records, and fails when it is told to
	quantum bool     // and this one has ML-DSA and ML-KEM
	cors    []string // origins
	token   func(*hsm.Config)
	can     func(*hsm.Token) service.Capabilities // default what SoftHSM can
	service func(*service.Config)
	inspect func(*inspect.Config, *server)
}

func newServer(t testing.TB, o options) *server {
	t.Helper()
	s := &server{http: sdktest.Client(), Log: &lockedBuffer{}, Soft: softhsm.New(t)}
	hc := hsm.Config{Module: s.Soft.Module, Label: s.Soft.Label, Serial: s.Soft.Serial, PIN: s.Soft.PIN,
		CallTimeout: time.Minute, GenerateTimeout: 5 * time.Minute, ConnectTimeout: time.Minute}
	if o.faults || o.quantum {
		s.Faults = faults.New(t, s.Soft)
		hc.Module = s.Faults.Path
	}
	if o.quantum {
		s.Faults.AddPostQuantum(t)
	}
	if o.token != nil {
		o.token(&hc)
	}
	var err error
	if s.Token, err = hsm.Open(t.Context(), hc); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.Token.Close)
	if s.Store, err = store.Open(t.Context(), databaseOf(t)); err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, s.Store.Close)
	if o.can == nil {
		o.can = func(token *hsm.Token) service.Capabilities { return canOf(token, o.quantum) }
	}
	s.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(s.Log),
		zap.DebugLevel))
	sc := service.Config{Audit: record.NoAudit, Store: s.Store, Token: s.Token, Log: s.log, Can: o.can(s.Token),
		Now: s.serviceNow, Regions: []string{region, otherRegion}, VerifyProof: transport.VerifyProof}
	if o.service != nil {
		o.service(&sc)
	}
	if s.Service, err = service.New(sc); err != nil {
		t.Fatal(err)
	}
	if err := s.Service.InitServiceObjects(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range grantees {
		name := p[strings.LastIndex(p, "/")+1:]
		principal := &iam.Principal{ARN: iamARN(account, p), Account: account, Kind: iam.PrincipalKind(p[:4]),
			CreatedAt: s.Now(), PrincipalDetails: iam.PrincipalDetails{Name: name, UniqueID: "AIDA" + name}}
		if err := s.Store.PutPrincipal(t.Context(), principal); err != nil {
			t.Fatal(err)
		}
	}
	c, err := s.Service.IAM().CreateRootAccessKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	s.Secret = aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey)}
	if o.inspect != nil {
		s.inspect = func(c *inspect.Config) { o.inspect(c, s) }
	}
	s.serveWith(t, o.cors, nil)
	return s
}

// serveWith serves on a new address, which is the client's from now on.
func (s *server) serveWith(t testing.TB, corsOrigins []string, limits *transport.Timeouts) {
	t.Helper()
	s.Metrics = prometheus.NewRegistry()
	ic := inspect.Config{Service: s.Service, Signer: s.signer,
		Examiner: &evidence.Examiner{Service: s.Service, Store: s.Store, Now: s.Now}}
	if s.inspect != nil {
		s.inspect(&ic)
	}
	inspector, err := inspect.New(ic)
	if err != nil {
		t.Fatal(err)
	}
	tc := transport.Config{CORSOrigins: corsOrigins, Service: s.Service, Log: s.log, Metrics: s.Metrics,
		Inspector: inspector,
		Regions:   []string{region, otherRegion},
		Ready:     map[string]func(context.Context) error{"token": s.Token.Ping, "store": s.Store.Ping}, Now: s.Now}
	listener := httptest.NewUnstartedServer(nil)
	if limits != nil {
		tc.AnswerWithin = limits.Answer
		listener.Config.ReadTimeout, listener.Config.WriteTimeout = limits.Read, limits.Write
	}
	if listener.Config.Handler, err = transport.New(tc); err != nil {
		t.Fatal(err)
	}
	listener.Start()
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		listener.Close()
	})
	s.URL = listener.URL
	s.Client = s.client(s.Secret, region)
}

// signer returns a signing key of audit logs.
func (s *server) signer(ctx context.Context) (string, audit.Signer, error) {
	keys := evidence.AuditKeys{Store: s.Store, Token: s.Token, Now: s.Now, Rand: rand.Reader}
	signers, err := keys.Signers(ctx)
	if err != nil {
		return "", nil, err
	}
	return "kms.example.com/audit", signers[0], nil
}

// canOf is what the token of the tests can do. Its self-test takes a second, so it runs once for all servers of a kind.
func canOf(token *hsm.Token, quantum bool) service.Capabilities {
	of := &can[0]
	if quantum {
		of = &can[1]
	}
	of.Do(func() { of.found = service.CapabilitiesOf(token.SelfTest(context.Background())) })
	return of.found
}

var can [2]struct {
	sync.Once
	found service.Capabilities
}

func closeAtEnd(t testing.TB, f func() error) {
	t.Cleanup(func() {
		if err := f(); err != nil {
			t.Error(err)
		}
	})
}

// client is an unmodified AWS client, without retries so that each error shows.
func (s *server) client(c aws.Credentials, region string) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(s.URL), Region: region, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken),
		HTTPClient:  s.http,
	})
}

// Now is the server's clock.
func (s *server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset)
}

func (s *server) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset += d
}

// age advances the clock of the service alone, so that the signatures of clients stay good.
func (s *server) age(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aged += d
}

func (s *server) serviceNow() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.offset + s.aged)
}

// newKey makes a key and returns its id and ARN.
func (s *server) newKey(t testing.TB) (id, arn string) {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
}

// ok returns what an operation answered: ok(s.Sign(...))(t). An error ends the test.
func ok[T any](out T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// makeKey makes a key of any kind.
func (s *server) makeKey(t testing.TB, in kms.CreateKeyInput) *types.KeyMetadata {
	t.Helper()
	return ok(s.CreateKey(t.Context(), &in))(t).KeyMetadata
}

// objectsOf lists the token objects of a key.
func (s *server) objectsOf(t testing.TB, id string) []hsm.Object {
	t.Helper()
	return ok(s.Token.Objects(t.Context(), "verenc/"+id+"/"))(t)
}

func (s *server) reconcile(t testing.TB) {
	t.Helper()
	if err := s.Service.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantError checks an error's code, and its message unless that is "*".
func wantError(t testing.TB, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Errorf("got %v, want %s", err, code)
		return
	}
	if api.ErrorCode() != code || (message != "*" && api.ErrorMessage() != message) {
		t.Errorf("got %s: %q\nwant %s: %q", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

// lockedBuffer is a log that can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
