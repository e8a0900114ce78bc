package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"github.com/verenc/kms/hsm/selftest"
)

// GenerateSecretKey is Token's, on one member.
func (g *Group) GenerateSecretKey(ctx context.Context, k SecretKey) error {
	return change(g, func(t *Token) error { return t.GenerateSecretKey(ctx, k) })
}

// GenerateKeyPair is Token's, on one member.
func (g *Group) GenerateKeyPair(ctx context.Context, k KeyPair) (spki []byte, err error) {
	err = change(g, func(t *Token) (err error) { spki, err = t.GenerateKeyPair(ctx, k); return err })
	return spki, err
}

// GenerateWrappingKey is Token's, on one member.
func (g *Group) GenerateWrappingKey(ctx context.Context, id ObjectID, label string) error {
	return change(g, func(t *Token) error { return t.GenerateWrappingKey(ctx, id, label) })
}

// GenerateWrappedKey is Token's, on any member that has the wrapping key.
func (g *Group) GenerateWrappedKey(ctx context.Context, k WrappedKey) (wrapped, spki []byte, err error) {
	both, err := use(ctx, g, func(t *Token) (both [2][]byte, err error) {
		both[0], both[1], err = t.GenerateWrappedKey(ctx, k)
		return both, err
	}, k)
	return both[0], both[1], err
}

// Persist is Token's, on one member.
func (g *Group) Persist(ctx context.Context, k WrappedKey, id ObjectID, label string) error {
	return change(g, func(t *Token) error { return t.Persist(ctx, k, id, label) })
}

// Evict is Token's, on every member that is connected.
func (g *Group) Evict(ctx context.Context, k WrappedKey) error {
	var errs []error
	for _, t := range g.connected() {
		errs = append(errs, t.Evict(ctx, k))
	}
	return errors.Join(errs...)
}

// Import is Token's, on one member.
func (g *Group) Import(ctx context.Context, in Import) (imported Imported, err error) {
	err = change(g, func(t *Token) (err error) { imported, err = t.Import(ctx, in); return err })
	return imported, err
}

// Destroy is Token's, on every member that is connected: a clone may be there before its original's
// end is cloned. It fails when no member is connected.
func (g *Group) Destroy(ctx context.Context, ids ...ObjectID) error {
	members, err := g.changeable()
	if err != nil {
		return fmt.Errorf("destroy objects: %w", err)
	}
	var errs []error
	for _, t := range members {
		errs = append(errs, t.Destroy(ctx, ids...))
	}
	return errors.Join(errs...)
}

// KWPMechanism is Token's.
func (g *Group) KWPMechanism(ctx context.Context) (uint, error) {
	return use(ctx, g, func(t *Token) (uint, error) { return t.KWPMechanism(ctx) })
}

// CanGenerateWrapped reports whether every member that is connected can.
func (g *Group) CanGenerateWrapped(ctx context.Context, n int) (bool, error) {
	for _, t := range g.members {
		if len(g.members) > 1 && !t.link.IsConnected() {
			continue
		}
		if can, err := t.CanGenerateWrapped(ctx, n); err != nil || !can {
			return false, err
		}
	}
	return true, nil
}

// Missing gives those of some objects that no member which is connected has: a new one is cloned a
// little later.
func (g *Group) Missing(ctx context.Context, ids ...ObjectID) ([]ObjectID, error) {
	members, err := g.changeable()
	if err != nil {
		return nil, err
	}
	for _, t := range members {
		if ids, err = t.Missing(ctx, ids...); err != nil || len(ids) == 0 {
			return nil, err
		}
	}
	return ids, nil
}

// Random is Token's.
func (g *Group) Random(ctx context.Context, n int) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Random(ctx, n) })
}

// Encrypt is Token's.
func (g *Group) Encrypt(ctx context.Context, key Key, plaintext, aad []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Encrypt(ctx, key, plaintext, aad) }, key)
}

// Decrypt is Token's.
func (g *Group) Decrypt(ctx context.Context, key Key, box, aad []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Decrypt(ctx, key, box, aad) }, key)
}

// GenerateSealed is Token's.
func (g *Group) GenerateSealed(ctx context.Context, key Key, n int, aad []byte) (Sealed, error) {
	return use(ctx, g, func(t *Token) (Sealed, error) { return t.GenerateSealed(ctx, key, n, aad) }, key)
}

// GenerateWrapped is Token's.
func (g *Group) GenerateWrapped(ctx context.Context, keys SealingKeys, n int, aad []byte) ([]byte, error) {
	return use(
		ctx, g, func(t *Token) ([]byte, error) { return t.GenerateWrapped(ctx, keys, n, aad) },
		keys.Seal, keys.Wrap,
	)
}

// DecryptWrapped is Token's.
func (g *Group) DecryptWrapped(ctx context.Context, keys SealingKeys, box []byte, n int, aad []byte) ([]byte, error) {
	return use(
		ctx, g, func(t *Token) ([]byte, error) { return t.DecryptWrapped(ctx, keys, box, n, aad) },
		keys.Seal, keys.Wrap,
	)
}

// Sign is Token's.
func (g *Group) Sign(ctx context.Context, key Key, kt KeyType, s Scheme, message []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Sign(ctx, key, kt, s, message) }, key)
}

// VerifyMu is Token's.
func (g *Group) VerifyMu(ctx context.Context, kt KeyType, spki, mu, signature []byte) (bool, error) {
	return use(ctx, g, func(t *Token) (bool, error) { return t.VerifyMu(ctx, kt, spki, mu, signature) })
}

// Decapsulate is Token's.
func (g *Group) Decapsulate(ctx context.Context, key Key, kt KeyType, ciphertext []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Decapsulate(ctx, key, kt, ciphertext) }, key)
}

// DecryptOAEP is Token's.
func (g *Group) DecryptOAEP(
	ctx context.Context, key Key, kt KeyType, hash crypto.Hash, ciphertext []byte,
) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.DecryptOAEP(ctx, key, kt, hash, ciphertext) }, key)
}

// MAC is Token's.
func (g *Group) MAC(ctx context.Context, key Key, hash crypto.Hash, message []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.MAC(ctx, key, hash, message) }, key)
}

// Derive is Token's.
func (g *Group) Derive(ctx context.Context, key Key, kt KeyType, peer []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.Derive(ctx, key, kt, peer) }, key)
}

// GenerateWrappedPair is Token's.
func (g *Group) GenerateWrappedPair(
	ctx context.Context, keys SealingKeys, kt KeyType, aad []byte,
) (spki, box []byte, err error) {
	both, err := use(ctx, g, func(t *Token) (both [2][]byte, err error) {
		both[0], both[1], err = t.GenerateWrappedPair(ctx, keys, kt, aad)
		return both, err
	}, keys.Seal, keys.Wrap)
	return both[0], both[1], err
}

// DecryptWrappedPair is Token's.
func (g *Group) DecryptWrappedPair(ctx context.Context, keys SealingKeys, box, aad []byte) ([]byte, error) {
	return use(
		ctx, g, func(t *Token) ([]byte, error) { return t.DecryptWrappedPair(ctx, keys, box, aad) },
		keys.Seal, keys.Wrap,
	)
}

// GenerateExportedPair is Token's.
func (g *Group) GenerateExportedPair(ctx context.Context, kt KeyType) (spki, pkcs8 []byte, err error) {
	p, err := use(ctx, g, func(t *Token) (p exportedPair, err error) {
		p.spki, p.private, err = t.GenerateExportedPair(ctx, kt)
		return p, err
	})
	return p.spki, p.private, err
}

// Ping succeeds when one member answers.
func (g *Group) Ping(ctx context.Context) error {
	_, err := use(ctx, g, func(t *Token) (struct{}, error) { return struct{}{}, t.Ping(ctx) })
	return err
}

// SelfTest is that of every connected member: a check is passed when all pass it.
func (g *Group) SelfTest(ctx context.Context) []selftest.Check {
	var checks []selftest.Check
	members, _ := g.changeable() // with none there are no checks
	for _, t := range members {
		for _, c := range t.SelfTest(ctx) {
			i := slices.IndexFunc(checks, func(other selftest.Check) bool { return other.Name == c.Name })
			if i < 0 {
				checks = append(checks, c)
			} else if checks[i].Err == nil {
				checks[i].Err = c.Err
			}
		}
	}
	return checks
}

// Objects is that of the first member that is connected.
func (g *Group) Objects(ctx context.Context, prefix string) (objects []Object, err error) {
	err = change(g, func(t *Token) (err error) { objects, err = t.Objects(ctx, prefix); return err })
	return objects, err
}

// Attributes is Token's.
func (g *Group) Attributes(ctx context.Context, key Key) (Attributes, error) {
	return use(ctx, g, func(t *Token) (Attributes, error) { return t.Attributes(ctx, key) }, key)
}

// Info is that of the first member that is connected.
func (g *Group) Info() (info Info, err error) {
	err = change(g, func(t *Token) (err error) { info, err = t.Info(); return err })
	return info, err
}

// Stats are the members' together; Connected reports that one is.
func (g *Group) Stats() Stats {
	var sum Stats
	for _, t := range g.members {
		s := t.Stats()
		sum.Sessions += s.Sessions
		sum.Busy += s.Busy
		sum.Stuck += s.Stuck
		sum.Waits += s.Waits
		sum.Held += s.Held
		sum.Timeouts += s.Timeouts
		sum.Failures += s.Failures
		sum.Connections += s.Connections
		sum.Reinitializations += s.Reinitializations
		sum.Objects = max(sum.Objects, s.Objects) // they are clones
		sum.FreeMemory, sum.TotalMemory = max(sum.FreeMemory, s.FreeMemory), max(sum.TotalMemory, s.TotalMemory)
		sum.Connected = sum.Connected || s.Connected
	}
	return sum
}
