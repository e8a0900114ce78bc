package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

// Proof is a signature with what it was made over, to be verified again later, without the request.
type Proof struct {
	Scope     Scope
	At        time.Time
	Request   string // canonical
	Signature [sha256.Size]byte
}

// Prove returns the proof of a request whose signature Verify has accepted.
func Prove(r *http.Request, body []byte) (*Proof, error) {
	a, err := parseAuthorization(r)
	if err != nil {
		return nil, err
	}
	request, err := appendRequest(nil, r, a.signedHeaders, body)
	return &Proof{Scope: a.scope, At: a.at, Request: string(request), Signature: a.signature}, err
}

// Verify reports whether the signature was made with the secret, and for a request with this target and body, sent by
// POST to the service. It does not look at the time.
func (p *Proof) Verify(secret []byte, service, target string, body []byte) bool {
	hash := sha256.Sum256(body)
	if p.Scope.Service != service || p.At.UTC().Format(isoDate) != p.Scope.Date ||
		!strings.HasPrefix(p.Request, "POST\n/\n") || !strings.HasSuffix(p.Request, "\n"+hex.EncodeToString(hash[:])) ||
		strings.Count(p.Request, "\nx-amz-target:"+target+"\n") != 1 {
		return false
	}
	want := sign(SigningKey(secret, p.Scope), &authorization{scope: p.Scope, at: p.At.UTC()},
		sha256.Sum256([]byte(p.Request)))
	return subtle.ConstantTimeCompare(want[:], p.Signature[:]) == 1
}
