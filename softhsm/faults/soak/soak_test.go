package main

import (
	"os"
	"strings"
	"testing"

	"github.com/verenc/kms/softhsm"
)

func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }

// TestSoak is a short soak, limited by the number of operations.
func TestSoak(t *testing.T) {
	for _, reuse := range []bool{false, true} {
		r, err := run(t.Context(), t.TempDir(),
			config{soft: softhsm.New(t), seed: 1, callers: 16, operations: 2500, reuse: reuse})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		r.print(&out)
		if err := r.verdict(); err != nil {
			t.Errorf("%v\n%s", err, &out)
		}
		if r.total() < 2500 || len(r.operations) != 11 || len(r.faults) == 0 {
			t.Errorf("not much was tried:\n%s", &out)
		}
	}
}

func TestVerdict(t *testing.T) {
	for name, test := range map[string]func(*report){
		"wrong":    func(r *report) { r.wrongAnswer("a") },
		"lost":     func(r *report) { r.lost = []string{"a"} },
		"leaked":   func(r *report) { r.leaked = 1 },
		"objects":  func(r *report) { r.usage.Objects = 1 },
		"no other": nil,
	} {
		r := newReport()
		if test != nil {
			test(r)
		}
		if (r.verdict() == nil) != (test == nil) {
			t.Errorf("%s: %v", name, r.verdict())
		}
	}
}
