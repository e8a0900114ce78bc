package transport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/oidc"
	"github.com/verenc/kms/service/iam/oidc/issuertest"
)

// federated is a server that takes the tokens of an issuer, and keeps its records in memory.
type federated struct {
	*server
	issuer  *issuertest.Issuer
	records *memoryAuditor
}

// memoryAuditor keeps records as lines of JSON.
type memoryAuditor struct{ lockedBuffer }

// Append implements record.Auditor.
func (m *memoryAuditor) Append(_ context.Context, r *audit.Record) error {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = m.Write(append(line, '\n'))
	}
	return err
}

func newFederated(t testing.TB) *federated {
	t.Helper()
	f := &federated{issuer: issuertest.New(t), records: &memoryAuditor{}}
	verifier, err := oidc.New(oidc.Config{Now: time.Now, Skew: time.Minute, Issuers: []oidc.Issuer{
		{URL: f.issuer.URL, Audiences: []string{issuertest.Audience}, CAFile: f.issuer.CAFile}}})
	if err != nil {
		t.Fatal(err)
	}
	f.server = newServer(t, options{service: func(c *service.Config) {
		c.WebIdentities, c.Audit = verifier, f.records
	}})
	return f
}

// trust is a trust policy for tokens of the issuer with a subject.
func (f *federated) trust(subject string, actions ...string) string {
	return document(statement{Principal: map[string]any{"Federated": "arn:aws:iam::" + account + ":oidc-provider/" +
		f.issuer.Name()}, Action: append(actions, "sts:AssumeRoleWithWebIdentity"), Condition: map[string]any{
		"StringEquals": map[string]string{f.issuer.Name() + ":aud": issuertest.Audience,
			f.issuer.Name() + ":sub": subject}}})
}

// exchange is AssumeRoleWithWebIdentity by a client without credentials.
func (f *federated) exchange(t testing.TB, in sts.AssumeRoleWithWebIdentityInput) (
	*sts.AssumeRoleWithWebIdentityOutput, error) {
	t.Helper()
	if in.RoleSessionName == nil {
		in.RoleSessionName = aws.String("pod")
	}
	client := sts.New(sts.Options{BaseEndpoint: &f.URL, Region: region, RetryMaxAttempts: 1, HTTPClient: f.http})
	return client.AssumeRoleWithWebIdentity(t.Context(), &in)
}

const subject = "system:serviceaccount:shop:orders" // of issuertest

// TestWebIdentity: whoever has a token of an issuer that a role trusts uses the role, and the records say who it was.
func TestWebIdentity(t *testing.T) {
	f := newFederated(t)
	id, key := f.newKey(t)
	role := f.role(t, account, "pod", iam.PrincipalDetails{Trust: f.trust(subject),
		Policies: named([]string{identityPolicy("kms:DescribeKey", "kms:Encrypt")})})
	token := f.issuer.Token(t, nil)
	out, err := f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, WebIdentityToken: &token,
		DurationSeconds: aws.Int32(900), Policy: aws.String(identityPolicy("kms:DescribeKey"))})
	if err != nil {
		t.Fatal(err)
	}
	session, provider := "arn:aws:sts::"+account+":assumed-role/pod/pod", "arn:aws:iam::"+account+":oidc-provider/"+
		f.issuer.Name()
	if *out.SubjectFromWebIdentityToken != subject || *out.Audience != issuertest.Audience ||
		*out.Provider != provider ||
		*out.AssumedRoleUser.Arn != session || *out.AssumedRoleUser.AssumedRoleId != "AROAPOD:pod" ||
		int(*out.SessionTokenSize) != len(*out.Credentials.SessionToken) ||
		time.Until(*out.Credentials.Expiration) > 15*time.Minute {
		t.Errorf("%+v", out)
	}
	c := f.client(aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId,
		SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}, region)
	if err := describeWith(t, c, key); err != nil {
		t.Error(err)
	}
	_, err = c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
	wantError(t, err, "AccessDeniedException", "*") // the session policy does not allow it

	stranger := f.issuer.Token(t, map[string]any{"sub": "stranger"})
	for _, arn := range []string{role, role + "2"} {
		_, err = f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &arn, WebIdentityToken: &stranger})
		wantSTS(t, err, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	f.guard(t, document(statement{Effect: "Deny", Action: "sts:*", Resource: "*"}))
	_, err = f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, WebIdentityToken: &token})
	wantSTS(t, err, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	forged := token[:len(token)-4] + "AAAA"
	_, err = f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, WebIdentityToken: &forged})
	wantSTS(t, err, 400, "InvalidIdentityToken", "*")

	records := f.records.String()
	var all []audit.Record
	for line := range strings.Lines(records) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r.EventName, "AssumeRole") || r.EventName == "DescribeKey" {
			all = append(all, r)
		}
	}
	// A forged token proves nothing, and whoever has an account with a public issuer has a token that no role trusts.
	if len(all) != 3 || strings.Contains(records, "stranger") {
		t.Fatalf("%d records: %s", len(all), records)
	}
	if log := f.Log.String(); strings.Count(log, f.issuer.Name()+":"+issuertest.Audience+":stranger") != 2 ||
		!strings.Contains(log, `"AccessDenied"`) {
		t.Error(log)
	}
	assumed, described, denied := all[0], all[1], all[2]
	for _, r := range []audit.Record{assumed, denied} {
		data, _ := json.Marshal(r.AdditionalEventData)
		u := r.UserIdentity
		if u.Type != "WebIdentityUser" || u.UserName != subject || u.IdentityProvider != provider ||
			u.PrincipalID != f.issuer.Name()+":"+issuertest.Audience+":"+subject || r.RecipientAccountID != account ||
			r.EventName != "AssumeRoleWithWebIdentity" || r.EventSource != "sts.amazonaws.com" ||
			string(data) != `{"issuer":"`+f.issuer.Name()+`","subject":"`+subject+`","audience":["verenc"],"tokenId":"token-1"}` {
			t.Errorf("%+v %s", r, data)
		}
	}
	if denied.ErrorCode != "AccessDenied" {
		t.Errorf("%+v", denied)
	}
	from := described.UserIdentity.SessionContext
	if from == nil || from.WebIDFederation == nil || from.WebIDFederation.Provider != provider ||
		from.WebIDFederation.Attributes.Subject != subject || from.Issuer.ARN != role {
		t.Errorf("%+v", described.UserIdentity)
	}
	for _, secret := range []string{token, strings.Split(token, ".")[2], *out.Credentials.SecretAccessKey} {
		if strings.Contains(records, secret) || strings.Contains(f.Log.String(), secret) {
			t.Errorf("a record or the log has %s", secret)
		}
	}
}

// TestWebIdentityErrors: AWS's errors and statuses.
func TestWebIdentityErrors(t *testing.T) {
	f := newFederated(t)
	role := f.role(t, account, "pod", iam.PrincipalDetails{Trust: f.trust(subject)})
	byAWS := f.role(t, account, "byaws", iam.PrincipalDetails{Trust: document(statement{Principal: "*", Action: "sts:*"})})
	old := time.Now().Add(-time.Hour).Unix()
	with := func(change func(*sts.AssumeRoleWithWebIdentityInput)) sts.AssumeRoleWithWebIdentityInput {
		in := sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, WebIdentityToken: aws.String(f.issuer.Token(t, nil))}
		change(&in)
		return in
	}
	token := func(changes map[string]any) sts.AssumeRoleWithWebIdentityInput {
		return with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.WebIdentityToken = aws.String(f.issuer.Token(t, changes))
		})
	}
	for _, test := range []struct {
		name          string
		in            sts.AssumeRoleWithWebIdentityInput
		status        int
		code, message string
	}{
		{"expired", token(map[string]any{"exp": old}), 400, "ExpiredTokenException", "*"},
		{"not yet valid", token(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}), 403, "IDPRejectedClaim", "*"},
		{"wrong audience", token(map[string]any{"aud": "vault"}), 400, "InvalidIdentityToken", "Incorrect token audience"},
		{"wrong issuer", token(map[string]any{"iss": "https://evil.example"}), 400, "InvalidIdentityToken",
			"No OpenIDConnect provider found in your account for https://evil.example"},
		{"another subject", token(map[string]any{"sub": "system:serviceaccount:shop:other"}), 403, "AccessDenied", "*"},
		{"a trust policy for everyone", with(func(in *sts.AssumeRoleWithWebIdentityInput) { in.RoleArn = &byAWS }), 403,
			"AccessDenied", "*"},
		{"giant token", with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.WebIdentityToken = aws.String(strings.Repeat("x", 20_001))
		}), 400, "ValidationError", "*"},
		{"small token", with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.WebIdentityToken = aws.String("xxx")
		}), 400,
			"ValidationError", "*"},
		{"longer than the role's", with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.DurationSeconds = aws.Int32(7200)
		}), 400, "ValidationError", "*"},
		{"too short", with(func(in *sts.AssumeRoleWithWebIdentityInput) { in.DurationSeconds = aws.Int32(60) }), 400,
			"ValidationError", "*"},
		{"bad policy", with(func(in *sts.AssumeRoleWithWebIdentityInput) { in.Policy = aws.String("{") }), 400,
			"MalformedPolicyDocument", "*"},
		{"OAuth 2.0", with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.ProviderId = aws.String("www.amazon.com")
		}), 400, "ValidationError", "ProviderId is not supported."},
		{"no role", with(func(in *sts.AssumeRoleWithWebIdentityInput) {
			in.RoleArn = aws.String("arn:aws:iam::1:role/x\x00")
		}), 400, "ValidationError", "*"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := f.exchange(t, test.in)
			wantSTS(t, err, test.status, test.code, test.message)
		})
	}
	if n := f.issuer.Fetches(); n != 1 {
		t.Errorf("%d fetches of the keys", n)
	}
	silent := issuertest.New(t)
	silent.Answer(http.NotFound)
	plain := newServer(t, options{service: func(c *service.Config) {
		var err error
		if c.WebIdentities, err = oidc.New(oidc.Config{Now: time.Now, Issuers: []oidc.Issuer{
			{URL: silent.URL, Audiences: []string{issuertest.Audience}, CAFile: silent.CAFile}}}); err != nil {
			t.Fatal(err)
		}
	}})
	other := &federated{server: plain, issuer: silent}
	_, err := other.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &role,
		WebIdentityToken: aws.String(silent.Token(t, nil))})
	wantSTS(t, err, 400, "IDPCommunicationError", "*")
	none := &federated{server: newServer(t, options{})}
	_, err = none.exchange(t, token(nil))
	wantSTS(t, err, 400, "InvalidIdentityToken", "*")

	// A token is no credential of other operations, and no other operation is without a signature.
	ask := func(form string) (int, string) {
		body := form + "&Version=2011-06-15&WebIdentityToken=" + url.QueryEscape(f.issuer.Token(t, nil))
		resp, text := send(t, http.DefaultClient, post(t, f.URL, formType, "", body))
		return resp.StatusCode, string(text)
	}
	for _, action := range []string{"GetCallerIdentity", "GetSessionToken", "AssumeRole"} {
		if status, text := ask("Action=" + action); status != http.StatusForbidden ||
			!strings.Contains(text, "MissingAuthenticationToken") {
			t.Errorf("%s: %d %s", action, status, text)
		}
	}
	// What older clients read, which is deprecated in the SDK.
	form := "Action=AssumeRoleWithWebIdentity&RoleSessionName=pod&RoleArn=" + url.QueryEscape(role)
	if status, text := ask(form + "&Policy=" + url.QueryEscape(strings.Repeat(" ", 1024-66)+
		`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)); status != http.StatusOK ||
		!strings.Contains(text, "<PackedPolicySize>50</PackedPolicySize>") {
		t.Errorf("%d %s", status, text)
	}
}

// tagsFrom is a trust policy that lets a role pass a tag on, if it has a value.
func tagsFrom(role, team string) string {
	return document(statement{Principal: principals(role), Action: "sts:AssumeRole"},
		statement{Principal: principals(role), Action: "sts:TagSession", Condition: map[string]any{
			"StringEquals":              map[string]string{"aws:RequestTag/team": team},
			"ForAllValues:StringEquals": map[string]string{"sts:TransitiveTagKeys": "team", "aws:TagKeys": "team"}}})
}

// TestSessionTags: the tags in a token are those of the session, if the trust policy lets it have tags, and transitive
// ones go on to further roles. What the token says can be asked for in key policies, too.
func TestSessionTags(t *testing.T) {
	f := newFederated(t)
	trust := func(actions ...string) iam.PrincipalDetails {
		return iam.PrincipalDetails{Trust: f.trust(subject, actions...), Tags: map[string]string{"Team": "red", "a": "b"},
			Policies: named([]string{identityPolicy("sts:AssumeRole", "sts:TagSession")})}
	}
	tagged, plain := f.role(t, account, "tagged", trust("sts:TagSession")), f.role(t, account, "plain", trust())
	next := f.role(t, account, "next", iam.PrincipalDetails{Trust: tagsFrom(tagged, "blue")})
	untagged := f.role(t, account, "untagged", iam.PrincipalDetails{Trust: trusting(tagged)})
	otherTag := f.role(t, account, "other", iam.PrincipalDetails{Trust: tagsFrom(tagged, "red")})
	keyOf := func(operator string, values map[string]string) string {
		return *f.makeKey(t, kms.CreateKeyInput{Policy: aws.String(document(
			statement{Principal: principals(iamARN(account, "root")), Action: "kms:*", Resource: "*"},
			statement{Principal: principals(tagged, next), Action: "kms:DescribeKey", Resource: "*",
				Condition: map[string]any{operator: values}}))}).KeyId
	}
	token := f.issuer.Token(t, map[string]any{"https://aws.amazon.com/tags": map[string]any{
		"principal_tags":      map[string]any{"team": []string{"blue"}, "stage": []string{"live"}},
		"transitive_tag_keys": []string{"team"}}})
	_, err := f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &plain, WebIdentityToken: &token})
	wantSTS(t, err, 403, "AccessDenied", "Not authorized to perform sts:TagSession")
	out, err := f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &tagged, WebIdentityToken: &token})
	if err != nil {
		t.Fatal(err)
	}
	first := aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId,
		SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}
	second := f.mustAssume(t, first, sts.AssumeRoleInput{RoleArn: &next})
	for _, role := range []string{untagged, otherTag} { // every role of a chain must allow the tags
		_, err := f.assume(t, first, sts.AssumeRoleInput{RoleArn: &role})
		wantSTS(t, err, 403, "AccessDenied", "User: arn:aws:sts::"+account+":assumed-role/tagged/pod is not authorized "+
			"to perform: sts:TagSession on resource: "+role)
	}
	many := func(length int) map[string]any {
		tags := map[string]any{}
		for i := range 20 {
			tags[fmt.Sprintf("tag-%02d", i)] = strings.Repeat("v", length)
		}
		return map[string]any{"https://aws.amazon.com/tags": map[string]any{"principal_tags": tags}}
	}
	token = f.issuer.Token(t, many(200))
	_, err = f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &tagged, WebIdentityToken: &token})
	wantSTS(t, err, 400, "PackedPolicyTooLarge", "The session tags have 4120 bytes; 4096 are the most that they can have.")
	token = f.issuer.Token(t, many(198))
	out, err = f.exchange(t, sts.AssumeRoleWithWebIdentityInput{RoleArn: &tagged, WebIdentityToken: &token})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.sts(aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId,
		SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken}).
		GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil {
		t.Error(err)
	}
	name := f.issuer.Name()
	for _, test := range []struct {
		key, value    string
		first, second bool
	}{
		{"aws:PrincipalTag/team", "blue", true, true},
		{"aws:PrincipalTag/Team", "red", false, false},
		{"aws:PrincipalTag/stage", "live", true, false},
		{"aws:PrincipalTag/a", "b", true, false},
		{name + ":sub", subject, true, false},
		{name + ":sub", "other", false, false},
		{name + ":aud", issuertest.Audience, true, false},
		{"aws:FederatedProvider", "arn:aws:iam::" + account + ":oidc-provider/" + name, true, false},
	} {
		key := keyOf("StringEquals", map[string]string{test.key: test.value})
		for who, want := range map[*aws.Credentials]bool{&first: test.first, &second: test.second} {
			if err := describeWith(t, f.client(*who, region), key); (err == nil) != want {
				t.Errorf("%s %s: %v", test.key, test.value, err)
			}
		}
	}
}

// TestGetSessionToken: a user's temporary credentials have the user's rights, and end with the access key.
func TestGetSessionToken(t *testing.T) {
	s := newServer(t, options{})
	_, key := s.newKey(t)
	alice := s.user(t, account, "alice", identityPolicy("kms:DescribeKey", "sts:AssumeRole"))
	role := s.role(t, account, "reader", iam.PrincipalDetails{Trust: trusting(alice.ARN), MaxSession: 7200})
	get := func(c aws.Credentials, seconds int32) (aws.Credentials, time.Duration, error) {
		in := &sts.GetSessionTokenInput{}
		if seconds != 0 {
			in.DurationSeconds = &seconds
		}
		out, err := s.sts(c).GetSessionToken(t.Context(), in)
		if err != nil {
			return aws.Credentials{}, 0, err
		}
		return aws.Credentials{AccessKeyID: *out.Credentials.AccessKeyId,
			SecretAccessKey: *out.Credentials.SecretAccessKey,
			SessionToken:    *out.Credentials.SessionToken}, time.Until(*out.Credentials.Expiration), nil
	}
	for _, test := range []struct {
		c       aws.Credentials
		seconds int32
		want    time.Duration
	}{
		{alice.Secret, 0, 12 * time.Hour}, {alice.Secret, 900, 15 * time.Minute},
		{alice.Secret, 129600, 36 * time.Hour},
		{s.Secret, 0, time.Hour}, {s.Secret, 129600, time.Hour},
	} {
		_, lasts, err := get(test.c, test.seconds)
		if err != nil || lasts > test.want || lasts < test.want-10*time.Minute {
			t.Errorf("%d: %v, %v", test.seconds, lasts, err)
		}
	}
	for _, seconds := range []int32{899, 129601, -1} {
		_, _, err := get(alice.Secret, seconds)
		wantSTS(t, err, 400, "ValidationError", "*")
	}
	temporary, _, err := get(alice.Secret, 0)
	if err != nil {
		t.Fatal(err)
	}
	who, err := s.sts(temporary).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || *who.Arn != alice.ARN || *who.UserId != "AIDAALICE" || *who.Account != account {
		t.Errorf("%+v, %v", who, err)
	}
	if err := describeWith(t, s.client(temporary, region), key); err != nil {
		t.Error(err)
	}
	_, err = s.client(temporary, region).CreateKey(t.Context(), &kms.CreateKeyInput{})
	wantError(t, err, "AccessDeniedException", "*")
	_, _, err = get(temporary, 0)
	wantSTS(t, err, 403, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	// A user's session may assume a role for as long as the user may.
	s.mustAssume(t, temporary, sts.AssumeRoleInput{RoleArn: &role, DurationSeconds: aws.Int32(7200)})
	root, _, err := get(s.Secret, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := describeWith(t, s.client(root, region), key); err != nil {
		t.Error(err)
	}
	if err := s.Store.EnableAccessKey(t.Context(), alice.Secret.AccessKeyID, false); err != nil {
		t.Fatal(err)
	}
	wantError(t, describeWith(t, s.client(temporary, region), key), "UnrecognizedClientException", "*")
	if err := s.Store.EnableAccessKey(t.Context(), alice.Secret.AccessKeyID, true); err != nil {
		t.Fatal(err)
	}
	if err := describeWith(t, s.client(temporary, region), key); err != nil {
		t.Error(err)
	}
	if err := s.Store.RemovePrincipal(t.Context(), alice.ARN); err != nil {
		t.Fatal(err)
	}
	wantError(t, describeWith(t, s.client(temporary, region), key), "UnrecognizedClientException", "*")
}

// BenchmarkSessions: a request with the session of a web identity costs what one with AssumeRole's costs.
func BenchmarkSessions(b *testing.B) {
	f := newFederated(b)
	_, key := f.newKey(b)
	alice := f.user(b, account, "alice")
	details := iam.PrincipalDetails{Policies: named([]string{identityPolicy("kms:DescribeKey")}),
		Trust: trusting(alice.ARN)}
	assumed := f.mustAssume(b, alice.Secret, sts.AssumeRoleInput{RoleArn: aws.String(f.role(b, account, "a", details))})
	details.Trust = f.trust(subject)
	out, err := f.exchange(b, sts.AssumeRoleWithWebIdentityInput{RoleArn: aws.String(f.role(b, account, "w", details)),
		WebIdentityToken: aws.String(f.issuer.Token(b, nil))})
	if err != nil {
		b.Fatal(err)
	}
	for name, c := range map[string]aws.Credentials{"AssumeRole": assumed, "WebIdentity": {
		AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey,
		SessionToken: *out.Credentials.SessionToken}} {
		client := f.client(c, region)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.DescribeKey(b.Context(), &kms.DescribeKeyInput{KeyId: &key}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
