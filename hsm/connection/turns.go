package connection

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// turns let symmetric cryptography take turns in the module. A token that is near, such as SoftHSM2, holds its
// locks for most of such a call. Two calls at once then cost a server more processor time than one after the
// other, since each wakes the other's thread, and both end later: see BenchmarkTurns. So no more than most are
// inside at once, and the others wait in their order.
//
// That suits a token that is near. One that is far away answers many calls at once: its calls take no turns.
// A call that stays inside for long, since it is slow, stuck or waits for a search, no longer counts, so that it
// does not keep the others.
type turns struct {
	most int
	run  func(work) // does work, and what that gives, in another goroutine
	pace pace

	mu       sync.Mutex
	waiting  []*turn // guarded by mu
	inside   []*turn // guarded by mu: those that are not late
	watch    *time.Timer
	watching bool   // guarded by mu: watch is set
	period   uint64 // guarded by mu: of watch
}

// turn is one piece of work.
type turn struct {
	work work
	from uint64 // the period in which it began
	late bool   // it no longer counts
}

// overlong is how long a turn may take, at least, while others wait, until it is late. It is long for symmetric
// cryptography, and short for whoever waits.
const overlong = 2 * time.Millisecond

func newTurns(most int, run func(work)) *turns {
	t := &turns{most: most, run: run}
	t.watch = time.AfterFunc(time.Hour, t.relieve)
	t.watch.Stop()
	return t
}

// add has the work of a turn done when it comes. The work calls next at its end.
func (t *turns) add(n *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.inside) < t.most {
		t.begin(n)
		t.run(n.work)
		return
	}
	t.waiting = append(t.waiting, n)
	t.guard()
}

// next ends a turn, and gives the work of the one that comes in its place, nil for none.
func (t *turns) next(n *turn) work {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.late {
		return nil // another one has come in its place
	}
	t.inside = slices.DeleteFunc(t.inside, func(other *turn) bool { return other == n })
	if len(t.waiting) == 0 {
		return nil
	}
	return t.first()
}

// first begins the first turn that waits. The caller holds mu.
func (t *turns) first() work {
	n := t.waiting[0]
	t.waiting[0] = nil
	t.waiting = t.waiting[1:]
	t.begin(n)
	return n.work
}

// begin counts a turn. The caller holds mu.
func (t *turns) begin(n *turn) {
	n.from = t.period
	t.inside = append(t.inside, n)
}

// guard begins a period of watch, if somebody waits and there is none. The caller holds mu.
func (t *turns) guard() {
	if !t.watching && len(t.waiting) > 0 {
		t.watching = true
		t.period++
		t.watch.Reset(overlong)
	}
}

// relieve lets others come in place of the turns that were there before the period began.
func (t *turns) relieve() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watching = false
	t.inside = slices.DeleteFunc(t.inside, func(n *turn) bool {
		n.late = n.from < t.period
		return n.late
	})
	for len(t.waiting) > 0 && len(t.inside) < t.most {
		t.run(t.first())
	}
	t.guard()
}

// pace tells from the calls of a token whether it is near.
type pace struct {
	near        atomic.Bool
	calls, fast atomic.Uint32
}

// A token is near when fastCalls of paceCalls calls took less than nearCall. They are few, since most calls of
// a token that is near take longer when many are inside.
const (
	paceCalls = 64
	fastCalls = paceCalls / 16
)

// took counts a call that succeeded.
func (p *pace) took(d time.Duration) {
	if d < nearCall {
		p.fast.Add(1)
	}
	if p.calls.Add(1)%paceCalls == 0 {
		p.near.Store(p.fast.Swap(0) >= fastCalls)
	}
}
