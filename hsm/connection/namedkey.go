package connection

import (
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// NamedKey is a private key as people name it. A field that is empty is not compared; Label or ID is
// set.
type NamedKey struct {
	Token, Manufacturer, Model, Serial string // of the token: CK_TOKEN_INFO
	Label                              string // CKA_LABEL
	ID                                 string // CKA_ID, any bytes
}

// named is what the index knows of a NamedKey.
type named struct {
	handle pkcs11.ObjectHandle
	absent time.Time // when it was looked for in vain; zero: there is a handle
}

// searchPause is how long a NamedKey that was not found is not searched for again: a search takes time
// linear in the number of objects, and whoever opens TLS connections can ask for it.
const searchPause = time.Second

// LookupNamed gives the handle of a private key. It searches for the key once in a connection. ErrNoObject
// says that this token is another one, or has no such key or several.
func (s *Session) LookupNamed(k NamedKey) (pkcs11.ObjectHandle, error) {
	known := s.gen.findNamed(k)
	if known.handle != 0 {
		return known.handle, nil
	}
	if time.Since(known.absent) < searchPause {
		return 0, fmt.Errorf("%w: no private key of this name was found less than %v ago", ckr.ErrNoObject, searchPause)
	}
	h, err := s.searchNamed(k)
	switch {
	case err == nil:
		s.gen.rememberNamed(k, named{handle: h})
	case errors.Is(err, ckr.ErrNoObject):
		s.gen.rememberNamed(k, named{absent: time.Now()})
	}
	return h, err
}

func (s *Session) searchNamed(k NamedKey) (pkcs11.ObjectHandle, error) {
	is := infoOf(s.gen.info)
	for _, of := range []struct{ what, wanted, is string }{{"label", k.Token, is.Label},
		{"serial number", k.Serial, is.Serial}, {"model", k.Model, is.Model},
		{"manufacturer", k.Manufacturer, is.Manufacturer}} {
		if of.wanted != "" && of.wanted != of.is {
			return 0, fmt.Errorf("%w: the token has the %s %q, not %q", ckr.ErrNoObject, of.what, of.is, of.wanted)
		}
	}
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
	}
	if k.Label != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, k.Label))
	}
	if k.ID != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(k.ID)))
	}
	handles, err := s.Search(template)
	if err == nil && len(handles) == 0 {
		err = s.CheckLogin()
	}
	switch {
	case err != nil:
		return 0, err
	case len(handles) == 0:
		return 0, fmt.Errorf("%w: no private key has this label and id", ckr.ErrNoObject)
	case len(handles) > 1:
		return 0, fmt.Errorf("%w: %d private keys have this name: name one by its id", ckr.ErrNoObject, len(handles))
	}
	return handles[0], nil
}

// ForgetNamed makes the next use of a key search for it again.
func (s *Session) ForgetNamed(k NamedKey) { s.gen.rememberNamed(k, named{}) }

func (x *index) findNamed(k NamedKey) named {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.named[k]
}

func (x *index) rememberNamed(k NamedKey, as named) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.named[k] = as
}
