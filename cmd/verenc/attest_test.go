package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service/evidence"
)

// importedKey makes a key whose material the client has imported.
func importedKey(t *testing.T, client *kms.Client) string {
	t.Helper()
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if err != nil {
		t.Fatal(err)
	}
	id := made.KeyMetadata.KeyId
	p, err := client.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	material := bytes.Repeat([]byte{7}, 32)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.ImportKeyMaterial(t.Context(), &kms.ImportKeyMaterialInput{
		KeyId: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped,
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	if err != nil {
		t.Fatal(err)
	}
	return *id
}

func TestAttest(t *testing.T) {
	s := initialised(t)
	r := s.serve(t) // attest works while a server runs
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id, arn := *made.KeyMetadata.KeyId, *made.KeyMetadata.Arn
	if _, err := client.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	alias := &kms.CreateAliasInput{AliasName: aws.String("alias/attested"), TargetKeyId: &id}
	if _, err := client.CreateAlias(t.Context(), alias); err != nil {
		t.Fatal(err)
	}
	policy, err := client.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
	key := s.auditKey(t)
	statement := func(name string) *evidence.Attestation {
		t.Helper()
		a, err := evidence.VerifyAttestation([]byte(s.succeeds(t, "attest", name)), key)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for _, name := range []string{id, arn, "alias/attested", "arn:aws:kms:us-east-1:111122223333:alias/attested"} {
		a := statement(name)
		sum := sha256.Sum256([]byte(*policy.Policy))
		want := evidence.AttestedKey{
			ID: id, ARN: arn, Account: "111122223333", Region: "us-east-1", Spec: "SYMMETRIC_DEFAULT",
			Usage: "ENCRYPT_DECRYPT", Origin: "AWS_KMS", State: "Enabled", CreatedAt: a.Key.CreatedAt.UTC(),
			PolicySHA256: hex.EncodeToString(sum[:]),
		}
		if a.Key != want {
			t.Errorf("%s: %+v, want %+v", name, a.Key, want)
		}
		i := a.Token
		if i.Label != s.soft.Label || i.Serial != s.soft.Serial || i.Manufacturer == "" || i.Model == "" {
			t.Errorf("%+v", i)
		}
		if !a.BornInToken() || len(a.Materials) != 2 || a.Materials[0].Current || !a.Materials[1].Current ||
			a.Materials[1].RotationType != "ON_DEMAND" {
			t.Errorf("%+v", a.Materials)
		}
		for _, m := range a.Materials {
			if len(m.Objects) != 2 {
				t.Errorf("material %d: %+v", m.Ordinal, m.Objects)
			}
			for _, o := range m.Objects {
				if !o.Local || !o.NeverExtractable || !o.AlwaysSensitive || !o.Sensitive || o.Extractable ||
					o.Mechanism != "CKM_AES_KEY_GEN" || o.KeyType != "CKK_AES" ||
					!strings.HasPrefix(o.Label, "verenc/"+id+"/") || !strings.HasSuffix(o.Label, "/"+string(o.Role)) {
					t.Errorf("%+v", o)
				}
			}
		}
	}
	signing, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify,
	})
	if err != nil {
		t.Fatal(err)
	}
	a := statement(*signing.KeyMetadata.KeyId)
	if o := a.Materials[0].Objects[0]; !a.BornInToken() || len(a.Key.PublicKeySHA256) != 64 ||
		o.Mechanism != "CKM_EC_KEY_PAIR_GEN" {
		t.Errorf("%+v", a)
	}
	imported := importedKey(t, client)
	a = statement(imported)
	if o := a.Materials[0].Objects[0]; a.BornInToken() || a.Key.Origin != "EXTERNAL" || o.Local || o.Mechanism != "" {
		t.Errorf("an imported key: %+v", a)
	}

	t.Run("offline", func(t *testing.T) {
		file := s.write(t, "statement", s.succeeds(t, "attest", id), 0o600)
		nobody := &site{soft: s.soft, dir: t.TempDir()} // no configuration, no token, no database
		text := nobody.succeeds(t, "attest", "--verify", file, "--key", key)
		for _, want := range []string{
			arn, "LOCAL true", "NEVER_EXTRACTABLE true", "CKM_AES_KEY_GEN", s.soft.Serial,
			"all of its material was made in the token",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in:\n%s", want, text)
			}
		}
		external := s.write(t, "imported", s.succeeds(t, "attest", imported), 0o600)
		text = nobody.succeeds(t, "attest", "--verify", external, "--key", key)
		if !strings.Contains(text, "LOCAL false") || !strings.Contains(text, "does not say that all of its material") {
			t.Error(text)
		}
		refused(t, nobody.run(t, "attest", "--verify", file), "needs --key")
		refused(t, nobody.run(t, "attest", "--verify", file, "--key", initialised(t).auditKey(t)), "verify attestation")
		forged := strings.Replace(read(t, external), `"Local": false`, `"Local": true`, 1)
		changed := s.write(t, "changed", forged, 0o600)
		refused(t, nobody.run(t, "attest", "--verify", changed, "--key", key), "verify attestation")
	})
	t.Run("every byte", func(t *testing.T) {
		signed := []byte(s.succeeds(t, "attest", id))
		for i := range signed {
			changed := bytes.Clone(signed)
			changed[i] ^= 1
			if a, err := evidence.VerifyAttestation(changed, key); err == nil {
				t.Errorf("byte %d (%q) can be changed: %+v", i, signed[max(0, i-5):i+1], a)
			}
		}
	})
	t.Run("not a checkpoint", func(t *testing.T) {
		checkpoint, err := os.ReadFile(filepath.Join(s.path("audit"), "checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = evidence.VerifyAttestation(checkpoint, key)
		if err == nil || !strings.Contains(err.Error(), "no attestation") {
			t.Errorf("a checkpoint passes for an attestation: %v", err)
		}
	})
	refused(t, s.run(t, "attest", "alias/nobody"), "find key alias/nobody")
	refused(t, s.run(t, "attest", id, "--region", "eu-west-1"), "find key "+id)
	refused(t, s.run(t, "attest"), "name a key")
	refused(t, s.with("VERENC_AUDIT_DIR=none").run(t, "attest", id), "audit.dir is none")
}

// TestReadSigned: a file that has more than any statement is refused, not read to its end.
func TestReadSigned(t *testing.T) {
	path := filepath.Join(t.TempDir(), "statement")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(maxSignedFile), f.Close()) // without a byte on the disk
	}
	if err != nil {
		t.Fatal(err)
	}
	if signed, err := readSigned(path); err != nil || len(signed) != maxSignedFile {
		t.Errorf("%d bytes, %v", len(signed), err)
	}
	if err := os.Truncate(path, maxSignedFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := readSigned(path); err == nil || !strings.Contains(err.Error(), "has more than") {
		t.Error(err)
	}
}
