package transport_test

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

func (s *server) grant(t testing.TB, by *kms.Client, key, to string, change func(*kms.CreateGrantInput),
	operations ...types.GrantOperation) (*kms.CreateGrantOutput, error) {
	t.Helper()
	in := kms.CreateGrantInput{KeyId: &key, GranteePrincipal: &to, Operations: operations}
	if change != nil {
		change(&in)
	}
	return by.CreateGrant(t.Context(), &in)
}

func (s *server) mustGrant(t testing.TB, by *kms.Client, key, to string, change func(*kms.CreateGrantInput),
	operations ...types.GrantOperation) *kms.CreateGrantOutput {
	t.Helper()
	out, err := s.grant(t, by, key, to, change, operations...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equals(context map[string]string) func(*kms.CreateGrantInput) {
	return func(in *kms.CreateGrantInput) {
		in.Constraints = &types.GrantConstraints{EncryptionContextEquals: context}
	}
}

func subset(context map[string]string) func(*kms.CreateGrantInput) {
	return func(in *kms.CreateGrantInput) {
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: context}
	}
}

// TestGrantees: a grant allows its grantee, and nobody else, its operations, and nothing else.
func TestGrantees(t *testing.T) {
	s := newServer(t, options{})
	alice, bob, abroad := s.user(t, account, "alice"), s.user(t, account, "bob"), s.user(t, otherAccount, "abroad")
	denied := s.user(t, account, "denied", document(statement{Effect: "Deny", Action: "kms:Encrypt", Resource: "*"}))
	equipped := s.user(t, account, "equipped", identityPolicy("kms:Encrypt"))
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	session := s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}), region)
	confined := s.client(s.mustAssume(t, alice.Secret,
		sts.AssumeRoleInput{RoleArn: &role, Policy: aws.String(identityPolicy("kms:Decrypt"))}), region)
	sessionARN := "arn:aws:sts::" + account + ":assumed-role/reader/work"
	closed := document(statement{Principal: principals(iamARN(account, "root")),
		Action: []string{"kms:CreateGrant", "kms:RevokeGrant", "kms:PutKeyPolicy"}, Resource: "*"})
	for _, test := range []struct {
		name, to string
		by       *kms.Client
		allowed  bool
	}{
		{"the user", alice.ARN, alice.Client, true},
		{"another user", alice.ARN, bob.Client, false},
		{"a user whom an identity policy denies", denied.ARN, denied.Client, false},
		{"a user of another account", abroad.ARN, abroad.Client, true},
		{"the role", role, session, true},
		{"the session", sessionARN, session, true},
		{"another session", strings.Replace(sessionARN, "work", "play", 1), session, false},
		{"a session whose policy does not let it", role, confined, false},
		{"the account, with identity policy", iamARN(account, "root"), equipped.Client, true},
		{"the account, without", iamARN(account, "root"), alice.Client, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			key := s.keyWith(t, closed)
			try := encrypting(nil)
			wantError(t, try(t, test.by, key), "AccessDeniedException", "*")
			made := s.mustGrant(t, s.Client, key, test.to, nil, "Encrypt")
			if err := try(t, test.by, key); (err == nil) != test.allowed {
				t.Errorf("%v", err)
			}
			wantError(t, decryptingBy("")(t, test.by, key), "AccessDeniedException", "*")
			s.putPolicy(t, key, document(statement{Principal: principals(iamARN(account, "root")), Resource: "*"},
				statement{Effect: "Deny", Principal: "*", Action: "kms:Encrypt", Resource: "*"}))
			wantError(t, try(t, test.by, key), "AccessDeniedException", "*") // an explicit deny is above grants
			s.putPolicy(t, key, closed)
			if _, err := s.RevokeGrant(t.Context(),
				&kms.RevokeGrantInput{KeyId: &key, GrantId: made.GrantId}); err != nil {
				t.Fatal(err)
			}
			wantError(t, try(t, test.by, key), "AccessDeniedException", "*")
		})
	}
}

func TestGrantConstraints(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	for _, test := range []struct {
		name  string
		terms func(*kms.CreateGrantInput)
		yes   []map[string]string
		no    []map[string]string
	}{
		{"none", nil, []map[string]string{nil, blue}, nil},
		{"equals", equals(blue), []map[string]string{blue},
			[]map[string]string{nil, {"tenant": "blue"}, {"tenant": "blue", "purpose": "test", "x": "y"},
				{"tenant": "Blue", "purpose": "test"}}},
		{"subset", subset(blue), []map[string]string{blue, {"tenant": "blue", "purpose": "test", "x": "y"}},
			[]map[string]string{nil, {"tenant": "blue"}, {"Tenant": "blue", "purpose": "test"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, key := s.newKey(t)
			s.mustGrant(t, s.Client, key, alice.ARN, test.terms, "Encrypt", "DescribeKey")
			for _, context := range test.yes {
				if err := encrypting(context)(t, alice.Client, key); err != nil {
					t.Errorf("%v: %v", context, err)
				}
			}
			for _, context := range test.no {
				wantError(t, encrypting(context)(t, alice.Client, key), "AccessDeniedException",
					denial(alice.ARN, "Encrypt", key, noPolicy("identity-based", "Encrypt")))
			}
			if err := describeWith(t, alice.Client, key); err != nil { // which has no context to be constrained
				t.Error(err)
			}
		})
	}
}

// TestNestedGrants: a caller who may create grants only because of a grant cannot give more than
// that grant.
func TestNestedGrants(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	bob := iamARN(account, "user/bob")
	with := func(more map[string]string) map[string]string {
		all := map[string]string{"tenant": "blue"}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	tenant := with(nil)
	type terms = func(*kms.CreateGrantInput)
	for _, test := range []struct {
		name       string
		parent     terms
		child      terms
		operations []types.GrantOperation
		allowed    bool
	}{
		{"the same", nil, nil, []types.GrantOperation{"Decrypt", "CreateGrant"}, true},
		{"less", nil, nil, []types.GrantOperation{"Decrypt"}, true},
		{"more", nil, nil, []types.GrantOperation{"Decrypt", "Encrypt"}, false},
		{"stricter", nil, equals(tenant), []types.GrantOperation{"Decrypt"}, true},
		{"equal", equals(tenant), equals(tenant), []types.GrantOperation{"Decrypt"}, true},
		{"unconstrained", equals(tenant), nil, []types.GrantOperation{"Decrypt"}, false},
		{"another value", equals(tenant), equals(map[string]string{"tenant": "red"}),
			[]types.GrantOperation{"Decrypt"}, false},
		{"subset for equals", equals(tenant), subset(tenant), []types.GrantOperation{"Decrypt"}, false},
		{"equals for subset", subset(tenant), equals(tenant), []types.GrantOperation{"Decrypt"}, true},
		{"larger subset", subset(tenant), subset(with(map[string]string{"x": "y"})),
			[]types.GrantOperation{"Decrypt"}, true},
		{"another subset", subset(tenant), subset(map[string]string{"x": "y"}),
			[]types.GrantOperation{"Decrypt"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, key := s.newKey(t)
			s.mustGrant(t, s.Client, key, alice.ARN, test.parent, "CreateGrant", "Decrypt")
			_, err := s.grant(t, alice.Client, key, bob, test.child, test.operations...)
			if !test.allowed {
				wantError(t, err, "AccessDeniedException",
					denial(alice.ARN, "CreateGrant", key, noPolicy("identity-based", "CreateGrant")))
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("the second of two", func(t *testing.T) { // whatever their order
		_, key := s.newKey(t)
		s.mustGrant(t, s.Client, key, alice.ARN, nil, "CreateGrant", "Encrypt")
		s.mustGrant(t, s.Client, key, alice.ARN, nil, "CreateGrant", "Decrypt")
		for _, operation := range []types.GrantOperation{"Encrypt", "Decrypt"} {
			if _, err := s.grant(t, alice.Client, key, bob, nil, operation); err != nil {
				t.Errorf("%s: %v", operation, err)
			}
		}
		_, err := s.grant(t, alice.Client, key, bob, nil, "Encrypt", "Decrypt")
		wantError(t, err, "AccessDeniedException", "*")
	})
	t.Run("with a policy besides", func(t *testing.T) {
		_, key := s.newKey(t)
		equipped := s.user(t, account, "equipped", identityPolicy("kms:CreateGrant"))
		s.mustGrant(t, s.Client, key, equipped.ARN, nil, "CreateGrant", "Decrypt")
		if _, err := s.grant(t, equipped.Client, key, bob, nil, "Encrypt"); err != nil {
			t.Error(err)
		}
	})
}

// TestRetiring: a grant is retired by its retiring principal, its grantee if it says so, and the
// account of the key, which can delegate it by identity policies.
func TestRetiring(t *testing.T) {
	s := newServer(t, options{})
	alice, bob := s.user(t, account, "alice"), s.user(t, account, "bob")
	carol := s.user(t, account, "carol", identityPolicy("kms:*"))
	abroad := s.user(t, otherAccount, "abroad", identityPolicy("kms:*"))
	retiredBy := func(arn string) func(*kms.CreateGrantInput) {
		return func(in *kms.CreateGrantInput) { in.RetiringPrincipal = &arn }
	}
	root := &person{Client: s.Client, ARN: iamARN(account, "root")}
	for _, test := range []struct {
		name       string
		terms      func(*kms.CreateGrantInput)
		operations []types.GrantOperation
		by         *person
		allowed    bool
	}{
		{"retiring principal", retiredBy(bob.ARN), []types.GrantOperation{"Decrypt"}, bob, true},
		{"retiring principal of another account", retiredBy(abroad.ARN), []types.GrantOperation{"Decrypt"},
			abroad, true},
		{"grantee who may", nil, []types.GrantOperation{"Decrypt", "RetireGrant"}, alice, true},
		{"grantee who may, in spite of a constraint", equals(blue), []types.GrantOperation{"Decrypt", "RetireGrant"},
			alice, true},
		{"grantee who may not", nil, []types.GrantOperation{"Decrypt"}, alice, false},
		{"root", nil, []types.GrantOperation{"Decrypt"}, root, true},
		{"a stranger", retiredBy(bob.ARN), []types.GrantOperation{"Decrypt", "RetireGrant"}, abroad, false},
	} {
		for _, byToken := range []bool{true, false} {
			t.Run(test.name, func(t *testing.T) {
				_, key := s.newKey(t)
				made := s.mustGrant(t, s.Client, key, alice.ARN, test.terms, test.operations...)
				in := kms.RetireGrantInput{KeyId: &key, GrantId: made.GrantId}
				if byToken {
					in = kms.RetireGrantInput{GrantToken: made.GrantToken}
				}
				_, err := test.by.RetireGrant(t.Context(), &in)
				left, listed := s.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &key})
				if listed != nil {
					t.Fatal(listed)
				}
				if test.allowed && (err != nil || len(left.Grants) != 0) {
					t.Errorf("%d are left, %v", len(left.Grants), err)
				}
				if !test.allowed {
					why := noPolicy("identity-based", "RetireGrant")
					if test.by == abroad {
						why = notInReach
					}
					wantError(t, err, "AccessDeniedException", denial(test.by.ARN, "RetireGrant", key, why))
					if len(left.Grants) != 1 {
						t.Errorf("%d are left", len(left.Grants))
					}
				}
			})
		}
	}
	t.Run("a user of the account by identity policy", func(t *testing.T) {
		_, key := s.newKey(t)
		made := s.mustGrant(t, s.Client, key, alice.ARN, nil, "Decrypt")
		// AWS: the account can delegate it
		if _, err := carol.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: made.GrantToken}); err != nil {
			t.Error(err)
		}
	})
	t.Run("denied by the key policy", func(t *testing.T) {
		key := s.keyWith(t,
			keyPolicy(statement{Effect: "Deny", Principal: principals(bob.ARN), Action: "kms:RetireGrant"}))
		made := s.mustGrant(t, s.Client, key, alice.ARN, retiredBy(bob.ARN), "Decrypt")
		_, err := bob.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: made.GrantToken})
		wantError(t, err, "AccessDeniedException",
			denial(bob.ARN, "RetireGrant", key, "with an explicit deny in a resource-based policy"))
	})
}

// TestGrantTokens: a request with the token of no grant, or of a grant that is gone, fails. Any
// other token does no harm, and does not give anybody else's permissions.
func TestGrantTokens(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	_, other := s.newKey(t)
	alice, bob := s.user(t, account, "alice"), s.user(t, account, "bob")
	made := s.mustGrant(t, s.Client, key, alice.ARN, nil, "Encrypt")
	token := *made.GrantToken
	encrypt := func(c *kms.Client, key string, tokens ...string) error {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), GrantTokens: tokens})
		return err
	}
	for name, err := range map[string]error{"without": encrypt(alice.Client, key),
		"with": encrypt(alice.Client, key, token), "twice": encrypt(alice.Client, key, token, token),
		"padded": encrypt(alice.Client, key, token+"="), "by root": encrypt(s.Client, key, token),
		"with another key": encrypt(s.Client, other, token)} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantError(t, encrypt(bob.Client, key, token), "AccessDeniedException", "*")
	wantError(t, encrypt(alice.Client, other, token), "AccessDeniedException", "*")

	const invalid = "The specified grant token is not valid."
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int) string {
		b := append([]byte(nil), raw...)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	for name, bad := range map[string]string{"id": changed(0), "secret": changed(len(raw) - 1),
		"half": base64.RawURLEncoding.EncodeToString(raw[:32]), "grant id": *made.GrantId,
		"no base64": "not base64!", "zeros": base64.RawURLEncoding.EncodeToString(make([]byte, len(raw)))} {
		t.Run(name, func(t *testing.T) {
			for _, tokens := range [][]string{{bad}, {token, bad}} {
				wantError(t, encrypt(alice.Client, key, tokens...), "InvalidGrantTokenException", invalid)
				wantError(t, encrypt(s.Client, key, tokens...), "InvalidGrantTokenException", invalid)
			}
			_, err := alice.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: &bad})
			wantError(t, err, "InvalidGrantTokenException", invalid)
		})
	}
	if _, err := s.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: &token}); err != nil {
		t.Fatal(err)
	}
	wantError(t, encrypt(alice.Client, key, token), "InvalidGrantTokenException", invalid)
	wantError(t, encrypt(s.Client, key, token), "InvalidGrantTokenException", invalid)
	wantError(t, encrypt(alice.Client, key), "AccessDeniedException", "*")
}

// TestGrantTokensOfReplicas: a token of a grant on one key of a multi-Region set does not work with
// the others.
func TestGrantTokensOfReplicas(t *testing.T) {
	s := newServer(t, options{})
	made, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	key := *made.KeyMetadata.KeyId
	if _, err := s.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &key,
		ReplicaRegion: aws.String(otherRegion)}); err != nil {
		t.Fatal(err)
	}
	alice := s.user(t, account, "alice")
	grant := s.mustGrant(t, s.Client, key, alice.ARN, nil, "Encrypt")
	in := kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"), GrantTokens: []string{*grant.GrantToken}}
	if _, err := alice.Encrypt(t.Context(), &in); err != nil {
		t.Error(err)
	}
	_, err = s.client(alice.Secret, otherRegion).Encrypt(t.Context(), &in)
	wantError(t, err, "AccessDeniedException", "*")
}

// TestGrantsOfNewNodes: a grant that this server does not know yet counts if the request has its
// token.
func TestGrantsOfNewNodes(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.Store = &forgetful{c.Store} }})
	_, key := s.newKey(t)
	alice := s.user(t, account, "alice")
	made := s.mustGrant(t, s.Client, key, alice.ARN, nil, "Encrypt")
	wantError(t, encrypting(nil)(t, alice.Client, key), "AccessDeniedException", "*")
	if _, err := alice.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"),
		GrantTokens: []string{*made.GrantToken}}); err != nil {
		t.Error(err)
	}
	_, err := alice.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &key, CiphertextBlob: []byte("x"),
		GrantTokens: []string{*made.GrantToken}})
	wantError(t, err, "AccessDeniedException", "*")
}

// forgetful is a store that does not know any key's grants yet.
type forgetful struct{ service.Store }

func (*forgetful) GrantsOf(context.Context, string, string) ([]*service.Grant, error) {
	return nil, nil
}
