package service

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// Operation is one entry of a table of operations: everything that is declared about an operation of
// AWS KMS, or about one of package inspect. Package transport finds, limits and decodes requests by
// it. Authorisation, the checks of keys, grants, audit records and the reports of permissions derive
// from it as well.
type Operation struct {
	Name   string
	Family Family
	Source string // eventSource of its records; default AWS's
	Handler
	// MaxBody is the size of the largest request in bytes; 0 is UsualBody.
	MaxBody int64

	// Permissions are the actions that a caller may need for the operation, with their prefix.
	Permissions []string
	Resource    Resource
	Callers     Callers
	// Key is what the operation needs of a key; nil for an operation without one.
	Key *KeyRule
	// GrantOperations are the elements of a grant's Operations that allow the operation.
	GrantOperations []string
	// Conditions are the condition keys that the operation's requests can have, besides the global
	// ones and KeyConditions. After one that ends in "/" or ":" comes a name.
	Conditions ConditionKeys

	Effect Effect
	// RecordData are the members of additionalEventData that a record of the operation may have.
	RecordData []string
	// WithoutPlaintext marks operations that make a secret which should never be outside the token
	// in clear.
	WithoutPlaintext bool
	// KeepsProof marks operations that are given what proves that the caller has signed the request: iam.Caller.Signed.
	KeepsProof bool
	// Page is the length of the pages of a list operation.
	Page PageSize
	// Errors are the codes of the operation's errors, besides CommonErrors.
	Errors ErrorCodes

	permission string // with the operation's name; init sets it
}

// Family groups operations, as the files of this package and the index of the documentation do.
type Family string

// The families of operations.
const (
	FamilyEncryption       Family = "Encryption"
	FamilyDataKeys         Family = "Data keys"
	FamilySignatures       Family = "Signatures"
	FamilyMACs             Family = "Message authentication codes"
	FamilyKeyExchange      Family = "Key agreement and encapsulation"
	FamilyRandomNumbers    Family = "Random numbers"
	FamilyKeys             Family = "Keys"
	FamilyKeyPolicies      Family = "Key policies"
	FamilyGrants           Family = "Grants"
	FamilyAliases          Family = "Aliases"
	FamilyTags             Family = "Tags"
	FamilyRotations        Family = "Rotation"
	FamilyImportedMaterial Family = "Imported key material"
	FamilyMultiRegionKeys  Family = "Multi-Region keys"
	FamilyCustomKeyStores  Family = "Custom key stores"
)

// Families lists them for readers: what is needed first is first.
func Families() []Family {
	return []Family{FamilyKeys, FamilyEncryption, FamilyDataKeys, FamilySignatures, FamilyMACs, FamilyKeyExchange,
		FamilyRandomNumbers, FamilyAliases, FamilyTags, FamilyKeyPolicies, FamilyGrants, FamilyRotations,
		FamilyImportedMaterial, FamilyMultiRegionKeys, FamilyCustomKeyStores}
}

// Resource is what the permissions of an operation are checked on.
type Resource int

// The kinds of resources.
const (
	OnKey         Resource = iota + 1
	OnAliasAndKey          // both must allow it
	OnAccount              // identity policies alone decide: the resource is "*"
	OnGrant                // the grant itself says who may end it
	OnCaller               // the answer is about the caller alone, who needs no permission
)

// Callers are the accounts whose principals can be allowed an operation ("Cross-account use" in the
// API Reference).
type Callers int

// The accounts of callers.
const (
	OwnAccount Callers = iota + 1 // the account of the key
	AnyAccount
)

// Effect tells whether an operation changes anything; records have it as readOnly.
type Effect int

// The effects of operations.
const (
	ReadsOnly Effect = iota + 1
	Changes
)

// PageSize is the default and the largest length of a page of a list (API Reference, Limit of each
// list operation).
type PageSize struct{ Default, Max int }

// ConditionKeys are names of condition keys.
type ConditionKeys []string

func (k ConditionKeys) and(more ...string) ConditionKeys { return slices.Concat(k, more) }

// ErrorCodes are codes of errors.
type ErrorCodes []apierror.Code

func (c ErrorCodes) and(more ...apierror.Code) ErrorCodes { return slices.Concat(c, more) }

// CommonErrors are the errors of every operation.
var CommonErrors = ErrorCodes{apierror.AccessDenied, apierror.DependencyTimeout, apierror.Internal, apierror.Throttling,
	apierror.Validation}

// Largest bodies in bytes. AWS's limits on members keep requests of most operations well below
// UsualBody; a key policy may have 128 Ki characters, each escaped.
const (
	UsualBody = 64 << 10
	largeBody = 1 << 20
)

// Host has the methods that serve operations: a Service, or the Inspector of package inspect.
type Host interface {
	// Audited runs an operation and keeps one record of it.
	Audited(ctx context.Context, c *iam.Caller, source, op string, in any,
		do func(context.Context) (any, error)) (any, error)
}

// Handler is the method of a Host that serves an operation.
type Handler struct {
	Request, Response reflect.Type // structures

	keyMembers []int // of a Request: the indexes of those that name keys

	newRequest func() any // a pointer to a Request
	serve      func(context.Context, Host, *iam.Caller, any) (any, error)
}

// Handle makes the Handler of a method.
func Handle[H Host, Req, Resp any](method func(H, context.Context, *iam.Caller, *Req) (*Resp, error)) Handler {
	return Handler{
		Request: reflect.TypeFor[Req](), Response: reflect.TypeFor[Resp](),
		keyMembers: keyMembersOf(reflect.TypeFor[Req]()),
		newRequest: func() any { return new(Req) },
		serve: func(ctx context.Context, h Host, c *iam.Caller, request any) (any, error) {
			out, err := method(h.(H), ctx, c, request.(*Req))
			if err != nil {
				return nil, err // not a nil *Resp, which would not be a nil any
			}
			return out, nil
		},
	}
}

// NewRequest returns a pointer to an empty request, for Call.
func (h *Handler) NewRequest() any { return h.newRequest() }

// eventSource is the service in the records of AWS's operations.
const eventSource = "kms.amazonaws.com"

func (o *Operation) source() string {
	if o.Source == "" {
		return eventSource
	}
	return o.Source
}

// Call serves a request that NewRequest made, and keeps its record. The Host must be the one that
// the operation's method belongs to.
func (o *Operation) Call(ctx context.Context, h Host, c *iam.Caller, request any) (any, error) {
	ctx = o.withARNForm(ctx, request)
	c.Call = o.call(request)
	return h.Audited(ctx, c, o.source(), o.Name, request, func(ctx context.Context) (any, error) {
		return o.serve(ctx, h, c, request)
	})
}

// call is what approvals of a request are for. Operations of Verenc's own need none.
func (o *Operation) call(request any) iam.Call {
	if o.Source != "" {
		return iam.Call{Changes: o.Effect == Changes}
	}
	return iam.Call{Operation: o.Name, Input: request, KeyMembers: o.keyMembers, Changes: o.Effect == Changes}
}

// Reject keeps the record of a request that can't be read, or breaks a constraint, and returns the
// reason.
func (o *Operation) Reject(ctx context.Context, h Host, c *iam.Caller, reason error) error {
	c.Call = iam.Call{Changes: o.Effect == Changes}
	_, err := h.Audited(ctx, c, o.source(), o.Name, nil, func(context.Context) (any, error) { return nil, reason })
	return err
}

// BodyLimit is the size of the largest request in bytes.
func (o *Operation) BodyLimit() int64 {
	if o.MaxBody == 0 {
		return UsualBody
	}
	return o.MaxBody
}

// KeyMembers are the members of a request that name keys.
func (o *Operation) KeyMembers() (names []string) {
	for _, i := range o.keyMembers {
		names = append(names, o.Request.Field(i).Name)
	}
	return names
}

// ErrorCodes are the codes of all errors of the operation, in order.
func (o *Operation) ErrorCodes() []apierror.Code {
	all := slices.Concat(CommonErrors, o.Errors)
	slices.Sort(all)
	return all
}

// hasCondition tells whether the operation has a condition key, given in lower case.
func (o *Operation) hasCondition(key string) bool {
	return slices.ContainsFunc(o.Conditions, func(c string) bool { return strings.EqualFold(c, key) })
}

// The table and its indexes. They are filled by init, since the methods in the table use them.
var (
	operations       map[string]*Operation // by name
	operationNames   []string              // in order
	permissionOwners map[string]*Operation // by permission: the operation that it belongs to
	keyPermissions   []string              // of KeyPermissions
	grantedBy        map[string]*Operation // by element of a grant's Operations
)

func init() {
	operations = map[string]*Operation{}
	permissionOwners = map[string]*Operation{}
	grantedBy = map[string]*Operation{}
	table := slices.Concat(cryptographicOperations(), keyOperations(), materialOperations())
	for i := range table {
		o := &table[i]
		o.permission = "kms:" + o.Name
		operations[o.Name] = o
		operationNames = append(operationNames, o.Name)
		for _, p := range o.Permissions {
			if permissionOwners[p] == nil || p == "kms:"+o.Name {
				permissionOwners[p] = o
			}
		}
		for _, g := range o.GrantOperations {
			grantedBy[g] = o
		}
	}
	for permission, o := range permissionOwners {
		if o.Resource == OnKey || o.Resource == OnAliasAndKey {
			keyPermissions = append(keyPermissions, strings.TrimPrefix(permission, "kms:"))
		}
	}
	slices.Sort(operationNames)
	slices.Sort(keyPermissions)
}

// OperationNames are the names of all operations, in order.
func OperationNames() []string { return slices.Clone(operationNames) }

// OperationNamed returns the entry of an operation, or nil. It is shared, and must not be modified.
func OperationNamed(name string) *Operation { return operations[name] }

// emptyConditions gives the values of the operation's condition keys in a request without optional
// members; nil if there are none.
func (o *Operation) emptyConditions() conditionSource {
	source, _ := o.newRequest().(conditionSource)
	return source
}

// readOnly is the readOnly of an operation's audit records. The operations of AWS STS change
// nothing.
func readOnly(operation string) bool {
	o := operations[operation]
	return o == nil || o.Effect == ReadsOnly
}

// allowsOtherAccounts tells whether a permission can be given to callers of other accounts.
func allowsOtherAccounts(permission string) bool {
	o := permissionOwners[permission]
	return o != nil && o.Callers == AnyAccount
}

// KeyPermissions are the permissions that a policy can give on a key, without their prefix and in
// order.
func KeyPermissions() []string { return slices.Clone(keyPermissions) }
