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
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

const (
	maxGrants       = 50_000 // for one key; AWS page "Resource quotas"
	grantIDSize     = 32     // bytes
	grantSecretSize = 32     // bytes
)

// Grant gives a principal some operations on one key (AWS page "Grants in AWS KMS").
type Grant struct {
	ID        string // 64 hex digits
	Region    string
	KeyID     string
	Account   string // of the key
	Name      string // empty when it has none
	Grantee   string // ARN or service principal
	Retiring  string // ARN or service principal; empty for none
	Issuer    string // ARN of the account under which it was issued
	CreatedAt time.Time
	GrantTerms
	Secret []byte // 32 bytes, the proof in its grant token
}

// GrantTerms is the part of a grant that no query asks for.
type GrantTerms struct {
	Operations []string
	Equals     map[string]string `json:",omitempty"` // EncryptionContextEquals
	Subset     map[string]string `json:",omitempty"` // EncryptionContextSubset
	SourceARN  string            `json:",omitempty"`
	// GranteeIsService and RetiringIsService tell service principals from ARNs.
	GranteeIsService  bool `json:",omitempty"`
	RetiringIsService bool `json:",omitempty"`
}

// grantable tells whether a grant on a key can have an operation (AWS page "Grant operations"): one
// that is for keys of the key's usage and spec.
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

// CreateGrant lets a principal use a key. If the key has a grant of the same name and terms, it
// returns that one.
func (s *Service) CreateGrant(
	ctx context.Context, c *iam.Caller, in *CreateGrantRequest,
) (*CreateGrantResponse, error) {
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
		if gone, err := s.iam.IsMissing(ctx, c.Account, principal); err != nil {
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
	record.Add(ctx, "grantId", g.ID)
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
func (s *Service) newGrant(c *iam.Caller, in *CreateGrantRequest) (*Grant, error) {
	g := &Grant{Name: in.Name, Issuer: arn.Root(c.Account)}
	g.Operations = slices.Compact(slices.Sorted(slices.Values(in.Operations)))
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

// principalARN is the ARN of an account's root, a user, a role, or a session of a role or federated
// user (AWS page "IAM identifiers").
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

// sameGrant finds the grant with the same name and terms, so that a repeated CreateGrant makes no
// second one.
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

// token is the grant token: base64url of the grant's id and secret, so that it can't be guessed
// from the id.
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
