package service

import (
	"context"
	"slices"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/keystore"
)

// KeyRule is what an operation needs of its key. A key that lacks several things is refused for its
// state first, then for its kind, then for its usage, unless KindFirst is set.
type KeyRule struct {
	ByAlias       bool     // an alias may name the key
	Usages        []string // KeyUsage must be one of them; nil for any
	SymmetricOnly bool     // KeySpec must be SYMMETRIC_DEFAULT; for operations of usage ENCRYPT_DECRYPT
	Kind          KeyKind
	KindFirst     bool // the kind is checked before the state, as AWS does for imported key material
	States        StateRow
}

// KeyKind restricts an operation to some keys; other keys get an UnsupportedOperationException.
type KeyKind int

// The kinds of keys.
const (
	anyKind              KeyKind = iota
	rotatable                    // symmetric, with material of origin AWS_KMS or EXTERNAL
	rotatesAutomatically         // symmetric, with material of origin AWS_KMS
	importable                   // of origin EXTERNAL
	multiRegionPrimary           // a multi-Region primary key
	asymmetric                   // a key pair
	inOwnToken                   // in no custom key store
)

// StateRow is an operation's row in AWS's table of key states (page "Key states of AWS KMS keys"):
// the states in which it fails, and how. In the other states it works.
type StateRow map[KeyState]StateNote

// StateNote is a note of that table.
type StateNote int

// The notes, and the errors that they stand for.
const (
	disabled           StateNote = iota + 1 // note 1: DisabledException
	pendingDeletion                         // note 3: KMSInvalidStateException
	notPendingDeletion                      // note 4: KMSInvalidStateException
	pendingImport                           // note 5: KMSInvalidStateException
	unavailable                             // note 11: KMSInvalidStateException
	updating                                // note 15: KMSInvalidStateException
)

// Code is the code of the error that a note stands for.
func (n StateNote) Code() apierror.Code {
	if n == disabled {
		return apierror.Disabled
	}
	return apierror.InvalidState
}

// VisibleStates are the states in which clients can see a key.
func VisibleStates() []KeyState {
	return []KeyState{StateEnabled, StateDisabled, StatePendingDeletion, StatePendingReplicaDeletion,
		StatePendingImport, StateUnavailable}
}

// The rows of the table.
var (
	anyState    = StateRow{}
	cryptoState = StateRow{
		StateDisabled:               disabled,
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport:          pendingImport,
		StateUnavailable:            unavailable,
	}
	grantState = StateRow{
		StateDisabled:               disabled,
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport:          pendingImport,
	}
	changeState = StateRow{
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
	}
	enableState = StateRow{
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport:          pendingImport,
		StateUpdating:               updating,
	}
	scheduleState = StateRow{
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
		StateUpdating:               updating,
	}
	cancelState = StateRow{
		StateEnabled:       notPendingDeletion,
		StateDisabled:      notPendingDeletion,
		StatePendingImport: notPendingDeletion,
		StateUnavailable:   notPendingDeletion,
		StateUpdating:      notPendingDeletion,
	}
	rotationState = StateRow{
		StateDisabled:               disabled,
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
	}
	replicateState = StateRow{
		StateDisabled:               disabled,
		StatePendingDeletion:        pendingDeletion,
		StatePendingReplicaDeletion: pendingDeletion,
		StatePendingImport:          pendingImport,
		StateUpdating:               updating,
	}
	deleteImportState = StateRow{StateUpdating: updating}
)

// checkKey refuses a key that an operation is not for.
func (s *Service) checkKey(ctx context.Context, o *Operation, k *Key) error {
	first, second := (*Service).checkState, (*Service).checkKind
	if o.Key.KindFirst {
		first, second = second, first
	}
	if err := first(s, ctx, o, k); err != nil {
		return err
	}
	if err := second(s, ctx, o, k); err != nil {
		return err
	}
	return s.checkUsage(ctx, o, k)
}

// checkUsage refuses a key of another KeyUsage, or of another KeySpec where only symmetric keys
// will do.
func (s *Service) checkUsage(ctx context.Context, o *Operation, k *Key) error {
	if o.Key.Usages != nil && !slices.Contains(o.Key.Usages, k.Usage) {
		return apierror.New(apierror.InvalidKeyUsage, "%s key usage is %s which is not valid for %s.",
			k.ARN(s.arns(ctx)), k.Usage, o.Name)
	}
	if o.Key.SymmetricOnly && !k.symmetric() {
		return apierror.New(apierror.InvalidKeyUsage, "%s key spec is %s which is not valid for %s.",
			k.ARN(s.arns(ctx)), k.Spec, o.Name)
	}
	return nil
}

// checkKind refuses a key of another kind.
func (s *Service) checkKind(ctx context.Context, o *Operation, k *Key) error {
	validOrigin := true
	switch o.Key.Kind {
	case importable:
		validOrigin = k.Origin == originExternal
	case rotatesAutomatically, rotatable:
		if !k.symmetric() {
			return &apierror.Error{Code: apierror.UnsupportedOperation} // AWS sends no message
		}
		validOrigin = k.Origin == originKMS || k.Origin == originExternal && o.Key.Kind == rotatable
	case inOwnToken:
		validOrigin = k.Origin == originKMS || k.Origin == originExternal
	case asymmetric:
		if keySpecs[k.Spec].pair == 0 {
			return apierror.New(apierror.UnsupportedOperation, "%s key spec is %s which is not valid for %s.",
				k.ARN(s.arns(ctx)), k.Spec, o.Name)
		}
	case multiRegionPrimary:
		if !k.multiRegion() || !k.primary() {
			return apierror.New(apierror.UnsupportedOperation,
				"%s is not a multi-region primary key.", k.ARN(s.arns(ctx)))
		}
	}
	if !validOrigin {
		return apierror.New(apierror.UnsupportedOperation, "%s origin is %s which is not valid for this operation.",
			k.ARN(s.arns(ctx)), k.Origin)
	}
	return nil
}

// StateOf returns a key's state as clients see it. A key in a custom key store is unavailable while
// the store is disconnected. Imported material is gone once it expires, even if the reconciler has
// not removed it yet.
func (s *Service) StateOf(k *Key) KeyState {
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

// prepares has the operations that an operator may also do with a key that is disabled or has no material yet, so
// that a declaration need not make a key usable, even for a moment, to change it. None of them uses the key.
var prepares = map[string]bool{"CreateGrant": true, "EnableKeyRotation": true, "DisableKeyRotation": true,
	"ReplicateKey": true}

// checkState refuses a key in a state in which the operation fails.
func (s *Service) checkState(ctx context.Context, o *Operation, k *Key) error {
	state := s.StateOf(k)
	note := o.Key.States[state]
	if note == 0 || s.cfg.Operator != nil && (note == disabled || note == pendingImport) && prepares[o.Name] {
		return nil
	}
	keyARN := k.ARN(s.arns(ctx))
	switch note {
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
