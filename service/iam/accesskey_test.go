package iam_test

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
)

func TestAccessKeysOfUser(t *testing.T) {
	dir, db := newDirectory(t)
	_, err := dir.CreateAccessKey(t.Context(), account, iam.PrincipalARN(account, iam.KindUser, "/", "app"))
	wantWords(t, err, "create the user first")
	user := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app"))
	_, _, err = dir.RotateAccessKey(t.Context(), user, iam.Lifetime{})
	wantWords(t, err, "has no access key to rotate", "verenc access-key create")
	first, err := dir.CreateAccessKey(t.Context(), account, user.ARN)
	if err != nil {
		t.Fatal(err)
	}
	second, old, err := dir.RotateAccessKey(t.Context(), user, iam.Lifetime{})
	if err != nil || old != first.AccessKeyID || second.AccessKeyID == old ||
		bytes.Equal(second.SecretAccessKey, first.SecretAccessKey) {
		t.Fatalf("%s, %v", old, err)
	}
	_, err = dir.CreateAccessKey(t.Context(), account, user.ARN)
	wantWords(t, err, "has 2 access keys already", "delete one first")
	_, _, err = dir.RotateAccessKey(t.Context(), user, iam.Lifetime{})
	wantWords(t, err, "has 2 access keys already", "delete the unused one")

	if err := dir.EnableAccessKey(t.Context(), old, false); err != nil {
		t.Error(err)
	}
	use := iam.AccessKeyUse{ID: second.AccessKeyID, At: time.Unix(1, 0).UTC(), Region: region, Service: "kms"}
	if err := db.RecordAccessKeyUses(t.Context(), []iam.AccessKeyUse{use}); err != nil {
		t.Fatal(err)
	}
	all, err := dir.AccessKeys(t.Context(), user.ARN)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, k := range all {
		if isFirst := k.ID == old; k.Enabled == isFirst || (k.LastUse == nil) != isFirst ||
			!isFirst && !reflect.DeepEqual(*k.LastUse, use) {
			t.Errorf("%+v, last %+v", k.AccessKey, k.LastUse)
		}
	}
	if err := dir.DeleteAccessKey(t.Context(), old); err != nil {
		t.Error(err)
	}
	wantWords(t, dir.DeleteAccessKey(t.Context(), old), "there is no access key "+old)
	wantWords(t, dir.EnableAccessKey(t.Context(), old, true), "verenc access-key list")
}

// TestAccessKeyEnds: an access key ends when it is told to, and no later than its user's rules say.
func TestAccessKeyEnds(t *testing.T) {
	dir, db := newDirectory(t)
	free := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "free"))
	bound := plainPrincipal(iam.KindUser, "/", "bound")
	bound.AccessKeyDays = 90
	createPrincipal(t, dir, bound)
	day := 24 * time.Hour
	for _, test := range []struct {
		principal    string
		wanted, want time.Duration // after now; 0: never
		words        string
	}{
		{free.ARN, 0, 0, ""},
		{free.ARN, day, day, ""},
		{free.ARN, -day, 0, "would expire at 2026-01-01T03:04:05Z, which is over"},
		{bound.ARN, 0, 90 * day, ""},
		{bound.ARN, 30 * day, 30 * day, ""},
		{bound.ARN, 91 * day, 0, "access keys of " + bound.ARN + " last 90 days at most"},
	} {
		var expires time.Time
		if test.wanted != 0 {
			expires = t0.Add(test.wanted)
		}
		created, err := dir.CreateAccessKeyFor(t.Context(), account, test.principal, iam.Lifetime{Until: expires})
		if test.words != "" {
			wantWords(t, err, test.words)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		k, err := db.AccessKey(t.Context(), created.AccessKeyID)
		if err != nil || k.ExpiresAt.IsZero() != (test.want == 0) ||
			test.want != 0 && !k.ExpiresAt.Equal(t0.Add(test.want)) {
			t.Errorf("%+v: %v, %v", test, k.ExpiresAt, err)
		}
		if err := dir.DeleteAccessKey(t.Context(), created.AccessKeyID); err != nil {
			t.Error(err)
		}
	}
	if _, err := dir.CreateRootAccessKey(t.Context(), account); err != nil {
		t.Error(err)
	}
	wrong := plainPrincipal(iam.KindRole, "/", "role")
	wrong.AccessKeyDays = 90
	_, err := dir.CreatePrincipal(t.Context(), wrong)
	wantWords(t, err, "access_key_days", "only users have access keys")
	bound.AccessKeyDays = 4000
	wantWords(t, dir.UpdatePrincipal(t.Context(), bound), "access_key_days", "4000 is not 0 to 3650 days")
}
