package store

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/verenc/kms/service"
)

func newAlias(name, keyID string) *service.Alias {
	return &service.Alias{Account: account, Region: region, Name: "alias/" + name, KeyID: keyID, CreatedAt: t0,
		UpdatedAt: t0}
}

func testAlias(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertKey(ctx, newKey("k2")))
	a := newAlias("a", "k1")
	wantError(t, s.InsertAlias(ctx, newAlias("a", "none"), 50), service.ErrNoRow)
	must(t, s.InsertAlias(ctx, a, 50))
	wantError(t, s.InsertAlias(ctx, newAlias("a", "k2"), 50), service.ErrExists)
	got, err := s.Alias(ctx, account, region, "alias/a")
	must(t, err)
	if !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v", got)
	}

	moved := *a
	moved.KeyID, moved.UpdatedAt, moved.CreatedAt = "k2", t0.Add(time.Hour), t0.Add(time.Hour)
	must(t, s.UpdateAlias(ctx, &moved, 50))
	moved.CreatedAt = t0 // only UpdatedAt changes
	if got, err := s.Alias(ctx, account, region, "alias/a"); err != nil || !reflect.DeepEqual(got, &moved) {
		t.Errorf("got %+v, %v", got, err)
	}
	wantError(t, s.UpdateAlias(ctx, newAlias("none", "k1"), 50), service.ErrNoRow)
	wantError(t, s.UpdateAlias(ctx, newAlias("a", "none"), 50), service.ErrNoRow)

	must(t, s.DeleteAlias(ctx, account, region, "alias/a"))
	wantError(t, s.DeleteAlias(ctx, account, region, "alias/a"), service.ErrNoRow)
	_, err = s.Alias(ctx, account, region, "alias/a")
	wantError(t, err, service.ErrNoRow)

	must(t, s.UpdateKey(ctx, region, "k1", func(k *service.Key) error { k.State = service.StateDeleting; return nil }))
	wantError(t, s.InsertAlias(ctx, a, 50), service.ErrNoRow)
}

func testAliasLimit(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertKey(ctx, newKey("k2")))
	must(t, s.InsertAlias(ctx, newAlias("a", "k1"), 2))
	must(t, s.InsertAlias(ctx, newAlias("b", "k1"), 2))
	wantError(t, s.InsertAlias(ctx, newAlias("c", "k1"), 2), service.ErrLimit)
	must(t, s.InsertAlias(ctx, newAlias("c", "k2"), 2))
	wantError(t, s.UpdateAlias(ctx, newAlias("c", "k1"), 2), service.ErrLimit)
	must(t, s.UpdateAlias(ctx, newAlias("b", "k1"), 2)) // to the key that it has
}

func testAliases(t *testing.T, s service.Store) {
	must(t, s.InsertKey(ctx, newKey("k1")))
	must(t, s.InsertKey(ctx, newKey("k2")))
	for i, name := range []string{"d", "b", "a", "c"} {
		must(t, s.InsertAlias(ctx, newAlias(name, fmt.Sprintf("k%d", i%2+1)), 50))
	}
	for _, test := range []struct {
		key, after string
		limit      int
		want       string
	}{
		{"", "", 9, "alias/a alias/b alias/c alias/d "}, {"", "alias/a", 2, "alias/b alias/c "},
		{"k1", "", 9, "alias/a alias/d "}, {"k2", "alias/b", 9, "alias/c "}, {"k2", "", 1, "alias/b "},
		{"none", "", 9, ""},
	} {
		aliases, err := s.Aliases(ctx, account, region, test.key, test.after, test.limit)
		must(t, err)
		got := ""
		for _, a := range aliases {
			got += a.Name + " "
		}
		if got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}
