package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
)

const (
	maxPolicy = 32768 // bytes; AWS page "Resource quotas": key policy document size
	maxTags   = 50    // AWS page "Tagging your AWS resources": tags per resource

	originKMS   = "AWS_KMS"
	policyName  = "default" // the only name a key policy may have
	undoTimeout = 10 * time.Second
)

// Timestamp is a time in an answer: seconds since 1970 with milliseconds, as AWS's JSON protocols have it.
type Timestamp time.Time

// MarshalJSON gives a JSON number.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := time.Time(t).UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// KeyMetadata describes a key (API Reference, KeyMetadata).
type KeyMetadata struct {
	AWSAccountId          string
	KeyId                 string
	Arn                   string
	CreationDate          Timestamp
	Enabled               bool
	Description           string
	KeyUsage              string
	KeyState              string
	DeletionDate          *Timestamp `json:",omitempty"`
	Origin                string
	KeyManager            string
	CustomerMasterKeySpec string
	KeySpec               string
	EncryptionAlgorithms  []string `json:",omitempty"`
	MultiRegion           bool
	CurrentKeyMaterialId  string `json:",omitempty"`
}

func (s *Service) metadata(k *Key) KeyMetadata {
	m := KeyMetadata{
		AWSAccountId: k.Account, KeyId: k.ID, Arn: s.arns.key(k),
		CreationDate: Timestamp(k.CreatedAt), Enabled: k.State == StateEnabled, Description: k.Description,
		KeyUsage: k.Usage, KeyState: string(k.State), Origin: k.Origin, KeyManager: "CUSTOMER",
		CustomerMasterKeySpec: k.Spec, KeySpec: k.Spec,
	}
	if k.Spec == specSymmetric {
		m.EncryptionAlgorithms = []string{specSymmetric}
		m.CurrentKeyMaterialId = k.current().ID
	}
	if k.State == StatePendingDeletion {
		at := Timestamp(k.DeletionAt)
		m.DeletionDate = &at
	}
	return m
}

// CreateKeyRequest is the input of CreateKey.
type CreateKeyRequest struct {
	Policy                         string `shape:"PolicyType"`
	Description                    string `shape:"DescriptionType"`
	KeyUsage                       string `shape:"KeyUsageType"`
	CustomerMasterKeySpec          string `shape:"CustomerMasterKeySpec"`
	KeySpec                        string `shape:"KeySpec"`
	Origin                         string `shape:"OriginType"`
	CustomKeyStoreId               string `shape:"CustomKeyStoreIdType"`
	BypassPolicyLockoutSafetyCheck bool   `shape:"BooleanType"`
	Tags                           []Tag  `shape:"TagList"`
	MultiRegion                    bool   `shape:"NullableBooleanType"`
	XksKeyId                       string `shape:"XksKeyIdType"`
}

// CreateKeyResponse is the output of CreateKey.
type CreateKeyResponse struct {
	KeyMetadata KeyMetadata
}

// CreateKey makes a key whose material is born in the token and never leaves it.
//
// A row in state Creating, which names the token objects to be, is stored before they are made, and becomes
// Enabled after. Whatever a crash leaves in between, Reconcile undoes.
func (s *Service) CreateKey(ctx context.Context, c *Caller, in *CreateKeyRequest) (*CreateKeyResponse, error) {
	if err := s.authoriseAccount(c, "CreateKey"); err != nil {
		return nil, err
	}
	if len(in.Tags) > 0 {
		if err := s.authoriseAccount(c, "TagResource"); err != nil {
			return nil, err
		}
	}
	if err := checkNewKey(in); err != nil {
		return nil, err
	}
	policy := in.Policy
	if policy == "" {
		policy = defaultPolicy(c.Account)
	}
	k := &Key{Account: c.Account, Region: c.Region, Spec: specSymmetric, Usage: usageEncryptDecrypt, Origin: originKMS,
		State: StateCreating, Description: in.Description, Policy: policy, Tags: in.Tags, CreatedAt: s.now()}
	if err := s.newIdentifiers(k); err != nil {
		return nil, internal(err)
	}
	if err := s.store.InsertKey(ctx, k); err != nil {
		return nil, storeError(err)
	}
	if err := s.makeKey(ctx, k); err != nil {
		if !errors.Is(err, hsm.ErrTimeout) { // or the object may appear after it was looked for: leave it to Reconcile
			s.undo(ctx, k)
		}
		return nil, err
	}
	k.State = StateEnabled
	return &CreateKeyResponse{KeyMetadata: s.metadata(k)}, nil
}

// makeKey generates the material of a key in state Creating and enables it.
func (s *Service) makeKey(ctx context.Context, k *Key) error {
	m := k.current()
	for _, o := range []struct {
		role    Role
		purpose hsm.Purpose
	}{{RoleSeal, hsm.Seal}, {RoleWrap, hsm.Wrap}} {
		err := s.token.GenerateSecretKey(ctx, hsm.SecretKey{ID: m.Objects[o.role], Purpose: o.purpose,
			Label: fmt.Sprintf("verenc/%s/%d/%s", k.ID, m.Ordinal, o.role)})
		if err != nil {
			return dependencyError(err)
		}
	}
	return storeError(s.store.UpdateKey(ctx, k.Region, k.ID, func(k *Key) error {
		if k.State != StateCreating {
			return internal(errors.New("the key was undone while it was made"))
		}
		k.State = StateEnabled
		return nil
	}))
}

// undo takes back a CreateKey that failed. What it can't do now, Reconcile does later.
func (s *Service) undo(ctx context.Context, k *Key) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.finish(ctx, k); err != nil {
		s.log.Warn("undo of CreateKey is left to the reconciler", zap.String("key", k.ID), zap.Error(err))
	}
}

// newIdentifiers draws the key id, and the ids of its first material.
func (s *Service) newIdentifiers(k *Key) error {
	id, err := uuid.NewRandomFromReader(s.cfg.Rand)
	if err != nil {
		return err
	}
	var random [32]byte
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return err
	}
	var seal, wrap ObjectID
	for _, o := range []*ObjectID{&seal, &wrap} {
		if _, err := io.ReadFull(s.cfg.Rand, o[:]); err != nil {
			return err
		}
	}
	k.ID = id.String()
	k.Materials = []Material{{Ordinal: 1, ID: hex.EncodeToString(random[:]), CreatedAt: k.CreatedAt,
		Objects: map[Role]ObjectID{RoleSeal: seal, RoleWrap: wrap}}}
	return nil
}

func checkNewKey(in *CreateKeyRequest) error {
	spec := in.KeySpec
	if in.CustomerMasterKeySpec != "" {
		if spec != "" && spec != in.CustomerMasterKeySpec {
			return refuse(CodeValidation, "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
		}
		spec = in.CustomerMasterKeySpec
	}
	switch {
	case spec != "" && spec != specSymmetric:
		return refuse(CodeUnsupportedOperation, "KeySpec %s is not supported: this service makes %s keys.", spec, specSymmetric)
	case in.KeyUsage != "" && in.KeyUsage != usageEncryptDecrypt:
		return refuse(CodeValidation, "KeyUsage %s is not compatible with KeySpec %s", in.KeyUsage, specSymmetric)
	case in.CustomKeyStoreId != "":
		return noCustomKeyStore(in.CustomKeyStoreId)
	case in.Origin != "" && in.Origin != originKMS:
		return refuse(CodeUnsupportedOperation, "Origin %s is not supported: this service makes key material in its token.", in.Origin)
	case in.XksKeyId != "":
		return refuse(CodeUnsupportedOperation, "XksKeyId is not supported: this service has no external key store.")
	case in.MultiRegion:
		return refuse(CodeUnsupportedOperation, "MultiRegion is not supported: this service makes single-Region keys.")
	}
	if err := checkTags(in.Tags); err != nil {
		return err
	}
	return checkPolicy(in.Policy)
}

func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		if len(t.TagKey) >= 4 && strings.EqualFold(t.TagKey[:4], "aws:") {
			return refuse(CodeTag, "Tags beginning with aws: are reserved")
		}
		if seen[t.TagKey] {
			return refuse(CodeTag, "Duplicate tag keys")
		}
		seen[t.TagKey] = true
	}
	if len(tags) > maxTags {
		return refuse(CodeTag, "Too many tags")
	}
	return nil
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
func (s *Service) DescribeKey(ctx context.Context, c *Caller, in *DescribeKeyRequest) (*DescribeKeyResponse, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: "DescribeKey", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	return &DescribeKeyResponse{KeyMetadata: s.metadata(k)}, nil
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
func (s *Service) ListKeys(ctx context.Context, c *Caller, in *ListKeysRequest) (*ListKeysResponse, error) {
	if err := s.authoriseAccount(c, "ListKeys"); err != nil {
		return nil, err
	}
	p, err := newPage("ListKeys", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	keys, err := s.store.Keys(ctx, c.Account, c.Region, p.after, p.limit+1)
	if err != nil {
		return nil, storeError(err)
	}
	out := &ListKeysResponse{Keys: []KeyListEntry{}}
	keys, out.NextMarker = cut(p, keys, func(k *Key) string { return k.ID })
	out.Truncated = out.NextMarker != ""
	for _, k := range keys {
		out.Keys = append(out.Keys, KeyListEntry{KeyId: k.ID, KeyArn: s.arns.key(k)})
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
func (s *Service) EnableKey(ctx context.Context, c *Caller, in *EnableKeyRequest) (*Empty, error) {
	return s.setState(ctx, c, "EnableKey", in.KeyId, StateEnabled)
}

// DisableKeyRequest is the input of DisableKey.
type DisableKeyRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// DisableKey stops a key from being used.
func (s *Service) DisableKey(ctx context.Context, c *Caller, in *DisableKeyRequest) (*Empty, error) {
	return s.setState(ctx, c, "DisableKey", in.KeyId, StateDisabled)
}

func (s *Service) setState(ctx context.Context, c *Caller, op, keyID string, state KeyState) (*Empty, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: op, keyID: keyID})
	if err != nil {
		return nil, err
	}
	err = s.updateKey(ctx, op, k, func(k *Key) error {
		k.State = state
		return nil
	})
	return &Empty{}, err
}
