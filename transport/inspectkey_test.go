package transport_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/iam"
)

type operationAccess struct{ Operation, Verdict, Reason string }

type keyAccess struct {
	Principals []struct {
		PrincipalArn, Kind string
		Access             []operationAccess
	}
	NextMarker string
}

// accessTo returns the access of each principal to a key, by "NAME OPERATION".
func (s *server) accessTo(t *testing.T, c aws.Credentials, key string) map[string]operationAccess {
	t.Helper()
	found := map[string]operationAccess{}
	for marker := ""; ; {
		var page keyAccess
		body := fmt.Sprintf(`{"KeyId":%q,"Limit":2}`, key)
		if marker != "" {
			body = fmt.Sprintf(`{"KeyId":%q,"Limit":2,"Marker":%q}`, key, marker)
		}
		if code, message := s.own(t, c, "ListKeyAccess", body, &page); code != "" {
			t.Fatalf("%s: %s", code, message)
		}
		for _, p := range page.Principals {
			for _, a := range p.Access {
				found[p.PrincipalArn[strings.LastIndexAny(p.PrincipalArn, "/:")+1:]+" "+a.Operation] = a
			}
		}
		if marker = page.NextMarker; marker == "" {
			return found
		}
	}
}

func TestListKeyAccessSaysWhoMayUseAKeyAndWhy(t *testing.T) {
	s := newServer(t, options{})
	s.user(t, account, "blue", document(statement{Sid: "OnlyBlue", Action: "kms:Decrypt", Resource: "*",
		Condition: map[string]any{"StringEquals": map[string]any{"kms:EncryptionContext:tenant": "blue"}}}))
	s.user(t, account, "admin", identityPolicy("kms:*"))
	s.user(t, account, "former", document(statement{Resource: "*"},
		statement{Sid: "Left", Effect: "Deny", Action: "kms:Decrypt", Resource: "*"}))
	s.user(t, account, "named")
	key := s.keyWith(t, keyPolicy(statement{Sid: "Named", Action: "kms:Encrypt",
		Principal: principals(iamARN(account, "user/named"))}))
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String(grantee),
		Operations: []types.GrantOperation{types.GrantOperationDecrypt}}))(t)
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key,
		GranteePrincipal: aws.String(iamARN(account, "role/worker0")),
		Constraints:      &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}},
		Operations:       []types.GrantOperation{types.GrantOperationDecrypt, types.GrantOperationDescribeKey}}))(t)

	found := s.accessTo(t, s.Secret, key)
	for who, want := range map[string]operationAccess{
		"root Decrypt":            {Verdict: "ALLOWED", Reason: "Allowed by resource-based policy statement 2 root"},
		"blue Decrypt":            {Verdict: "DEPENDS", Reason: "Depends on the request: identity-based policy a statement 1 OnlyBlue allows it under the condition StringEquals on kms:encryptioncontext:tenant"},
		"blue Encrypt":            {Verdict: "DENIED", Reason: "Not allowed: no identity-based policy allows it"},
		"admin PutKeyPolicy":      {Verdict: "ALLOWED", Reason: "Allowed by identity-based policy a statement 1"},
		"former Decrypt":          {Verdict: "DENIED", Reason: "Denied by identity-based policy a statement 2 Left"},
		"named Encrypt":           {Verdict: "ALLOWED", Reason: "Allowed by resource-based policy statement 1 Named"},
		"worker Decrypt":          {Verdict: "ALLOWED", Reason: "Allowed by grant @"},
		"worker0 Decrypt":         {Verdict: "DEPENDS", Reason: "Depends on the request: grant @ allows it under its constraints"},
		"worker0 DescribeKey":     {Verdict: "ALLOWED", Reason: "Allowed by grant @"},
		"bob ScheduleKeyDeletion": {Verdict: "DENIED", Reason: "Not allowed: no identity-based policy allows it"},
	} {
		got := found[who]
		if words := strings.Fields(got.Reason); strings.Contains(want.Reason, "grant @") && len(words) > 3 {
			for i, w := range words {
				if w == "grant" {
					words[i+1] = "@" // its id
				}
			}
			got.Reason = strings.Join(words, " ")
		}
		if got.Verdict != want.Verdict || got.Reason != want.Reason {
			t.Errorf("%s: %+v\nnot %+v", who, got, want)
		}
	}
	for _, other := range []string{"Sign", "GenerateMac", "ReplicateKey", "ImportKeyMaterial", "RetireGrant"} {
		if _, listed := found["root "+other]; listed {
			t.Errorf("%s does not apply to the key", other)
		}
	}
}

// TestListKeyAccessAgreesWithRequests compares what it says with what happens.
func TestListKeyAccessAgreesWithRequests(t *testing.T) {
	s := newServer(t, options{})
	key := s.keyWith(t, keyPolicy())
	for i, text := range []string{identityPolicy("kms:DescribeKey"), identityPolicy("kms:*"), identityPolicy("kms:List*"),
		document(statement{Effect: "Deny", Resource: "*"})} {
		p := s.user(t, account, fmt.Sprintf("u%d", i), text)
		found := s.accessTo(t, s.Secret, key)
		var own struct {
			PrincipalArn string
			Access       []operationAccess
		}
		if code, message := s.own(t, p.Secret, "GetCallerAccess", fmt.Sprintf(`{"KeyId":%q}`, key), &own); code != "" {
			t.Fatalf("%s: %s", code, message)
		}
		if own.PrincipalArn != p.ARN {
			t.Errorf("the caller is %s", own.PrincipalArn)
		}
		for operation, call := range map[string]func() error{
			"DescribeKey": func() error {
				_, err := p.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &key})
				return err
			},
			"ListResourceTags": func() error {
				_, err := p.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: &key})
				return err
			},
			"EnableKey": func() error {
				_, err := p.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &key})
				return err
			},
		} {
			err := call()
			if allowed := found[fmt.Sprintf("u%d %s", i, operation)].Verdict == "ALLOWED"; allowed != (err == nil) {
				t.Errorf("u%d %s: listed as allowed %t: %v", i, operation, allowed, err)
			}
			for _, a := range own.Access {
				if a.Operation == operation && (a.Verdict == "ALLOWED") != (err == nil) {
					t.Errorf("u%d %s: told %+v: %v", i, operation, a, err)
				}
				if a.Operation == operation && err != nil {
					wantError(t, err, "AccessDeniedException", a.Reason)
				}
			}
		}
	}
}

func TestGetCallerAccessTellsNothingElse(t *testing.T) {
	s := newServer(t, options{})
	key := s.keyWith(t, keyPolicy(statement{Sid: "Hush", Action: "kms:Decrypt", Principal: principals(account),
		Condition: map[string]any{"StringEquals": map[string]any{"kms:EncryptionContext:a": "b"}}}))
	p := s.user(t, account, "app")
	var answer struct{ Access []operationAccess }
	s.own(t, p.Secret, "GetCallerAccess", fmt.Sprintf(`{"KeyId":%q}`, key), &answer)
	for _, a := range answer.Access {
		if a.Verdict != "ALLOWED" && a.Verdict != "DENIED" || strings.Contains(a.Reason, "Hush") {
			t.Errorf("%+v", a)
		}
	}
	maker := s.user(t, account, "maker", identityPolicy("kms:CreateKey"))
	var without struct{ Access []operationAccess }
	s.own(t, maker.Secret, "GetCallerAccess", `{}`, &without)
	found := map[string]operationAccess{}
	for _, a := range without.Access {
		found[a.Operation] = a
	}
	if len(found) == 0 || found["CreateKey"].Verdict != "ALLOWED" || found["ListKeys"].Verdict != "DENIED" ||
		!strings.Contains(found["ListKeys"].Reason, "kms:ListKeys on resource: *") {
		t.Errorf("without a key: %+v", found)
	}
	// Keys of other accounts are like those that don't exist.
	other := s.user(t, otherAccount, "eve", identityPolicy("*"))
	absent := key[:len(key)-len(absentKey)] + absentKey
	prefix := key[:strings.Index(key, ":key/")+1]
	alias, none := prefix+"alias/hush", prefix+"alias/none"
	ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/hush"), TargetKeyId: &key}))(t)
	for _, operation := range []string{"GetCallerAccess", "ListKeyAccess", "GetKeyAttestation"} {
		for there, not := range map[string]string{key: absent, alias: none} {
			code, message := s.own(t, other.Secret, operation, fmt.Sprintf(`{"KeyId":%q}`, there), nil)
			again, same := s.own(t, other.Secret, operation, fmt.Sprintf(`{"KeyId":%q}`, not), nil)
			if code != "AccessDeniedException" || again != code || strings.ReplaceAll(message, there, not) != same {
				t.Errorf("%s: %s %s, and of one that does not exist %s %s", operation, code, message, again, same)
			}
		}
	}
	// Who may not describe a key does not learn its kind from the permissions that apply to it.
	signing := ok(s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify}))(t).KeyMetadata.Arn
	names := map[string]string{}
	for _, id := range []string{key, *signing} {
		var of struct{ Access []operationAccess }
		s.own(t, p.Secret, "GetCallerAccess", fmt.Sprintf(`{"KeyId":%q}`, id), &of)
		for _, a := range of.Access {
			names[id] += a.Operation + " "
		}
	}
	if names[key] != names[*signing] || names[key] == "" {
		t.Errorf("%v", names)
	}
	code, _ := s.own(t, p.Secret, "GetCallerAccess", fmt.Sprintf(`{"KeyId":%q}`, absentKey), nil)
	if code != "NotFoundException" {
		t.Errorf("of a key that does not exist: %s", code)
	}
}

// TestKeyPoliciesCanAllowAndDenyOwnActions: a key policy need not let the account in for them.
func TestKeyPoliciesCanAllowAndDenyOwnActions(t *testing.T) {
	s := newServer(t, options{})
	auditor := s.user(t, account, "auditor", identityPolicy("verenc:ListKeyAccess"))
	named, nobody := s.user(t, account, "named"), s.user(t, account, "nobody")
	key := s.keyWith(t, keyPolicy(statement{Action: "verenc:*", Principal: principals(named.ARN)}))
	try := func(p aws.Credentials) string {
		code, _ := s.own(t, p, "ListKeyAccess", fmt.Sprintf(`{"KeyId":%q}`, key), nil)
		return code
	}
	const denied = "AccessDeniedException"
	for who, want := range map[*person]string{auditor: "", named: "", nobody: denied} {
		if code := try(who.Secret); code != want {
			t.Errorf("%s: %s", who.ARN, code)
		}
	}
	if code := try(s.Secret); code != "" {
		t.Errorf("root: %s", code)
	}
	s.putPolicy(t, key, keyPolicy(statement{Effect: "Deny", Action: "verenc:*", Principal: principals(auditor.ARN)}))
	if code := try(auditor.Secret); code != denied {
		t.Errorf("denied by the key policy: %q", code)
	}
	one := s.user(t, account, "one", document(statement{Action: "verenc:ListKeyAccess", Resource: key}))
	if code := try(one.Secret); code != "" {
		t.Errorf("allowed on the key: %s", code)
	}
	elsewhere := s.user(t, account, "elsewhere", document(
		statement{Action: "verenc:ListKeyAccess", Resource: key[:len(key)-1]}))
	if code := try(elsewhere.Secret); code != denied {
		t.Errorf("allowed on another key: %q", code)
	}
}

func TestGetKeyAttestation(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/attested"), TargetKeyId: &key}))(t)
	var answer struct{ KeyId, Attestation, VerifierKey string }
	if code, message := s.own(t, s.Secret, "GetKeyAttestation", `{"KeyId":"alias/attested"}`, &answer); code != "" {
		t.Fatalf("%s: %s", code, message)
	}
	a, err := evidence.VerifyAttestation([]byte(answer.Attestation), answer.VerifierKey)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(key, a.Key.ID) || a.Key.ID != answer.KeyId || !a.BornInToken() {
		t.Errorf("the attestation is of %+v", a)
	}
	denied := s.user(t, account, "app", identityPolicy("kms:*"))
	if code, _ := s.own(t, denied.Secret, "GetKeyAttestation", fmt.Sprintf(`{"KeyId":%q}`, key), nil); code !=
		"AccessDeniedException" {
		t.Errorf("without permission: %q", code)
	}
}

func TestDescribePrincipal(t *testing.T) {
	s := newServer(t, options{})
	text := identityPolicy("kms:Decrypt")
	p := s.principal(t, account, "app", iam.PrincipalDetails{Policies: map[string]string{"use": text},
		Boundary: identityPolicy("kms:*"), Tags: map[string]string{"team": "<b>blue</b>"}})
	role := s.role(t, account, "deploy", iam.PrincipalDetails{MaxSession: 7200,
		Trust: document(statement{Action: "sts:AssumeRole", Principal: principals(p.ARN)})})
	ok(s.sts(p.Secret).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))(t)
	if err := s.Service.IAM().StoreUses(t.Context()); err != nil {
		t.Fatal(err)
	}
	describe := func(arn string) (answer describedPrincipal) {
		t.Helper()
		if code, message := s.own(t, s.Secret, "DescribePrincipal", fmt.Sprintf(`{"PrincipalArn":%q}`, arn),
			&answer); code != "" {
			t.Fatalf("%s: %s", code, message)
		}
		return answer
	}
	user := describe(p.ARN)
	if user.Principal.Kind != "user" || len(user.Policies) != 1 || user.Policies[0].PolicyDocument != text ||
		user.PermissionsBoundary == "" || user.Tags["team"] != "<b>blue</b>" || user.TrustPolicy != "" {
		t.Errorf("the user is %+v", user)
	}
	keys := user.Principal.AccessKeys
	if len(keys) != 1 || keys[0].AccessKeyId != p.Secret.AccessKeyID || keys[0].Status != "Active" ||
		keys[0].LastUsedService != "sts" || keys[0].LastUsedDate == 0 {
		t.Errorf("its access keys are %+v", keys)
	}
	if got := describe(role); got.Principal.Kind != "role" || got.TrustPolicy == "" || got.MaxSessionDuration != 7200 {
		t.Errorf("the role is %+v", got)
	}
	if got := describe(rootUser); got.Principal.Kind != "root" || len(got.Principal.AccessKeys) != 1 {
		t.Errorf("the root user is %+v", got)
	}
	other := s.user(t, otherAccount, "eve")
	for _, arn := range []string{other.ARN, iamARN(account, "user/nobody")} {
		if code, _ := s.own(t, s.Secret, "DescribePrincipal", fmt.Sprintf(`{"PrincipalArn":%q}`, arn), nil); code !=
			"NotFoundException" {
			t.Errorf("%s: %q", arn, code)
		}
	}
}

type describedPrincipal struct {
	Principal struct {
		Kind, Name string
		AccessKeys []struct {
			AccessKeyId, Status, LastUsedService string
			LastUsedDate                         float64
		}
	}
	Policies                         []struct{ PolicyName, PolicyDocument string }
	PermissionsBoundary, TrustPolicy string
	MaxSessionDuration               int
	Tags                             map[string]string
}
