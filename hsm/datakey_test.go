package hsm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/profile"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/hsm/session"
	"github.com/verenc/kms/softhsm/faults"
)

func TestWrappedSecrets(t *testing.T) {
	token := connect(t)
	p, other := newPair(t, token), newPair(t, token)
	for _, size := range []int{1, 7, 8, 9, 16, 24, 32, 33, 1023, 1024} {
		box, err := token.GenerateWrapped(t.Context(), p, size, []byte("aad"))
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		first, err := token.DecryptWrapped(t.Context(), p, box, size, []byte("aad"))
		if err != nil || len(first) != size {
			t.Fatalf("%d: %d bytes, %v", size, len(first), err)
		}
		again, err := token.DecryptWrapped(t.Context(), p, box, size, []byte("aad"))
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("%d: the secret differs the second time, %v", size, err)
		}
		for name, err := range map[string]error{
			"other aad":    second(token.DecryptWrapped(t.Context(), p, box, size, []byte("other"))),
			"other length": second(token.DecryptWrapped(t.Context(), p, box, size+8, []byte("aad"))),
			"other key":    second(token.DecryptWrapped(t.Context(), other, box, size, []byte("aad"))),
		} {
			if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%d: %s: %v", size, name, err)
			}
		}
	}
	a, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(
		first(token.DecryptWrapped(t.Context(), p, a, 32, nil)),
		first(token.DecryptWrapped(t.Context(), p, b, 32, nil)),
	) {
		t.Error("two secrets are equal")
	}
	objects, err := token.Objects(t.Context(), "")
	if err != nil || len(objects) != 4 {
		t.Errorf("%d objects are left instead of the 4 keys, %v", len(objects), err)
	}
}

func first[A, B any](a A, _ B) A { return a }

func second[A, B any](_ A, b B) B { return b }

func TestWrappedPairs(t *testing.T) {
	token := connect(t)
	keys := newPair(t, token)
	aad := []byte("aad")
	for _, kt := range allTypes {
		spki, box, err := token.GenerateWrappedPair(t.Context(), keys, kt, aad)
		if kt == Ed25519 {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%v: %v", kt, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", kt, err)
			continue
		}
		pkcs8, err := token.DecryptWrappedPair(t.Context(), keys, box, aad)
		if err != nil {
			t.Errorf("%v: %v", kt, err)
			continue
		}
		if got := publicOf(t, kt, pkcs8); !bytes.Equal(got, spki) {
			t.Errorf("%v: the private key is of %x, not %x", kt, got, spki)
		}
		changed := bytes.Clone(box)
		changed[len(changed)/2] ^= 1
		for name, err := range map[string]error{
			"changed":     second(token.DecryptWrappedPair(t.Context(), keys, changed, aad)),
			"other aad":   second(token.DecryptWrappedPair(t.Context(), keys, box, nil)),
			"short":       second(token.DecryptWrappedPair(t.Context(), keys, box[:20], aad)),
			"very long":   second(token.DecryptWrappedPair(t.Context(), keys, make([]byte, 5000), aad)),
			"a seal only": second(token.DecryptWrappedPair(t.Context(), newPair(t, token), box, aad)),
		} {
			if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%v, %s: %v", kt, name, err)
			}
		}
	}
	if _, _, err := token.GenerateWrappedPair(t.Context(), keys, 0, nil); err == nil {
		t.Error("a key type that is none was taken")
	}
}

// publicOf reads a PKCS#8 private key as Go and decred do, and gives its SubjectPublicKeyInfo.
func publicOf(t testing.TB, kt KeyType, pkcs8 []byte) []byte {
	t.Helper()
	if kt != Secp256k1 {
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			t.Fatalf("%v: %v", kt, err)
		}
		signer := key.(crypto.Signer)
		spki, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		return spki
	}
	var outer struct {
		Version   int
		Algorithm struct{ EC, Curve asn1.ObjectIdentifier }
		Private   []byte
	}
	var inner struct {
		Version int
		D       []byte
	}
	if rest, err := asn1.Unmarshal(pkcs8, &outer); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if rest, err := asn1.Unmarshal(outer.Private, &inner); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	spki, err := kt.Info().MarshalPoint(secp256k1.PrivKeyFromBytes(inner.D).PubKey().SerializeUncompressed())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

// TestSizesOfDataKeys: a token that refuses odd sizes keeps the promise for the others.
func TestSizesOfDataKeys(t *testing.T) {
	token, _ := misbehaving(t, func(m *faults.Module) { m.RefuseWrapSizes(1, 31, 64, 1024) })
	wantFailing(t, token, selftest.CheckDataKey64)
	for size, want := range map[int]bool{0: false, 1: false, 16: true, 24: true, 31: false, 32: true, 64: false,
		1024: false, 1025: false} {
		for range 2 { // asked, and remembered
			if can, err := token.CanGenerateWrapped(t.Context(), size); err != nil || can != want {
				t.Errorf("%d bytes: %v, %v", size, can, err)
			}
		}
	}
}

// TestKWPIsProved has a token with AES-KWP under its number of v3.1, and something else that
// round-trips under v2.40's.
func TestKWPIsProved(t *testing.T) {
	swapped := func(m *faults.Module) {
		m.MapMechanism(profile.CKMAESKeyWrapKWP, pkcs11.CKM_AES_KEY_WRAP_PAD)
		m.MapMechanism(profile.CKMAESKeyWrapPad, faults.PKCS7KeyWrap)
	}
	token, m := misbehaving(t, swapped)
	if mechanism, err := token.KWPMechanism(t.Context()); err != nil || mechanism != profile.CKMAESKeyWrapKWP {
		t.Errorf("%#x, %v", mechanism, err)
	}
	wantFailing(t, token)

	// What an earlier version has wrapped with the other mechanism opens still.
	p := newPair(t, token)
	var spki []byte
	box, err := connection.Run(t.Context(), token.link, func(s *connection.Session) ([]byte, error) {
		sealing, wrapping, err := s.LookupPair(p)
		if err != nil {
			return nil, err
		}
		var h pkcs11.ObjectHandle
		h, spki, err = s.GeneratePair(P256.Info(), append(keyobject.PairTemplate(P256.Info(), SignPair, false),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)))
		if err != nil {
			return nil, err
		}
		wrapped, err := s.WrapKey(
			profile.CKMAESKeyWrapPad, nil, wrapping, h, session.KWPSize(keyobject.PrivateKeyBound),
		)
		if err != nil {
			return nil, err
		}
		return s.Seal(sealing, wrapped, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, recorded := range []uint{0, profile.CKMAESKeyWrapPad} {
		p.Mechanism = recorded
		pkcs8, err := token.DecryptWrappedPair(t.Context(), p, box, nil)
		if err != nil {
			t.Fatalf("recorded %#x: %v", recorded, err)
		}
		_, point, err := P256.Info().ParsePKCS8(pkcs8)
		if err != nil {
			t.Fatal(err)
		}
		if public, err := P256.Info().MarshalPoint(point); err != nil || !bytes.Equal(public, spki) {
			t.Errorf("recorded %#x: another key, %v", recorded, err)
		}
	}

	// A token that has only the other one has no AES-KWP.
	m.UnmapMechanisms()
	other, _ := misbehaving(t, func(m *faults.Module) { m.MapMechanism(profile.CKMAESKeyWrapPad, faults.PKCS7KeyWrap) })
	if _, err := other.KWPMechanism(t.Context()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a mechanism that is not AES-KWP: %v", err)
	}
	if can, err := other.CanGenerateWrapped(t.Context(), 32); err != nil || can {
		t.Errorf("%v, %v", can, err)
	}
}

// TestRFC5649 has the token unwrap the examples of RFC 5649 section 6 with the mechanism that it
// has proved.
func TestRFC5649(t *testing.T) {
	token := connect(t)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id := install(t, token, Wrap.Template(), unhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	for secret, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := connection.Run(t.Context(), token.link, func(s *connection.Session) ([]byte, error) {
			h, err := s.Lookup(id)
			if err != nil {
				return nil, err
			}
			mechanism, err := s.KWP()
			if err != nil {
				return nil, err
			}
			return s.UnwrapSecret([]uint{mechanism}, h, unhex(wrapped), len(secret)/2)
		})
		if err != nil || hex.EncodeToString(got) != secret {
			t.Errorf("%x, %v, want %s", got, err, secret)
		}
	}
}
