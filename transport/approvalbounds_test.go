package transport_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestApprovedAliasIsMoved: who approves of a call approves of the keys that it names now.
func TestApprovedAliasIsMoved(t *testing.T) {
	c := newCustody(t, 1, "kms:ReEncryptFrom")
	safe, _ := c.newKey(t)
	other, _ := c.newKey(t)
	alias := aws.String("alias/backup")
	ok(c.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: alias, TargetKeyId: &safe}))(t)
	sealed := ok(c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &c.key, Plaintext: []byte("secret")}))(t)
	reEncrypt := func() error {
		_, err := c.alice.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob,
			SourceKeyId: &c.key, DestinationKeyId: alias})
		return err
	}
	number, _ := wantsApproval(t, reEncrypt())
	c.mustApprove(t, c.bob.Secret, number)
	point := func(key string) {
		t.Helper()
		ok(c.alice.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: &key}))(t)
	}
	point(other)
	if another, have := wantsApproval(t, reEncrypt()); another == number || have != "0/1" {
		t.Errorf("request %v has %v approvals, and was made for the other key", another, have)
	}
	point(safe)
	if err := reEncrypt(); err != nil {
		t.Error(err)
	}
}

// TestForeignApprovers: the people of an account do not approve of what the guard or the policies of another one limit.
func TestForeignApprovers(t *testing.T) {
	s := newServer(t, options{})
	const other = "444455556666"
	alice := s.user(t, account, "alice", identityPolicy("kms:*", mayApprove))
	owner := s.user(t, other, "owner", identityPolicy("kms:*", mayApprove))
	policy := keyPolicy(
		statement{Sid: "own", Effect: "Allow", Principal: map[string]any{"AWS": "arn:aws:iam::" + other + ":root"},
			Action: "*"},
		statement{Sid: "other", Effect: "Allow",
			Principal: map[string]any{"AWS": "arn:aws:iam::" + account + ":root"}, Action: "kms:*"})
	key := ok(owner.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &policy}))(t).KeyMetadata.Arn
	encrypt := func() error {
		_, err := alice.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
		return err
	}
	if err := encrypt(); err != nil {
		t.Fatal(err)
	}
	s.guard(t, needs(1, "kms:Encrypt"))
	wantError(t, encrypt(), "AccessDeniedException", "*")
	var asked struct{ Requests []any }
	if code, _ := s.own(t, owner.Secret, "ListApprovalRequests", "{}", &asked); code != "" || len(asked.Requests) > 0 {
		t.Errorf("%s %v", code, asked)
	}
}

// TestNoDecisionInsideAChange: a replica's policy that asks for approvals neither stops the database nor loses them.
func TestNoDecisionInsideAChange(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice", identityPolicy("kms:*", mayApprove))
	bob := s.user(t, account, "bob", identityPolicy("kms:*", mayApprove))
	key := ok(alice.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true)}))(t).KeyMetadata.KeyId
	policy := keyPolicy(statement{Effect: "Allow", Principal: "*", Action: "kms:*"},
		statement{Effect: "Deny", Principal: "*", Action: "kms:UpdatePrimaryRegion",
			Condition: map[string]any{"NumericLessThan": map[string]any{"verenc:Approvals": "1"}}})
	ok(alice.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: key, ReplicaRegion: aws.String(otherRegion),
		Policy: &policy, BypassPolicyLockoutSafetyCheck: true}))(t)
	move := func() error {
		_, err := alice.UpdatePrimaryRegion(t.Context(),
			&kms.UpdatePrimaryRegionInput{KeyId: key, PrimaryRegion: aws.String(otherRegion)})
		return err
	}
	number, _ := wantsApproval(t, move())
	s.mustApprove(t, bob.Secret, number)
	if err := move(); err != nil {
		t.Error(err)
	}
}
