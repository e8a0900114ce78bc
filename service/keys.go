package service

import (
	"context"
	"fmt"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// Timestamp is a time in a response: seconds since 1970 with milliseconds, as in AWS's JSON
// protocols.
type Timestamp time.Time

// MarshalJSON returns a JSON number.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// KeyMetadata describes a key (API Reference, KeyMetadata).
type KeyMetadata struct {
	AWSAccountId                string
	KeyId                       string
	Arn                         string
	CreationDate                Timestamp
	Enabled                     bool
	Description                 string
	KeyUsage                    string
	KeyState                    string
	DeletionDate                *Timestamp `json:",omitempty"`
	ValidTo                     *Timestamp `json:",omitempty"`
	Origin                      string
	CustomKeyStoreId            string `json:",omitempty"`
	CloudHsmClusterId           string `json:",omitempty"`
	ExpirationModel             string `json:",omitempty"`
	KeyManager                  string
	CustomerMasterKeySpec       string
	KeySpec                     string
	EncryptionAlgorithms        []string `json:",omitempty"`
	EncapsulationAlgorithms     []string `json:",omitempty"`
	SigningAlgorithms           []string `json:",omitempty"`
	KeyAgreementAlgorithms      []string `json:",omitempty"`
	MultiRegion                 bool
	MultiRegionConfiguration    *MultiRegionConfiguration `json:",omitempty"`
	PendingDeletionWindowInDays int32                     `json:",omitempty"`
	MacAlgorithms               []string                  `json:",omitempty"`
	CurrentKeyMaterialId        string                    `json:",omitempty"`
}

// metadata is the part of KeyMetadata that is in the key's row.
func (s *Service) metadata(ctx context.Context, k *Key) KeyMetadata {
	state := s.StateOf(k)
	m := KeyMetadata{
		AWSAccountId:          k.Account,
		KeyId:                 k.ID,
		Arn:                   k.ARN(s.arns(ctx)),
		CreationDate:          Timestamp(k.CreatedAt),
		Enabled:               state == StateEnabled,
		Description:           k.Description,
		KeyUsage:              k.Usage,
		KeyState:              string(state),
		Origin:                k.Origin,
		CustomKeyStoreId:      k.CustomKeyStore,
		KeyManager:            "CUSTOMER",
		CustomerMasterKeySpec: k.Spec,
		KeySpec:               k.Spec,
		MultiRegion:           k.multiRegion(),
	}
	if k.CustomKeyStore == "" { // keys in a custom key store always have one material
		m.CurrentKeyMaterialId = k.materialID()
	}
	switch k.Usage {
	case usageEncryptDecrypt:
		m.EncryptionAlgorithms = k.algorithms()
	case usageSignVerify:
		m.SigningAlgorithms = k.algorithms()
	case usageGenerateVerifyMAC:
		m.MacAlgorithms = k.algorithms()
	case usageEncapsulate:
		m.EncapsulationAlgorithms = k.algorithms()
	case usageKeyAgreement:
		m.KeyAgreementAlgorithms = k.algorithms()
	}
	switch k.State {
	case StatePendingDeletion:
		m.DeletionDate = timestamp(k.DeletionAt)
	case StatePendingReplicaDeletion:
		m.PendingDeletionWindowInDays = k.PendingWindow
	}
	if k.Origin == originExternal && k.complete() {
		m.ExpirationModel, m.ValidTo = doesNotExpire, nil
		if at := k.earliestExpiry(); !at.IsZero() {
			m.ExpirationModel, m.ValidTo = expires, timestamp(at)
		}
	}
	return m
}

// earliestExpiry is when the first of the key's imported materials expires, after which the key
// can't be used. Zero is never.
func (k *Key) earliestExpiry() time.Time {
	var earliest time.Time
	for i := range k.Materials {
		at := k.Materials[i].ExpiresAt
		if !at.IsZero() && !k.Materials[i].Pending && (earliest.IsZero() || at.Before(earliest)) {
			earliest = at
		}
	}
	return earliest
}

// describe is the whole KeyMetadata, with what is in other rows.
func (s *Service) describe(ctx context.Context, k *Key) (m KeyMetadata, err error) {
	m = s.metadata(ctx, k)
	if m.MultiRegionConfiguration, err = s.configuration(ctx, k); err != nil || k.CustomKeyStore == "" {
		return m, err
	}
	store, err := s.store.KeyStore(ctx, k.CustomKeyStore)
	if err != nil {
		return m, apierror.FromStore(err)
	}
	m.CloudHsmClusterId = store.ClusterID
	return m, nil
}

// DescribeKeyRequest is the input of DescribeKey.
type DescribeKeyRequest struct {
	KeyId       string   `shape:"KeyIdType" required:"true"`
	GrantTokens []string `shape:"GrantTokenList"`
}

// DescribeKeyResponse is the output of DescribeKey.
type DescribeKeyResponse struct {
	KeyMetadata KeyMetadata
}

// DescribeKey returns a key's metadata.
func (s *Service) DescribeKey(
	ctx context.Context, c *iam.Caller, in *DescribeKeyRequest,
) (*DescribeKeyResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "DescribeKey", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	m, err := s.describe(ctx, k)
	if err != nil {
		return nil, err
	}
	return &DescribeKeyResponse{KeyMetadata: m}, nil
}

// ListKeysRequest is the input of ListKeys.
type ListKeysRequest struct {
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// KeyListEntry is one key of ListKeys.
type KeyListEntry struct {
	KeyId  string
	KeyArn string
}

// ListKeysResponse is the output of ListKeys.
type ListKeysResponse struct {
	Keys       []KeyListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// ListKeys returns the account's keys in the region, in order of id.
func (s *Service) ListKeys(ctx context.Context, c *iam.Caller, in *ListKeysRequest) (*ListKeysResponse, error) {
	if err := s.authoriseAccount(ctx, c, "ListKeys"); err != nil {
		return nil, err
	}
	p, err := newPage("ListKeys", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	keys, err := s.store.Keys(ctx, c.Account, c.Region, p.after, p.limit+1)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	out := &ListKeysResponse{Keys: []KeyListEntry{}}
	keys, out.NextMarker = cut(p, keys, func(k *Key) string { return k.ID })
	out.Truncated = out.NextMarker != ""
	for _, k := range keys {
		out.Keys = append(out.Keys, KeyListEntry{KeyId: k.ID, KeyArn: k.ARN(s.arns(ctx))})
	}
	return out, nil
}

// EnableKeyRequest is the input of EnableKey.
type EnableKeyRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// Empty is the output of operations that have none.
type Empty struct{}

// EnableKey lets a key be used again.
func (s *Service) EnableKey(ctx context.Context, c *iam.Caller, in *EnableKeyRequest) (*Empty, error) {
	return s.setState(ctx, c, keyRequest{operation: "EnableKey", keyID: in.KeyId}, StateEnabled)
}

// DisableKeyRequest is the input of DisableKey.
type DisableKeyRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// DisableKey stops a key from being used.
func (s *Service) DisableKey(ctx context.Context, c *iam.Caller, in *DisableKeyRequest) (*Empty, error) {
	return s.setState(ctx, c, keyRequest{operation: "DisableKey", keyID: in.KeyId}, StateDisabled)
}

func (s *Service) setState(ctx context.Context, c *iam.Caller, r keyRequest, state KeyState) (*Empty, error) {
	return s.change(ctx, c, r, func(k *Key) error {
		k.State = state
		return nil
	})
}

// change is keyFor and updateKey, for operations with an empty response.
func (s *Service) change(ctx context.Context, c *iam.Caller, r keyRequest, change func(*Key) error) (*Empty, error) {
	k, err := s.keyFor(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return &Empty{}, s.updateKey(ctx, r.operation, k, change)
}

// UpdateKeyDescriptionRequest is the input of UpdateKeyDescription.
type UpdateKeyDescriptionRequest struct {
	KeyId       string `shape:"KeyIdType" required:"true"`
	Description string `shape:"DescriptionType" required:"true"`
}

// UpdateKeyDescription changes a key's description.
func (s *Service) UpdateKeyDescription(
	ctx context.Context, c *iam.Caller, in *UpdateKeyDescriptionRequest,
) (*Empty, error) {
	return s.change(ctx, c, keyRequest{operation: "UpdateKeyDescription", keyID: in.KeyId}, func(k *Key) error {
		k.Description = in.Description
		return nil
	})
}
