package session

import (
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
)

// stepObject is step before a call that makes an object. A call that makes a token object is never
// repeated; so a session from the pool, which the token may have closed, is checked first.
func (s *Session) stepObject(template []*pkcs11.Attribute) error {
	if s.Idled && s.Steps == 0 && isTokenObject(template) {
		if err := s.step(); err != nil {
			return err
		}
		if _, err := s.Module.SessionState(s.Handle); err != nil {
			return ckr.Failed("C_GetSessionInfo", err)
		}
	}
	return s.step()
}

// createdObject gives the error of a call that makes an object. A token that is full may answer
// CKR_HOST_MEMORY (opencryptoki). It means that if the token is alive and the object was to be a
// token object.
func (s *Session) createdObject(call string, err error, template []*pkcs11.Attribute) error {
	err = ckr.Failed(call, err)
	if ckr.Has(err, pkcs11.CKR_HOST_MEMORY) && isTokenObject(template) && s.Alive() {
		err = &ckr.Error{Call: call, RV: pkcs11.CKR_HOST_MEMORY, Kind: ckr.ErrFull}
	}
	return err
}

func isTokenObject(template []*pkcs11.Attribute) bool {
	return slices.ContainsFunc(
		template,
		func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN && cryptoki.Truth(a.Value) },
	)
}

// operationResult gives the result of an operation. If it was not started, its Init call failed.
func operationResult(o cryptoki.Operation, out []byte, started bool, err error) ([]byte, bool, error) {
	return out, started, ckr.Failed(functionOf(o, started), err)
}

// functionOf names the call of an operation that was the last one.
func functionOf(o cryptoki.Operation, started bool) string {
	if started {
		return o.String()
	}
	return o.String() + "Init"
}

// gcm encrypts or decrypts with CKM_AES_GCM into a part of room. A token may overwrite the IV when it
// encrypts. started reports whether the Init call succeeded.
func (s *Session) gcm(
	o cryptoki.Operation, key pkcs11.ObjectHandle, iv *[IVSize]byte, in, aad, room []byte,
) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	var ivBytes []byte
	if iv != nil {
		ivBytes = iv[:]
	}
	out, started, err := s.Module.GCM(s.Handle, o, key, ivBytes, aad, in, room)
	return operationResult(o, out, started, err)
}

// operate is an operation whose output has at most size bytes. The parameters of its mechanism hold no
// pointers.
func (s *Session) operate(
	o cryptoki.Operation, mechanism uint, params []byte, key pkcs11.ObjectHandle, in []byte, size int,
) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	out, started, err := s.Module.Operate(s.Handle, o, mechanism, params, key, in, size)
	return operationResult(o, out, started, err)
}

// WrapKey is C_WrapKey. The mechanism's parameter holds no pointers. size is an upper bound of the
// output in bytes.
func (s *Session) WrapKey(mechanism uint, params []byte, wrapping, key pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.Module.WrapKey(s.Handle, mechanism, params, wrapping, key, size)
	return out, ckr.Failed("C_WrapKey", err)
}

// Value reads CKA_VALUE, at most size bytes.
func (s *Session) Value(object pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.Module.Value(s.Handle, object, size)
	return out, ckr.Failed("C_GetAttributeValue", err)
}

// Create is C_CreateObject, without a copy of any value in C memory.
func (s *Session) Create(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.Module.CreateObject(s.Handle, s.Profile.Allowed(template))
	return h, s.createdObject("C_CreateObject", err, template)
}

// SetAttributes is C_SetAttributeValue.
func (s *Session) SetAttributes(h pkcs11.ObjectHandle, template []*pkcs11.Attribute) error {
	if err := s.step(); err != nil {
		return err
	}
	return ckr.Failed("C_SetAttributeValue", s.Module.SetAttributes(s.Handle, h, template))
}

// CopyObject is C_CopyObject.
func (s *Session) CopyObject(h pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.Module.CopyObject(s.Handle, h, template)
	return h, ckr.Failed("C_CopyObject", err)
}

// decapsulateKey is C_DecapsulateKey of PKCS#11 v3.2.
func (s *Session) decapsulateKey(
	mechanism uint, key pkcs11.ObjectHandle, ciphertext []byte, template []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.step(); err != nil {
		return 0, err
	}
	h, err := s.Module.Decapsulate(s.Handle, mechanism, key, ciphertext, s.Profile.Allowed(template))
	return h, ckr.Failed("C_DecapsulateKey", err)
}

// Random is C_GenerateRandom.
func (s *Session) Random(n int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.Module.Random(s.Handle, n)
	return out, ckr.Failed("C_GenerateRandom", err)
}

// Destroy is C_DestroyObject. When it fails the session is marked broken: closing it destroys its
// session objects.
func (s *Session) Destroy(h pkcs11.ObjectHandle) error {
	defer s.Locks.blockSearches().release()
	if err := s.step(); err != nil {
		return err
	}
	err := ckr.Failed("C_DestroyObject", s.Module.DestroyObject(s.Handle, h))
	s.Broken = s.Broken || err != nil
	return err
}

// Unwrap is C_UnwrapKey. The mechanism's parameter holds no pointers.
func (s *Session) Unwrap(
	mechanism uint, params []byte, unwrapping pkcs11.ObjectHandle, wrapped []byte,
	template []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.Module.UnwrapKey(s.Handle, mechanism, params, unwrapping, wrapped, s.Profile.Allowed(template))
	return h, s.createdObject("C_UnwrapKey", err, template)
}

// deriveECDH is C_DeriveKey with CKM_ECDH1_DERIVE.
func (s *Session) deriveECDH(
	base pkcs11.ObjectHandle, kdf uint, peer []byte, template []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.step(); err != nil {
		return 0, err
	}
	h, err := s.Module.DeriveECDH(s.Handle, base, kdf, peer, s.Profile.Allowed(template))
	return h, ckr.Failed("C_DeriveKey", err)
}

// Attributes reads attributes of an object, in their order. All of them must be there.
func (s *Session) Attributes(h pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	values, err := s.Module.Attributes(s.Handle, h, types...)
	if err != nil {
		return nil, ckr.Failed("C_GetAttributeValue", err)
	}
	for i, v := range values {
		if v == nil {
			return nil, fmt.Errorf("C_GetAttributeValue: attribute %#x is not available", types[i])
		}
	}
	return values, nil
}

// attributesIfAny reads attributes that a token need not have: those that it does not give are nil.
func (s *Session) attributesIfAny(h pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	values, err := s.Module.Attributes(s.Handle, h, types...)
	err = ckr.Failed("C_GetAttributeValue", err)
	if ckr.Has(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_BUFFER_TOO_SMALL) {
		err = nil
	}
	return values, err
}

func (s *Session) findInit(template []*pkcs11.Attribute) error {
	if err := s.step(); err != nil {
		return err
	}
	return ckr.Failed("C_FindObjectsInit", s.Module.FindInit(s.Handle, template))
}

func (s *Session) findNext() ([]pkcs11.ObjectHandle, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	some, err := s.Module.FindNext(s.Handle)
	return some, ckr.Failed("C_FindObjects", err)
}

func (s *Session) findFinal() error {
	if err := s.step(); err != nil {
		return err
	}
	return ckr.Failed("C_FindObjectsFinal", s.Module.FindFinal(s.Handle))
}

// Mechanisms is C_GetMechanismList.
func (s *Session) Mechanisms() ([]uint, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	listed, err := s.Module.Mechanisms(s.Slot)
	return listed, ckr.Failed("C_GetMechanismList", err)
}

// MechanismFlags is C_GetMechanismInfo: its flags.
func (s *Session) MechanismFlags(mechanism uint) (uint, error) {
	if err := s.step(); err != nil {
		return 0, err
	}
	flags, err := s.Module.MechanismFlags(s.Slot, mechanism)
	return flags, ckr.Failed("C_GetMechanismInfo", err)
}
