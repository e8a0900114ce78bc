package transport_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
)

// opened opens break-glass for a time, and returns the row too.
func (s *server) opened(t *testing.T, lasts time.Duration) (aws.Credentials, *iam.BreakGlassOpening) {
	t.Helper()
	directory := s.Service.IAM()
	k, shares, err := breakglass.Split(3, 2, s.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := directory.PutBreakGlass(t.Context(), k, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	private := ok(k.Combine(shares[:2]))(t)
	o := ok(directory.NewOpening(account, lasts, "a test", "ann"))(t)
	signed := ok(o.Sign(t.Context(), private))(t)
	c := ok(directory.OpenBreakGlass(t.Context(), signed))(t)
	return aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: string(c.SecretAccessKey),
		SessionToken: c.SessionToken}, ok(s.Store.BreakGlassOpening(t.Context(), o.ID))(t)
}

// TestBreakGlassOpensEverything that a policy of its account or of another one closes, and nothing that would outlast
// it.
func TestBreakGlassOpensEverything(t *testing.T) {
	s := newServer(t, options{})
	denying := s.makeKey(t, kms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true,
		Policy: aws.String(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}}`)})
	in := &kms.EncryptInput{KeyId: denying.Arn, Plaintext: []byte("x")}
	if _, err := s.Encrypt(t.Context(), in); err == nil {
		t.Fatal("the key policy does not deny")
	}
	credentials, _ := s.opened(t, time.Hour)
	client := s.client(credentials, region)
	out := ok(client.Encrypt(t.Context(), in))(t)
	ok(client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob}))(t)
	ok(client.CreateKey(t.Context(), &kms.CreateKeyInput{}))(t)
	ok(client.ListKeys(t.Context(), &kms.ListKeysInput{}))(t)
	_, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{
		KeyId: aws.String("arn:aws:kms:" + region + ":444455556666:key/00000000-0000-0000-0000-000000000000")})
	wantError(t, err, "NotFoundException", "*")

	roles := sts.New(sts.Options{BaseEndpoint: aws.String(s.URL), Region: region, RetryMaxAttempts: 1,
		HTTPClient: s.http, Credentials: client.Options().Credentials})
	who := ok(roles.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))(t)
	if *who.Account != account {
		t.Errorf("%+v", who)
	}
	trusting := &iam.Principal{ARN: iamARN(account, "role/trusting"), Account: account, Kind: iam.KindRole,
		CreatedAt: s.Now(),
		PrincipalDetails: iam.PrincipalDetails{Name: "trusting", UniqueID: "AROA1",
			Trust: `{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`}}
	if err := s.Store.PutPrincipal(t.Context(), trusting); err != nil {
		t.Fatal(err)
	}
	_, err = roles.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: &trusting.ARN,
		RoleSessionName: aws.String("longer")})
	wantError(t, err, "AccessDenied", "*")
}

// TestBreakGlassEnds at the time that was signed, whatever the row says of it, and when its row is gone or another
// credential is in force.
func TestBreakGlassEnds(t *testing.T) {
	s := newServer(t, options{})
	call := func(c aws.Credentials) error {
		_, err := s.client(c, region).ListKeys(t.Context(), &kms.ListKeysInput{})
		return err
	}
	credentials, row := s.opened(t, time.Hour)
	if err := call(credentials); err != nil {
		t.Fatal(err)
	}
	if used := ok(s.Store.BreakGlassOpening(t.Context(), row.ID))(t).UsedAt; used.IsZero() {
		t.Error("the first use is not kept")
	}
	for n := range 200 { // made-up rows hide nothing
		fake := iam.BreakGlassOpening{ID: fmt.Sprint("fake", n), OpenedAt: row.OpenedAt.Add(time.Hour),
			Until: row.Until.Add(time.Minute), Signed: []byte("x")}
		if err := s.Store.InsertBreakGlassOpening(t.Context(), &fake); err != nil {
			t.Fatal(err)
		}
	}
	if open := ok(s.Service.IAM().OpeningsInForce(t.Context()))(t); len(open) != 1 || open[0].ID != row.ID {
		t.Errorf("open: %+v", open)
	}
	s.age(59 * time.Minute)
	if err := call(credentials); err != nil {
		t.Error(err)
	}
	s.age(2 * time.Minute)
	if err := call(credentials); err == nil {
		t.Error("it is open after its time")
	}
	// Somebody puts the old opening into the database again, with another name and a later end.
	replayed := *row
	replayed.ID, replayed.Until = "replayed", row.Until.Add(time.Hour)
	if err := s.Store.InsertBreakGlassOpening(t.Context(), &replayed); err != nil {
		t.Fatal(err)
	}
	if open := ok(s.Service.IAM().OpeningsInForce(t.Context()))(t); len(open) != 0 {
		t.Errorf("open: %+v", open)
	}
	if _, err := s.Service.IAM().OpenBreakGlass(t.Context(), row.Signed); err == nil {
		t.Error("an opening gets credentials twice")
	}

	credentials, row = s.opened(t, time.Hour)
	if err := call(credentials); err != nil {
		t.Fatal(err)
	}
	if err := s.Service.IAM().CloseBreakGlass(t.Context(), row.ID); err != nil {
		t.Fatal(err)
	}
	if err := call(credentials); err == nil {
		t.Error("it is open after it was closed")
	}
	credentials, _ = s.opened(t, time.Hour)
	if err := call(credentials); err != nil {
		t.Fatal(err)
	}
	s.opened(t, time.Hour) // by another credential
	if err := call(credentials); err == nil {
		t.Error("it is open after its credential was replaced")
	}
}

// TestBreakGlassFirstUse: without its alarm in the audit log, an opening is not used.
func TestBreakGlassFirstUse(t *testing.T) {
	a := newAudited(t)
	credentials, row := a.opened(t, time.Hour)
	client := a.client(credentials, region)
	a.silence(true)
	if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err == nil {
		t.Error("it is used without a record")
	}
	a.silence(false)
	if used := ok(a.Store.BreakGlassOpening(t.Context(), row.ID))(t).UsedAt; !used.IsZero() {
		t.Error("a use that failed is kept")
	}
	a.begin(t, "ListKeys")
	for range 2 {
		ok(client.ListKeys(t.Context(), &kms.ListKeysInput{}))(t)
	}
	records := a.end(t)
	alarms := 0
	for _, r := range records {
		if r.EventName == "BreakGlassUsed" {
			alarms++
		} else if u := r.UserIdentity; u.Type != "VerencBreakGlass" || u.ARN != iam.BreakGlassARN(account, row.ID) {
			t.Errorf("%+v", r.UserIdentity)
		}
	}
	if alarms != 1 || len(records) != 3 {
		t.Errorf("%d alarms of %d records", alarms, len(records))
	}
	if n := a.Service.IAM().BreakGlassRequests(); n != 3 {
		t.Errorf("%d requests are counted", n)
	}
	if _, err := a.Store.BreakGlassOpening(t.Context(), "none"); !errors.Is(err, iam.ErrNoRow) {
		t.Error(err)
	}
}
