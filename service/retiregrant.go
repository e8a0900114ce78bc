package service

import (
	"context"
	"errors"
	"regexp"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

// RevokeGrantRequest is the input of RevokeGrant.
type RevokeGrantRequest struct {
	KeyId   string `shape:"KeyIdType" required:"true"`
	GrantId string `shape:"GrantIdType" required:"true"`
	DryRun  bool   `shape:"NullableBooleanType"`
}

// RevokeGrant ends a grant, for those who administer the key.
func (s *Service) RevokeGrant(ctx context.Context, c *iam.Caller, in *RevokeGrantRequest) (*Empty, error) {
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
	if err := s.store.DeleteGrant(ctx, g); err != nil && !errors.Is(err, ErrNoRow) {
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
func (s *Service) RetireGrant(ctx context.Context, c *iam.Caller, in *RetireGrantRequest) (*Empty, error) {
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
	record.Add(ctx, "grantId", g.ID) // the token in the request is a secret
	if err := s.mayRetire(ctx, c, g, k); err != nil {
		return nil, err
	}
	return s.endGrant(ctx, g, in.DryRun)
}
