package store

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/audit/witness"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
	"github.com/verenc/kms/service/store/postgrestest"
)

// fill puts rows into every table.
func fill(t *testing.T, d *DB, keys int) {
	t.Helper()
	for i := range keys {
		k := newKey(fmt.Sprintf("k%04d", i))
		k.Description = "\x00\x1a\xff"
		must(t, d.InsertKey(ctx, k))
	}
	pending := newKey("pending")
	pending.State, pending.DeletionAt = service.StatePendingDeletion, t0
	must(t, d.InsertKey(ctx, pending))
	must(t, d.InsertAlias(ctx, newAlias("a", "k0000"), 50))
	must(t, d.InsertGrant(ctx, newGrant("g1", "k0001"), 50))
	use := service.KeyUse{Region: region, KeyID: "k0000", Operation: "Encrypt", At: t0, EventID: "e", RequestID: "r"}
	must(t, d.RecordUses(ctx, []service.KeyUse{use}))
	must(t, d.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, d.InsertAccessKey(ctx, newAccessKey("AKIA1", userARN), 2))
	must(t, d.RecordAccessKeyUses(ctx, []iam.AccessKeyUse{{ID: "AKIA1", At: t0, Region: region, Service: "kms"}}))
	must(t, d.PutCertificate(ctx, &iam.Certificate{Name: "aa", PrincipalARN: userARN, CreatedAt: t0}))
	must(t, d.InsertKeyStore(ctx, newKeyStore("s1", "one", "c1"), 2))
	must(t, d.InsertServiceObject(ctx, "x", service.ObjectID{1}, t0))
	must(t, d.InsertWrappingKey(ctx, service.WrappingKey{ObjectID: service.ObjectID{2}, ExpiresAt: t0}))
	_, err := d.LeaseIVs(ctx, []string{"material"}, 1<<40)
	must(t, err)
	for i := range 12 {
		must(t, d.InsertPendingRecord(ctx, fmt.Appendf(nil, `{"n":%d}`, i)))
	}
	first, err := d.PendingRecords(ctx, 1)
	must(t, err)
	must(t, d.RemovePendingRecord(ctx, first[0].Number))
	must(t, d.RecordTokenSerial(ctx, "serial", t0))
	must(t, d.PutGuard(ctx, &iam.Guard{Account: account, Document: "{}", ChangedAt: t0}))
	asked, err := d.InsertApprovalRequest(ctx, newRequest("d", "u"), 1, t0)
	must(t, err)
	must(t, d.PutApproval(ctx, &approval.Approval{Request: asked.Number, Approver: "a", At: t0}, t0))
	must(t, d.InsertDestruction(ctx, &service.DestructionCertificate{ID: "d", At: t0, Signed: []byte("\xff")}))
	must(t, d.InsertBreakGlassKey(ctx, &breakglass.Key{Threshold: 2}))
	must(t, d.InsertBreakGlassOpening(ctx, &iam.BreakGlassOpening{ID: "o", OpenedAt: t0, Until: t0, Signed: []byte("\xff")}))
	must(t, d.ChangeAuditLog(ctx, "log", func(e *witness.Entry) error { e.Newest = []byte("\xff"); return nil }))
}

func TestMove(t *testing.T) {
	path, target := filepath.Join(t.TempDir(), "db"), Config{Path: postgrestest.NewDatabase(t)}
	d, err := Open(ctx, Config{Path: path, Create: true})
	must(t, err)
	fill(t, d, moveMany+7)
	count := map[string]int{}
	move := func(want string) {
		t.Helper()
		clear(count)
		err := Move(ctx, path, target, func(table string, rows int) { count[table] = rows })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want %q", err, want)
		}
	}
	move("is in use: stop the server")
	rows, err := d.read.Query("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'sqlite_sequence'")
	tables, err := collect(rows, err, func(row scanner) (name string, err error) { return name, row.Scan(&name) })
	must(t, err)
	must(t, d.Close())

	// A copy that differs is not kept.
	spoilt := open(t, target.Path, true)
	must(t, spoilt.exec(`CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.leased = 1; RETURN NEW; END';
		CREATE TRIGGER spoil BEFORE INSERT ON iv_leases FOR EACH ROW EXECUTE FUNCTION spoil()`))
	move("table iv_leases: the copy differs from the original in row 1")
	must(t, spoilt.exec("DROP TRIGGER spoil ON iv_leases"))
	if keys, err := spoilt.Keys(ctx, account, region, "", 10); err != nil || len(keys) != 0 {
		t.Errorf("%d keys are left of a copy that failed, %v", len(keys), err)
	}

	move("")
	for _, name := range tables {
		if count[name] == 0 {
			t.Errorf("table %s: no rows", name)
		}
	}
	if count["keys"] != moveMany+8 || count["pending_records"] != 11 {
		t.Errorf("%v", count)
	}
	before, err := Open(ctx, Config{Path: path})
	must(t, err)
	after := open(t, target.Path, false)
	for _, id := range []string{"k0000", fmt.Sprintf("k%04d", moveMany+6), "pending"} {
		want, err := before.Key(ctx, region, id)
		must(t, err)
		if got, err := after.Key(ctx, region, id); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	changed := func(d *DB) (ids []string) {
		keys, err := d.ChangedKeys(ctx, 5)
		must(t, err)
		for _, k := range keys {
			ids = append(ids, k.ID)
		}
		return ids
	}
	if got, want := changed(after), changed(before); !slices.Equal(got, want) {
		t.Errorf("the newest keys are %v, want %v", got, want)
	}
	if totals, err := after.LeaseIVs(ctx, []string{"material"}, 1); err != nil || totals[0] != 1<<40+1 {
		t.Errorf("got %v, %v", totals, err)
	}
	must(t, after.InsertPendingRecord(ctx, []byte(`{"n":12}`)))
	records, err := after.PendingRecords(ctx, 100)
	must(t, err)
	for i, r := range records {
		if string(r.Record) != fmt.Sprintf(`{"n":%d}`, i+1) {
			t.Errorf("record %d is %s", i, r.Record)
		}
	}
	if k, err := after.AccessKey(ctx, "AKIA1"); err != nil || !reflect.DeepEqual(k, newAccessKey("AKIA1", userARN)) {
		t.Errorf("got %+v, %v", k, err)
	}
	must(t, before.Close())
	move("rows in it: name an empty database")
	if _, err := after.LastUse(ctx, region, "k0000"); err != nil {
		t.Error(err)
	}
}
