package service

import (
	"context"
	"slices"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/keystore"
)

// keyRule says what an operation needs of its key. Where a key lacks several things, the state is what the client hears of
// first, then spec and origin, then the usage; only the operations on imported material look at the origin before the state.
type keyRule struct {
	byAlias bool     // an alias may name the key
	early   bool     // only is looked at before the state
	usages  []string // KeyUsage must be one of them; nil for any
	only    origins  // which keys it is for
	states  stateRow
}

// origins restrict an operation to some keys; the others get an UnsupportedOperationException.
type origins int

const (
	anyOrigin    origins = iota
	rotatable            // symmetric, material of AWS_KMS or EXTERNAL origin
	autoRotates          // symmetric, material of AWS_KMS origin
	importable           // material of EXTERNAL origin
	multiRegions         // a multi-Region primary key
	keyPairs             // asymmetric
	ownToken             // in no custom key store
)

// stateRow tells per key state what an operation does (AWS page "Key states of AWS KMS keys"); a state that is
// not in it is in order.
type stateRow map[KeyState]outcome

// outcome is a numbered note of AWS's table.
type outcome int

const (
	disabled           outcome = iota + 1 // note 1: DisabledException
	pendingDeletion                       // note 3: KMSInvalidStateException
	notPendingDeletion                    // note 4: KMSInvalidStateException
	pendingImport                         // note 5: KMSInvalidStateException
	unavailable                           // note 11: KMSInvalidStateException
	updating                              // note 15: KMSInvalidStateException
)

var (
	anyState    = stateRow{}
	cryptoState = stateRow{StateDisabled: disabled, StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport: pendingImport, StateUnavailable: unavailable}
	grantState = stateRow{StateDisabled: disabled, StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport: pendingImport}
	changeState = stateRow{StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion}
	enableState = stateRow{StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport: pendingImport, StateUpdating: updating}
	scheduleState = stateRow{StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion, StateUpdating: updating}
	cancelState   = stateRow{StateEnabled: notPendingDeletion, StateDisabled: notPendingDeletion, StatePendingImport: notPendingDeletion,
		StateUnavailable: notPendingDeletion, StateUpdating: notPendingDeletion}
	rotationState  = stateRow{StateDisabled: disabled, StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion}
	replicateState = stateRow{StateDisabled: disabled, StatePendingDeletion: pendingDeletion, StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport: pendingImport, StateUpdating: updating}
	deleteImportState = stateRow{StateUpdating: updating}
)

var (
	encrypting    = []string{usageEncryptDecrypt}
	signing       = []string{usageSignVerify}
	macking       = []string{usageGenerateVerifyMAC}
	agreeing      = []string{usageKeyAgreement}
	encapsulating = []string{usageEncapsulate}
)

// keyRules has every operation that works on a key.
var keyRules = map[string]keyRule{
	"CancelKeyDeletion":                   {states: cancelState},
	"CreateAlias":                         {states: changeState},
	"CreateGrant":                         {states: grantState},
	"Decapsulate":                         {byAlias: true, usages: encapsulating, states: cryptoState},
	"Decrypt":                             {byAlias: true, usages: encrypting, states: cryptoState},
	"DeleteAlias":                         {states: anyState},
	"DeleteImportedKeyMaterial":           {early: true, only: importable, states: deleteImportState},
	"DeriveSharedSecret":                  {byAlias: true, usages: agreeing, states: cryptoState},
	"DescribeKey":                         {byAlias: true, states: anyState},
	"DisableKey":                          {states: enableState},
	"DisableKeyRotation":                  {only: autoRotates, states: rotationState},
	"EnableKey":                           {states: enableState},
	"EnableKeyRotation":                   {only: autoRotates, states: rotationState},
	"Encapsulate":                         {byAlias: true, usages: encapsulating, states: cryptoState},
	"Encrypt":                             {byAlias: true, usages: encrypting, states: cryptoState},
	"GenerateDataKey":                     {byAlias: true, usages: encrypting, states: cryptoState},
	"GenerateDataKeyPair":                 {byAlias: true, usages: encrypting, states: cryptoState},
	"GenerateDataKeyPairWithoutPlaintext": {byAlias: true, usages: encrypting, states: cryptoState},
	"GenerateDataKeyWithoutPlaintext":     {byAlias: true, usages: encrypting, states: cryptoState},
	"GenerateMac":                         {byAlias: true, usages: macking, states: cryptoState},
	"GetKeyLastUsage":                     {states: anyState},
	"GetKeyPolicy":                        {states: anyState},
	"GetKeyRotationStatus":                {only: ownToken, states: anyState},
	"GetParametersForImport":              {early: true, only: importable, states: scheduleState},
	"GetPublicKey":                        {byAlias: true, only: keyPairs, states: cryptoState},
	"ImportKeyMaterial":                   {early: true, only: importable, states: changeState},
	"ListAliases":                         {states: anyState},
	"ListGrants":                          {states: anyState},
	"ListKeyPolicies":                     {states: anyState},
	"ListKeyRotations":                    {only: rotatable, states: anyState},
	"ListResourceTags":                    {states: anyState},
	"PutKeyPolicy":                        {states: anyState},
	"ReEncrypt":                           {byAlias: true, usages: encrypting, states: cryptoState},
	"ReplicateKey":                        {only: multiRegions, states: replicateState},
	"RetireGrant":                         {states: anyState},
	"RevokeGrant":                         {states: anyState},
	"RotateKeyOnDemand":                   {only: rotatable, states: replicateState},
	"ScheduleKeyDeletion":                 {states: scheduleState},
	"Sign":                                {byAlias: true, usages: signing, states: cryptoState},
	"TagResource":                         {states: changeState},
	"UntagResource":                       {states: changeState},
	"UpdateAlias":                         {states: changeState},
	"UpdateKeyDescription":                {states: changeState},
	"UpdatePrimaryRegion":                 {only: multiRegions, states: grantState},
	"Verify":                              {byAlias: true, usages: signing, states: cryptoState},
	"VerifyMac":                           {byAlias: true, usages: macking, states: cryptoState},
}

// keyCheck refuses an operation on a key.
type keyCheck func(s *Service, ctx context.Context, op string, k *Key) error

// order is the checks in their order.
func (r keyRule) order() [3]keyCheck {
	if r.early {
		return [...]keyCheck{(*Service).checkOrigin, (*Service).checkState, (*Service).checkUsage}
	}
	return [...]keyCheck{(*Service).checkState, (*Service).checkOrigin, (*Service).checkUsage}
}

// checkUsage refuses an operation on a key of another KeyUsage.
func (s *Service) checkUsage(ctx context.Context, op string, k *Key) error {
	if usages := keyRules[op].usages; usages != nil && !slices.Contains(usages, k.Usage) {
		return apierror.New(apierror.InvalidKeyUsage, "%s key usage is %s which is not valid for %s.", k.ARN(s.arns(ctx)), k.Usage, op)
	}
	return nil
}

// checkOrigin refuses an operation that is not for keys like this one.
func (s *Service) checkOrigin(ctx context.Context, op string, k *Key) error {
	wrongOrigin := func() error {
		return apierror.New(apierror.UnsupportedOperation, "%s origin is %s which is not valid for this operation.", k.ARN(s.arns(ctx)), k.Origin)
	}
	switch keyRules[op].only {
	case importable:
		if k.Origin != originExternal {
			return wrongOrigin()
		}
	case autoRotates, rotatable:
		if !k.symmetric() {
			return &apierror.Error{Code: apierror.UnsupportedOperation} // AWS sends no message
		}
		if k.Origin != originKMS && (k.Origin != originExternal || keyRules[op].only == autoRotates) {
			return wrongOrigin()
		}
	case ownToken:
		if k.Origin != originKMS && k.Origin != originExternal {
			return wrongOrigin()
		}
	case keyPairs:
		if keySpecs[k.Spec].pair == 0 {
			return apierror.New(apierror.UnsupportedOperation, "%s key spec is %s which is not valid for %s.", k.ARN(s.arns(ctx)), k.Spec, op)
		}
	case multiRegions:
		if !k.multiRegion() || !k.primary() {
			return apierror.New(apierror.UnsupportedOperation, "%s is not a multi-region primary key.", k.ARN(s.arns(ctx)))
		}
	}
	return nil
}

// stateOf is a key's state as clients see it: that of a key in a custom key store depends on its connection, and
// imported material is gone when it expires, whenever the reconciler comes.
func (s *Service) stateOf(k *Key) KeyState {
	if k.State != StateEnabled && k.State != StateDisabled {
		return k.State
	}
	if k.CustomKeyStore != "" && s.keyStores.Status(k.CustomKeyStore).State != keystore.Connected {
		return StateUnavailable
	}
	if at := k.earliestExpiry(); !at.IsZero() && !at.After(s.now()) {
		return StatePendingImport
	}
	return k.State
}

func (s *Service) checkState(ctx context.Context, op string, k *Key) error {
	keyARN := k.ARN(s.arns(ctx))
	state := s.stateOf(k)
	switch keyRules[op].states[state] {
	case disabled:
		return apierror.New(apierror.Disabled, "%s is disabled.", keyARN)
	case pendingDeletion:
		if state == StatePendingReplicaDeletion {
			return apierror.New(apierror.InvalidState, "%s is pending replica deletion.", keyARN)
		}
		return apierror.New(apierror.InvalidState, "%s is pending deletion.", keyARN)
	case notPendingDeletion:
		return apierror.New(apierror.InvalidState, "%s is not pending deletion.", keyARN)
	case pendingImport:
		return apierror.New(apierror.InvalidState, "%s is pending import.", keyARN)
	case unavailable:
		return apierror.New(apierror.InvalidState, "%s is unavailable.", keyARN)
	case updating:
		return apierror.New(apierror.InvalidState, "%s is updating.", keyARN)
	}
	return nil
}
