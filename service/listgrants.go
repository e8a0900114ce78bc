package service

import (
	"context"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

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
		KeyId:          s.arns(ctx).OfKey(g.Account, g.Region, g.KeyID),
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
func (s *Service) ListGrants(ctx context.Context, c *iam.Caller, in *ListGrantsRequest) (*ListGrantsResponse, error) {
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

// ListRetirableGrants returns the grants in the region that a principal of the caller's account may
// retire.
func (s *Service) ListRetirableGrants(
	ctx context.Context, c *iam.Caller, in *ListRetirableGrantsRequest,
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
