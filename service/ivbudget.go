package service

import (
	"context"
	"errors"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"go.uber.org/zap"

	"github.com/verenc/kms/service/apierror"
)

// Random initialisation vectors of 96 bits allow 2^32 encryptions with one key (NIST SP 800-38D section 8.3). They are
// counted: a process leases blocks of them in the store, counts within a block in memory, and asks for the next one before
// the block ends, so that no request waits for a write. A crash loses the rest of a block, which makes the count too high,
// never too low; only the block that is being asked for can be missing from it. Half of what is allowed is the limit: it
// covers that many times over.
const (
	ivLimit = 1 << 31 // encryptions, after which a material is replaced
	ivBlock = 1 << 20 // encryptions in a lease
	ivKnown = 20_000  // materials that are counted at once; one that is forgotten has used its block up
	ivAsks  = 1024    // leases that wait to be asked for
)

// ivBudget counts the encryptions of key materials.
type ivBudget struct {
	limit, block int64
	asks         chan leaseAsk // to the goroutine that leases

	mu    sync.Mutex
	spent *lru.LRU[string, *ivLease] // guarded by mu, by material id
}

// ivLease is what is known of a material. All of it is guarded by the budget's mu.
type ivLease struct {
	left   int64 // encryptions that may still be done
	asking bool
	first  bool // the first block, taken on trust, is not leased yet
	over   bool // the limit is reached
}

type leaseAsk struct {
	key      *Key
	material string
}

func newIVBudget(limit, block int64) *ivBudget {
	if limit == 0 {
		limit = ivLimit
	}
	if block == 0 {
		block = ivBlock
	}
	spent, err := lru.NewLRU[string, *ivLease](ivKnown, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &ivBudget{limit: limit, block: block, asks: make(chan leaseAsk, ivAsks), spent: spent}
}

// take counts one encryption, and tells whether it may be done and whether a lease is to be asked for.
func (b *ivBudget) take(material string) (allowed, ask bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	if !known {
		l = &ivLease{left: b.block, first: true}
		b.spent.Add(material, l)
	}
	if l.left <= 0 {
		return false, !l.asking
	}
	l.left--
	ask = !l.asking && !l.over && (l.first || l.left < b.block/2)
	l.asking = l.asking || ask
	return true, ask
}

// leased adds a block that the store has given; total is all that it ever gave for the material.
func (b *ivBudget) leased(material string, total int64) (over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	if !known {
		return total >= b.limit
	}
	l.asking, l.first = false, false
	if total > b.block || l.left <= 0 { // the first block was taken on trust
		l.left += b.block
	}
	l.over = total >= b.limit
	return l.over
}

// more adds what else is asked for, so that one write of the store serves all.
func (b *ivBudget) more(first leaseAsk) []leaseAsk {
	asks := []leaseAsk{first}
	for len(asks) < ivAsks {
		select {
		case a := <-b.asks:
			asks = append(asks, a)
		default:
			return asks
		}
	}
	return asks
}

// failed lets the next encryption ask again.
func (b *ivBudget) failed(material string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, known := b.spent.Get(material); known {
		l.asking = false
	}
}

// exhausted tells whether a material must not encrypt any more.
func (b *ivBudget) exhausted(material string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	return known && l.over
}

// spendIV counts an encryption with a key's current material. Imported material can't be replaced by the service: it
// stops at the limit.
func (s *Service) spendIV(ctx context.Context, k *Key, m *Material) error {
	if k.Origin == originExternal && s.ivs.exhausted(m.ID) {
		return apierror.New(apierror.LimitExceeded, "The key material of %s has done as many encryptions as it safely can. Import new key material.", k.ARN(s.arns(ctx)))
	}
	allowed, ask := s.ivs.take(m.ID)
	if ask {
		select {
		case s.ivs.asks <- leaseAsk{k, m.ID}:
		default:
			s.ivs.failed(m.ID)
		}
	}
	if allowed {
		return nil
	}
	// The block ended before the next one came: the request waits for it.
	if err := s.lease(ctx, []leaseAsk{{k, m.ID}}); err != nil {
		return apierror.FromStore(err)
	}
	if allowed, _ = s.ivs.take(m.ID); !allowed {
		return apierror.New(apierror.DependencyTimeout, apierror.MessageTimeout)
	}
	return nil
}

// lease asks the store for a block of each material, and has the keys rotate that have reached their limit.
func (s *Service) lease(ctx context.Context, asks []leaseAsk) error {
	materials := make([]string, len(asks))
	for i, a := range asks {
		materials[i] = a.material
	}
	totals, err := s.store.LeaseIVs(ctx, materials, s.ivs.block)
	if err != nil {
		for _, m := range materials {
			s.ivs.failed(m)
		}
		return err
	}
	var errs []error
	for i, a := range asks {
		if err := s.leased(ctx, a, totals[i]); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", a.key.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) leased(ctx context.Context, a leaseAsk, total int64) error {
	if !s.ivs.leased(a.material, total) || a.key.Origin == originExternal || a.key.CustomKeyStore != "" {
		return nil
	}
	now, err := s.store.Key(ctx, a.key.Region, a.key.ID)
	if err != nil || now.current() == nil || now.current().ID != a.material {
		return err // rotated already
	}
	if now.multiRegion() && !now.primary() {
		if now, err = s.store.Key(ctx, now.PrimaryRegion, now.ID); err != nil {
			return err
		}
	}
	s.log.Info("key rotates: its material has done as many encryptions as it safely can", zap.String("key", now.ID), zap.Int64("encryptions", total))
	if err := s.rotateByItself(ctx, now); !errors.Is(err, errChanged) {
		return err
	}
	return nil // others have found the limit, too, and were faster
}

// leaseIVs serves what requests ask for, until ctx ends.
func (s *Service) leaseIVs(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case a := <-s.ivs.asks:
			if err := s.lease(ctx, s.ivs.more(a)); err != nil && ctx.Err() == nil {
				s.log.Error("lease initialisation vectors; it is tried again", zap.Error(err))
			}
		}
	}
}
