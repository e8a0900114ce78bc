package iam_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// TestSession: a session proves its role until it expires, and never a new role of the same name.
func TestSession(t *testing.T) {
	now := t0
	dir, db := openDirectory(t, &clearSealer{}, func() time.Time { return now })
	user := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app"))
	user.Policies = map[string]string{
		"p": `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`}
	if err := dir.UpdatePrincipal(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	role := createPrincipal(t, dir, plainPrincipal(iam.KindRole, "/team/", "auditor"))
	caller := &iam.Caller{Identity: iam.Identity{Principal: user.ARN, Account: account}}
	out, err := dir.AssumeRole(t.Context(), caller, &iam.AssumeRoleRequest{RoleARN: role.ARN, RoleSessionName: "work"})
	if err != nil {
		t.Fatal(err)
	}
	session := "arn:aws:sts::" + account + ":assumed-role/auditor/work"
	if out.AssumedRoleARN != session || out.AssumedRoleID != role.UniqueID+":work" ||
		!out.Expiration.Equal(t0.Add(time.Hour)) {
		t.Errorf("%+v", out)
	}

	scope := scopeOf(&iam.Credential{AccessKeyID: out.AccessKeyID})
	scope.SessionToken = out.SessionToken
	who, key, err := dir.Credentials(t.Context(), scope, sha256.Sum256)
	if err != nil || who.Principal != session || key != sha256.Sum256(out.SecretAccessKey) {
		t.Fatalf("%+v, %v", who, err)
	}
	for name, change := range map[string]func(*iam.CredentialScope){
		"another access key": func(s *iam.CredentialScope) { s.AccessKeyID = "ASIAOTHER" },
		"no base64":          func(s *iam.CredentialScope) { s.SessionToken = "!" },
		"not sealed by us": func(s *iam.CredentialScope) {
			s.SessionToken = base64.StdEncoding.EncodeToString([]byte("{}"))
		},
	} {
		changed := scope
		change(&changed)
		if _, _, err := dir.Credentials(t.Context(), changed, sha256.Sum256); !errors.Is(err,
			iam.ErrUnknownCredential) {
			t.Errorf("%s: %v", name, err)
		}
	}

	caller = &iam.Caller{Identity: who}
	if own, err := dir.CallerPolicies(t.Context(), caller); err != nil || own.Principal.IssuerARN != role.ARN {
		t.Errorf("%+v, %v", own, err)
	}
	renewed := *role
	renewed.UniqueID = "AROANEW"
	if err := db.PutPrincipal(t.Context(), &renewed); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.CallerPolicies(t.Context(), caller); !apierror.Is(err, apierror.UnrecognizedClient) {
		t.Errorf("a new role of the same name: %v", err)
	}
	now = out.Expiration
	if _, _, err := dir.Credentials(t.Context(), scope, sha256.Sum256); !apierror.Is(err, apierror.ExpiredToken) {
		t.Errorf("an expired session: %v", err)
	}
}

// TestCallerNamed: a principal's ARN stands for the caller that it would be, with the policies in
// the order of their names.
func TestCallerNamed(t *testing.T) {
	dir, _ := newDirectory(t)
	user := plainPrincipal(iam.KindUser, "/", "app")
	user.Policies = map[string]string{"b": identityText, "a": identityText, "c": identityText}
	createPrincipal(t, dir, user)
	role := createPrincipal(t, dir, plainPrincipal(iam.KindRole, "/team/", "auditor"))
	root, sessions := "arn:aws:iam::"+account+":root", "arn:aws:sts::"+account+":assumed-role/auditor/"
	for _, test := range []struct {
		given, want string
		session     bool
	}{
		{root, root, false},
		{user.ARN, user.ARN, false},
		{role.ARN, sessions + "default", true},
		{sessions + "mine", sessions + "mine", true},
	} {
		c, err := dir.CallerNamed(t.Context(), test.given, "default")
		if err != nil || c.Principal != test.want || c.Account != account || (c.Session != nil) != test.session {
			t.Errorf("%s: %+v, %v", test.given, c, err)
		}
	}
	c := &iam.Caller{Identity: iam.Identity{Principal: user.ARN, Account: account}}
	if names, err := dir.PolicyNames(t.Context(), c); err != nil || !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("%v, %v", names, err)
	}
	_, err := dir.CallerNamed(t.Context(), user.ARN+"x", "default")
	wantWords(t, err, "there is no "+user.ARN+"x (verenc user list")
}

// TestTraced: every new session of a role says who assumed it. One that was assumed by a session that does not say so,
// of an earlier version, does not say so, either.
func TestTraced(t *testing.T) {
	dir, db := newDirectory(t)
	role := plainPrincipal(iam.KindRole, "/", "r")
	role.Policies = map[string]string{
		"p": `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`}
	role = createPrincipal(t, dir, role)
	leaf := &x509.Certificate{Raw: []byte("certificate"), SerialNumber: big.NewInt(1),
		DNSNames: []string{"host.example"}}
	if err := db.PutCertificate(t.Context(), &iam.Certificate{Name: "dns:host.example", PrincipalARN: role.ARN,
		CreatedAt: t0}); err != nil {
		t.Fatal(err)
	}
	byCertificate, err := dir.CertificateIdentity(t.Context(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	session := func(by ...string) *iam.Identity {
		return &iam.Identity{Principal: iam.SessionARN(role.ARN, "s"), Account: account,
			Session: &iam.Session{RoleARN: role.ARN, RoleID: role.UniqueID, Name: "s", AssumedBy: by}}
	}
	for name, test := range map[string]struct {
		who  *iam.Identity
		want []string
	}{
		"traced":      {session("alice"), []string{role.ARN, role.ARN, "alice"}},
		"certificate": {byCertificate, []string{role.ARN, role.ARN, "certificate dns:host.example"}},
		"old":         {session(), []string{role.ARN}},
	} {
		out, err := dir.AssumeRole(t.Context(), &iam.Caller{Identity: *test.who},
			&iam.AssumeRoleRequest{RoleARN: role.ARN, RoleSessionName: "work"})
		if err != nil {
			t.Fatal(name, err)
		}
		scope := scopeOf(&iam.Credential{AccessKeyID: out.AccessKeyID})
		scope.SessionToken = out.SessionToken
		who, _, err := dir.Credentials(t.Context(), scope, sha256.Sum256)
		if behind := who.Behind(); err != nil || !slices.Equal(behind, test.want) ||
			iam.Traced(behind) != (len(test.want) > 1) {
			t.Errorf("%s: %v, %v", name, behind, err)
		}
	}
}
