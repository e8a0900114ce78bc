package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/oidc"
	"github.com/verenc/kms/service/iam/oidc/issuertest"
)

// verifier is a Verifier of an issuer, with a clock that is set by hand.
type verifier struct {
	*oidc.Verifier
	issuer *issuertest.Issuer
	mu     sync.Mutex
	now    time.Time
}

func newVerifier(t testing.TB, change func(*oidc.Issuer)) *verifier {
	t.Helper()
	v := &verifier{issuer: issuertest.New(t), now: time.Now()}
	i := oidc.Issuer{URL: v.issuer.URL, Audiences: []string{"other", issuertest.Audience}, CAFile: v.issuer.CAFile}
	if change != nil {
		change(&i)
	}
	var err error
	v.Verifier, err = oidc.New(oidc.Config{Issuers: []oidc.Issuer{i}, Skew: time.Minute, Now: v.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v *verifier) Now() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

func (v *verifier) advance(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.now = v.now.Add(d)
}

// token signs the claims of a token that is valid now, with changes.
func (v *verifier) token(t testing.TB, changes map[string]any) string {
	t.Helper()
	return v.issuer.Sign(t, v.payload(t, changes))
}

func (v *verifier) payload(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(v.issuer.Claims(v.Now(), changes))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (v *verifier) wants(t *testing.T, token string, code apierror.Code, words string) {
	t.Helper()
	w, err := v.Verify(t.Context(), token)
	if !apierror.Is(err, code) || w != nil || !strings.Contains(err.Error(), words) {
		t.Errorf("want %s with %q, got %v", code, words, err)
	}
}

func (v *verifier) accepts(t *testing.T, token string) *iam.WebIdentity {
	t.Helper()
	w, err := v.Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestClaims: what a token says, and each claim that is not accepted.
func TestClaims(t *testing.T) {
	v := newVerifier(t, nil)
	const tags = "https://aws.amazon.com/tags"
	w := v.accepts(t, v.token(t, map[string]any{"amr": "mfa", "azp": issuertest.Audience, "aud": []string{"x", "other"},
		tags: map[string]any{"principal_tags": map[string]any{"team": []string{"blue"}, "stage": "live"},
			"transitive_tag_keys": []string{"team"}}}))
	if w.Issuer != v.issuer.Name() || w.Subject != "system:serviceaccount:shop:orders" || w.TokenID != "token-1" ||
		!slices.Equal(w.Audiences, []string{"x", "other"}) || w.AuthorizedParty != issuertest.Audience ||
		!slices.Equal(w.Methods, []string{"mfa"}) ||
		!maps.Equal(w.SessionTags, map[string]string{"team": "blue", "stage": "live"}) ||
		!slices.Equal(w.TransitiveTags, []string{"team"}) {
		t.Errorf("%+v", w)
	}
	v.accepts(t, v.token(t, map[string]any{"nbf": nil, "jti": nil, "aud": "other"}))
	at := func(d time.Duration) int64 { return v.Now().Add(d).Unix() }
	for _, test := range []struct {
		name    string
		changes map[string]any
		code    apierror.Code
		words   string
	}{
		{"expired", map[string]any{"exp": at(-2 * time.Minute)}, apierror.ExpiredWebIdentity, "Token expired: current"},
		{"expired within the skew", map[string]any{"exp": at(-30 * time.Second)}, "", ""},
		{"not yet valid", map[string]any{"nbf": at(2 * time.Minute)}, apierror.IDPRejectedClaim, "not yet valid"},
		{"not yet valid within the skew", map[string]any{"nbf": at(30 * time.Second)}, "", ""},
		{"issued in the future", map[string]any{"iat": at(2 * time.Minute)}, apierror.IDPRejectedClaim, "not yet valid"},
		{"no exp", map[string]any{"exp": nil}, apierror.InvalidIdentityToken, "Missing a required claim: exp"},
		{"no iat", map[string]any{"iat": nil}, apierror.InvalidIdentityToken, "Missing a required claim: iat"},
		{"no sub", map[string]any{"sub": nil}, apierror.InvalidIdentityToken, "Missing a required claim: sub"},
		{"no aud", map[string]any{"aud": nil}, apierror.InvalidIdentityToken, "Missing a required claim: aud"},
		{"no iss", map[string]any{"iss": nil}, apierror.InvalidIdentityToken, "No OpenIDConnect provider"},
		{"empty aud", map[string]any{"aud": []string{}}, apierror.InvalidIdentityToken, "Missing a required claim: aud"},
		{"wrong audience", map[string]any{"aud": "vault"}, apierror.InvalidIdentityToken, "Incorrect token audience"},
		{"audience in other case", map[string]any{"aud": "Verenc"}, apierror.InvalidIdentityToken,
			"Incorrect token audience"},
		{"wrong party", map[string]any{"azp": "vault"}, apierror.InvalidIdentityToken, "Incorrect token audience"},
		{"wrong issuer", map[string]any{"iss": "https://evil.example"}, apierror.InvalidIdentityToken,
			"No OpenIDConnect provider found in your account for https://evil.example"},
		{"issuer with a slash", map[string]any{"iss": v.issuer.URL + "/"}, apierror.InvalidIdentityToken,
			"No OpenIDConnect provider"},
		{"issuer with control characters", map[string]any{"iss": "x\n\x00"}, apierror.InvalidIdentityToken,
			"the issuer of the token"},
		{"exp as a text", map[string]any{"exp": "tomorrow"}, apierror.InvalidIdentityToken, "not a valid JWT"},
		{"endless", map[string]any{"exp": 1e300}, apierror.IDPRejectedClaim, "exp"},
		{"negative", map[string]any{"nbf": -1}, apierror.IDPRejectedClaim, "nbf"},
		{"a fraction", map[string]any{"exp": float64(at(time.Minute)) + 0.5}, "", ""},
		{"sub as a number", map[string]any{"sub": 7}, apierror.InvalidIdentityToken, "not a valid JWT"},
		{"long sub", map[string]any{"sub": strings.Repeat("s", 256)}, apierror.IDPRejectedClaim, "sub"},
		{"many audiences", map[string]any{"aud": slices.Repeat([]string{"other"}, 33)}, apierror.IDPRejectedClaim, "aud"},
		{"source identity", map[string]any{"https://aws.amazon.com/source_identity": "x"}, apierror.IDPRejectedClaim,
			"source identities"},
		{"a tag with two values", map[string]any{tags: map[string]any{"principal_tags": map[string]any{
			"team": []string{"blue", "red"}}}}, apierror.IDPRejectedClaim, "team"},
		{"a transitive key that is no tag", map[string]any{tags: map[string]any{"transitive_tag_keys": []string{"x"}}},
			apierror.IDPRejectedClaim, "transitive"},
		{"a reserved tag", map[string]any{tags: map[string]any{"principal_tags": map[string]any{"aws:x": "y"}}},
			apierror.IDPRejectedClaim, "reserved"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if token := v.token(t, test.changes); test.code == "" {
				v.accepts(t, token)
			} else {
				v.wants(t, token, test.code, test.words)
			}
		})
	}
	if n := v.issuer.Fetches(); n != 1 {
		t.Errorf("%d fetches of the keys", n)
	}
}

// TestForgedTokens: nobody but the issuer can make a token.
func TestForgedTokens(t *testing.T) {
	v := newVerifier(t, nil)
	good := v.token(t, nil)
	v.accepts(t, good)
	encode := base64.RawURLEncoding.EncodeToString
	header, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(v.issuer.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	hmac := func(secret []byte) string {
		return issuertest.SignWith(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: "first"}, v.payload(t, nil))
	}
	changed := encode(v.payload(t, map[string]any{"sub": "system:serviceaccount:kube-system:admin"}))
	valid := string(v.payload(t, nil))
	twice := func(member string) string { return v.issuer.Sign(t, []byte(valid[:len(valid)-1]+","+member+"}")) }
	jws, err := jose.ParseSigned(good, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ token, words string }{
		"empty":              {"", "not a valid JWT"},
		"no JWT":             {"a.b", "not a valid JWT"},
		"JSON serialization": {jws.FullSerialize(), "not a valid JWT"},
		"changed payload":    {header + "." + changed + "." + signature, "signature"},
		"no signature":       {header + "." + payload + ".", "signature"},
		"alg none":           {encode([]byte(`{"alg":"none","kid":"first"}`)) + "." + payload + ".", "not a valid JWT"},
		"alg none, in other case": {encode([]byte(`{"alg":"nOnE","kid":"first"}`)) + "." + payload + "." + signature,
			"not a valid JWT"},
		"another key of the same id": {issuertest.SignWith(t, jose.ES256, jose.JSONWebKey{Key: stranger, KeyID: "first"},
			v.payload(t, nil)), "signature"},
		"HMAC with the public key, PEM": {hmac(public), "not a valid JWT"},
		"HMAC with the public key, DER": {hmac(der), "not a valid JWT"},
		"a key of its own in the header": {encode([]byte(`{"alg":"ES256","jwk":`+jsonOf(t,
			jose.JSONWebKey{Key: &stranger.PublicKey})+`,"kid":"first"}`)) + "." + payload + "." + signature, "signature"},
		"another algorithm of the key": {encode([]byte(`{"alg":"ES384","kid":"first"}`)) + "." + payload + "." +
			signature, "verification key"},
		"critical header": {encode([]byte(`{"alg":"ES256","kid":"first","crit":["x"],"x":1}`)) + "." + payload + "." +
			signature, ""},
		"alg twice": {encode([]byte(`{"alg":"none","alg":"ES256","kid":"first"}`)) + "." + payload + "." + signature,
			"not a valid JWT"},
		"iss twice":                {twice(`"iss":"` + v.issuer.URL + `"`), "not a valid JWT"},
		"sub twice":                {twice(`"sub":"admin"`), "not a valid JWT"},
		"exp twice":                {twice(`"exp":99999999999`), "not a valid JWT"},
		"a member twice elsewhere": {twice(`"kubernetes.io":{"pod":1,"pod":2}`), "not a valid JWT"},
		"no object":                {v.issuer.Sign(t, []byte(`[]`)), "not a valid JWT"},
		"deep":                     {v.issuer.Sign(t, []byte(strings.Repeat("[", 14_000))), "not a valid JWT"},
	} {
		t.Run(name, func(t *testing.T) { v.wants(t, test.token, apierror.InvalidIdentityToken, test.words) })
	}
	// go-oidc reads names in any case; here they are other claims, which count for nothing.
	if w := v.accepts(t, twice(`"SUB":"admin","Exp":1`)); w.Subject != "system:serviceaccount:shop:orders" {
		t.Errorf("%+v", w)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRotation: a new key is fetched when a token needs it, and callers can't make the server ask more often than it
// wants to.
func TestRotation(t *testing.T) {
	v := newVerifier(t, nil)
	v.accepts(t, v.token(t, nil))
	v.issuer.Rotate(t, "second")
	v.wants(t, v.token(t, nil), apierror.InvalidIdentityToken, "verification key") // too soon
	v.advance(16 * time.Second)
	v.accepts(t, v.token(t, nil))
	if n := v.issuer.Fetches(); n != 2 {
		t.Errorf("%d fetches", n)
	}
	// The old key is gone, and unknown ones don't cause a fetch each.
	stranger := issuertest.New(t)
	for range 50 {
		v.wants(t, stranger.Sign(t, v.payload(t, nil)), apierror.InvalidIdentityToken, "verification key")
	}
	v.advance(time.Hour)
	v.accepts(t, v.token(t, nil)) // fetched again, since it is old
	if n := v.issuer.Fetches(); n != 3 {
		t.Errorf("%d fetches", n)
	}
	// Many at once are one fetch.
	v.issuer.Rotate(t, "third")
	v.advance(16 * time.Second)
	token := v.token(t, nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := v.Verify(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := v.issuer.Fetches(); n != 4 {
		t.Errorf("%d fetches", n)
	}
}

// TestBadIssuers: an issuer that fails costs a bounded time and memory, and what it answered before is used for a day.
func TestBadIssuers(t *testing.T) {
	elsewhere := issuertest.New(t)
	large := `"` + strings.Repeat("x", 1<<20) + `"`
	for name, answer := range map[string]func(*issuertest.Issuer) http.HandlerFunc{
		"error": func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, large, http.StatusBadGateway) }
		},
		"10 MB": func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				for range 10 {
					if _, err := w.Write([]byte(large)); err != nil {
						return // the client has gone, as it should
					}
				}
			}
		},
		"redirects elsewhere": func(*issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.URL+"/.well-known/openid-configuration", http.StatusFound)
			}
		},
		"another issuer": func(*issuertest.Issuer) http.HandlerFunc { return elsewhere.Serve },
		"keys over HTTP": func(i *issuertest.Issuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = w.Write([]byte(`{"issuer":"` + i.URL + `","jwks_uri":"http://127.0.0.1:1/keys"}`))
			}
		},
		"no keys":       keySet(`{"keys":[]}`),
		"secret keys":   keySet(`{"keys":[{"kty":"oct","kid":"first","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}`),
		"10 MB of keys": keySet(`{"keys":[` + strings.Repeat(large+",", 10) + `1]}`),
		"many keys":     keySet(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerifier(t, nil)
			v.issuer.Answer(answer(v.issuer))
			v.wants(t, v.token(t, nil), apierror.IDPCommunicationError, "Retry")
			if _, err := v.Verify(t.Context(), v.token(t, nil)); len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if n := v.issuer.Fetches(); n > 1 {
				t.Errorf("%d fetches", n)
			}
			v.issuer.Answer(nil)
			v.advance(16 * time.Second)
			v.accepts(t, v.token(t, nil))
			v.issuer.Answer(answer(v.issuer))
			v.advance(23 * time.Hour)
			v.accepts(t, v.token(t, nil))
			v.advance(time.Hour)
			v.wants(t, v.token(t, nil), apierror.IDPCommunicationError, "Retry")
		})
	}
}

// keySet is an issuer with another key set.
func keySet(text string) func(*issuertest.Issuer) http.HandlerFunc {
	return func(i *issuertest.Issuer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/keys") {
				_, _ = w.Write([]byte(text))
				return
			}
			i.Serve(w, r)
		}
	}
}

// TestSilentIssuer: an issuer that never answers holds up those who wait for it, for some seconds, and nobody after
// them.
func TestSilentIssuer(t *testing.T) {
	v := newVerifier(t, nil)
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	v.issuer.Answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	token := v.token(t, nil)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := v.Verify(t.Context(), token); !apierror.Is(err, apierror.IDPCommunicationError) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	v.wants(t, token, apierror.IDPCommunicationError, "Retry") // at once
	if n := v.issuer.Fetches(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

// TestImpatientClient: a client that goes away while it waits for another one's fetch is answered, and the fetch goes
// on.
func TestImpatientClient(t *testing.T) {
	v := newVerifier(t, nil)
	asked, answer := make(chan struct{}), make(chan struct{})
	v.issuer.Answer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "configuration") {
			close(asked)
			<-answer
		}
		v.issuer.Serve(w, r)
	})
	token := v.token(t, nil)
	first, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := v.Verify(first, token)
		done <- err
	}()
	<-asked
	leave()
	second, leave := context.WithCancel(t.Context())
	leave()
	if _, err := v.Verify(second, token); !apierror.Is(err, apierror.IDPCommunicationError) {
		t.Error(err)
	}
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestOfflineKeys: with a file of keys the issuer is never asked, and a changed file is read again.
func TestOfflineKeys(t *testing.T) {
	var file string
	v := newVerifier(t, func(i *oidc.Issuer) {
		issuer := issuertest.New(t)
		file, i.JWKSFile = issuer.JWKSFile(t), ""
		i.JWKSFile = file
	})
	if err := os.WriteFile(file, v.issuer.JWKS(), 0o600); err != nil {
		t.Fatal(err)
	}
	reload := func(want bool) {
		t.Helper()
		if changed, err := v.Reload(); changed != want || err != nil {
			t.Errorf("%t, %v", changed, err)
		}
	}
	reload(true)
	reload(false)
	v.accepts(t, v.token(t, nil))
	v.issuer.Rotate(t, "second")
	v.advance(48 * time.Hour)
	v.wants(t, v.token(t, nil), apierror.InvalidIdentityToken, "verification key")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Reload(); err == nil || !strings.Contains(err.Error(), "jwks_file") {
		t.Error(err)
	}
	if err := os.WriteFile(file, v.issuer.JWKS(), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(true)
	v.accepts(t, v.token(t, nil))
	if n := v.issuer.Fetches(); n != 0 {
		t.Errorf("%d fetches", n)
	}
}

// TestKeyIDs: a token without a key id is accepted when there is one key only.
func TestKeyIDs(t *testing.T) {
	v := newVerifier(t, nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(ids ...string) string {
		var keys jose.JSONWebKeySet
		for _, id := range ids {
			keys.Keys = append(keys.Keys, jose.JSONWebKey{Key: &key.PublicKey, KeyID: id})
		}
		return jsonOf(t, keys)
	}
	token := issuertest.SignWith(t, jose.ES256, key, v.payload(t, nil))
	v.issuer.Answer(keySet(set("one"))(v.issuer))
	v.accepts(t, token)
	v.issuer.Answer(keySet(set("one", "two"))(v.issuer))
	v.advance(time.Hour)
	v.wants(t, issuertest.SignWith(t, jose.ES256, key, v.payload(t, nil)), apierror.InvalidIdentityToken,
		"verification key")
}

// TestConfiguration: what is wrong with an issuer is told at the start.
func TestConfiguration(t *testing.T) {
	audiences := []string{"x"}
	issuer := issuertest.New(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for name, test := range map[string]struct {
		issuers []oidc.Issuer
		words   string
	}{
		"HTTP":        {[]oidc.Issuer{{URL: plain.URL, Audiences: audiences}}, "is not a URL such as https://"},
		"no host":     {[]oidc.Issuer{{URL: "https:///x", Audiences: audiences}}, "is not a URL"},
		"a password":  {[]oidc.Issuer{{URL: "https://a:b@host", Audiences: audiences}}, "is not a URL"},
		"a query":     {[]oidc.Issuer{{URL: "https://host?a", Audiences: audiences}}, "is not a URL"},
		"no audience": {[]oidc.Issuer{{URL: "https://host"}}, "name the audiences"},
		"empty ones":  {[]oidc.Issuer{{URL: "https://host", Audiences: []string{""}}}, "name the audiences"},
		"twice": {[]oidc.Issuer{{URL: "https://host", Audiences: audiences},
			{URL: "https://HOST", Audiences: audiences}}, "twice"},
		"no CA file":    {[]oidc.Issuer{{URL: "https://host", Audiences: audiences, CAFile: "/nowhere"}}, "ca_file"},
		"other CA file": {[]oidc.Issuer{{URL: "https://host", Audiences: audiences, CAFile: issuer.JWKSFile(t)}}, "holds no certificate"},
		"no key file":   {[]oidc.Issuer{{URL: "https://host", Audiences: audiences, JWKSFile: "/nowhere"}}, "jwks_file"},
		"other file":    {[]oidc.Issuer{{URL: "https://host", Audiences: audiences, JWKSFile: issuer.CAFile}}, "jwks_file"},
	} {
		_, err := oidc.New(oidc.Config{Issuers: test.issuers, Now: time.Now})
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzVerify: no token ends the server, and none that the issuer has not signed is accepted.
func FuzzVerify(f *testing.F) {
	v := newVerifier(f, func(i *oidc.Issuer) { i.JWKSFile = issuertest.New(f).JWKSFile(f) })
	f.Add(v.token(f, nil))
	f.Add("e30.e30.")
	f.Fuzz(func(t *testing.T, token string) {
		if w, err := v.Verify(t.Context(), token); err == nil || w != nil {
			t.Errorf("%+v", w)
		}
	})
}
