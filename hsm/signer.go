package hsm

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/connection"
)

// SignNamed is Sign with a private key that people name. It need not be one that this program has made.
func (t *Token) SignNamed(ctx context.Context, key NamedKey, kt KeyType, s Scheme, message []byte) ([]byte, error) {
	call, err := s.Call(kt, message)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.LookupNamed(key)
		if err != nil {
			return nil, err
		}
		signature, err := s.Sign(h, call)
		if !ckr.Has(err, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID) {
			return signature, err
		}
		s.ForgetNamed(key) // somebody has destroyed the key, and may have made it anew
		if h, err = s.LookupNamed(key); err != nil {
			return nil, err
		}
		return s.Sign(h, call)
	})
}

// SignNamed is Token's, on any member that has the key.
func (g *Group) SignNamed(ctx context.Context, key NamedKey, kt KeyType, s Scheme, message []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.SignNamed(ctx, key, kt, s, message) })
}

// Signers makes crypto.Signers of private keys in a token, for TLS. All of them together sign no more than a
// number of times at once, so that a flood of handshakes leaves sessions to others.
type Signers struct {
	token  namedSigner
	places chan struct{}
	wait   time.Duration
	stats  struct{ signed, failed, crowded atomic.Uint64 }
}

// namedSigner is a *Token or a *Group.
type namedSigner interface {
	SignNamed(ctx context.Context, key NamedKey, kt KeyType, s Scheme, message []byte) ([]byte, error)
}

// NewSigners makes Signers of a token. A signature waits for one of atOnce places for as long as wait, and then
// fails with ErrTimeout.
func NewSigners(token namedSigner, atOnce int, wait time.Duration) *Signers {
	return &Signers{token: token, places: make(chan struct{}, max(1, atOnce)), wait: wait}
}

// SignersStats counts signatures.
type SignersStats struct {
	Signed  uint64
	Failed  uint64 // in the token
	Crowded uint64 // found no place in time
}

// Stats returns the counters.
func (s *Signers) Stats() SignersStats {
	return SignersStats{s.stats.signed.Load(), s.stats.failed.Load(), s.stats.crowded.Load()}
}

// Signer returns a signer with a key, whose public half is known. It has the token sign once, since only that
// shows that the halves match. A key is ECDSA on P-256, P-384 or P-521, or RSA of 2048, 3072 or 4096 bits.
func (s *Signers) Signer(key NamedKey, public crypto.PublicKey) (crypto.Signer, error) {
	kt, err := typeOf(public)
	if err != nil {
		return nil, err
	}
	signer := &namedKeySigner{s, key, kt, public}
	digest := make([]byte, crypto.SHA256.Size())
	schemes := []crypto.SignerOpts{crypto.SHA256}
	if _, isRSA := public.(*rsa.PublicKey); isRSA { // TLS 1.3 knows no other: RFC 8446 section 4.2.3
		schemes = append(schemes, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	}
	for _, scheme := range schemes {
		if _, err := signer.Sign(nil, digest, scheme); err != nil {
			return nil, err
		}
	}
	return signer, nil
}

func typeOf(public crypto.PublicKey) (KeyType, error) {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		case elliptic.P521():
			return P521, nil
		}
	case *rsa.PublicKey:
		switch public.N.BitLen() {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
	}
	return 0, fmt.Errorf("a %T of this kind: use ECDSA on P-256 or P-384, or RSA of 2048, 3072 or 4096 bits", public)
}

// namedKeySigner is a crypto.Signer. That interface has no context: the token's deadlines bound a signature.
type namedKeySigner struct {
	all    *Signers
	key    NamedKey
	kt     KeyType
	public crypto.PublicKey
}

func (s *namedKeySigner) Public() crypto.PublicKey { return s.public }

// Sign signs a digest. The token has its own random numbers. What it signs is verified: another key may have got
// the name, and a wrong signature of RSA can tell the key to whoever sees it (Boneh, DeMillo and Lipton,
// EUROCRYPT 1997).
func (s *namedKeySigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := s.scheme(opts)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(s.all.wait)
	defer timer.Stop()
	select {
	case s.all.places <- struct{}{}:
	case <-timer.C:
		s.all.stats.crowded.Add(1)
		return nil, fmt.Errorf("%w: no place among %d signatures became free in time", ErrTimeout, cap(s.all.places))
	}
	defer func() { <-s.all.places }()
	signature, err := s.all.token.SignNamed(context.Background(), s.key, s.kt, scheme, digest)
	if err == nil {
		err = s.verify(scheme, digest, signature)
	}
	if err != nil {
		s.all.stats.failed.Add(1)
		return nil, err
	}
	s.all.stats.signed.Add(1)
	return signature, nil
}

func (s *namedKeySigner) scheme(opts crypto.SignerOpts) (Scheme, error) {
	if _, isRSA := s.public.(*rsa.PublicKey); !isRSA {
		return Scheme{Algorithm: ECDSA, Hash: opts.HashFunc()}, nil
	}
	pss, isPSS := opts.(*rsa.PSSOptions)
	switch {
	case !isPSS:
		return Scheme{Algorithm: PKCS1v15, Hash: opts.HashFunc()}, nil
	case pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != opts.HashFunc().Size():
		return Scheme{}, fmt.Errorf("sign: a salt of length %d, and not that of the hash", pss.SaltLength)
	}
	return Scheme{Algorithm: PSS, Hash: opts.HashFunc()}, nil
}

func (s *namedKeySigner) verify(scheme Scheme, digest, signature []byte) (err error) {
	switch public := s.public.(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest, signature) {
			err = errors.New("ECDSA verification error")
		}
	case *rsa.PublicKey:
		if scheme.Algorithm == PSS {
			err = rsa.VerifyPSS(public, scheme.Hash, digest, signature,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			err = rsa.VerifyPKCS1v15(public, scheme.Hash, digest, signature)
		}
	}
	if err != nil {
		err = fmt.Errorf("the token's signature is not one of this public key: it has another private key: %w", err)
	}
	return err
}
