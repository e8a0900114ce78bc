package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
)

func testGuards(t *testing.T, s service.Store) {
	for range 2 { // from the file, and from memory
		if g, err := s.Guard(ctx, account); err != nil || g.Document != "" || g.Account != account {
			t.Errorf("got %+v, %v", g, err)
		}
	}
	wantError(t, s.RemoveGuard(ctx, account), service.ErrNoRow)
	for _, document := range []string{`{"a":1}`, `{"a":2}`} {
		want := &iam.Guard{Account: account, Document: document, ChangedAt: t0}
		must(t, s.PutGuard(ctx, want))
		got, err := s.Guard(ctx, account)
		must(t, err)
		all, err := s.Guards(ctx)
		must(t, err)
		if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(all, []*iam.Guard{want}) {
			t.Errorf("got %+v and %+v, want %+v", got, all, want)
		}
	}
	must(t, s.RemoveGuard(ctx, account))
	if g, err := s.Guard(ctx, account); err != nil || g.Document != "" {
		t.Errorf("got %+v, %v", g, err)
	}
}

func newRequest(digest, requester string) *approval.Request {
	return &approval.Request{Account: account, Digest: digest, Requester: requester, Stored: approval.Pending,
		CreatedAt: t0, ExpiresAt: t0.Add(time.Hour),
		Details: approval.Details{Call: approval.Call{Source: "s", Operation: "o", Caller: []string{requester},
			Parameters: json.RawMessage(`{"A":1}`)}, Needed: 2}}
}

func testApprovals(t *testing.T, s service.Store) {
	insert := func(r *approval.Request) *approval.Request {
		t.Helper()
		made, err := s.InsertApprovalRequest(ctx, r, 2, t0.Add(-time.Hour))
		must(t, err)
		return made
	}
	first := insert(newRequest("d1", "u"))
	if again := insert(newRequest("d1", "u")); again.Number != first.Number {
		t.Errorf("the same call has requests %d and %d", first.Number, again.Number)
	}
	second := insert(newRequest("d2", "u"))
	_, err := s.InsertApprovalRequest(ctx, newRequest("d3", "u"), 2, t0)
	wantError(t, err, service.ErrLimit)
	other := insert(newRequest("d3", "v"))

	proof := &iam.Proof{At: t0, Request: "POST", Signature: []byte{1}, Body: []byte("{}")}
	vote := &approval.Approval{Request: first.Number, Approver: "a", At: t0,
		Evidence: approval.Evidence{Principal: "p", SourceIP: "::1", TLS: true, Proof: proof}}
	must(t, s.PutApproval(ctx, vote, t0))
	again := *vote // the same approver
	again.At, again.SourceIP = t0.Add(time.Minute), "::2"
	vote = &again
	must(t, s.PutApproval(ctx, vote, t0))
	late := t0.Add(time.Hour)
	another := &approval.Approval{Request: first.Number, Approver: "b"}
	wantError(t, s.PutApproval(ctx, another, late), service.ErrNoRow)

	got, err := s.OpenApprovalRequest(ctx, "d1", t0)
	must(t, err)
	want := *first
	want.Approvals = []*approval.Approval{vote}
	if !reflect.DeepEqual(got, &want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	_, err = s.OpenApprovalRequest(ctx, "d1", late)
	wantError(t, err, service.ErrNoRow)
	wantError(t, s.SpendApprovals(ctx, first.Number, "u", nil, late), service.ErrNoRow)

	// Only one of many uses it.
	var spent atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if s.SpendApprovals(ctx, first.Number, "u", []string{"a"}, t0) == nil {
				spent.Add(1)
			}
		})
	}
	all.Wait()
	if spent.Load() != 1 {
		t.Errorf("it was used %d times", spent.Load())
	}
	if r, err := s.ApprovalRequest(ctx, account, first.Number); err != nil || r.Stored != approval.Used ||
		r.EndedBy != "u" || !reflect.DeepEqual(r.Approvers, []string{"a"}) || !r.EndedAt.Equal(t0) {
		t.Errorf("got %+v, %v", r, err)
	}
	wantError(t, s.PutApproval(ctx, another, t0), service.ErrNoRow)
	wantError(t, s.RejectApprovalRequest(ctx, account, first.Number, "u", t0), service.ErrNoRow)

	// A rejected request makes room.
	wantError(t, s.RejectApprovalRequest(ctx, "444455556666", second.Number, "x", t0), service.ErrNoRow)
	must(t, s.RejectApprovalRequest(ctx, account, second.Number, "x", t0))
	insert(newRequest("d2", "u"))
	insert(newRequest("d1", "u"))
	_, err = s.InsertApprovalRequest(ctx, newRequest("d5", "u"), 2, t0)
	wantError(t, err, service.ErrLimit)

	// Old ones make room, and no number comes back.
	later := newRequest("d4", "u")
	later.CreatedAt, later.ExpiresAt = t0.Add(2*time.Hour), t0.Add(3*time.Hour)
	made, err := s.InsertApprovalRequest(ctx, later, 2, t0.Add(90*time.Minute))
	must(t, err)
	list, err := s.ApprovalRequests(ctx, account, 1<<62, 10)
	must(t, err)
	var numbers []string
	for _, r := range list {
		numbers = append(numbers, fmt.Sprint(r.Number, r.Digest))
	}
	want1 := fmt.Sprint([]string{fmt.Sprint(made.Number, "d4"), fmt.Sprint(made.Number-1, "d1"),
		fmt.Sprint(other.Number, "d3")})
	if fmt.Sprint(numbers) != want1 {
		t.Errorf("got %v, want %v", numbers, want1)
	}
	if list, err = s.ApprovalRequests(ctx, account, made.Number, 1); err != nil || len(list) != 1 || list[0].Digest != "d1" {
		t.Errorf("got %v, %v", list, err)
	}
	_, err = s.ApprovalRequest(ctx, "444455556666", made.Number)
	wantError(t, err, service.ErrNoRow)
}

func TestKeptRequests(t *testing.T) { testKeptRequests(t, create(t)) }

func TestKeptRequestsInPostgres(t *testing.T) { testKeptRequests(t, createPostgres(t)) }

// testKeptRequests: whoever makes and withdraws requests without end does not fill the database. What is open, or was
// used, stays, and so do the requests of others.
func testKeptRequests(t *testing.T, d *DB) {
	t.Helper()
	insert := func(digest, requester string) *approval.Request {
		t.Helper()
		made, err := d.InsertApprovalRequest(ctx, newRequest(digest, requester), 2, t0)
		must(t, err)
		return made
	}
	used, open, others := insert("used", "u"), insert("open", "u"), insert("others", "v")
	must(t, d.SpendApprovals(ctx, used.Number, "u", nil, t0))
	must(t, d.RejectApprovalRequest(ctx, account, others.Number, "v", t0))
	must(t, d.change(ctx, "fill", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `WITH RECURSIVE n (i) AS (SELECT 101 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO approval_requests (`+requestColumns+`)
			SELECT i, account, digest, requester, 'REJECTED', created_at, expires_at, details
			FROM n, approval_requests WHERE number = ?`, 100+approval.MaxKept, open.Number)
		return err
	}))
	for n := range 3 {
		made := insert(fmt.Sprint(n), "u")
		must(t, d.RejectApprovalRequest(ctx, account, made.Number, "u", t0))
	}
	var ended, first int
	must(t, d.read.QueryRowContext(ctx, "SELECT count(*), min(number) FROM approval_requests WHERE requester = 'u' AND "+
		"state = 'REJECTED'").Scan(&ended, &first))
	if ended != approval.MaxKept || first != 104 {
		t.Errorf("%d requests are kept, from number %d on", ended, first)
	}
	for _, r := range []*approval.Request{used, open, others} {
		if _, err := d.ApprovalRequest(ctx, account, r.Number); err != nil {
			t.Errorf("%s: %v", r.Digest, err)
		}
	}
}
