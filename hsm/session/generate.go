package session

import (
	"errors"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// Generate is C_GenerateKey.
func (s *Session) Generate(mechanism uint, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	h, err := s.callGenerateKey(mechanism, template)
	if ckr.Has(err, pkcs11.CKR_DEVICE_ERROR) {
		err = s.explainDeviceError(err, template, func(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
			h, err := s.callGenerateKey(mechanism, template)
			return []pkcs11.ObjectHandle{h}, err
		})
	}
	return h, err
}

func (s *Session) callGenerateKey(mechanism uint, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer s.Locks.blockSearches().release()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.Module.GenerateKey(s.Handle, mechanism, s.Profile.Allowed(template))
	return h, s.createdObject("C_GenerateKey", err, template)
}

// GenerateKeyPair is C_GenerateKeyPair.
func (s *Session) GenerateKeyPair(
	mechanism uint, public, private []*pkcs11.Attribute,
) (pub, priv pkcs11.ObjectHandle, err error) {
	pub, priv, err = s.callGenerateKeyPair(mechanism, public, private)
	if ckr.Has(err, pkcs11.CKR_DEVICE_ERROR) {
		err = s.explainDeviceError(err, private, func(private []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
			pub, priv, err := s.callGenerateKeyPair(mechanism, public, private)
			return []pkcs11.ObjectHandle{pub, priv}, err
		})
	}
	return pub, priv, err
}

func (s *Session) callGenerateKeyPair(
	mechanism uint, public, private []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	defer acquire(s.Locks.generators, 1).release()
	defer s.Locks.blockSearches().release()
	if err := s.stepObject(private); err != nil {
		return 0, 0, err
	}
	pub, priv, err := s.Module.GenerateKeyPair(
		s.Handle, mechanism, s.Profile.Allowed(public), s.Profile.Allowed(private),
	)
	return pub, priv, s.createdObject("C_GenerateKeyPair", err, private)
}

// explainDeviceError gives its kind to a CKR_DEVICE_ERROR of a call that generates a key. A token
// may answer so for a mechanism or an attribute that it does not know, or that its protocol does
// not carry (p11-kit). It is taken for that if the token generates a plain key, and then answers
// the same again for the same key as a session object.
func (s *Session) explainDeviceError(
	err error, template []*pkcs11.Attribute,
	generate func(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error),
) error {
	if !s.Alive() {
		return err
	}
	plain, probe := s.callGenerateKey(keyobject.Seal.Mechanism(), keyobject.TestKeyTemplate(keyobject.Seal))
	if probe != nil || s.Destroy(plain) != nil {
		return err
	}
	template = slices.DeleteFunc(
		slices.Clone(template), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN },
	)
	objects, probe := generate(slices.Insert(template, 0, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	if probe == nil {
		return errors.Join(err, s.DestroyAll(objects)) // it was temporary
	}
	if !ckr.Has(probe, pkcs11.CKR_DEVICE_ERROR) {
		return err
	}
	var e *ckr.Error
	errors.As(err, &e)
	return &ckr.Error{Call: e.Call, RV: e.RV, Kind: ckr.ErrUnsupported}
}

// GenerateTestPair makes a session key of one purpose that ends with the session.
func (s *Session) GenerateTestPair(
	kt keyobject.Type, purpose keyobject.PairPurpose,
) (pkcs11.ObjectHandle, []byte, error) {
	k, err := kt.Known()
	if err != nil {
		return 0, nil, err
	}
	return s.GeneratePair(k, append(keyobject.PairTemplate(k, purpose, purpose == keyobject.DecryptPair),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)))
}

// GenerateTestKey makes a session key of one purpose that ends with the session.
func (s *Session) GenerateTestKey(p keyobject.Purpose) (pkcs11.ObjectHandle, error) {
	return s.Generate(p.Mechanism(), keyobject.TestKeyTemplate(p))
}

// GeneratePair makes a pair and reads its public key. On an error neither object is left.
func (s *Session) GeneratePair(
	kt *keyobject.TypeInfo, private []*pkcs11.Attribute,
) (h pkcs11.ObjectHandle, spki []byte, err error) {
	public, h, err := s.GenerateKeyPair(kt.Generate, keyobject.PublicTemplate(kt), private)
	if err != nil {
		return 0, nil, err
	}
	spki, err = s.publicKey(public, kt)
	err = errors.Join(err, s.Destroy(public))
	if err != nil {
		return 0, nil, errors.Join(err, s.Destroy(h))
	}
	return h, spki, nil
}

// TokenTemplate is the template of a private key that stays in the token.
func (s *Session) TokenTemplate(k keyobject.Pair, kt *keyobject.TypeInfo) ([]*pkcs11.Attribute, error) {
	decrypts := k.Purpose == keyobject.DecryptPair
	if k.Purpose == keyobject.UnwrapPair {
		var err error
		if decrypts, err = s.refusesOAEPSHA256(); err != nil {
			return nil, err
		}
	}
	template := append(
		keyobject.PairTemplate(kt, k.Purpose, decrypts), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	)
	return append(template, keyobject.TokenObject(k.ID, k.Label)...), nil
}
