package lastuse

import (
	"errors"
	"maps"
	"slices"
	"testing"
)

// TestStore: what can't be stored is kept, unless there is a newer use.
func TestStore(t *testing.T) {
	var u Uses[string, int]
	if err := u.Store(func([]int) error { return errors.New("nothing is stored") }); err != nil {
		t.Error("without uses:", err)
	}
	if u.Add("a", 1) != 1 || u.Add("b", 2) != 2 || u.Add("a", 3) != 2 {
		t.Error("wrong count")
	}
	failed := errors.New("failed")
	err := u.Store(func(uses []int) error {
		if slices.Sort(uses); !slices.Equal(uses, []int{2, 3}) {
			t.Errorf("stored %v", uses)
		}
		u.Add("b", 4)
		return failed
	})
	if want := map[string]int{"a": 3, "b": 4}; !errors.Is(err, failed) || !maps.Equal(u.last, want) {
		t.Errorf("%v, kept %v, want %v", err, u.last, want)
	}
	if err := u.Store(func([]int) error { return failed }); !errors.Is(err, failed) || len(u.last) != 2 {
		t.Errorf("%v, kept %v", err, u.last)
	}
	if use, found := u.Last("a"); use != 3 || !found {
		t.Errorf("last use %d, %v", use, found)
	}
	if err := u.Store(func([]int) error { return nil }); err != nil || len(u.last) != 0 {
		t.Errorf("%v, kept %v", err, u.last)
	}
}
