package transport_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service/iam"
)

// TestWhoMay combines key policies and identity policies, for callers of the key's account and of
// another.
func TestWhoMay(t *testing.T) {
	s := newServer(t, options{})
	const action = "kms:DescribeKey"
	describe := identityPolicy(action)
	forbid := document(statement{Effect: "Deny", Action: action, Resource: "*"})
	alice, equipped, forbidden := s.user(t, account, "alice"), s.user(t, account, "equipped", describe),
		s.user(t, account, "forbidden", forbid)
	bounded := s.principal(t, account, "bounded",
		iam.PrincipalDetails{Policies: named([]string{describe}), Boundary: identityPolicy("kms:Encrypt")})
	abroad, abroadEquipped := s.user(t, otherAccount, "abroad"), s.user(t, otherAccount, "abroadequipped", describe)
	abroadRoot := s.root(t, otherAccount)
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	secret := s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role})
	session := &person{Client: s.client(secret, region), ARN: "arn:aws:sts::" + account + ":assumed-role/reader/work",
		Secret: secret}
	root := &person{Client: s.Client, ARN: iamARN(account, "root"), Secret: s.Secret}

	to := func(arns ...string) statement { return statement{Principal: principals(arns...), Action: action} }
	deny := func(s statement) statement { s.Effect = "Deny"; return s }
	const (
		noKeyPolicy  = "because no resource-based policy allows the kms:DescribeKey action"
		noIdentity   = "because no identity-based policy allows the kms:DescribeKey action"
		noBoundary   = "because no permissions boundary allows the kms:DescribeKey action"
		denyKey      = "with an explicit deny in a resource-based policy"
		denyIdentity = "with an explicit deny in an identity-based policy"
	)

	for _, test := range []struct {
		name   string
		policy string // statements beside the default one, unless it is closed
		by     *person
		why    string // of the denial; empty: allowed
	}{
		{"default, root", keyPolicy(), root, ""},
		{"default, no identity policy", keyPolicy(), alice, noIdentity},
		{"default, identity policy", keyPolicy(), equipped, ""},
		{"default, identity policy that denies", keyPolicy(), forbidden, denyIdentity},
		{"default, outside the boundary", keyPolicy(), bounded, noBoundary},
		{"default, session", keyPolicy(), session, noIdentity},
		{"default, another account", keyPolicy(), abroadEquipped, noKeyPolicy},
		{"default, root of another account", keyPolicy(), abroadRoot, noKeyPolicy},
		{"closed, root", document(onResource(to(alice.ARN))), root, noKeyPolicy},
		{"closed, identity policy", document(onResource(to(alice.ARN))), equipped, noKeyPolicy},
		{"closed, the user", document(onResource(to(alice.ARN))), alice, ""},
		{"the user", keyPolicy(to(alice.ARN)), alice, ""},
		{"the user, who is denied by identity policy", keyPolicy(to(forbidden.ARN)), forbidden, denyIdentity},
		// AWS: a boundary does not limit what a resource-based policy gives the user itself
		{"the user, within a boundary", keyPolicy(to(bounded.ARN)), bounded, ""},
		{"everyone", keyPolicy(statement{Principal: "*", Action: action}), alice, ""},
		{"the role", keyPolicy(to(role)), session, ""},
		{"the session", keyPolicy(to(session.ARN)), session, ""},
		{"another session", keyPolicy(to(strings.Replace(session.ARN, "work", "play", 1))), session, noIdentity},
		{"explicit deny", keyPolicy(to(alice.ARN), deny(to(alice.ARN))), alice, denyKey},
		{"explicit deny of root", keyPolicy(deny(to(root.ARN))), root, denyKey},
		{"explicit deny of the role", keyPolicy(to(session.ARN), deny(to(role))), session, denyKey},
		{"another account, both", keyPolicy(to(abroadEquipped.ARN)), abroadEquipped, ""},
		{"another account's root named, both", keyPolicy(to(iamARN(otherAccount, "root"))), abroadEquipped, ""},
		{"another account's number named, both", keyPolicy(to(otherAccount)), abroadEquipped, ""},
		{"another account, key policy alone", keyPolicy(to(abroad.ARN)), abroad, noIdentity},
		{"another account's root, named", keyPolicy(to(otherAccount)), abroadRoot, ""},
		{"another account, everyone", keyPolicy(statement{Principal: "*", Action: action}), abroad, noIdentity},
		{"another account, explicit deny", keyPolicy(to(otherAccount), deny(to(abroadEquipped.ARN))), abroadEquipped,
			noKeyPolicy},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := s.CreateKey(t.Context(),
				&kms.CreateKeyInput{Policy: &test.policy, BypassPolicyLockoutSafetyCheck: true})
			if err != nil {
				t.Fatal(err)
			}
			arn := *out.KeyMetadata.Arn
			_, err = test.by.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &arn})
			if test.why == noKeyPolicy && !strings.Contains(test.by.ARN, account) {
				test.why = notInReach // AWS tells strangers no more
			}
			if test.why != "" {
				wantError(t, err, "AccessDeniedException", denial(test.by.ARN, "DescribeKey", arn, test.why))
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// notInReach is the reason of a denial for a key of another account that does not allow the caller,
// or does not exist.
const notInReach = "because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"

// denialOfCiphertext is denial for a request in which only the ciphertext names the key.
func denialOfCiphertext(principal, action, why string) string {
	return "User: " + principal + " is not authorized to perform: kms:" + action +
		" on the resource associated with this ciphertext " + why
}

func onResource(s statement) statement { s.Resource = "*"; return s }

// TestOnlyDecrypt: an application may decrypt with one key and one encryption context, and nothing else.
func TestOnlyDecrypt(t *testing.T) {
	s := newServer(t, options{})
	app := s.user(t, account, "app")
	key := s.keyWith(t, keyPolicy(statement{Principal: principals(app.ARN), Action: "kms:Decrypt",
		Condition: map[string]any{
			"StringEquals": map[string]string{"kms:EncryptionContext:tenant": "blue",
				"kms:EncryptionContext:purpose": "test"},
			"ForAllValues:StringEquals": map[string][]string{"kms:EncryptionContextKeys": {"tenant", "purpose"}}}}))
	_, other := s.newKey(t)
	sealed := func(key string, context map[string]string) []byte {
		out, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"),
			EncryptionContext: context})
		if err != nil {
			t.Fatal(err)
		}
		return out.CiphertextBlob
	}
	decrypt := func(key string, context map[string]string) error {
		_, err := app.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed(key, context),
			EncryptionContext: context})
		return err
	}
	if err := decrypt(key, blue); err != nil {
		t.Error(err)
	}
	for name, context := range map[string]map[string]string{"none": nil, "less": {"tenant": "blue"},
		"more":    {"tenant": "blue", "purpose": "test", "x": "y"},
		"another": {"tenant": "red", "purpose": "test"}} {
		t.Run(name, func(t *testing.T) {
			wantError(t, decrypt(key, context), "AccessDeniedException",
				denialOfCiphertext(app.ARN, "Decrypt", noPolicy("identity-based", "Decrypt")))
		})
	}
	wantError(t, decrypt(other, blue), "AccessDeniedException",
		denialOfCiphertext(app.ARN, "Decrypt", noPolicy("identity-based", "Decrypt")))
	for operation, templates := range onKeys {
		switch operation {
		case "Decrypt", "UpdateAlias", "RetireGrant": // one is allowed, the others need an alias and a grant
			continue
		}
		body := strings.NewReplacer("@KEY", `"`+key+`"`, "@OWN", `"`+key+`"`, "@BLOB", quoted(sealed(key, blue)),
			"@ALIEN", quoted(sealed(key, blue))).Replace(templates[0])
		if _, answer := s.post(t, app.Secret, operation, body); !strings.Contains(answer, `"AccessDeniedException"`) {
			t.Errorf("%s: %s", operation, answer)
		}
	}
	for _, operation := range []string{"CreateKey", "ListKeys", "GenerateRandom", "DescribeCustomKeyStores"} {
		_, answer := s.post(t, app.Secret, operation, `{}`)
		want := `"message":"` + denial(app.ARN, operation, "*", noPolicy("identity-based", operation)) + `"`
		if !strings.Contains(answer, want) {
			t.Errorf("%s: %s\nwant %s", operation, answer, want)
		}
	}
}

// TestTwoKeys: ReEncrypt needs one permission on each of its keys.
func TestTwoKeys(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	allow := func(action string) string {
		return keyPolicy(statement{Principal: principals(alice.ARN), Action: action})
	}
	from, to := s.keyWith(t, allow("kms:ReEncryptFrom")), s.keyWith(t, allow("kms:ReEncryptTo"))
	move := func(from, to string) error {
		sealed, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &from, Plaintext: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		_, err = alice.ReEncrypt(t.Context(),
			&kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: &to})
		return err
	}
	if err := move(from, to); err != nil {
		t.Error(err)
	}
	wantError(t, move(to, from), "AccessDeniedException",
		denialOfCiphertext(alice.ARN, "ReEncryptFrom", noPolicy("identity-based", "ReEncryptFrom")))
	wantError(t, move(from, from), "AccessDeniedException",
		denial(alice.ARN, "ReEncryptTo", from, noPolicy("identity-based", "ReEncryptTo")))
}

// TestAliasesNeedBoth: the permission on the alias, from an identity policy, and that on each key.
func TestAliasesNeedBoth(t *testing.T) {
	s := newServer(t, options{})
	const aliases = "arn:aws:kms:us-east-1:" + account + ":alias/a*"
	name := "alias/a1"
	shown := "arn:verenc:" + account + ":" + name
	for _, test := range []struct {
		operation string
		call      func(*kms.Client, string) error
	}{
		{"CreateAlias", func(c *kms.Client, key string) error {
			_, err := c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
			return err
		}},
		{"UpdateAlias", func(c *kms.Client, key string) error {
			_, err := c.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: &name, TargetKeyId: &key})
			return err
		}},
		{"DeleteAlias", func(c *kms.Client, key string) error {
			_, err := c.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &name})
			return err
		}},
	} {
		t.Run(test.operation, func(t *testing.T) {
			id, key := s.newKey(t)
			fresh, freshARN := s.newKey(t)
			if test.operation != "CreateAlias" {
				if _, err := s.CreateAlias(t.Context(),
					&kms.CreateAliasInput{AliasName: &name, TargetKeyId: &id}); err != nil {
					t.Fatal(err)
				}
			} else {
				fresh, freshARN = id, key
			}
			action := "kms:" + test.operation
			onAlias, onKey := statement{Action: action, Resource: aliases}, statement{Action: action, Resource: key}
			onFresh := statement{Action: action, Resource: freshARN}
			denied := func(resource string, statements ...statement) {
				t.Helper()
				alice := s.user(t, account, "alice", document(statements...))
				wantError(t, test.call(alice.Client, fresh), "AccessDeniedException",
					denial(alice.ARN, test.operation, resource, noPolicy("identity-based", test.operation)))
			}
			denied(shown, onKey, onFresh)
			denied(key, onAlias)
			if test.operation == "UpdateAlias" {
				denied(freshARN, onAlias, onKey)
				denied(key, onAlias, onFresh)
			}
			alice := s.user(t, account, "alice", document(onAlias, onKey, onFresh))
			if err := test.call(alice.Client, fresh); err != nil {
				t.Error(err)
			}
			if test.operation != "DeleteAlias" {
				if _, err := s.DeleteAlias(t.Context(), &kms.DeleteAliasInput{AliasName: &name}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestTaggedKeys: creating a key with tags also needs TagResource.
func TestTaggedKeys(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice", identityPolicy("kms:CreateKey"))
	if _, err := alice.CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Error(err)
	}
	_, err := alice.CreateKey(t.Context(), &kms.CreateKeyInput{Tags: tags("color")})
	wantError(t, err, "AccessDeniedException",
		denial(alice.ARN, "TagResource", "*", noPolicy("identity-based", "TagResource")))
	alice = s.user(t, account, "alice", identityPolicy("kms:CreateKey", "kms:TagResource"))
	if _, err := alice.CreateKey(t.Context(), &kms.CreateKeyInput{Tags: tags("color")}); err != nil {
		t.Error(err)
	}
}

// TestLockout: a key policy must let its author change it again, unless the author insists.
func TestLockout(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice", identityPolicy("kms:CreateKey", "kms:PutKeyPolicy"))
	bob := iamARN(account, "user/bob")
	only := func(arns ...string) string { return document(statement{Principal: principals(arns...), Resource: "*"}) }
	const locked = "The new key policy will not allow you to update the key policy in the future."
	for _, test := range []struct {
		name, policy, message string // of the refusal, or empty
	}{
		{"the author", only(alice.ARN), ""},
		{"the account", only(iamARN(account, "root")), ""},
		{"another user", only(bob), locked},
		{"another account", only(iamARN(otherAccount, "root")), locked},
		{"use alone", document(statement{Principal: principals(alice.ARN), Action: "kms:Decrypt", Resource: "*"}),
			locked},
		{"denied", document(statement{Principal: principals(alice.ARN), Resource: "*"},
			statement{Effect: "Deny", Principal: principals(alice.ARN), Action: "kms:Put*", Resource: "*"}), locked},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, key := s.newKey(t)
			created := func(bypass bool) error {
				_, err := alice.CreateKey(t.Context(),
					&kms.CreateKeyInput{Policy: &test.policy, BypassPolicyLockoutSafetyCheck: bypass})
				return err
			}
			put := func(bypass bool) error {
				_, err := alice.PutKeyPolicy(t.Context(),
					&kms.PutKeyPolicyInput{KeyId: &key, Policy: &test.policy, BypassPolicyLockoutSafetyCheck: bypass})
				return err
			}
			for name, do := range map[string]func(bool) error{"CreateKey": created, "PutKeyPolicy": put} {
				err := do(false)
				if test.message == "" && err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if test.message != "" {
					wantError(t, err, "MalformedPolicyDocumentException", test.message)
				}
			}
			for name, do := range map[string]func(bool) error{"CreateKey": created, "PutKeyPolicy": put} {
				if err := do(true); err != nil {
					t.Errorf("%s with bypass: %v", name, err)
				}
			}
		})
	}
	_, key := s.newKey(t)
	for name, policy := range map[string]string{
		"no JSON": "{", "no statements": `{"Version":"2012-10-17"}`, "no principal": identityPolicy("kms:*"),
		"not a principal": document(statement{Principal: principals("x"), Resource: "*"}),
		"unknown effect":  document(statement{Effect: "Maybe", Principal: "*", Resource: "*"}),
		"unknown operator": document(statement{Principal: "*", Resource: "*",
			Condition: map[string]any{"StringIs": map[string]string{"a": "b"}}}),
		"unknown version": `{"Version":"2020-01-01","Statement":[]}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, bypass := range []bool{true, false} {
				_, err := s.PutKeyPolicy(t.Context(),
					&kms.PutKeyPolicyInput{KeyId: &key, Policy: &policy, BypassPolicyLockoutSafetyCheck: bypass})
				wantError(t, err, "MalformedPolicyDocumentException", "*")
				_, err = s.CreateKey(t.Context(),
					&kms.CreateKeyInput{Policy: &policy, BypassPolicyLockoutSafetyCheck: bypass})
				wantError(t, err, "MalformedPolicyDocumentException", "*")
			}
		})
	}
	if out, err := s.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: &key}); err != nil ||
		!strings.Contains(*out.Policy, "Enable IAM User Permissions") {
		t.Errorf("%v, %v", aws.ToString(out.Policy), err)
	}
}
