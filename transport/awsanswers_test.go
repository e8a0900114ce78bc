package transport_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestRotationStatusOfEveryKind: for keys that cannot rotate, the status is false (AWS page "Key
// type reference").
func TestRotationStatusOfEveryKind(t *testing.T) {
	f := newFixture(t)
	for _, id := range []string{f.rsa, f.signing, f.mac, f.agreeing, f.encapsulating, f.external, f.waiting,
		f.symmetric} {
		out := ok(f.GetKeyRotationStatus(t.Context(), &kms.GetKeyRotationStatusInput{KeyId: &id}))(t)
		if out.KeyRotationEnabled || out.RotationPeriodInDays != nil || out.NextRotationDate != nil ||
			!strings.HasSuffix(*out.KeyId, id) {
			t.Errorf("%+v", out)
		}
	}
}

// TestUpdateAliasKinds: the new key is of the old one's kind and usage; its KeySpec may be another.
func TestUpdateAliasKinds(t *testing.T) {
	s := newServer(t, options{quantum: true})
	keys := map[string]*types.KeyMetadata{}
	for name, in := range map[string]kms.CreateKeyInput{
		"symmetric": {}, "symmetric 2": {},
		"RSA signing":    {KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY"},
		"P-256 signing":  {KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"},
		"RSA encrypting": {KeySpec: "RSA_2048", KeyUsage: "ENCRYPT_DECRYPT"},
		"P-256 agreeing": {KeySpec: "ECC_NIST_P256", KeyUsage: "KEY_AGREEMENT"},
		"HMAC 256":       {KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"},
		"HMAC 512":       {KeySpec: "HMAC_512", KeyUsage: "GENERATE_VERIFY_MAC"},
		"ML-KEM 512":     {KeySpec: "ML_KEM_512", KeyUsage: "ENCAPSULATE_DECAPSULATE"},
		"ML-KEM 768":     {KeySpec: "ML_KEM_768", KeyUsage: "ENCAPSULATE_DECAPSULATE"},
	} {
		keys[name] = s.makeKey(t, in)
	}
	may := map[[2]string]bool{{"symmetric", "symmetric 2"}: true, {"RSA signing", "P-256 signing"}: true,
		{"HMAC 256", "HMAC 512"}: true, {"ML-KEM 512", "ML-KEM 768"}: true}
	name := aws.String("alias/a")
	for from := range keys {
		for to := range keys {
			ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: keys[from].KeyId}))(t)
			_, err := s.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: name, TargetKeyId: keys[to].KeyId})
			if from == to || may[[2]string{from, to}] || may[[2]string{to, from}] {
				if err != nil {
					t.Errorf("%s to %s: %v", from, to, err)
				}
			} else {
				wantError(t, err, "ValidationException", "*")
			}
			ok(s.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: name}))(t)
		}
	}
}

// TestReplicaIsBeingMade: the answer of ReplicateKey has the state that AWS's has, and no tags when there are none.
func TestReplicaIsBeingMade(t *testing.T) {
	s := newServer(t, options{})
	client, h := s.listen()
	for _, in := range []kms.CreateKeyInput{{MultiRegion: aws.Bool(true)},
		{MultiRegion: aws.Bool(true), Origin: types.OriginTypeExternal}} {
		made := s.makeKey(t, in)
		if in.Origin != "" {
			ok(s.ImportKeyMaterial(t.Context(),
				s.importInput(t, s.Client, *made.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048", randomBytes(32))))(t)
		}
		ok(client.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: made.KeyId,
			ReplicaRegion: aws.String(otherRegion)}))(t)
		var answer struct {
			ReplicaKeyMetadata struct {
				KeyState string
				Enabled  *bool
			}
			ReplicaTags json.RawMessage
		}
		if err := json.Unmarshal([]byte(h.body), &answer); err != nil ||
			answer.ReplicaKeyMetadata.KeyState != "Creating" ||
			answer.ReplicaKeyMetadata.Enabled == nil || *answer.ReplicaKeyMetadata.Enabled ||
			answer.ReplicaTags != nil {
			t.Errorf("%v: %s", err, h.body)
		}
		if after := describe(t, s.client(s.Secret, otherRegion), made.KeyId); after.Enabled != (in.Origin == "") ||
			after.KeyState == "Creating" {
			t.Errorf("%+v", after)
		}
	}
}

// TestRecordedAnswers has answers as AWS gives them, body and all.
func TestRecordedAnswers(t *testing.T) {
	f := newFixture(t)
	off := *f.makeKey(t, kms.CreateKeyInput{KeySpec: "RSA_2048", KeyUsage: "SIGN_VERIFY"}).KeyId
	offMAC := *f.makeKey(t, kms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"}).KeyId
	for _, id := range []string{off, offMAC} {
		ok(f.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}))(t)
	}
	const incorrect = `{"__type":"IncorrectKeyException","message":"The key ID in the request does not identify a CMK that can perform this operation."}`
	disabled := func(id string) string {
		return `{"__type":"DisabledException","message":"arn:verenc:` + account + `:key/` + id + ` is disabled."}`
	}
	for _, test := range []struct {
		name, op string
		in       any
		want     string
	}{
		{"HMAC key for a symmetric ciphertext", "Decrypt",
			&kms.DecryptInput{KeyId: &f.mac, CiphertextBlob: f.sealed}, incorrect},
		{"signing key for a symmetric ciphertext", "Decrypt",
			&kms.DecryptInput{KeyId: &f.signing, CiphertextBlob: f.sealed}, incorrect},
		{"HMAC key as the source", "ReEncrypt",
			&kms.ReEncryptInput{SourceKeyId: &f.mac, DestinationKeyId: &f.symmetric,
				CiphertextBlob: f.sealed}, incorrect},
		{"disabled HMAC key for a symmetric ciphertext", "Decrypt",
			&kms.DecryptInput{KeyId: &offMAC, CiphertextBlob: f.sealed}, disabled(offMAC)},
		{"disabled RSA key", "RotateKeyOnDemand", &kms.RotateKeyOnDemandInput{KeyId: &off}, disabled(off)},
		{"no public key", "DeriveSharedSecret",
			&kms.DeriveSharedSecretInput{KeyId: &f.agreeing, KeyAgreementAlgorithm: "ECDH",
				PublicKey: []byte("nonsense")},
			`{"__type":"ValidationException"}`},
		{"reserved", "CreateAlias", &kms.CreateAliasInput{AliasName: aws.String("alias/aws/s3"),
			TargetKeyId: &f.symmetric}, `{"__type":"NotAuthorizedException"}`},
		{"reserved", "UpdateAlias", &kms.UpdateAliasInput{AliasName: aws.String("alias/aws/s3"),
			TargetKeyId: &f.symmetric}, `{"__type":"NotAuthorizedException"}`},
		{"reserved", "DeleteAlias", &kms.DeleteAliasInput{AliasName: aws.String("alias/aws/s3")},
			`{"__type":"NotAuthorizedException"}`},
		{"colon", "CreateAlias", &kms.CreateAliasInput{AliasName: aws.String("alias/a:b"), TargetKeyId: &f.symmetric},
			`{"__type":"ValidationException","message":"alias/a:b contains invalid characters for an alias"}`},
		{"colon", "UpdateAlias", &kms.UpdateAliasInput{AliasName: aws.String("alias/a:b"), TargetKeyId: &f.symmetric},
			`{"__type":"ValidationException","message":"alias/a:b contains invalid characters for an alias"}`},
	} {
		t.Run(test.op+"/"+test.name, func(t *testing.T) {
			client, h := f.listen()
			if err := invoke(t.Context(), client, test.op, test.in); err == nil || h.body != test.want {
				t.Errorf("%v: %s\nwant %s", err, h.body, test.want)
			}
		})
	}
}
