package hsm

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Group is one token or several that hold the same keys: the members of an HSM's high-availability group, cloned by the HSM
// itself. Keys are used on any member, in turns; a member that is lost, too late, or has not got a key yet is passed over
// for the next one. A key that no member knows may be another process's: members search for it, no more often than
// seekPause, since a search takes time linear in the number of objects. Keys are made and destroyed on the first member that
// is connected, once: a call that may have happened is not repeated elsewhere. Its methods are those of Token, and may be
// called concurrently.
type Group struct {
	members []*Token
	turn    atomic.Uint64

	stop     context.CancelFunc
	stopped  context.Context
	locating sync.WaitGroup // the goroutines that look for new keys on other members
	mu       sync.Mutex
	sought   map[seeking]chan struct{} // guarded by mu: what they look for; closed when the search ends
	absent   map[seeking]time.Time     // guarded by mu: what they have looked for in vain, and when
}

const (
	seekPause  = 5 * time.Second
	mostAbsent = 10_000
)

// seeking is a key that a member does not know.
type seeking struct {
	member *Token
	id     ObjectID
}

// NewGroup groups tokens; the first is the preferred one for changes. The group closes them.
func NewGroup(members ...*Token) (*Group, error) {
	if len(members) == 0 {
		return nil, errors.New("group tokens: there is none")
	}
	g := &Group{members: members, sought: map[seeking]chan struct{}{}, absent: map[seeking]time.Time{}}
	g.stopped, g.stop = context.WithCancel(context.Background())
	return g, nil
}

// Close closes all members.
func (g *Group) Close() error {
	g.stop()
	g.mu.Lock()
	g.sought = nil // nobody begins to look any more
	g.mu.Unlock()
	g.locating.Wait()
	var errs []error
	for _, t := range g.members {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}

// elsewhere tells of failures that another member need not have.
func elsewhere(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrTimeout) || errors.Is(err, ErrNoObject)
}

// use calls f with one member after the other, until one can serve. When none can, and some only have not got a key yet, it
// waits for their search and asks them again. The error is that of the member that had the key, if any.
func use[T any](ctx context.Context, g *Group, f func(*Token) (T, error), keys ...Key) (v T, err error) {
	var without []*Token
	var searches []<-chan struct{}
	first := g.turn.Add(1)
	for i := range g.members {
		t := g.members[(first+uint64(i))%uint64(len(g.members))]
		var failed error
		if v, failed = f(t); failed == nil || !elsewhere(failed) {
			return v, failed
		}
		if errors.Is(failed, ErrNoObject) {
			without, searches = append(without, t), append(searches, g.seek(t, keys)...)
		}
		if err == nil || errors.Is(err, ErrNoObject) {
			err = failed
		}
		if ctx.Err() != nil {
			return v, err
		}
	}
	if searches == nil {
		return v, err
	}
	for _, ended := range searches {
		select {
		case <-ended:
		case <-ctx.Done():
			return v, err
		}
	}
	for _, t := range without {
		if again, failed := f(t); failed == nil || !elsewhere(failed) {
			return again, failed
		}
	}
	return v, err
}

// connected are the members that are.
func (g *Group) connected() (members []*Token) {
	for _, t := range g.members {
		if t.Stats().Connected {
			members = append(members, t)
		}
	}
	return members
}

// changeable are the connected members, one at least. The only member of a group is asked in any case, since it says best
// what is wrong with it.
func (g *Group) changeable() ([]*Token, error) {
	if len(g.members) == 1 {
		return g.members, nil
	}
	members := g.connected()
	if len(members) == 0 {
		return nil, fmt.Errorf("%w: no member of the group is connected", ErrUnavailable)
	}
	return members, nil
}

// change calls f with the first member that is connected, once.
func change(g *Group, f func(*Token) error) error {
	members, err := g.changeable()
	if err != nil {
		return err
	}
	return f(members[0])
}

// seek has a member look for keys that it does not know: they were made on another member since it connected. The channels
// are closed when the searches end.
func (g *Group) seek(t *Token, keys []Key) (searches []<-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sought == nil {
		return nil
	}
	for _, k := range keys {
		what := seeking{t, k.object()}
		if since, known := g.absent[what]; known && time.Since(since) < seekPause {
			continue
		}
		ended, begun := g.sought[what]
		if !begun {
			ended = make(chan struct{})
			g.sought[what] = ended
			g.locating.Go(func() { g.search(what, ended) })
		}
		searches = append(searches, ended)
	}
	return searches
}

func (g *Group) search(what seeking, ended chan struct{}) {
	err := what.member.Locate(g.stopped, what.id)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sought, what)
	delete(g.absent, what)
	if errors.Is(err, ErrNoObject) {
		if len(g.absent) >= mostAbsent {
			clear(g.absent)
		}
		g.absent[what] = time.Now()
	}
	close(ended)
}

// Locate looks for an object that was made by somebody else since the connection began. It takes time linear in the number of
// objects.
func (t *Token) Locate(ctx context.Context, id ObjectID) error {
	_, err := run(ctx, t, func(s *session) (struct{}, error) {
		h, err := s.locate(id)
		if err == nil {
			s.remember(id, h)
		}
		return struct{}{}, err
	})
	return err
}

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

// Destroy is Token's, on every member that is connected: a clone may be there before its original's end is cloned. It
// fails when no member is connected.
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

// CanGenerateWrapped tells whether every member that is connected can.
func (g *Group) CanGenerateWrapped(ctx context.Context, n int) (bool, error) {
	for _, t := range g.members {
		if len(g.members) > 1 && t.current.Load() == nil {
			continue
		}
		if can, err := t.CanGenerateWrapped(ctx, n); err != nil || !can {
			return false, err
		}
	}
	return true, nil
}

// Missing gives those of some objects that no member which is connected has: a new one is cloned a little later.
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
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.GenerateWrapped(ctx, keys, n, aad) }, keys.Seal, keys.Wrap)
}

// DecryptWrapped is Token's.
func (g *Group) DecryptWrapped(ctx context.Context, keys SealingKeys, box []byte, n int, aad []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.DecryptWrapped(ctx, keys, box, n, aad) }, keys.Seal, keys.Wrap)
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
func (g *Group) DecryptOAEP(ctx context.Context, key Key, kt KeyType, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
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
func (g *Group) GenerateWrappedPair(ctx context.Context, keys SealingKeys, kt KeyType, aad []byte) (spki, box []byte, err error) {
	both, err := use(ctx, g, func(t *Token) (both [2][]byte, err error) {
		both[0], both[1], err = t.GenerateWrappedPair(ctx, keys, kt, aad)
		return both, err
	}, keys.Seal, keys.Wrap)
	return both[0], both[1], err
}

// DecryptWrappedPair is Token's.
func (g *Group) DecryptWrappedPair(ctx context.Context, keys SealingKeys, box, aad []byte) ([]byte, error) {
	return use(ctx, g, func(t *Token) ([]byte, error) { return t.DecryptWrappedPair(ctx, keys, box, aad) }, keys.Seal, keys.Wrap)
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
func (g *Group) SelfTest(ctx context.Context) []Check {
	var checks []Check
	members, _ := g.changeable() // with none there are no checks
	for _, t := range members {
		for _, c := range t.SelfTest(ctx) {
			i := slices.IndexFunc(checks, func(other Check) bool { return other.Name == c.Name })
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

// Stats are the members' together; Connected tells that one is.
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
