package inspect

import (
	"context"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

func principalOperations() []service.Operation {
	return []service.Operation{
		ofAccount(service.Operation{
			Name:   "ListPrincipals",
			Page:   service.PageSize{Default: 50, Max: 100},
			Errors: service.ErrorCodes{apierror.InvalidMarker},
		}, (*Inspector).listPrincipals),
	}
}

// ListPrincipalsRequest is the input of ListPrincipals.
type ListPrincipalsRequest struct {
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// ListPrincipalsResponse is the output of ListPrincipals.
type ListPrincipalsResponse struct {
	Principals []PrincipalEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// PrincipalEntry is a user or a role in a list.
type PrincipalEntry struct {
	Arn          string
	Kind         iam.PrincipalKind
	Name         string
	CreationDate service.Timestamp
}

func (i *Inspector) listPrincipals(ctx context.Context, c *iam.Caller, in *ListPrincipalsRequest) (
	*ListPrincipalsResponse, error) {
	all, err := i.principalsOf(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := service.PageOf(operations["ListPrincipals"], in.Limit, in.Marker, all,
		func(p *iam.Principal) string { return p.ARN })
	if err != nil {
		return nil, err
	}
	out := &ListPrincipalsResponse{Principals: []PrincipalEntry{}, NextMarker: next, Truncated: next != ""}
	for _, p := range list {
		out.Principals = append(out.Principals, entryOf(p))
	}
	return out, nil
}

func entryOf(p *iam.Principal) PrincipalEntry {
	return PrincipalEntry{Arn: p.ARN, Kind: p.Kind, Name: p.Name, CreationDate: service.Timestamp(p.CreatedAt)}
}

// principalsOf returns the users and roles of an account.
func (i *Inspector) principalsOf(ctx context.Context, account string) (own []*iam.Principal, err error) {
	all, err := i.service.IAM().Principals(ctx)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, p := range all {
		if p.Account == account {
			own = append(own, p)
		}
	}
	return own, nil
}
