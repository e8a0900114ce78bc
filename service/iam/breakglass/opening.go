package breakglass

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/statement"
)

const head = "verenc-kms break-glass v1\n"

// origin is the name of a credential's key in the signed note.
const origin = "verenc/break-glass"

// MaxOpening is how long an opening may last.
const MaxOpening = 24 * time.Hour

// Opening is a statement that the credential is opened. Nobody can sign one without the shares.
type Opening struct {
	ID        string // 32 random hex digits
	Account   string
	OpenedAt  time.Time
	Until     time.Time
	Reason    string // in the words of who opened
	Operator  string // the operating system's user, and the host
	Shares    []int  // the numbers of the shares that were used
	Threshold int
}

// signer signs openings. It implements audit.Signer.
type signer struct{ private ed25519.PrivateKey }

func (s signer) Public() crypto.PublicKey { return s.private.Public() }

func (s signer) Sign(_ context.Context, message []byte) ([]byte, error) {
	return ed25519.Sign(s.private, message), nil
}

// Sign returns the opening as a C2SP signed note.
func (o *Opening) Sign(ctx context.Context, private ed25519.PrivateKey) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return statement.Sign(ctx, head, o, origin, signer{private})
}

// check refuses an opening that lasts too long.
func (o *Opening) check() error {
	if lasts := o.Until.Sub(o.OpenedAt); lasts <= 0 || lasts > MaxOpening {
		return fmt.Errorf("an opening of %v: it must be more than nothing and at most %v", lasts, MaxOpening)
	}
	if o.ID == "" || o.Account == "" {
		return errors.New("an opening without a name or an account")
	}
	return nil
}

// Verify returns an opening that the credential has signed.
func (k *Key) Verify(signed []byte) (*Opening, error) {
	verifier, err := audit.VerifierKey(origin, k.Public)
	if err != nil {
		return nil, fmt.Errorf("verify an opening: %w", err)
	}
	o := &Opening{}
	if err = statement.Open(signed, []string{verifier}, o, head); err == nil {
		err = o.check()
	}
	if err != nil {
		return nil, fmt.Errorf("verify an opening: %w", err)
	}
	return o, nil
}
