package iam_test

import (
	"strings"
	"testing"

	"github.com/verenc/kms/service/iam"
)

func TestPrincipals(t *testing.T) {
	dir, db := newDirectory(t)
	user := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/team/", "App"))
	role := createPrincipal(t, dir, plainPrincipal(iam.KindRole, "/", "App")) // users and roles have names of their own
	if !strings.HasPrefix(user.UniqueID, "AIDA") || len(user.UniqueID) != 20 ||
		!strings.HasPrefix(role.UniqueID, "AROA") || role.MaxSession != 3600 || user.CreatedAt.IsZero() {
		t.Errorf("%+v, %+v", user, role)
	}
	_, err := dir.CreatePrincipal(t.Context(), plainPrincipal(iam.KindUser, "/other/", "aPP"))
	wantWords(t, err, "user aPP exists already, as "+user.ARN, "verenc apply")
	_, err = dir.CreatePrincipal(t.Context(), plainPrincipal(iam.KindUser, "/", "a b"))
	wantWords(t, err, "user a b: name: ")
	if found, err := dir.FindPrincipal(t.Context(), account, iam.KindUser, "App"); err != nil || found.ARN != user.ARN {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = dir.FindPrincipal(t.Context(), account, iam.KindUser, "other")
	wantWords(t, err, "there is no user other in account "+account, "verenc user list")

	changed := plainPrincipal(iam.KindUser, "/team/", "App")
	changed.Policies = map[string]string{"a": identityText}
	if err := dir.UpdatePrincipal(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Principal(t.Context(), user.ARN); err != nil || got.UniqueID != user.UniqueID ||
		!got.CreatedAt.Equal(user.CreatedAt) || len(got.Policies) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	changed.Policies["a"] = "{"
	wantWords(t, dir.UpdatePrincipal(t.Context(), changed), "policies.a")
	wantWords(t, dir.UpdatePrincipal(t.Context(), plainPrincipal(iam.KindUser, "/", "none")), "deleted meanwhile")

	if err := dir.DeletePrincipal(t.Context(), user.ARN); err != nil {
		t.Error(err)
	}
	wantWords(t, dir.DeletePrincipal(t.Context(), user.ARN), "there is no "+user.ARN)
	again := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/team/", "App"))
	if again.UniqueID == user.UniqueID {
		t.Error("the unique id was used again")
	}
}

// TestIsMissing: of accounts whose principals are stored here, those that are not stored are missing.
func TestIsMissing(t *testing.T) {
	dir, _ := newDirectory(t)
	user := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app"))
	role := createPrincipal(t, dir, plainPrincipal(iam.KindRole, "/team/", "auditor"))
	const withRoot, unknown = "444455556666", "777788889999"
	if _, err := dir.CreateRootAccessKey(t.Context(), withRoot); err != nil {
		t.Fatal(err)
	}
	for principal, want := range map[string]bool{
		user.ARN:       false,
		user.ARN + "x": true,
		role.ARN:       false,
		"arn:aws:iam::" + account + ":role/auditor":              true, // its path is /team/
		"arn:aws:sts::" + account + ":assumed-role/auditor/work": false,
		"arn:aws:sts::" + account + ":assumed-role/auditor":      true,
		"arn:aws:sts::" + account + ":assumed-role/app/work":     true,
		"arn:aws:iam::" + withRoot + ":user/app":                 true,
		"arn:aws:iam::" + unknown + ":user/app":                  false,
		"arn:aws:iam::" + account + ":root":                      false,
		"kms.amazonaws.com":                                      false,
		"*":                                                      false,
	} {
		if missing, err := dir.IsMissing(t.Context(), account, principal); err != nil || missing != want {
			t.Errorf("%s: %v, %v", principal, missing, err)
		}
	}
	if missing, err := dir.IsMissing(t.Context(), unknown,
		"arn:aws:iam::"+unknown+":user/app"); err != nil || !missing {
		t.Errorf("in the account that is asked about: %v, %v", missing, err)
	}
}
