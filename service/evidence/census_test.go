package evidence_test

import (
	"fmt"
	"testing"
)

// TestCensus counts each key once in every class.
func TestCensus(t *testing.T) {
	examiner := newExaminer(t)
	c, err := examiner.Census(t.Context(), account, region, 5)
	must(t, err)
	got := fmt.Sprint(c.Specs, c.States, c.Ages, c.Rotations)
	want := "[{SYMMETRIC_DEFAULT 3} {HMAC_256 1} {RSA_2048 1}] " +
		"[{Enabled 2} {Disabled 1} {PendingDeletion 1} {PendingImport 1}] " +
		"[{under 30 days 2} {30 to 90 days 0} {90 days to 1 year 1} {1 to 2 years 1} {over 2 years 0} " +
		"{no key material 1}] [{overdue 0} {in 30 days 0} {later 1} {switched off 1} {not automatic 2}]"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if c.Keys != 5 || c.More || !c.Time.Equal(now) {
		t.Errorf("%+v", c)
	}
	if c, err = examiner.Census(t.Context(), account, region, 4); err != nil || c.Keys != 4 || !c.More {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = examiner.Census(t.Context(), account, "eu-north-1", 4); err != nil || c.Keys != 0 || c.More {
		t.Errorf("%+v, %v", c, err)
	}
}
