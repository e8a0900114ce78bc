package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// What there is to work on. There are few of each at a time, so that operations meet each other.
const (
	steadyKeys    = 3 // never disabled: aliases, grants, and most uses are of them
	cycledKeys    = 4 // with a history of their states
	rotatedKeys   = 2 // on demand
	automaticKeys = 2
	aliasNames    = 3
	grantsAtOnce  = 4
	mostKeys      = 120 // in all: searches of the token's objects take longer with each
	mostBoxes     = 4000
)

// key is a KMS key that a client was told of.
type key struct {
	id     string
	states *history // nil: it is never disabled

	mu        sync.Mutex
	rotations int // guarded by mu: on demand, acknowledged
	perhaps   int // guarded by mu: on demand, of unknown outcome
	due       int // automatic rotations that were made due; only of the one goroutine that makes faults
}

// grant is one that lets the grantee encrypt with an encryption context of its own.
type grant struct {
	key     *key
	name    string
	id      string
	history *history
}

// alias is an alias name, which may have no target.
type alias struct {
	name    string
	history *history
}

// box is a ciphertext that a client was given.
type box struct {
	key        *key
	context    map[string]string
	plaintext  []byte
	ciphertext []byte
}

// world is what clients know.
type world struct {
	c    *cluster
	seed uint64

	mu         sync.Mutex
	keys       []*key // guarded by mu: all
	steady     []*key // guarded by mu, as what follows: what is worked on
	cycled     []*key
	rotated    []*key
	automatic  []*key
	aliases    []*alias
	grants     []*grant
	boxes      []box
	histories  []*history // all
	operations map[string]int
	attempts   int
	failed     map[string]int // operations that failed after the SDK's retries, by their errors
	faults     map[string]int
	violations []string
	names      int // of aliases and grants so far
}

func newWorld(c *cluster, seed uint64) *world {
	return &world{c: c, seed: seed, operations: map[string]int{}, failed: map[string]int{}, faults: map[string]int{}}
}

func (w *world) violation(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

func (w *world) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// name makes a name that was not used before.
func (w *world) name(prefix string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names++
	return fmt.Sprintf("%s-%d", prefix, w.names)
}

// pick takes one of a list at random, or nothing of an empty one.
func pick[T any](w *world, r *rand.Rand, from *[]T) (v T, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(*from) == 0 {
		return v, false
	}
	return (*from)[r.IntN(len(*from))], true
}

// retire ends the work on one of a list.
func retire[T comparable](w *world, from *[]T, v T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*from = slices.DeleteFunc(*from, func(x T) bool { return x == v })
}

// count is the length of a list.
func count[T any](w *world, of *[]T) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(*of)
}

func (w *world) keep(r *rand.Rand, b box) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.boxes) < mostBoxes {
		w.boxes = append(w.boxes, b)
	} else {
		w.boxes[r.IntN(mostBoxes)] = b
	}
}

// newHistory makes a history that is checked at the end.
func (w *world) newHistory(name string) *history {
	h := &history{name: name}
	w.locked(func() { w.histories = append(w.histories, h) })
	return h
}
