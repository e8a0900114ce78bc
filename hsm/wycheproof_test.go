package hsm

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/profile"
)

// hexBytes is how Wycheproof writes bytes.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vector has the fields of all the kinds of vectors used here.
type vector struct {
	ID     int    `json:"tcId"`
	Result string // valid, invalid or acceptable
	Flags  []string

	Key, IV, AAD, Msg, CT, Tag hexBytes
	Label                      hexBytes
	Public, Private, Shared    hexBytes
}

func (v vector) String() string { return fmt.Sprintf("vector %d, %s, %v", v.ID, v.Result, v.Flags) }

type group struct {
	KeySize, IVSize, TagSize int // bits
	PrivateKeyPKCS8          hexBytes
	Tests                    []vector
}

// vectors reads a file of Wycheproof's. use must be called for least vectors at least.
func vectors(t *testing.T, file string, least int, use func(group, vector) bool) {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ TestGroups []group }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	used := 0
	for _, g := range all.TestGroups {
		for _, v := range g.Tests {
			if use(g, v) {
				used++
			}
		}
	}
	if used < least {
		t.Errorf("%s: %d vectors apply, not %d", file, used, least)
	}
}

// install makes a known key a session object that is found by its CKA_ID.
func install(
	t testing.TB, token *Token, template []*pkcs11.Attribute, value []byte, more ...*pkcs11.Attribute,
) ObjectID {
	t.Helper()
	id := newID(t)
	template = append(
		template, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
	)
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Create(append(template, more...))
		if err == nil {
			err = s.Remember(id, h)
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// given is the randomness of a vector.
type given struct{ iv []byte }

func (g *given) Read(p []byte) (int, error) { return copy(p, g.iv), nil }

func TestWycheproofGCM(t *testing.T) {
	iv := &given{}
	token := connect(t, func(c *Config) { c.Rand = iv })
	vectors(t, "aes_gcm_test.json", 60, func(g group, v vector) bool {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			return false
		}
		key := install(t, token, Seal.Template(), v.Key)
		box := append(append(bytes.Clone(v.IV), v.CT...), v.Tag...)
		got, err := token.Decrypt(t.Context(), key, box, v.AAD)
		if v.Result != "valid" {
			if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%v: %x, %v", v, got, err)
			}
			return true
		}
		if err != nil || !bytes.Equal(got, v.Msg) {
			t.Errorf("%v: %x, %v", v, got, err)
		}
		iv.iv = v.IV
		if got, err := token.Encrypt(t.Context(), key, v.Msg, v.AAD); err != nil || !bytes.Equal(got, box) {
			t.Errorf("%v: box %x, %v", v, got, err)
		}
		return true
	})
}

func TestWycheproofHMAC(t *testing.T) {
	token := connect(t)
	for purpose, hash := range macPurposes {
		vectors(t, fmt.Sprintf("hmac_sha%d_test.json", 8*hash.Size()), 25, func(g group, v vector) bool {
			if g.KeySize != 8*purpose.Size() || g.TagSize != 8*hash.Size() {
				return false
			}
			got, err := token.MAC(t.Context(), install(t, token, purpose.Template(), v.Key), hash, v.Msg)
			if err != nil || bytes.Equal(got, v.Tag) != (v.Result == "valid") {
				t.Errorf("%v: %x, %v", v, got, err)
			}
			return true
		})
	}
}

func TestWycheproofECDH(t *testing.T) {
	token := connect(t)
	for kt, file := range map[KeyType]string{P256: "ecdh_secp256r1_ecpoint_test.json",
		P384: "ecdh_secp384r1_ecpoint_test.json", P521: "ecdh_secp521r1_ecpoint_test.json"} {
		k := kt.Info()
		vectors(t, file, 200, func(_ group, v vector) bool {
			private := new(big.Int).SetBytes(v.Private).FillBytes(make([]byte, k.Size))
			key := install(
				t,
				token,
				keyobject.PairTemplate(k, DerivePair, false),
				private,
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
				pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, k.ECParams()),
			)
			got, err := token.Derive(t.Context(), key, kt, v.Public)
			if v.Result == "invalid" || len(v.Public) != 1+2*k.Size { // no compressed points here
				if err == nil {
					t.Errorf("%v %v: %x", kt, v, got)
				}
			} else if err != nil || !bytes.Equal(got, v.Shared) {
				t.Errorf("%v %v: %x, %v", kt, v, got, err)
			}
			return true
		})
	}
}

func TestWycheproofOAEP(t *testing.T) {
	token := connect(t)
	wrapping, spki := newKeyPair(t, token, RSA2048, UnwrapPair)
	for _, test := range []struct {
		file string
		kt   KeyType
		hash crypto.Hash
	}{
		{"rsa_oaep_2048_sha1_mgf1sha1_test.json", RSA2048, crypto.SHA1},
		{"rsa_oaep_2048_sha256_mgf1sha256_test.json", RSA2048, crypto.SHA256},
		{"rsa_oaep_3072_sha256_mgf1sha256_test.json", RSA3072, crypto.SHA256},
		{"rsa_oaep_4096_sha256_mgf1sha256_test.json", RSA4096, crypto.SHA256},
	} {
		var key ObjectID
		vectors(t, test.file, 20, func(g group, v vector) bool {
			if key == (ObjectID{}) {
				key = newID(t)
				_, err := token.Import(
					t.Context(),
					Import{Wrapping: wrapping, WrappingType: RSA2048, Algorithm: RSAAESKeyWrapSHA256,
						Wrapped: wrapMaterial(t, rsaKey(t, spki), RSAAESKeyWrapSHA256, g.PrivateKeyPKCS8),
						Pair:    &KeyPair{ID: key, Type: test.kt, Purpose: DecryptPair}},
				)
				if err != nil {
					t.Fatal(err)
				}
			}
			got, err := token.DecryptOAEP(t.Context(), key, test.kt, test.hash, v.CT)
			if v.Result == "valid" && len(v.Label) == 0 {
				if err != nil || !bytes.Equal(got, v.Msg) {
					t.Errorf("%s, %v: %x, %v", test.file, v, got, err)
				}
			} else if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%s, %v: %x, %v", test.file, v, got, err)
			}
			return true
		})
	}
}

func TestWycheproofKWP(t *testing.T) {
	token := connect(t)
	vectors(t, "aes_kwp_test.json", 60, func(g group, v vector) bool {
		if g.KeySize != 256 {
			return false
		}
		key := install(t, token, Wrap.Template(), v.Key)
		_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
			h, err := s.Lookup(key)
			if err != nil {
				return struct{}{}, err
			}
			got, err := s.UnwrapSecret([]uint{profile.CKMAESKeyWrapPad}, h, v.CT, len(v.Msg))
			if v.Result == "valid" && (err != nil || !bytes.Equal(got, v.Msg)) || v.Result == "invalid" && err == nil {
				t.Errorf("%v: %x, %v", v, got, err)
			}
			return struct{}{}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
}
