package service

import (
	"context"
	"crypto"
	"fmt"
	"strings"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/arn"
)

// This file has what package evidence needs to describe a key and its objects. None of it checks a
// policy: it is for administrators of the service.

// KeyAndToken returns a key and its token. The key is named by its id, an alias or an ARN; account and
// region are those of a name that has none. A custom key store is connected, unless its owner has
// disconnected it.
func (s *Service) KeyAndToken(ctx context.Context, account, region, name string) (*Key, Token, error) {
	k, err := s.find(ctx, account, region, name)
	if err != nil {
		return nil, nil, fmt.Errorf("find key %s: %w", name, err)
	}
	if err := s.connectKeyStoreOf(ctx, k); err != nil {
		return nil, nil, err
	}
	token, err := s.tokenOf(k)
	return k, token, err
}

// find is resolve without a caller.
func (s *Service) find(ctx context.Context, account, region, name string) (*Key, error) {
	resource := name
	if a, isARN := arn.Parse(name); isARN {
		account, resource = a.Account, a.Resource
		if a.Region != "" {
			region = a.Region
		}
	}
	if strings.HasPrefix(resource, aliasPrefix) {
		alias, err := s.store.Alias(ctx, account, region, resource)
		if err != nil {
			return nil, err
		}
		resource = alias.KeyID
	}
	k, err := s.store.Key(ctx, region, strings.TrimPrefix(resource, "key/"))
	if err == nil && k.Account != account {
		err = ErrNoRow
	}
	return k, err
}

// VerifyDigest tells whether a signature over a SHA-256 digest is valid for a SubjectPublicKeyInfo:
// RSASSA-PKCS1-v1_5 or ECDSA. It fails when the public key can't be read.
func VerifyDigest(spki, digest, signature []byte) (bool, error) {
	return verifyOnHost(spki, hsm.Scheme{Algorithm: hsm.PKCS1v15, Hash: crypto.SHA256}, digest, signature)
}
