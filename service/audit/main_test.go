package audit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const origin = "kms.example.com/audit"

var (
	ctx = context.Background()
	t0  = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
)

// signer is a token that keeps its key in memory.
type signer struct {
	key   crypto.Signer
	err   atomic.Pointer[error]
	calls atomic.Int64
}

func (s *signer) Public() crypto.PublicKey { return s.key.Public() }

func (s *signer) Sign(ctx context.Context, message []byte) ([]byte, error) {
	s.calls.Add(1)
	if err := s.err.Load(); err != nil {
		return nil, *err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hash := crypto.Hash(0)
	if _, ok := s.key.(*ecdsa.PrivateKey); ok {
		hash = crypto.SHA256
	}
	return s.key.Sign(rand.Reader, message, hash)
}

func ed25519Signer(seed byte) *signer {
	return &signer{key: ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))}
}

func ecdsaSigner(t testing.TB) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return &signer{key: key}
}

func keyOf(t testing.TB, s Signer) string {
	t.Helper()
	key, err := VerifierKey(origin, s.Public())
	must(t, err)
	return key
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// testConfig returns the config of a new log in which only a test makes checkpoints.
func testConfig(t testing.TB) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "log"), Create: true, Origin: origin,
		Signers: []Signer{ed25519Signer(1)}, CheckpointEvery: 1 << 40, CheckpointWithin: time.Hour, Reserve: 100}
}

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(ctx, cfg)
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func reopen(t testing.TB, cfg Config) *Log {
	t.Helper()
	cfg.Create = false
	return open(t, cfg)
}

func record(n int) *Record {
	return &Record{
		UserIdentity: UserIdentity{Type: "IAMUser", PrincipalID: "AIDAEXAMPLE",
			ARN: "arn:aws:iam::111122223333:user/alice", AccountID: "111122223333",
			AccessKeyID: "AKIAIOSFODNN7EXAMPLE", UserName: "alice"},
		EventTime: t0.Add(time.Duration(n) * time.Second), EventSource: "kms.amazonaws.com", EventName: "Decrypt",
		AWSRegion:       "us-east-1",
		SourceIPAddress: "192.0.2.1", UserAgent: "aws-cli/2 <ü>",
		RequestParameters:   Object{{"keyId", "alias/a"}, {"encryptionContext", map[string]string{"b": "1", "a": "2"}}},
		AdditionalEventData: Object{{"keyMaterialId", strings.Repeat("ab", 32)}, {"ciphertextForm", 2}},
		RequestID:           fmt.Sprintf("request-%d", n), EventID: fmt.Sprintf("event-%d", n), ReadOnly: true,
		Resources: []Resource{{ARN: "arn:verenc:111122223333:key/1234", AccountID: "111122223333",
			Type: "AWS::KMS::Key"}},
		ManagementEvent: true, RecipientAccountID: "111122223333",
		TLSDetails: &TLSDetails{TLSVersion: "TLSv1.3", CipherSuite: "TLS_AES_128_GCM_SHA256",
			ClientProvidedHostHeader: "kms.example.com"},
	}
}

// small returns a record with little more than what is required.
func small(n int) *Record {
	return &Record{EventTime: t0, EventSource: "s", EventName: "n", EventID: fmt.Sprint(n)}
}

// occurrences counts the records of each event id.
func occurrences(t testing.TB, dir string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	must(t, Read(os.DirFS(dir), func(_ int64, text []byte) error {
		var r Record
		err := json.Unmarshal(text, &r)
		seen[r.EventID]++
		return err
	}))
	return seen
}

// add appends records number from to to-1, one batch each.
func add(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		must(t, l.Append(ctx, record(n)))
	}
}

// verify expects a log that is as it was written.
func verify(t testing.TB, cfg Config, keys ...string) Report {
	t.Helper()
	if len(keys) == 0 {
		keys = []string{keyOf(t, cfg.Signers[0])}
	}
	r, err := Verify(os.DirFS(cfg.Dir), VerifyConfig{Keys: keys})
	if err != nil {
		t.Fatalf("%v\n%v", err, r.Findings)
	}
	return r
}

// hashes are the stored hashes of a tree. They implement tlog.HashReader.
type hashes []tlog.Hash

func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	read := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		read[i] = (*h)[index]
	}
	return read, nil
}
