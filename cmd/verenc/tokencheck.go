package main

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/store"
)

// objectFinder is a token whose objects can be looked up.
type objectFinder interface {
	Missing(ctx context.Context, ids ...hsm.ObjectID) ([]hsm.ObjectID, error)
	Info() (hsm.Info, error)
}

// checkToken fails when the token is not the one that holds the database's keys.
func checkToken(ctx context.Context, db *store.DB, token objectFinder) error {
	info, err := token.Info()
	if err != nil {
		return err
	}
	return evidence.TokenCheck{Store: db, Missing: token.Missing, Serial: info.Serial, Now: time.Now}.Run(ctx)
}

// checkAgain is when a check that has failed is repeated: the token or the database may have been lost again
// during it.
const checkAgain = time.Second

// tokenWatch checks the token whenever it is connected again, until the check succeeds. A server with another
// token is not ready.
type tokenWatch struct {
	check     func(ctx context.Context) error
	connected <-chan struct{}
	log       *zap.Logger
	problem   atomic.Pointer[error] // of the last check
}

// run watches until ctx ends.
func (w *tokenWatch) run(ctx context.Context) {
	var again <-chan time.Time
	said := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.connected:
		case <-again:
		}
		err := w.check(ctx)
		if ctx.Err() != nil {
			return
		}
		w.problem.Store(&err)
		if again = nil; err == nil {
			said = ""
			continue
		}
		again = time.After(checkAgain)
		if text := err.Error(); text != said {
			said = text
			w.log.Error("not ready: the token was checked against the database; it is checked again", zap.Error(err))
		}
	}
}

// ready returns what the last check found.
func (w *tokenWatch) ready(context.Context) error {
	if err := w.problem.Load(); err != nil {
		return *err
	}
	return nil
}
