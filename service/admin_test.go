package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

// clearToken seals nothing: the tests here are of what is stored about access keys, not of how.
type clearToken struct{ service.Token }

func (clearToken) Encrypt(_ context.Context, _ hsm.Key, plaintext, _ []byte) ([]byte, error) {
	return slices.Clone(plaintext), nil
}

// administered is a service on an empty database.
func administered(t *testing.T) (*service.Service, *store.DB) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := service.New(service.Config{Audit: record.NoAudit, Store: db, Token: clearToken{}, Log: zap.NewNop(), Now: func() time.Time { return now }})
	if err == nil {
		err = s.InitServiceObjects(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s, db
}

const (
	identityText = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`
	trustText    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}}`
)

func plainPrincipal(kind service.PrincipalKind, path, name string) *service.Principal {
	p := &service.Principal{ARN: service.PrincipalARN(account, kind, path, name), Account: account, Kind: kind, PrincipalDetails: service.PrincipalDetails{Name: name}}
	if kind == service.KindRole {
		p.Trust = trustText
	}
	return p
}

func createPrincipal(t *testing.T, s *service.Service, p *service.Principal) *service.Principal {
	t.Helper()
	created, err := s.CreatePrincipal(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return created
}

// wantWords checks that an error says all of it.
func wantWords(t *testing.T, err error, words ...string) {
	t.Helper()
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%q is not in: %v", w, err)
		}
	}
}

func TestProblems(t *testing.T) {
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = identityText
	}
	long := `{"Statement":{"Effect":"Allow","Action":"kms:` + strings.Repeat("x", 6144) + `","Resource":"*"}}`
	for _, test := range []struct {
		field, words string
		role         bool
		change       func(*service.Principal)
	}{
		{"account", "12 digits", false, func(p *service.Principal) { p.Account = "1" }},
		{"name", "1 to 64", false, func(p *service.Principal) { p.Name = strings.Repeat("a", 65) }},
		{"name", "1 to 64", false, func(p *service.Principal) { p.Name = "" }},
		{"name", "1 to 64", false, func(p *service.Principal) { p.Name = "a*" }},
		{"name", "1 to 64", false, func(p *service.Principal) { p.Name = "a/b" }},
		{"path", "begin and end with /", false, func(p *service.Principal) { p.ARN = "arn:aws:iam::" + account + ":user/a:b/app" }},
		{"path", "begin and end with /", false, func(p *service.Principal) { p.ARN = "arn:aws:iam::" + account + ":user//app" }},
		{"path", "begin and end with /", false, func(p *service.Principal) { p.ARN = "arn:aws:iam::" + account + ":role/app" }},
		{"path", "512 characters", false, func(p *service.Principal) {
			p.ARN = "arn:aws:iam::" + account + ":user/" + strings.Repeat("a", 511) + "/app"
		}},
		{"tags", "51 are more than 50", false, func(p *service.Principal) {
			p.Tags = map[string]string{}
			for k := range many {
				p.Tags[k] = ""
			}
		}},
		{"tags.", "the key is not 1 to 128", false, func(p *service.Principal) { p.Tags = map[string]string{"": ""} }},
		{"tags.a!", "the key is not 1 to 128", false, func(p *service.Principal) { p.Tags = map[string]string{"a!": ""} }},
		{"tags.AWS:a", "reserved", false, func(p *service.Principal) { p.Tags = map[string]string{"AWS:a": ""} }},
		{"tags.a", "differs from A in case only", false, func(p *service.Principal) { p.Tags = map[string]string{"a": "", "A": ""} }},
		{"tags.a", "the value is not up to 256", false, func(p *service.Principal) { p.Tags = map[string]string{"a": strings.Repeat("ü", 257)} }},
		{"policies", "51 are more than 20", false, func(p *service.Principal) { p.Policies = many }},
		{"policies.a b", "the name is not", false, func(p *service.Principal) { p.Policies = map[string]string{"a b": identityText} }},
		{"policies.a", "Syntax errors", false, func(p *service.Principal) { p.Policies = map[string]string{"a": ""} }},
		{"policies.a", "Principal", false, func(p *service.Principal) { p.Policies = map[string]string{"a": trustText} }},
		{"policies.a", "6144 are the most", false, func(p *service.Principal) { p.Policies = map[string]string{"a": long} }},
		{"boundary", "Syntax errors", false, func(p *service.Principal) { p.Boundary = "{" }},
		{"trust", "only roles", false, func(p *service.Principal) { p.Trust = trustText }},
		{"trust", "needs a trust policy", true, func(p *service.Principal) { p.Trust = "" }},
		{"trust", "no principal", true, func(p *service.Principal) { p.Trust = identityText }},
		{"max_session", "only roles", false, func(p *service.Principal) { p.MaxSession = 3600 }},
		{"max_session", "3600 to 43200", true, func(p *service.Principal) { p.MaxSession = 3599 }},
		{"max_session", "3600 to 43200", true, func(p *service.Principal) { p.MaxSession = 43201 }},
	} {
		kind := service.KindUser
		if test.role {
			kind = service.KindRole
		}
		p := plainPrincipal(kind, "/a/", "app")
		if all := p.Problems(); all != nil {
			t.Fatalf("before: %v", all)
		}
		test.change(p)
		all := p.Problems()
		if !slices.ContainsFunc(all, func(x service.Problem) bool { return x.Field == test.field && strings.Contains(x.Text, test.words) }) {
			t.Errorf("%s %q: %v", test.field, test.words, all)
		}
	}
	p := plainPrincipal(service.KindUser, "/", "Zz0_+=,.@-")
	p.Tags = map[string]string{"Größe: a/b=c+d-@_.": strings.Repeat("ü", 256)}
	p.Policies = map[string]string{"spaces": strings.Repeat(" ", 20000) + identityText}
	if all := p.Problems(); all != nil {
		t.Errorf("what may be: %v", all)
	}
}

func TestPrincipals(t *testing.T) {
	s, db := administered(t)
	user := createPrincipal(t, s, plainPrincipal(service.KindUser, "/team/", "App"))
	role := createPrincipal(t, s, plainPrincipal(service.KindRole, "/", "App")) // users and roles are apart
	if !strings.HasPrefix(user.UniqueID, "AIDA") || len(user.UniqueID) != 20 || !strings.HasPrefix(role.UniqueID, "AROA") || role.MaxSession != 3600 || user.CreatedAt.IsZero() {
		t.Errorf("%+v, %+v", user, role)
	}
	_, err := s.CreatePrincipal(t.Context(), plainPrincipal(service.KindUser, "/other/", "aPP"))
	wantWords(t, err, "user aPP is there already, as "+user.ARN, "verenc apply")
	_, err = s.CreatePrincipal(t.Context(), plainPrincipal(service.KindUser, "/", "a b"))
	wantWords(t, err, "user a b: name: ")
	if found, err := s.FindPrincipal(t.Context(), account, service.KindUser, "App"); err != nil || found.ARN != user.ARN {
		t.Errorf("%+v, %v", found, err)
	}
	_, err = s.FindPrincipal(t.Context(), account, service.KindUser, "other")
	wantWords(t, err, "there is no user other in account "+account, "verenc user list")

	changed := plainPrincipal(service.KindUser, "/team/", "App")
	changed.Policies = map[string]string{"a": identityText}
	if err := s.UpdatePrincipal(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	if got, err := db.Principal(t.Context(), user.ARN); err != nil || got.UniqueID != user.UniqueID || !got.CreatedAt.Equal(user.CreatedAt) || len(got.Policies) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	changed.Policies["a"] = "{"
	wantWords(t, s.UpdatePrincipal(t.Context(), changed), "policies.a")
	wantWords(t, s.UpdatePrincipal(t.Context(), plainPrincipal(service.KindUser, "/", "none")), "removed meanwhile")

	if err := s.DeletePrincipal(t.Context(), user.ARN); err != nil {
		t.Error(err)
	}
	wantWords(t, s.DeletePrincipal(t.Context(), user.ARN), "there is no "+user.ARN)
	again := createPrincipal(t, s, plainPrincipal(service.KindUser, "/team/", "App"))
	if again.UniqueID == user.UniqueID {
		t.Error("the unique id was used again")
	}
}

func TestAccessKeysOfUser(t *testing.T) {
	s, db := administered(t)
	_, err := s.CreateAccessKey(t.Context(), account, service.PrincipalARN(account, service.KindUser, "/", "app"))
	wantWords(t, err, "create the user first")
	user := createPrincipal(t, s, plainPrincipal(service.KindUser, "/", "app"))
	_, _, err = s.RotateAccessKey(t.Context(), user)
	wantWords(t, err, "has no access key to rotate", "verenc access-key create")
	first, err := s.CreateAccessKey(t.Context(), account, user.ARN)
	if err != nil {
		t.Fatal(err)
	}
	second, old, err := s.RotateAccessKey(t.Context(), user)
	if err != nil || old != first.AccessKeyID || second.AccessKeyID == old || bytes.Equal(second.SecretAccessKey, first.SecretAccessKey) {
		t.Fatalf("%s, %v", old, err)
	}
	_, err = s.CreateAccessKey(t.Context(), account, user.ARN)
	wantWords(t, err, "has 2 access keys already", "delete one first")
	_, _, err = s.RotateAccessKey(t.Context(), user)
	wantWords(t, err, "has 2 access keys already", "delete the one that is out of use")

	if err := s.EnableAccessKey(t.Context(), old, false); err != nil {
		t.Error(err)
	}
	use := service.AccessKeyUse{ID: second.AccessKeyID, At: time.Unix(1, 0).UTC(), Region: region, Service: "kms"}
	if err := db.RecordAccessKeyUses(t.Context(), []service.AccessKeyUse{use}); err != nil {
		t.Fatal(err)
	}
	all, err := s.AccessKeys(t.Context(), user.ARN)
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for _, k := range all {
		if isFirst := k.ID == old; k.Enabled == isFirst || (k.LastUse == nil) != isFirst || !isFirst && !reflect.DeepEqual(*k.LastUse, use) {
			t.Errorf("%+v, last %+v", k.AccessKey, k.LastUse)
		}
	}
	if err := s.DeleteAccessKey(t.Context(), old); err != nil {
		t.Error(err)
	}
	wantWords(t, s.DeleteAccessKey(t.Context(), old), "there is no access key "+old)
	wantWords(t, s.EnableAccessKey(t.Context(), old, true), "verenc access-key list")
}

func TestCertificatesOfUser(t *testing.T) {
	s, _ := administered(t)
	app, other := createPrincipal(t, s, plainPrincipal(service.KindUser, "/", "app")), createPrincipal(t, s, plainPrincipal(service.KindUser, "/", "other"))
	fingerprint, err := service.ParseFingerprint(strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
	if err != nil || fingerprint != strings.Repeat("ab", 32) {
		t.Fatal(fingerprint, err)
	}
	for _, text := range []string{"", "ab", strings.Repeat("xy", 32), strings.Repeat("ab", 33)} {
		_, err := service.ParseFingerprint(text)
		wantWords(t, err, "is not the SHA-256 of a certificate", "openssl x509")
	}
	for range 2 {
		if err := s.MapCertificate(t.Context(), fingerprint, app); err != nil {
			t.Error(err)
		}
	}
	wantWords(t, s.MapCertificate(t.Context(), fingerprint, other), "is mapped to "+app.ARN+" already", "unmap "+fingerprint)
	if all, err := s.Certificates(t.Context()); err != nil || len(all) != 1 || all[0].PrincipalARN != app.ARN {
		t.Errorf("%v, %v", all, err)
	}
	if err := s.UnmapCertificate(t.Context(), fingerprint); err != nil {
		t.Error(err)
	}
	wantWords(t, s.UnmapCertificate(t.Context(), fingerprint), "no principal has the certificate")
}

// planned is a plan in words.
func planned(t *testing.T, s *service.Service, d *service.Declaration, prune bool) ([]service.Change, []string) {
	t.Helper()
	changes, err := s.Plan(t.Context(), d, prune)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, c := range changes {
		words = append(words, strings.TrimSpace(c.Verb+" "+strings.TrimPrefix(c.What, "arn:aws:iam::"+account+":")+" "+strings.Join(c.Details, ", ")))
	}
	return changes, words
}

func TestPlan(t *testing.T) {
	s, _ := administered(t)
	declared := func(kind service.PrincipalKind, name string, certificates ...string) service.Declared {
		return service.Declared{Principal: *plainPrincipal(kind, "/", name), Certificates: certificates, Place: "f:1"}
	}
	aa, bb := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	d := &service.Declaration{Accounts: []string{account}, Principals: []service.Declared{declared(service.KindUser, "one", aa), declared(service.KindUser, "two", bb), declared(service.KindRole, "role")}}
	step := func(prune bool, want ...string) {
		t.Helper()
		changes, words := planned(t, s, d, prune)
		if !slices.Equal(words, want) {
			t.Errorf("got  %q\nwant %q", words, want)
		}
		if err := s.Apply(t.Context(), changes); err != nil {
			t.Error(err)
		}
		if _, words := planned(t, s, d, prune); words != nil {
			t.Errorf("again: %q", words)
		}
	}
	arn := func(rest string) string { return "arn:aws:iam::" + account + ":" + rest }
	step(true, "create user/one", "create user/two", "create role/role", "map certificate "+aa+" to "+arn("user/one"), "map certificate "+bb+" to "+arn("user/two"))

	one := &d.Principals[0]
	one.Tags, one.Boundary = map[string]string{"a": "b"}, identityText
	one.Policies = map[string]string{"p": identityText}
	d.Principals[2].MaxSession = 7200
	d.Principals[1].Certificates, one.Certificates = nil, []string{bb}
	step(false, "change user/one tags, policies.p, boundary", "change role/role max_session", "map certificate "+bb+" to "+arn("user/one")+", from "+arn("user/two"),
		"unmap certificate "+aa+" from "+arn("user/one"))

	one.Policies["p"] = strings.ReplaceAll(identityText, `":`, `" : `) // in another writing
	d.Principals[2].Trust = strings.Replace(trustText, account, "444455556666", 1)
	step(false, "change role/role trust")

	elsewhere := plainPrincipal(service.KindUser, "/", "one")
	elsewhere.Account, elsewhere.ARN = "444455556666", service.PrincipalARN("444455556666", service.KindUser, "/", "one")
	createPrincipal(t, s, elsewhere)
	root, err := s.CreateRootAccessKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.CreateAccessKey(t.Context(), account, one.ARN)
	if err != nil {
		t.Fatal(err)
	}
	d.Principals = d.Principals[1:]
	step(false)
	step(true, "remove user/one access key "+key.AccessKeyID+", certificate "+bb)
	if all, err := s.AccessKeys(t.Context(), arn("root")); err != nil || len(all) != 1 || all[0].ID != root.AccessKeyID {
		t.Errorf("root's: %v, %v", all, err)
	}
	if _, err := s.FindPrincipal(t.Context(), "444455556666", service.KindUser, "one"); err != nil {
		t.Error("prune reaches into another account:", err)
	}
	d.Principals = nil
	step(true, "remove role/role", "remove user/two")
}

func TestPlanRefuses(t *testing.T) {
	s, _ := administered(t)
	createPrincipal(t, s, plainPrincipal(service.KindUser, "/old/", "moved"))
	aa := strings.Repeat("aa", 32)
	declared := func(place string, p *service.Principal, certificates ...string) service.Declared {
		return service.Declared{Principal: *p, Place: place, Certificates: certificates}
	}
	bad := plainPrincipal(service.KindUser, "/", "bad")
	bad.Boundary = "{"
	d := &service.Declaration{Accounts: []string{account}, Principals: []service.Declared{
		declared("f:1", plainPrincipal(service.KindUser, "/new/", "moved")), declared("f:2", plainPrincipal(service.KindUser, "/", "one"), aa),
		declared("f:3", plainPrincipal(service.KindUser, "/", "ONE")), declared("f:4", plainPrincipal(service.KindUser, "/", "two"), aa),
		declared("f:5", plainPrincipal(service.KindRole, "/", "role"), aa), declared("f:6", bad)}}
	_, err := s.Plan(t.Context(), d, false)
	wantWords(t, err, "f:1: user moved is there as arn:aws:iam::"+account+":user/old/moved", "verenc user delete moved", "f:3: user ONE is declared at f:2 already",
		"f:4: user two: the certificate "+aa+" is that of the user one at f:2 already", "f:5: role role: certificates are for users", "f:6: user bad: boundary:")
	if all, err := s.Principals(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("a refused plan changed something: %v, %v", all, err)
	}
}

// TestApplyStops: a change that fails is told, and the plan of the rest can be made.
func TestApplyStops(t *testing.T) {
	s, _ := administered(t)
	d := &service.Declaration{Accounts: []string{account}, Principals: []service.Declared{{Principal: *plainPrincipal(service.KindUser, "/", "one")}, {Principal: *plainPrincipal(service.KindUser, "/", "two")}}}
	changes, _ := planned(t, s, d, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Apply(ctx, changes)
	wantWords(t, err, "create "+d.Principals[0].ARN)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	createPrincipal(t, s, plainPrincipal(service.KindUser, "/", "one"))
	if _, words := planned(t, s, d, false); !slices.Equal(words, []string{"create user/two"}) {
		t.Errorf("%q", words)
	}
}
