package hsm

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// wrapKWP is AES-KWP of RFC 5649 section 4.1 for more than 8 bytes.
func wrapKWP(t testing.TB, kek, plaintext []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	padded := append(bytes.Clone(plaintext), make([]byte, (8-len(plaintext)%8)%8)...)
	n := len(padded) / 8
	a := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(plaintext)))
	for j := range 6 {
		for i := range n {
			b := append(bytes.Clone(a), padded[8*i:8*i+8]...)
			block.Encrypt(b, b)
			binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(b)^uint64(n*j+i+1))
			copy(padded[8*i:], b[8:])
		}
	}
	return append(a, padded...)
}

// wrapMaterial is what somebody does who brings a key.
func wrapMaterial(t testing.TB, public *rsa.PublicKey, a ImportAlgorithm, material []byte) []byte {
	t.Helper()
	if !a.Hybrid() {
		return encryptOAEP(t, public, a.Hash(), material, nil)
	}
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	return append(encryptOAEP(t, public, a.Hash(), kek, nil), wrapKWP(t, kek, material)...)
}

// hostPair makes a key pair outside the token.
func hostPair(t testing.TB, kt KeyType) (pkcs8, spki []byte) {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kt {
	case P256, P384, P521:
		key, err = ecdsa.GenerateKey(
			map[KeyType]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()}[kt],
			rand.Reader,
		)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case Secp256k1:
		private, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		spki, err := kt.Info().MarshalPoint(private.PubKey().SerializeUncompressed())
		if err != nil {
			t.Fatal(err)
		}
		return marshalEC(t, Secp256k1, private.Serialize()), spki
	default: // a throw-away token is quicker than crypto/rsa under the race detector
		token := connect(t)
		keys := newPair(t, token)
		spki, box, err := token.GenerateWrappedPair(t.Context(), keys, kt, nil)
		if err == nil {
			pkcs8, err = token.DecryptWrappedPair(t.Context(), keys, box, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		return pkcs8, spki
	}
	if err != nil {
		t.Fatal(err)
	}
	if pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	if spki, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	return pkcs8, spki
}

// marshalEC is a PKCS#8 without a public key.
func marshalEC(t testing.TB, kt KeyType, d []byte) []byte {
	t.Helper()
	inner, err := asn1.Marshal(struct {
		Version int
		D       []byte
	}{1, d})
	if err != nil {
		t.Fatal(err)
	}
	k := kt.Info()
	pkcs8, err := asn1.Marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Private   []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: k.Algorithm, Parameters: asn1.RawValue{FullBytes: k.ECParams()}}, inner})
	if err != nil {
		t.Fatal(err)
	}
	return pkcs8
}

var importAlgorithms = []ImportAlgorithm{OAEPSHA1, OAEPSHA256, RSAAESKeyWrapSHA1, RSAAESKeyWrapSHA256}

// imported are the attributes of what did not come into being in the token.
var imported = map[uint]bool{
	pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true,
	pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false,
	pkcs11.CKA_MODIFIABLE: false, pkcs11.CKA_LOCAL: false,
	pkcs11.CKA_NEVER_EXTRACTABLE: false,
}

func TestImportSecrets(t *testing.T) {
	token := connect(t)
	wrapping, spki := newKeyPair(t, token, RSA2048, UnwrapPair)
	public := rsaKey(t, spki)
	for _, purpose := range []Purpose{Seal, MAC224, MAC256, MAC384, MAC512} {
		material := make([]byte, purpose.Size())
		_, _ = rand.Read(material)
		material[len(material)-1] = 0 // an end that padding could take for its own
		var values [][]byte
		for _, a := range []ImportAlgorithm{OAEPSHA1, OAEPSHA256} {
			in := Import{
				Wrapping: wrapping, WrappingType: RSA2048, Algorithm: a,
				Wrapped: wrapMaterial(t, public, a, material),
				Secret:  &SecretKey{ID: newID(t), Label: "verenc/test/1/imported", Purpose: purpose},
			}
			got, err := token.Import(t.Context(), in)
			if err != nil {
				t.Errorf("%d, %d: %v", purpose, a, err)
				continue
			}
			values = append(values, got.CheckValue)
			checkAttributes(t, token, in.Secret.ID, imported)
			checkMaterial(t, token, in.Secret.ID, purpose, material)
			for _, other := range [][]byte{material[:len(material)-1], append(bytes.Clone(material), 0), {1}, {}} {
				in.Secret.ID = newID(t)
				in.Wrapped = wrapMaterial(t, public, a, other)
				if _, err := token.Import(t.Context(), in); !errors.Is(err, ErrMaterial) {
					t.Errorf("%d, %d: %d bytes: %v", purpose, a, len(other), err)
				}
			}
		}
		if len(values) == 2 && (!bytes.Equal(values[0], values[1]) || len(values[0]) != 32) {
			t.Errorf("%d: check values %x", purpose, values)
		}
	}
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) != 11 {
		t.Errorf("%d objects, %v", len(objects), err)
	}
}

// openGCM opens a box of Encrypt outside.
func openGCM(t testing.TB, key, box, aad []byte) ([]byte, error) {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm.Open(nil, box[:session.IVSize], box[session.IVSize:], aad)
}

// checkMaterial compares a secret in the token with its value outside.
func checkMaterial(t testing.TB, token *Token, id ObjectID, p Purpose, material []byte) {
	t.Helper()
	if p == Seal {
		box, err := token.Encrypt(t.Context(), id, []byte("plaintext"), []byte("aad"))
		if err != nil {
			t.Error(err)
			return
		}
		if got, err := openGCM(t, material, box, []byte("aad")); err != nil || string(got) != "plaintext" {
			t.Errorf("%q, %v", got, err)
		}
		return
	}
	got, err := token.MAC(t.Context(), id, p.Hash(), []byte("message"))
	h := hmac.New(p.Hash().New, material)
	h.Write([]byte("message"))
	if want := h.Sum(nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("MAC %x, %v instead of %x", got, err, want)
	}
}

func TestImportPairs(t *testing.T) {
	token := connect(t)
	wrapping, spki := newKeyPair(t, token, RSA3072, UnwrapPair)
	public := rsaKey(t, spki)
	for _, kt := range allTypes {
		pkcs8, spki := hostPair(t, kt)
		k := kt.Info()
		purposes := []PairPurpose{SignPair}
		if k.RSA() {
			purposes = append(purposes, DecryptPair)
		} else if k.NIST() != nil {
			purposes = append(purposes, DerivePair)
		}
		for _, a := range importAlgorithms {
			for _, purpose := range purposes {
				in := Import{Wrapping: wrapping, WrappingType: RSA3072, Algorithm: a,
					Pair: &KeyPair{ID: newID(t), Label: "verenc/test/1/imported", Type: kt, Purpose: purpose}}
				if k.RSA() && !a.Hybrid() {
					in.Wrapped = make([]byte, 384)
					if _, err := token.Import(t.Context(), in); err == nil {
						t.Errorf("%v under OAEP alone was taken", kt)
					}
					continue
				}
				in.Wrapped = wrapMaterial(t, public, a, pkcs8)
				got, err := token.Import(t.Context(), in)
				if err != nil {
					t.Errorf("%v for %d with %d: %v", kt, purpose, a, err)
					continue
				}
				if !bytes.Equal(got.Public, spki) || len(got.CheckValue) != 32 {
					t.Errorf("%v: public key %x, check value %x", kt, got.Public, got.CheckValue)
				}
				checkAttributes(t, token, in.Pair.ID, imported)
				checkUse(t, token, *in.Pair, pkcs8, spki)
			}
		}
	}
}

// checkUse has an imported private key do its work.
func checkUse(t testing.TB, token *Token, k KeyPair, pkcs8, spki []byte) {
	t.Helper()
	switch {
	case k.Purpose == DecryptPair:
		got, err := token.DecryptOAEP(
			t.Context(), k.ID, k.Type, crypto.SHA256,
			encryptOAEP(t, rsaKey(t, spki), crypto.SHA256, []byte("x"), nil),
		)
		if err != nil || string(got) != "x" {
			t.Errorf("%v: %q, %v", k.Type, got, err)
		}
	case k.Purpose == DerivePair:
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			t.Fatal(err)
		}
		private, err := key.(*ecdsa.PrivateKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		peer, err := private.Curve().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := private.ECDH(peer.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		got, err := token.Derive(t.Context(), k.ID, k.Type, peer.PublicKey().Bytes())
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %x, %v instead of %x", k.Type, got, err, want)
		}
	default:
		scheme := map[uint]Scheme{pkcs11.CKK_RSA: {Algorithm: PSS, Hash: crypto.SHA384},
			pkcs11.CKK_EC:          {Algorithm: ECDSA, Hash: crypto.SHA384},
			keyobject.CKKECEdwards: {Algorithm: PureEdDSA}}[k.Type.Info().Kind]
		message := make([]byte, 48)
		signature, err := token.Sign(t.Context(), k.ID, k.Type, scheme, message)
		if err != nil {
			t.Errorf("%v: %v", k.Type, err)
		} else if err := verify(t, spki, k.Type, scheme, message, signature); err != nil {
			t.Errorf("%v: %v", k.Type, err)
		}
	}
}
