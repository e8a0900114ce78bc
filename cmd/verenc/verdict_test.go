package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/verenc/kms/hsm/selftest"
)

// TestJudge: a server does not start when a required self-test fails, and starts when an optional one
// does.
func TestJudge(t *testing.T) {
	broken := errors.New("two\nlines")
	for _, test := range []struct {
		check  selftest.Check
		mark   string
		starts bool
	}{
		{selftest.Check{Name: selftest.CheckSeal}, markOK, true},
		{selftest.Check{Name: selftest.CheckSeal, Err: broken}, markBad, false},
		{selftest.Check{Name: selftest.CheckObjects, Optional: true, Err: broken}, markBad, true},
		{selftest.Check{Name: selftest.CheckDataKey32, Optional: true, Err: broken}, markWarn, true},
		{selftest.Check{Name: selftest.CheckEd25519, Optional: true, Err: broken}, markNote, true},
	} {
		v := judge(test.check)
		if v.mark != test.mark || v.starts != test.starts || strings.Contains(v.text, "\n") {
			t.Errorf("%+v: %+v", test.check, v)
		}
	}
}
