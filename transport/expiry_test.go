package transport_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service/iam"
)

// TestExpiringAccessKeys: an access key is refused from its end on, with all that was asked for with it, and policies
// can demand that credentials end, or that they are young.
func TestExpiringAccessKeys(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	denyUnless := func(name, operator, conditionKey, value string) (forever, ending aws.Credentials) {
		user := s.user(t, account, name, document(statement{Action: "*", Resource: "*"},
			statement{Effect: "Deny", Action: "kms:*", Resource: "*",
				Condition: map[string]any{operator: map[string]string{conditionKey: value}}}))
		until, err := s.Service.IAM().CreateAccessKeyFor(t.Context(), account, user.ARN,
			iam.Lifetime{Until: s.Now().Add(30 * time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return user.Secret, aws.Credentials{AccessKeyID: until.AccessKeyID,
			SecretAccessKey: string(until.SecretAccessKey)}
	}
	forever, ending := denyUnless("ending", "Null", "verenc:CredentialExpires", "true")
	if err := describeWith(t, s.punctual(ending), key); err != nil {
		t.Error(err)
	}
	wantError(t, describeWith(t, s.punctual(forever), key), "AccessDeniedException", "*")
	session := func(c aws.Credentials) (aws.Credentials, time.Time) {
		out, err := s.sts(c).GetSessionToken(t.Context(), &sts.GetSessionTokenInput{})
		if err != nil {
			t.Fatal(err)
		}
		return aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId,
			SecretAccessKey: *out.Credentials.SecretAccessKey,
			SessionToken:    *out.Credentials.SessionToken}, *out.Credentials.Expiration
	}
	// A session does not go round the demand, and ends with its access key.
	ofForever, _ := session(forever)
	wantError(t, describeWith(t, s.punctual(ofForever), key), "AccessDeniedException", "*")
	ofEnding, until := session(ending)
	if left := until.Sub(s.Now()); left > 30*time.Minute {
		t.Errorf("the session lasts for %v", left)
	}
	if err := describeWith(t, s.punctual(ofEnding), key); err != nil {
		t.Error(err)
	}

	young, _ := denyUnless("young", "NumericGreaterThan", "verenc:CredentialAge", "0")
	if err := describeWith(t, s.punctual(young), key); err != nil {
		t.Error(err)
	}
	s.advance(31 * time.Minute)
	for _, c := range []aws.Credentials{ending, ofEnding} {
		wantError(t, describeWith(t, s.punctual(c), key), "ExpiredTokenException",
			"The security token included in the request is expired")
	}
	options := s.sts(ending).Options()
	options.AuthSchemes, options.HTTPSignerV4 = nil, clockSigner{v4.NewSigner(), s.Now}
	_, err := sts.New(options).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantSTS(t, err, 403, "ExpiredToken", "The security token included in the request is expired")
	if err := describeWith(t, s.punctual(young), key); err != nil {
		t.Error(err)
	}
	s.advance(24 * time.Hour)
	wantError(t, describeWith(t, s.punctual(young), key), "AccessDeniedException", "*")
	if _, err := s.punctual(s.Secret).ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
}
