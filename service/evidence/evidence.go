// Package evidence makes the documents about keys that people rely on: signed statements of where a
// key's material is and what a second PKCS#11 implementation says of it (attestation), a summary of an
// account for an auditor (report), and the comparison of the database with the token (inventory, token
// check). It also has the keys that sign the audit log.
//
// It is above package service. It reads; it writes only the audit log's keys and the serial number of
// the token. No policy limits it: whoever may call it administers the service.
package evidence

import (
	"context"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
)

// Examiner describes the keys of a service. Service, Store and Now are required; Attest needs no Store.
type Examiner struct {
	Service   *service.Service
	Store     ReportStore
	ARNFormat arn.Format // of the ARNs that it writes; default arn.Verenc
	Now       func() time.Time
}

// pageSize is how many rows are read at once.
const pageSize = 100

// KeyLister is the part of a store that EachKey needs.
type KeyLister interface {
	// EveryKey returns up to limit keys of all accounts and states, in order of region and id, from
	// the first one after these two.
	EveryKey(ctx context.Context, region, id string, limit int) ([]*service.Key, error)
}

// EachKey calls f with every key, in order of region and id, until it fails.
func EachKey(ctx context.Context, store KeyLister, f func(*service.Key) error) error {
	region, id := "", ""
	for {
		keys, err := store.EveryKey(ctx, region, id, pageSize)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		for _, k := range keys {
			if err := f(k); err != nil {
				return err
			}
			region, id = k.Region, k.ID
		}
		if len(keys) < pageSize {
			return nil
		}
	}
}
