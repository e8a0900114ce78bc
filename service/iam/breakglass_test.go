package iam

import (
	"testing"
	"time"

	"github.com/verenc/kms/service/iam/breakglass"
)

// TestInForce: an opening is in force from its signature by the credential to its signed end, unless it was closed. A
// row with the signature of another opening, or of another credential, tells nothing.
func TestInForce(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	split := func() (*breakglass.Key, []breakglass.Share) {
		k, shares, err := breakglass.Split(3, 2, now)
		if err != nil {
			t.Fatal(err)
		}
		return k, shares
	}
	k, shares := split()
	private, err := k.Combine(shares[1:])
	if err != nil {
		t.Fatal(err)
	}
	o := breakglass.Opening{ID: "one", Account: "111122223333", OpenedAt: now, Until: now.Add(time.Hour), Reason: "a test",
		Operator: "ann"}
	signed, err := o.Sign(t.Context(), private)
	if err != nil {
		t.Fatal(err)
	}
	good := BreakGlassOpening{ID: o.ID, OpenedAt: now, Until: o.Until, Signed: signed}
	if got, inForce := good.InForce(k, now); !inForce || got.ID != o.ID {
		t.Errorf("%+v, %t", got, inForce)
	}
	if got, inForce := good.InForce(k, o.Until); inForce || got == nil {
		t.Errorf("at its end: %+v, %t", got, inForce)
	}
	other, _ := split()
	if got, inForce := good.InForce(other, now); inForce || got != nil {
		t.Errorf("of another credential: %+v, %t", got, inForce)
	}
	closed, extended, renamed, unsigned := good, good, good, good
	closed.ClosedAt, renamed.ID, unsigned.Signed = now, "two", nil
	extended.Until = o.Until.Add(time.Hour)
	for _, row := range []BreakGlassOpening{closed, extended} {
		if got, inForce := row.InForce(k, now); inForce || got == nil {
			t.Errorf("closed or changed: %+v, %t", got, inForce)
		}
	}
	for _, row := range []BreakGlassOpening{renamed, unsigned} {
		if got, inForce := row.InForce(k, now); inForce || got != nil {
			t.Errorf("%s: %+v, %t", row.ID, got, inForce)
		}
	}
}
