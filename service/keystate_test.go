package service

import (
	"maps"
	"slices"
	"testing"
)

// TestReportedOperations: the report asks for every permission that is had on a key.
func TestReportedOperations(t *testing.T) {
	want := map[string]bool{}
	for op := range keyRules {
		switch op {
		case "ReEncrypt":
			want["ReEncryptFrom"], want["ReEncryptTo"] = true, true
		case "ListAliases", "RetireGrant": // the account's, and the grant's
		default:
			want[op] = true
		}
	}
	if want := slices.Sorted(maps.Keys(want)); !slices.Equal(keyPermissions, want) {
		t.Errorf("got %v\nwant %v", keyPermissions, want)
	}
}
