package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/verenc/kms/service"
)

// A lease is a row of verenc_leases: who does a work, and its epoch, which grows with each holder. The
// holder counts a beat up while it works. Another server takes the work over when it has watched the
// beat stand still for leaseTimeout by its own clock, so that no clocks need to agree. The old holder
// may live on, and not know: each change that it makes for the work checks the epoch in its
// transaction, and locks the row until it has committed (a fencing token). So it has no effect after
// the take-over.
const (
	beatInterval = time.Second
	leaseTimeout = 5 * time.Second
	leaseLook    = 250 * time.Millisecond
)

type lease struct {
	work, holder string
	epoch, beat  int64
}

const stillHeld = " WHERE work = ? AND epoch = ?"

type leaseKey struct{}

// Exclusively implements service.Store. One process has a file of SQLite, in what it does by itself.
func (d *DB) Exclusively(ctx context.Context, work string, do func(context.Context) error) error {
	if d.writers == nil {
		return do(ctx)
	}
	l, err := d.take(ctx, work)
	if err != nil || l == nil {
		return err
	}
	beats, stop := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		// After an error, the next beat may succeed; the fence holds meanwhile.
		d.each(beats, d.beatInterval, func() { _ = d.beat(beats, l) })
	})
	defer func() {
		stop()
		beating.Wait()
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
		defer cancel()
		_ = d.leave(ending, l) // else it is taken over after leaseTimeout
	}()
	return do(context.WithValue(ctx, leaseKey{}, l))
}

// take gives the lease, or nil while another server has it and lives.
func (d *DB) take(ctx context.Context, work string) (*lease, error) {
	first, err := d.readLease(ctx, work)
	if err != nil {
		return nil, err
	}
	now, began := first, time.Now()
	for now.holder != "" && time.Since(began) < d.leaseTimeout {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(min(leaseLook, d.leaseTimeout/4)):
		}
		if now, err = d.readLease(ctx, work); err != nil {
			return nil, err
		}
		if now.epoch != first.epoch || now.beat != first.beat {
			return nil, nil
		}
	}
	next := &lease{work: work, holder: d.id, epoch: now.epoch + 1}
	err = d.change(ctx, "take a lease", func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, `UPDATE verenc_leases SET holder = ?, epoch = ?, beat = 0
			WHERE work = ? AND epoch = ? AND beat = ?`,
			next.holder, next.epoch, work, now.epoch, now.beat))
	})
	if errors.Is(err, service.ErrNoRow) { // another one was faster, or lives after all
		return nil, nil
	}
	return next, err
}

// readLease makes the row when there is none.
func (d *DB) readLease(ctx context.Context, work string) (l lease, err error) {
	read := func() error {
		return d.read.QueryRowContext(ctx, "SELECT work, holder, epoch, beat FROM verenc_leases WHERE work = ?", work).
			Scan(&l.work, &l.holder, &l.epoch, &l.beat)
	}
	if err = read(); errors.Is(err, sql.ErrNoRows) {
		err = d.change(ctx, "make a lease", func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO verenc_leases (work, holder, epoch, beat) VALUES (?, '', 0, 0)
				ON CONFLICT (work) DO NOTHING`, work)
			return err
		})
		if err == nil {
			err = read()
		}
	}
	if err != nil {
		return l, fmt.Errorf("read a lease: %w", busy(err))
	}
	return l, nil
}

func (d *DB) beat(ctx context.Context, l *lease) error {
	return d.change(ctx, "keep a lease", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE verenc_leases SET beat = beat + 1"+stillHeld, l.work, l.epoch)
		return err // of a lease that was taken over, nothing is updated
	})
}

func (d *DB) leave(ctx context.Context, l *lease) error {
	return d.change(ctx, "leave a lease", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "UPDATE verenc_leases SET holder = ''"+stillHeld, l.work, l.epoch)
		return err
	})
}

// fenced is f, but only while the lease that ctx has is still this server's.
func fenced(ctx context.Context, f func(*sql.Tx) error) func(*sql.Tx) error {
	l, ok := ctx.Value(leaseKey{}).(*lease)
	if !ok {
		return f
	}
	return func(tx *sql.Tx) error {
		err := affected(tx.ExecContext(ctx, "UPDATE verenc_leases SET epoch = epoch"+stillHeld, l.work, l.epoch))
		if errors.Is(err, service.ErrNoRow) {
			return fmt.Errorf("%s: %w", l.work, service.ErrTakenOver)
		}
		if err != nil {
			return err
		}
		return f(tx)
	}
}
