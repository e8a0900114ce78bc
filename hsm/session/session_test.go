package session

import (
	"errors"
	"testing"

	"github.com/verenc/kms/hsm/ckr"
)

// TestProbesAreRepeatedUntilTheySucceed, and not after.
func TestProbesAreRepeatedUntilTheySucceed(t *testing.T) {
	var p probe[bool]
	if _, err := p.get(func() (bool, error) { return true, ckr.ErrUnavailable }); !errors.Is(err, ckr.ErrUnavailable) {
		t.Error(err)
	}
	if value, err := p.get(func() (bool, error) { return true, nil }); err != nil || !value {
		t.Errorf("%v, %v", value, err)
	}
	if value, err := p.get(func() (bool, error) { return false, ckr.ErrUnavailable }); err != nil || !value {
		t.Errorf("forgotten: %v, %v", value, err)
	}
}

// TestUnexplainedErrors keep their own kind: what a probe says is none of the call's, except that
// all is lost.
func TestUnexplainedErrors(t *testing.T) {
	fault := ckr.Failed("C_Decrypt", errors.New("fault"))
	if err := unexplained(fault, ckr.ErrAuthentication); errors.Is(err, ckr.ErrAuthentication) ||
		!errors.Is(err, fault) {
		t.Error(err)
	}
	gone := &ckr.Error{Call: "C_Decrypt", RV: 0x30, Kind: ckr.ErrUnavailable} // CKR_DEVICE_ERROR
	if err := unexplained(fault, gone); !ckr.Lost(err) || !errors.Is(err, ckr.ErrUnavailable) {
		t.Error(err)
	}
}
