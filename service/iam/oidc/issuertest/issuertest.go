// Package issuertest runs a small OpenID Connect issuer in a test: its discovery document, its keys and its tokens. It
// can be made to misbehave.
package issuertest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audience is the audience of tokens unless a test changes it.
const Audience = "verenc"

// Issuer is an issuer on a port of this machine, with TLS.
type Issuer struct {
	URL    string
	CAFile string // its authority, PEM
	folder string

	mu      sync.Mutex
	keys    []jose.JSONWebKey // private; the last one signs
	fetches int               // of the discovery document
	handle  http.HandlerFunc
}

// New starts an issuer, which ends with the test. Its URL has a path.
func New(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{folder: t.TempDir()}
	server := httptest.NewTLSServer(http.HandlerFunc(i.serve))
	t.Cleanup(server.Close)
	i.URL = server.URL + "/tenant"
	i.CAFile = filepath.Join(i.folder, "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(i.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	i.Rotate(t, "first")
	return i
}

// Name is the URL without https://, as AWS names providers.
func (i *Issuer) Name() string { return strings.TrimPrefix(i.URL, "https://") }

// Rotate replaces the key that signs tokens by a new one.
func (i *Issuer) Rotate(t testing.TB, id string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = []jose.JSONWebKey{{Key: key, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"}}
}

// Answer makes the issuer answer all requests in another way; nil: as it should.
func (i *Issuer) Answer(handle http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.handle = handle
}

// Fetches returns how often the discovery document was asked for.
func (i *Issuer) Fetches() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// Public returns the key that verifies tokens.
func (i *Issuer) Public() crypto.PublicKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	public := i.keys[0].Public()
	return public.Key
}

// JWKS returns the key set.
func (i *Issuer) JWKS() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, k.Public())
	}
	text, _ := json.Marshal(set) // it can be
	return text
}

// JWKSFile writes the key set to a file, and returns its path.
func (i *Issuer) JWKSFile(t testing.TB) string {
	t.Helper()
	return i.write(t, "jwks.json", i.JWKS())
}

func (i *Issuer) write(t testing.TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(i.folder, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (i *Issuer) serve(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	handle := i.handle
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		i.fetches++
	}
	i.mu.Unlock()
	if handle == nil {
		handle = i.Serve
	}
	handle(w, r)
}

// Serve answers as an issuer should.
func (i *Issuer) Serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch r.URL.Path {
	case "/tenant/.well-known/openid-configuration":
		_, _ = fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	case "/tenant/keys":
		_, _ = w.Write(i.JWKS())
	default:
		http.NotFound(w, r)
	}
}

// Claims returns those of a token that is valid now, with changes. A value of nil removes a claim.
func (i *Issuer) Claims(now time.Time, changes map[string]any) map[string]any {
	all := map[string]any{"iss": i.URL, "sub": "system:serviceaccount:shop:orders", "aud": []string{Audience},
		"exp": now.Add(10 * time.Minute).Unix(), "iat": now.Unix(), "nbf": now.Unix(), "jti": "token-1"}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

// Token returns a token that is valid now, with changes of its claims.
func (i *Issuer) Token(t testing.TB, changes map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(i.Claims(time.Now(), changes))
	if err != nil {
		t.Fatal(err)
	}
	return i.Sign(t, payload)
}

// Sign signs any text as a token.
func (i *Issuer) Sign(t testing.TB, payload []byte) string {
	t.Helper()
	i.mu.Lock()
	key := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	return SignWith(t, jose.ES256, key, payload)
}

// SignWith signs with any key.
func SignWith(t testing.TB, algorithm jose.SignatureAlgorithm, key any, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TokenFile writes a token to a file, as Kubernetes does for a pod, and returns its path.
func (i *Issuer) TokenFile(t testing.TB, changes map[string]any) string {
	t.Helper()
	return i.write(t, "token", []byte(i.Token(t, changes)))
}
