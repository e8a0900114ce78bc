package service

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

// keyUse is one operation's wish for a key, and what policies and grants may ask of it.
type keyUse struct {
	op          string   // name of the operation
	action      string   // permission without "kms:", when it is not the operation's name
	keyID       string   // as the client gave it
	grantTokens []string // as the client gave them
	embedded    bool     // the ciphertext names the key, and not the client
	tokenGrants []*Grant // that grantTokens belong to; readTokens sets it

	context           map[string]string // EncryptionContext
	algorithm         string            // of encryption, signing, MAC or agreement
	messageType       string
	pairSpec          string // DataKeyPairSpec
	tags              []Tag
	tagKeys           []string
	grant             *Grant // that CreateGrant is to make
	newKey            *Key   // that CreateKey is to make
	multiRegion       bool
	bypassLockout     bool
	rotationPeriod    int32 // days
	pendingWindow     int32 // days
	wrappingAlgorithm string
	wrappingSpec      string
	expirationModel   string
	validTo           time.Time
	replicaRegion     string
	primaryRegion     string
	otherKey          string // id of the other key of ReEncrypt
}

// keyFor is the one way to a key: it resolves the identifier, authorises the caller, and checks the key's state
// and usage. The key is shared; it must not be modified.
func (s *Service) keyFor(ctx context.Context, c *Caller, use keyUse) (*Key, error) {
	if err := s.readTokens(ctx, &use); err != nil {
		return nil, err
	}
	k, err := s.resolve(ctx, c, use)
	if err != nil {
		return nil, err
	}
	return k, s.mayUse(ctx, c, use, k)
}

// mayUse is the part of keyFor that follows once the key is known.
func (s *Service) mayUse(ctx context.Context, c *Caller, use keyUse, k *Key) error {
	s.noteKey(ctx, k)
	if err := s.authorise(ctx, c, use, k); err != nil {
		return err
	}
	return s.checkKey(ctx, operations[use.op], k)
}

// resolve finds the key that a client's KeyId names: a key id, a key ARN and, where the operation takes them, an
// alias or an alias ARN (AWS page "Key identifiers (KeyId)"). Keys still being made or being destroyed don't exist.
func (s *Service) resolve(ctx context.Context, c *Caller, use keyUse) (*Key, error) {
	id := use.keyID
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
	if strings.HasPrefix(resource, aliasPrefix) && operations[use.op].Key.ByAlias {
		return s.resolveAlias(ctx, c, use, account, resource)
	}
	if strings.HasPrefix(resource, "alias/") && resource != id {
		return nil, apierror.New(apierror.InvalidArn, "Key Aliases are not supported for this operation")
	}
	if !arn.IsKeyID(resource) {
		return nil, apierror.New(apierror.NotFound, "Invalid keyId '%s'", id)
	}
	k, err := s.key(ctx, c.Region, resource)
	if errors.Is(err, ErrNoRow) || (err == nil && k.Account != account) {
		return nil, s.unknown(ctx, c, use, account, "key/"+resource)
	}
	return k, apierror.FromStore(err)
}

func (s *Service) resolveAlias(ctx context.Context, c *Caller, use keyUse, account, name string) (*Key, error) {
	a, err := s.store.Alias(ctx, account, c.Region, name)
	if err == nil {
		var k *Key
		if k, err = s.key(ctx, a.Region, a.KeyID); err == nil {
			return k, nil
		}
	}
	if errors.Is(err, ErrNoRow) && account != c.Account {
		return nil, s.unknown(ctx, c, use, account, name)
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
	if err == nil && hidden(k) {
		return nil, ErrNoRow
	}
	return k, err
}

func hidden(k *Key) bool { return k.State == StateCreating || k.State == StateDeleting }

// updateKey changes a key in one transaction, checking its state inside it.
func (s *Service) updateKey(ctx context.Context, op string, k *Key, change func(*Key) error) error {
	err := s.store.UpdateKey(ctx, k.Region, k.ID, func(k *Key) error {
		if hidden(k) {
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

// readTokens finds the grants that the request's grant tokens belong to. A token of a grant that has ended is as invalid
// as one that never was.
func (s *Service) readTokens(ctx context.Context, use *keyUse) error {
	use.tokenGrants = nil
	for _, token := range use.grantTokens {
		g, err := s.grantOfToken(ctx, token)
		if err != nil {
			return err
		}
		use.tokenGrants = append(use.tokenGrants, g)
	}
	return nil
}
