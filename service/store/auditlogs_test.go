package store

import (
	"errors"
	"reflect"
	"testing"

	"github.com/verenc/kms/service/audit/witness"
)

func TestAuditLogs(t *testing.T) { testAuditLogs(t, create(t)) }

func TestAuditLogsInPostgres(t *testing.T) { testAuditLogs(t, createPostgres(t)) }

func testAuditLogs(t *testing.T, d *DB) {
	t.Helper()
	put := func(e witness.Entry) {
		t.Helper()
		must(t, d.ChangeAuditLog(ctx, e.Log, func(now *witness.Entry) error { *now = e; return nil }))
	}
	b := witness.Entry{Log: "b+1+x", Newest: []byte("b\n0\n\xff"), Seen: []byte("[]"), Retired: []byte{}}
	a := witness.Entry{Log: "a+1+x", Newest: []byte{}, Seen: []byte{}, Trouble: "none", Retired: []byte("r")}
	put(b)
	put(a)
	b.Newest = []byte("b\n1\n")
	put(b)
	refused := errors.New("no")
	wantError(t, d.ChangeAuditLog(ctx, b.Log, func(now *witness.Entry) error {
		if !reflect.DeepEqual(*now, b) {
			t.Errorf("got %v", now)
		}
		now.Newest = nil
		return refused
	}), refused)
	wantError(t, d.ChangeAuditLog(ctx, "none", func(now *witness.Entry) error {
		if !reflect.DeepEqual(*now, witness.Entry{}) {
			t.Errorf("got %v", now)
		}
		return refused
	}), refused)
	for limit, want := range [][]witness.Entry{nil, {a}, {a, b}, {a, b}} {
		if got, err := d.AuditLogs(ctx, limit); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d: %v, %v", limit, got, err)
		}
	}
}
