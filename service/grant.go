package service

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

const (
	maxGrants       = 50_000 // for one key; AWS page "Resource quotas"
	grantIDSize     = 32     // bytes
	grantSecretSize = 32     // bytes
)

// grantable tells whether a grant on a key can have an operation (AWS page "Grant operations"): one that is for keys of
// the key's usage and spec.
func grantable(k *Key, operation string) bool {
	o := grantedBy[operation]
	switch {
	case o == nil, o.Key.Usages != nil && !slices.Contains(o.Key.Usages, k.Usage):
		return false
	case o.Key.SymmetricOnly:
		return k.symmetric()
	case o.Key.Kind == asymmetric:
		return keySpecs[k.Spec].pair != 0
	}
	return true
}

// GrantConstraints restrict a grant (API Reference, GrantConstraints).
type GrantConstraints struct {
	EncryptionContextSubset map[string]string `shape:"EncryptionContextType" json:",omitempty"`
	EncryptionContextEquals map[string]string `shape:"EncryptionContextType" json:",omitempty"`
	SourceArn               string            `shape:"GrantConstraintSourceArnType" json:",omitempty"`
}

// CreateGrantRequest is the input of CreateGrant.
type CreateGrantRequest struct {
	KeyId                    string            `shape:"KeyIdType" required:"true"`
	GranteePrincipal         string            `shape:"PrincipalIdType"`
	RetiringPrincipal        string            `shape:"PrincipalIdType"`
	Operations               []string          `shape:"GrantOperationList" required:"true"`
	Constraints              *GrantConstraints `shape:"GrantConstraints"`
	GrantTokens              []string          `shape:"GrantTokenList"`
	Name                     string            `shape:"GrantNameType"`
	DryRun                   bool              `shape:"NullableBooleanType"`
	GranteeServicePrincipal  string            `shape:"ServicePrincipalType"`
	RetiringServicePrincipal string            `shape:"ServicePrincipalType"`
}

// CreateGrantResponse is the output of CreateGrant.
type CreateGrantResponse struct {
	GrantToken string
	GrantId    string
}

// CreateGrant lets a principal use a key. If the key has a grant of the same name and terms, it returns that one.
func (s *Service) CreateGrant(ctx context.Context, c *Caller, in *CreateGrantRequest) (*CreateGrantResponse, error) {
	g, err := s.newGrant(c, in)
	if err != nil {
		return nil, err
	}
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "CreateGrant",
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{grant: g, conditions: g},
	})
	if err != nil {
		return nil, err
	}
	for _, op := range in.Operations {
		if !grantable(k, op) {
			return nil, apierror.New(apierror.Validation,
				"Operation %s is not valid in a grant for a key with KeySpec %s and KeyUsage %s.", op, k.Spec, k.Usage)
		}
	}
	if (len(g.Equals) > 0 || len(g.Subset) > 0) && !k.symmetric() {
		return nil, apierror.New(apierror.Validation,
			"Encryption context constraints are valid only in grants for symmetric encryption keys.")
	}
	for _, principal := range []string{g.Grantee, g.Retiring} {
		if gone, err := s.noPrincipal(ctx, c.Account, principal); err != nil {
			return nil, err
		} else if gone {
			return nil, apierror.New(apierror.InvalidArn, "ARN does not refer to a valid principal: %s", principal)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	g.Region, g.KeyID, g.Account = k.Region, k.ID, k.Account
	if same, err := s.sameGrant(ctx, g); err != nil || same != nil {
		return grantResponse(same), err
	}
	random := make([]byte, grantIDSize+grantSecretSize)
	if _, err := io.ReadFull(s.cfg.Rand, random); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("draw a grant id: %w", err))
	}
	g.ID, g.Secret, g.CreatedAt = hex.EncodeToString(random[:grantIDSize]), random[grantIDSize:], s.now()
	addToRecord(ctx, "grantId", g.ID)
	switch err := s.store.InsertGrant(ctx, g, maxGrants); {
	case errors.Is(err, ErrLimit):
		return nil, apierror.New(apierror.LimitExceeded,
			"The key has %d grants, the most that it can have.", maxGrants)
	case errors.Is(err, ErrNoRow):
		return nil, apierror.New(apierror.NotFound, "Key '%s' does not exist", k.ARN(s.arns(ctx)))
	case err != nil:
		return nil, apierror.FromStore(err)
	}
	return grantResponse(g), nil
}

func grantResponse(g *Grant) *CreateGrantResponse {
	if g == nil {
		return nil
	}
	return &CreateGrantResponse{GrantId: g.ID, GrantToken: g.token()}
}

// newGrant makes a grant with the terms of a request.
func (s *Service) newGrant(c *Caller, in *CreateGrantRequest) (*Grant, error) {
	operations := slices.Compact(slices.Sorted(slices.Values(in.Operations)))
	g := &Grant{Name: in.Name, Issuer: arn.Root(c.Account), GrantTerms: GrantTerms{Operations: operations}}
	var err error
	g.Grantee, g.GranteeIsService, err = principalOf("grantee", in.GranteePrincipal, in.GranteeServicePrincipal)
	if err != nil {
		return nil, err
	}
	g.Retiring, g.RetiringIsService, err = principalOf("retiring", in.RetiringPrincipal, in.RetiringServicePrincipal)
	if err != nil {
		return nil, err
	}
	switch {
	case g.Grantee == "":
		return nil, apierror.New(apierror.Validation, "1 validation error detected: Value null at 'granteePrincipal' "+
			"failed to satisfy constraint: Member must not be null")
	case len(g.Operations) == 0:
		return nil, apierror.New(apierror.Validation, "1 validation error detected: Value '[]' at 'operations' "+
			"failed to satisfy constraint: Member must have length greater than or equal to 1")
	}
	if in.Constraints != nil {
		g.Equals, g.Subset = in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset
		g.SourceARN = in.Constraints.SourceArn
	}
	return g, nil
}

// condition gives the values of the condition keys of the operations that make or end the grant.
func (g *Grant) condition(key string, _ *Key) (values []string) {
	ifService := func(service bool, principal string) []string {
		if service {
			return one(principal)
		}
		return nil
	}
	switch key {
	case "kms:granteeprincipal":
		return ifService(!g.GranteeIsService, g.Grantee)
	case "kms:granteeserviceprincipal":
		return ifService(g.GranteeIsService, g.Grantee)
	case "kms:retiringprincipal":
		return ifService(!g.RetiringIsService, g.Retiring)
	case "kms:retiringserviceprincipal":
		return ifService(g.RetiringIsService, g.Retiring)
	case "kms:grantconstraintsourcearn":
		return one(g.SourceARN)
	case "kms:grantoperations":
		return g.Operations
	case "kms:grantconstrainttype":
		if len(g.Equals) > 0 {
			values = append(values, "EncryptionContextEquals")
		}
		if len(g.Subset) > 0 {
			values = append(values, "EncryptionContextSubset")
		}
	}
	return values
}

// principalARN is the ARN of an account's root, a user, a role, or a session of a role or federated user (AWS page "IAM
// identifiers").
var principalARN = regexp.MustCompile(`^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|user/.+|role/.+)|` +
	`sts::[0-9]{12}:(assumed-role/[^/]+/[^/]+|federated-user/.+))$`)

// principalOf returns the principal that a request names in one of two members, or none.
func principalOf(which, given, service string) (principal string, isService bool, err error) {
	switch {
	case given != "" && service != "":
		return "", false, apierror.New(apierror.Validation,
			"Specify either a %s principal or a %s service principal, not both.", which, which)
	case service != "":
		return service, true, nil
	case given != "" && arn.IsAccount(given):
		return arn.Root(given), false, nil
	case given != "" && !principalARN.MatchString(given):
		return "", false, apierror.New(apierror.InvalidArn, "The %s principal is not a valid ARN.", which)
	}
	return given, false, nil
}

// sameGrant finds the grant with the same name and terms, so that a repeated CreateGrant makes no second one.
func (s *Service) sameGrant(ctx context.Context, g *Grant) (*Grant, error) {
	if g.Name == "" {
		return nil, nil
	}
	all, err := s.store.GrantsOf(ctx, g.Region, g.KeyID)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, old := range all {
		samePrincipals := old.Grantee == g.Grantee && old.Retiring == g.Retiring && old.Issuer == g.Issuer
		if old.Name == g.Name && samePrincipals && old.sameTerms(&g.GrantTerms) {
			return old, nil
		}
	}
	return nil, nil
}

func (t *GrantTerms) sameTerms(o *GrantTerms) bool {
	return slices.Equal(t.Operations, o.Operations) &&
		maps.Equal(t.Equals, o.Equals) &&
		maps.Equal(t.Subset, o.Subset) &&
		t.SourceARN == o.SourceARN &&
		t.GranteeIsService == o.GranteeIsService &&
		t.RetiringIsService == o.RetiringIsService
}

// token is the grant token: base64url of the grant's id and secret, so that it can't be guessed from the id.
func (g *Grant) token() string {
	id, _ := hex.DecodeString(g.ID)
	return base64.RawURLEncoding.EncodeToString(append(id, g.Secret...))
}

// grantOfToken finds the grant that a token belongs to.
func (s *Service) grantOfToken(ctx context.Context, token string) (*Grant, error) {
	invalid := apierror.New(apierror.InvalidGrantToken, "The specified grant token is not valid.")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(token, "="))
	if err != nil || len(raw) != grantIDSize+grantSecretSize {
		return nil, invalid
	}
	g, err := s.store.Grant(ctx, hex.EncodeToString(raw[:grantIDSize]))
	if errors.Is(err, ErrNoRow) {
		return nil, invalid
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if subtle.ConstantTimeCompare(g.Secret, raw[grantIDSize:]) != 1 {
		return nil, invalid
	}
	return g, nil
}

// GrantListEntry is one grant in an answer.
type GrantListEntry struct {
	KeyId                    string
	GrantId                  string
	Name                     string `json:",omitempty"`
	CreationDate             Timestamp
	GranteePrincipal         string `json:",omitempty"`
	RetiringPrincipal        string `json:",omitempty"`
	IssuingAccount           string
	Operations               []string
	Constraints              *GrantConstraints `json:",omitempty"`
	GranteeServicePrincipal  string            `json:",omitempty"`
	RetiringServicePrincipal string            `json:",omitempty"`
}

func (s *Service) grantEntry(ctx context.Context, g *Grant) GrantListEntry {
	e := GrantListEntry{
		KeyId:          s.arns(ctx).Of(g.Account, g.Region, "key/"+g.KeyID),
		GrantId:        g.ID,
		Name:           g.Name,
		CreationDate:   Timestamp(g.CreatedAt),
		IssuingAccount: g.Issuer,
		Operations:     g.Operations,
	}
	if g.GranteeIsService {
		e.GranteeServicePrincipal = g.Grantee
	} else {
		e.GranteePrincipal = g.Grantee
	}
	if g.RetiringIsService {
		e.RetiringServicePrincipal = g.Retiring
	} else {
		e.RetiringPrincipal = g.Retiring
	}
	if len(g.Equals) > 0 || len(g.Subset) > 0 || g.SourceARN != "" {
		e.Constraints = &GrantConstraints{
			EncryptionContextEquals: g.Equals,
			EncryptionContextSubset: g.Subset,
			SourceArn:               g.SourceARN,
		}
	}
	return e
}

// ListGrantsResponse is the output of ListGrants and ListRetirableGrants.
type ListGrantsResponse struct {
	Grants     []GrantListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

func (s *Service) listGrants(ctx context.Context, grants []*Grant, next string) *ListGrantsResponse {
	out := &ListGrantsResponse{Grants: []GrantListEntry{}, NextMarker: next, Truncated: next != ""}
	for _, g := range grants {
		out.Grants = append(out.Grants, s.grantEntry(ctx, g))
	}
	return out
}

// ListGrantsRequest is the input of ListGrants.
type ListGrantsRequest struct {
	Limit                   int32  `shape:"LimitType"`
	Marker                  string `shape:"MarkerType"`
	KeyId                   string `shape:"KeyIdType" required:"true"`
	GrantId                 string `shape:"GrantIdType"`
	GranteePrincipal        string `shape:"PrincipalIdType"`
	GranteeServicePrincipal string `shape:"ServicePrincipalType"`
}

// ListGrants returns a key's grants: all of them, the one with an id, or those of a grantee.
func (s *Service) ListGrants(ctx context.Context, c *Caller, in *ListGrantsRequest) (*ListGrantsResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "ListGrants", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	p, err := newPage("ListGrants", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	all, err := s.store.GrantsOf(ctx, k.Region, k.ID)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	var wanted []*Grant
	for _, g := range all {
		if (in.GrantId == "" || g.ID == in.GrantId) &&
			(in.GranteePrincipal == "" || g.Grantee == in.GranteePrincipal) &&
			(in.GranteeServicePrincipal == "" || g.Grantee == in.GranteeServicePrincipal) {
			wanted = append(wanted, g)
		}
	}
	if in.GrantId != "" && len(wanted) == 0 {
		return nil, apierror.New(apierror.InvalidGrantID, "The specified grant ID is not valid.")
	}
	page, next := pageOf(p, wanted, func(g *Grant) string { return g.ID })
	return s.listGrants(ctx, page, next), nil
}

// ListRetirableGrantsRequest is the input of ListRetirableGrants.
type ListRetirableGrantsRequest struct {
	Limit                    int32  `shape:"LimitType"`
	Marker                   string `shape:"MarkerType"`
	RetiringPrincipal        string `shape:"PrincipalIdType"`
	RetiringServicePrincipal string `shape:"ServicePrincipalType"`
}

// ListRetirableGrants returns the grants in the region that a principal of the caller's account may retire.
func (s *Service) ListRetirableGrants(
	ctx context.Context, c *Caller, in *ListRetirableGrantsRequest,
) (*ListGrantsResponse, error) {
	principal, isService, err := principalOf("retiring", in.RetiringPrincipal, in.RetiringServicePrincipal)
	if err != nil {
		return nil, err
	}
	if principal == "" {
		return nil, apierror.New(apierror.Validation, "1 validation error detected: Value null at 'retiringPrincipal' "+
			"failed to satisfy constraint: Member must not be null")
	}
	if !isService && arn.AccountOf(principal) != c.Account {
		return nil, apierror.New(apierror.NotFound, "Principal %s is not in the account of the caller.", principal)
	}
	if err := s.authoriseAccount(ctx, c, "ListRetirableGrants"); err != nil {
		return nil, err
	}
	p, err := newPage("ListRetirableGrants", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	grants, err := s.store.RetirableGrants(ctx, c.Region, principal, p.after, p.limit+1)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	page, next := cut(p, grants, func(g *Grant) string { return g.ID })
	return s.listGrants(ctx, page, next), nil
}

// RevokeGrantRequest is the input of RevokeGrant.
type RevokeGrantRequest struct {
	KeyId   string `shape:"KeyIdType" required:"true"`
	GrantId string `shape:"GrantIdType" required:"true"`
	DryRun  bool   `shape:"NullableBooleanType"`
}

// RevokeGrant ends a grant, for those who administer the key.
func (s *Service) RevokeGrant(ctx context.Context, c *Caller, in *RevokeGrantRequest) (*Empty, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "RevokeGrant", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	g, err := s.grantOf(ctx, k, in.GrantId)
	if err != nil {
		return nil, err
	}
	return s.endGrant(ctx, g, in.DryRun)
}

// grantIDPattern is the form of a grant's id.
var grantIDPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Service) grantOf(ctx context.Context, k *Key, id string) (*Grant, error) {
	if !grantIDPattern.MatchString(id) {
		return nil, apierror.New(apierror.InvalidGrantID, "The specified grant ID is not valid.")
	}
	g, err := s.store.Grant(ctx, id)
	if errors.Is(err, ErrNoRow) || err == nil && (g.KeyID != k.ID || g.Region != k.Region) {
		return nil, apierror.New(apierror.NotFound, "Grant ID %s not found", id)
	}
	return g, apierror.FromStore(err)
}

func (s *Service) endGrant(ctx context.Context, g *Grant, dry bool) (*Empty, error) {
	if err := dryRun(dry); err != nil {
		return nil, err
	}
	if err := s.store.DeleteGrant(ctx, g.ID); err != nil && !errors.Is(err, ErrNoRow) {
		return nil, apierror.FromStore(err)
	}
	return &Empty{}, nil
}

// RetireGrantRequest is the input of RetireGrant.
type RetireGrantRequest struct {
	GrantToken string `shape:"GrantTokenType"`
	KeyId      string `shape:"KeyIdType"`
	GrantId    string `shape:"GrantIdType"`
	DryRun     bool   `shape:"NullableBooleanType"`
}

// RetireGrant ends a grant, for the principals whom the grant itself allows that.
func (s *Service) RetireGrant(ctx context.Context, c *Caller, in *RetireGrantRequest) (*Empty, error) {
	var g *Grant
	var k *Key
	var err error
	switch {
	case in.GrantToken != "" && in.KeyId == "" && in.GrantId == "":
		if g, err = s.grantOfToken(ctx, in.GrantToken); err == nil {
			k, err = s.key(ctx, g.Region, g.KeyID)
			err = apierror.FromStore(err)
		}
	case in.GrantToken == "" && in.KeyId != "" && in.GrantId != "":
		r := keyRequest{operation: "RetireGrant", keyID: in.KeyId}
		if k, err = s.resolve(ctx, c, r); err == nil {
			g, err = s.grantOf(ctx, k, in.GrantId)
			if apierror.Is(err, apierror.NotFound) && k.Account != c.Account {
				err = s.unknown(ctx, c, r, k.Account, "key/"+k.ID)
			}
		}
	default:
		err = apierror.New(apierror.Validation, "Specify either a grant token, or a key ID and a grant ID.")
	}
	if err != nil {
		return nil, err
	}
	s.addKeyToRecord(ctx, k)
	addToRecord(ctx, "grantId", g.ID) // the token in the request is a secret
	if err := s.mayRetire(ctx, c, g, k); err != nil {
		return nil, err
	}
	return s.endGrant(ctx, g, in.DryRun)
}
