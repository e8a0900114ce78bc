package service_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/softhsm"
)

const (
	account   = "111122223333"
	region    = "us-east-1"
	goldenID  = "01234567-89ab-4def-8123-456789abcdef"
	goldenMRK = "mrk-0123456789ab4def8123456789abcdef"
	goldenIV  = "c0c1c2c3c4c5c6c7c8c9cacb"
)

var root = &iam.Caller{Identity: iam.Identity{Principal: "arn:aws:iam::" + account + ":root", Account: account},
	Region: region}

// goldenBlob is one of package blob's.
type goldenBlob struct {
	Name, KeyID, Blob, Plaintext string
	Form                         blob.Form
	Context                      map[string]string
}

func goldenBlobs(t *testing.T) (all []goldenBlob) {
	t.Helper()
	text, err := os.ReadFile("blob/testdata/golden-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d golden blobs, %v", len(all), err)
	}
	return all
}

// TestDecryptGoldenBlobs: every blob of the past is decrypted.
func TestDecryptGoldenBlobs(t *testing.T) {
	s := goldenService(t)
	for _, test := range goldenBlobs(t) {
		t.Run(test.Name, func(t *testing.T) {
			in := &service.DecryptRequest{CiphertextBlob: unhex(t, test.Blob), EncryptionContext: test.Context}
			out, err := s.Decrypt(t.Context(), root, in)
			if err != nil {
				t.Fatal(err)
			}
			keyARN := "arn:verenc:" + account + ":key/" + test.KeyID
			if got := hex.EncodeToString(out.Plaintext); got != test.Plaintext || out.KeyId != keyARN {
				t.Errorf("%s by %s, want %s by %s", got, out.KeyId, test.Plaintext, keyARN)
			}
			in.EncryptionContext = map[string]string{"other": ""}
			_, err = s.Decrypt(t.Context(), root, in)
			if e := new(apierror.Error); !errors.As(err, &e) || e.Code != apierror.InvalidCiphertext {
				t.Errorf("with another context: %v", err)
			}
		})
	}
}

// TestEncryptMakesTheGoldenBlob: with its initialisation vector known, a blob of form 1 is known to the last byte.
func TestEncryptMakesTheGoldenBlob(t *testing.T) {
	s := goldenService(t)
	for _, test := range goldenBlobs(t) {
		if test.Form != blob.Sealed {
			continue
		}
		t.Run(test.Name, func(t *testing.T) {
			out, err := s.Encrypt(t.Context(), root, &service.EncryptRequest{KeyId: test.KeyID,
				Plaintext: unhex(t, test.Plaintext), EncryptionContext: test.Context})
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(out.CiphertextBlob); got != test.Blob {
				t.Errorf("%s\nwant %s", got, test.Blob)
			}
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// repeated is a random source that always gives the same bytes.
type repeated []byte

func (r repeated) Read(p []byte) (int, error) { return copy(p, r), nil }

// goldenService has two keys of known material: bytes that count up from 0x20 (seal) and 0x40 (wrap), and the second
// material of the multi-Region key from 0x60 and 0x80.
func goldenService(t *testing.T) *service.Service {
	t.Helper()
	soft := softhsm.New(t)
	ids := importKeys(t, soft, 0x20, 0x40, 0x60, 0x80)
	token, err := hsm.Open(t.Context(), hsm.Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial,
		PIN: soft.PIN, Rand: repeated(unhex(t, goldenIV)), CallTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, token)
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	material := func(ordinal uint32, seal, wrap service.ObjectID) service.Material {
		return service.Material{Ordinal: ordinal, ID: "00",
			Objects: map[service.Role]service.ObjectID{service.RoleSeal: seal, service.RoleWrap: wrap}}
	}
	first, second := material(1, ids[0], ids[1]), material(2, ids[2], ids[3])
	for id, materials := range map[string][]service.Material{goldenID: {first}, goldenMRK: {first, second}} {
		err := db.InsertKey(t.Context(), &service.Key{ID: id, Account: account, Region: region,
			Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT",
			Policy: `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + account + `"},
				"Action":"kms:*","Resource":"*"}}`,
			Origin: "AWS_KMS", State: service.StateEnabled, CreatedAt: time.Now(), Materials: materials})
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := service.New(service.Config{Audit: record.NoAudit, Store: db, Token: token, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeAtEnd(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// importKeys makes token objects of known AES-256 keys, whose bytes count up from first. Even ones seal, odd ones wrap.
func importKeys(t *testing.T, soft softhsm.Token, first ...byte) []service.ObjectID {
	t.Helper()
	module := pkcs11.New(soft.Module)
	if module == nil {
		t.Fatalf("load %s", soft.Module)
	}
	defer module.Destroy()
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	slot := slotOf(t, module, soft.Serial)
	session, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	try(err)
	defer func() { try(module.CloseSession(session)) }()
	try(module.Login(session, pkcs11.CKU_USER, soft.PIN))
	var ids []service.ObjectID
	for i, from := range first {
		id := service.ObjectID(bytes.Repeat([]byte{from}, 16))
		value := make([]byte, 32)
		for j := range value {
			value[j] = from + byte(j)
		}
		seals := i%2 == 0
		_, err := module.CreateObject(session, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, seals), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, seals),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, !seals), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, !seals),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]), pkcs11.NewAttribute(pkcs11.CKA_LABEL, "verenc/golden/1/x"),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)})
		try(err)
		ids = append(ids, id)
	}
	return ids
}

// slotOf finds a token in the module, which package softhsm has initialised.
func slotOf(t *testing.T, module *pkcs11.Ctx, serial string) uint {
	t.Helper()
	slots, err := module.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, slot := range slots {
		if info, err := module.GetTokenInfo(slot); err == nil && info.SerialNumber == serial {
			return slot
		}
	}
	t.Fatalf("no token has serial number %s", serial)
	return 0
}
