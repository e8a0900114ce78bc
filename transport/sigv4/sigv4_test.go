package sigv4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	exampleID     = "AKIDEXAMPLE"
	exampleSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
)

var exampleTime = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// verifier knows the example key, as a long-term key and with the session token "session".
func verifier(service string) *Verifier[string] {
	return New(Config[string]{
		Service: service,
		Region:  func(r string) bool { return r == "us-east-1" },
		Lookup: func(_ context.Context, s Scope) (Key[string], error) {
			if s.AccessKeyID != exampleID || s.SecurityToken != "" && s.SecurityToken != "session" {
				return Key[string]{}, ErrUnknownKey
			}
			return Key[string]{SigningKey([]byte(exampleSecret), s), "alice"}, nil
		},
	})
}

// TestSigningKey uses the example of the AWS page "Create a signed AWS API request".
func TestSigningKey(t *testing.T) {
	key := SigningKey([]byte(exampleSecret), Scope{Date: "20150830", Region: "us-east-1", Service: "iam"})
	if got, want := hex.EncodeToString(key[:]),
		"c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestSuite checks requests of AWS's Signature Version 4 test suite.
func TestSuite(t *testing.T) {
	for _, test := range []struct {
		name, method, target string
		headers              [][2]string
		body                 string
		signed, signature    string
	}{
		{"get-vanilla", "GET", "/", nil, "", "host;x-amz-date",
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"post-vanilla", "POST", "/", nil, "", "host;x-amz-date",
			"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", nil, "", "host;x-amz-date",
			"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
		{"post-x-www-form-urlencoded", "POST", "/", [][2]string{{"Content-Type", "application/x-www-form-urlencoded"}},
			"Param1=value1", "content-type;host;x-amz-date",
			"ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
		{"get-header-value-trim", "GET", "/", [][2]string{{"My-Header1", " value1"}, {"My-Header2", ` "a   b   c"`}},
			"", "host;my-header1;my-header2;x-amz-date",
			"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
		{"get-header-key-duplicate", "GET", "/",
			[][2]string{{"My-Header1", "value2"}, {"My-Header1", "value2"}, {"My-Header1", "value1"}}, "",
			"host;my-header1;x-amz-date", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
		{"post-header-key-sort", "POST", "/", [][2]string{{"My-Header1", "value1"}}, "", "host;my-header1;x-amz-date",
			"c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.target, nil)
			r.Host = "example.amazonaws.com"
			r.Header.Set("X-Amz-Date", exampleTime.Format(isoTime))
			for _, h := range test.headers {
				r.Header.Add(h[0], h[1])
			}
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleID+
				"/20150830/us-east-1/service/aws4_request, SignedHeaders="+
				test.signed+", Signature="+test.signature)
			principal, scope, err := verifier("service").Verify(r, []byte(test.body), exampleTime)
			if err != nil || principal != "alice" {
				t.Fatalf("got %q, %v", principal, err)
			}
			if want := (Scope{exampleID, "20150830", "us-east-1", "service", ""}); scope != want {
				t.Errorf("scope %+v", scope)
			}
		})
	}
}

// message is a request as it goes over the wire, so that tests can change its bytes.
type message struct {
	header http.Header
	host   string
	url    string
	body   string
}

func (m message) request() *http.Request {
	r := httptest.NewRequest("POST", m.url, strings.NewReader(m.body))
	r.Host, r.Header = m.host, m.header.Clone()
	return r
}

// signedBySDK is a request signed by the AWS SDK's own signer.
func signedBySDK(t testing.TB, body string, at time.Time, change func(*http.Request)) message {
	t.Helper()
	return signedBy(t, aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret}, body, at, change)
}

func signedBy(t testing.TB, c aws.Credentials, body string, at time.Time, change func(*http.Request)) message {
	t.Helper()
	r, err := http.NewRequest("POST", "http://127.0.0.1:8600/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
	if change != nil {
		change(r)
	}
	hash := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(context.Background(), c, r, hex.EncodeToString(hash[:]), "kms", "us-east-1",
		at); err != nil {
		t.Fatal(err)
	}
	return message{header: r.Header, host: r.URL.Host, url: "/?" + r.URL.RawQuery, body: body}
}

func TestSDKSignature(t *testing.T) {
	session := aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret, SessionToken: "session"}
	for name, m := range map[string]message{
		"plain":      signedBySDK(t, `{"KeyId":"x"}`, exampleTime, nil),
		"empty body": signedBySDK(t, "", exampleTime, nil),
		"query": signedBySDK(t, "{}", exampleTime, func(r *http.Request) {
			r.URL.RawQuery = "b=%C3%A4%20%2F&a=2&a=1&c"
		}),
		"spaces": signedBySDK(t, "{}", exampleTime, func(r *http.Request) {
			r.Header.Set("X-Amz-Meta", "  a   b\tc  ")
		}),
		"two values": signedBySDK(t, "{}", exampleTime, func(r *http.Request) {
			r.Header["X-Amz-Meta"] = []string{"b", "a"}
		}),
		"body hash": signedBySDK(t, "{}", exampleTime, func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", hexSum("{}"))
		}),
		"session token": signedBy(t, session, "{}", exampleTime, nil),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := verifier("kms").Verify(m.request(), []byte(m.body), exampleTime); err != nil {
				t.Error(err)
			}
		})
	}
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// TestMutation changes every byte of what a signature covers, and of the signature: no change may pass.
func TestMutation(t *testing.T) {
	m := signedBySDK(t, `{"KeyId":"alias/a","Plaintext":"AAAA"}`, exampleTime, func(r *http.Request) {
		r.URL.RawQuery = "a=b"
	})
	v := verifier("kms")
	if _, _, err := v.Verify(m.request(), []byte(m.body), exampleTime); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, m message) {
		t.Helper()
		if _, _, err := v.Verify(m.request(), []byte(m.body), exampleTime); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	each := func(what, s string, set func(*message, string)) {
		for i := range len(s) {
			for _, bit := range []byte{1, 2, 0x10} {
				b := []byte(s)
				b[i] ^= bit
				changed := m
				changed.header = m.header.Clone()
				set(&changed, string(b))
				refused(fmt.Sprintf("%s byte %d ^ %d", what, i, bit), changed)
			}
		}
	}
	each("body", m.body, func(m *message, s string) { m.body = s })
	each("host", m.host, func(m *message, s string) { m.host = s })
	for _, name := range []string{"X-Amz-Date", "X-Amz-Target", "Content-Type"} {
		each(name, m.header.Get(name), func(m *message, s string) { m.header.Set(name, s) })
	}
	// Only the optional space after a comma means nothing.
	authorization := m.header.Get("Authorization")
	for i := range len(authorization) {
		if authorization[i] == ' ' || authorization[i] == ',' {
			continue
		}
		b := []byte(authorization)
		b[i] ^= 1
		changed := m
		changed.header = m.header.Clone()
		changed.header.Set("Authorization", string(b))
		refused(fmt.Sprintf("authorization byte %d of %s", i, b), changed)
	}
	shorter := m
	shorter.body = m.body[:len(m.body)-1]
	refused("shorter body", shorter)
	other := m
	other.url = "/?a=b&a=c"
	refused("another parameter", other)
	path := m
	path.url = "/x?a=b"
	refused("another path", path)
}

func TestRefusals(t *testing.T) {
	set := func(name, value string) func(*message) { return func(m *message) { m.header.Set(name, value) } }
	replace := func(from, to string) func(*message) {
		return func(m *message) {
			m.header.Set("Authorization", strings.Replace(m.header.Get("Authorization"), from, to, 1))
		}
	}
	const (
		forged    = "InvalidSignatureException: The request signature we calculated does not match the signature you provided. "
		hashedAll = "(hashed with SHA-256 and encoded with Base64): '"
	)
	for name, test := range map[string]struct {
		change func(*message)
		want   string // beginning of the error
	}{
		"no header": {func(m *message) { m.header.Del("Authorization") },
			"MissingAuthenticationTokenException: Missing Authentication Token"},
		"empty header": {set("Authorization", ""), "MissingAuthenticationTokenException: "},
		"bearer": {set("Authorization", "Bearer abc"),
			"IncompleteSignatureException: Invalid key=value pair (missing equal-sign) in Authorization header " +
				hashedAll},
		"v4a": {replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
			"IncompleteSignatureException: Invalid key=value pair"},
		"nothing in it": {set("Authorization", "AWS4-HMAC-SHA256"),
			"IncompleteSignatureException: Authorization header requires 'Credential' parameter. " +
				"Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. " +
				hashedAll},
		"no equal-sign": {replace("Signature=", "Signature"),
			"IncompleteSignatureException: Invalid key=value pair (missing equal-sign)"},
		"no date": {func(m *message) { m.header.Del("X-Amz-Date") }, "IncompleteSignatureException: Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "},
		"two dates": {func(m *message) { m.header.Add("X-Amz-Date", "20150830T123600Z") },
			"IncompleteSignatureException: Authorization header requires existence"},
		"bad date": {set("X-Amz-Date", "yesterday"),
			"IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got 'yesterday'."},
		"four elements": {replace("/aws4_request", ""),
			"IncompleteSignatureException: Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '" +
				exampleID + "/20150830/us-east-1/kms'"},
		"six elements": {replace(exampleID, exampleID+"/x"),
			"IncompleteSignatureException: Credential must have exactly 5"},
		"region": {replace("us-east-1", "us-east-9"),
			"InvalidSignatureException: Credential should be scoped to a valid region, not 'us-east-9'. "},
		"service": {replace("/kms/", "/s3/"),
			"InvalidSignatureException: Credential should be scoped to correct service: 'kms'. "},
		"terminator": {replace("aws4_request", "aws5"), "InvalidSignatureException: Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5'. "},
		"scope date": {replace("20150830", "20150829"), "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20150829' != '20150830', from '20150830T123600Z'."},
		"access key": {replace(exampleID, "AKIDOTHER"),
			"UnrecognizedClientException: The security token included in the request is invalid."},
		"session token": {set("X-Amz-Security-Token", "stolen"),
			"InvalidSignatureException: 'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization."},
		"added header": {set("X-Amz-Meta", "1"),
			"InvalidSignatureException: 'X-Amz-Meta' must be a 'SignedHeader' in the AWS Authorization."},
		"host unsigned": {replace("host;", ""),
			"InvalidSignatureException: 'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		"unordered":  {replace("host;x-amz-date", "x-amz-date;host"), forged},
		"twice":      {replace("host;", "host;host;"), forged},
		"upper case": {replace(";x-amz-date", ";X-Amz-Date"), forged},
		"short":      {func(m *message) { m.header["Authorization"][0] = m.header["Authorization"][0][:200] }, forged},
		"upper hex":  {func(m *message) { upperSignature(m) }, forged},
		"two headers": {func(m *message) { m.header.Add("Authorization", "x") },
			"IncompleteSignatureException: Only one Authorization header is allowed."},
		"other hash": {set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"),
			"InvalidSignatureException: 'X-Amz-Content-Sha256' must be"},
		"bad query": {func(m *message) { m.url = "/?%zz" }, forged},
	} {
		t.Run(name, func(t *testing.T) {
			m := signedBySDK(t, "{}", exampleTime, nil)
			test.change(&m)
			r := httptest.NewRequest("POST", "/", nil)
			r.Host, r.Header = m.host, m.header
			_, r.URL.RawQuery, _ = strings.Cut(m.url, "?")
			_, _, err := verifier("kms").Verify(r, []byte(m.body), exampleTime)
			var refusal *Error
			if !errors.As(err, &refusal) || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func upperSignature(m *message) {
	a := m.header.Get("Authorization")
	i := strings.Index(a, "Signature=") + len("Signature=")
	m.header.Set("Authorization", a[:i]+strings.ToUpper(a[i:]))
}

func TestUnsignedPayload(t *testing.T) {
	r, _ := http.NewRequest("POST", "http://localhost/", nil)
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	c := aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret}
	if err := v4.NewSigner().SignHTTP(context.Background(), c, r, "UNSIGNED-PAYLOAD", "kms", "us-east-1",
		exampleTime); err != nil {
		t.Fatal(err)
	}
	r.Host = "localhost"
	if _, _, err := verifier("kms").Verify(r, []byte("any"), exampleTime); !errors.Is(err, errForged) {
		t.Errorf("got %v", err)
	}
}

func TestSkew(t *testing.T) {
	m := signedBySDK(t, "{}", exampleTime, nil)
	for _, test := range []struct {
		skew time.Duration
		want string
	}{
		{0, ""},
		{5 * time.Minute, ""},
		{-5 * time.Minute, ""},
		{5*time.Minute + time.Second, "InvalidSignatureException: Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"},
		{-5*time.Minute - time.Second, "InvalidSignatureException: Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"},
	} {
		_, _, err := verifier("kms").Verify(m.request(), []byte(m.body), exampleTime.Add(test.skew))
		if got := fmt.Sprint(err); err == nil && test.want != "" || err != nil && got != test.want {
			t.Errorf("%v: got %v", test.skew, err)
		}
	}
}

// TestDateHeader signs with a Date header in place of X-Amz-Date, as old clients do.
func TestDateHeader(t *testing.T) {
	r := httptest.NewRequest("POST", "/", nil)
	r.Host = "localhost"
	r.Header.Set("Date", exampleTime.Format(http.TimeFormat))
	request, err := appendRequest(nil, r, "date;host", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := authorization{scope: Scope{exampleID, "20150830", "us-east-1", "kms", ""}, at: exampleTime}
	key, hash := SigningKey([]byte(exampleSecret), a.scope), sha256.Sum256(request)
	sum := sign(key, &a, hash)
	if want := mac(key[:], string(appendStringToSign(nil, &a, hash))); sum != want { // of package hmac
		t.Errorf("signature %x, want %x", sum, want)
	}
	r.Header.Set("Authorization", fmt.Sprintf(
		"AWS4-HMAC-SHA256 Credential=%s/20150830/us-east-1/kms/aws4_request,SignedHeaders=date;host,Signature=%x",
		exampleID, sum))
	if _, _, err := verifier("kms").Verify(r, nil, exampleTime); err != nil {
		t.Error(err)
	}
}

func TestLookupFailure(t *testing.T) {
	broken := errors.New("store is away")
	v := New(Config[string]{Service: "kms", Region: func(string) bool { return true },
		Lookup: func(context.Context, Scope) (Key[string], error) { return Key[string]{}, broken }})
	m := signedBySDK(t, "{}", exampleTime, nil)
	if _, _, err := v.Verify(m.request(), []byte(m.body), exampleTime); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// FuzzVerify feeds headers of any form: none may panic, and none may pass but the one that was signed.
func FuzzVerify(f *testing.F) {
	m := signedBySDK(f, "{}", exampleTime, nil)
	right := m.header.Get("Authorization")
	f.Add(right, "20150830T123600Z", "", m.body)
	f.Add("AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=;;, Signature=", "20150830T123600Z", "a=%zz&b", "x")
	f.Add("AWS4-HMAC-SHA256", "", "&&=", "")
	f.Fuzz(func(t *testing.T, authorization, date, query, body string) {
		changed := m
		changed.header = m.header.Clone()
		changed.header.Set("Authorization", authorization)
		changed.header.Set("X-Amz-Date", date)
		r := changed.request()
		r.URL.RawQuery = query
		_, _, err := verifier("kms").Verify(r, []byte(body), exampleTime)
		if err != nil {
			return
		}
		_, given, _ := strings.Cut(authorization, "Signature=")
		_, signature, _ := strings.Cut(right, "Signature=")
		if !strings.Contains(given, signature) || query != "" || body != m.body {
			t.Errorf("accepted %q %q %q %q", authorization, date, query, body)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 300)
	m := signedBySDK(b, string(body), exampleTime, nil)
	key := Key[string]{SigningKey([]byte(exampleSecret), Scope{exampleID, "20150830", "us-east-1", "kms", ""}), "alice"}
	v := New(Config[string]{Service: "kms", Region: func(string) bool { return true },
		Lookup: func(context.Context, Scope) (Key[string], error) { return key, nil }})
	r := m.request()
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := v.Verify(r, body, exampleTime); err != nil {
			b.Fatal(err)
		}
	}
}
