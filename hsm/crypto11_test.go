package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/ThalesIgnite/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/softhsm"
)

// The judge is crypto11 in a process of its own, since it initialises and finalises the module for
// its whole process.
const (
	judgeModule = "VERENC_TEST_JUDGE_MODULE"
	judgeSerial = "VERENC_TEST_JUDGE_SERIAL"
	judgePIN    = "VERENC_TEST_JUDGE_PIN"
)

// verdict is what the judge is given, and gives back with a signature.
type verdict struct{ ID, Digest, Signature []byte }

// judge finds key pairs by CKA_ID and signs with them.
func judge(in io.Reader, out io.Writer) int {
	if err := signAll(in, out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func signAll(in io.Reader, out io.Writer) error {
	var verdicts []verdict
	if err := json.NewDecoder(in).Decode(&verdicts); err != nil {
		return err
	}
	token, err := crypto11.Configure(
		&crypto11.Config{Path: os.Getenv(judgeModule), TokenSerial: os.Getenv(judgeSerial), Pin: os.Getenv(judgePIN)},
	)
	if err != nil {
		return err
	}
	defer token.Close()
	for i, v := range verdicts {
		signer, err := token.FindKeyPair(v.ID, nil)
		if err != nil {
			return err
		}
		if signer == nil {
			return fmt.Errorf("key pair %x is not found", v.ID)
		}
		if verdicts[i].Signature, err = signer.Sign(rand.Reader, v.Digest, crypto.SHA256); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(verdicts)
}

// TestCrypto11FindsThePairs has another PKCS#11 client use key pairs made here.
func TestCrypto11FindsThePairs(t *testing.T) {
	soft := softhsm.New(t)
	token, err := Open(t.Context(),
		patient(Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN}))
	if err != nil {
		t.Fatal(err)
	}
	schemes := []struct {
		kt     KeyType
		scheme Scheme
	}{{RSA2048, Scheme{Algorithm: PKCS1v15, Hash: crypto.SHA256}}, {P256,
		Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}}}
	var verdicts []verdict
	var keys [][]byte
	for _, s := range schemes {
		id, spki := newKeyPair(t, token, s.kt, SignPair)
		createPublic(t, token, id, s.kt, spki)
		verdicts = append(verdicts, verdict{ID: id[:], Digest: bytes.Repeat([]byte{0x5a}, 32)})
		keys = append(keys, spki)
	}
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) != len(schemes) {
		t.Errorf("public keys count: %v, %v", objects, err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}

	in, err := json.Marshal(verdicts)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), judgeModule+"="+soft.Module, judgeSerial+"="+soft.Serial, judgePIN+"="+soft.PIN)
	child.Stdin, child.Stderr = bytes.NewReader(in), os.Stderr
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &verdicts); err != nil {
		t.Fatal(err)
	}
	for i, s := range schemes {
		if err := verify(t, keys[i], s.kt, s.scheme, verdicts[i].Digest, verdicts[i].Signature); err != nil {
			t.Errorf("%v: %v", s.kt, err)
		}
	}
}

// createPublic makes the public key object that crypto11 looks for.
func createPublic(t testing.TB, token *Token, id ObjectID, kt KeyType, spki []byte) {
	t.Helper()
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kt.Info().Kind),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
	}
	if kt.Info().RSA() {
		public := rsaKey(t, spki)
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_MODULUS, public.N.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	} else {
		var info keyobject.SubjectPublicKeyInfo
		if _, err := asn1.Unmarshal(spki, &info); err != nil {
			t.Fatal(err)
		}
		point, err := asn1.Marshal(info.PublicKey.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, kt.Info().ECParams()),
			pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, point))
	}
	if _, err := connection.Run(t.Context(), token.link,
		func(s *connection.Session) (pkcs11.ObjectHandle, error) { return s.Create(template) }); err != nil {
		t.Fatal(err)
	}
}
