package policy

import (
	"strings"
	"sync"
)

// Request is what to decide about.
type Request struct {
	Action string // with its prefix: "kms:Decrypt"
	// CrossAccount says that callers of other accounts can be allowed the action (AWS page "Allowing
	// users in other accounts to use a KMS key").
	CrossAccount bool
	// Resources are the ARNs of the one resource, in all forms in which a policy may name it. A
	// policy that names one of them names the resource. Messages show the first. Operations without
	// a key have the resource "*".
	Resources []string
	// Shown is the name of the resource in messages if the caller has not named it; if empty, the
	// first of Resources.
	Shown string
	// ResourceAccount owns the resource. For operations without a key it is the caller's account.
	ResourceAccount string
	Principal       *Principal // required

	// EncryptionContext is that of the operation or, for CreateGrant, that of the grant's
	// constraints.
	EncryptionContext map[string]string
	ResourceTags      map[string]string // of the key: aws:ResourceTag/...
	RequestTags       map[string]string // in the request: aws:RequestTag/..., and aws:TagKeys

	// Lookup appends the values of a condition key that is not taken from the fields above, and
	// returns the result. It may be nil. The name is in lower case, for example "aws:sourceip". A
	// key that is absent or unknown has no values. Dates are in RFC 3339 or in seconds since 1970;
	// binary values are raw bytes.
	Lookup func(values []string, key string) []string

	// Assume is for a request that is not known as a whole.
	Assume Assumption
}

// Assumption says what is taken for true of a condition on a member of the request, on its
// encryption context or on its sender that has no value, and of the constraints of a grant. With
// Favourable, a decision is a denial only if every such request is denied. With Unfavourable, it
// allows only if every such request is allowed.
type Assumption int

// The assumptions.
const (
	AbsentIsAbsent Assumption = iota // there is no value, as in a request that is made
	Favourable                       // it holds where it allows, and not where it denies
	Unfavourable                     // the other way round
	// AnyApprovers takes only conditions on ApprovedBy for favourable; see MissingApprovals.
	AnyApprovers
)

// Condition keys of approvals, in lower case: how many principals have approved of the very request, and their ARNs.
const (
	Approvals  = "verenc:approvals"
	ApprovedBy = "verenc:approvedby"
)

// holds evaluates a condition of a statement that allows or denies.
func (e *evaluation) holds(c *condition, allow bool) bool {
	switch {
	case e.Assume == AnyApprovers && c.key.name == ApprovedBy:
		e.approvers = append(e.approvers, c)
		return allow
	case !e.guesses():
		return c.holds(e, allow)
	}
	holds, open := c.isOpen(e, allow)
	if open {
		return e.assumed(allow)
	}
	return holds
}

// guesses reports whether something is assumed of every member of the request that has no value.
func (e *evaluation) guesses() bool { return e.Assume == Favourable || e.Assume == Unfavourable }

// assumed reports whether a statement is taken to apply as far as that is not known.
func (e *evaluation) assumed(allow bool) bool { return allow == (e.Assume == Favourable) }

// evaluation is the state of one decision.
type evaluation struct {
	*Policies
	*Request
	documents [sets][]*Document
	action    string // in lower case
	operation string // the action without kms:, as grants name it; or empty
	// unresolved reports that a variable of the statement had no value.
	unresolved bool
	approvers  []*condition // on ApprovedBy that were assumed to hold; see AnyApprovers

	members    [families][]pair // of the families, once requested
	looked     []lookupResult   // keys that Lookup was called for
	keySpace   [1]*Document
	valueSpace [8]string
}

func newEvaluation(p *Policies, r *Request) *evaluation {
	e := evaluations.Get().(*evaluation)
	e.Policies, e.Request, e.action = p, r, lower(r.Action)
	e.keySpace[0] = p.Key
	e.documents = [sets][]*Document{e.keySpace[:], p.Identity, p.Boundary, p.Session, p.Guard}
	e.operation, _ = strings.CutPrefix(r.Action, "kms:")
	return e
}

// lower gives an action in lower case. There are few actions, and all of them come from tables.
func lower(action string) string {
	if known, ok := lowered.Load(action); ok {
		return known.(string)
	}
	text := strings.ToLower(action)
	lowered.Store(action, text)
	return text
}

var lowered sync.Map // string to string

// keySource says where the values of a condition key come from.
type keySource int

const (
	fromLookup keySource = iota
	fromPrincipalARN
	fromPrincipalAccount
	fromPrincipalType
	fromPrincipalIsService
	fromUserName
	fromUserID
	fromResourceAccount
	fromTagKeys
	fromEncryptionContextKeys
	fromPrincipalTag // the families
	fromResourceTag
	fromRequestTag
	fromEncryptionContext
	families = iota - fromPrincipalTag // how many
)

// Condition keys whose values are fields of the request (AWS pages "AWS global condition context
// keys" and "AWS KMS condition keys"), in lower case.
var keySources = map[string]keySource{
	"aws:principalarn":          fromPrincipalARN,
	"aws:principalaccount":      fromPrincipalAccount,
	"kms:calleraccount":         fromPrincipalAccount,
	"aws:principaltype":         fromPrincipalType,
	"aws:principalisawsservice": fromPrincipalIsService,
	"aws:username":              fromUserName,
	"aws:userid":                fromUserID,
	"aws:resourceaccount":       fromResourceAccount,
	"aws:tagkeys":               fromTagKeys,
	"kms:encryptioncontextkeys": fromEncryptionContextKeys,
}

// Families of condition keys, by the prefix of their names.
var keyFamilies = map[string]keySource{
	"aws:principaltag/":      fromPrincipalTag,
	"aws:resourcetag/":       fromResourceTag,
	"aws:requesttag/":        fromRequestTag,
	"kms:encryptioncontext:": fromEncryptionContext,
}

// key is a condition key. Neither its name nor the member of a family is case-sensitive.
type key struct {
	name   string // in lower case
	source keySource
	member string // of a family, in lower case
}

func newKey(name string) key {
	k := key{name: strings.ToLower(name)}
	k.source = keySources[k.name]
	for family, source := range keyFamilies {
		if member, ok := strings.CutPrefix(k.name, family); ok {
			k.source, k.member = source, member
		}
	}
	return k
}

// appendValues appends the key's values in this request.
func (k *key) appendValues(values []string, e *evaluation) []string {
	p := e.Principal
	switch k.source {
	case fromPrincipalARN:
		return appendPresent(values, p.policyARN())
	case fromPrincipalAccount:
		return appendPresent(values, p.Account)
	case fromPrincipalType:
		if p.Type == AWSService {
			return values
		}
		return appendPresent(values, string(p.Type))
	case fromPrincipalIsService:
		if p.Type == AWSService {
			return append(values, "true")
		}
		return append(values, "false")
	case fromUserName:
		return appendPresent(values, p.UserName)
	case fromUserID:
		return appendPresent(values, p.UserID)
	case fromResourceAccount:
		return appendPresent(values, e.ResourceAccount)
	case fromTagKeys:
		if len(e.RequestTags) > 0 {
			return e.appendNames(values, fromRequestTag)
		}
	case fromEncryptionContextKeys:
		return e.appendNames(values, fromEncryptionContext)
	case fromPrincipalTag, fromResourceTag, fromRequestTag, fromEncryptionContext:
		// All members that differ from the key's in case only.
		for _, p := range e.family(k.source) {
			if strings.EqualFold(p.name, k.member) {
				values = append(values, p.value)
			}
		}
		return values
	}
	return append(values, e.lookUp(k.name)...)
}

// lookUp calls Lookup once for each key, because many statements use the same ones.
func (e *evaluation) lookUp(name string) []string {
	for i := range e.looked {
		if e.looked[i].name == name {
			return e.looked[i].values
		}
	}
	var values []string
	if e.Lookup != nil {
		values = e.Lookup(nil, name)
	}
	e.looked = append(e.looked, lookupResult{name, values})
	return values
}

// lookupResult is a condition key with the values that Lookup gave.
type lookupResult struct {
	name   string
	values []string
}

func appendPresent(values []string, value string) []string {
	if value == "" {
		return values
	}
	return append(values, value)
}

func (e *evaluation) appendNames(values []string, family keySource) []string {
	for _, p := range e.family(family) {
		values = append(values, p.name)
	}
	return values
}

// pair is a member of a family. Statements look families up often, and searching a short list is
// faster than a map.
type pair struct{ name, value string }

func (e *evaluation) family(source keySource) []pair {
	pairs := &e.members[source-fromPrincipalTag]
	if *pairs == nil {
		from := [families]map[string]string{e.Principal.Tags, e.ResourceTags, e.RequestTags, e.EncryptionContext}
		for name, value := range from[source-fromPrincipalTag] {
			*pairs = append(*pairs, pair{name, value})
		}
	}
	return *pairs
}
