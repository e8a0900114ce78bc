package evidence_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

const (
	account = "111122223333"
	region  = "us-east-1"
	rootARN = "arn:aws:iam::" + account + ":root"

	rotatingID = "11111111-1111-4111-8111-111111111111"
	openID     = "22222222-2222-4222-8222-222222222222"
	doomedID   = "33333333-3333-4333-8333-333333333333"
	emptyID    = "44444444-4444-4444-8444-444444444444"
	disabledID = "55555555-5555-4555-8555-555555555555"

	delegatingPolicy = `{"Statement":{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"` + rootARN + `"},"Action":"kms:*","Resource":"*"}}`
	openPolicy = `{"Statement":[{"Effect":"Allow","Principal":"*","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"},
		{"Sid":"vpc","Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:DescribeKey","Resource":"*",
			"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}},
		{"Effect":"Allow","Principal":{"AWS":["444455556666","arn:aws:iam::111122223333:user/alice"]},
			"Action":"kms:Sign","Resource":"*"},
		{"Effect":"Deny","NotPrincipal":{"AWS":"` + rootARN + `"},"NotAction":"kms:*crypt","Resource":"*"}]}`
)

// now is the time of the report.
var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func ago(days int) time.Time { return now.AddDate(0, 0, -days) }

// noToken is for what needs none.
type noToken struct{ service.Token }

// newExaminer describes an account that has something of everything.
func newExaminer(t *testing.T) *evidence.Examiner {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true})
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	fillKeys(t, db)
	fillPrincipals(t, db)
	fillGrants(t, db)
	clock := func() time.Time { return now }
	s, err := service.New(service.Config{
		Store: db, Token: noToken{}, Log: zap.NewNop(), Audit: record.NoAudit, Now: clock,
	})
	must(t, err)
	return &evidence.Examiner{Service: s, Store: db, Now: clock}
}

// TestReport reports on an account. The program's test prints the same report.
func TestReport(t *testing.T) {
	r, err := newExaminer(t).Report(t.Context(), account, region)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Keys) != 5 || len(r.AccessKeys) != 3 {
		t.Fatalf("%+v", r)
	}
	for about, want := range map[string]string{
		openID:     "the key policy lets everyone do kms:Encrypt, kms:Decrypt",
		doomedID:   "will be destroyed at 2026-06-06T12:00:00Z",
		disabledID: "is disabled",
		rotatingID: "a grant lets arn:aws:iam::777788889999:root in, of another account",
		"AKIAALICEALICEALICE2": "access key of arn:aws:iam::111122223333:user/alice is disabled: " +
			"remove it when nobody needs it back",
		"AKIAROOTROOTROOTROOT": "access key of arn:aws:iam::111122223333:root is 400 days old: replace it",
	} {
		found := func(f evidence.Finding) bool { return f.About == about && f.Text == want }
		if !slices.ContainsFunc(r.Findings, found) {
			t.Errorf("%s: %q is no finding", about, want)
		}
	}
	if first := r.Findings[0]; first.Severity != evidence.High {
		t.Errorf("the first finding is %+v", first)
	}
	compareWithGolden(t, r)
}

func compareWithGolden(t *testing.T, r *evidence.Report) {
	t.Helper()
	want, err := os.ReadFile("testdata/report.json")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	e := json.NewEncoder(&got)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("it is not as in testdata/report.json:\n%s", got.String())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(id, spec, usage, description string, age int) *service.Key {
	return &service.Key{
		ID: id, Account: account, Region: region, Spec: spec, Usage: usage, Origin: "AWS_KMS",
		State: service.StateEnabled, Policy: delegatingPolicy, Description: description, CreatedAt: ago(age),
		Materials: []service.Material{{
			Ordinal: 1, ID: "aa", CreatedAt: ago(age),
			Objects: map[service.Role]service.ObjectID{service.RoleSeal: {1}},
		}},
	}
}

func fillKeys(t *testing.T, db *store.DB) {
	t.Helper()
	rotating := newKey(rotatingID, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "orders", 200)
	rotating.Rotation = service.Rotation{PeriodDays: 365, NextAt: now.AddDate(0, 0, 165)}
	rotating.Materials = append(rotating.Materials, service.Material{
		Ordinal: 2, ID: "bb", CreatedAt: ago(20), RotatedAt: ago(20), RotationType: "ON_DEMAND",
		Objects: map[service.Role]service.ObjectID{service.RoleSeal: {2}},
	})
	open := newKey(openID, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT",
		`<script>alert("x")</script>`+"\nkey 0  \x1b[31m& more", 500)
	open.Policy = openPolicy
	doomed := newKey(doomedID, "RSA_2048", "SIGN_VERIFY", "", 100)
	doomed.State, doomed.DeletionAt = service.StatePendingDeletion, now.AddDate(0, 0, 5)
	empty := newKey(emptyID, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "waits for its material", 3)
	empty.Origin, empty.State, empty.Materials = "EXTERNAL", service.StatePendingImport, nil
	disabled := newKey(disabledID, "HMAC_256", "GENERATE_VERIFY_MAC", "", 10)
	disabled.State = service.StateDisabled
	ofOtherRegion := *rotating
	ofOtherRegion.Region = "eu-west-1"
	for _, k := range []*service.Key{rotating, open, doomed, empty, disabled, &ofOtherRegion} {
		must(t, db.InsertKey(t.Context(), k))
	}
	for _, name := range []string{"alias/orders", "alias/a<b>"} {
		must(t, db.InsertAlias(t.Context(), &service.Alias{
			Account: account, Region: region, Name: name, KeyID: rotatingID, CreatedAt: now, UpdatedAt: now,
		}, 50))
	}
	must(t, db.RecordUses(t.Context(), []service.KeyUse{
		{Region: region, KeyID: rotatingID, Operation: "Decrypt", At: ago(1), EventID: "e1", RequestID: "r1"},
		{Region: region, KeyID: doomedID, Operation: "Sign", At: ago(95), EventID: "e2", RequestID: "r2"},
	}))
}

func newPrincipal(kind iam.PrincipalKind, name, policy string) *iam.Principal {
	p := &iam.Principal{
		ARN:     "arn:aws:iam::" + account + ":" + string(kind) + "/" + name,
		Account: account, Kind: kind, CreatedAt: ago(400),
	}
	p.Name, p.UniqueID = name, "AIDA"+strings.ToUpper(name)
	if policy != "" {
		p.Policies = map[string]string{"own": policy}
	}
	return p
}

func fillPrincipals(t *testing.T, db *store.DB) {
	t.Helper()
	role := newPrincipal(iam.KindRole, "backup", "")
	role.Trust = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}`
	for _, p := range []*iam.Principal{
		role,
		newPrincipal(iam.KindUser, "alice", ""),
		newPrincipal(iam.KindUser, "bob", `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`),
		newPrincipal(iam.KindUser, "carol",
			`{"Statement":{"Effect":"Allow","Action":["kms:Decrypt","kms:Describe*"],"Resource":"*"}}`),
	} {
		must(t, db.PutPrincipal(t.Context(), p))
	}
	user := "arn:aws:iam::" + account + ":user/"
	for _, k := range []*iam.AccessKey{
		{ID: "AKIAROOTROOTROOTROOT", PrincipalARN: rootARN, Enabled: true, CreatedAt: ago(400)},
		{ID: "AKIAALICEALICEALICE2", PrincipalARN: user + "alice", CreatedAt: ago(10)},
		{ID: "AKIABOBBOBBOBBOBBOB2", PrincipalARN: user + "bob", Enabled: true, CreatedAt: ago(10),
			ExpiresAt: ago(-10)},
	} {
		k.Account, k.SealedSecret = account, []byte("sealed")
		must(t, db.InsertAccessKey(t.Context(), k, 2))
	}
	must(t, db.RecordAccessKeyUses(t.Context(), []iam.AccessKeyUse{
		{ID: "AKIABOBBOBBOBBOBBOB2", At: ago(1), Region: region, Service: "kms"},
	}))
}

func fillGrants(t *testing.T, db *store.DB) {
	t.Helper()
	grant := &service.Grant{
		ID: strings.Repeat("ab", 32), Name: "for-backup", Grantee: "arn:aws:iam::111122223333:role/backup",
		Secret: []byte("the grant token's secret"),
	}
	grant.Operations, grant.Subset = []string{"Decrypt", "ReEncryptFrom"}, map[string]string{"tenant": "blue"}
	foreign := &service.Grant{
		ID: strings.Repeat("cd", 32), Grantee: "arn:aws:iam::777788889999:root",
		Secret: []byte("the other token's secret"),
	}
	foreign.Operations = []string{"Encrypt"}
	for _, g := range []*service.Grant{grant, foreign} {
		g.Region, g.KeyID, g.Account, g.Issuer, g.CreatedAt = region, rotatingID, account, rootARN, ago(2)
		must(t, db.InsertGrant(t.Context(), g, 10))
	}
}
