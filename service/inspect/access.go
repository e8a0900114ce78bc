package inspect

import (
	"context"
	"slices"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

func accessOperations() []service.Operation {
	return []service.Operation{
		ofKey(service.Operation{
			Name:   "ListKeyAccess",
			Page:   service.PageSize{Default: 20, Max: 50},
			Errors: service.ErrorCodes{apierror.InvalidMarker},
		}, func(in *ListKeyAccessRequest) string { return in.KeyId }, (*Inspector).listKeyAccess),
		ofCaller(service.Operation{
			Name:   "GetCallerAccess",
			Key:    anyKey,
			Errors: keyErrors,
		}, (*Inspector).getCallerAccess),
	}
}

// ListKeyAccessRequest is the input of ListKeyAccess.
type ListKeyAccessRequest struct {
	KeyId  string `shape:"KeyIdType" required:"true"`
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// ListKeyAccessResponse is the output of ListKeyAccess.
type ListKeyAccessResponse struct {
	KeyId      string
	Principals []PrincipalAccess
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// PrincipalAccess is what a principal may do with a key.
type PrincipalAccess struct {
	PrincipalArn string
	Kind         string
	Access       []OperationAccess
}

// OperationAccess is whether an operation on a key is allowed.
type OperationAccess struct {
	Operation string
	Verdict   service.Verdict
	Reason    string `json:",omitempty"`
}

// sessionName is that of the sessions by which roles are represented.
const sessionName = "access"

func (i *Inspector) listKeyAccess(ctx context.Context, c *iam.Caller, k *service.Key, in *ListKeyAccessRequest) (
	*ListKeyAccessResponse, error) {
	all, err := i.principalsOf(ctx, k.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := service.PageOf(operations["ListKeyAccess"], in.Limit, in.Marker, all, arnOf)
	if err != nil {
		return nil, err
	}
	out := &ListKeyAccessResponse{KeyId: k.ID, Principals: []PrincipalAccess{}, NextMarker: next, Truncated: next != ""}
	for _, p := range list {
		who, err := i.service.IAM().CallerNamed(ctx, p.ARN, sessionName)
		if err != nil {
			return nil, apierror.FromStore(err)
		}
		who.Region, who.TLS = k.Region, c.TLS // as if they came the way that this request has come
		permissions, err := i.service.PermissionsOn(ctx, who, k)
		if err != nil {
			return nil, err
		}
		access := PrincipalAccess{PrincipalArn: p.ARN, Kind: string(p.Kind)}
		for _, permission := range permissions {
			access.Access = append(access.Access,
				OperationAccess{permission.Operation, permission.Verdict, permission.Reason})
		}
		out.Principals = append(out.Principals, access)
	}
	return out, nil
}

// GetCallerAccessRequest is the input of GetCallerAccess.
type GetCallerAccessRequest struct {
	KeyId string `shape:"KeyIdType"` // empty for the operations without a key
}

// GetCallerAccessResponse is the output of GetCallerAccess.
type GetCallerAccessResponse struct {
	PrincipalArn string
	Access       []OperationAccess
}

func (i *Inspector) getCallerAccess(ctx context.Context, c *iam.Caller, in *GetCallerAccessRequest) (
	*GetCallerAccessResponse, error) {
	permissions, err := i.service.PermissionsOfCaller(ctx, c, in.KeyId)
	if err != nil {
		return nil, err
	}
	out := &GetCallerAccessResponse{PrincipalArn: c.Principal}
	for _, p := range permissions {
		out.Access = append(out.Access, OperationAccess{p.Operation, p.Verdict, p.Message})
	}
	return out, nil
}

// principalsOf returns the users and roles of an account, and its root user, in order of their ARNs.
func (i *Inspector) principalsOf(ctx context.Context, account string) ([]*iam.Principal, error) {
	all, err := i.service.IAM().Principals(ctx)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(p *iam.Principal) bool { return p.Account != account })
	return append(all, &iam.Principal{ARN: arn.Root(account), Account: account, Kind: kindRoot}), nil
}

func arnOf(p *iam.Principal) string { return p.ARN }

// kindRoot is the kind of the root user of an account, who is not stored.
const kindRoot iam.PrincipalKind = "root"
