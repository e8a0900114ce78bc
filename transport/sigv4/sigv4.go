// Package sigv4 verifies requests signed with AWS Signature Version 4 in the Authorization header (AWS page
// "Signature Version 4 for API requests").
//
// It protects whatever is behind it from requests that the holder of a secret did not make, that
// were changed on the way, or that are replayed later than the clock skew allows. A verified
// signature covers the method, the query, the host, every X-Amz-* header and the body.
//
// It trusts its Lookup to know access keys, the clock that it is given, and net/http to have parsed
// the headers. It is for services whose only path is "/", such as the JSON services of AWS; a
// request for another path never verifies.
package sigv4

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoTime    = "20060102T150405Z"
	isoDate    = "20060102"

	// DefaultMaxSkew is how far the time of a signature may be from the verifier's clock, as at
	// AWS.
	DefaultMaxSkew = 5 * time.Minute
)

// Scope is what a signing key is valid for, and the session token of the request.
type Scope struct {
	AccessKeyID   string
	Date          string // YYYYMMDD
	Region        string
	Service       string
	SecurityToken string // X-Amz-Security-Token, or empty
}

// Key is a signing key (32 bytes, see SigningKey) and the principal that it authenticates.
type Key[P any] struct {
	Signing   [sha256.Size]byte
	Principal P
}

// Config configures a Verifier.
type Config[P any] struct {
	Service string                   // required; e.g. "kms"
	Region  func(region string) bool // required; whether a region is served
	// Lookup returns the key for a scope, or ErrUnknownKey. Verify returns other errors unchanged.
	Lookup  func(ctx context.Context, s Scope) (Key[P], error) // required
	MaxSkew time.Duration                                      // default DefaultMaxSkew
}

// Verifier verifies requests. It may be used concurrently.
type Verifier[P any] struct{ cfg Config[P] }

// ErrUnknownKey is what Lookup returns for an access key or a session token that is not valid.
var ErrUnknownKey = errors.New("access key is not known")

// Error is a refusal, in AWS's words. Its codes are those of AWS's JSON services.
type Error struct {
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func incomplete(format string, args ...any) error {
	return &Error{"IncompleteSignatureException", fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &Error{"InvalidSignatureException", fmt.Sprintf(format, args...)}
}

var (
	errMissing = &Error{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	errUnknown = &Error{"UnrecognizedClientException", "The security token included in the request is invalid."}
	errForged  = &Error{"InvalidSignatureException",
		"The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}
)

// New returns a verifier.
func New[P any](cfg Config[P]) *Verifier[P] {
	if cfg.MaxSkew == 0 {
		cfg.MaxSkew = DefaultMaxSkew
	}
	return &Verifier[P]{cfg}
}

// SigningKey derives the key for a scope from a secret access key (AWS page "Create a signed AWS API request").
func SigningKey(secret []byte, s Scope) [sha256.Size]byte {
	seed := append([]byte("AWS4"), secret...)
	defer clear(seed)
	key := mac(seed, s.Date)
	for _, part := range []string{s.Region, s.Service, terminator} {
		key = mac(key[:], part)
	}
	return key
}

func mac(key []byte, message string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	h.Sum(sum[:0])
	return sum
}

// Verify checks the signature of a request whose body has been read, at the time now. It returns
// the principal and the scope, or an *Error, or the error of Lookup. With an error, the scope is what
// the request claims, as far as it could be read.
func (v *Verifier[P]) Verify(r *http.Request, body []byte, now time.Time) (P, Scope, error) {
	return v.VerifyContext(r.Context(), r, body, now)
}

// VerifyContext is Verify with another context for Lookup than the request's.
func (v *Verifier[P]) VerifyContext(
	ctx context.Context, r *http.Request, body []byte, now time.Time,
) (P, Scope, error) {
	var none P
	a, err := parseAuthorization(r)
	if err != nil {
		return none, Scope{}, err
	}
	if err := v.checkScope(&a, now); err != nil {
		return none, a.scope, err
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	request, err := appendRequest((*buf)[:0], r, a.signedHeaders, body)
	*buf = request[:0]
	if err != nil {
		return none, a.scope, err
	}
	k, err := v.cfg.Lookup(ctx, a.scope)
	if errors.Is(err, ErrUnknownKey) {
		err = errUnknown
	}
	if err != nil {
		return none, a.scope, err
	}
	want := sign(k.Signing, &a, sha256.Sum256(request))
	if subtle.ConstantTimeCompare(want[:], a.signature[:]) != 1 {
		return none, a.scope, errForged
	}
	return k.Principal, a.scope, nil
}

// buffers hold canonical requests. None of them contains a secret.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// sign signs the string to sign for a canonical request with this hash. It is HMAC-SHA-256 (RFC 2104),
// of whose hashes Sum256 keeps the state on the stack; package hmac allocates seven times for a signature.
func sign(key [sha256.Size]byte, a *authorization, request [sha256.Size]byte) [sha256.Size]byte {
	var inner [sha256.BlockSize + 256]byte
	var outer [sha256.BlockSize + sha256.Size]byte
	for i := range sha256.BlockSize {
		inner[i], outer[i] = 0x36, 0x5c
	}
	for i, k := range key {
		inner[i] ^= k
		outer[i] ^= k
	}
	sum := sha256.Sum256(appendStringToSign(inner[:sha256.BlockSize], a, request))
	copy(outer[sha256.BlockSize:], sum[:])
	return sha256.Sum256(outer[:])
}

// appendStringToSign appends the string to sign for a canonical request with this hash.
func appendStringToSign(b []byte, a *authorization, request [sha256.Size]byte) []byte {
	b = append(b, algorithm+"\n"...)
	b = a.at.AppendFormat(b, isoTime)
	b = append(b, '\n')
	for _, part := range []string{a.scope.Date, a.scope.Region, a.scope.Service} {
		b = append(append(b, part...), '/')
	}
	b = append(b, terminator+"\n"...)
	return hex.AppendEncode(b, request[:])
}

// checkScope checks what a signature is valid for and when it was made, before any key is looked
// up.
func (v *Verifier[P]) checkScope(a *authorization, now time.Time) error {
	var problems []string
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !v.cfg.Region(a.scope.Region) {
		complain("Credential should be scoped to a valid region, not '%s'. ", a.scope.Region)
	}
	if a.scope.Service != v.cfg.Service {
		complain("Credential should be scoped to correct service: '%s'. ", v.cfg.Service)
	}
	if a.terminator != terminator {
		complain("Credential should be scoped with a valid terminator: '%s', not '%s'. ", terminator, a.terminator)
	}
	var date [len(isoDate)]byte
	if string(a.at.AppendFormat(date[:0], isoDate)) != a.scope.Date {
		complain("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.",
			a.scope.Date, a.at.Format(isoDate), a.at.Format(isoTime))
	}
	if problems != nil {
		return &Error{"InvalidSignatureException", strings.Join(problems, "")}
	}
	now = now.UTC()
	minutes := int(v.cfg.MaxSkew / time.Minute)
	if earliest := now.Add(-v.cfg.MaxSkew); a.at.Before(earliest) {
		return invalid("Signature expired: %s is now earlier than %s (%s - %d min.)",
			a.at.Format(isoTime), earliest.Format(isoTime), now.Format(isoTime), minutes)
	}
	if latest := now.Add(v.cfg.MaxSkew); a.at.After(latest) {
		return invalid("Signature not yet current: %s is still later than %s (%s + %d min.)",
			a.at.Format(isoTime), latest.Format(isoTime), now.Format(isoTime), minutes)
	}
	return nil
}

// authorization is the parsed Authorization header and the time of the request.
type authorization struct {
	scope         Scope
	terminator    string
	signedHeaders string // as sent: lower case, sorted, separated by semicolons
	signature     [sha256.Size]byte
	at            time.Time // UTC
}

func parseAuthorization(r *http.Request) (a authorization, err error) {
	headers := r.Header["Authorization"]
	if len(headers) == 0 || headers[0] == "" {
		return a, errMissing
	}
	if len(headers) > 1 {
		return a, incomplete("Only one Authorization header is allowed.")
	}
	rest, ok := strings.CutPrefix(headers[0], algorithm)
	if !ok || rest != "" && rest[0] != ' ' && rest[0] != ',' {
		return a, notPairs(headers[0])
	}
	var credential, signature string
	for rest != "" {
		var pair string
		pair, rest, _ = strings.Cut(rest, ",")
		if pair = strings.Trim(pair, " \t"); pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return a, notPairs(headers[0])
		}
		switch name {
		case "Credential":
			credential = value
		case "SignedHeaders":
			a.signedHeaders = value
		case "Signature":
			signature = value
		}
	}
	at, dated := requestTime(r.Header)
	lacks := ""
	for _, need := range [...]struct{ name, value string }{{"Credential", credential}, {"Signature", signature},
		{"SignedHeaders", a.signedHeaders}} {
		if need.value == "" {
			lacks += "Authorization header requires '" + need.name + "' parameter. "
		}
	}
	if !dated {
		lacks += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	if lacks != "" {
		return a, incomplete("%s%s", lacks, hashed(headers[0]))
	}
	if a.at, ok = parseTime(at); !ok {
		return a, incomplete(
			"Date must be in ISO-8601 'basic format'. Got '%s'. See https://en.wikipedia.org/wiki/ISO_8601", at)
	}
	var parts [5]string
	n := 0
	for part := range strings.SplitSeq(credential, "/") {
		if n < len(parts) {
			parts[n] = part
		}
		n++
	}
	if n != len(parts) {
		return a, incomplete(
			"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'",
			credential)
	}
	a.scope = Scope{AccessKeyID: parts[0], Date: parts[1], Region: parts[2], Service: parts[3],
		SecurityToken: r.Header.Get("X-Amz-Security-Token")}
	a.terminator = parts[4]
	if n, err := hex.Decode(a.signature[:], []byte(signature[:min(len(signature), 2*len(a.signature))])); err != nil ||
		n != len(a.signature) || len(signature) != 2*n || strings.ToLower(signature) != signature {
		return a, errForged
	}
	return a, nil
}

func notPairs(header string) error {
	return incomplete("Invalid key=value pair (missing equal-sign) in Authorization header %s.", hashed(header))
}

// hashed describes a header without repeating it, because it may contain a secret.
func hashed(header string) string {
	sum := sha256.Sum256([]byte(header))
	return "(hashed with SHA-256 and encoded with Base64): '" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// requestTime returns the header that says when the request was signed.
func requestTime(h http.Header) (string, bool) {
	if at := h["X-Amz-Date"]; len(at) > 0 {
		return at[0], len(at) == 1
	}
	at := h["Date"]
	return strings.Join(at, ","), len(at) == 1
}

func parseTime(s string) (time.Time, bool) {
	t, err := time.Parse(isoTime, s)
	if err != nil {
		t, err = http.ParseTime(s)
	}
	return t.UTC(), err == nil
}
