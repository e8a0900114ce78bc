package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrWrongToken: the token is not the one that holds the database's keys, or it is an older copy of it.
var ErrWrongToken = errors.New("this token does not hold the keys of this database")

// TokenCheck tells whether a token is the one that holds the database's keys. Its label and PIN do not tell: they are the
// same after it was initialised again, or restored from a backup. All members are required.
type TokenCheck struct {
	Store TokenCheckStore
	// Missing gives those of some objects that the token does not have.
	Missing func(ctx context.Context, ids ...ObjectID) ([]ObjectID, error)
	// Serial is the token's serial number.
	Serial string
	Now    func() time.Time
}

// TokenCheckStore is what TokenCheck needs of a Store.
type TokenCheckStore interface {
	OwnObjects(ctx context.Context) (map[string]ObjectID, error)
	ServiceObjectPublic(ctx context.Context, purpose string) ([]byte, error)
	// ChangedKeys returns up to limit keys of the service's own token whose state is neither Creating nor Deleting, the one
	// that was changed last first.
	ChangedKeys(ctx context.Context, limit int) ([]*Key, error)
	// TokenSerials returns the serial numbers that RecordTokenSerial was told, the last one first.
	TokenSerials(ctx context.Context) ([]string, error)
	// RecordTokenSerial keeps a serial number and when it was seen.
	RecordTokenSerial(ctx context.Context, serial string, at time.Time) error
}

// newestKeys is how many keys are looked up: a backup of the token is older by some.
const newestKeys = 8

// Run looks the objects up. It gives an ErrWrongToken that names those which are missing.
func (c TokenCheck) Run(ctx context.Context) error {
	var missing []string
	for range 2 { // an object may be destroyed between the two look-ups: then the second time nobody asks for it
		names, err := c.expected(ctx)
		if err != nil {
			return err
		}
		ids := make([]ObjectID, 0, len(names))
		for id := range names {
			ids = append(ids, id)
		}
		absent, err := c.Missing(ctx, ids...)
		if err != nil {
			return fmt.Errorf("look for the database's objects in the token: %w", err)
		}
		missing = nil
		for _, id := range absent {
			missing = append(missing, names[id])
		}
		if missing == nil {
			return c.Store.RecordTokenSerial(ctx, c.Serial, c.Now())
		}
	}
	serials, err := c.Store.TokenSerials(ctx)
	if err != nil {
		return fmt.Errorf("read the serial numbers of tokens: %w", err)
	}
	slices.Sort(missing)
	return fmt.Errorf("%w: the token (serial %s) lacks %s; the database was used with %s (was the token initialised again, or restored from an older backup? Connect the one with the keys, or restore its newest backup)",
		ErrWrongToken, c.Serial, strings.Join(missing, ", "), describeSerials(serials))
}

func describeSerials(serials []string) string {
	if len(serials) == 0 {
		return "no token that was recorded"
	}
	return "serial " + strings.Join(serials, ", ")
}

// expected are the objects that must be there, with words for each.
func (c TokenCheck) expected(ctx context.Context) (map[ObjectID]string, error) {
	own, err := c.Store.OwnObjects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the service's objects: %w", err)
	}
	names := map[ObjectID]string{}
	for purpose, id := range own {
		if strings.HasPrefix(purpose, "import/") {
			continue // they come and go
		}
		if strings.HasPrefix(purpose, "audit/") {
			if _, err := c.Store.ServiceObjectPublic(ctx, purpose); errors.Is(err, ErrNoRow) {
				continue // it is still to be made
			} else if err != nil {
				return nil, fmt.Errorf("read the service's objects: %w", err)
			}
		}
		names[id] = fmt.Sprintf("the service's key %q (CKA_ID %s)", purpose, id)
	}
	keys, err := c.Store.ChangedKeys(ctx, newestKeys)
	if err != nil {
		return nil, fmt.Errorf("read the newest keys: %w", err)
	}
	for _, k := range keys {
		for _, m := range k.Materials {
			if m.Scrap || m.isWrapped() {
				continue
			}
			for role, id := range m.Objects {
				names[id] = fmt.Sprintf("the %s key of KMS key %s (CKA_ID %s)", role, k.ID, id)
			}
		}
	}
	return names, nil
}
