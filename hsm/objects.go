package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/connection"
)

// GenerateSecretKey generates a token object: sensitive, never extractable, not modifiable. The
// call must not be repeated: after an error the object may exist. Destroy undoes it.
func (t *Token) GenerateSecretKey(ctx context.Context, k SecretKey) error {
	if err := k.Purpose.Check(); err != nil {
		return fmt.Errorf("generate secret key: %w", err)
	}
	length := pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, k.Purpose.Size())
	template := append([]*pkcs11.Attribute{length}, k.Template()...)
	_, err := connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Generate(k.Purpose.Mechanism(), template)
		if err == nil {
			err = s.Remember(k.ID, h)
		}
		return struct{}{}, err
	})
	return err
}

// GenerateKeyPair generates a key pair and returns the DER SubjectPublicKeyInfo of its public key.
// The private key is a token object: sensitive, never extractable, not modifiable. The public key
// is a session object that ends with the call. RSA keys take seconds: Config.GenerateTimeout is the
// deadline. Like GenerateSecretKey, the call must not be repeated.
func (t *Token) GenerateKeyPair(ctx context.Context, k KeyPair) (spki []byte, err error) {
	kt, err := k.Check()
	if err != nil {
		return nil, fmt.Errorf("generate key pair: %w", err)
	}
	return connection.RunGenerate(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		template, err := s.TokenTemplate(k, kt)
		if err != nil {
			return nil, err
		}
		private, spki, err := s.GeneratePair(kt, template)
		if err != nil {
			return nil, err
		}
		return spki, s.Remember(k.ID, private)
	})
}

// Destroy destroys the token objects with these ids. An id without an object is no error, so
// that an interrupted Destroy can be repeated; the token itself is asked whether there is one.
func (t *Token) Destroy(ctx context.Context, ids ...ObjectID) error {
	for _, id := range ids {
		_, err := connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
			if err := s.AwaitIndex(); err != nil { // or the index could remember the object after we have forgotten it
				return struct{}{}, err
			}
			h, err := s.LookupObject(id)
			if errors.Is(err, ErrNoObject) {
				h, err = s.Locate(id) // somebody else may have made it
			}
			if errors.Is(err, ErrNoObject) {
				return struct{}{}, nil
			}
			if err != nil {
				return struct{}{}, err
			}
			s.Forget(id)
			err = s.Destroy(h)
			if ckr.Has(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) && s.LoggedIn() {
				err = nil // somebody else has destroyed it
			}
			return struct{}{}, err
		})
		if err != nil {
			return fmt.Errorf("destroy object %s: %w", id, err)
		}
	}
	return nil
}

// Missing gives those of some objects that the token does not have. The token itself is asked for
// each, since another connection may have destroyed one that this one still knows. That takes time
// linear in the number of the token's objects, so it is not for requests.
func (t *Token) Missing(ctx context.Context, ids ...ObjectID) (missing []ObjectID, err error) {
	for _, id := range ids {
		_, err := connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
			_, err := s.Locate(id)
			return struct{}{}, err
		})
		switch {
		case errors.Is(err, ErrNoObject):
			missing = append(missing, id)
		case err != nil:
			return nil, fmt.Errorf("look for object %s: %w", id, err)
		}
	}
	return missing, nil
}

// Objects lists the private token objects with a 16-byte CKA_ID whose label begins with prefix. It
// takes time linear in their number and is for inspection, not for requests: Config.GenerateTimeout
// is its deadline.
func (t *Token) Objects(ctx context.Context, prefix string) ([]Object, error) {
	return connection.RunLong(ctx, t.link, func(s *connection.Session) ([]Object, error) {
		var objects []Object
		err := s.Visit(func(_ pkcs11.ObjectHandle, o Object) {
			if strings.HasPrefix(o.Label, prefix) {
				objects = append(objects, o)
			}
		})
		return objects, err
	})
}

// Attributes reads the attributes of a key.
func (t *Token) Attributes(ctx context.Context, key Key) (Attributes, error) {
	return connection.Run(ctx, t.link, func(s *connection.Session) (Attributes, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return Attributes{}, err
		}
		return s.Describe(h)
	})
}

// Locate searches for an object that another connection has made since this one began. It takes
// time linear in the number of objects.
func (t *Token) Locate(ctx context.Context, id ObjectID) error {
	_, err := connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Locate(id)
		if err == nil {
			err = s.Remember(id, h)
		}
		return struct{}{}, err
	})
	return err
}
