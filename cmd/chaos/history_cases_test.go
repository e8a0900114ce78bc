package chaos_test

import (
	"slices"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// TestHistories: the checker accepts what the documentation allows, and nothing else.
func TestHistories(t *testing.T) {
	const ok, no = porcupine.Ok, porcupine.Illegal
	bounds := []time.Duration{1000, 4000, 1000}
	at := func(start, end int, e event) event {
		e.start, e.end = time.Duration(start), time.Duration(end)
		return e
	}
	write := func(node int, from values, to string) event {
		return event{node: node, write: true, from: from, to: to}
	}
	maybe := func(e event) event { e.outcome = unknown; return e }
	saw := func(node int, v ...string) event { return event{node: node, from: these(v...)} }
	made := at(0, 10, write(0, these(absent), "Enabled"))
	disabled := write(0, these("Enabled", "Disabled"), "Disabled")
	enabled := write(1, these("Enabled", "Disabled"), "Enabled")
	for name, c := range map[string]struct {
		events []event
		want   porcupine.CheckResult
	}{
		"fresh":                      {[]event{made, at(20, 30, disabled), at(40, 50, saw(1, "Disabled"))}, ok},
		"stale within the bound":     {[]event{made, at(20, 30, disabled), at(1029, 1050, saw(2, "Enabled"))}, ok},
		"stale beyond the bound":     {[]event{made, at(20, 30, disabled), at(1031, 1050, saw(2, "Enabled"))}, no},
		"a slow client":              {[]event{made, at(20, 30, disabled), at(900, 90000, saw(2, "Enabled"))}, ok},
		"stale on the writer's node": {[]event{made, at(20, 30, disabled), at(40, 50, saw(0, "Enabled"))}, no},
		"while it is written":        {[]event{made, at(20, 30, disabled), at(25, 50, saw(0, "Enabled"))}, ok},
		"the longer bound":           {[]event{made, at(20, 30, disabled), at(4000, 4050, saw(1, "Enabled"))}, ok},
		"beyond the longer bound":    {[]event{made, at(20, 30, disabled), at(4031, 4050, saw(1, "Enabled"))}, no},
		"never written":              {[]event{made, at(20, 30, saw(1, "Disabled"))}, no},
		"lost": {[]event{made, at(20, 30, disabled), at(40, 50, saw(0, "Disabled")), at(9000, 9010, saw(1, "Enabled"))},
			no},
		"perhaps written, late": {[]event{made, at(20, 30, maybe(disabled)), at(40, 50, saw(0, "Enabled")),
			at(9000, 9010, saw(1, "Disabled"))}, ok},
		"perhaps written, never": {[]event{made, at(20, 30, maybe(disabled)), at(9000, 9010, saw(1, "Enabled"))}, ok},
		"perhaps written, once": {[]event{made, at(20, 30, maybe(disabled)), at(9000, 9010, saw(0, "Disabled")),
			at(9100, 9110, enabled), at(19000, 19010, saw(0, "Disabled"))}, no},
		"done where it is not possible": {[]event{made, at(20, 30, write(1, these("PendingDeletion"), "Disabled"))},
			no},
		"perhaps refused": {[]event{made, at(20, 30, maybe(write(1, these("PendingDeletion"), "Disabled"))),
			at(9000, 9010, saw(0, "Enabled"))}, ok},
		"back and forth": {[]event{made, at(20, 30, disabled), at(40, 50, enabled), at(5000, 5010, saw(2, "Enabled")),
			at(5020, 5030, saw(2, "Disabled"))}, no},
		"all but": {[]event{made, at(9000, 9010, event{node: 1, from: allBut(absent)})}, ok},
	} {
		h := &history{name: name}
		for _, e := range c.events {
			h.add(e)
		}
		if got, _, _ := h.check(bounds, 0); got != c.want {
			t.Errorf("%s: %s, not %s\n%s", name, got, c.want, h.text())
		}
	}
}

// TestDecisive: the reads that are dropped are those that say no more than others.
func TestDecisive(t *testing.T) {
	read := func(start, end time.Duration, v string) event { return event{start: start, end: end, from: these(v)} }
	got := decisive([]event{read(0, 100, "a"), read(10, 20, "a"), read(10, 30, "a"), read(15, 18, "b"), read(5, 16, "a")})
	want := []event{read(15, 18, "b"), read(10, 20, "a"), read(5, 16, "a")}
	if !slices.EqualFunc(got, want, func(a, b event) bool { return a.String() == b.String() }) {
		t.Errorf("got %v, want %v", got, want)
	}
}
