// Package quota limits how often callers may use the service, and how many requests each may have
// under way.
//
// What it protects: the callers from each other. The token is shared, and one that asks for key pairs
// without a pause would leave little of it to the others.
//
// What it trusts: the names of accounts and principals, which have been authenticated.
package quota

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// Class is what requests are counted as: one of the classes of cryptographic operations, which share
// a quota as in AWS KMS (AWS page "Request quotas"), or the name of any other operation.
type Class string

// The classes of cryptographic operations: by the key that they use, and by the pair that they make.
const (
	Symmetric Class = "symmetric" // symmetric and HMAC keys, data keys, random numbers
	RSA       Class = "rsa"
	ECC       Class = "ecc" // elliptic curves and SM2
	MLDSA     Class = "ml-dsa"
	MLKEM     Class = "ml-kem"

	dataKeyPair = "data-key-pair-" // and the KeyPairSpec in lower case, with hyphens
)

// DataKeyPair is the class of GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext, which count
// as Symmetric, too: they encrypt the private key.
func DataKeyPair(spec string) Class {
	return Class(dataKeyPair + strings.ToLower(strings.ReplaceAll(spec, "_", "-")))
}

// Rates are requests per second.
type Rates map[Class]float64

// Parse reads rates from elements like symmetric=500 and GenerateRandom=0.5. known tells which names
// are classes. No elements are nil.
func Parse(elements []string, known func(Class) bool) (Rates, error) {
	rates := Rates{}
	if len(elements) == 0 {
		return nil, nil
	}
	var problems []error
	for _, element := range elements {
		name, text, _ := strings.Cut(element, "=")
		class := Class(strings.TrimSpace(name))
		perSecond, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		switch {
		case !known(class):
			err = fmt.Errorf("%q is neither a class nor an operation", class)
		case err != nil || !(perSecond > 0) || math.IsInf(perSecond, 0):
			err = fmt.Errorf("%q is not like symmetric=500, requests a second", element)
		case rates[class] != 0:
			err = fmt.Errorf("%s is there twice", class)
		}
		if err != nil {
			problems = append(problems, err)
			continue
		}
		rates[class] = perSecond
	}
	return rates, errors.Join(problems...)
}

// Config says what is limited. What is empty or 0 is not.
type Config struct {
	Account    Rates // of all principals of an account together
	Principal  Rates // of one user, or of all sessions of one role together
	Concurrent int   // requests of one principal under way

	Now func() time.Time // required
}

// Limiter applies the limits. Its methods may be called concurrently.
type Limiter struct {
	cfg     Config
	buckets *lru.Cache[bucket, *rate.Limiter]

	mu       sync.Mutex
	underWay map[string]int // guarded by mu: requests of principals that have any
}

// bucket is what is counted.
type bucket struct {
	owner string // an account, or the ARN of a principal
	class Class
}

// maxBuckets bounds the memory, at some 200 bytes for each. Whoever comes back after that many others
// begins anew.
const maxBuckets = 20_000

// New returns a Limiter, which is nil when nothing is limited.
func New(cfg Config) (*Limiter, error) {
	if len(cfg.Account) == 0 && len(cfg.Principal) == 0 && cfg.Concurrent == 0 {
		return nil, nil
	}
	buckets, err := lru.New[bucket, *rate.Limiter](maxBuckets)
	if err != nil {
		return nil, fmt.Errorf("new limiter: %w", err)
	}
	return &Limiter{cfg: cfg, buckets: buckets, underWay: map[string]int{}}, nil
}

// Allow counts a request, and reports whether it is within the quotas.
func (l *Limiter) Allow(account, principal string, class Class) bool {
	if l == nil {
		return true
	}
	// The principal first: one that exceeds its own quota takes nothing of the account's.
	return l.allow(bucket{principal, class}, l.cfg.Principal) && l.allow(bucket{account, class}, l.cfg.Account)
}

func (l *Limiter) allow(b bucket, rates Rates) bool {
	perSecond := rates[b.class]
	if perSecond == 0 {
		return true
	}
	limiter, known := l.buckets.Get(b)
	if !known {
		// What a second allows may come at once.
		limiter = rate.NewLimiter(rate.Limit(perSecond), int(math.Ceil(perSecond)))
		if other, raced, _ := l.buckets.PeekOrAdd(b, limiter); raced {
			limiter = other
		}
	}
	return limiter.AllowN(l.cfg.Now(), 1)
}

// Enter begins a request of a principal, and reports whether it may have one more under way. If so,
// leave ends it.
func (l *Limiter) Enter(principal string) (leave func(), ok bool) {
	if l == nil || l.cfg.Concurrent == 0 {
		return func() {}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.underWay[principal] >= l.cfg.Concurrent {
		return nil, false
	}
	l.underWay[principal]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.underWay[principal]--; l.underWay[principal] == 0 {
			delete(l.underWay, principal)
		}
	}, true
}
