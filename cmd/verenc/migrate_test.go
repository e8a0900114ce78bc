package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/softhsm"
)

// TestMigrate moves keys into the token under a running server, which has to find the objects that
// another process has made, and out of it again.
func TestMigrate(t *testing.T) {
	s := initialised(t)
	outside := s.with("VERENC_TOKEN_RESIDENCY=wrapped")
	r := outside.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := *made.KeyMetadata.KeyId
	signing, err := client.CreateKey(t.Context(),
		&kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	if out := s.succeeds(t, "doctor", "--reconcile"); !strings.Contains(out, "2 keys in the database") ||
		!strings.Contains(out, "agree") {
		t.Error(out)
	}
	statement := s.succeeds(t, "attest", id)
	a, err := evidence.VerifyAttestation([]byte(statement), s.auditKey(t))
	if err != nil || a.BornInToken() {
		t.Fatalf("%+v, %v", a, err)
	}
	for _, m := range a.Materials {
		if u := m.WrappedUnder; u == nil || !u.Local || !u.NeverExtractable || !u.AlwaysSensitive ||
			len(m.Objects) != 2 || m.Objects[0].Extractable || !m.Objects[0].Sensitive {
			t.Errorf("%+v", m)
		}
	}
	if text := s.succeeds(t, "attest", "--verify", s.write(t, "statement", statement, 0o600), "--key",
		s.auditKey(t)); !strings.Contains(text, "kept outside of the token") {
		t.Error(text)
	}
	sealed, err := client.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, NumberOfBytes: aws.Int32(16)})
	if err != nil {
		t.Fatal(err)
	}
	if out := s.succeeds(t, "key", "migrate", "--all", "--to", "token"); strings.Count(out,
		": 1 materials are in the token now\n") != 2 {
		t.Error(out)
	}
	works := func(client *kms.Client) {
		t.Helper()
		if opened, err := client.Decrypt(t.Context(),
			&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil || len(opened.Plaintext) != 16 {
			t.Errorf("%+v, %v", opened, err)
		}
		if _, err := client.Sign(t.Context(),
			&kms.SignInput{KeyId: signing.KeyMetadata.KeyId, Message: []byte("x"),
				SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}); err != nil {
			t.Error(err)
		}
	}
	works(client)
	r.stop(t)
	r = s.serve(t) // whose index has them from the start
	client = s.sdk(t, "http://"+r.api, http.DefaultClient)
	works(client)

	refused(t, s.run(t, "key", "migrate", id, "--to", "wrapped"), "1 of 1 keys failed")
	if out := outside.run(t, "key", "migrate", id, *signing.KeyMetadata.KeyId, "--to", "wrapped"); out.code == 0 ||
		!strings.Contains(out.stdout, id+": rotated") ||
		!strings.Contains(out.stdout, "never leaves the token") {
		t.Error(out)
	}
	works(client)
	refused(t, s.run(t, "key", "migrate", id), "--to")
	refused(t, s.run(t, "key", "migrate", "--to", "token"), "name keys")
}

// TestMigrateInKeyStore: keys of custom key stores are attested and migrated by commands that connect the store.
func TestMigrateInKeyStore(t *testing.T) {
	s, soft := initialised(t), softhsm.New(t)
	stores := s.write(t, "stores.yaml", "key_stores: [{cluster_id: cluster-22222222222, serial: \""+soft.Serial+
		"\", residency: wrapped}]\n", 0o600)
	there := s.with("VERENC_CONFIG=" + stores)
	r := there.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	store, err := client.CreateCustomKeyStore(t.Context(),
		&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("one"),
			CloudHsmClusterId: aws.String("cluster-22222222222"),
			KeyStorePassword:  &soft.PIN, TrustAnchorCertificate: aws.String("anchor")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ConnectCustomKeyStore(t.Context(),
		&kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store.CustomKeyStoreId}); err != nil {
		t.Fatal(err)
	}
	for {
		d, err := client.DescribeCustomKeyStores(t.Context(),
			&kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: store.CustomKeyStoreId})
		if err != nil || d.CustomKeyStores[0].ConnectionState == types.ConnectionStateTypeFailed {
			t.Fatalf("%+v, %v", d, err)
		}
		if d.CustomKeyStores[0].ConnectionState == types.ConnectionStateTypeConnected {
			break
		}
	}
	made, err := client.CreateKey(t.Context(),
		&kms.CreateKeyInput{CustomKeyStoreId: store.CustomKeyStoreId, Origin: types.OriginTypeAwsCloudhsm})
	if err != nil {
		t.Fatal(err)
	}
	id := *made.KeyMetadata.KeyId
	attested := func() *evidence.Attestation {
		t.Helper()
		a, err := evidence.VerifyAttestation([]byte(there.succeeds(t, "attest", id)), s.auditKey(t))
		if err != nil || a.Token.Serial != soft.Serial {
			t.Fatalf("%+v, %v", a, err)
		}
		return a
	}
	if a := attested(); a.Materials[0].WrappedUnder == nil ||
		a.Materials[0].WrappedUnder.Label != "verenc/service/residency/"+*store.CustomKeyStoreId {
		t.Errorf("%+v", a.Materials)
	}
	if out := there.succeeds(t, "key", "migrate", id, "--to", "token"); !strings.Contains(out,
		id+": 1 materials are in the token now") {
		t.Error(out)
	}
	if a := attested(); a.Materials[0].WrappedUnder != nil ||
		!strings.HasPrefix(a.Materials[0].Objects[0].Label, "verenc/"+id+"/") {
		t.Errorf("%+v", a.Materials)
	}
	if out := s.succeeds(t, "doctor", "--reconcile"); !strings.Contains(out, "agree") {
		t.Error(out)
	}
	r.stop(t)
}
