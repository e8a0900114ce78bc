package transport_test

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/verenc/kms/service/iam"
)

// sts is an unmodified AWS client of STS.
func (s *server) sts(c aws.Credentials) *sts.Client {
	return sts.New(sts.Options{BaseEndpoint: &s.URL, Region: region, RetryMaxAttempts: 1,
		HTTPClient:  s.http,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)})
}

func trusting(arns ...string) string {
	return document(statement{Principal: principals(arns...), Action: "sts:AssumeRole"})
}

// assume gets the temporary credentials of a role.
func (s *server) assume(t testing.TB, c aws.Credentials, in sts.AssumeRoleInput) (aws.Credentials, error) {
	t.Helper()
	if in.RoleSessionName == nil {
		in.RoleSessionName = aws.String("work")
	}
	out, err := s.sts(c).AssumeRole(t.Context(), &in)
	if err != nil {
		return aws.Credentials{}, err
	}
	return aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken}, nil
}

func (s *server) mustAssume(t testing.TB, c aws.Credentials, in sts.AssumeRoleInput) aws.Credentials {
	t.Helper()
	got, err := s.assume(t, c, in)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func describeWith(t *testing.T, c *kms.Client, id string) error {
	_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	return err
}

func TestCallerIdentity(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	for _, test := range []struct {
		name             string
		c                aws.Credentials
		arn, userID, acc string
	}{
		{"root", s.Secret, iamARN(account, "root"), account, account},
		{"root of another account", s.root(t, otherAccount).Secret, iamARN(otherAccount, "root"), otherAccount,
			otherAccount},
		{"user", alice.Secret, alice.ARN, "AIDAALICE", account},
		{"session", s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}),
			"arn:aws:sts::" + account + ":assumed-role/reader/work", "AROAREADER:work", account},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := s.sts(test.c).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			if err != nil {
				t.Fatal(err)
			}
			if *out.Arn != test.arn || *out.UserId != test.userID || *out.Account != test.acc {
				t.Errorf("%s, %s, %s", *out.Arn, *out.UserId, *out.Account)
			}
		})
	}
	_, err := s.sts(aws.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "x"}).GetCallerIdentity(t.Context(),
		&sts.GetCallerIdentityInput{})
	wantSTS(t, err, 403, "InvalidClientTokenId", "The security token included in the request is invalid.")
	_, err = s.sts(aws.Credentials{AccessKeyID: s.Secret.AccessKeyID, SecretAccessKey: "x"}).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantSTS(t, err, 403, "SignatureDoesNotMatch", "*")
	unsigned := sts.New(sts.Options{BaseEndpoint: &s.URL, Region: region, RetryMaxAttempts: 1,
		HTTPClient: s.http, Credentials: aws.AnonymousCredentials{}})
	_, err = unsigned.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantSTS(t, err, 403, "MissingAuthenticationToken", "Missing Authentication Token")
}

// wantSTS is wantError with the status, and the parts of an error that only XML has.
func wantSTS(t *testing.T, err error, status int, code, message string) {
	t.Helper()
	wantError(t, err, code, message)
	var api smithy.APIError
	var answer interface {
		HTTPStatusCode() int
		ServiceRequestID() string
	}
	if !errors.As(err, &api) || !errors.As(err, &answer) {
		t.Errorf("%v", err)
		return
	}
	if answer.HTTPStatusCode() != status || answer.ServiceRequestID() == "" {
		t.Errorf("status %d, request id %q: %v", answer.HTTPStatusCode(), answer.ServiceRequestID(), err)
	}
}

func TestAssumeRole(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	alice := s.user(t, account, "alice")
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN), MaxSession: 7200,
		Policies: named([]string{identityPolicy("kms:DescribeKey", "kms:Encrypt")})})
	session := "arn:aws:sts::" + account + ":assumed-role/reader/work"

	t.Run("answer", func(t *testing.T) {
		before := s.Now().Truncate(time.Second)
		out, err := s.sts(alice.Secret).AssumeRole(t.Context(),
			&sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("work"), DurationSeconds: aws.Int32(1800)})
		if err != nil {
			t.Fatal(err)
		}
		if u := out.AssumedRoleUser; *u.Arn != session || *u.AssumedRoleId != "AROAREADER:work" {
			t.Errorf("%s, %s", *u.Arn, *u.AssumedRoleId)
		}
		if c := out.Credentials; !strings.HasPrefix(*c.AccessKeyId, "ASIA") || len(*c.AccessKeyId) != 20 ||
			len(*c.SecretAccessKey) != 40 ||
			c.Expiration.Before(before.Add(30*time.Minute)) || c.Expiration.After(s.Now().Add(30*time.Minute)) {
			t.Errorf("%s, %d, %s", *c.AccessKeyId, len(*c.SecretAccessKey), *c.Expiration)
		}
		if strings.Contains(s.Log.String(), *out.Credentials.SecretAccessKey) ||
			strings.Contains(s.Log.String(), *out.Credentials.SessionToken) {
			t.Error("the credentials are in the log")
		}
	})
	t.Run("use", func(t *testing.T) {
		c := s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}), region)
		if err := describeWith(t, c, key); err != nil {
			t.Error(err)
		}
		_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &key})
		wantError(t, err, "AccessDeniedException",
			denial(session, "DisableKey", key, noPolicy("identity-based", "DisableKey")))
		if err := describeWith(t, s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}),
			otherRegion), key); err == nil {
			t.Error("the key is in another region, too")
		}
	})
	t.Run("the SDK's provider", func(t *testing.T) {
		provider := aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(s.sts(alice.Secret), role,
			func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "work" }))
		c := kms.New(kms.Options{BaseEndpoint: &s.URL, Region: region, RetryMaxAttempts: 1, HTTPClient: s.http,
			Credentials: provider})
		if err := describeWith(t, c, key); err != nil {
			t.Error(err)
		}
	})
	t.Run("session policy", func(t *testing.T) {
		c := s.client(s.mustAssume(t, alice.Secret,
			sts.AssumeRoleInput{RoleArn: &role, Policy: aws.String(identityPolicy("kms:Encrypt", "kms:DisableKey"))}),
			region)
		if _, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")}); err != nil {
			t.Error(err)
		}
		wantError(t, describeWith(t, c, key), "AccessDeniedException",
			denial(session, "DescribeKey", key, "because no session policy allows the kms:DescribeKey action"))
		_, err := c.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &key})
		wantError(t, err, "AccessDeniedException",
			denial(session, "DisableKey", key, noPolicy("identity-based", "DisableKey")))
	})
	t.Run("a role that changes, or goes", func(t *testing.T) {
		d := iam.PrincipalDetails{Trust: trusting(alice.ARN),
			Policies: named([]string{identityPolicy("kms:DescribeKey")})}
		brief := s.role(t, account, "brief", d)
		c := s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &brief}), region)
		if err := describeWith(t, c, key); err != nil {
			t.Error(err)
		}
		d.Policies = nil
		s.role(t, account, "brief", d)
		wantError(t, describeWith(t, c, key), "AccessDeniedException", "*")
		if err := s.Store.RemovePrincipal(t.Context(), brief); err != nil {
			t.Fatal(err)
		}
		wantError(t, describeWith(t, c, key), "UnrecognizedClientException",
			"The security token included in the request is invalid.")
	})
}

func TestAssumeRoleRefuses(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	bob := s.user(t, account, "bob")
	delegated := s.user(t, account, "delegated", document(statement{Action: "sts:AssumeRole", Resource: "*"}))
	stranger := s.user(t, otherAccount, "stranger", document(statement{Action: "sts:AssumeRole", Resource: "*"}))
	unequipped := s.user(t, otherAccount, "unequipped")
	trust := iam.PrincipalDetails{Trust: trusting(alice.ARN), MaxSession: 7200}
	role := s.role(t, account, "reader", trust)
	plain := s.role(t, account, "plain", iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	mute := s.role(t, account, "mute", iam.PrincipalDetails{})
	byAccount := s.role(t, account, "byaccount", iam.PrincipalDetails{Trust: trusting(iamARN(account, "root"))})
	everyone := s.role(t, account, "everyone", iam.PrincipalDetails{Trust: trusting("*")})
	abroad := s.role(t, account, "abroad", iam.PrincipalDetails{Trust: trusting(stranger.ARN, unequipped.ARN)})
	next := s.role(t, account, "next", iam.PrincipalDetails{Trust: trusting(role), MaxSession: 43200})
	external := s.role(t, account, "external",
		iam.PrincipalDetails{Trust: document(statement{Principal: principals(alice.ARN), Action: "sts:AssumeRole",
			Condition: map[string]any{"StringEquals": map[string]string{"sts:ExternalId": "secret"}}})})
	session := s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role})
	seconds := func(n int32) sts.AssumeRoleInput { return sts.AssumeRoleInput{RoleArn: &role, DurationSeconds: &n} }
	with := func(change func(*sts.AssumeRoleInput)) sts.AssumeRoleInput {
		in := sts.AssumeRoleInput{RoleArn: &role}
		change(&in)
		return in
	}
	refused := func(who, role string) string {
		return "User: " + who + " is not authorized to perform: sts:AssumeRole on resource: " + role
	}
	nobody := iamARN(account, "role/nobody")
	for _, test := range []struct {
		name          string
		by            aws.Credentials
		in            sts.AssumeRoleInput
		status        int // 0: allowed
		code, message string
	}{
		{"no trust", bob.Secret, sts.AssumeRoleInput{RoleArn: &role}, 403, "AccessDenied", refused(bob.ARN, role)},
		{"no trust policy", alice.Secret, sts.AssumeRoleInput{RoleArn: &mute}, 403, "AccessDenied",
			refused(alice.ARN, mute)},
		{"no such role", alice.Secret, sts.AssumeRoleInput{RoleArn: &nobody}, 403, "AccessDenied",
			refused(alice.ARN, nobody)},
		{"a user", bob.Secret, sts.AssumeRoleInput{RoleArn: &alice.ARN}, 400, "ValidationError",
			alice.ARN + " is invalid"},
		{"root", s.Secret, sts.AssumeRoleInput{RoleArn: &everyone}, 403, "AccessDenied",
			refused(iamARN(account, "root"), everyone)},
		{"trust of the account, no identity policy", bob.Secret, sts.AssumeRoleInput{RoleArn: &byAccount}, 403,
			"AccessDenied", refused(bob.ARN, byAccount)},
		{"trust of the account and identity policy", delegated.Secret,
			sts.AssumeRoleInput{RoleArn: &byAccount}, 0, "", ""},
		{"identity policy alone", delegated.Secret, sts.AssumeRoleInput{RoleArn: &role}, 403, "AccessDenied",
			refused(delegated.ARN, role)},
		{"another account with both", stranger.Secret, sts.AssumeRoleInput{RoleArn: &abroad}, 0, "", ""},
		{"another account without identity policy", unequipped.Secret, sts.AssumeRoleInput{RoleArn: &abroad}, 403,
			"AccessDenied", refused(unequipped.ARN, abroad)},
		{"external id", alice.Secret, sts.AssumeRoleInput{RoleArn: &external,
			ExternalId: aws.String("secret")}, 0, "", ""},
		{"wrong external id", alice.Secret, sts.AssumeRoleInput{RoleArn: &external, ExternalId: aws.String("guess")},
			403, "AccessDenied", refused(alice.ARN, external)},
		{"no external id", alice.Secret, sts.AssumeRoleInput{RoleArn: &external}, 403, "AccessDenied",
			refused(alice.ARN, external)},
		{"900 seconds", alice.Secret, seconds(900), 0, "", ""},
		{"899 seconds", alice.Secret, seconds(899), 400, "ValidationError", "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value between 900 and 43200"},
		{"12 hours and a second", alice.Secret, seconds(43201), 400, "ValidationError", "*"},
		{"the most of the role", alice.Secret, seconds(7200), 0, "", ""},
		{"more than the role's most", alice.Secret, seconds(7201), 400, "ValidationError",
			"The requested DurationSeconds exceeds the MaxSessionDuration set for this role."},
		{"a role without a most", alice.Secret,
			sts.AssumeRoleInput{RoleArn: &plain, DurationSeconds: aws.Int32(3600)}, 0, "", ""},
		{"more than an hour of it", alice.Secret,
			sts.AssumeRoleInput{RoleArn: &plain, DurationSeconds: aws.Int32(3601)}, 400, "ValidationError", "*"},
		{"chain of an hour", session, sts.AssumeRoleInput{RoleArn: &next, DurationSeconds: aws.Int32(3600)}, 0, "", ""},
		{"longer chain", session, sts.AssumeRoleInput{RoleArn: &next, DurationSeconds: aws.Int32(3601)}, 400,
			"ValidationError",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"},
		{"not a policy", alice.Secret, with(func(in *sts.AssumeRoleInput) { in.Policy = aws.String("{") }), 400,
			"MalformedPolicyDocument", "*"},
		{"a policy with principals", alice.Secret,
			with(func(in *sts.AssumeRoleInput) { in.Policy = aws.String(trusting("*")) }), 400,
			"MalformedPolicyDocument", "*"},
		{"a long policy", alice.Secret, with(func(in *sts.AssumeRoleInput) {
			in.Policy = aws.String(identityPolicy(strings.Repeat("kms:Encrypt", 200)))
		}), 400, "PackedPolicyTooLarge", "*"},
		{"short name", alice.Secret, with(func(in *sts.AssumeRoleInput) { in.RoleSessionName = aws.String("x") }), 400,
			"ValidationError", "*"},
		{"name with a slash", alice.Secret, with(func(in *sts.AssumeRoleInput) {
			in.RoleSessionName = aws.String("a/b")
		}), 400, "ValidationError", "*"},
		{"serial number", alice.Secret, with(func(in *sts.AssumeRoleInput) {
			in.SerialNumber = aws.String("GAHT12345678")
		}), 400, "ValidationError", "SerialNumber is not supported."},
		{"no role", alice.Secret, with(func(in *sts.AssumeRoleInput) {
			in.RoleArn = aws.String("arn:aws:iam::1:role/x\x00<&>")
		}), 400, "ValidationError", "*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := s.assume(t, test.by, test.in)
			if test.status != 0 {
				wantSTS(t, err, test.status, test.code, test.message)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.sts(c).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestSessionTokens: an access key is valid only with its whole session token, and only until the
// token expires by the server's clock.
func TestSessionTokens(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	alice := s.user(t, account, "alice")
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN),
		Policies: named([]string{identityPolicy("kms:DescribeKey")})})
	good := s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role, DurationSeconds: aws.Int32(900)})
	other := s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role})
	raw, err := base64.StdEncoding.DecodeString(good.SessionToken)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func([]byte) []byte) string {
		return base64.StdEncoding.EncodeToString(change([]byte(string(raw))))
	}
	bent := func(c aws.Credentials, token string) aws.Credentials { c.SessionToken = token; return c }
	for name, c := range map[string]aws.Credentials{
		"none":                 bent(good, ""),
		"another's":            bent(good, other.SessionToken),
		"for a long-lived key": bent(alice.Secret, good.SessionToken),
		"first bit":            bent(good, changed(func(b []byte) []byte { b[0] ^= 0x80; return b })),
		"last bit":             bent(good, changed(func(b []byte) []byte { b[len(b)-1] ^= 1; return b })),
		"middle":               bent(good, changed(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })),
		"short":                bent(good, changed(func(b []byte) []byte { return b[:len(b)-1] })),
		"long":                 bent(good, changed(func(b []byte) []byte { return append(b, 0) })),
		"one byte":             bent(good, "AA=="),
		"not base64":           bent(good, "!"),
		"an access key's secret": bent(good, base64.StdEncoding.EncodeToString(
			sealedSecret(t, s, alice.Secret.AccessKeyID))),
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, describeWith(t, s.client(c, region), key), "UnrecognizedClientException",
				"The security token included in the request is invalid.")
			_, err := s.sts(c).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			wantSTS(t, err, 403, "InvalidClientTokenId", "The security token included in the request is invalid.")
		})
	}
	forged := good
	forged.SecretAccessKey = other.SecretAccessKey
	wantError(t, describeWith(t, s.client(forged, region), key), "InvalidSignatureException", "*")

	if err := describeWith(t, s.client(good, region), key); err != nil {
		t.Error(err)
	}
	s.advance(5 * time.Minute) // of 15, to leave some to a slow machine
	if err := describeWith(t, s.punctual(good), key); err != nil {
		t.Error(err)
	}
	s.advance(10 * time.Minute)
	wantError(t, describeWith(t, s.punctual(good), key), "ExpiredTokenException",
		"The security token included in the request is expired")
	stsOptions := s.sts(good).Options()
	stsOptions.AuthSchemes, stsOptions.HTTPSignerV4 = nil, clockSigner{v4.NewSigner(), s.Now}
	_, err = sts.New(stsOptions).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	wantSTS(t, err, 403, "ExpiredToken", "The security token included in the request is expired")
	if err := describeWith(t, s.punctual(other), key); err != nil {
		t.Error(err)
	}
}

// clockSigner signs by another clock than the machine's.
type clockSigner struct {
	*v4.Signer
	now func() time.Time
}

func (c clockSigner) SignHTTP(ctx context.Context, who aws.Credentials, r *http.Request, hash, service, region string,
	_ time.Time, options ...func(*v4.SignerOptions)) error {
	return c.Signer.SignHTTP(ctx, who, r, hash, service, region, c.now(), options...)
}

// punctual returns a client that uses the server's clock.
func (s *server) punctual(c aws.Credentials) *kms.Client {
	o := s.client(c, region).Options()
	o.AuthSchemes, o.HTTPSignerV4 = nil, clockSigner{v4.NewSigner(), s.Now} // the schemes hold the signer
	return kms.New(o)
}

// sealedSecret returns the sealed secret of an access key in the store.
func sealedSecret(t *testing.T, s *server, id string) []byte {
	t.Helper()
	k, err := s.Store.AccessKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return k.SealedSecret
}

// TestHostileForms: a body that is not a valid request of STS gets an error in XML, and has no
// effect.
func TestHostileForms(t *testing.T) {
	s := newServer(t, options{})
	alice := s.user(t, account, "alice")
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	assume := "Action=AssumeRole&Version=2011-06-15&RoleSessionName=work&RoleArn=" + url.QueryEscape(role)
	for _, test := range []struct {
		name, body, target string
		status             int
		code               string
	}{
		{"good", assume, "", 200, ""},
		{"with members that are empty", assume + "&DurationSeconds=&Policy=&ExternalId=", "", 200, ""},
		{"empty", "", "", 400, "InvalidAction"},
		{"no version", "Action=GetCallerIdentity", "", 400, "InvalidAction"},
		{"another version", "Action=GetCallerIdentity&Version=2010-05-08", "", 400, "InvalidAction"},
		{"an action that is not served", "Action=GetFederationToken&Version=2011-06-15", "", 400, "InvalidAction"},
		{"an action in other case", "Action=getcalleridentity&Version=2011-06-15", "", 400, "InvalidAction"},
		{"an action of KMS", "Action=ListKeys&Version=2011-06-15", "", 400, "InvalidAction"},
		{"a broken escape", "Action=GetCallerIdentity&Version=2011-06-15&x=%zz", "", 400, "SerializationException"},
		{"semicolons", "Action=GetCallerIdentity;Version=2011-06-15", "", 400, "SerializationException"},
		{"a number that is none", assume + "&DurationSeconds=1e3", "", 400, "ValidationError"},
		{"a large number", assume + "&DurationSeconds=4294968196", "", 400, "ValidationError"},
		{"a negative number", assume + "&DurationSeconds=-900", "", 400, "ValidationError"},
		{"no members", "Action=AssumeRole&Version=2011-06-15", "", 400, "ValidationError"},
		{"tags", assume + "&Tags.member.1.Key=a&Tags.member.1.Value=b", "", 400, "ValidationError"},
		{"policy ARNs", assume + "&PolicyArns.member.1.arn=arn:aws:iam::aws:policy/x", "", 400, "ValidationError"},
		{"many members", assume + strings.Repeat("&a", 30_000), "", 400, "SerializationException"},
		{"too large", assume + "&x=" + strings.Repeat("x", 64<<10), "", 413, "RequestEntityTooLargeException"},
		{"a form for KMS", "Action=GetCallerIdentity&Version=2011-06-15", "TrentService.ListKeys", 404, ""},
		{"control characters", assume + "&Policy=%00%01%ff", "", 400, "MalformedPolicyDocument"},
		{"markup", "Action=AssumeRole&Version=2011-06-15&RoleSessionName=work&RoleArn=%3C%2FMessage%3E%00%26", "", 400,
			"ValidationError"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := post(t, s.URL, formType+"; charset=utf-8", test.target, test.body)
			signRequest(t, r, alice.Secret, "sts", test.body, time.Now())
			resp, text := send(t, http.DefaultClient, r)
			if resp.StatusCode != test.status {
				t.Errorf("%s: %s", resp.Status, text)
			}
			if test.target != "" { // JSON
				return
			}
			var answer struct {
				XMLName xml.Name
				Type    string `xml:"Error>Type"`
				Code    string `xml:"Error>Code"`
				Request string `xml:"RequestId"`
			}
			if err := xml.Unmarshal(text, &answer); err != nil || resp.Header.Get("Content-Type") != "text/xml" {
				t.Fatalf("%s %s, %v", resp.Header.Get("Content-Type"), text, err)
			}
			if test.status == http.StatusOK {
				if answer.XMLName.Local != "AssumeRoleResponse" {
					t.Errorf("%s", text)
				}
			} else if answer.XMLName.Local != "ErrorResponse" || answer.Code != test.code || answer.Type != "Sender" ||
				answer.Request == "" {
				t.Errorf("%s", text)
			}
		})
	}
}

// TestRevivedRole: a role that was deleted and made again under its name does not revive the
// sessions of the old one.
func TestRevivedRole(t *testing.T) {
	s := newServer(t, options{})
	key, _ := s.newKey(t)
	alice := s.user(t, account, "alice")
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN),
		Policies: map[string]string{"all": document(statement{Action: "kms:*", Resource: "*"})}})
	c := s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}), region)
	if err := describeWith(t, c, key); err != nil {
		t.Fatal(err)
	}
	stored, err := s.Store.Principal(t.Context(), role)
	if err != nil {
		t.Fatal(err)
	}
	anew := *stored
	anew.UniqueID = "AROAANOTHER"
	if err := errors.Join(s.Store.RemovePrincipal(t.Context(), role),
		s.Store.PutPrincipal(t.Context(), &anew)); err != nil {
		t.Fatal(err)
	}
	wantError(t, describeWith(t, c, key), "UnrecognizedClientException", "*")
	again := s.client(s.mustAssume(t, alice.Secret, sts.AssumeRoleInput{RoleArn: &role}), region)
	if err := describeWith(t, again, key); err != nil {
		t.Error(err)
	}
}
