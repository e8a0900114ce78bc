package transport_test

import (
	"crypto"
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"hash"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// wrapOAEP wraps key material as ImportKeyMaterial wants it for RSAES_OAEP_SHA_*.
func wrapOAEP(t testing.TB, spki []byte, h hash.Hash, material []byte) []byte {
	t.Helper()
	public := ok(x509.ParsePKIXPublicKey(spki))(t).(*rsa.PublicKey)
	return ok(rsa.EncryptOAEP(h, rand.Reader, public, material, nil))(t)
}

// wrap wraps it for any algorithm: RSA_AES_KEY_WRAP_SHA_* is an AES key, wrapped with OAEP, and the
// material, wrapped with it (AWS page "Encrypt key material").
func wrap(t testing.TB, spki []byte, algorithm types.AlgorithmSpec, material []byte) []byte {
	t.Helper()
	h := sha256.New()
	if strings.HasSuffix(string(algorithm), "SHA_1") {
		h = sha1.New()
	}
	if strings.HasPrefix(string(algorithm), "RSAES_OAEP") {
		return wrapOAEP(t, spki, h, material)
	}
	kek := make([]byte, 32)
	_, _ = rand.Read(kek)
	return append(wrapOAEP(t, spki, h, kek), wrapKWP(t, kek, material)...)
}

// importInput asks for parameters, and wraps.
func (s *server) importInput(t testing.TB, c *kms.Client, id string, algorithm types.AlgorithmSpec,
	spec types.WrappingKeySpec, material []byte) *kms.ImportKeyMaterialInput {
	t.Helper()
	params := ok(c.GetParametersForImport(t.Context(),
		&kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: algorithm, WrappingKeySpec: spec}))(t)
	return &kms.ImportKeyMaterialInput{KeyId: &id, ImportToken: params.ImportToken,
		EncryptedKeyMaterial: wrap(t, params.PublicKey, algorithm, material),
		ExpirationModel:      types.ExpirationModelTypeKeyMaterialDoesNotExpire}
}

// importKey makes a secret key of this material.
func (s *server) importKey(t testing.TB, in kms.CreateKeyInput, material []byte) *types.KeyMetadata {
	t.Helper()
	in.Origin = types.OriginTypeExternal
	made := s.makeKey(t, in)
	ok(s.ImportKeyMaterial(t.Context(), s.importInput(t, s.Client, *made.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048",
		material)))(t)
	return ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: made.KeyId}))(t).KeyMetadata
}

// wrapKWP is AES-KWP (RFC 5649 section 4.1) of more than 8 bytes.
func wrapKWP(t testing.TB, kek, plaintext []byte) []byte {
	t.Helper()
	block := ok(aes.NewCipher(kek))(t)
	out := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(plaintext)))
	out = append(out, plaintext...)
	out = append(out, make([]byte, (8-len(plaintext)%8)%8)...)
	n := len(out)/8 - 1
	for j := range 6 { // RFC 3394 section 2.2.1
		for i := 1; i <= n; i++ {
			both := append(slices.Clone(out[:8]), out[8*i:8*i+8]...)
			block.Encrypt(both, both)
			copy(out[8*i:], both[8:])
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(both)^uint64(n*j+i))
		}
	}
	return out
}

// secp256k1PKCS8 is a private key of the curve that crypto/x509 does not know (RFC 5208, RFC 5915).
func secp256k1PKCS8(t testing.TB, key *secp256k1.PrivateKey) []byte {
	t.Helper()
	inner := ok(asn1.Marshal(struct {
		Version int
		Private []byte
		Public  asn1.BitString `asn1:"explicit,tag:1"`
	}{1, key.Serialize(), asn1.BitString{Bytes: key.PubKey().SerializeUncompressed(), BitLength: 65 * 8}}))(t)
	return ok(asn1.Marshal(struct {
		Version   int
		Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
		Private   []byte
	}{0, struct{ Algorithm, Curve asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1},
		asn1.ObjectIdentifier{1, 3, 132, 0, 10}}, inner}))(t)
}

// TestImport imports keys of each kind with each wrapping algorithm, and signs with them.
func TestImport(t *testing.T) {
	s := newServer(t, options{})
	pkcs8 := func(key any) []byte { return ok(x509.MarshalPKCS8PrivateKey(key))(t) }
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey { return ok(ecdsa.GenerateKey(c, rand.Reader))(t) }
	rsaKey := ok(rsa.GenerateKey(rand.Reader, 2048))(t)
	p256, p384, p521 := ec(elliptic.P256()), ec(elliptic.P384()), ec(elliptic.P521())
	koblitz := ok(secp256k1.GeneratePrivateKey())(t)
	_, edwards, _ := ed25519.GenerateKey(rand.Reader)
	oaep := []types.AlgorithmSpec{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
	hybrid := []types.AlgorithmSpec{"RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"}
	both := slices.Concat(oaep, hybrid)
	for _, test := range []struct {
		spec       types.KeySpec
		material   []byte
		public     any // secp256k1's is a pointer
		signing    types.SigningAlgorithmSpec
		algorithms []types.AlgorithmSpec
	}{
		{"RSA_2048", pkcs8(rsaKey), rsaKey.Public(), "RSASSA_PSS_SHA_256", hybrid},
		{"ECC_NIST_P256", pkcs8(p256), p256.Public(), "ECDSA_SHA_256", both},
		{"ECC_NIST_P384", pkcs8(p384), p384.Public(), "ECDSA_SHA_384", both},
		{"ECC_NIST_P521", pkcs8(p521), p521.Public(), "ECDSA_SHA_512", hybrid},
		{"ECC_SECG_P256K1", secp256k1PKCS8(t, koblitz), koblitz.PubKey(), "ECDSA_SHA_256", both},
		{"ECC_NIST_EDWARDS25519", pkcs8(edwards), edwards.Public(), "ED25519_SHA_512", both},
	} {
		for _, algorithm := range both {
			t.Run(string(test.spec)+"/"+string(algorithm), func(t *testing.T) {
				made := s.makeKey(t, kms.CreateKeyInput{KeySpec: test.spec, KeyUsage: types.KeyUsageTypeSignVerify,
					Origin: types.OriginTypeExternal})
				if !slices.Contains(test.algorithms, algorithm) {
					_, err := s.GetParametersForImport(t.Context(),
						&kms.GetParametersForImportInput{KeyId: made.KeyId, WrappingAlgorithm: algorithm,
							WrappingKeySpec: "RSA_2048"})
					wantError(t, err, "UnsupportedOperationException", "*")
					return
				}
				out := ok(s.ImportKeyMaterial(t.Context(),
					s.importInput(t, s.Client, *made.KeyId, algorithm, "RSA_2048", test.material)))(t)
				if *out.KeyId != *made.Arn {
					t.Errorf("%+v", out)
				}
				message := []byte("message")
				signed := ok(s.Sign(t.Context(),
					&kms.SignInput{KeyId: made.KeyId, Message: message, SigningAlgorithm: test.signing}))(t)
				if !verifies(t, test.public, test.signing, message, signed.Signature) {
					t.Error("the signature is not that of the imported key")
				}
				made.KeyState = types.KeyStateEnabled
				if public := s.publicKey(t, made); !samePublic(public, test.public) {
					t.Errorf("the public key is %v", public)
				}
			})
		}
	}
}

func samePublic(a, b any) bool {
	if a, koblitz := a.(*secp256k1.PublicKey); koblitz {
		return a.IsEqual(b.(*secp256k1.PublicKey))
	}
	return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
}

// sealedBy encrypts, and opens checks that it opens.
func (s *server) sealedBy(t testing.TB, id *string) []byte {
	t.Helper()
	return ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("text")}))(t).CiphertextBlob
}

func opens(t testing.TB, c *kms.Client, blob []byte) *kms.DecryptOutput {
	t.Helper()
	out := ok(c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob}))(t)
	if string(out.Plaintext) != "text" {
		t.Errorf("it opens as %q", out.Plaintext)
	}
	return out
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func TestImportedSymmetricKey(t *testing.T) {
	s := newServer(t, options{})
	material := randomBytes(32)
	made := s.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if made.KeyState != types.KeyStatePendingImport || made.Enabled || made.ExpirationModel != "" ||
		made.CurrentKeyMaterialId != nil || made.ValidTo != nil {
		t.Errorf("%+v", made)
	}
	id := *made.KeyId
	var blobs [][]byte
	for i, wrapping := range []types.WrappingKeySpec{"RSA_2048", "RSA_3072", "RSA_4096", "RSA_2048"} {
		algorithm := types.AlgorithmSpec([]string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}[i%2])
		params := ok(s.GetParametersForImport(t.Context(),
			&kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: algorithm, WrappingKeySpec: wrapping}))(t)
		if d := time.Until(*params.ParametersValidTo); *params.KeyId != *made.Arn || d < 23*time.Hour ||
			d > 24*time.Hour {
			t.Errorf("%+v", params)
		}
		out := ok(s.ImportKeyMaterial(t.Context(),
			&kms.ImportKeyMaterialInput{KeyId: &id, ImportToken: params.ImportToken,
				EncryptedKeyMaterial: wrap(t, params.PublicKey, algorithm, material),
				ExpirationModel:      "KEY_MATERIAL_DOES_NOT_EXPIRE"}))(t)
		m := ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t).KeyMetadata
		if *out.KeyId != *made.Arn || *out.KeyMaterialId != *m.CurrentKeyMaterialId ||
			m.KeyState != types.KeyStateEnabled ||
			m.ExpirationModel != "KEY_MATERIAL_DOES_NOT_EXPIRE" || m.ValidTo != nil {
			t.Errorf("%+v, %+v", out, m)
		}
		blobs = append(blobs, s.sealedBy(t, &id))
		deleted := ok(s.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: &id}))(t)
		if *deleted.KeyId != *made.Arn || *deleted.KeyMaterialId != *out.KeyMaterialId {
			t.Errorf("%+v", deleted)
		}
		_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blobs[0]})
		wantError(t, err, "KMSInvalidStateException", *made.Arn+" is pending import.")
	}
	ok(s.ImportKeyMaterial(t.Context(), s.importInput(t, s.Client, id, "RSAES_OAEP_SHA_1", "RSA_2048", material)))(t)
	for _, blob := range blobs {
		opens(t, s.Client, blob)
	}
	without := ok(s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: "AES_256"}))(t)
	if without.CiphertextBlob[1] != 1 {
		t.Errorf("form %d: deleting the material would not end it", without.CiphertextBlob[1])
	}
	pair := ok(s.GenerateDataKeyPair(t.Context(),
		&kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: "ECC_NIST_P256"}))(t)
	if pair.PrivateKeyCiphertextBlob[1] != 1 {
		t.Errorf("form %d", pair.PrivateKeyCiphertextBlob[1])
	}
	for _, algorithm := range []types.AlgorithmSpec{"RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_1",
		"RSA_AES_KEY_WRAP_SHA_256", "SM2PKE"} {
		_, err := s.GetParametersForImport(t.Context(),
			&kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: algorithm, WrappingKeySpec: "RSA_2048"})
		wantError(t, err, "UnsupportedOperationException", "*")
	}
	// Another key's token, material of a wrong size, and a date that is missing, too far or too much.
	other := s.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	foreign := s.importInput(t, s.Client, *other.KeyId, "RSAES_OAEP_SHA_1", "RSA_2048", material)
	foreign.KeyId = &id
	_, err := s.ImportKeyMaterial(t.Context(), foreign)
	wantError(t, err, "InvalidImportTokenException", "*")
	for _, size := range []int{16, 31, 33} {
		_, err := s.ImportKeyMaterial(t.Context(),
			s.importInput(t, s.Client, *other.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048", randomBytes(size)))
		wantError(t, err, "IncorrectKeyMaterialException", "*")
	}
	good := s.importInput(t, s.Client, *other.KeyId, "RSAES_OAEP_SHA_1", "RSA_2048", material)
	for _, test := range []struct {
		model   types.ExpirationModelType
		at      *time.Time
		message string
	}{
		{"", nil, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		{"KEY_MATERIAL_EXPIRES", nil, "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES"},
		{"KEY_MATERIAL_EXPIRES", aws.Time(time.Now().Add(-time.Minute)), "*"},
		{"KEY_MATERIAL_EXPIRES", aws.Time(time.Now().Add(366 * 24 * time.Hour)), "*"},
		{"KEY_MATERIAL_DOES_NOT_EXPIRE", aws.Time(time.Now().Add(time.Hour)), "*"},
	} {
		good.ExpirationModel, good.ValidTo = test.model, test.at
		_, err := s.ImportKeyMaterial(t.Context(), good)
		wantError(t, err, "ValidationException", test.message)
	}
}

func TestImportedMaterialExpires(t *testing.T) {
	s := newServer(t, options{})
	material := randomBytes(32)
	made := s.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	in := s.importInput(t, s.Client, *made.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048", material)
	end := time.Now().Add(5 * time.Hour).Truncate(time.Second)
	in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, &end
	ok(s.ImportKeyMaterial(t.Context(), in))(t)
	if m := ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: made.KeyId}))(t).
		KeyMetadata; m.ExpirationModel != "KEY_MATERIAL_EXPIRES" || !m.ValidTo.Equal(end) {
		t.Errorf("%+v", m)
	}
	sealed := s.sealedBy(t, made.KeyId)
	state := func() types.KeyState {
		t.Helper()
		return ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: made.KeyId}))(t).KeyMetadata.KeyState
	}
	s.age(4 * time.Hour) // what is left is for a slow machine
	s.reconcile(t)
	opens(t, s.Client, sealed)
	s.age(time.Hour)
	if got := state(); got != types.KeyStatePendingImport {
		t.Errorf("%s before the reconciler has seen it", got)
	}
	_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "KMSInvalidStateException", *made.Arn+" is pending import.")
	s.reconcile(t)
	if got := state(); got != types.KeyStatePendingImport {
		t.Error(got)
	}
	if objects := s.objectsOf(t, *made.KeyId); len(objects) != 0 {
		t.Errorf("the token still has %d objects", len(objects))
	}
	_, err = s.ImportKeyMaterial(t.Context(),
		s.importInput(t, s.Client, *made.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048", randomBytes(32)))
	wantError(t, err, "IncorrectKeyMaterialException", "*")
	ok(s.ImportKeyMaterial(t.Context(), s.importInput(t, s.Client, *made.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048",
		material)))(t)
	opens(t, s.Client, sealed)
}

// rotationsOf lists a key's materials, "state/import/type/description" each.
func rotationsOf(t testing.TB, c *kms.Client, id *string) (list []string) {
	t.Helper()
	for _, r := range ok(c.ListKeyRotations(t.Context(),
		&kms.ListKeyRotationsInput{KeyId: id, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}))(t).
		Rotations {
		list = append(list,
			strings.Join([]string{string(r.KeyMaterialState), string(r.ImportState), string(r.RotationType),
				aws.ToString(r.KeyMaterialDescription)}, "/"))
	}
	return list
}

func wantRotations(t testing.TB, c *kms.Client, id *string, want ...string) {
	t.Helper()
	if got := rotationsOf(t, c, id); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestSeveralImportedMaterials(t *testing.T) {
	s := newServer(t, options{})
	one, two, three := randomBytes(32), randomBytes(32), randomBytes(32)
	made := s.importKey(t, kms.CreateKeyInput{}, one)
	id := made.KeyId
	first := s.sealedBy(t, id)
	_, err := s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
	wantError(t, err, "KMSInvalidStateException",
		"No available key material pending rotation for the key: "+*made.Arn+".")

	bring := func(material []byte, kind types.ImportType, description string) (*kms.ImportKeyMaterialOutput, error) {
		t.Helper()
		in := s.importInput(t, s.Client, *id, "RSAES_OAEP_SHA_256", "RSA_2048", material)
		in.ImportType = kind
		if description != "" {
			in.KeyMaterialDescription = &description
		}
		return s.ImportKeyMaterial(t.Context(), in)
	}
	_, err = bring(one, types.ImportTypeNewKeyMaterial, "")
	wantError(t, err, "IncorrectKeyMaterialException", "*")
	_, err = bring(two, types.ImportTypeExistingKeyMaterial, "")
	wantError(t, err, "IncorrectKeyMaterialException", "*")
	second := ok(bring(two, types.ImportTypeNewKeyMaterial, "the second"))(t)
	wantRotations(t, s.Client, id, "CURRENT/IMPORTED//", "PENDING_ROTATION/IMPORTED//the second")
	_, err = bring(three, types.ImportTypeNewKeyMaterial, "")
	wantError(t, err, "KMSInvalidStateException", "*")
	if want := ") cannot be imported into KMS key " + *made.Arn + ", because another key material (id: " +
		*second.KeyMaterialId + ") is pending rotation."; !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v\nwant ... %s", err, want)
	}
	if out := opens(t, s.Client, s.sealedBy(t, id)); *out.KeyMaterialId != *made.CurrentKeyMaterialId {
		t.Error("material that waits for a rotation was used")
	}
	rotated := ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id}))(t)
	if *rotated.KeyId != *made.Arn {
		t.Errorf("%+v", rotated)
	}
	wantRotations(t, s.Client, id, "NON_CURRENT/IMPORTED//", "CURRENT/IMPORTED/ON_DEMAND/the second")
	later := s.sealedBy(t, id)
	if a, b := opens(t, s.Client, first), opens(t, s.Client, later); *a.KeyMaterialId != *made.CurrentKeyMaterialId ||
		*b.KeyMaterialId != *second.KeyMaterialId {
		t.Errorf("%s, %s", *a.KeyMaterialId, *b.KeyMaterialId)
	}
	// Without one of its materials the key is of no use.
	deleted := ok(s.DeleteImportedKeyMaterial(t.Context(),
		&kms.DeleteImportedKeyMaterialInput{KeyId: id, KeyMaterialId: made.CurrentKeyMaterialId}))(t)
	if *deleted.KeyMaterialId != *made.CurrentKeyMaterialId {
		t.Errorf("%+v", deleted)
	}
	wantRotations(t, s.Client, id, "NON_CURRENT/PENDING_IMPORT//", "CURRENT/IMPORTED/ON_DEMAND/the second")
	_, err = s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	wantError(t, err, "KMSInvalidStateException", *made.Arn+" is pending import.")
	ok(bring(one, types.ImportTypeExistingKeyMaterial, "the first"))(t)
	wantRotations(t, s.Client, id, "NON_CURRENT/IMPORTED//the first", "CURRENT/IMPORTED/ON_DEMAND/the second")
	opens(t, s.Client, first)
	_, err = s.DeleteImportedKeyMaterial(t.Context(),
		&kms.DeleteImportedKeyMaterialInput{KeyId: id, KeyMaterialId: aws.String(strings.Repeat("0", 64))})
	wantError(t, err, "NotFoundException", "*")
}

func TestImportedMultiRegionKey(t *testing.T) {
	s := newServer(t, options{})
	there := s.client(s.Secret, otherRegion)
	one, two := randomBytes(32), randomBytes(32)
	made := s.importKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}, one)
	id := made.KeyId
	replica := ok(s.ReplicateKey(t.Context(),
		&kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(otherRegion)}))(t).ReplicaKeyMetadata
	if after := describe(t, there, id); after.KeyState != types.KeyStatePendingImport ||
		replica.Origin != types.OriginTypeExternal {
		t.Errorf("%+v", replica)
	}
	_, err := there.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	wantError(t, err, "KMSInvalidStateException", "*")
	_, err = there.ImportKeyMaterial(t.Context(), s.importInput(t, there, *id, "RSAES_OAEP_SHA_256", "RSA_2048", two))
	wantError(t, err, "IncorrectKeyMaterialException", "*")
	ok(there.ImportKeyMaterial(t.Context(), s.importInput(t, there, *id, "RSAES_OAEP_SHA_256", "RSA_2048", one)))(t)
	sealed := s.sealedBy(t, id)
	opens(t, there, sealed)

	in := s.importInput(t, s.Client, *id, "RSAES_OAEP_SHA_256", "RSA_2048", two)
	in.ImportType = types.ImportTypeNewKeyMaterial
	ok(s.ImportKeyMaterial(t.Context(), in))(t)
	wantRotations(t, s.Client, id, "CURRENT/IMPORTED//", "PENDING_MULTI_REGION_IMPORT_AND_ROTATION/IMPORTED//")
	_, err = s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
	wantError(t, err, "KMSInvalidStateException",
		"No available key material pending rotation for the key: "+*made.Arn+".")
	ok(there.ImportKeyMaterial(t.Context(), s.importInput(t, there, *id, "RSAES_OAEP_SHA_256", "RSA_2048", two)))(t)
	wantRotations(t, s.Client, id, "CURRENT/IMPORTED//", "PENDING_ROTATION/IMPORTED//")
	ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id}))(t)
	for _, c := range []*kms.Client{s.Client, there} {
		wantRotations(t, c, id, "NON_CURRENT/IMPORTED//", "CURRENT/IMPORTED/ON_DEMAND/")
		opens(t, c, sealed)
		opens(t, c, s.sealedBy(t, id))
	}
	// Each region's copy is its own.
	ok(there.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: id}))(t)
	opens(t, s.Client, sealed)
	_, err = there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "KMSInvalidStateException", "*")
}
