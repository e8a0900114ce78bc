package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"go.uber.org/zap"

	"github.com/verenc/kms/service/apierror"
)

// Random initialisation vectors of 96 bits allow 2^32 encryptions with one key (NIST SP 800-38D
// section 8.3). Encryptions are counted: a process leases blocks of them from the store, counts
// within a block in memory, and asks for the next block in good time, so that no request waits for
// a write. A crash loses the rest of a block, so that the count is too high, never too low; only a
// block that is being leased can be missing from it. The limit is half of what is allowed, which is
// far more than all blocks that can be missing.
const (
	ivLimit     = 1 << 31 // encryptions, after which a material is replaced or encrypts no more
	ivBlock     = 1 << 20 // encryptions in a lease
	ivMaterials = 20_000  // materials that are counted at once; one that is evicted has used up its block
	ivQueue     = 8192    // materials that wait for a lease
	ivBatch     = 1024    // materials in one write

	// ivPause is the time after a write of leases during which others gather for the next one. Each write costs a
	// sync, and makes the readers of an SQLite file read anew what they hold in memory.
	ivPause = 200 * time.Millisecond
)

// ivBudget counts the encryptions of key materials.
type ivBudget struct {
	limit, block int64
	requests     chan leaseRequest // to the goroutine that leases

	mu    sync.Mutex
	spent *lru.LRU[string, *ivLease] // guarded by mu, by material id
}

// ivLease is the state of a material. The budget's mu guards it.
type ivLease struct {
	left    int64 // encryptions that are left in the block
	leasing bool  // a lease is being requested
	first   bool  // the first block is in use, but not leased yet
	over    bool  // the limit is reached
}

type leaseRequest struct {
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
	spent, err := lru.NewLRU[string, *ivLease](ivMaterials, nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &ivBudget{limit: limit, block: block, requests: make(chan leaseRequest, ivQueue), spent: spent}
}

// take counts one encryption. It tells whether the encryption is allowed and whether the caller
// must request a lease.
func (b *ivBudget) take(material string) (allowed, request bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	if !known {
		l = &ivLease{left: b.block, first: true}
		b.spent.Add(material, l)
	}
	if l.left <= 0 {
		return false, !l.leasing
	}
	l.left--
	request = !l.leasing && !l.over && (l.first || l.left < b.block/2)
	l.leasing = l.leasing || request
	return true, request
}

// leased adds a block that the store has leased. total is the sum of all leases of the material.
func (b *ivBudget) leased(material string, total int64) (over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	if !known {
		return total >= b.limit
	}
	if !l.first || l.left <= 0 { // or else the lease is that of the block which is in use already
		l.left += b.block
	}
	l.leasing, l.first = false, false
	l.over = total >= b.limit
	return l.over
}

// batch collects the waiting requests, so that one write to the store serves all of them.
func (b *ivBudget) batch(first leaseRequest) []leaseRequest {
	requests := []leaseRequest{first}
	for len(requests) < ivBatch {
		select {
		case a := <-b.requests:
			requests = append(requests, a)
		default:
			return requests
		}
	}
	return requests
}

// failed lets the next encryption request a lease again.
func (b *ivBudget) failed(material string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, known := b.spent.Get(material); known {
		l.leasing = false
	}
}

// exhausted tells whether a material has reached its limit.
func (b *ivBudget) exhausted(material string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, known := b.spent.Get(material)
	return known && l.over
}

// spendIV counts an encryption with a key's current material. Material that the service can't
// replace encrypts no more when it reaches the limit.
func (s *Service) spendIV(ctx context.Context, k *Key, m *Material) error {
	if !k.rotatesAtLimit() && s.ivs.exhausted(m.ID) {
		cure := "Import new key material."
		if k.Origin == keyStoreCloudHSM {
			cure = "Create another key."
		}
		return apierror.New(apierror.LimitExceeded,
			"The key material of %s has done as many encryptions as it safely can. %s", k.ARN(s.arns(ctx)), cure)
	}
	allowed, request := s.ivs.take(m.ID)
	if request {
		select {
		case s.ivs.requests <- leaseRequest{k, m.ID}:
		default:
			s.ivs.failed(m.ID)
		}
	}
	if allowed {
		return nil
	}
	// The block is used up before the next one is leased: the request waits for it.
	if err := s.lease(ctx, []leaseRequest{{k, m.ID}}); err != nil {
		return apierror.FromStore(err)
	}
	if allowed, _ = s.ivs.take(m.ID); !allowed {
		return apierror.New(apierror.DependencyTimeout, apierror.MessageTimeout)
	}
	return nil
}

// rotatesAtLimit tells whether the service can make new material for the key. It can't make imported
// material, and keys in custom key stores have one material for life (AWS page "Rotate AWS KMS keys").
func (k *Key) rotatesAtLimit() bool { return k.Origin == originKMS }

// lease leases a block for each material, and rotates the keys that have reached their limit.
func (s *Service) lease(ctx context.Context, requests []leaseRequest) error {
	materials := make([]string, len(requests))
	for i, a := range requests {
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
	for i, a := range requests {
		if err := s.leased(ctx, a, totals[i]); err != nil {
			errs = append(errs, fmt.Errorf("key %s: %w", a.key.ID, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Service) leased(ctx context.Context, a leaseRequest, total int64) error {
	if over := s.ivs.leased(a.material, total); !over || !a.key.rotatesAtLimit() {
		return nil
	}
	k, err := s.store.Key(ctx, a.key.Region, a.key.ID)
	if err != nil || k.CurrentMaterial() == nil || k.CurrentMaterial().ID != a.material {
		return err // rotated already
	}
	if k.multiRegion() && !k.primary() {
		if k, err = s.store.Key(ctx, k.PrimaryRegion, k.ID); err != nil {
			return err
		}
	}
	s.log.Info("key rotates: its material has done as many encryptions as it safely can",
		zap.String("key", k.ID), zap.Int64("encryptions", total))
	if err := s.rotateAutomatically(ctx, k); !errors.Is(err, errChanged) {
		return err
	}
	return nil // others have found the limit, too, and were faster
}

// leaseIVs serves requests for leases, until ctx ends, and those that wait then.
func (s *Service) leaseIVs(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case a := <-s.ivs.requests:
			s.leaseBatch(ctx, a)
			if len(s.ivs.requests) >= ivBatch {
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(ivPause):
			}
		}
	}
	for {
		select {
		case a := <-s.ivs.requests:
			s.leaseBatch(ctx, a)
		default:
			return
		}
	}
}

// leaseBatch serves requests also when ctx has ended: their encryptions have been made.
func (s *Service) leaseBatch(ctx context.Context, first leaseRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.lease(ctx, s.ivs.batch(first)); err != nil {
		s.log.Error("lease initialisation vectors; it is tried again", zap.Error(err))
	}
}
