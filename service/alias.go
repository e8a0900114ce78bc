package service

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

const (
	maxAliases    = 50 // for one key; AWS page "Resource quotas"
	aliasPrefix   = "alias/"
	aliasReserved = "alias/aws/"
)

// Alias is a name for a key, unique in its account and region.
type Alias struct {
	Account   string
	Region    string
	Name      string // with its prefix "alias/"
	KeyID     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// aliasPattern is narrower than AliasNameType (API Reference, CreateAlias, AliasName).
var aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

// CheckAliasName refuses a name that no alias of a client can have.
func CheckAliasName(name string) error {
	switch {
	case !strings.HasPrefix(name, aliasPrefix):
		return apierror.New(apierror.Validation, `Alias must start with the prefix "alias/". `+
			`Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case strings.HasPrefix(name, aliasReserved):
		return &apierror.Error{Code: apierror.NotAuthorized} // AWS sends no message
	case strings.Contains(name, ":"): // AliasNameType allows it, aliases do not
		return apierror.New(apierror.Validation, "%s contains invalid characters for an alias", name)
	case !aliasPattern.MatchString(name):
		return apierror.New(apierror.InvalidAliasName, "%s contains invalid characters for an alias", name)
	}
	return nil
}

// aliasTarget is keyFor for the key that an alias will point at.
func (s *Service) aliasTarget(ctx context.Context, c *iam.Caller, operation, keyID string) (*Key, error) {
	a, isARN := arn.Parse(keyID)
	if strings.HasPrefix(keyID, aliasPrefix) || isARN && strings.HasPrefix(a.Resource, aliasPrefix) {
		return nil, apierror.New(apierror.Validation, "Aliases must refer to keys. Not aliases")
	}
	k, err := s.keyFor(ctx, c, keyRequest{operation: operation, keyID: keyID})
	if err == nil && k.Account != c.Account {
		return nil, apierror.New(apierror.NotFound, "Key '%s' does not exist", k.ARN(s.arns(ctx)))
	}
	return k, err
}

// CreateAliasRequest is the input of CreateAlias.
type CreateAliasRequest struct {
	AliasName   string `shape:"AliasNameType" required:"true"`
	TargetKeyId string `shape:"KeyIdType" required:"true"`
}

// CreateAlias gives a key a name.
func (s *Service) CreateAlias(ctx context.Context, c *iam.Caller, in *CreateAliasRequest) (*Empty, error) {
	if err := CheckAliasName(in.AliasName); err != nil {
		return nil, err
	}
	now := s.now()
	a := &Alias{Account: c.Account, Region: c.Region, Name: in.AliasName, CreatedAt: now, UpdatedAt: now}
	if err := s.authoriseAlias(ctx, c, "CreateAlias", a.Name); err != nil {
		return nil, err
	}
	k, err := s.aliasTarget(ctx, c, "CreateAlias", in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	a.KeyID = k.ID
	err = s.store.InsertAlias(ctx, a, maxAliases)
	if errors.Is(err, ErrExists) {
		return nil, apierror.New(apierror.AlreadyExists, "An alias with the name %s already exists", a.ARN(s.arns(ctx)))
	}
	return &Empty{}, s.aliasError(ctx, err, a)
}

// aliasError maps the store's error on a change to an alias.
func (s *Service) aliasError(ctx context.Context, err error, a *Alias) error {
	switch {
	case errors.Is(err, ErrNoRow):
		return s.noAlias(ctx, a.Account, a.Region, a.Name)
	case errors.Is(err, ErrLimit):
		return apierror.New(apierror.LimitExceeded, "The key has %d aliases, the most that it can have.", maxAliases)
	}
	return apierror.FromStore(err)
}

// UpdateAliasRequest is the input of UpdateAlias.
type UpdateAliasRequest struct {
	AliasName   string `shape:"AliasNameType" required:"true"`
	TargetKeyId string `shape:"KeyIdType" required:"true"`
}

// UpdateAlias points an alias at another key of the same kind and usage (API Reference,
// UpdateAlias, TargetKeyId).
func (s *Service) UpdateAlias(ctx context.Context, c *iam.Caller, in *UpdateAliasRequest) (*Empty, error) {
	a, old, err := s.aliasOfCaller(ctx, c, "UpdateAlias", in.AliasName)
	if err != nil {
		return nil, err
	}
	k, err := s.aliasTarget(ctx, c, "UpdateAlias", in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	if k.kind() != old.kind() || k.Usage != old.Usage {
		return nil, apierror.New(apierror.Validation,
			"The alias %s can be associated only with another %s key of KeyUsage %s.",
			a.ARN(s.arns(ctx)), old.kind(), old.Usage)
	}
	changed := *a
	changed.KeyID, changed.UpdatedAt = k.ID, s.now()
	return &Empty{}, s.aliasError(ctx, s.store.UpdateAlias(ctx, &changed, maxAliases), a)
}

// aliasOfCaller finds an alias and its key, and authorises an operation on both.
func (s *Service) aliasOfCaller(ctx context.Context, c *iam.Caller, operation, name string) (*Alias, *Key, error) {
	if err := CheckAliasName(name); err != nil {
		return nil, nil, err
	}
	if err := s.authoriseAlias(ctx, c, operation, name); err != nil {
		return nil, nil, err
	}
	a, err := s.store.Alias(ctx, c.Account, c.Region, name)
	if err != nil {
		return nil, nil, s.aliasError(ctx, err, &Alias{Account: c.Account, Region: c.Region, Name: name})
	}
	k, err := s.key(ctx, a.Region, a.KeyID)
	if err != nil {
		return nil, nil, s.aliasError(ctx, err, a)
	}
	s.addKeyToRecord(ctx, k)
	return a, k, s.authorise(ctx, c, keyRequest{operation: operation}, k)
}

// DeleteAliasRequest is the input of DeleteAlias.
type DeleteAliasRequest struct {
	AliasName string `shape:"AliasNameType" required:"true"`
}

// DeleteAlias removes a key's name; the key stays as it is.
func (s *Service) DeleteAlias(ctx context.Context, c *iam.Caller, in *DeleteAliasRequest) (*Empty, error) {
	a, _, err := s.aliasOfCaller(ctx, c, "DeleteAlias", in.AliasName)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.aliasError(ctx, s.store.DeleteAlias(ctx, a.Account, a.Region, a.Name), a)
}

// ListAliasesRequest is the input of ListAliases.
type ListAliasesRequest struct {
	KeyId  string `shape:"KeyIdType"`
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// AliasListEntry is one alias of ListAliases.
type AliasListEntry struct {
	AliasName       string
	AliasArn        string
	TargetKeyId     string
	CreationDate    Timestamp
	LastUpdatedDate Timestamp
}

// ListAliasesResponse is the output of ListAliases.
type ListAliasesResponse struct {
	Aliases    []AliasListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// ListAliases returns the account's aliases in the region, or those of one key, in order of name.
func (s *Service) ListAliases(
	ctx context.Context, c *iam.Caller, in *ListAliasesRequest,
) (*ListAliasesResponse, error) {
	if err := s.authoriseAccount(ctx, c, "ListAliases"); err != nil {
		return nil, err
	}
	keyID := ""
	if in.KeyId != "" {
		r := keyRequest{operation: "ListAliases", keyID: in.KeyId}
		k, err := s.resolve(ctx, c, r)
		if err == nil && k.Account != c.Account {
			err = s.unknown(ctx, c, r, k.Account, "key/"+k.ID)
		}
		if err != nil {
			return nil, err
		}
		keyID = k.ID
	}
	p, err := newPage("ListAliases", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	aliases, err := s.store.Aliases(ctx, c.Account, c.Region, keyID, p.after, p.limit+1)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	out := &ListAliasesResponse{Aliases: []AliasListEntry{}}
	aliases, out.NextMarker = cut(p, aliases, func(a *Alias) string { return a.Name })
	out.Truncated = out.NextMarker != ""
	for _, a := range aliases {
		out.Aliases = append(out.Aliases, AliasListEntry{
			AliasName:       a.Name,
			AliasArn:        a.ARN(s.arns(ctx)),
			TargetKeyId:     a.KeyID,
			CreationDate:    Timestamp(a.CreatedAt),
			LastUpdatedDate: Timestamp(a.UpdatedAt),
		})
	}
	return out, nil
}
