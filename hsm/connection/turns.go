package connection

import (
	"sync"
	"sync/atomic"
	"time"
)

// turns let calls that compute little take turns in the module. A token that is near, such as SoftHSM2, holds
// its locks for most of such a call. Two calls at once then cost a server more processor time than one after the
// other, since each wakes the other's thread, and both end later: see BenchmarkTurns. So no more than most are
// inside at once, and the others wait in their order.
//
// That suits a token that is near. One that is far away answers many calls at once: its calls take no turns.
// Nor may a call that is slow, stuck or waits for a search keep the others: when no call has ended for a while,
// one more is let in.
type turns struct {
	most int
	run  func(work) // does work, and what it gives, in another goroutine
	pace pace

	mu       sync.Mutex
	waiting  []work // guarded by mu
	inside   int    // guarded by mu: goroutines that do work of turns
	ended    uint64 // guarded by mu: pieces of work
	seen     uint64 // guarded by mu: ended, when watch was set
	watch    *time.Timer
	watching bool // guarded by mu: watch is set
}

// stalled is how long no call may end until one more is let in. It is long for a call that computes little, and
// short for whoever waits.
const stalled = 2 * time.Millisecond

func newTurns(most int, run func(work)) *turns {
	t := &turns{most: most, run: run}
	t.watch = time.AfterFunc(time.Hour, t.relieve)
	t.watch.Stop()
	return t
}

// add has w done when its turn comes. What does it calls next afterwards.
func (t *turns) add(w work) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inside < t.most {
		t.inside++
		t.run(w)
		return
	}
	t.waiting = append(t.waiting, w)
	t.guard()
}

// next ends a turn, and gives the work of the next one, nil for none.
func (t *turns) next() work {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended++
	if len(t.waiting) == 0 || t.inside > t.most {
		t.inside--
		return nil
	}
	return t.first()
}

// first takes the first one that waits. The caller holds mu.
func (t *turns) first() work {
	w := t.waiting[0]
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	return w
}

// guard sets watch while somebody waits. The caller holds mu.
func (t *turns) guard() {
	if !t.watching && len(t.waiting) > 0 {
		t.watching, t.seen = true, t.ended
		t.watch.Reset(stalled)
	}
}

// relieve lets one more in, if no call has ended since watch was set.
func (t *turns) relieve() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = false
	if len(t.waiting) > 0 && t.ended == t.seen {
		t.inside++
		t.run(t.first())
	}
	t.guard()
}

// pace tells from the calls of a token whether it is near.
type pace struct {
	near    atomic.Bool
	calls   atomic.Uint32
	fastest atomic.Int64 // of the calls since it was told last, in nanoseconds; 0 for none
}

// paceCalls are the calls after which it is told whether the token is near. The fastest of them is not one that
// other work of the machine delayed.
const paceCalls = 64

// took counts a call that succeeded.
func (p *pace) took(d time.Duration) {
	for {
		fastest := p.fastest.Load()
		if fastest != 0 && fastest <= int64(d) || p.fastest.CompareAndSwap(fastest, int64(d)) {
			break
		}
	}
	if p.calls.Add(1)%paceCalls == 0 {
		p.near.Store(p.fastest.Swap(0) < int64(nearCall))
	}
}
