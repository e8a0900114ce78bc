// Package reset brings a development server back to the state that its keys and principals had at a point in time,
// in milliseconds, so that each test of a suite finds the same keys.
//
// It is for verenc dev and for package kmstest, whose keys are throw-away: a reset forgets changes that clients were
// told of. No other server has it. The database goes back in one transaction. Token objects that the point's keys
// have are destroyed by nobody before the server ends (Keep), even when their material or key is deleted, so that a
// reset needs none of them to be made again. Objects that were made later are destroyed.
//
// What does not go back: the audit log, which has a record of each reset, counters of initialisation vectors, and the
// service's own objects.
package reset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/store"
)

// Token is a service's token that keeps the objects of a point.
type Token struct {
	service.Token
	kept atomic.Pointer[map[hsm.ObjectID]bool] // nil before the point
}

// Keep returns the token to give to the service.
func Keep(token service.Token) *Token { return &Token{Token: token} }

// Destroy destroys objects other than those that are kept.
func (t *Token) Destroy(ctx context.Context, ids ...hsm.ObjectID) error {
	if kept := t.kept.Load(); kept != nil {
		ids = slices.DeleteFunc(slices.Clone(ids), func(id hsm.ObjectID) bool { return (*kept)[id] })
	}
	if len(ids) == 0 {
		return nil
	}
	return t.Token.Destroy(ctx, ids...)
}

// Point is a state to which a server can be brought back. Its methods may be called concurrently.
type Point struct {
	db     *store.DB
	token  *Token
	record func(context.Context) error
	backup string // file
	kept   map[hsm.ObjectID]bool

	// gate is held shared by each request (Handler), and alone by a reset: a request before it has ended, and one
	// after it sees all of it.
	gate sync.RWMutex
}

// Mark makes the present state the point. backup is a file to make, beside the database. record writes the audit
// record of a reset before anything is changed.
func Mark(ctx context.Context, db *store.DB, token *Token, backup string, record func(context.Context) error) (
	*Point, error) {
	p := &Point{db: db, token: token, record: record, backup: backup}
	var err error
	if p.kept, err = objects(ctx, db); err != nil {
		return nil, err
	}
	if err := db.Backup(ctx, backup); err != nil {
		return nil, err
	}
	token.kept.Store(&p.kept)
	return p, nil
}

// objects are the token objects of all keys.
func objects(ctx context.Context, db *store.DB) (map[hsm.ObjectID]bool, error) {
	all := map[hsm.ObjectID]bool{}
	err := evidence.EachKey(ctx, db, func(k *service.Key) error {
		for _, m := range k.Materials {
			if m.WrappedBy != (hsm.ObjectID{}) {
				continue // kept in the database; its session objects end with the connection
			}
			for _, object := range m.Objects {
				all[object] = true
			}
		}
		return nil
	})
	return all, err
}

// Reset brings the server back to the point. It waits for requests in progress, and requests wait for it.
func (p *Point) Reset(ctx context.Context) error {
	p.gate.Lock()
	defer p.gate.Unlock()
	ctx = context.WithoutCancel(ctx) // a client that goes away leaves no half of a reset
	if err := p.record(ctx); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	now, err := objects(ctx, p.db)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if err := p.db.Rewind(ctx, p.backup); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	maps.DeleteFunc(now, func(id hsm.ObjectID, _ bool) bool { return p.kept[id] })
	if err := p.token.Destroy(ctx, slices.Collect(maps.Keys(now))...); err != nil && !errors.Is(err, hsm.ErrNoObject) {
		return fmt.Errorf("reset: destroy the objects of later keys: %w", err)
	}
	return nil
}
