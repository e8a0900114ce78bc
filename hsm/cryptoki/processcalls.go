package cryptoki

import "github.com/miekg/pkcs11"

// The calls of a module, sent to its process. Each is written as calls reads it.

// Info implements Module.
func (p *Process) Info() (pkcs11.Info, error) {
	d, err := p.request(callInfo, func(*encoder) {})
	if err != nil {
		return pkcs11.Info{}, err
	}
	return d.info(), d.end()
}

// Slots implements Module.
func (p *Process) Slots() ([]uint, error) {
	return p.list("C_GetSlotList", MostSlots, callSlots, func(*encoder) {})
}

// TokenInfo implements Module.
func (p *Process) TokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	d, err := p.request(callTokenInfo, func(e *encoder) { e.word(slot) })
	if err != nil {
		return pkcs11.TokenInfo{}, err
	}
	return d.tokenInfo(), d.end()
}

// Mechanisms implements Module.
func (p *Process) Mechanisms(slot uint) ([]uint, error) {
	return p.list("C_GetMechanismList", MostMechanisms, callMechanisms, func(e *encoder) { e.word(slot) })
}

// MechanismFlags implements Module.
func (p *Process) MechanismFlags(slot, mechanism uint) (uint, error) {
	return p.one(callMechanismFlags, func(e *encoder) { e.word(slot); e.word(mechanism) })
}

// OpenSession implements Module.
func (p *Process) OpenSession(slot uint) (Session, error) {
	s, err := p.one(callOpenSession, func(e *encoder) { e.word(slot) })
	return Session(s), err
}

// CloseSession implements Module.
func (p *Process) CloseSession(s Session) error {
	return p.plain(callCloseSession, func(e *encoder) { e.word(uint(s)) })
}

// SessionState implements Module.
func (p *Process) SessionState(s Session) (uint, error) {
	return p.one(callSessionState, func(e *encoder) { e.word(uint(s)) })
}

// Login implements Module.
func (p *Process) Login(s Session, pin string) error {
	return p.plain(callLogin, func(e *encoder) { e.word(uint(s)); e.text(pin) })
}

// Random implements Module.
func (p *Process) Random(s Session, n int) ([]byte, error) {
	return p.output("C_GenerateRandom", n, callRandom, func(e *encoder) { e.word(uint(s)); e.word(uint(n)) })
}

// FindInit implements Module.
func (p *Process) FindInit(s Session, template []*Attribute) error {
	return p.plain(callFindInit, func(e *encoder) { e.word(uint(s)); e.template(template) })
}

// FindNext implements Module.
func (p *Process) FindNext(s Session) ([]Object, error) {
	words, err := p.list("C_FindObjects", MostFound, callFindNext, func(e *encoder) { e.word(uint(s)) })
	objects := make([]Object, len(words))
	for i, w := range words {
		objects[i] = Object(w)
	}
	return objects, err
}

// FindFinal implements Module.
func (p *Process) FindFinal(s Session) error {
	return p.plain(callFindFinal, func(e *encoder) { e.word(uint(s)) })
}

// DestroyObject implements Module.
func (p *Process) DestroyObject(s Session, o Object) error {
	return p.plain(callDestroyObject, func(e *encoder) { e.word(uint(s)); e.word(uint(o)) })
}

// Value implements Module.
func (p *Process) Value(s Session, o Object, n int) ([]byte, error) {
	return p.output("C_GetAttributeValue of CKA_VALUE", n, callValue, func(e *encoder) {
		e.word(uint(s))
		e.word(uint(o))
		e.word(uint(n))
	})
}

// Attributes implements Module.
func (p *Process) Attributes(s Session, o Object, types ...uint) ([][]byte, error) {
	d, err := p.request(callAttributes, func(e *encoder) {
		e.word(uint(s))
		e.word(uint(o))
		e.words(types)
	})
	if d == nil {
		return nil, err
	}
	values := make([][]byte, d.count(4))
	for i := range values {
		if values[i] = d.bytes(); len(values[i]) > AttributeRoom {
			d.bad = true
		}
	}
	if end := d.end(); end != nil || len(values) != len(types) {
		return nil, errFrame
	}
	return values, err
}

// CreateObject implements Module.
func (p *Process) CreateObject(s Session, template []*Attribute) (Object, error) {
	return p.object(callCreateObject, func(e *encoder) { e.word(uint(s)); e.template(template) })
}

// SetAttributes implements Module.
func (p *Process) SetAttributes(s Session, o Object, template []*Attribute) error {
	return p.plain(callSetAttributes, func(e *encoder) {
		e.word(uint(s))
		e.word(uint(o))
		e.template(template)
	})
}

// CopyObject implements Module.
func (p *Process) CopyObject(s Session, o Object, template []*Attribute) (Object, error) {
	return p.object(callCopyObject, func(e *encoder) {
		e.word(uint(s))
		e.word(uint(o))
		e.template(template)
	})
}

// GenerateKey implements Module.
func (p *Process) GenerateKey(s Session, mechanism uint, template []*Attribute) (Object, error) {
	return p.object(callGenerateKey, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.template(template)
	})
}

// GenerateKeyPair implements Module.
func (p *Process) GenerateKeyPair(s Session, mechanism uint, public, private []*Attribute) (Object, Object, error) {
	d, err := p.request(callGenerateKeyPair, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.template(public)
		e.template(private)
	})
	if err != nil {
		return 0, 0, err
	}
	pub, priv := d.object(), d.object()
	return pub, priv, d.end()
}

// WrapKey implements Module.
func (p *Process) WrapKey(s Session, mechanism uint, parameter []byte, wrapping, key Object, n int) ([]byte, error) {
	return p.output("C_WrapKey", n, callWrapKey, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.bytes(parameter)
		e.word(uint(wrapping))
		e.word(uint(key))
		e.word(uint(n))
	})
}

// UnwrapKey implements Module.
func (p *Process) UnwrapKey(
	s Session, mechanism uint, parameter []byte, unwrapping Object, wrapped []byte, template []*Attribute,
) (Object, error) {
	return p.object(callUnwrapKey, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.bytes(parameter)
		e.word(uint(unwrapping))
		e.bytes(wrapped)
		e.template(template)
	})
}

// DeriveECDH implements Module.
func (p *Process) DeriveECDH(s Session, base Object, kdf uint, peer []byte, template []*Attribute) (Object, error) {
	return p.object(callDeriveECDH, func(e *encoder) {
		e.word(uint(s))
		e.word(uint(base))
		e.word(kdf)
		e.bytes(peer)
		e.template(template)
	})
}

// Decapsulate implements Module.
func (p *Process) Decapsulate(
	s Session, mechanism uint, key Object, ciphertext []byte, template []*Attribute,
) (Object, error) {
	return p.object(callDecapsulate, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.word(uint(key))
		e.bytes(ciphertext)
		e.template(template)
	})
}

// GCM implements Module.
func (p *Process) GCM(s Session, o Operation, key Object, iv, aad, in, room []byte) ([]byte, bool, error) {
	d, err := p.request(callGCM, func(e *encoder) {
		e.word(uint(s))
		e.byte(byte(o))
		e.word(uint(key))
		e.bytes(iv)
		e.bytes(aad)
		e.bytes(in)
		e.word(uint(len(room)))
	})
	if d == nil {
		return nil, false, err
	}
	out, started := d.bytes(), d.byte() == 1
	drawn := d.bytes()
	defer clear(out)
	if end := d.end(); end != nil || len(out) > len(room) || len(drawn) != len(iv) {
		return nil, false, errFrame
	}
	copy(iv, drawn)
	if err != nil {
		return nil, started, err
	}
	return room[:copy(room, out)], started, nil
}

// Operate implements Module.
func (p *Process) Operate(
	s Session, o Operation, mechanism uint, parameter []byte, key Object, in []byte, n int,
) ([]byte, bool, error) {
	d, err := p.request(callOperate, func(e *encoder) {
		e.word(uint(s))
		e.byte(byte(o))
		e.word(mechanism)
		e.bytes(parameter)
		e.word(uint(key))
		e.bytes(in)
		e.word(uint(n))
	})
	if d == nil {
		return nil, false, err
	}
	out, started := d.bytes(), d.byte() == 1
	if end := d.end(); end != nil || len(out) > n {
		clear(out)
		return nil, false, errFrame
	}
	return out, started, err
}

// Verify implements Module.
func (p *Process) Verify(s Session, mechanism uint, key Object, message, signature []byte) error {
	return p.plain(callVerify, func(e *encoder) {
		e.word(uint(s))
		e.word(mechanism)
		e.word(uint(key))
		e.bytes(message)
		e.bytes(signature)
	})
}
