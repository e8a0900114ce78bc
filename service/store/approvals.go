package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
)

const requestColumns = "number, account, digest, requester, state, created_at, expires_at, details"

func scanRequest(row scanner) (*approval.Request, error) {
	var r approval.Request
	var created, expires sql.NullInt64
	var details []byte
	err := row.Scan(&r.Number, &r.Account, &r.Digest, &r.Requester, &r.Stored, &created, &expires, &details)
	if err != nil {
		return nil, err
	}
	r.CreatedAt, r.ExpiresAt = fromNanos(created), fromNanos(expires)
	if err := json.Unmarshal(details, &r.Details); err != nil {
		return nil, fmt.Errorf("read approval request %d: %w", r.Number, err)
	}
	return &r, nil
}

const selectRequests = "SELECT " + requestColumns + " FROM approval_requests WHERE "

// isOpen is what a request has to be to be approved, rejected or used; its value is the time.
const isOpen = "state = 'PENDING' AND expires_at > ?"

// InsertApprovalRequest implements approval.Store. Numbers go up: that of the newest request is never free again.
func (d *DB) InsertApprovalRequest(ctx context.Context, r *approval.Request, max int, over time.Time) (
	made *approval.Request, err error) {
	details, err := json.Marshal(r.Details)
	if err != nil {
		return nil, fmt.Errorf("insert approval request: %w", err)
	}
	err = d.change(ctx, "insert approval request", func(tx *sql.Tx) (err error) {
		made, err = scanRequest(tx.QueryRowContext(ctx, selectRequests+"digest = ? AND "+isOpen, r.Digest,
			nanos(r.CreatedAt)))
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := makeRoom(ctx, tx, r, over); err != nil {
			return err
		}
		var count int
		err = tx.QueryRowContext(ctx, "SELECT count(*) FROM approval_requests WHERE requester = ? AND "+isOpen,
			r.Requester, nanos(r.CreatedAt)).Scan(&count)
		if err != nil {
			return err
		}
		if count >= max {
			return service.ErrLimit
		}
		inserted := *r
		made = &inserted
		row := tx.QueryRowContext(ctx, "SELECT coalesce(max(number), 0) + 1 FROM approval_requests")
		if err := row.Scan(&made.Number); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO approval_requests ("+requestColumns+") VALUES "+
			placeholders(requestColumns), made.Number, r.Account, r.Digest, r.Requester, r.Stored, nanos(r.CreatedAt),
			nanos(r.ExpiresAt), string(details))
		return err
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// makeRoom removes the old requests of the requester of r, whose CreatedAt is now.
func makeRoom(ctx context.Context, tx *sql.Tx, r *approval.Request, over time.Time) error {
	const remove = `DELETE FROM approval_requests WHERE requester = ?
		AND number < (SELECT max(number) FROM approval_requests) AND `
	_, err := tx.ExecContext(ctx, remove+"expires_at < ?", r.Requester, nanos(over))
	if err != nil {
		return err
	}
	const unused = "(state = 'REJECTED' OR state = 'PENDING' AND expires_at <= ?)"
	_, err = tx.ExecContext(ctx, remove+unused+` AND number <= (SELECT number FROM approval_requests
		WHERE requester = ? AND `+unused+" ORDER BY number DESC LIMIT 1 OFFSET ?)",
		r.Requester, nanos(r.CreatedAt), r.Requester, nanos(r.CreatedAt), approval.MaxKept-1)
	return err
}

// OpenApprovalRequest implements approval.Store.
func (d *DB) OpenApprovalRequest(ctx context.Context, digest string, now time.Time) (*approval.Request, error) {
	return d.request(ctx, "digest = ? AND "+isOpen, digest, nanos(now))
}

// ApprovalRequest implements approval.Store.
func (d *DB) ApprovalRequest(ctx context.Context, account string, number int64) (*approval.Request, error) {
	return d.request(ctx, "account = ? AND number = ?", account, number)
}

func (d *DB) request(ctx context.Context, where string, args ...any) (*approval.Request, error) {
	r, err := scanRequest(d.read.QueryRowContext(ctx, selectRequests+where, args...))
	if r, err = one(r, err, "approval request"); err != nil {
		return nil, err
	}
	return r, d.addApprovals(ctx, r)
}

// ApprovalRequests implements approval.Store.
func (d *DB) ApprovalRequests(ctx context.Context, account string, before int64, limit int) (
	[]*approval.Request, error) {
	rows, err := d.read.QueryContext(ctx, selectRequests+
		"account = ? AND number < ? ORDER BY number DESC LIMIT ?", account, before, limit)
	all, err := collect(rows, err, scanRequest)
	for i := 0; err == nil && i < len(all); i++ {
		err = d.addApprovals(ctx, all[i])
	}
	return all, err
}

func (d *DB) addApprovals(ctx context.Context, r *approval.Request) error {
	rows, err := d.read.QueryContext(ctx,
		"SELECT approver, at, evidence FROM approvals WHERE request = ? ORDER BY at, approver", r.Number)
	r.Approvals, err = collect(rows, err, func(row scanner) (*approval.Approval, error) {
		a := approval.Approval{Request: r.Number}
		var at sql.NullInt64
		var evidence []byte
		if err := row.Scan(&a.Approver, &at, &evidence); err != nil {
			return nil, err
		}
		a.At = fromNanos(at)
		return &a, json.Unmarshal(evidence, &a.Evidence)
	})
	if err != nil {
		return fmt.Errorf("read approvals of request %d: %w", r.Number, err)
	}
	return nil
}

// PutApproval implements approval.Store.
func (d *DB) PutApproval(ctx context.Context, a *approval.Approval, now time.Time) error {
	evidence, err := json.Marshal(a.Evidence)
	if err != nil {
		return fmt.Errorf("put approval: %w", err)
	}
	return d.change(ctx, "put approval", func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, `INSERT INTO approvals (request, approver, at, evidence)
			SELECT number, ?, ?, ? FROM approval_requests WHERE number = ? AND `+isOpen+
			" ON CONFLICT (request, approver) DO UPDATE SET at = excluded.at, evidence = excluded.evidence",
			a.Approver, nanos(a.At), string(evidence), a.Request, nanos(now)))
	})
}

// RejectApprovalRequest implements approval.Store.
func (d *DB) RejectApprovalRequest(ctx context.Context, account string, number int64, by string, now time.Time) error {
	return d.endRequest(ctx, "reject approval request", now, approval.Rejected, "account = ? AND number = ?",
		[]any{account, number}, func(r *approval.Details) { r.EndedBy = by })
}

// SpendApprovals implements approval.Store.
func (d *DB) SpendApprovals(ctx context.Context, number int64, by string, approvers []string, now time.Time) error {
	return d.endRequest(ctx, "spend approvals", now, approval.Used, "number = ?", []any{number},
		func(r *approval.Details) { r.EndedBy, r.Approvers = by, approvers })
}

// endRequest ends an open request, in one transaction: whoever comes second finds none.
func (d *DB) endRequest(ctx context.Context, doing string, now time.Time, state approval.State, where string,
	args []any, end func(*approval.Details)) error {
	return d.change(ctx, doing, func(tx *sql.Tx) error {
		r, err := scanRequest(tx.QueryRowContext(ctx, selectRequests+where+" AND "+isOpen, append(args, nanos(now))...))
		if r, err = one(r, err, "approval request"); err != nil {
			return err
		}
		r.EndedAt = now.UTC()
		end(&r.Details)
		details, err := json.Marshal(r.Details)
		if err != nil {
			return err
		}
		return affected(tx.ExecContext(ctx,
			"UPDATE approval_requests SET state = ?, details = ? WHERE number = ? AND "+isOpen,
			state, string(details), r.Number, nanos(now)))
	})
}
