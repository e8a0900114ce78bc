package store

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
)

func TestBreakGlass(t *testing.T) { testBreakGlass(t, create(t)) }

func TestBreakGlassInPostgres(t *testing.T) { testBreakGlass(t, createPostgres(t)) }

func testBreakGlass(t *testing.T, d *DB) {
	t.Helper()
	_, err := d.BreakGlassKey(ctx)
	wantError(t, err, service.ErrNoRow)
	for n := range 3 {
		k, _, err := breakglass.Split(3+n, 2+n, t0)
		must(t, err)
		must(t, d.InsertBreakGlassKey(ctx, k))
		if got, err := d.BreakGlassKey(ctx); err != nil || !reflect.DeepEqual(got, k) {
			t.Errorf("got %+v, %v, want %+v", got, err, k)
		}
	}
	_, err = d.BreakGlassOpening(ctx, "none")
	wantError(t, err, service.ErrNoRow)
	unchanged := func(*iam.BreakGlassOpening) error { return nil }
	wantError(t, d.UpdateBreakGlassOpening(ctx, "none", unchanged), service.ErrNoRow)
	var want []*iam.BreakGlassOpening
	for n, id := range []string{"a", "b"} {
		o := &iam.BreakGlassOpening{ID: id, OpenedAt: t0.Add(time.Duration(n)), Until: t0.Add(time.Hour),
			Signed: []byte("\xff" + id)}
		must(t, d.InsertBreakGlassOpening(ctx, o))
		want = append([]*iam.BreakGlassOpening{o}, want...)
	}
	wantError(t, d.InsertBreakGlassOpening(ctx, want[0]), service.ErrExists)
	want[1].ClosedAt, want[1].UsedAt = t0.Add(2), t0.Add(1)
	must(t, d.UpdateBreakGlassOpening(ctx, "a", func(o *iam.BreakGlassOpening) error {
		o.ClosedAt, o.UsedAt, o.Signed = want[1].ClosedAt, want[1].UsedAt, nil
		return nil
	}))
	refused := errors.New("no")
	wantError(t, d.UpdateBreakGlassOpening(ctx, "b", func(o *iam.BreakGlassOpening) error {
		o.UsedAt = t0
		return refused
	}), refused)
	if got, err := d.BreakGlassOpenings(ctx, 10); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if got, err := d.BreakGlassOpenings(ctx, 1); err != nil || !reflect.DeepEqual(got, want[:1]) {
		t.Errorf("got %+v, %v", got, err)
	}
	for after, n := range map[time.Time]int{t0: 1, t0.Add(time.Hour): 0} { // "a" was closed
		if got, err := d.UnclosedBreakGlassOpenings(ctx, after, 10); err != nil || len(got) != n ||
			n > 0 && !reflect.DeepEqual(got[0], want[0]) {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if got, err := d.BreakGlassOpening(ctx, "a"); err != nil || !reflect.DeepEqual(got, want[1]) {
		t.Errorf("got %+v, %v", got, err)
	}
}
