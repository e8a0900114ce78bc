// Package tokentest is a suite that tries, through hsm's exported functions, what a token can do, and holds the token's
// self-test to it. Its tests run it on the tokens of package softhsm/tokens; docs/tokens.md has the result.
//
// It protects nothing, and makes and destroys keys in the token that it is given.
package tokentest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"

	"github.com/verenc/kms/hsm"
)

// Result is what became of one capability.
type Result struct {
	Capability string
	SelfTest   bool   // the self-test says that the token has it
	Works      bool   // and the suite found it so
	Error      string // why it does not work
}

// capability is something that a token may be able to do. checks are the self-tests that say so, all of which must pass.
type capability struct {
	name   string
	checks []string
	try    func(s *suite) error
}

type suite struct {
	ctx   context.Context
	token *hsm.Token
}

// Run tries everything. Its error is one of the token's that has nothing to do with a capability.
func Run(ctx context.Context, token *hsm.Token) ([]Result, error) {
	passes := map[string]bool{}
	for _, c := range token.SelfTest(ctx) {
		passes[c.Name] = c.Err == nil
	}
	s := &suite{ctx: ctx, token: token}
	var results []Result
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
			r.Error = err.Error()
		}
		results = append(results, r)
	}
	return results, token.Ping(ctx)
}

var capabilities = []capability{
	{"random bytes", []string{hsm.CheckRandom}, (*suite).random},
	{"keys in the token", []string{hsm.CheckObjects}, (*suite).objects},
	{"AES-256-GCM", []string{hsm.CheckSeal, hsm.CheckTamper}, (*suite).seal},
	{"AES-KWP (RFC 5649)", []string{hsm.CheckKWP}, func(s *suite) error { _, err := s.token.KWPMechanism(s.ctx); return err }},
	{"data keys born and wrapped in the token", []string{hsm.CheckSeal, hsm.CheckDataKey16, hsm.CheckDataKey32, hsm.CheckDataKey64}, (*suite).dataKeys},
	{"keys kept outside, wrapped", []string{hsm.CheckSeal, hsm.CheckInside}, (*suite).wrappedKeys},
	{"HMAC with SHA-224", []string{hsm.CheckMAC224}, mac(hsm.MAC224, crypto.SHA224)},
	{"HMAC with SHA-256", []string{hsm.CheckMAC256}, mac(hsm.MAC256, crypto.SHA256)},
	{"HMAC with SHA-384", []string{hsm.CheckMAC384}, mac(hsm.MAC384, crypto.SHA384)},
	{"HMAC with SHA-512", []string{hsm.CheckMAC512}, mac(hsm.MAC512, crypto.SHA512)},
	{"RSA signatures, PKCS #1 v1.5", []string{hsm.CheckPKCS1v15SHA256, hsm.CheckPKCS1v15SHA384, hsm.CheckPKCS1v15SHA512}, rsaSign(hsm.PKCS1v15)},
	{"RSA signatures, PSS", []string{hsm.CheckPSSSHA256, hsm.CheckPSSSHA384, hsm.CheckPSSSHA512}, rsaSign(hsm.PSS)},
	{"RSA decryption, OAEP with SHA-1", []string{hsm.CheckOAEPSHA1}, oaep(crypto.SHA1, sha1.New)},
	{"RSA decryption, OAEP with SHA-256", []string{hsm.CheckOAEPSHA256}, oaep(crypto.SHA256, sha256.New)},
	{"ECDSA on P-256", []string{hsm.CheckECDSAP256}, sign(hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256})},
	{"ECDSA on P-384", []string{hsm.CheckECDSAP384}, sign(hsm.P384, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA384})},
	{"ECDSA on P-521", []string{hsm.CheckECDSAP521}, sign(hsm.P521, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA512})},
	{"ECDSA on secp256k1", []string{hsm.CheckECDSASecp256k1}, sign(hsm.Secp256k1, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256})},
	{"Ed25519", []string{hsm.CheckEd25519}, sign(hsm.Ed25519, hsm.Scheme{Algorithm: hsm.PureEdDSA})},
	{"ECDH on P-256", []string{hsm.CheckECDHP256}, (*suite).derive},
	{"import of AES keys", []string{hsm.CheckSeal, hsm.CheckImportAESSHA1}, importSecret(hsm.Seal)},
	{"import of MAC keys", []string{hsm.CheckMAC256, hsm.CheckImportMACSHA1}, importSecret(hsm.MAC256)},
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
	if err := s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: hsm.Seal}); err != nil {
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
func (s *suite) pair() (p hsm.Pair, destroy func(), err error) {
	seal, destroySeal := s.newID()
	wrap, destroyWrap := s.newID()
	destroy = func() { destroySeal(); destroyWrap() }
	err = s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: seal, Purpose: hsm.Seal})
	if err == nil {
		err = s.token.GenerateSecretKey(s.ctx, hsm.SecretKey{ID: wrap, Purpose: hsm.Wrap})
	}
	return hsm.Pair{Seal: seal, Wrap: wrap}, destroy, err
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
		if can, err := s.token.CanGenerateWrapped(s.ctx, size); err != nil || !can {
			return errors.Join(fmt.Errorf("%w: data keys of %d bytes", hsm.ErrUnsupported, size), err)
		}
		box, err := s.token.GenerateWrapped(s.ctx, p, size, []byte("aad"))
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
	return s.token.Forget(s.ctx, k)
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

// keyPair makes a key pair and gives its public key.
func (s *suite) keyPair(kt hsm.KeyType, purpose hsm.PairPurpose) (id hsm.ObjectID, public any, spki []byte, destroy func(), err error) {
	id, destroy = s.newID()
	spki, err = s.token.GenerateKeyPair(s.ctx, hsm.KeyPair{ID: id, Label: "verenc/tokentest", Type: kt, Purpose: purpose})
	if err == nil && kt != hsm.Secp256k1 { // which the standard library has not
		public, err = x509.ParsePKIXPublicKey(spki)
	}
	return id, public, spki, destroy, err
}

func rsaSign(a hsm.Algorithm) func(*suite) error {
	return func(s *suite) error {
		id, public, _, destroy, err := s.keyPair(hsm.RSA2048, hsm.SignPair)
		defer destroy()
		if err != nil {
			return err
		}
		for _, h := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			digest := bytes.Repeat([]byte{7}, h.Size())
			signature, err := s.token.Sign(s.ctx, id, hsm.RSA2048, hsm.Scheme{Algorithm: a, Hash: h}, digest)
			if err != nil {
				return err
			}
			if a == hsm.PSS {
				err = rsa.VerifyPSS(public.(*rsa.PublicKey), h, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			} else {
				err = rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), h, digest, signature)
			}
			if err != nil {
				return err
			}
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
		if _, err := s.token.DecryptOAEP(s.ctx, id, hsm.RSA2048, h, ciphertext); !errors.Is(err, hsm.ErrAuthentication) {
			return wrong(err, "a changed ciphertext")
		}
		return nil
	}
}

func sign(kt hsm.KeyType, scheme hsm.Scheme) func(*suite) error {
	return func(s *suite) error {
		id, public, _, destroy, err := s.keyPair(kt, hsm.SignPair)
		defer destroy()
		if err != nil {
			return err
		}
		message := []byte("a message of its own")
		if scheme.Hash != 0 {
			message = bytes.Repeat([]byte{7}, scheme.Hash.Size())
		}
		signature, err := s.token.Sign(s.ctx, id, kt, scheme, message)
		if err != nil {
			return err
		}
		switch public := public.(type) {
		case *ecdsa.PublicKey:
			if !ecdsa.VerifyASN1(public, message, signature) {
				return errors.New("the host does not verify the signature")
			}
		case ed25519.PublicKey:
			if !ed25519.Verify(public, message, signature) {
				return errors.New("the host does not verify the signature")
			}
		}
		return nil
	}
}

func (s *suite) derive() error {
	id, public, _, destroy, err := s.keyPair(hsm.P256, hsm.DerivePair)
	defer destroy()
	if err != nil {
		return err
	}
	own, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return err
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	want, err := peer.ECDH(own)
	if err != nil {
		return err
	}
	got, err := s.token.Derive(s.ctx, id, hsm.P256, peer.PublicKey().Bytes())
	if err != nil || !bytes.Equal(got, want) {
		return wrong(err, "another secret than the host's")
	}
	return nil
}

func importSecret(p hsm.Purpose) func(*suite) error {
	return func(s *suite) error {
		wrapping, public, _, destroy, err := s.keyPair(hsm.RSA2048, hsm.UnwrapPair)
		defer destroy()
		if err != nil {
			return err
		}
		wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), bytes.Repeat([]byte{7}, 32), nil)
		if err != nil {
			return err
		}
		id, destroyImported := s.newID()
		defer destroyImported()
		_, err = s.token.Import(s.ctx, hsm.Import{Wrapping: wrapping, WrappingType: hsm.RSA2048, Algorithm: hsm.OAEPSHA1, Wrapped: wrapped,
			Secret: &hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: p}})
		return err
	}
}
