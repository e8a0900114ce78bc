package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/softhsm/faults"
)

// makeNamed makes a key pair with a label, and returns its public half.
func makeNamed(t testing.TB, token *Token, label string, kt KeyType) (ObjectID, crypto.PublicKey) {
	t.Helper()
	id := newID(t)
	spki, err := token.GenerateKeyPair(t.Context(), KeyPair{ID: id, Label: label, Type: kt, Purpose: SignPair})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return id, public
}

// TestSigner: a signer makes every signature of TLS 1.2 and 1.3 of its type of key.
func TestSigner(t *testing.T) {
	token := connect(t)
	group, err := NewGroup(token)
	if err != nil {
		t.Fatal(err)
	}
	signers := NewSigners(group, 2, time.Minute)
	signed := 0
	pss := func(hash crypto.Hash) crypto.SignerOpts {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	for kt, schemes := range map[KeyType][]crypto.SignerOpts{
		P256: {crypto.SHA256}, P384: {crypto.SHA384}, P521: {crypto.SHA512},
		RSA2048: {crypto.SHA256, crypto.SHA384, crypto.SHA512, pss(crypto.SHA256), pss(crypto.SHA384),
			pss(crypto.SHA512)},
	} {
		id, public := makeNamed(t, token, "tls "+kt.String(), kt)
		for _, name := range []NamedKey{{Label: "tls " + kt.String()}, {ID: string(id[:])},
			{Label: "tls " + kt.String(), ID: string(id[:])}} {
			signer, err := signers.Signer(name, public)
			if err != nil {
				t.Fatalf("%s: %v", kt, err)
			}
			for _, scheme := range schemes {
				digest := make([]byte, scheme.HashFunc().Size())
				if _, err := signer.Sign(rand.Reader, digest, scheme); err != nil {
					t.Errorf("%s, %v: %v", kt, scheme, err)
				}
				signed++
			}
			if !signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(public) {
				t.Errorf("%s: another public key", kt)
			}
		}
	}
	if s := signers.Stats(); s.Signed < uint64(signed) || s.Failed != 0 || s.Crowded != 0 {
		t.Errorf("%+v after %d", s, signed)
	}
}

// TestSignerRefuses keys that are not there, not unique, of another token or of another public half, and
// schemes that no token has.
func TestSignerRefuses(t *testing.T) {
	token := connect(t)
	signers := NewSigners(token, 2, time.Minute)
	id, public := makeNamed(t, token, "twice", P256)
	makeNamed(t, token, "twice", P256)
	makeNamed(t, token, "once", P256)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   NamedKey
		public crypto.PublicKey
		want   string
	}{
		{NamedKey{Label: "nowhere"}, public, "no private key has this label and id"},
		{NamedKey{Label: "nowhere"}, public, "less than 1s ago"},
		{NamedKey{Label: "twice"}, public, "2 private keys have this name"},
		{NamedKey{Label: "once"}, public, "it has another private key"},
		{NamedKey{Label: "twice", ID: string(id[:]), Token: "another"}, public, `not "another"`},
		{NamedKey{Label: "twice", ID: string(id[:]), Serial: "77"}, public, `not "77"`},
		{NamedKey{Label: "twice", ID: string(id[:]), Model: "m"}, public, `not "m"`},
		{NamedKey{Label: "twice", ID: string(id[:])}, p224.Public(), "use ECDSA on P-256"},
		{NamedKey{Label: "twice", ID: string(id[:])}, nil, "use ECDSA on P-256"},
	} {
		if _, err := signers.Signer(test.name, test.public); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, not %q", test.name, err, test.want)
		}
	}
	signer, err := signers.Signer(NamedKey{Label: "twice", ID: string(id[:])}, public)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for _, opts := range []crypto.SignerOpts{crypto.SHA1, crypto.Hash(0), crypto.SHA384} {
		if _, err := signer.Sign(nil, digest[:], opts); err == nil {
			t.Errorf("%v is signed", opts)
		}
	}
	_, rsaPublic := makeNamed(t, token, "rsa", RSA2048)
	if signer, err = signers.Signer(NamedKey{Label: "rsa"}, rsaPublic); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, digest[:], &rsa.PSSOptions{SaltLength: 3, Hash: crypto.SHA256}); err == nil {
		t.Error("a salt of 3 bytes")
	}
}

// TestSignerHeals: while the token is away a signer fails, and after that it signs; also with a key that was
// destroyed and made anew meanwhile.
func TestSignerHeals(t *testing.T) {
	changes := make(chan error, 100)
	token, m := misbehaving(t, func(*faults.Module) {}, func(c *Config) {
		c.OnChange = func(err error) { changes <- err }
	})
	<-changes
	id, public := makeNamed(t, token, "tls", P256)
	signers := NewSigners(token, 2, time.Minute)
	signer, err := signers.Signer(NamedKey{Label: "tls"}, public)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	m.Unplug()
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if err := <-changes; err == nil {
		t.Fatal("connected before it was lost")
	}
	m.Plug()
	if err := <-changes; err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	if err := token.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := signer.Sign(nil, digest[:], crypto.SHA256); !errors.Is(err, ErrNoObject) {
		t.Error(err)
	}
	_, public = makeNamed(t, token, "tls", P256)
	_, err = signers.Signer(NamedKey{Label: "tls"}, public)
	for errors.Is(err, ErrNoObject) { // it is looked for once a second
		_, err = signers.Signer(NamedKey{Label: "tls"}, public)
	}
	if err != nil {
		t.Error(err)
	}
	if s := signers.Stats(); s.Failed == 0 {
		t.Errorf("%+v", s)
	}
}

// TestSignersLeaveRoom: signatures that wait for the token take no more than their places, so that other calls
// have sessions.
func TestSignersLeaveRoom(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {}, func(c *Config) { c.Sessions = 3 })
	pair := newPair(t, token)
	_, public := makeNamed(t, token, "tls", P256)
	signers := NewSigners(token, 1, time.Minute)
	signer, err := signers.Signer(NamedKey{Label: "tls"}, public)
	if err != nil {
		t.Fatal(err)
	}
	m.Hang("C_Sign")
	digest := sha256.Sum256([]byte("x"))
	var flood sync.WaitGroup
	for range 20 {
		flood.Go(func() {
			if _, err := signer.Sign(nil, digest[:], crypto.SHA256); err != nil {
				t.Error(err)
			}
		})
	}
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		box, err := token.Encrypt(t.Context(), pair.Seal, []byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := token.Decrypt(t.Context(), pair.Seal, box, nil); err != nil || !bytes.Equal(text, []byte("x")) {
			t.Fatal(text, err)
		}
	}
	if busy := token.Stats().Busy; busy != 1 {
		t.Errorf("%d sessions are busy", busy)
	}
	m.Release()
	flood.Wait()

	crowded := NewSigners(token, 1, time.Nanosecond)
	crowded.places <- struct{}{}
	_, err = crowded.Signer(NamedKey{Label: "tls"}, public)
	if n := crowded.Stats().Crowded; !errors.Is(err, ErrTimeout) || n != 1 {
		t.Error(n, err)
	}
}
