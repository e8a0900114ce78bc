package evidence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service"
)

// ErrWrongToken is the error of TokenCheck for a token that does not hold the database's keys, or is
// an older copy of the one that does.
var ErrWrongToken = errors.New("this token does not hold the keys of this database")

// TokenCheck finds out whether a token is the one that holds the database's keys. A token that was
// initialised again, or restored from a backup, may have the same label and PIN, so that these prove
// nothing. All fields are required.
type TokenCheck struct {
	Store TokenCheckStore
	// Missing returns those of some objects that the token lacks.
	Missing func(ctx context.Context, ids ...service.ObjectID) ([]service.ObjectID, error)
	// Serial is the token's serial number.
	Serial string
	Now    func() time.Time
}

// TokenCheckStore is the part of a store that a TokenCheck needs.
type TokenCheckStore interface {
	// OwnObjects is that of InventoryStore.
	OwnObjects(ctx context.Context) (map[string]service.ObjectID, error)
	// ServiceObjectPublic returns the public half of a service object that is a key pair;
	// service.ErrNoRow when there is none.
	ServiceObjectPublic(ctx context.Context, purpose string) ([]byte, error)
	// ChangedKeys returns up to limit keys of the service's own token whose state is neither Creating
	// nor Deleting. The key that was changed last comes first.
	ChangedKeys(ctx context.Context, limit int) ([]*service.Key, error)
	// TokenSerials returns the serial numbers that were recorded, the last one first.
	TokenSerials(ctx context.Context) ([]string, error)
	// RecordTokenSerial records a serial number and when it was seen.
	RecordTokenSerial(ctx context.Context, serial string, at time.Time) error
}

// newestKeys is how many keys are looked up. An older copy of the token lacks the newest.
const newestKeys = 8

// Run looks the objects up and records the token's serial number. It returns an ErrWrongToken that
// names those which are missing.
func (c TokenCheck) Run(ctx context.Context) error {
	var missing []string
	for range 2 { // an object that is destroyed between the look-ups is no longer expected the second time
		names, err := c.expected(ctx)
		if err != nil {
			return err
		}
		ids := make([]service.ObjectID, 0, len(names))
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
	return fmt.Errorf("%w: the token (serial %s) lacks %s; the database was used with %s "+
		"(was the token initialised again, or restored from an older backup? "+
		"Connect the one with the keys, or restore its newest backup)",
		ErrWrongToken, c.Serial, strings.Join(missing, ", "), describeSerials(serials))
}

func describeSerials(serials []string) string {
	if len(serials) == 0 {
		return "no token that was recorded"
	}
	return "serial " + strings.Join(serials, ", ")
}

// expected returns the objects that must be there, each with a description.
func (c TokenCheck) expected(ctx context.Context) (map[service.ObjectID]string, error) {
	own, err := c.Store.OwnObjects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the service's objects: %w", err)
	}
	names := map[service.ObjectID]string{}
	for purpose, id := range own {
		if strings.HasPrefix(purpose, "import/") {
			continue // they exist only for a time
		}
		if strings.HasPrefix(purpose, "audit/") {
			if _, err := c.Store.ServiceObjectPublic(ctx, purpose); errors.Is(err, service.ErrNoRow) {
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
			if m.Scrap || isWrapped(&m) {
				continue
			}
			for role, id := range m.Objects {
				names[id] = fmt.Sprintf("the %s key of KMS key %s (CKA_ID %s)", role, k.ID, id)
			}
		}
	}
	return names, nil
}
