package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/verenc/kms/hsm"
)

// TestJudge: a server does not start when a required self-test fails, and starts when an optional one
// does.
func TestJudge(t *testing.T) {
	broken := errors.New("two\nlines")
	for _, test := range []struct {
		check  hsm.Check
		mark   string
		starts bool
	}{
		{hsm.Check{Name: hsm.CheckSeal}, markOK, true},
		{hsm.Check{Name: hsm.CheckSeal, Err: broken}, markBad, false},
		{hsm.Check{Name: hsm.CheckObjects, Optional: true, Err: broken}, markBad, true},
		{hsm.Check{Name: hsm.CheckDataKey32, Optional: true, Err: broken}, markWarn, true},
		{hsm.Check{Name: hsm.CheckEd25519, Optional: true, Err: broken}, markNote, true},
	} {
		v := judge(test.check)
		if v.mark != test.mark || v.starts != test.starts || strings.Contains(v.text, "\n") {
			t.Errorf("%+v: %+v", test.check, v)
		}
	}
}
