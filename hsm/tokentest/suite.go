// Package tokentest is a suite that tries, through hsm's exported functions, what a token can do,
// and holds the token's self-test to it. Its tests run it on the tokens of package softhsm/tokens;
// docs/tokens.md has the result.
//
// It protects nothing, and makes and destroys keys in the token that it is given.
package tokentest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
)

// Result is what became of one capability.
type Result struct {
	Capability string
	SelfTest   bool   // the self-test says that the token has it
	Works      bool   // and the suite found it so
	Refused    bool   // it does not work, and hsm says so with ErrUnsupported, which nobody tries again
	Error      string // why it does not work
}

// capability is something that a token may be able to do. checks are the self-tests that say so,
// all of which must pass.
type capability struct {
	name   string
	checks []string
	try    func(s *suite) error
	again  bool // together tries it again, since it is quick
}

type suite struct {
	ctx    context.Context
	config hsm.Config
	token  *hsm.Token
	works  map[string]bool // capabilities so far
}

// Run tries everything on the token of a Config. Its error is one that has nothing to do with a
// capability.
func Run(ctx context.Context, cfg hsm.Config) (results []Result, err error) {
	token, err := hsm.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	passes := map[string]bool{}
	for _, c := range token.SelfTest(ctx) {
		passes[c.Name] = c.Err == nil
	}
	s := &suite{ctx: ctx, config: cfg, token: token, works: map[string]bool{}}
	for _, c := range capabilities {
		r := Result{Capability: c.name, SelfTest: true}
		for _, check := range c.checks {
			passed, known := passes[check]
			if !known {
				return nil, fmt.Errorf("there is no self-test %q", check)
			}
			r.SelfTest = r.SelfTest && passed
		}
		err := c.try(s)
		if r.Works = err == nil; err != nil {
			r.Error, r.Refused = err.Error(), errors.Is(err, hsm.ErrUnsupported)
		}
		s.works[c.name] = r.Works
		results = append(results, r)
	}
	return results, token.Ping(ctx)
}

var capabilities []capability

// init, since together goes over the table that it is in.
func init() { capabilities = table() }

const again = true

func table() []capability {
	return []capability{
		{"random bytes", []string{selftest.CheckRandom}, (*suite).random, again},
		{"keys in the token", []string{selftest.CheckObjects}, (*suite).objects, again},
		{"AES-256-GCM", []string{selftest.CheckSeal, selftest.CheckTamper}, (*suite).seal, again},
		{
			"AES-KWP (RFC 5649)", []string{selftest.CheckKWP},
			func(s *suite) error { _, err := s.token.KWPMechanism(s.ctx); return err }, again,
		},
		{
			"data keys born and wrapped in the token",
			[]string{selftest.CheckSeal, selftest.CheckDataKey16, selftest.CheckDataKey32, selftest.CheckDataKey64},
			(*suite).dataKeys, again,
		},
		{
			"data key pairs of RSA, born and wrapped", []string{selftest.CheckSeal, selftest.CheckWrappedRSA},
			dataKeyPair(hsm.RSA2048), false,
		},
		{
			"data key pairs on P-256", []string{selftest.CheckSeal, selftest.CheckWrappedP256},
			dataKeyPair(hsm.P256), again,
		},
		{
			"data key pairs on P-384", []string{selftest.CheckSeal, selftest.CheckWrappedP384},
			dataKeyPair(hsm.P384), false,
		},
		{
			"data key pairs on P-521", []string{selftest.CheckSeal, selftest.CheckWrappedP521},
			dataKeyPair(hsm.P521), false,
		},
		{
			"data key pairs on secp256k1", []string{selftest.CheckSeal, selftest.CheckWrappedSecp256k1},
			dataKeyPair(hsm.Secp256k1), false,
		},
		{
			"data key pairs of Ed25519", []string{selftest.CheckSeal, selftest.CheckWrappedEd25519},
			dataKeyPair(hsm.Ed25519), false,
		},
		{"keys kept outside, wrapped", []string{selftest.CheckSeal, selftest.CheckInside}, (*suite).wrappedKeys, again},
		{"HMAC with SHA-224", []string{selftest.CheckMAC224}, mac(hsm.MAC224, crypto.SHA224), false},
		{"HMAC with SHA-256", []string{selftest.CheckMAC256}, mac(hsm.MAC256, crypto.SHA256), again},
		{"HMAC with SHA-384", []string{selftest.CheckMAC384}, mac(hsm.MAC384, crypto.SHA384), false},
		{"HMAC with SHA-512", []string{selftest.CheckMAC512}, mac(hsm.MAC512, crypto.SHA512), false},
		{
			"RSA signatures, PKCS #1 v1.5",
			[]string{selftest.CheckPKCS1v15SHA256, selftest.CheckPKCS1v15SHA384, selftest.CheckPKCS1v15SHA512},
			sign(hsm.RSA2048, hashes(hsm.PKCS1v15)...), false,
		},
		{"RSA signatures, PSS", []string{selftest.CheckPSSSHA256, selftest.CheckPSSSHA384, selftest.CheckPSSSHA512},
			sign(hsm.RSA2048, hashes(hsm.PSS)...), false},
		{"RSA keys of 3072 bits", []string{selftest.CheckRSA}, sign(hsm.RSA3072, hashes(hsm.PKCS1v15)...), false},
		{"RSA keys of 4096 bits", []string{selftest.CheckRSA}, sign(hsm.RSA4096, hashes(hsm.PKCS1v15)...), false},
		{"RSA decryption, OAEP with SHA-1", []string{selftest.CheckOAEPSHA1}, oaep(crypto.SHA1, sha1.New), false},
		{
			"RSA decryption, OAEP with SHA-256", []string{selftest.CheckOAEPSHA256},
			oaep(crypto.SHA256, sha256.New), false,
		},
		{
			"ECDSA on P-256", []string{selftest.CheckECDSAP256},
			sign(hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}), again,
		},
		{
			"ECDSA on P-384", []string{selftest.CheckECDSAP384},
			sign(hsm.P384, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA384}), false,
		},
		{
			"ECDSA on P-521", []string{selftest.CheckECDSAP521},
			sign(hsm.P521, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA512}), false,
		},
		{
			"ECDSA on secp256k1", []string{selftest.CheckECDSASecp256k1},
			sign(hsm.Secp256k1, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}), false,
		},
		{"Ed25519", []string{selftest.CheckEd25519}, sign(hsm.Ed25519, hsm.Scheme{Algorithm: hsm.PureEdDSA}), again},
		{
			"Ed25519ph", []string{selftest.CheckEd25519ph},
			sign(hsm.Ed25519, hsm.Scheme{Algorithm: hsm.HashEdDSA, Hash: crypto.SHA512}), false,
		},
		{"ECDH on P-256", []string{selftest.CheckECDHP256}, derive(hsm.P256, ecdh.P256()), again},
		{"ECDH on P-384", []string{selftest.CheckECDHP384}, derive(hsm.P384, ecdh.P384()), false},
		{"ECDH on P-521", []string{selftest.CheckECDHP521}, derive(hsm.P521, ecdh.P521()), false},
		{
			"import of AES keys", []string{selftest.CheckSeal, selftest.CheckImportAESSHA1},
			importSecret(hsm.Seal, hsm.OAEPSHA1, sha1.New), false,
		},
		{
			"import of AES keys, SHA-256", []string{selftest.CheckSeal, selftest.CheckImportAESSHA256},
			importSecret(hsm.Seal, hsm.OAEPSHA256, sha256.New), false,
		},
		{
			"import of MAC keys", []string{selftest.CheckMAC256, selftest.CheckImportMACSHA1},
			importSecret(hsm.MAC256, hsm.OAEPSHA1, sha1.New), false,
		},
		{
			"import of MAC keys, SHA-256", []string{selftest.CheckMAC256, selftest.CheckImportMACSHA256},
			importSecret(hsm.MAC256, hsm.OAEPSHA256, sha256.New), false,
		},
		{
			"import of RSA keys",
			[]string{selftest.CheckImportRSA},
			importPair(
				hsm.RSA2048, hsm.Scheme{Algorithm: hsm.PSS, Hash: crypto.SHA256}, hsm.RSAAESKeyWrapSHA1,
				sha1.New,
			),
			false,
		},
		{
			"import of P-256 keys",
			[]string{selftest.CheckKWP, selftest.CheckImportCurve},
			importPair(
				hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}, hsm.RSAAESKeyWrapSHA256,
				sha256.New,
			),
			false,
		},
		{
			"import of Ed25519 keys", []string{selftest.CheckKWP, selftest.CheckImportEd25519},
			importPair(hsm.Ed25519, hsm.Scheme{Algorithm: hsm.PureEdDSA}, hsm.RSAAESKeyWrapSHA256, sha256.New),
			false,
		},
		{"a second connection", []string{selftest.CheckObjects}, (*suite).secondConnection, false},
		{"what works, for eight callers at once", []string{selftest.CheckRandom}, (*suite).together, false},
	}
}

// wrong is the error of a call, or of its result if the call had none.
func wrong(err error, format string, args ...any) error {
	if err != nil {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	return fmt.Errorf(format, args...)
}

// newID draws a CKA_ID, and destroys what has it afterwards.
func (s *suite) newID() (id hsm.ObjectID, destroy func()) {
	_, _ = rand.Read(id[:]) // never fails
	return id, func() { _ = s.token.Destroy(s.ctx, id) }
}

func (s *suite) random() error {
	b, err := s.token.Random(s.ctx, 1024)
	if err == nil && (len(b) != 1024 || bytes.Equal(b[:32], b[32:64])) {
		err = errors.New("these bytes are not random")
	}
	return err
}

func (s *suite) objects() error {
	id, destroy := s.newID()
	defer destroy()
	if err := s.token.GenerateSecretKey(s.ctx,
		hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: hsm.Seal}); err != nil {
		return err
	}
	if missing, err := s.token.Missing(s.ctx, id); err != nil || len(missing) > 0 {
		return wrong(err, "a new key is missing")
	}
	if a, err := s.token.Attributes(s.ctx, id); err != nil || !a.Sensitive || a.Extractable {
		return wrong(err, "attributes %+v", a)
	}
	if err := s.token.Destroy(s.ctx, id); err != nil {
		return err
	}
	if missing, err := s.token.Missing(s.ctx, id); err != nil || len(missing) != 1 {
		return wrong(err, "a destroyed key is there")
	}
	return nil
}

// pair makes the two keys of a symmetric material.
func (s *suite) pair() (p hsm.SealingKeys, destroy func(), err error) {
	seal, destroySeal := s.newID()
	wrap, destroyWrap := s.newID()
	destroy = func() { destroySeal(); destroyWrap() }
	err = s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: seal, Purpose: hsm.Seal})
	if err == nil {
		err = s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: wrap, Purpose: hsm.Wrap})
	}
	return hsm.SealingKeys{Seal: seal, Wrap: wrap}, destroy, err
}

func (s *suite) seal() error {
	p, destroy, err := s.pair()
	defer destroy()
	if err != nil {
		return err
	}
	return s.seals(p.Seal)
}

// seals uses a Seal key, with the right additional data and with others.
func (s *suite) seals(key hsm.Key) error {
	for _, size := range []int{0, 1, 32, 4096} {
		want := bytes.Repeat([]byte{0x5a}, size)
		box, err := s.token.Encrypt(s.ctx, key, want, []byte("aad"))
		if err != nil {
			return err
		}
		if got, err := s.token.Decrypt(s.ctx, key, box, []byte("aad")); err != nil || !bytes.Equal(got, want) {
			return wrong(err, "%d bytes came back as %d", size, len(got))
		}
		if _, err := s.token.Decrypt(s.ctx, key, box, []byte("other")); !errors.Is(err, hsm.ErrAuthentication) {
			return wrong(err, "other additional data")
		}
	}
	return nil
}

func (s *suite) dataKeys() error {
	p, destroy, err := s.pair()
	defer destroy()
	if err != nil {
		return err
	}
	for _, size := range []int{16, 32, 64} {
		can, failed := s.token.CanGenerateWrapped(s.ctx, size)
		box, err := s.token.GenerateWrapped(s.ctx, p, size, []byte("aad"))
		if failed != nil || can != (err == nil) {
			return fmt.Errorf("CanGenerateWrapped says %v (%v) of data keys of %d bytes: %v", can, failed, size, err)
		}
		if err != nil {
			return err
		}
		first, err := s.token.DecryptWrapped(s.ctx, p, box, size, []byte("aad"))
		if err != nil {
			return err
		}
		second, err := s.token.DecryptWrapped(s.ctx, p, box, size, []byte("aad"))
		if err != nil || len(first) != size || !bytes.Equal(first, second) {
			return wrong(err, "a data key of %d bytes came back as %d", size, len(first))
		}
	}
	return nil
}

func (s *suite) wrappedKeys() error {
	under, destroy := s.newID()
	defer destroy()
	if err := s.token.GenerateWrappingKey(s.ctx, under, "verenc/tokentest"); err != nil {
		return err
	}
	name, _ := s.newID()
	k := hsm.WrappedKey{Name: name, Under: under, Purpose: hsm.Seal}
	wrapped, _, err := s.token.GenerateWrappedKey(s.ctx, k)
	if err != nil {
		return err
	}
	k.Wrapped = wrapped
	if err := s.seals(k); err != nil {
		return err
	}
	return s.token.Evict(s.ctx, k)
}

func mac(p hsm.Purpose, h crypto.Hash) func(*suite) error {
	return func(s *suite) error {
		id, destroy := s.newID()
		defer destroy()
		if err := s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: id, Purpose: p}); err != nil {
			return err
		}
		first, err := s.token.MAC(s.ctx, id, h, []byte("message"))
		if err != nil {
			return err
		}
		again, err := s.token.MAC(s.ctx, id, h, []byte("message"))
		if err != nil || !hmac.Equal(first, again) || len(first) != h.Size() {
			return wrong(err, "another MAC of the same message")
		}
		return nil
	}
}

func oaep(h crypto.Hash, newHash func() hash.Hash) func(*suite) error {
	return func(s *suite) error {
		id, public, _, destroy, err := s.keyPair(hsm.RSA2048, hsm.DecryptPair)
		defer destroy()
		if err != nil {
			return err
		}
		ciphertext, err := rsa.EncryptOAEP(newHash(), rand.Reader, public.(*rsa.PublicKey), []byte("message"), nil)
		if err != nil {
			return err
		}
		got, err := s.token.DecryptOAEP(s.ctx, id, hsm.RSA2048, h, ciphertext)
		if err != nil || string(got) != "message" {
			return wrong(err, "%q came back", got)
		}
		ciphertext[len(ciphertext)-1] ^= 1
		if _, err := s.token.DecryptOAEP(s.ctx,
			id, hsm.RSA2048, h, ciphertext); !errors.Is(err, hsm.ErrAuthentication) {
			return wrong(err, "a changed ciphertext")
		}
		return nil
	}
}

func derive(kt hsm.KeyType, curve ecdh.Curve) func(*suite) error {
	return func(s *suite) error {
		id, public, _, destroy, err := s.keyPair(kt, hsm.DerivePair)
		defer destroy()
		if err != nil {
			return err
		}
		own, err := public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			return err
		}
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		want, err := peer.ECDH(own)
		if err != nil {
			return err
		}
		got, err := s.token.Derive(s.ctx, id, kt, peer.PublicKey().Bytes())
		if err != nil || !bytes.Equal(got, want) {
			return wrong(err, "another secret than the host's")
		}
		return nil
	}
}
