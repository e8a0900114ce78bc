package store

import (
	"reflect"
	"testing"
	"time"

	"github.com/verenc/kms/service"
)

func TestDestructions(t *testing.T) { testDestructions(t, create(t)) }

func TestDestructionsInPostgres(t *testing.T) { testDestructions(t, createPostgres(t)) }

func testDestructions(t *testing.T, d *DB) {
	t.Helper()
	var want []*service.DestructionCertificate
	for _, id := range []string{"a", "b", "c"} {
		at := t0
		if id == "c" {
			at = t0.Add(time.Nanosecond)
		}
		want = append(want, &service.DestructionCertificate{ID: id, Region: region, KeyID: "k" + id, At: at,
			Signed: []byte("\xff" + id)})
	}
	for i := range want {
		must(t, d.InsertDestruction(ctx, want[len(want)-1-i]))
	}
	wantError(t, d.InsertDestruction(ctx, &service.DestructionCertificate{ID: "a", At: t0, Signed: []byte("other")}),
		service.ErrExists)
	if got, err := d.Destruction(ctx, "a"); err != nil || !reflect.DeepEqual(got, want[0]) {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err := d.Destruction(ctx, "none")
	wantError(t, err, service.ErrNoRow)
	var listed []*service.DestructionCertificate
	var at time.Time
	id := ""
	for {
		some, err := d.Destructions(ctx, at, id, 1)
		must(t, err)
		if len(some) == 0 {
			break
		}
		listed = append(listed, some...)
		at, id = some[0].At, some[0].ID
	}
	if !reflect.DeepEqual(listed, want) {
		t.Errorf("got %+v", listed)
	}
}
