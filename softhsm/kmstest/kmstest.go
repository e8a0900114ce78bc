// Package kmstest gives tests a running Verenc KMS server: a real one, with its keys in a throw-away SoftHSM2 token,
// in the process of the test.
//
//	func TestOrders(t *testing.T) {
//		server := kmstest.New(t, kmstest.Seed("testdata/keys.yaml"))
//		client := kms.NewFromConfig(server.Config)
//		...
//	}
//
// The machine needs SoftHSM2 (Debian: apt-get install softhsm2), and Go needs cgo. Without SoftHSM2 the test fails; it
// is never skipped. The first server of a process takes about half a second, in which the token is tested; the next
// ones take some 50 ms each. Servers may run at the same time, each with a token and a database of its own.
//
// It protects nothing: see package softhsm. Unlike verenc dev, it keeps no audit log and serves no pages.
package kmstest

import (
	"context"
	"errors"
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
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/declaration"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/reset"
	"github.com/verenc/kms/transport"
)

// Server is a running server. Its keys are gone when its test ends.
type Server struct {
	// URL is the address of the AWS API, of KMS and of STS.
	URL string
	// Config is for clients of the AWS SDK for Go v2: URL, region, and the access key of the account's root user.
	Config aws.Config

	point *reset.Point
}

// Option changes a server before it starts.
type Option func(*options)

type options struct {
	account, region, seed string
	text                  []byte // of the seed; nil: it is in the file
}

// Seed names a YAML file with the users, roles and keys that the server has, as for verenc apply.
func Seed(path string) Option { return func(o *options) { o.seed = path } }

// SeedText is Seed with the text of the file.
func SeedText(text string) Option {
	return func(o *options) { o.seed, o.text = "seed", []byte(text) }
}

// Account sets the account of the access key, 12 digits. Default 000000000000.
func Account(id string) Option { return func(o *options) { o.account = id } }

// Region sets the region of Config. The server serves every region. Default us-east-1.
func Region(name string) Option { return func(o *options) { o.region = name } }

// New starts a server, and ends it with the test. ARNs have AWS's form.
func New(t testing.TB, opts ...Option) *Server {
	t.Helper()
	o := options{account: "000000000000", region: "us-east-1"}
	for _, set := range opts {
		set(&o)
	}
	s, err := start(t, o)
	if err != nil {
		t.Fatalf("kmstest: %v", err)
	}
	return s
}

// Reset brings the server back to its seed, in milliseconds. Its clients stay good.
func (s *Server) Reset(t testing.TB) {
	t.Helper()
	if err := s.point.Reset(t.Context()); err != nil {
		t.Fatalf("kmstest: %v", err)
	}
}

// atEnd runs f when the test ends, after what was registered later.
func atEnd(t testing.TB, f func() error) {
	t.Cleanup(func() {
		if err := f(); err != nil {
			t.Errorf("kmstest: %v", err)
		}
	})
}

// Times are generous, since the machines of CI are busy.
const (
	callTimeout     = time.Minute
	generateTimeout = 5 * time.Minute
	reconcileEvery  = time.Minute
)

func start(t testing.TB, o options) (*Server, error) {
	ctx := t.Context()
	soft, err := newToken(t)
	if err != nil {
		return nil, err
	}
	token, err := hsm.Open(ctx, hsm.Config{Module: soft.Module, Serial: soft.Serial, PIN: soft.PIN,
		ConnectTimeout: callTimeout, CallTimeout: callTimeout, GenerateTimeout: generateTimeout})
	if err != nil {
		return nil, err
	}
	atEnd(t, token.Close)
	dir := t.TempDir()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(dir, "verenc.db"), Create: true})
	if err != nil {
		return nil, err
	}
	atEnd(t, db.Close)
	kept := reset.Keep(token)
	cfg := service.Config{Store: db, Token: kept, Log: zap.NewNop(), Audit: record.NoAudit, Can: abilities(token),
		Regions: []string{"*"}, ARNFormat: arn.AWS, VerifyProof: transport.VerifyProof}
	if cfg.Can.KeepWrapped {
		cfg.Residency = service.ResidencyWrapped // as verenc dev
	}
	s := &Server{}
	if s.Config, err = prepare(ctx, cfg, o); err != nil {
		return nil, err
	}
	noRecord := func(context.Context) error { return nil }
	if s.point, err = reset.Mark(ctx, db, kept, filepath.Join(dir, "reset.db"), noRecord); err != nil {
		return nil, err
	}
	serves, err := service.New(cfg)
	if err != nil {
		return nil, err
	}
	api, err := transport.New(transport.Config{Service: serves, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Regions: cfg.Regions, Ready: map[string]func(context.Context) error{"token": token.Ping, "store": db.Ping}})
	if err != nil {
		return nil, err
	}
	run(t, serves)
	s.URL = listen(t, s.point.Handler(api))
	s.Config.BaseEndpoint = &s.URL
	return s, nil
}

// prepare makes the access key and what the seed declares, as an operator's commands do. It returns the configuration
// of clients but for their address.
func prepare(ctx context.Context, cfg service.Config, o options) (aws.Config, error) {
	cfg.Operator = &record.Operator{Name: "kmstest"}
	s, err := service.New(cfg)
	if err != nil {
		return aws.Config{}, err
	}
	if err := s.InitServiceObjects(ctx); err != nil {
		return aws.Config{}, err
	}
	key, err := s.IAM().CreateRootAccessKey(ctx, o.account)
	if err != nil {
		return aws.Config{}, err
	}
	secret := credentials.NewStaticCredentialsProvider(key.AccessKeyID, string(key.SecretAccessKey), "")
	clients := aws.Config{Region: o.region, Credentials: secret}
	if o.seed == "" {
		return clients, nil
	}
	text := o.text
	if text == nil {
		if text, err = os.ReadFile(o.seed); err != nil {
			return clients, err
		}
	}
	d, err := declaration.Read(o.seed, text)
	if err != nil {
		return clients, err
	}
	planner := declaration.Planner{Service: s, Store: cfg.Store, Decode: transport.Decode}
	changes, end, err := planner.Plan(ctx, d, false)
	if err != nil {
		return clients, err
	}
	return clients, errors.Join(iam.Apply(ctx, changes), end(ctx))
}

// run runs the service's own work until the test ends.
func run(t testing.TB, s *service.Service) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, reconcileEvery) })
	atEnd(t, func() error {
		stop()
		running.Wait()
		return s.Close()
	})
}

// listen serves on a free port of 127.0.0.1 until the test ends.
func listen(t testing.TB, h http.Handler) (url string) {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// shared is what the servers of this process share: the folder of SoftHSM2's tokens, while there are any, and what a
// token can do.
var shared struct {
	sync.Mutex
	dir             string
	tokens, current int // ever made, and now

	test sync.Once
	can  service.Capabilities
}

// newToken makes a token, which is gone when the test ends.
func newToken(t testing.TB) (softhsm.Token, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.current == 0 {
		var err error
		if shared.dir, err = os.MkdirTemp("", "kmstest-"); err != nil {
			return softhsm.Token{}, err
		}
	}
	shared.current++
	atEnd(t, dropToken)
	shared.tokens++
	return softhsm.Open(shared.dir, fmt.Sprintf("kmstest-%d", shared.tokens))
}

func dropToken() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.current--; shared.current > 0 {
		return nil
	}
	return errors.Join(softhsm.Finalize(), os.RemoveAll(shared.dir))
}

// abilities is what SoftHSM2 can do here.
func abilities(token *hsm.Token) service.Capabilities {
	shared.test.Do(func() { shared.can = service.CapabilitiesOf(token.SelfTest(context.Background())) })
	return shared.can
}
