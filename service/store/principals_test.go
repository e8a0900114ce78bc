package store

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

const (
	userARN = "arn:aws:iam::" + account + ":user/team/app"
	roleARN = "arn:aws:iam::" + account + ":role/auditor"
)

func newPrincipal(arn string) *iam.Principal {
	p := &iam.Principal{ARN: arn, Account: account, Kind: iam.KindUser, CreatedAt: t0,
		PrincipalDetails: iam.PrincipalDetails{
			Name: arn[strings.LastIndex(arn, "/")+1:], UniqueID: "AIDAAAAAAAAAAAAAAAAA",
			Tags:     map[string]string{"команда": "'blue' \x00"},
			Policies: map[string]string{"p": "{\n}"}, Boundary: "{ }", MaxSession: 3600}}
	if strings.Contains(arn, ":role/") {
		p.Kind, p.Trust = iam.KindRole, "{}"
	}
	return p
}

func newAccessKey(id, principal string) *iam.AccessKey {
	return &iam.AccessKey{ID: id, Account: account, PrincipalARN: principal, SealedSecret: []byte{0, 1, 255},
		Enabled: true, CreatedAt: t0}
}

func same[T any](t *testing.T, want T) func(T, error) {
	return func(got T, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v, %v\nwant %+v", got, err, want)
		}
	}
}

func gone[T any](t *testing.T) func(T, error) {
	return func(_ T, err error) {
		t.Helper()
		wantError(t, err, service.ErrNoRow)
	}
}

func testPrincipal(t *testing.T, s service.Store) {
	user, role := newPrincipal(userARN), newPrincipal(roleARN)
	gone[*iam.Principal](t)(s.Principal(ctx, userARN))
	same[[]*iam.Principal](t, nil)(s.Principals(ctx))
	must(t, s.PutPrincipal(ctx, user))
	must(t, s.PutPrincipal(ctx, role))
	for range 2 { // from the file, and from memory
		same(t, user)(s.Principal(ctx, userARN))
	}
	same(t, []*iam.Principal{role, user})(s.Principals(ctx))

	changed := newPrincipal(userARN)
	changed.CreatedAt, changed.Policies, changed.Tags = t0.Add(time.Hour), nil, map[string]string{"a": "b"}
	must(t, s.PutPrincipal(ctx, changed))
	changed.CreatedAt = t0 // only details are replaced
	same(t, changed)(s.Principal(ctx, userARN))
	same(t, []*iam.Principal{role, changed})(s.Principals(ctx))
}

func testRemovePrincipal(t *testing.T, s service.Store) {
	wantError(t, s.RemovePrincipal(ctx, userARN), service.ErrNoRow)
	must(t, s.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, s.PutPrincipal(ctx, newPrincipal(roleARN)))
	mine, theirs := newAccessKey("AKIAMINE", userARN), newAccessKey("AKIATHEIRS", roleARN)
	must(t, s.InsertAccessKey(ctx, mine, 2))
	must(t, s.InsertAccessKey(ctx, theirs, 2))
	must(t, s.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{{ID: mine.ID, At: t0, Region: region, Service: "kms"}}))
	must(t, s.PutCertificate(ctx, &iam.Certificate{Name: "aa", PrincipalARN: userARN, CreatedAt: t0}))
	must(t, s.PutCertificate(ctx, &iam.Certificate{Name: "bb", PrincipalARN: roleARN, CreatedAt: t0}))
	same(t, mine)(s.AccessKey(ctx, mine.ID)) // now they are in memory
	_, err := s.Certificate(ctx, "aa")
	must(t, err)
	_, err = s.Principal(ctx, userARN)
	must(t, err)

	must(t, s.RemovePrincipal(ctx, userARN))
	gone[*iam.Principal](t)(s.Principal(ctx, userARN))
	gone[*iam.AccessKey](t)(s.AccessKey(ctx, mine.ID))
	gone[*iam.AccessKeyUse](t)(s.LastAccessKeyUse(ctx, mine.ID))
	gone[*iam.Certificate](t)(s.Certificate(ctx, "aa"))
	same(t, theirs)(s.AccessKey(ctx, theirs.ID))
	if c, err := s.Certificate(ctx, "bb"); err != nil || c.PrincipalARN != roleARN {
		t.Errorf("another's certificate: %+v, %v", c, err)
	}
	wantError(t, s.RemovePrincipal(ctx, userARN), service.ErrNoRow)
}

func testAccessKeyOfUser(t *testing.T, s service.Store) {
	first, second := newAccessKey("AKIA1", userARN), newAccessKey("AKIA2", userARN)
	wantError(t, s.InsertAccessKey(ctx, first, 2), service.ErrNoRow)
	must(t, s.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, s.InsertAccessKey(ctx, second, 2))
	must(t, s.InsertAccessKey(ctx, first, 2))
	wantError(t, s.InsertAccessKey(ctx, newAccessKey("AKIA3", userARN), 2), service.ErrLimit)
	gone[*iam.AccessKey](t)(s.AccessKey(ctx, "AKIA3"))
	same(t, []*iam.AccessKey{first, second})(s.AccessKeys(ctx, userARN))
	same[[]*iam.AccessKey](t, nil)(s.AccessKeys(ctx, roleARN))
	for _, id := range []string{"AKIA4", "AKIA5", "AKIA6"} { // of root, which is not stored and has no limit
		must(t, s.InsertAccessKey(ctx, newAccessKey(id, "arn:aws:iam::"+account+":root"), 2))
	}
	foreign := newAccessKey("AKIA7", "arn:aws:iam::444455556666:root")
	wantError(t, s.InsertAccessKey(ctx, foreign, 2), service.ErrNoRow)

	same(t, first)(s.AccessKey(ctx, first.ID))
	must(t, s.EnableAccessKey(ctx, first.ID, false))
	disabled := *first
	disabled.Enabled = false
	same(t, &disabled)(s.AccessKey(ctx, first.ID))
	must(t, s.EnableAccessKey(ctx, first.ID, true))
	same(t, first)(s.AccessKey(ctx, first.ID))
	wantError(t, s.EnableAccessKey(ctx, "none", true), service.ErrNoRow)

	must(t, s.RemoveAccessKey(ctx, first.ID))
	gone[*iam.AccessKey](t)(s.AccessKey(ctx, first.ID))
	wantError(t, s.RemoveAccessKey(ctx, first.ID), service.ErrNoRow)
	must(t, s.InsertAccessKey(ctx, first, 2)) // there is room again
}

func testAccessKeyUse(t *testing.T, s service.Store) {
	must(t, s.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, s.InsertAccessKey(ctx, newAccessKey("AKIA1", userARN), 2))
	gone[*iam.AccessKeyUse](t)(s.LastAccessKeyUse(ctx, "AKIA1"))
	use := func(after time.Duration, of string) iam.AccessKeyUse {
		return iam.AccessKeyUse{ID: "AKIA1", At: t0.Add(after), Region: region, Service: of}
	}
	absent := use(0, "kms")
	absent.ID = "none"
	must(t, s.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{absent, use(time.Hour, "kms")}))
	gone[*iam.AccessKeyUse](t)(s.LastAccessKeyUse(ctx, "none"))
	last := use(time.Hour, "kms")
	same(t, &last)(s.LastAccessKeyUse(ctx, "AKIA1"))
	must(t, s.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{use(0, "sts")})) // older
	same(t, &last)(s.LastAccessKeyUse(ctx, "AKIA1"))
	last = use(2*time.Hour, "sts")
	must(t, s.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{last}))
	same(t, &last)(s.LastAccessKeyUse(ctx, "AKIA1"))
}

func testCertificate(t *testing.T, s service.Store) {
	first := &iam.Certificate{Name: strings.Repeat("ab", 32), PrincipalARN: userARN, CreatedAt: t0}
	gone[*iam.Certificate](t)(s.Certificate(ctx, first.Name))
	must(t, s.PutCertificate(ctx, first))
	for range 2 {
		same(t, first)(s.Certificate(ctx, first.Name))
	}
	second := &iam.Certificate{Name: strings.Repeat("0b", 32), PrincipalARN: userARN, CreatedAt: t0}
	must(t, s.PutCertificate(ctx, second))
	same(t, []*iam.Certificate{second, first})(s.Certificates(ctx))

	moved := *first
	moved.PrincipalARN, moved.CreatedAt = roleARN, t0.Add(time.Hour)
	must(t, s.PutCertificate(ctx, &moved))
	moved.CreatedAt = t0 // only the principal is replaced
	same(t, &moved)(s.Certificate(ctx, first.Name))

	must(t, s.RemoveCertificate(ctx, first.Name))
	gone[*iam.Certificate](t)(s.Certificate(ctx, first.Name))
	wantError(t, s.RemoveCertificate(ctx, first.Name), service.ErrNoRow)
	same(t, []*iam.Certificate{second})(s.Certificates(ctx))
}

// TestOtherProcessChangesPrincipals: what another process does to principals is seen within a second.
func TestOtherProcessChangesPrincipals(t *testing.T) { onBoth(t, testOtherProcessChangesPrincipals) }

func testOtherProcessChangesPrincipals(t *testing.T, database string) {
	ours, theirs := open(t, database, true), open(t, database, false)
	must(t, theirs.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, theirs.InsertAccessKey(ctx, newAccessKey("AKIA1", userARN), 2))
	must(t, theirs.PutCertificate(ctx, &iam.Certificate{Name: "aa", PrincipalARN: userARN, CreatedAt: t0}))
	seen := func() (user *iam.Principal, enabled, mapped bool) {
		user, err := ours.Principal(ctx, userARN)
		must(t, err)
		key, err := ours.AccessKey(ctx, "AKIA1")
		must(t, err)
		_, err = ours.Certificate(ctx, "aa")
		return user, key.Enabled, err == nil
	}
	if user, enabled, mapped := seen(); len(user.Policies) != 1 || !enabled || !mapped {
		t.Fatalf("%+v, %v, %v", user, enabled, mapped)
	}
	changed := newPrincipal(userARN)
	changed.Policies = nil
	must(t, theirs.PutPrincipal(ctx, changed))
	must(t, theirs.EnableAccessKey(ctx, "AKIA1", false))
	must(t, theirs.RemoveCertificate(ctx, "aa"))
	deadline := time.Now().Add(time.Minute) // far more than promised, so that a slow machine doesn't fail
	for {
		if user, enabled, mapped := seen(); len(user.Policies) == 0 && !enabled && !mapped {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
	}
}
