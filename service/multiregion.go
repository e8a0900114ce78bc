package service

import (
	"context"
	"errors"
	"slices"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// MultiRegionKey is one key of a multi-Region key.
type MultiRegionKey struct {
	Arn    string
	Region string
}

// MultiRegionConfiguration lists the keys of a multi-Region key.
type MultiRegionConfiguration struct {
	MultiRegionKeyType string
	PrimaryKey         MultiRegionKey
	ReplicaKeys        []MultiRegionKey
}

// configuration describes the keys that are related to k.
func (s *Service) configuration(ctx context.Context, k *Key) (*MultiRegionConfiguration, error) {
	if !k.multiRegion() {
		return nil, nil
	}
	related, err := s.store.RelatedKeys(ctx, k.ID)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	m := &MultiRegionConfiguration{MultiRegionKeyType: "REPLICA", ReplicaKeys: []MultiRegionKey{}}
	if k.primary() {
		m.MultiRegionKeyType = "PRIMARY"
	}
	for _, r := range related {
		entry := MultiRegionKey{Arn: r.ARN(s.arns(ctx)), Region: r.Region}
		switch {
		case r.primary():
			m.PrimaryKey = entry
		case !isTransient(r):
			m.ReplicaKeys = append(m.ReplicaKeys, entry)
		}
	}
	return m, nil
}

// updateShared is updateKey for properties that all keys of a multi-Region key share: change gets
// all of them at once.
func (s *Service) updateShared(ctx context.Context, op string, k *Key, change func([]*Key) error) error {
	if !k.multiRegion() {
		return s.updateKey(ctx, op, k, func(k *Key) error { return change([]*Key{k}) })
	}
	return s.updateRelated(ctx, op, k, func(keys []*Key) ([]*Key, error) { return keys, change(keys) })
}

// updateRelated is like updateShared, but change may also add a key; ErrExists if its region has
// one.
func (s *Service) updateRelated(ctx context.Context, op string, k *Key, change func([]*Key) ([]*Key, error)) error {
	err := s.store.ChangeRelatedKeys(ctx, k.ID, func(all []*Key) ([]*Key, error) {
		keys := slices.DeleteFunc(slices.Clone(all), isTransient)
		i := slices.IndexFunc(keys, func(r *Key) bool { return r.Region == k.Region })
		if i < 0 {
			return nil, ErrNoRow
		}
		if err := s.checkState(ctx, operations[op], keys[i]); err != nil {
			return nil, err
		}
		changed, err := change(keys)
		for _, added := range changed {
			sameRegion := func(r *Key) bool { return r.Region == added.Region }
			if !slices.Contains(keys, added) && slices.ContainsFunc(all, sameRegion) {
				return nil, ErrExists // even if the other one is being destroyed
			}
		}
		return changed, err
	})
	if errors.Is(err, ErrNoRow) {
		return apierror.New(apierror.NotFound, "Key '%s' does not exist", k.ARN(s.arns(ctx)))
	}
	return apierror.FromStore(err)
}

// ReplicateKeyRequest is the input of ReplicateKey.
type ReplicateKeyRequest struct {
	KeyId                          string `shape:"KeyIdType" required:"true"`
	ReplicaRegion                  string `shape:"RegionType" required:"true"`
	Policy                         string `shape:"PolicyType"`
	BypassPolicyLockoutSafetyCheck bool   `shape:"BooleanType"`
	Description                    string `shape:"DescriptionType"`
	Tags                           []Tag  `shape:"TagList"`
}

// ReplicateKeyResponse is the output of ReplicateKey.
type ReplicateKeyResponse struct {
	ReplicaKeyMetadata KeyMetadata
	ReplicaPolicy      string
	ReplicaTags        []Tag `json:",omitempty"`
}

// ReplicateKey makes a key with the same id and material in another region. Both have the same
// token objects, so that each can decrypt the ciphertexts of the other.
func (s *Service) ReplicateKey(
	ctx context.Context, c *iam.Caller, in *ReplicateKeyRequest,
) (*ReplicateKeyResponse, error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "ReplicateKey",
		keyID:       in.KeyId,
		policyInput: policyInput{tags: in.Tags, conditions: in},
	})
	if err != nil {
		return nil, err
	}
	if in.ReplicaRegion == k.Region || !s.Serves(in.ReplicaRegion) {
		return nil, apierror.New(apierror.UnsupportedOperation,
			"ReplicaRegion %s is not a region that %s can be replicated to.", in.ReplicaRegion, k.ARN(s.arns(ctx)))
	}
	there, toBe := *c, *k
	there.Region, toBe.Region = in.ReplicaRegion, in.ReplicaRegion
	if err := s.authoriseNewKey(ctx, &there, policyInput{newKey: &toBe, tags: in.Tags, conditions: in}); err != nil {
		return nil, err
	}
	if in.Policy != "" {
		if err := s.checkPolicy(ctx, c, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return nil, err
		}
	}
	replica := &Key{}
	err = s.updateRelated(ctx, "ReplicateKey", k, func(keys []*Key) ([]*Key, error) {
		primary := keys[slices.IndexFunc(keys, func(r *Key) bool { return r.Region == k.Region })]
		if !primary.primary() {
			return nil, s.checkPrimary(ctx, primary)
		}
		*replica = *primary
		replica.Region, replica.CreatedAt, replica.State = in.ReplicaRegion, s.now(), StateEnabled
		replica.Description, replica.Policy, replica.Tags = in.Description, in.Policy, in.Tags
		if in.Policy == "" {
			replica.Policy = defaultPolicy(k.Account)
		}
		replica.Materials = replicaMaterials(primary)
		if primary.Origin == originExternal { // the material must be imported into each region
			replica.State = StatePendingImport
		}
		return []*Key{replica}, nil
	})
	if apierror.Is(err, apierror.Internal) && errors.Is(err, ErrExists) {
		return nil, apierror.New(apierror.AlreadyExists,
			"%s already exists.", s.arns(ctx).OfKey(k.Account, in.ReplicaRegion, k.ID))
	}
	if err != nil {
		return nil, err
	}
	m, err := s.describe(ctx, replica)
	if err != nil {
		return nil, err
	}
	m.KeyState, m.Enabled = string(StateCreating), false // like AWS, where it takes a moment
	return &ReplicateKeyResponse{ReplicaKeyMetadata: m, ReplicaPolicy: replica.Policy, ReplicaTags: in.Tags}, nil
}

// condition gives the condition keys of ReplicateKey, and of the CreateKey that its caller needs in
// the other region.
func (in *ReplicateKeyRequest) condition(key string, _ *Key) []string {
	if key == "kms:replicaregion" {
		return one(in.ReplicaRegion)
	}
	return bypassCondition(key, in.BypassPolicyLockoutSafetyCheck)
}

func replicaMaterials(primary *Key) []Material {
	var copies []Material
	for _, m := range primary.Materials {
		if m.Scrap {
			continue
		}
		if primary.Origin == originExternal {
			m.Objects, m.ExpiresAt = nil, m.ExpiresAt.UTC()
		}
		copies = append(copies, m)
	}
	return copies
}

// UpdatePrimaryRegionRequest is the input of UpdatePrimaryRegion.
type UpdatePrimaryRegionRequest struct {
	KeyId         string `shape:"KeyIdType" required:"true"`
	PrimaryRegion string `shape:"RegionType" required:"true"`
}

// UpdatePrimaryRegion makes a replica the primary key, and the primary key a replica.
func (s *Service) UpdatePrimaryRegion(
	ctx context.Context, c *iam.Caller, in *UpdatePrimaryRegionRequest,
) (*Empty, error) {
	r := keyRequest{operation: "UpdatePrimaryRegion", keyID: in.KeyId, policyInput: policyInput{conditions: in}}
	k, err := s.keyFor(ctx, c, r)
	if err != nil {
		return nil, err
	}
	// Nothing is decided inside of a change: a decision may write to the database itself.
	replica, err := s.key(ctx, in.PrimaryRegion, k.ID)
	switch {
	case errors.Is(err, ErrNoRow):
		return nil, apierror.New(apierror.NotFound,
			"Key '%s' does not exist", s.arns(ctx).OfKey(k.Account, in.PrimaryRegion, k.ID))
	case err != nil:
		return nil, apierror.FromStore(err)
	}
	r = keyRequest{operation: "UpdatePrimaryRegion", policyInput: policyInput{conditions: in}}
	if err := s.authorise(ctx, c, r, replica); err != nil {
		return nil, err
	}
	return &Empty{}, s.updateShared(ctx, "UpdatePrimaryRegion", k, func(keys []*Key) error {
		i := slices.IndexFunc(keys, func(r *Key) bool { return r.Region == in.PrimaryRegion && r.Region != k.Region })
		if i < 0 {
			return apierror.New(apierror.NotFound,
				"Key '%s' does not exist", s.arns(ctx).OfKey(k.Account, in.PrimaryRegion, k.ID))
		}
		if err := s.checkState(ctx, operations["UpdatePrimaryRegion"], keys[i]); err != nil {
			return err
		}
		for _, r := range keys {
			r.PrimaryRegion = in.PrimaryRegion
		}
		return nil
	})
}

func (in *UpdatePrimaryRegionRequest) condition(key string, _ *Key) []string {
	if key == "kms:primaryregion" {
		return one(in.PrimaryRegion)
	}
	return nil
}
