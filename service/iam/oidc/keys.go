package oidc

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/verenc/kms/service/apierror"
)

// Limits of what an issuer can occupy here, and of what callers can make this server ask it.
const (
	fetchTimeout = 5 * time.Second
	fetchBytes   = 512 << 10 // of an answer; the largest public issuers have some 20 KB of keys
	fetchHeaders = 64 << 10
	maxKeys      = 100
	maxWaiting   = 100              // callers who wait for one fetch
	fetchPause   = 15 * time.Second // between two fetches, whoever asks
	keysFresh    = time.Hour        // after that they are fetched again
	keysLast     = 24 * time.Hour   // so long they are used when they can't be
	maxJWKSFile  = fetchBytes
	minRSA       = 2048 // bits
)

// keySet has the keys of an issuer.
type keySet struct {
	url, caFile, jwksFile string
	now                   func() time.Time
	turn                  chan struct{} // one who fetches has its only element

	mu      sync.Mutex // guards the rest
	client  *http.Client
	caText  []byte
	keys    []jose.JSONWebKey
	text    []byte    // of the file
	fetched time.Time // when keys were read
	tried   time.Time // when a fetch began last
	failed  error     // of that fetch
	waiting int
}

func newKeySet(i *Issuer, now func() time.Time) (*keySet, error) {
	k := &keySet{url: i.URL, caFile: i.CAFile, jwksFile: i.JWKSFile, now: now, turn: make(chan struct{}, 1)}
	k.turn <- struct{}{}
	_, err := k.reload()
	if k.client == nil && k.caFile == "" {
		k.client = newClient(nil)
	}
	return k, err
}

// reload reads the files again. After an error everything stays as it was.
func (k *keySet) reload() (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.caFile != "" {
		text, err := readFile(k.caFile)
		if err != nil {
			return false, fmt.Errorf("read ca_file: %w", err)
		}
		if !bytes.Equal(text, k.caText) {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(text) {
				return false, fmt.Errorf("ca_file: %s holds no certificate", k.caFile)
			}
			k.client, k.caText, changed = newClient(pool), text, true
		}
	}
	if k.jwksFile == "" {
		return changed, nil
	}
	text, err := readFile(k.jwksFile)
	if err != nil {
		return changed, fmt.Errorf("read jwks_file: %w", err)
	}
	if bytes.Equal(text, k.text) {
		return changed, nil
	}
	keys, err := parseKeys(text)
	if err != nil {
		return changed, fmt.Errorf("jwks_file: %s: %w", k.jwksFile, err)
	}
	k.keys, k.text = keys, text
	return true, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxJWKSFile+1))
	if err == nil && len(text) > maxJWKSFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxJWKSFile)
	}
	return text, err
}

// newClient returns a client that reads a bounded answer of the host that it was told, and of no other.
func newClient(authorities *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer redirects, which is not followed")
		},
		Transport: bounded{&http.Transport{Proxy: http.ProxyFromEnvironment, MaxResponseHeaderBytes: fetchHeaders,
			TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
			DisableKeepAlives: true}},
	}
}

// bounded bounds the bodies of answers, as they are after decompression.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not of https", r.URL.Redacted())
	}
	answer, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, fetchBytes)
	}
	return answer, err
}

// find returns the keys that may have signed a token. A key id that is not known is asked for, if that was not done
// just now.
func (k *keySet) find(ctx context.Context, id, algorithm string) ([]jose.JSONWebKey, error) {
	found, fresh := k.known(id, algorithm)
	if len(found) > 0 && fresh {
		return found, nil
	}
	err := k.refresh(ctx, len(found) > 0)
	found, _ = k.known(id, algorithm)
	switch {
	case len(found) > 0:
		return found, nil
	case err != nil:
		return nil, apierror.New(apierror.IDPCommunicationError, msgUnreachable).WithCause(err)
	}
	return nil, apierror.New(apierror.InvalidIdentityToken, msgNoKey)
}

// known returns the keys of an id and an algorithm, and whether they were read not long ago. A token without a key id
// can be of an issuer that has one key only.
func (k *keySet) known(id, algorithm string) (found []jose.JSONWebKey, fresh bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	age := k.now().Sub(k.fetched)
	if k.jwksFile == "" && age >= keysLast {
		return nil, false
	}
	for _, key := range k.keys {
		if (id == "" || key.KeyID == id) && (key.Algorithm == "" || key.Algorithm == algorithm) {
			found = append(found, key)
		}
	}
	if id == "" && len(found) > 1 {
		found = nil
	}
	return found, k.jwksFile != "" || age < keysFresh
}

var errBusy = errors.New("too many requests wait for the issuer")

// refresh fetches the keys, unless that was tried just now, or they come from a file. Who has keys that will do does
// not wait for a fetch of somebody else.
func (k *keySet) refresh(ctx context.Context, will bool) error {
	if k.jwksFile != "" {
		return nil
	}
	k.mu.Lock()
	if k.waiting >= maxWaiting || will && k.waiting > 0 {
		k.mu.Unlock()
		return errBusy
	}
	k.waiting++
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.waiting--
		k.mu.Unlock()
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-k.turn:
	}
	defer func() { k.turn <- struct{}{} }()

	k.mu.Lock()
	client, failed, soon := k.client, k.failed, k.now().Sub(k.tried) < fetchPause && !k.tried.IsZero()
	if !soon {
		k.tried = k.now()
	}
	k.mu.Unlock()
	if soon {
		return failed
	}
	// The others wait for the answer, too: it is not given up when the client of this request goes away.
	keys, err := fetch(context.WithoutCancel(ctx), client, k.url)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed = err; err == nil {
		k.keys, k.fetched = keys, k.now()
	}
	return err
}

// fetch asks an issuer for its keys (OpenID Connect Discovery 1.0, section 4).
func fetch(ctx context.Context, client *http.Client, url string) (keys []jose.JSONWebKey, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the keys of %s: %s", url, cut(err.Error()))
		}
	}()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), url)
	if err != nil {
		return nil, err
	}
	var discovered struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&discovered); err != nil {
		return nil, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, discovered.Keys, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(q)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("jwks_uri: %s", answer.Status)
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return parseKeys(text)
}

// cut bounds what an issuer can put into the log: go-oidc's errors have the bodies of answers.
func cut(text string) string {
	const most = 300
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// parseKeys reads a JWK set (RFC 7517, section 5). Keys that can't be used here are left out.
func parseKeys(text []byte) (keys []jose.JSONWebKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has %d keys; %d are the most", len(set.Keys), maxKeys)
	}
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(one, &key) == nil && usable(&key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no public key for signatures")
	}
	return keys, nil
}

// usable reports whether a key is a public one for signatures, of today's strength.
func usable(k *jose.JSONWebKey) bool {
	if k.Use != "" && k.Use != "sig" || !k.IsPublic() || !k.Valid() {
		return false
	}
	switch public := k.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSA
	case *ecdsa.PublicKey:
		return public.Curve.Params().BitSize >= 256
	}
	return true
}
