// Package lastuse remembers the last use of things until it is stored, so that no request waits for
// a write.
package lastuse

import (
	"maps"
	"slices"
	"sync"
)

// Uses are the last uses that are not stored yet, by what was used. The zero value is ready. Its
// methods may be called concurrently.
type Uses[K comparable, U any] struct {
	mu   sync.Mutex
	last map[K]U // guarded by mu
}

// Add remembers a use in place of an earlier one, and returns how many are not stored yet.
func (u *Uses[K, U]) Add(of K, use U) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[K]U{}
	}
	u.last[of] = use
	return len(u.last)
}

// Last returns a use that is not stored yet.
func (u *Uses[K, U]) Last(of K) (use U, found bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use, found = u.last[of]
	return use, found
}

// Store has store keep the uses that are not stored yet. When it fails, they are kept for the next
// time, except those that a later use has replaced meanwhile.
func (u *Uses[K, U]) Store(store func([]U) error) error {
	u.mu.Lock()
	unstored := u.last
	u.last = nil
	u.mu.Unlock()
	if len(unstored) == 0 {
		return nil
	}
	err := store(slices.Collect(maps.Values(unstored)))
	if err == nil {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = unstored
		return err
	}
	for of, use := range unstored {
		if _, newer := u.last[of]; !newer {
			u.last[of] = use
		}
	}
	return err
}
