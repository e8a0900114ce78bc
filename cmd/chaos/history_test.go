package chaos_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is what clients have seen of one register: a key's state, an alias's target, or whether a
// grant exists. A value is a text; absent is that of what doesn't exist.
//
// The model is that of a register with conditional writes: a write is done in some states and refused
// in others, and a use or a description is a read. An operation is one attempt, so that an SDK's call
// with retries is several.
//
// A write without a known outcome (no answer, or one of 5xx) may take effect at any later time, or
// never. To porcupine it is an operation that never returns.
//
// Reads may be stale, since servers keep what they have read: a server promises that what it decides
// on was true at some time within its bound before. It promises more for its own changes: after the
// answer to a change, it knows that change. The weaker model lets a read begin earlier: by the bound of
// the server, but not before the end of the last write that the same server has acknowledged before the
// read began. A read that is linearizable there has returned a value that was current within the bound.
// A refusal is such a read too, since the server may decide it by what it keeps. What a write does is
// decided in its transaction, so that writes have no such freedom.
type history struct {
	name string

	mu      sync.Mutex
	events  []event // guarded by mu
	pending int     // guarded by mu: writes without a known outcome
}

const absent = ""

// values is a set of values.
type values struct {
	all bool // all but those in of; otherwise these
	of  []string
}

func these(v ...string) values     { return values{of: v} }
func allBut(v ...string) values    { return values{all: true, of: v} }
func (s values) has(v string) bool { return slices.Contains(s.of, v) != s.all }

func (s values) String() string {
	text := fmt.Sprintf("%q", s.of)
	if s.all {
		return "all but " + text
	}
	return text
}

// outcome tells how an attempt ended.
type outcome int

const (
	done    outcome = iota
	refused         // with a 4xx
	unknown
)

// event is one attempt on a register.
type event struct {
	what       string // for people
	node       int
	start, end time.Duration // since the run began, on one clock
	outcome    outcome
	write      bool   // one that was done, or may have been
	from       values // where it is possible; of a read, what it may have seen
	to         string // of a write
}

// String implements fmt.Stringer.
func (e event) String() string {
	how := [...]string{"done", "refused", "unknown"}[e.outcome]
	effect := "saw " + e.from.String()
	if e.write {
		effect = fmt.Sprintf("from %s to %q", e.from, e.to)
	}
	return fmt.Sprintf("%12.6f %12.6f node %s %s: %s, %s", e.start.Seconds(), e.end.Seconds(), nodeName(e.node),
		e.what, how, effect)
}

func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.outcome == unknown {
		if !e.write {
			return // it tells nothing
		}
		h.pending++
	}
	h.events = append(h.events, e)
}

// mostPending is how many writes of unknown outcome a history may have: the checker tries each of them
// at each later moment.
const mostPending = 6

// mostEvents is how many events a history may have, for the same reason.
const mostEvents = 400

// worn tells that something else should be worked on.
func (h *history) worn() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.pending >= mostPending || len(h.events) >= mostEvents
}

func (h *history) length() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.events)
}

var register = porcupine.Model{
	Init: func() any { return absent },
	Step: func(state, input, _ any) (bool, any) {
		e, now := input.(event), state.(string)
		switch possible := e.from.has(now); {
		case !e.write:
			return possible, now
		case possible:
			return true, e.to
		default: // one of unknown outcome may have been refused
			return e.outcome == unknown, now
		}
	},
	DescribeOperation: func(input, _ any) string { return strings.Join(strings.Fields(input.(event).String())[2:], " ") },
	DescribeState:     func(state any) string { return fmt.Sprintf("%q", state) },
}

// operations are the history for porcupine, in the weaker model. bounds are those of the servers.
func (h *history) operations(bounds []time.Duration) (all []porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range weaken(h.events, bounds) {
		o := porcupine.Operation{ClientId: e.node, Input: e, Call: int64(e.start), Return: int64(e.end)}
		if e.outcome == unknown {
			o.Return = math.MaxInt64
		}
		all = append(all, o)
	}
	return all
}

// weaken lets reads begin earlier, and drops those that say no more than others.
func weaken(events []event, bounds []time.Duration) (weaker []event) {
	var reads []event
	for _, e := range events {
		if e.write {
			weaker = append(weaker, e)
			continue
		}
		earliest := e.start - bounds[e.node]
		for _, w := range events {
			if w.write && w.outcome == done && w.node == e.node && w.end < e.start {
				earliest = max(earliest, w.end+1) // porcupine's intervals are closed
			}
		}
		e.start = earliest
		reads = append(reads, e)
	}
	return append(weaker, decisive(reads)...)
}

// decisive drops a read in whose time there is the whole of another one that saw the same: where that
// one fits, it fits too. This spares the checker most of the reads, whose orders it would else try.
func decisive(reads []event) (kept []event) {
	slices.SortStableFunc(reads, func(a, b event) int {
		return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(a.end, b.end)) // the last to begin first
	})
	ends := map[string]time.Duration{} // by what was seen: the first end of those that began later
	for _, r := range reads {
		saw := r.from.String()
		if first, seen := ends[saw]; seen && first <= r.end {
			continue
		}
		ends[saw] = r.end
		kept = append(kept, r)
	}
	return kept
}

// check looks for an order of the history's operations in which each fits. If there is none, misfit is
// the operation that the longest orders do not get past.
func (h *history) check(
	bounds []time.Duration, within time.Duration,
) (result porcupine.CheckResult, info porcupine.LinearizationInfo, misfit event) {
	all := h.operations(bounds)
	result, info = porcupine.CheckOperationsVerbose(register, all, within)
	if result != porcupine.Illegal {
		return result, info, misfit
	}
	longest := map[int]bool{}
	for _, order := range info.PartialLinearizations()[0] {
		if len(order) > len(longest) {
			longest = map[int]bool{}
			for _, i := range order {
				longest[i] = true
			}
		}
	}
	misfit.end = math.MaxInt64
	for i, o := range all {
		if e := o.Input.(event); !longest[i] && e.outcome != unknown && e.end < misfit.end {
			misfit = e
		}
	}
	return result, info, misfit
}

// text is the whole history, for people.
func (h *history) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	sorted := slices.SortedFunc(slices.Values(h.events), func(a, b event) int { return cmp.Compare(a.start, b.start) })
	var b strings.Builder
	fmt.Fprintf(&b, "%s: start and end in seconds\n", h.name)
	for _, e := range sorted {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
