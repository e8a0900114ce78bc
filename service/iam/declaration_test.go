package iam_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/iam"
)

// planned returns a plan, and its words.
func planned(t *testing.T, dir *iam.Directory, d *iam.Declaration, prune bool) ([]iam.Change, []string) {
	t.Helper()
	changes, err := dir.Plan(t.Context(), d, prune)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, c := range changes {
		what := strings.TrimPrefix(c.What, "arn:aws:iam::"+account+":")
		words = append(words, strings.TrimSpace(c.Verb+" "+what+" "+strings.Join(c.Details, ", ")))
	}
	return changes, words
}

func TestPlan(t *testing.T) {
	dir, _ := newDirectory(t)
	declared := func(kind iam.PrincipalKind, name string, certificates ...string) iam.Declared {
		return iam.Declared{Principal: *plainPrincipal(kind, "/", name), Certificates: certificates, Place: "f:1"}
	}
	aa, bb := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	d := &iam.Declaration{Accounts: []string{account}, Principals: []iam.Declared{
		declared(iam.KindUser, "one", aa), declared(iam.KindUser, "two", bb), declared(iam.KindRole, "role")}}
	step := func(prune bool, want ...string) {
		t.Helper()
		changes, words := planned(t, dir, d, prune)
		if !slices.Equal(words, want) {
			t.Errorf("got  %q\nwant %q", words, want)
		}
		if err := iam.Apply(t.Context(), changes); err != nil {
			t.Error(err)
		}
		if _, words := planned(t, dir, d, prune); words != nil {
			t.Errorf("again: %q", words)
		}
	}
	arn := func(rest string) string { return "arn:aws:iam::" + account + ":" + rest }
	step(true, "create user/one", "create user/two", "create role/role", "map certificate "+aa+" to "+arn("user/one"),
		"map certificate "+bb+" to "+arn("user/two"))

	one := &d.Principals[0]
	one.Tags, one.Boundary = map[string]string{"a": "b"}, identityText
	one.Policies = map[string]string{"p": identityText}
	d.Principals[2].MaxSession = 7200
	d.Principals[1].Certificates, one.Certificates = nil, []string{bb}
	step(false, "change user/one tags, policies.p, boundary", "change role/role max_session",
		"map certificate "+bb+" to "+arn("user/one")+", from "+arn("user/two"),
		"unmap certificate "+aa+" from "+arn("user/one"))

	one.Policies["p"] = strings.ReplaceAll(identityText, `":`, `" : `) // in another writing
	d.Principals[2].Trust = strings.Replace(trustText, account, "444455556666", 1)
	step(false, "change role/role trust")

	foreign := plainPrincipal(iam.KindUser, "/", "one")
	foreign.Account, foreign.ARN = "444455556666", iam.PrincipalARN("444455556666", iam.KindUser, "/", "one")
	createPrincipal(t, dir, foreign)
	root, err := dir.CreateRootAccessKey(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	key, err := dir.CreateAccessKey(t.Context(), account, one.ARN)
	if err != nil {
		t.Fatal(err)
	}
	d.Principals = d.Principals[1:]
	step(false)
	step(true, "remove user/one access key "+key.AccessKeyID+", certificate "+bb)
	if all, err := dir.AccessKeys(t.Context(), arn("root")); err != nil || len(all) != 1 ||
		all[0].ID != root.AccessKeyID {
		t.Errorf("root's: %v, %v", all, err)
	}
	if _, err := dir.FindPrincipal(t.Context(), "444455556666", iam.KindUser, "one"); err != nil {
		t.Error("prune reaches into another account:", err)
	}
	d.Principals = nil
	step(true, "remove role/role", "remove user/two")
}

func TestPlanRefuses(t *testing.T) {
	dir, _ := newDirectory(t)
	createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/old/", "moved"))
	aa := strings.Repeat("aa", 32)
	declared := func(place string, p *iam.Principal, certificates ...string) iam.Declared {
		return iam.Declared{Principal: *p, Place: place, Certificates: certificates}
	}
	bad := plainPrincipal(iam.KindUser, "/", "bad")
	bad.Boundary = "{"
	d := &iam.Declaration{Accounts: []string{account}, Principals: []iam.Declared{
		declared("f:1", plainPrincipal(iam.KindUser, "/new/", "moved")),
		declared("f:2", plainPrincipal(iam.KindUser, "/", "one"), aa),
		declared("f:3", plainPrincipal(iam.KindUser, "/", "ONE")),
		declared("f:4", plainPrincipal(iam.KindUser, "/", "two"), aa),
		declared("f:5", plainPrincipal(iam.KindRole, "/", "role"), aa), declared("f:6", bad)}}
	_, err := dir.Plan(t.Context(), d, false)
	wantWords(t, err, "f:1: user moved exists as arn:aws:iam::"+account+":user/old/moved", "verenc user delete moved",
		"f:3: user ONE is already declared at f:2",
		"f:4: user two: the certificate "+aa+" is already declared for user one at f:2",
		"f:5: role role: only users have certificates", "f:6: user bad: boundary:")
	if all, err := dir.Principals(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("a refused plan changed something: %v, %v", all, err)
	}
}

// TestApplyStops: a change that fails is told, and the plan of the rest can be made.
func TestApplyStops(t *testing.T) {
	dir, _ := newDirectory(t)
	d := &iam.Declaration{Accounts: []string{account}, Principals: []iam.Declared{
		{Principal: *plainPrincipal(iam.KindUser, "/", "one")}, {Principal: *plainPrincipal(iam.KindUser, "/", "two")}}}
	changes, _ := planned(t, dir, d, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := iam.Apply(ctx, changes)
	wantWords(t, err, "create "+d.Principals[0].ARN)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "one"))
	if _, words := planned(t, dir, d, false); !slices.Equal(words, []string{"create user/two"}) {
		t.Errorf("%q", words)
	}
}
