package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/keystore"
)

// OriginType of a key.
const (
	originKMS      = "AWS_KMS"
	originExternal = "EXTERNAL"
	originXKS      = "EXTERNAL_KEY_STORE"
)

const (
	undoTimeout = 10 * time.Second

	msgTokenCannot = "%s is not supported: %s."
)

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

// CreateKey makes a key whose material is generated in the token and never leaves it or, with
// origin EXTERNAL, a key without material.
//
// Before the token objects are made, a row in state Creating is stored that names them. Afterwards
// the key becomes Enabled. Reconcile undoes what a crash leaves in between.
func (s *Service) CreateKey(ctx context.Context, c *iam.Caller, in *CreateKeyRequest) (*CreateKeyResponse, error) {
	k, err := s.newKey(ctx, c, in)
	if err != nil {
		return nil, err
	}
	return s.create(ctx, k)
}

// create stores a new key and makes its material.
func (s *Service) create(ctx context.Context, k *Key) (*CreateKeyResponse, error) {
	s.addKeyToRecord(ctx, k)
	if k.Origin == originExternal {
		k.State = StatePendingImport
	} else {
		w, err := s.wrappingFor(ctx, k)
		if err != nil {
			return nil, err
		}
		m, err := s.newMaterial(k, w)
		if err != nil {
			return nil, err
		}
		k.State, k.Materials = StateCreating, []Material{*m}
	}
	if err := s.store.InsertKey(ctx, k); err != nil {
		return nil, apierror.FromStore(err)
	}
	if k.State == StateCreating {
		if err := s.makeKey(ctx, k); err != nil {
			// After a timeout the token may still make the object, too late for undo to see it:
			// Reconcile does it later.
			if !errors.Is(err, hsm.ErrTimeout) {
				s.undo(ctx, k)
			}
			return nil, err
		}
		k.State = StateEnabled
	}
	m, err := s.describe(ctx, k)
	if err != nil {
		return nil, err
	}
	return &CreateKeyResponse{KeyMetadata: m}, nil
}

// makeKey generates the material of a key in state Creating and enables it.
func (s *Service) makeKey(ctx context.Context, k *Key) error {
	m := k.CurrentMaterial()
	public, err := s.generate(ctx, k, m)
	if err != nil {
		return err
	}
	k.PublicKey = public
	return apierror.FromStore(s.store.UpdateKey(ctx, k.Region, k.ID, func(k *Key) error {
		if k.State != StateCreating {
			return apierror.InternalError(errors.New("the key was undone while it was made"))
		}
		k.State, k.PublicKey, k.CurrentMaterial().Wrapped = StateEnabled, public, m.Wrapped
		return nil
	}))
}

// undo removes what a failed CreateKey has made. If it fails, Reconcile does it later.
func (s *Service) undo(ctx context.Context, k *Key) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.finish(ctx, k); err != nil {
		s.log.Warn("undo of CreateKey is left to the reconciler", zap.String("key", k.ID), zap.Error(err))
	}
}

// newKey checks the request and the caller, and returns the row to store.
func (s *Service) newKey(ctx context.Context, c *iam.Caller, in *CreateKeyRequest) (*Key, error) {
	k := &Key{
		Account:        c.Account,
		Region:         c.Region,
		Origin:         orElse(in.Origin, originKMS),
		Description:    in.Description,
		Policy:         in.Policy,
		Tags:           in.Tags,
		CustomKeyStore: in.CustomKeyStoreId,
		CreatedAt:      s.now(),
	}
	if k.Policy == "" {
		k.Policy = defaultPolicy(c.Account)
	}
	var err error
	if k.Spec, k.Usage, err = SpecAndUsage(in); err != nil {
		return nil, err
	}
	if in.MultiRegion {
		k.PrimaryRegion = c.Region
	}
	if err := s.authoriseNewKey(ctx, c, policyInput{newKey: k, tags: in.Tags, conditions: in}); err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	if in.Policy != "" {
		if err := s.checkPolicy(ctx, c, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return nil, err
		}
	}
	if err := s.checkCustomKeyStore(ctx, c, in, k); err != nil {
		return nil, err
	}
	for _, name := range []string{k.Spec, k.Spec + "/" + k.Usage} {
		if reason, cannot := s.can.Missing[name]; cannot {
			return nil, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, "KeySpec "+k.Spec, reason)
		}
	}
	if k.Origin == originExternal && keySpecs[k.Spec].generatedOnly {
		return nil, apierror.New(apierror.UnsupportedOperation, "Key material of KeySpec %s can't be imported.", k.Spec)
	}
	if k.Origin == originExternal {
		if err := s.canImport(k.Spec, ""); err != nil {
			return nil, err
		}
	}
	if k.ID, err = s.newKeyID(in.MultiRegion); err != nil {
		return nil, apierror.InternalError(err)
	}
	return k, nil
}

func (in *CreateKeyRequest) condition(key string, _ *Key) []string {
	return bypassCondition(key, in.BypassPolicyLockoutSafetyCheck)
}

// newKeyID draws a UUID, or mrk- and 32 hex digits.
func (s *Service) newKeyID(multiRegion bool) (string, error) {
	if !multiRegion {
		id, err := uuid.NewRandomFromReader(s.cfg.Rand)
		return id.String(), err
	}
	var random [16]byte
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return "", fmt.Errorf("draw a key id: %w", err)
	}
	return "mrk-" + hex.EncodeToString(random[:]), nil
}

// SpecAndUsage returns KeySpec and KeyUsage with their defaults, if they are compatible.
func SpecAndUsage(in *CreateKeyRequest) (spec, usage string, err error) {
	spec, usage = in.KeySpec, in.KeyUsage
	if in.CustomerMasterKeySpec != "" {
		if spec != "" {
			return "", "", apierror.New(apierror.Validation, "You cannot specify KeySpec and CustomerMasterKeySpec "+
				"in the same request. CustomerMasterKeySpec is deprecated.")
		}
		spec = in.CustomerMasterKeySpec
	}
	if spec == "" {
		spec = specSymmetric
	}
	if usage == "" {
		if spec != specSymmetric {
			return "", "", apierror.New(apierror.Validation,
				"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
		}
		usage = usageEncryptDecrypt
	}
	if keySpecs[spec].algorithms[usage] == nil {
		return "", "", apierror.New(apierror.Validation, "KeyUsage %s is not compatible with KeySpec %s", usage, spec)
	}
	return spec, usage, nil
}

// checkCustomKeyStore checks whether a custom key store can have the key (API Reference, CreateKey,
// CustomKeyStoreId).
func (s *Service) checkCustomKeyStore(ctx context.Context, c *iam.Caller, in *CreateKeyRequest, k *Key) error {
	if in.XksKeyId != "" || k.Origin == originXKS {
		return apierror.New(apierror.UnsupportedOperation, "Origin %s is not supported: "+
			"custom key stores are PKCS#11 tokens, with Origin %s.", originXKS, keyStoreCloudHSM)
	}
	if (in.CustomKeyStoreId != "") != (k.Origin == keyStoreCloudHSM) {
		return apierror.New(apierror.Validation,
			"CustomKeyStoreId and Origin %s must be specified together.", keyStoreCloudHSM)
	}
	if in.CustomKeyStoreId == "" {
		return nil
	}
	if k.Spec != specSymmetric || in.MultiRegion {
		return apierror.New(apierror.UnsupportedOperation,
			"A custom key store holds only symmetric encryption keys of a single Region.")
	}
	store, err := s.keyStore(ctx, c, in.CustomKeyStoreId)
	if err != nil {
		return err
	}
	if state := s.keyStores.Status(store.ID).State; state != keystore.Connected {
		return wrongKeyStoreState(store.ID, state)
	}
	return nil
}
