package store

import (
	"sync"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
)

// cache holds rows that were read. A row that is read before a change and added after it would be
// stale for ever. So each change begins a new epoch, and a row that was read in an earlier epoch is
// not added.
type cache[K comparable, V any] struct {
	mu   sync.Mutex
	rows *lru.LRU[K, V]
	// serves says why rows must not be used now; nil: they always may. It is set before the first use.
	serves func() error
	epoch  uint64
}

func newCache[K comparable, V any](size int) *cache[K, V] {
	rows, err := lru.NewLRU[K, V](max(size, 1), nil)
	if err != nil {
		panic(err) // only for a size below 1
	}
	return &cache[K, V]{rows: rows}
}

func (c *cache[K, V]) serveWhile(serves func() error) { c.serves = serves }

// get returns a row, from memory or by read.
func (c *cache[K, V]) get(name K, read func() (V, error)) (V, error) {
	if c.serves != nil {
		if err := c.serves(); err != nil {
			var none V
			return none, err
		}
	}
	c.mu.Lock()
	v, ok := c.rows.Get(name)
	epoch := c.epoch
	c.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err == nil {
		c.add(name, v, epoch)
	}
	return v, err
}

// now is the epoch for add. It must be asked for before the row is read.
func (c *cache[K, V]) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// add holds a row that was read in an epoch, unless a change has begun another one, or a row is there, which may have
// been read later.
func (c *cache[K, V]) add(name K, v V, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch && !c.rows.Contains(name) {
		c.rows.Add(name, v)
	}
}

// forget drops a row that was changed, or may have been. It must be called after the commit.
func (c *cache[K, V]) forget(name K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.rows.Remove(name)
}

// forgetAll drops every row.
func (c *cache[K, V]) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.rows.Purge()
}
