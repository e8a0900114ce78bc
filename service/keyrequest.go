package service

import (
	"context"
	"errors"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
)

// keyRequest is what an operation asks of a key.
type keyRequest struct {
	operation   string   // its name in the table
	permission  string   // that is needed of this key; empty for the one with the operation's name
	keyID       string   // as the client gave it
	grantTokens []string // as the client gave them
	tokenGrants []*Grant // that grantTokens belong to; readTokens sets it
	// fromCiphertext tells that the ciphertext names the key, and not the client.
	fromCiphertext bool
	policyInput
}

// policyInput is what policies and grants may ask of a request, besides the global condition keys.
// An operation sets what its requests have.
type policyInput struct {
	encryptionContext map[string]string
	tags              []Tag // aws:RequestTag/...
	conditions        conditionSource
	grant             *Grant // that CreateGrant makes or RetireGrant ends
	newKey            *Key   // that CreateKey or ReplicateKey makes
}

// keyFor is the only way for an operation to get a key: it resolves the identifier, authorises the
// caller, and checks the key's state and usage. The key is shared; it must not be modified.
func (s *Service) keyFor(ctx context.Context, c *iam.Caller, r keyRequest) (*Key, error) {
	if err := s.readTokens(ctx, &r); err != nil {
		return nil, err
	}
	k, err := s.resolve(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return k, s.mayUse(ctx, c, r, k)
}

// mayUse is the second half of keyFor: it authorises the caller and checks the key.
func (s *Service) mayUse(ctx context.Context, c *iam.Caller, r keyRequest, k *Key) error {
	if err := s.recorded(ctx, c, k, s.authorise(ctx, c, r, k)); err != nil {
		return err
	}
	op := operations[r.operation]
	if err := s.chargeForKey(c, op, k); err != nil {
		return err
	}
	return s.checkKey(ctx, op, k)
}

// resolve finds the key that a client's KeyId names: a key id, a key ARN and, where the operation
// takes them, an alias or an alias ARN (AWS page "Key identifiers (KeyId)"). Keys still being made
// or being destroyed don't exist.
func (s *Service) resolve(ctx context.Context, c *iam.Caller, r keyRequest) (*Key, error) {
	id := r.keyID
	account, resource := c.Account, id
	if strings.HasPrefix(id, "arn:") {
		a, ok := arn.Parse(id)
		if !ok {
			return nil, apierror.New(apierror.NotFound, "Invalid arn %s", id)
		}
		if a.Region != "" && a.Region != c.Region {
			return nil, apierror.New(apierror.NotFound, "Invalid arn %s", a.Region)
		}
		account, resource = a.Account, a.Resource
		if key, isKey := strings.CutPrefix(resource, "key/"); isKey {
			resource = key
		} else if !strings.HasPrefix(resource, "alias/") {
			return nil, apierror.New(apierror.NotFound, "Invalid arn %s", id)
		}
	}
	if strings.HasPrefix(resource, aliasPrefix) && operations[r.operation].Key.ByAlias {
		return s.resolveAlias(ctx, c, r, account, resource)
	}
	if strings.HasPrefix(resource, "alias/") && resource != id {
		return nil, apierror.New(apierror.InvalidArn, "Key Aliases are not supported for this operation")
	}
	if !arn.IsKeyID(resource) {
		return nil, apierror.New(apierror.NotFound, "Invalid keyId '%s'", id)
	}
	k, err := s.key(ctx, c.Region, resource)
	if errors.Is(err, ErrNoRow) || (err == nil && k.Account != account) {
		return nil, s.unknown(ctx, c, r, account, "key/"+resource)
	}
	return k, apierror.FromStore(err)
}

func (s *Service) resolveAlias(ctx context.Context, c *iam.Caller, r keyRequest, account, name string) (*Key, error) {
	a, err := s.store.Alias(ctx, account, c.Region, name)
	if err == nil {
		var k *Key
		if k, err = s.key(ctx, a.Region, a.KeyID); err == nil {
			return k, nil
		}
	}
	if errors.Is(err, ErrNoRow) && account != c.Account {
		return nil, s.unknown(ctx, c, r, account, name)
	}
	if errors.Is(err, ErrNoRow) {
		return nil, s.noAlias(ctx, account, c.Region, name)
	}
	return nil, apierror.FromStore(err)
}

func (s *Service) noAlias(ctx context.Context, account, region, name string) error {
	return apierror.New(apierror.NotFound, "Alias %s is not found.", s.arns(ctx).Of(account, region, name))
}

// key is Store.Key for what clients may see.
func (s *Service) key(ctx context.Context, region, id string) (*Key, error) {
	k, err := s.store.Key(ctx, region, id)
	if err == nil && isTransient(k) {
		return nil, ErrNoRow
	}
	return k, err
}

// isTransient tells whether a key is being made or destroyed: to clients it does not exist.
func isTransient(k *Key) bool { return k.State == StateCreating || k.State == StateDeleting }

// updateKey changes a key in one transaction, checking its state inside it.
func (s *Service) updateKey(ctx context.Context, op string, k *Key, change func(*Key) error) error {
	err := s.store.UpdateKey(ctx, k.Region, k.ID, func(k *Key) error {
		if isTransient(k) {
			return ErrNoRow
		}
		if err := s.checkState(ctx, operations[op], k); err != nil {
			return err
		}
		return change(k)
	})
	if errors.Is(err, ErrNoRow) {
		return apierror.New(apierror.NotFound, "Key '%s' does not exist", k.ARN(s.arns(ctx)))
	}
	return apierror.FromStore(err)
}

// aliasIn is the alias in an alias name or an alias ARN, or empty.
func aliasIn(keyID string) string {
	if i := strings.Index(keyID, aliasPrefix); i >= 0 {
		return keyID[i:]
	}
	return ""
}

// readTokens finds the grants that the request's grant tokens belong to. The token of a grant that
// has ended is invalid.
func (s *Service) readTokens(ctx context.Context, r *keyRequest) error {
	r.tokenGrants = nil
	for _, token := range r.grantTokens {
		g, err := s.grantOfToken(ctx, token)
		if err != nil {
			return err
		}
		r.tokenGrants = append(r.tokenGrants, g)
	}
	return nil
}
