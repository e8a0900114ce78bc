package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/zap"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

var update = flag.Bool("update", false, "write the golden files of reports")

// reported is an account with something of everything, reported at a fixed time.
func reported(t *testing.T) *service.KeyReport {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "kms.db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const account, region = "111122223333", "us-east-1"
	key := func(id, spec, usage, origin, policy, description string, age int) *service.Key {
		return &service.Key{ID: id, Account: account, Region: region, Spec: spec, Usage: usage, Origin: origin, State: service.StateEnabled, Policy: policy,
			Description: description, CreatedAt: ago(age), Materials: []service.Material{{Ordinal: 1, ID: "aa", CreatedAt: ago(age), Objects: map[service.Role]service.ObjectID{service.RoleSeal: {1}}}}}
	}
	delegating := `{"Statement":{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}}`
	rotating := key("11111111-1111-4111-8111-111111111111", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS", delegating, "orders", 200)
	rotating.Rotation = service.Rotation{PeriodDays: 365, NextAt: now.AddDate(0, 0, 165)}
	rotating.Materials = append(rotating.Materials, service.Material{Ordinal: 2, ID: "bb", CreatedAt: ago(20), RotatedAt: ago(20), RotationType: "ON_DEMAND", Objects: map[service.Role]service.ObjectID{service.RoleSeal: {2}}})
	open := key("22222222-2222-4222-8222-222222222222", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "AWS_KMS",
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"},
		{"Sid":"vpc","Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:DescribeKey","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}},
		{"Effect":"Allow","Principal":{"AWS":["444455556666","arn:aws:iam::111122223333:user/alice"]},"Action":"kms:Sign","Resource":"*"},
		{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111122223333:root"},"NotAction":"kms:*crypt","Resource":"*"}]}`,
		`<script>alert("x")</script>`+"\nkey 0  \x1b[31m& more", 500)
	doomed := key("33333333-3333-4333-8333-333333333333", "RSA_2048", "SIGN_VERIFY", "AWS_KMS", delegating, "", 100)
	doomed.State, doomed.DeletionAt = service.StatePendingDeletion, now.AddDate(0, 0, 5)
	empty := key("44444444-4444-4444-8444-444444444444", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "EXTERNAL", delegating, "waits for its material", 3)
	empty.State, empty.Materials = "PendingImport", nil
	off := key("55555555-5555-4555-8555-555555555555", "HMAC_256", "GENERATE_VERIFY_MAC", "AWS_KMS", delegating, "", 10)
	off.State = service.StateDisabled
	for _, k := range []*service.Key{rotating, open, doomed, empty, off} {
		must(db.InsertKey(ctx, k))
	}
	elsewhere := *rotating
	elsewhere.Region = "eu-west-1"
	must(db.InsertKey(ctx, &elsewhere))
	for _, name := range []string{"alias/orders", "alias/a<b>"} {
		must(db.InsertAlias(ctx, &service.Alias{Account: account, Region: region, Name: name, KeyID: rotating.ID, CreatedAt: now, UpdatedAt: now}, 50))
	}
	must(db.RecordUses(ctx, []service.KeyUse{{Region: region, KeyID: rotating.ID, Operation: "Decrypt", At: ago(1), EventID: "e1", RequestID: "r1"},
		{Region: region, KeyID: doomed.ID, Operation: "Sign", At: ago(95), EventID: "e2", RequestID: "r2"}}))
	user := func(name, policy string) *iam.Principal {
		p := &iam.Principal{ARN: "arn:aws:iam::111122223333:user/" + name, Account: account, Kind: iam.KindUser, CreatedAt: ago(400)}
		p.Name, p.UniqueID = name, "AIDA"+strings.ToUpper(name)
		if policy != "" {
			p.Policies = map[string]string{"own": policy}
		}
		return p
	}
	role := &iam.Principal{ARN: "arn:aws:iam::111122223333:role/backup", Account: account, Kind: iam.KindRole, CreatedAt: ago(400)}
	role.Name, role.UniqueID, role.Trust = "backup", "AROABACKUP", `{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}`
	for _, p := range []*iam.Principal{user("alice", ""), user("bob", `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`),
		user("carol", `{"Statement":{"Effect":"Allow","Action":["kms:Decrypt","kms:Describe*"],"Resource":"*"}}`), role} {
		must(db.PutPrincipal(ctx, p))
	}
	grant := &service.Grant{ID: strings.Repeat("ab", 32), Region: region, KeyID: rotating.ID, Account: account, Name: "for-backup", Grantee: role.ARN, Issuer: "arn:aws:iam::111122223333:root", CreatedAt: ago(2), Secret: []byte("the grant token's secret")}
	grant.Operations, grant.Subset = []string{"Decrypt", "ReEncryptFrom"}, map[string]string{"tenant": "blue"}
	foreign := &service.Grant{ID: strings.Repeat("cd", 32), Region: region, KeyID: rotating.ID, Account: account, Grantee: "arn:aws:iam::777788889999:root", Issuer: grant.Issuer, CreatedAt: ago(2), Secret: []byte("the other token's secret")}
	foreign.Operations = []string{"Encrypt"}
	for _, g := range []*service.Grant{grant, foreign} {
		must(db.InsertGrant(ctx, g, 10))
	}
	for _, k := range []*iam.AccessKey{{ID: "AKIAROOTROOTROOTROOT", PrincipalARN: "arn:aws:iam::111122223333:root", Enabled: true, CreatedAt: ago(400)},
		{ID: "AKIAALICEALICEALICE2", PrincipalARN: "arn:aws:iam::111122223333:user/alice", CreatedAt: ago(10)},
		{ID: "AKIABOBBOBBOBBOBBOB2", PrincipalARN: "arn:aws:iam::111122223333:user/bob", Enabled: true, CreatedAt: ago(10)}} {
		k.Account, k.SealedSecret = account, []byte("sealed")
		must(db.InsertAccessKey(ctx, k, 2))
	}
	must(db.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{{ID: "AKIABOBBOBBOBBOBBOB2", At: ago(1), Region: region, Service: "kms"}}))

	s, err := service.New(service.Config{Store: db, Token: noToken{}, Log: zap.NewNop(), Audit: record.NoAudit, Now: func() time.Time { return now }})
	must(err)
	r, err := s.Report(context.Background(), account, region)
	must(err)
	return r
}

// noToken is for what needs none.
type noToken struct{ service.Token }

func TestReport(t *testing.T) {
	r := reported(t)
	if len(r.Keys) != 5 || len(r.AccessKeys) != 3 {
		t.Fatalf("%+v", r)
	}
	for about, want := range map[string]string{
		"22222222-2222-4222-8222-222222222222": "the key policy lets everyone do kms:Encrypt, kms:Decrypt",
		"33333333-3333-4333-8333-333333333333": "will be destroyed at 2026-06-06T12:00:00Z",
		"55555555-5555-4555-8555-555555555555": "is disabled",
		"11111111-1111-4111-8111-111111111111": "a grant lets arn:aws:iam::777788889999:root in, of another account",
		"AKIAALICEALICEALICE2":                 "access key of arn:aws:iam::111122223333:user/alice is disabled: remove it when nobody needs it back",
		"AKIAROOTROOTROOTROOT":                 "access key of arn:aws:iam::111122223333:root is 400 days old: replace it",
	} {
		if !slices.ContainsFunc(r.Findings, func(f service.ReportFinding) bool { return f.About == about && f.Text == want }) {
			t.Errorf("%s: %q is no finding", about, want)
		}
	}
	if first := r.Findings[0]; first.Severity != service.High {
		t.Errorf("the first finding is %+v", first)
	}
	for format, write := range reportFormats {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			if err := write(&out, r); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "report."+format)
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := read(t, golden); out.String() != want {
				t.Errorf("it is not as in %s (go test -update writes it):\n%s", golden, out.String())
			}
			for _, secret := range []string{"secret", "sealed", "\x1b"} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("%q is in it", secret)
				}
			}
		})
	}
	if page := read(t, filepath.Join("testdata", "report.html")); strings.Contains(page, "<script") || strings.Contains(page, "src=") || strings.Contains(page, "href=") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the page is not escaped, or not self-contained")
	}
}

// TestReportCommand: a report is made while a server runs.
func TestReportCommand(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	made, err := s.sdk(t, "http://"+r.api, http.DefaultClient).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	var got service.KeyReport
	if err := json.Unmarshal([]byte(s.succeeds(t, "report", "--format", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Keys) != 1 || got.Keys[0].ARN != *made.KeyMetadata.Arn || len(got.AccessKeys) != 1 || got.AccessKeys[0].ID != s.accessKey(t).AccessKeyID {
		t.Errorf("%+v", got)
	}
	if text := s.succeeds(t, "report"); !strings.Contains(text, "key "+*made.KeyMetadata.KeyId) {
		t.Error(text)
	}
	if text := s.succeeds(t, "report", "--region", "eu-west-1"); !strings.Contains(text, "region eu-west-1") || !strings.Contains(text, ": 0 keys") {
		t.Error(text)
	}
	refused(t, s.run(t, "report", "--format", "pdf"), "pdf is not text, json or html")
}
