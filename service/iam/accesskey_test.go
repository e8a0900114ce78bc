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
	_, _, err = dir.RotateAccessKey(t.Context(), user)
	wantWords(t, err, "has no access key to rotate", "verenc access-key create")
	first, err := dir.CreateAccessKey(t.Context(), account, user.ARN)
	if err != nil {
		t.Fatal(err)
	}
	second, old, err := dir.RotateAccessKey(t.Context(), user)
	if err != nil || old != first.AccessKeyID || second.AccessKeyID == old ||
		bytes.Equal(second.SecretAccessKey, first.SecretAccessKey) {
		t.Fatalf("%s, %v", old, err)
	}
	_, err = dir.CreateAccessKey(t.Context(), account, user.ARN)
	wantWords(t, err, "has 2 access keys already", "delete one first")
	_, _, err = dir.RotateAccessKey(t.Context(), user)
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
