package service_test

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/c2sp/wycheproof"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
)

// The tests in vectors*_test.go ask the operations what Project Wycheproof asks of libraries. Vectors reach the service
// below transport's limits, so that empty messages count, too.
//
// AES-GCM and AES-KWP are not here: the additional data of a blob begins with a label of this service's own, which no
// vector has, and a data key is wrapped by the key that was born with it in the token.

// hexBytes is how Wycheproof writes bytes.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vector has the members of every kind of vector that is used here.
type vector struct {
	ID      int `json:"tcId"`
	Comment string
	Flags   []string
	Result  string // valid, invalid or acceptable

	Msg, Sig, Ctx           hexBytes // of a signature
	Key, Tag                hexBytes // of a MAC
	CT, Label               hexBytes // of a ciphertext
	Public, Private, Shared hexBytes // of a key agreement
}

func (v *vector) String() string {
	return fmt.Sprintf("vector %d (%s, %v, %s)", v.ID, v.Comment, v.Flags, v.Result)
}

// vectorGroup is the vectors that have a key or its sizes in common.
type vectorGroup struct {
	KeySize, TagSize int    // bits
	SHA              string // as in SHA-256
	MGFSHA           string
	SLen             int      // bytes of salt
	PublicKeyDER     hexBytes // SubjectPublicKeyInfo
	PrivateKeyPKCS8  hexBytes
	Tests            []vector
}

// tally is what became of a file's vectors.
type tally struct {
	accepted int
	refused  int
	outside  int // of what KMS has: another size or hash
}

func (t tally) String() string {
	return fmt.Sprintf("%d accepted, %d refused, %d outside", t.accepted, t.refused, t.outside)
}

// judge checks and counts what an operation said of a vector: nothing wrong if it is good, the
// exception with this code if it is not.
func (n *tally) judge(t *testing.T, v *vector, good bool, err error, code apierror.Code) {
	t.Helper()
	var refusal *apierror.Error
	switch {
	case good && err != nil, !good && (!errors.As(err, &refusal) || refusal.Code != code):
		t.Errorf("%v: got %v", v, err)
	case good:
		n.accepted++
	default:
		n.refused++
	}
}

// judgeVectors has use judge the groups of a file, and compares the tally exactly: no file and no
// rule silently loses its vectors, or gains some that nobody has looked at.
func judgeVectors(t *testing.T, file string, want tally, use func(n *tally, g *vectorGroup)) {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, file+"_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ TestGroups []vectorGroup }
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var n tally
	for i := range all.TestGroups {
		use(&n, &all.TestGroups[i])
	}
	if n != want {
		t.Errorf("%s: %v; want %v", file, n, want)
	}
}

// vectorService is a service on a token of its own.
type vectorService struct {
	*service.Service
	store *store.DB
}

const vectorRoot = "arn:aws:iam::111122223333:root"

func newVectorService(t *testing.T) *vectorService {
	t.Helper()
	soft := softhsm.New(t)
	token, err := hsm.Open(t.Context(), hsm.Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial,
		PIN: soft.PIN, CallTimeout: time.Minute, GenerateTimeout: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true})
	if err != nil {
		t.Fatal(errors.Join(err, token.Close()))
	}
	t.Cleanup(func() {
		if err := errors.Join(db.Close(), token.Close()); err != nil {
			t.Error(err)
		}
	})
	s, err := service.New(service.Config{Audit: record.NoAudit, Store: db, Token: &oneWrappingKey{Token: token},
		Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.InitServiceObjects(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &vectorService{Service: s, store: db}
}

// oneWrappingKey is a token with one wrapping key pair for all imports: to make an RSA pair for
// each would be nine tenths of the time that the vectors take.
type oneWrappingKey struct {
	*hsm.Token

	once sync.Once // guards what follows
	id   hsm.ObjectID
	spki []byte
	err  error
}

func (o *oneWrappingKey) GenerateKeyPair(ctx context.Context, k hsm.KeyPair) ([]byte, error) {
	if k.Purpose != hsm.UnwrapPair {
		return o.Token.GenerateKeyPair(ctx, k)
	}
	o.once.Do(func() {
		o.id = k.ID
		o.spki, o.err = o.Token.GenerateKeyPair(ctx, k)
	})
	return o.spki, o.err
}

func (o *oneWrappingKey) Import(ctx context.Context, in hsm.Import) (hsm.Imported, error) {
	in.Wrapping = o.id
	return o.Token.Import(ctx, in)
}

// insertPublicKey makes a KMS key that can do no more than verify, since its private key is nowhere.
func (s *vectorService) insertPublicKey(t *testing.T, spec string, spki []byte) (id string) {
	t.Helper()
	k := &service.Key{ID: uuid.NewString(), Account: account, Region: region, Spec: spec, Usage: "SIGN_VERIFY",
		Origin: "AWS_KMS",
		State:  service.StateEnabled, CreatedAt: time.Now(), Details: service.Details{PublicKey: spki},
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + vectorRoot +
			`"},"Action":"kms:*","Resource":"*"}]}`}
	if err := s.store.InsertKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k.ID
}

// importKey makes a KMS key of key material: the bytes of a MAC key, the PKCS#8 of a private key.
func (s *vectorService) importKey(t *testing.T, spec, usage string, material []byte) (id string) {
	t.Helper()
	created, err := s.CreateKey(t.Context(), root,
		&service.CreateKeyRequest{Origin: "EXTERNAL", KeySpec: spec, KeyUsage: usage})
	if err != nil {
		t.Fatal(err)
	}
	id = created.KeyMetadata.KeyId
	algorithm, wrap := "RSA_AES_KEY_WRAP_SHA_256", wrapHybrid
	if strings.HasPrefix(spec, "HMAC") {
		algorithm, wrap = "RSAES_OAEP_SHA_256", wrapOAEP
	}
	p, err := s.GetParametersForImport(t.Context(), root, &service.GetParametersForImportRequest{
		KeyId: id, WrappingAlgorithm: algorithm, WrappingKeySpec: "RSA_2048"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.ImportKeyMaterial(t.Context(), root,
		&service.ImportKeyMaterialRequest{KeyId: id, ImportToken: p.ImportToken,
			EncryptedKeyMaterial: wrap(t, p.PublicKey, material), ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE"})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// wrapOAEP is RSAES_OAEP_SHA_256.
func wrapOAEP(t *testing.T, spki, material []byte) []byte {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

// wrapHybrid is RSA_AES_KEY_WRAP_SHA_256: an AES key under RSAES-OAEP, and behind it the material under AES-KWP of that
// key (RFC 5649 section 4.1; it has more than 8 bytes).
func wrapHybrid(t *testing.T, spki, material []byte) []byte {
	t.Helper()
	kek := make([]byte, 32)
	_, _ = rand.Read(kek) // never fails
	block, err := aes.NewCipher(kek)
	if err != nil {
		t.Fatal(err)
	}
	n := (len(material) + 7) / 8
	// out is the register A of RFC 3394 section 2.2.1, then the n registers R.
	out := make([]byte, 8+8*n)
	binary.BigEndian.PutUint32(out, 0xa65959a6)
	binary.BigEndian.PutUint32(out[4:], uint32(len(material)))
	copy(out[8:], material)
	var b [aes.BlockSize]byte
	var counter [8]byte
	for step := range 6 * n {
		a, r := out[:8], out[8+8*(step%n):][:8]
		copy(b[:], a)
		copy(b[8:], r)
		block.Encrypt(b[:], b[:])
		binary.BigEndian.PutUint64(counter[:], uint64(step+1))
		subtle.XORBytes(a, b[:8], counter[:])
		copy(r, b[8:])
	}
	return append(wrapOAEP(t, spki, kek), out...)
}
