// Package keyobject says what keys are as objects of a token: their ids, types and purposes, the
// templates that they are made from, and how their public and private halves are encoded outside of
// it. It is pure: it calls no token.
package keyobject

import (
	"encoding/hex"
	"fmt"
)

// ID is the CKA_ID of a token object: 16 random bytes, recorded by the caller before the object exists.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives 32 hex digits.
func (id ID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText gives.
func (id *ID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("object id has %d digits, not %d", len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// TokenObject gives the id itself: the key is a token object.
func (id ID) TokenObject() ID { return id }
