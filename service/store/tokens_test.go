package store

import (
	"slices"
	"testing"
	"time"

	"github.com/verenc/kms/service"
)

func TestTokens(t *testing.T) { testTokens(t, create(t)) }

func TestTokensInPostgres(t *testing.T) { testTokens(t, createPostgres(t)) }

func testTokens(t *testing.T, d *DB) {
	t.Helper()
	for _, id := range []string{"a", "b", "c", "d"} {
		k := newKey(id)
		if id == "d" {
			k.CustomKeyStore = "cks-1"
		}
		must(t, d.InsertKey(ctx, k))
	}
	must(t, d.UpdateKey(ctx, region, "a", func(k *service.Key) error { k.Description = "changed"; return nil }))
	must(t, d.UpdateKey(ctx, region, "b", func(k *service.Key) error { k.State = service.StateDeleting; return nil }))
	keys, err := d.ChangedKeys(ctx, 10)
	must(t, err)
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	if !slices.Equal(ids, []string{"a", "c"}) {
		t.Errorf("the keys that were changed last are %v", ids)
	}
	if keys, err := d.ChangedKeys(ctx, 1); err != nil || len(keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	for i, serial := range []string{"1", "2", "1"} {
		must(t, d.RecordTokenSerial(ctx, serial, t0.Add(time.Duration(i)*time.Second)))
	}
	if serials, err := d.TokenSerials(ctx); err != nil || !slices.Equal(serials, []string{"1", "2"}) {
		t.Errorf("%v, %v", serials, err)
	}
}
