package inspect

import (
	"context"
	"maps"
	"slices"
	"strings"

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
		ofAccount(service.Operation{
			Name:   "DescribePrincipal",
			Errors: service.ErrorCodes{apierror.NotFound},
		}, (*Inspector).describePrincipal),
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

// PrincipalEntry is a user, a role or the root user of the account.
type PrincipalEntry struct {
	Arn                    string
	Kind                   string            // user, role or root
	Name                   string            `json:",omitempty"`
	UniqueId               string            `json:",omitempty"`
	CreationDate           service.Timestamp `json:",omitzero"`
	PolicyNames            []string          `json:",omitempty"`
	HasPermissionsBoundary bool
	AccessKeys             []AccessKeyEntry   `json:",omitempty"`
	Certificates           []CertificateEntry `json:",omitempty"`
}

// AccessKeyEntry is an access key without its secret.
type AccessKeyEntry struct {
	AccessKeyId     string
	Status          string // Active or Inactive
	CreationDate    service.Timestamp
	ExpirationDate  service.Timestamp `json:",omitzero"`
	LastUsedDate    service.Timestamp `json:",omitzero"`
	LastUsedRegion  string            `json:",omitempty"`
	LastUsedService string            `json:",omitempty"`
}

// CertificateEntry is a client certificate that is mapped to a principal.
type CertificateEntry struct {
	Fingerprint string `json:",omitempty"` // SHA-256 of the DER, in hex
	Name        string `json:",omitempty"` // of all certificates that it is mapped by; see iam.ParseCertificateName
	MappedDate  service.Timestamp
}

func (i *Inspector) listPrincipals(ctx context.Context, c *iam.Caller, in *ListPrincipalsRequest) (
	*ListPrincipalsResponse, error) {
	all, err := i.principalsOf(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	list, next, err := service.PageOf(operations["ListPrincipals"], in.Limit, in.Marker, all, arnOf)
	if err != nil {
		return nil, err
	}
	out := &ListPrincipalsResponse{Principals: []PrincipalEntry{}, NextMarker: next, Truncated: next != ""}
	certificates, err := i.certificates(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		entry, err := i.entryOf(ctx, p, certificates)
		if err != nil {
			return nil, err
		}
		out.Principals = append(out.Principals, *entry)
	}
	return out, nil
}

// certificates are the mapped certificates, by the ARNs of their principals.
func (i *Inspector) certificates(ctx context.Context) (map[string][]CertificateEntry, error) {
	all, err := i.service.IAM().Certificates(ctx)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	of := map[string][]CertificateEntry{}
	for _, c := range all {
		of[c.PrincipalARN] = append(of[c.PrincipalARN],
			certificateEntry(c))
	}
	return of, nil
}

func certificateEntry(c *iam.Certificate) CertificateEntry {
	e := CertificateEntry{MappedDate: service.Timestamp(c.CreatedAt)}
	if strings.Contains(c.Name, ":") {
		e.Name = c.Name
	} else {
		e.Fingerprint = c.Name
	}
	return e
}

func (i *Inspector) entryOf(ctx context.Context, p *iam.Principal, certificates map[string][]CertificateEntry) (
	*PrincipalEntry, error) {
	e := &PrincipalEntry{
		Arn: p.ARN, Kind: string(p.Kind), Name: p.Name, UniqueId: p.UniqueID,
		PolicyNames: slices.Sorted(maps.Keys(p.Policies)), HasPermissionsBoundary: p.Boundary != "",
		Certificates: certificates[p.ARN],
	}
	if !p.CreatedAt.IsZero() {
		e.CreationDate = service.Timestamp(p.CreatedAt)
	}
	keys, err := i.service.IAM().AccessKeys(ctx, p.ARN)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, k := range keys {
		entry := AccessKeyEntry{AccessKeyId: k.ID, Status: "Inactive", CreationDate: service.Timestamp(k.CreatedAt)}
		if k.Enabled {
			entry.Status = "Active"
		}
		if !k.ExpiresAt.IsZero() {
			entry.ExpirationDate = service.Timestamp(k.ExpiresAt)
		}
		if use := k.LastUse; use != nil {
			entry.LastUsedDate = service.Timestamp(use.At)
			entry.LastUsedRegion, entry.LastUsedService = use.Region, use.Service
		}
		e.AccessKeys = append(e.AccessKeys, entry)
	}
	return e, nil
}

// DescribePrincipalRequest is the input of DescribePrincipal.
type DescribePrincipalRequest struct {
	PrincipalArn string `shape:"PrincipalArnType" required:"true"`
}

// DescribePrincipalResponse is the output of DescribePrincipal.
type DescribePrincipalResponse struct {
	Principal PrincipalEntry
	Policies  []PolicyEntry `json:",omitempty"` // in the order of PolicyNames
	// The documents of the permissions boundary and, of a role, of who may assume it.
	PermissionsBoundary string            `json:",omitempty"`
	TrustPolicy         string            `json:",omitempty"`
	MaxSessionDuration  int32             `json:",omitempty"` // of a role, in seconds; 0 is the default
	Tags                map[string]string `json:",omitempty"`
}

// PolicyEntry is an identity policy.
type PolicyEntry struct{ PolicyName, PolicyDocument string }

func (i *Inspector) describePrincipal(ctx context.Context, c *iam.Caller, in *DescribePrincipalRequest) (
	*DescribePrincipalResponse, error) {
	all, err := i.principalsOf(ctx, c.Account)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(p *iam.Principal) bool { return p.ARN == in.PrincipalArn })
	if at < 0 { // or of another account
		return nil, apierror.New(apierror.NotFound, "Principal %s does not exist", in.PrincipalArn)
	}
	p := all[at]
	certificates, err := i.certificates(ctx)
	if err != nil {
		return nil, err
	}
	entry, err := i.entryOf(ctx, p, certificates)
	if err != nil {
		return nil, err
	}
	out := &DescribePrincipalResponse{Principal: *entry, PermissionsBoundary: p.Boundary, TrustPolicy: p.Trust,
		MaxSessionDuration: p.MaxSession, Tags: p.Tags}
	for _, name := range entry.PolicyNames {
		out.Policies = append(out.Policies, PolicyEntry{name, p.Policies[name]})
	}
	return out, nil
}
