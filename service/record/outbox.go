package record

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/audit"
)

const (
	deliveryInterval = time.Second
	deliveryBatch    = 100              // records read at once
	deliveryTimeout  = 10 * time.Second // of the last delivery, after the service was told to end
)

// PendingRecord is an audit record that waits to be put into the log.
type PendingRecord struct {
	Number int64  // ascending
	Record []byte // JSON
}

// PendingStore keeps pending records. A method that returns nil has made its change durable.
type PendingStore interface {
	// InsertPendingRecord keeps an audit record until it is in the log.
	InsertPendingRecord(ctx context.Context, record []byte) error
	// PendingRecords returns up to limit of them, in the order in which they were inserted.
	PendingRecords(ctx context.Context, limit int) ([]PendingRecord, error)
	// RemovePendingRecord removes one; an absent one is no error.
	RemovePendingRecord(ctx context.Context, number int64) error
	// Exclusively runs work that only one server may do at a time, or returns nil while another
	// server does it.
	Exclusively(ctx context.Context, work string, do func(context.Context) error) error
}

// workDeliver is what only one server does at a time, so that a record is in one log.
const workDeliver = "deliver records"

// Outbox is the Auditor of commands. Only one process writes an audit log, and that may be a server.
// So a command leaves its records in the database, where they are durable before the change that
// they tell of is made. The running server, or the next one to start, puts them into the log.
type Outbox struct{ Store PendingStore }

// Append implements Auditor.
func (o Outbox) Append(ctx context.Context, r *audit.Record) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = o.Store.InsertPendingRecord(ctx, text)
	}
	if err != nil {
		return fmt.Errorf("keep an audit record: %w", err)
	}
	return nil
}

// Delivery puts the pending records of commands into the log.
type Delivery struct {
	From PendingStore
	To   Auditor
	Log  *zap.Logger
}

// Run delivers until ctx ends, and once more then. Of failures one after the other, it logs the first.
func (d Delivery) Run(ctx context.Context) {
	tick := time.NewTicker(deliveryInterval)
	defer tick.Stop()
	failing := false
	for ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), deliveryTimeout)
		err := d.deliver(ending)
		cancel()
		if err != nil && !failing {
			d.logFailure(err)
		} else if err == nil && failing {
			d.Log.Info("the records of commands are put into the audit log again")
		}
		failing = err != nil
	}
}

// Deliver delivers the records that are pending now. What fails is logged; Run tries it again.
func (d Delivery) Deliver(ctx context.Context) {
	if err := d.deliver(ctx); err != nil {
		d.logFailure(err)
	}
}

func (d Delivery) logFailure(err error) {
	d.Log.Error("put the records of commands into the audit log; it is tried again each second, without another "+
		"line until it succeeds", zap.Error(err))
}

// deliver puts the records into the log. A crash between a record and its removal puts it there
// twice, with the same eventID.
func (d Delivery) deliver(ctx context.Context) error {
	waiting, err := d.From.PendingRecords(ctx, 1)
	if err != nil || len(waiting) == 0 {
		return err
	}
	return d.From.Exclusively(ctx, workDeliver, d.deliverAll)
}

func (d Delivery) deliverAll(ctx context.Context) error {
	for {
		records, err := d.From.PendingRecords(ctx, deliveryBatch)
		if err != nil || len(records) == 0 {
			return err
		}
		for _, p := range records {
			var r audit.Record
			if err := json.Unmarshal(p.Record, &r); err != nil {
				return fmt.Errorf("read pending record %d: %w", p.Number, err)
			}
			if err := d.To.Append(ctx, &r); err != nil {
				return err
			}
			if err := d.From.RemovePendingRecord(ctx, p.Number); err != nil {
				return err
			}
		}
	}
}
