package service

import (
	"errors"
	"testing"
)

// TestOnlyOperatorsOperate: a Service that serves clients does nothing without asking policies.
func TestOnlyOperatorsOperate(t *testing.T) {
	s := &Service{}
	_, err := s.Operate(t.Context(), "111122223333", "us-east-1", "ListKeys", &ListKeysRequest{})
	if !errors.Is(err, errNoOperator) {
		t.Errorf("Operate: %v", err)
	}
	const id = "11111111-2222-4333-8444-555555555555"
	err = s.CreateKeyNamed(t.Context(), "111122223333", "us-east-1", id, &CreateKeyRequest{})
	if !errors.Is(err, errNoOperator) {
		t.Errorf("CreateKeyNamed: %v", err)
	}
	for _, bad := range []string{"", "alias/a", "mrk-1", "mrk-11112222333344445555666677778888"} {
		if s.CreateKeyNamed(t.Context(), "111122223333", "us-east-1", bad, &CreateKeyRequest{}) == nil {
			t.Errorf("%q is a key id", bad)
		}
	}
	if _, err := s.Operate(t.Context(), "111122223333", "us-east-1", "Fly", nil); err == nil {
		t.Error("there is an operation Fly")
	}
}

// TestKnownMaterial: the hash is of the key, too, so that it does not tell that two keys have the same material.
func TestKnownMaterial(t *testing.T) {
	material := []byte("01234567890123456789012345678901")
	if string(KnownMaterial("a", material)) == string(KnownMaterial("b", material)) {
		t.Error("two keys have the same hash")
	}
}
