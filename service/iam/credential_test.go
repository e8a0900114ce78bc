package iam_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

func scopeOf(c *iam.Credential) iam.CredentialScope {
	return iam.CredentialScope{AccessKeyID: c.AccessKeyID, Date: "20260102", Region: region, Service: "kms"}
}

// TestSigningKeys: a secret is opened for the first request of a scope only, and never for a
// disabled access key.
func TestSigningKeys(t *testing.T) {
	sealer := &clearSealer{}
	dir, _ := openDirectory(t, sealer, time.Now)
	created, err := dir.CreateRootAccessKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	for _, wantOpened := range []int{1, 1} {
		who, key, err := dir.Credentials(t.Context(), scopeOf(created), sha256.Sum256)
		if err != nil || who.Principal != "arn:aws:iam::"+account+":root" || who.Account != account ||
			who.Session != nil {
			t.Fatalf("%+v, %v", who, err)
		}
		if key != sha256.Sum256(created.SecretAccessKey) || sealer.opened != wantOpened {
			t.Errorf("derived from another secret, or opened %d times", sealer.opened)
		}
	}
	other := scopeOf(created)
	other.Region = "eu-central-1"
	if _, _, err := dir.Credentials(t.Context(), other, sha256.Sum256); err != nil || sealer.opened != 2 {
		t.Errorf("another scope: %v, opened %d times", err, sealer.opened)
	}
	if err := dir.EnableAccessKey(t.Context(), created.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	none := scopeOf(&iam.Credential{AccessKeyID: "AKIANONE"})
	for _, scope := range []iam.CredentialScope{scopeOf(created), none} {
		_, _, err := dir.Credentials(t.Context(), scope, sha256.Sum256)
		if !errors.Is(err, iam.ErrUnknownCredential) {
			t.Errorf("%s: %v", scope.AccessKeyID, err)
		}
	}
}

// TestForeignSecret: the sealed secret of one access key does not serve another one.
func TestForeignSecret(t *testing.T) {
	dir, db := newDirectory(t)
	created, err := dir.CreateRootAccessKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	row, err := db.AccessKey(t.Context(), created.AccessKeyID)
	if err != nil || bytes.HasPrefix(row.SealedSecret, created.SecretAccessKey) {
		t.Fatalf("%+v, %v", row, err)
	}
	forged := *row
	forged.ID = "AKIAFORGED"
	if err := db.InsertAccessKey(t.Context(), &forged, 2); err != nil {
		t.Fatal(err)
	}
	scope := scopeOf(&iam.Credential{AccessKeyID: forged.ID})
	_, _, err = dir.Credentials(t.Context(), scope, sha256.Sum256)
	if !apierror.Is(err, apierror.Internal) {
		t.Errorf("%v", err)
	}
}
