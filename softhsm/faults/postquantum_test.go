package faults_test

import (
	"bytes"
	"crypto"
	"crypto/mlkem"
	"crypto/sha3"
	"encoding/asn1"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/schemes"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/softhsm/faults"
)

// PKCS#11 v3.2, and v3.3's working draft.
const (
	ckmMLDSA           = 0x1d
	ckmMLDSAExternalMu = 0x403c
)

var (
	mldsaTypes  = []hsm.KeyType{hsm.MLDSA44, hsm.MLDSA65, hsm.MLDSA87}
	mldsaScheme = hsm.Scheme{Algorithm: hsm.MLDSA}
	muScheme    = hsm.Scheme{Algorithm: hsm.MLDSAMu}
)

// withPostQuantum is a token that has ML-DSA and ML-KEM.
func withPostQuantum(t *testing.T, change ...func(*hsm.Config)) (*hsm.Token, *faults.Module) {
	t.Helper()
	token, m := connect(t, change...)
	m.AddPostQuantum(t)
	return token, m
}

// checksOf are the self-tests of a family.
func checksOf(t *testing.T, token *hsm.Token, family string, want int) map[string]error {
	t.Helper()
	checks := map[string]error{}
	for _, c := range token.SelfTest(t.Context()) {
		if strings.Contains(c.Name, family) {
			checks[c.Name] = c.Err
		}
	}
	if len(checks) != want {
		t.Fatalf("%v", checks)
	}
	return checks
}

func mldsaChecks(t *testing.T, token *hsm.Token) map[string]error {
	t.Helper()
	return checksOf(t, token, "ML_DSA", 4)
}

// mldsaKey reads RFC 9881's SubjectPublicKeyInfo with another library than the token's and hsm's.
func mldsaKey(t *testing.T, kt hsm.KeyType, spki []byte) (sign.Scheme, sign.PublicKey) {
	t.Helper()
	var info struct {
		Algorithm struct{ Algorithm asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		t.Fatalf("%x: %v", spki, err)
	}
	scheme := schemes.ByName(kt.String())
	public, err := scheme.UnmarshalBinaryPublicKey(info.Key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[hsm.KeyType]int{hsm.MLDSA44: 17, hsm.MLDSA65: 18,
		hsm.MLDSA87: 19}[kt]; info.Algorithm.Algorithm[8] != want {
		t.Errorf("%s is %v", kt, info.Algorithm.Algorithm)
	}
	return scheme, public
}

func TestMLDSA(t *testing.T) {
	changes, tell := telling()
	token, m := withPostQuantum(t, tell)
	if err := <-changes; err != nil {
		t.Fatal(err)
	}
	for name, err := range mldsaChecks(t, token) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	keys, spkis := map[hsm.KeyType]hsm.ObjectID{}, map[hsm.KeyType][]byte{}
	for _, kt := range mldsaTypes {
		id := newID(t)
		spki, err := token.GenerateKeyPair(t.Context(),
			hsm.KeyPair{ID: id, Label: "verenc/test", Type: kt, Purpose: hsm.SignPair})
		if err != nil {
			t.Fatal(err)
		}
		keys[kt], spkis[kt] = id, spki
	}
	check := func(when string) {
		t.Helper()
		for kt, id := range keys {
			scheme, public := mldsaKey(t, kt, spkis[kt])
			for _, message := range []string{"", "message", strings.Repeat("m", 4096)} {
				signature, err := token.Sign(t.Context(), id, kt, mldsaScheme, []byte(message))
				if err != nil {
					t.Fatalf("%s: %s: %v", when, kt, err)
				}
				if !scheme.Verify(public, []byte(message), signature, nil) ||
					scheme.Verify(public, []byte(message+"x"), signature, nil) {
					t.Errorf("%s: %s: the signature of %d bytes is wrong", when, kt, len(message))
				}
			}
			a, err := token.Attributes(t.Context(), id)
			if want := (hsm.Attributes{Label: "verenc/test", KeyType: "CKK_ML_DSA",
				Mechanism: "CKM_ML_DSA_KEY_PAIR_GEN", Local: true, Sensitive: true,
				AlwaysSensitive: true, NeverExtractable: true}); err != nil || a != want {
				t.Errorf("%s: %s: %+v, %v", when, kt, a, err)
			}
		}
	}
	check("at first")
	lose(t, token, m, changes)
	m.Plug()
	if err := <-changes; err != nil {
		t.Fatal(err)
	}
	known(t, token)
	check("after the token's return")

	m.ResetCounts()
	if _, err := token.Sign(t.Context(), keys[hsm.MLDSA44], hsm.MLDSA44, mldsaScheme, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, want := m.Counts(), map[string]int{"C_SignInit": 1, "C_Sign": 1}; !maps.Equal(got, want) {
		t.Errorf("Sign: %v, not %v", got, want)
	}
}

// TestMLDSAMu: a signature by the representative is one of the message, and the other way round.
func TestMLDSAMu(t *testing.T) {
	token, m := withPostQuantum(t)
	for _, kt := range mldsaTypes {
		id := newID(t)
		spki, err := token.GenerateKeyPair(t.Context(), hsm.KeyPair{ID: id, Type: kt, Purpose: hsm.SignPair})
		if err != nil {
			t.Fatal(err)
		}
		scheme, public := mldsaKey(t, kt, spki)
		message := []byte(strings.Repeat("long", 100_000))
		mu := representative(t, public, message)
		signature, err := token.Sign(t.Context(), id, kt, muScheme, mu)
		if err != nil || !scheme.Verify(public, message, signature, nil) {
			t.Errorf("%s: the signature of a representative is none of the message, %v", kt, err)
		}
		whole, err := token.Sign(t.Context(), id, kt, mldsaScheme, message[:4096])
		if err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(signature)
		changed[0] ^= 1
		for name, test := range map[string]struct {
			mu, signature []byte
			want          bool
		}{
			"by the representative": {mu, signature, true},
			"by the message":        {representative(t, public, message[:4096]), whole, true},
			"of another message":    {mu, whole, false},
			"changed":               {mu, changed, false},
			"short":                 {mu, signature[1:], false},
		} {
			if got, err := token.VerifyMu(t.Context(), kt, spki, test.mu, test.signature); err != nil ||
				got != test.want {
				t.Errorf("%s, %s: %v, %v", kt, name, got, err)
			}
		}
		for name, mu := range map[string][]byte{"short": mu[1:], "long": append(mu, 0)} {
			if _, err := token.Sign(t.Context(), id, kt, muScheme, mu); err == nil {
				t.Errorf("%s: signs a %s representative", kt, name)
			}
			if _, err := token.VerifyMu(t.Context(), kt, spki, mu, signature); err == nil {
				t.Errorf("%s: verifies a %s representative", kt, name)
			}
		}
		if _, err := token.VerifyMu(t.Context(), hsm.P256, spki, mu, signature); err == nil {
			t.Errorf("%s: verifies as another type", kt)
		}
		if _, err := token.VerifyMu(t.Context(), kt, []byte("x"), mu, signature); err == nil {
			t.Errorf("%s: verifies with no key", kt)
		}
		m.ResetCounts()
		if _, err := token.VerifyMu(t.Context(), kt, spki, mu, signature); err != nil {
			t.Fatal(err)
		}
		if got, want := m.Counts(), map[string]int{"C_CreateObject": 1, "C_VerifyInit": 1, "C_Verify": 1,
			"C_DestroyObject": 1}; !maps.Equal(got, want) {
			t.Errorf("VerifyMu: %v, not %v", got, want)
		}
		if n := m.Usage().Objects; n != 0 {
			t.Errorf("%d objects are left", n)
		}
	}
}

// representative is μ without a context: FIPS 204 algorithm 7 step 6, of algorithm 2's M'.
func representative(t *testing.T, public sign.PublicKey, message []byte) []byte {
	t.Helper()
	encoded, err := public.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	tr := sha3.SumSHAKE256(encoded, 64)
	return sha3.SumSHAKE256(slices.Concat(tr, []byte{0, 0}, message), 64)
}

// TestMLDSARefused: hsm refuses everything that is not for ML-DSA keys, and the token everything
// that would reveal the key.
func TestMLDSARefused(t *testing.T) {
	token, _ := withPostQuantum(t)
	p, id, wrapping := newPair(t, token), newID(t), newID(t)
	if _, err := token.GenerateKeyPair(t.Context(),
		hsm.KeyPair{ID: id, Type: hsm.MLDSA65, Purpose: hsm.SignPair}); err != nil {
		t.Fatal(err)
	}
	for name, scheme := range map[string]hsm.Scheme{"Ed25519": {Algorithm: hsm.PureEdDSA},
		"a hash": {Algorithm: hsm.MLDSA, Hash: crypto.SHA256}} {
		if _, err := token.Sign(t.Context(), id, hsm.MLDSA65, scheme, make([]byte, 32)); err == nil {
			t.Errorf("signs with %s", name)
		}
	}
	if _, err := token.Sign(t.Context(), id, hsm.Ed25519, hsm.Scheme{Algorithm: hsm.PureEdDSA},
		[]byte("x")); err == nil {
		t.Error("the token signs with Ed25519")
	}
	for _, purpose := range []hsm.PairPurpose{hsm.DecryptPair, hsm.DerivePair, hsm.UnwrapPair} {
		if _, err := token.GenerateKeyPair(t.Context(),
			hsm.KeyPair{ID: newID(t), Type: hsm.MLDSA44, Purpose: purpose}); err == nil {
			t.Errorf("purpose %d: generated", purpose)
		}
	}
	if _, _, err := token.GenerateWrappedPair(t.Context(), p, hsm.MLDSA44, nil); !errors.Is(err, hsm.ErrUnsupported) {
		t.Errorf("wrapped: %v", err)
	}
	if _, err := token.GenerateKeyPair(t.Context(),
		hsm.KeyPair{ID: wrapping, Type: hsm.RSA2048, Purpose: hsm.UnwrapPair}); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Import(t.Context(), hsm.Import{Wrapping: wrapping, WrappingType: hsm.RSA2048,
		Algorithm: hsm.RSAAESKeyWrapSHA256, Wrapped: make([]byte, 300),
		Pair: &hsm.KeyPair{ID: newID(t), Type: hsm.MLDSA44, Purpose: hsm.SignPair}}); err == nil {
		t.Error("imported")
	}
}

// TestMLDSASelfTestFails: on tokens without ML-DSA, and on those that only say that they have it.
func TestMLDSASelfTestFails(t *testing.T) {
	without, _ := connect(t)
	listed, m := withPostQuantum(t)
	m.RefuseMechanisms(ckmMLDSA, ckmMLDSAExternalMu)
	for name, token := range map[string]*hsm.Token{"no ML-DSA": without, "no signatures": listed} {
		for check, err := range mldsaChecks(t, token) {
			if !errors.Is(err, hsm.ErrUnsupported) {
				t.Errorf("%s: %s: %v", name, check, err)
			}
		}
	}
	m.RefuseMechanisms(ckmMLDSAExternalMu)
	for check, err := range mldsaChecks(t, listed) {
		if errors.Is(err, hsm.ErrUnsupported) != (check == selftest.CheckMLDSAMu) ||
			err != nil && check != selftest.CheckMLDSAMu {
			t.Errorf("no representatives: %s: %v", check, err)
		}
	}
	m.RefuseMechanisms()
	m.Fail("C_Sign", pkcs11.CKR_FUNCTION_FAILED)
	for check, err := range mldsaChecks(t, listed) {
		if err == nil || errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("%s: %v", check, err)
		}
	}
}

// TestMLKEM has another library than the token's and hsm's encapsulate, where there is one.
func TestMLKEM(t *testing.T) {
	token, m := withPostQuantum(t)
	for check, err := range checksOf(t, token, "ML_KEM", 3) {
		if err != nil {
			t.Errorf("%s: %v", check, err)
		}
	}
	encapsulate := map[hsm.KeyType]func(public []byte) (secret, ciphertext []byte){
		hsm.MLKEM512: func(public []byte) (secret, ciphertext []byte) {
			key, err := mlkem512.Scheme().UnmarshalBinaryPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			if ciphertext, secret, err = mlkem512.Scheme().Encapsulate(key); err != nil {
				t.Fatal(err)
			}
			return secret, ciphertext
		},
		hsm.MLKEM768: func(public []byte) (secret, ciphertext []byte) {
			key, err := mlkem.NewEncapsulationKey768(public)
			if err != nil {
				t.Fatal(err)
			}
			return key.Encapsulate()
		},
		hsm.MLKEM1024: func(public []byte) (secret, ciphertext []byte) {
			key, err := mlkem.NewEncapsulationKey1024(public)
			if err != nil {
				t.Fatal(err)
			}
			return key.Encapsulate()
		},
	}
	for kt, peer := range encapsulate {
		id := newID(t)
		spki, err := token.GenerateKeyPair(t.Context(),
			hsm.KeyPair{ID: id, Label: "verenc/test", Type: kt, Purpose: hsm.DecapsulatePair})
		if err != nil {
			t.Fatal(err)
		}
		var info struct {
			Algorithm struct{ Algorithm asn1.ObjectIdentifier }
			Key       asn1.BitString
		}
		if _, err := asn1.Unmarshal(spki, &info); err != nil {
			t.Fatal(err)
		}
		secret, ciphertext := peer(info.Key.Bytes)
		m.ResetCounts()
		got, err := token.Decapsulate(t.Context(), id, kt, ciphertext)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%s: another secret, %v", kt, err)
		}
		if got, want := m.Counts(), map[string]int{"C_DecapsulateKey": 1, "C_GetAttributeValue": 1,
			"C_DestroyObject": 1}; !maps.Equal(got, want) {
			t.Errorf("%s: %v, not %v", kt, got, want)
		}
		changed := bytes.Clone(ciphertext)
		changed[len(changed)-1] ^= 1
		if got, err := token.Decapsulate(t.Context(), id, kt, changed); err != nil || len(got) != 32 ||
			bytes.Equal(got, secret) {
			t.Errorf("%s: a changed ciphertext gives %d bytes, %v", kt, len(got), err)
		}
		if _, err := token.Decapsulate(t.Context(), id, kt, ciphertext[1:]); !errors.Is(err, hsm.ErrAuthentication) {
			t.Errorf("%s: a short ciphertext: %v", kt, err)
		}
		if _, err := token.Decapsulate(t.Context(), id, hsm.P256, ciphertext); err == nil {
			t.Errorf("%s: decapsulates as another type", kt)
		}
		if _, err := token.Sign(t.Context(), id, hsm.Ed25519, hsm.Scheme{Algorithm: hsm.PureEdDSA},
			[]byte("x")); err == nil {
			t.Errorf("%s: signs", kt)
		}
		if _, err := token.GenerateKeyPair(t.Context(),
			hsm.KeyPair{ID: newID(t), Type: kt, Purpose: hsm.SignPair}); err == nil {
			t.Errorf("%s: made to sign", kt)
		}
		a, err := token.Attributes(t.Context(), id)
		if want := (hsm.Attributes{Label: "verenc/test", KeyType: "CKK_ML_KEM", Mechanism: "CKM_ML_KEM_KEY_PAIR_GEN",
			Local: true, Sensitive: true,
			AlwaysSensitive: true, NeverExtractable: true}); err != nil || a != want {
			t.Errorf("%s: %+v, %v", kt, a, err)
		}
	}
	if n := m.Usage().Objects; n != 0 {
		t.Errorf("%d objects are left", n)
	}
	const ckmMLKEM = 0x17
	m.RefuseMechanisms(ckmMLKEM)
	for check, err := range checksOf(t, token, "ML_KEM", 3) {
		if !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("only key pairs: %s: %v", check, err)
		}
	}
}
