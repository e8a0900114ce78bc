package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm/faults"
)

// report collects what has happened.
type report struct {
	mu         sync.Mutex
	operations map[string]int // guarded by mu: all of them, by name
	failures   map[string]int // guarded by mu: by kind
	faults     map[string]int // guarded by mu: what was done to the token
	wrong      []string       // guarded by mu: answers

	lost    []string // keys that were made and are gone, and destroyed keys that still exist
	leaked  int      // sessions
	usage   faults.Usage
	healing time.Duration // the longest, from the token's return to the first success
	heals   int
	stats   hsm.Stats
	lasted  time.Duration
}

func newReport() *report {
	return &report{operations: map[string]int{}, failures: map[string]int{}, faults: map[string]int{}}
}

// kinds are the failures that a caller may see; others are wrong answers.
var kinds = []struct {
	name string
	err  error
}{
	{"timeout", hsm.ErrTimeout},
	{"unavailable", hsm.ErrUnavailable},
	{"wrong: full", hsm.ErrFull},
	{"wrong: ciphertext", hsm.ErrAuthentication},
	{"wrong: no object", hsm.ErrNoObject},
	{"wrong: unsupported", hsm.ErrUnsupported},
	{"wrong: material", hsm.ErrMaterial},
	{"wrong: PIN", hsm.ErrPIN},
	{"canceled", context.Canceled},
}

// done counts an operation and reports whether it succeeded.
func (r *report) done(operation string, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.operations[operation]++
	if err == nil {
		return true
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			r.failures[k.name]++
			if len(k.name) > 6 && k.name[:6] == "wrong:" {
				r.wrong = append(r.wrong, operation+": "+err.Error())
			}
			return false
		}
	}
	r.failures["fault of the token"]++
	return false
}

func (r *report) wrongAnswer(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

func (r *report) fault(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[name]++
}

func (r *report) total() (n int) {
	for _, count := range r.operations {
		n += count
	}
	return n
}

func (r *report) print(to io.Writer) {
	out := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	defer out.Flush()
	line := func(name string, value any) { fmt.Fprintf(out, "%s\t%v\n", name, value) }
	list := func(heading string, counts map[string]int) {
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			line(heading+name, counts[name])
		}
	}
	line("lasted", r.lasted.Round(time.Second))
	line("operations", r.total())
	list("  ", r.operations)
	line("failures", "")
	list("  ", r.failures)
	line("faults", "")
	list("  ", r.faults)
	line("connections", r.stats.Connections)
	line("timeouts", r.stats.Timeouts)
	line("waits for a session", r.stats.Waits)
	line("returns of the token", r.heals)
	line("longest healing", r.healing.Round(time.Millisecond))
	line("wrong answers", len(r.wrong))
	for _, text := range r.wrong[:min(20, len(r.wrong))] {
		line("  ", text)
	}
	line("lost keys", len(r.lost))
	for _, text := range r.lost[:min(20, len(r.lost))] {
		line("  ", text)
	}
	line("leaked sessions", r.leaked)
	line("leaked session objects", r.usage.Objects)
}

func (r *report) verdict() error {
	if len(r.wrong) != 0 || len(r.lost) != 0 || r.leaked != 0 || r.usage.Objects != 0 {
		return fmt.Errorf("%d wrong answers, %d lost keys, %d leaked sessions, %d leaked session objects",
			len(r.wrong), len(r.lost), r.leaked, r.usage.Objects)
	}
	return nil
}
