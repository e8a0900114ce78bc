package audit_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/verenc/kms/service/audit"
)

// token stands for a key in a token.
type token struct{ key ed25519.PrivateKey }

func (t token) Public() crypto.PublicKey { return t.key.Public() }

func (t token) Sign(_ context.Context, message []byte) ([]byte, error) {
	return ed25519.Sign(t.key, message), nil
}

func Example() {
	check := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	ctx := context.Background()
	temp, err := os.MkdirTemp("", "audit")
	check(err)
	defer func() { check(os.RemoveAll(temp)) }()
	dir := filepath.Join(temp, "log")
	_, key, err := ed25519.GenerateKey(rand.Reader)
	check(err)

	log, err := audit.Open(ctx, audit.Config{Dir: dir, Create: true, Origin: "kms.example.com/audit",
		Signers: []audit.Signer{token{key}}})
	check(err)
	check(log.Append(ctx, &audit.Record{
		UserIdentity: audit.UserIdentity{Type: "IAMUser", ARN: "arn:aws:iam::111122223333:user/alice"},
		EventTime:    time.Now(), EventSource: "kms.amazonaws.com", EventName: "Decrypt", EventID: "7f3c",
		RequestParameters: audit.Object{{Name: "keyId", Value: "alias/orders"}},
	}))
	check(log.Close(ctx))

	// Elsewhere, with the folder and the public key:
	public, err := audit.VerifierKey("kms.example.com/audit", key.Public())
	check(err)
	report, err := audit.Verify(os.DirFS(dir), audit.VerifyConfig{Keys: []string{public}})
	check(err)
	proof, err := audit.Prove(os.DirFS(dir), 0)
	check(err)
	proven, err := audit.VerifyProof(proof, public)
	check(err)
	fmt.Println(report.Sealed, "record; proven:", proven.Index, "of", proven.Origin)
	// Output: 1 record; proven: 0 of kms.example.com/audit
}
