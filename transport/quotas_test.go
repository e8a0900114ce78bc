package transport_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/quota"
)

const throttled = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."

// allowAll is an identity policy.
const allowAll = `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`

func limit(t *testing.T, c quota.Config) func(*service.Config) {
	return func(sc *service.Config) {
		c.Now = sc.Now
		var err error
		if sc.Quotas, err = quota.New(c); err != nil {
			t.Fatal(err)
		}
	}
}

// TestQuotas: operations of a class share a quota, each principal has its own, and time gives it back.
func TestQuotas(t *testing.T) {
	pair := quota.DataKeyPair("ECC_NIST_P256")
	s := newServer(t, options{service: limit(t, quota.Config{Account: quota.Rates{quota.ECC: 1},
		Principal: quota.Rates{quota.Symmetric: 3, "DescribeKey": 1, pair: 1}})})
	alice := s.user(t, account, "alice", allowAll)
	id, _ := s.newKey(t)
	describe := func(c *kms.Client) error {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		return err
	}
	encrypt := func(c *kms.Client) error {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		return err
	}
	random := func(c *kms.Client) error {
		_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
		return err
	}
	ok(0, errors.Join(describe(s.Client), encrypt(s.Client), random(s.Client), encrypt(s.Client)))(t)
	for name, call := range map[string]func(*kms.Client) error{"DescribeKey": describe, "Encrypt": encrypt,
		"GenerateRandom": random} {
		t.Run(name, func(t *testing.T) { wantError(t, call(s.Client), "ThrottlingException", throttled) })
	}
	ok(0, errors.Join(describe(alice.Client), encrypt(alice.Client)))(t)

	signing := ok(s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify}))(t).KeyMetadata.KeyId
	sign := func(c *kms.Client) error {
		_, err := c.Sign(t.Context(), &kms.SignInput{KeyId: signing, Message: []byte("x"),
			SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	}
	ok(0, sign(s.Client))(t)
	wantError(t, sign(alice.Client), "ThrottlingException", throttled) // the account's quota

	pairs := func(c *kms.Client) error {
		_, err := c.GenerateDataKeyPairWithoutPlaintext(t.Context(), &kms.GenerateDataKeyPairWithoutPlaintextInput{
			KeyId: &id, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	}
	ok(0, pairs(alice.Client))(t)
	wantError(t, pairs(alice.Client), "ThrottlingException", throttled)

	s.age(1e9) // a second
	ok(0, errors.Join(describe(s.Client), encrypt(s.Client), random(s.Client), sign(alice.Client)))(t)
}

// TestQuotaOfARole: the sessions of a role share its quota, whatever their names.
func TestQuotaOfARole(t *testing.T) {
	s := newServer(t, options{service: limit(t, quota.Config{Principal: quota.Rates{quota.Symmetric: 1}})})
	alice := s.user(t, account, "alice", `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`)
	role := s.role(t, account, "worker", iam.PrincipalDetails{Trust: trusting(alice.ARN),
		Policies: named([]string{allowAll})})
	session := func(name string) *kms.Client {
		in := sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: &name}
		return s.client(s.mustAssume(t, alice.Secret, in), region)
	}
	random := func(c *kms.Client) error {
		_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
		return err
	}
	ok(0, random(session("one")))(t)
	wantError(t, random(session("two")), "ThrottlingException", throttled)
	ok(0, random(s.Client))(t)
}

// TestConcurrentRequests: who has as many requests under way as allowed gets no further one, and the
// others do.
func TestConcurrentRequests(t *testing.T) {
	s := newServer(t, options{faults: true, service: limit(t, quota.Config{Concurrent: 1})})
	alice := s.user(t, account, "alice", allowAll)
	id, _ := s.newKey(t)
	random := func(c *kms.Client) error {
		_, err := c.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)})
		return err
	}
	ok(0, errors.Join(random(s.Client), random(alice.Client)))(t) // both have been authenticated once
	s.Faults.Hang("C_GenerateRandom")
	done := make(chan error)
	go func() { done <- random(s.Client) }()
	if err := s.Faults.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	_, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	wantError(t, err, "ThrottlingException", throttled)
	ok(alice.Client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t)
	s.Faults.Release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id}))(t)
}
