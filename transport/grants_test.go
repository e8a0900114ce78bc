package transport_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestCreateGrant(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	create := func(change func(*kms.CreateGrantInput)) (*kms.CreateGrantOutput, error) {
		in := &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: aws.String(grantee),
			Operations: []types.GrantOperation{"Encrypt", "Decrypt"}, Name: aws.String("n")}
		change(in)
		return s.CreateGrant(t.Context(), in)
	}
	first := ok(create(func(*kms.CreateGrantInput) {}))(t)
	if len(*first.GrantId) != 64 || *first.GrantToken == "" || strings.Contains(*first.GrantToken, *first.GrantId) {
		t.Errorf("%+v", first)
	}
	// The same name with the same terms is the same grant, in whatever order and by whatever name of the key.
	again := ok(create(func(in *kms.CreateGrantInput) { in.KeyId = &arn; slices.Reverse(in.Operations) }))(t)
	if *again.GrantId != *first.GrantId {
		t.Error("the repeated request made another grant")
	}
	for name, change := range map[string]func(*kms.CreateGrantInput){
		"no name":    func(in *kms.CreateGrantInput) { in.Name = nil },
		"another":    func(in *kms.CreateGrantInput) { in.Name = aws.String("other") },
		"grantee":    func(in *kms.CreateGrantInput) { in.GranteePrincipal = aws.String(grantee + "2") },
		"operations": func(in *kms.CreateGrantInput) { in.Operations = in.Operations[:1] },
		"retiring":   func(in *kms.CreateGrantInput) { in.RetiringPrincipal = aws.String(rootUser) },
		"subset": func(in *kms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextSubset: blue}
		},
		"equals": func(in *kms.CreateGrantInput) {
			in.Constraints = &types.GrantConstraints{EncryptionContextEquals: blue}
		},
	} {
		a, b := ok(create(change))(t), ok(create(change))(t)
		if *a.GrantId == *first.GrantId || (*a.GrantId == *b.GrantId) != (name != "no name") {
			t.Errorf("%s: %s, then %s", name, *a.GrantId, *b.GrantId)
		}
	}
	mac := s.makeKey(t, kms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"}).KeyId
	for name, test := range map[string]struct {
		change func(*kms.CreateGrantInput)
		code   string
	}{
		"no grantee": {func(in *kms.CreateGrantInput) { in.GranteePrincipal = nil }, "ValidationException"},
		"two grantees": {func(in *kms.CreateGrantInput) {
			in.GranteeServicePrincipal = aws.String("a.amazonaws.com")
		}, "ValidationException"},
		"no operations": {func(in *kms.CreateGrantInput) {
			in.Operations = []types.GrantOperation{}
		}, "ValidationException"},
		"bad grantee": {func(in *kms.CreateGrantInput) {
			in.GranteePrincipal = aws.String("nobody")
		}, "InvalidArnException"},
		"bad retiring": {func(in *kms.CreateGrantInput) {
			in.RetiringPrincipal = aws.String("arn:aws:iam::1:root")
		}, "InvalidArnException"},
		"wrong operation": {func(in *kms.CreateGrantInput) {
			in.Operations = []types.GrantOperation{"Sign"}
		}, "ValidationException"},
		"context on a MAC": {func(in *kms.CreateGrantInput) {
			in.KeyId, in.Operations, in.Constraints = mac, []types.GrantOperation{"GenerateMac"},
				&types.GrantConstraints{EncryptionContextSubset: blue}
		}, "ValidationException"},
		"dry run": {func(in *kms.CreateGrantInput) {
			in.DryRun, in.Name = aws.Bool(true), nil
		}, "DryRunOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := create(test.change)
			wantError(t, err, test.code, "*")
		})
	}
	if n := len(ok(s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id}))(t).Grants); n != 9 {
		t.Errorf("%d grants, not 9", n)
	}
}

func TestListGrants(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	other, _ := s.newKey(t)
	var ids []string
	make := func(key string, grantee, retiring string) string {
		t.Helper()
		in := &kms.CreateGrantInput{KeyId: &key, Operations: []types.GrantOperation{"Decrypt", "RetireGrant"},
			RetiringPrincipal: &retiring,
			Constraints:       &types.GrantConstraints{EncryptionContextSubset: blue}}
		if strings.HasPrefix(grantee, "arn:") {
			in.GranteePrincipal, in.Name = &grantee, aws.String("named")
		} else {
			in.GranteeServicePrincipal = &grantee
		}
		return *ok(s.CreateGrant(t.Context(), in))(t).GrantId
	}
	for i := range 4 {
		ids = append(ids, make(id, fmt.Sprint(grantee, i), rootUser))
	}
	byService := make(id, "dynamodb.us-east-1.amazonaws.com", grantee)
	elsewhere := make(other, grantee+"0", rootUser)
	all := append(slices.Clone(ids), byService)
	slices.Sort(all)

	var got []string
	pages := kms.NewListGrantsPaginator(s, &kms.ListGrantsInput{KeyId: &arn, Limit: aws.Int32(2)})
	for pages.HasMorePages() {
		for _, g := range ok(pages.NextPage(t.Context()))(t).Grants {
			got = append(got, *g.GrantId)
			byName := *g.GrantId != byService
			if *g.KeyId != arn || *g.IssuingAccount != rootUser || time.Since(*g.CreationDate).Abs() > 10*time.Minute ||
				(g.Name == nil) == byName ||
				(g.GranteePrincipal == nil) == byName || (g.GranteeServicePrincipal != nil) == byName ||
				g.RetiringServicePrincipal != nil ||
				!slices.Equal(g.Operations, []types.GrantOperation{"Decrypt", "RetireGrant"}) ||
				g.Constraints.EncryptionContextSubset["tenant"] != "blue" ||
				g.Constraints.EncryptionContextEquals != nil || g.Constraints.SourceArn != nil {
				t.Errorf("%+v", g)
			}
		}
	}
	if !slices.Equal(got, all) {
		t.Errorf("got %v\nwant %v", got, all)
	}
	for name, test := range map[string]struct {
		in   kms.ListGrantsInput
		want []string
	}{
		"id":      {kms.ListGrantsInput{GrantId: &ids[2]}, ids[2:3]},
		"grantee": {kms.ListGrantsInput{GranteePrincipal: aws.String(grantee + "3")}, ids[3:]},
		"service": {kms.ListGrantsInput{GranteeServicePrincipal: aws.String("dynamodb.us-east-1.amazonaws.com")},
			[]string{byService}},
		"nobody": {kms.ListGrantsInput{GranteePrincipal: aws.String(grantee + "9")}, nil},
	} {
		test.in.KeyId = &id
		var got []string
		for _, g := range ok(s.ListGrants(t.Context(), &test.in))(t).Grants {
			got = append(got, *g.GrantId)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
	_, err := s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id, GrantId: &elsewhere})
	wantError(t, err, "InvalidGrantIdException", "*")
	_, err = s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id, Limit: aws.Int32(101)})
	wantError(t, err, "ValidationException", "*")

	var retirable []string
	retire := kms.NewListRetirableGrantsPaginator(s,
		&kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(rootUser), Limit: aws.Int32(3)})
	for retire.HasMorePages() {
		for _, g := range ok(retire.NextPage(t.Context()))(t).Grants {
			retirable = append(retirable, *g.GrantId)
		}
	}
	want := append(slices.Clone(ids), elsewhere)
	slices.Sort(want)
	if !slices.Equal(retirable, want) {
		t.Errorf("got %v\nwant %v", retirable, want)
	}
	if out := ok(s.ListRetirableGrants(t.Context(),
		&kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(grantee)}))(t); len(out.Grants) != 1 ||
		out.Truncated {
		t.Errorf("%+v", out)
	}
	elsewhereClient := s.client(s.Secret, otherRegion)
	if out := ok(elsewhereClient.ListRetirableGrants(t.Context(),
		&kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(rootUser)}))(t); len(out.Grants) != 0 {
		t.Errorf("%+v", out)
	}
}

func TestRetireAndRevoke(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	other, _ := s.newKey(t)
	grant := func() *kms.CreateGrantOutput {
		t.Helper()
		return ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: aws.String(grantee),
			RetiringPrincipal: aws.String(rootUser),
			Operations:        []types.GrantOperation{"Decrypt"}}))(t)
	}
	left := func(g *kms.CreateGrantOutput) bool {
		t.Helper()
		for _, l := range ok(s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &id}))(t).Grants {
			if *l.GrantId == *g.GrantId {
				return true
			}
		}
		return false
	}
	for name, end := range map[string]func(g *kms.CreateGrantOutput, dry *bool) error{
		"RetireGrant by token": func(g *kms.CreateGrantOutput, dry *bool) error {
			return second(s.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: g.GrantToken, DryRun: dry}))
		},
		"RetireGrant by id": func(g *kms.CreateGrantOutput, dry *bool) error {
			return second(s.RetireGrant(t.Context(),
				&kms.RetireGrantInput{KeyId: &arn, GrantId: g.GrantId, DryRun: dry}))
		},
		"RevokeGrant": func(g *kms.CreateGrantOutput, dry *bool) error {
			return second(s.RevokeGrant(t.Context(),
				&kms.RevokeGrantInput{KeyId: &id, GrantId: g.GrantId, DryRun: dry}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := grant()
			wantError(t, end(g, aws.Bool(true)), "DryRunOperationException",
				"The request would have succeeded, but the DryRun option is set.")
			if !left(g) {
				t.Error("the dry run ended it")
			}
			if err := end(g, nil); err != nil {
				t.Error(err)
			}
			if left(g) {
				t.Error("it is still there")
			}
			if err := end(g, nil); err == nil {
				t.Error("it ended twice")
			}
		})
	}
	g := grant()
	for name, in := range map[string]kms.RetireGrantInput{
		"nothing": {}, "both": {GrantToken: g.GrantToken, KeyId: &id, GrantId: g.GrantId}, "half": {KeyId: &id},
	} {
		_, err := s.RetireGrant(t.Context(), &in)
		if err == nil {
			t.Errorf("%s: retired", name)
		}
		wantError(t, err, "ValidationException", "*")
	}
	for name, token := range map[string]string{"changed": (*g.GrantToken)[:20] + "AAAA" + (*g.GrantToken)[24:],
		"cut": (*g.GrantToken)[1:], "id": *g.GrantId} {
		_, err := s.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: &token})
		if err == nil {
			t.Errorf("%s: retired", name)
		}
		wantError(t, err, "InvalidGrantTokenException", "*")
	}
	_, err := s.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: &other, GrantId: g.GrantId})
	wantError(t, err, "NotFoundException", "*")
	if !left(g) {
		t.Error("it was revoked through another key")
	}
}

// TestGrantTokensInRequests: a valid token does no harm to a caller who is allowed anyway.
func TestGrantTokensInRequests(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	g := ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: aws.String(grantee),
		Operations: []types.GrantOperation{"Decrypt"}}))(t)
	ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x"),
		GrantTokens: []string{*g.GrantToken}}))(t)
	_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x"),
		GrantTokens: []string{*g.GrantToken, "not a token"}})
	wantError(t, err, "InvalidGrantTokenException", "*")
	_, err = s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x"),
		GrantTokens: slices.Repeat([]string{*g.GrantToken}, 11)})
	wantError(t, err, "ValidationException", "*")
}
