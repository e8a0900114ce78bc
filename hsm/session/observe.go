package session

import (
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
)

// Call is a call of a PKCS#11 function for somebody who observes them. It has none of the call's arguments.
type Call struct {
	Function     string // of PKCS#11, such as C_Encrypt; that of an Init call only if it failed. Or Waiting
	Slot         uint
	Profile      string // name of the token's profile
	Begun, Ended time.Time
	Failure      string // the return value, such as CKR_DEVICE_ERROR; empty for CKR_OK
}

// Waiting is the Function of the time until a session was free, which is no call.
const Waiting = "wait for a session"

// Observe tells of the calls in the session until the returned function is called. The first is that of
// waiting, which began at a time.
func (s *Session) Observe(tell func(Call), begun time.Time) (end func()) {
	before := s.Module
	o := &observed{Module: before, tell: tell, of: Call{Slot: s.Slot, Profile: s.Profile.Name()}}
	o.called(Waiting, begun, nil)
	s.Module = o
	return func() { s.Module = before }
}

// observed is a Module that tells of the calls which are made for requests in sessions.
type observed struct {
	cryptoki.Module
	tell func(Call)
	of   Call // what all calls share
}

func (o *observed) called(function string, begun time.Time, err error) {
	c := o.of
	c.Function, c.Begun, c.Ended, c.Failure = function, begun, time.Now(), ckr.Name(err)
	o.tell(c)
}

// called1 tells of a call that gives a value and an error.
func called1[T any](o *observed, function string, call func() (T, error)) (T, error) {
	begun := time.Now()
	v, err := call()
	o.called(function, begun, err)
	return v, err
}

// called0 tells of a call that gives an error.
func called0(o *observed, function string, call func() error) error {
	begun := time.Now()
	err := call()
	o.called(function, begun, err)
	return err
}

func (o *observed) SessionState(s cryptoki.Session) (uint, error) {
	return called1(o, "C_GetSessionInfo", func() (uint, error) { return o.Module.SessionState(s) })
}

func (o *observed) Random(s cryptoki.Session, n int) ([]byte, error) {
	return called1(o, "C_GenerateRandom", func() ([]byte, error) { return o.Module.Random(s, n) })
}

func (o *observed) FindInit(s cryptoki.Session, template []*cryptoki.Attribute) error {
	return called0(o, "C_FindObjectsInit", func() error { return o.Module.FindInit(s, template) })
}

func (o *observed) FindNext(s cryptoki.Session) ([]cryptoki.Object, error) {
	return called1(o, "C_FindObjects", func() ([]cryptoki.Object, error) { return o.Module.FindNext(s) })
}

func (o *observed) FindFinal(s cryptoki.Session) error {
	return called0(o, "C_FindObjectsFinal", func() error { return o.Module.FindFinal(s) })
}

func (o *observed) DestroyObject(s cryptoki.Session, h cryptoki.Object) error {
	return called0(o, "C_DestroyObject", func() error { return o.Module.DestroyObject(s, h) })
}

func (o *observed) Value(s cryptoki.Session, h cryptoki.Object, n int) ([]byte, error) {
	return called1(o, "C_GetAttributeValue", func() ([]byte, error) { return o.Module.Value(s, h, n) })
}

func (o *observed) Attributes(s cryptoki.Session, h cryptoki.Object, types ...uint) ([][]byte, error) {
	return called1(o, "C_GetAttributeValue", func() ([][]byte, error) { return o.Module.Attributes(s, h, types...) })
}

func (o *observed) CreateObject(s cryptoki.Session, template []*cryptoki.Attribute) (cryptoki.Object, error) {
	return called1(o, "C_CreateObject", func() (cryptoki.Object, error) { return o.Module.CreateObject(s, template) })
}

func (o *observed) SetAttributes(s cryptoki.Session, h cryptoki.Object, template []*cryptoki.Attribute) error {
	return called0(o, "C_SetAttributeValue", func() error { return o.Module.SetAttributes(s, h, template) })
}

func (o *observed) CopyObject(
	s cryptoki.Session, h cryptoki.Object, template []*cryptoki.Attribute,
) (cryptoki.Object, error) {
	return called1(o, "C_CopyObject", func() (cryptoki.Object, error) { return o.Module.CopyObject(s, h, template) })
}

func (o *observed) GenerateKey(
	s cryptoki.Session, mechanism uint, template []*cryptoki.Attribute,
) (cryptoki.Object, error) {
	return called1(o, "C_GenerateKey", func() (cryptoki.Object, error) {
		return o.Module.GenerateKey(s, mechanism, template)
	})
}

func (o *observed) GenerateKeyPair(
	s cryptoki.Session, mechanism uint, public, private []*cryptoki.Attribute,
) (publicKey, privateKey cryptoki.Object, err error) {
	err = called0(o, "C_GenerateKeyPair", func() error {
		publicKey, privateKey, err = o.Module.GenerateKeyPair(s, mechanism, public, private)
		return err
	})
	return publicKey, privateKey, err
}

func (o *observed) WrapKey(
	s cryptoki.Session, mechanism uint, parameter []byte, wrapping, key cryptoki.Object, n int,
) ([]byte, error) {
	return called1(o, "C_WrapKey", func() ([]byte, error) {
		return o.Module.WrapKey(s, mechanism, parameter, wrapping, key, n)
	})
}

func (o *observed) UnwrapKey(
	s cryptoki.Session, mechanism uint, parameter []byte, unwrapping cryptoki.Object, wrapped []byte,
	template []*cryptoki.Attribute,
) (cryptoki.Object, error) {
	return called1(o, "C_UnwrapKey", func() (cryptoki.Object, error) {
		return o.Module.UnwrapKey(s, mechanism, parameter, unwrapping, wrapped, template)
	})
}

func (o *observed) DeriveECDH(
	s cryptoki.Session, base cryptoki.Object, kdf uint, peer []byte, template []*cryptoki.Attribute,
) (cryptoki.Object, error) {
	return called1(o, "C_DeriveKey", func() (cryptoki.Object, error) {
		return o.Module.DeriveECDH(s, base, kdf, peer, template)
	})
}

func (o *observed) Decapsulate(
	s cryptoki.Session, mechanism uint, key cryptoki.Object, ciphertext []byte, template []*cryptoki.Attribute,
) (cryptoki.Object, error) {
	return called1(o, "C_DecapsulateKey", func() (cryptoki.Object, error) {
		return o.Module.Decapsulate(s, mechanism, key, ciphertext, template)
	})
}

func (o *observed) GCM(
	s cryptoki.Session, op cryptoki.Operation, key cryptoki.Object, iv, aad, in, room []byte,
) (out []byte, started bool, err error) {
	begun := time.Now()
	out, started, err = o.Module.GCM(s, op, key, iv, aad, in, room)
	o.called(functionOf(op, started), begun, err)
	return out, started, err
}

func (o *observed) Operate(
	s cryptoki.Session, op cryptoki.Operation, mechanism uint, parameter []byte, key cryptoki.Object, in []byte, n int,
) (out []byte, started bool, err error) {
	begun := time.Now()
	out, started, err = o.Module.Operate(s, op, mechanism, parameter, key, in, n)
	o.called(functionOf(op, started), begun, err)
	return out, started, err
}

func (o *observed) Verify(s cryptoki.Session, mechanism uint, key cryptoki.Object, message, signature []byte) error {
	return called0(o, "C_Verify", func() error { return o.Module.Verify(s, mechanism, key, message, signature) })
}
