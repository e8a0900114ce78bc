package evidence

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service"
)

// Inventory is a comparison of the database with the token, which differ when one of them was restored
// from a backup, or when objects of the token were destroyed.
type Inventory struct {
	Keys    int // rows looked at
	Objects int // token objects with a label of this service
	// Lost are the objects that a row names and the token lacks. Their keys can't be used.
	Lost []LostObject
	// OrphanObjects are the objects with such a label that no row names. Nothing destroys them: they
	// may be the keys of a newer database than this one.
	OrphanObjects []hsm.Object
	// TLS are the private keys of TLS certificates. They are of no row either: settings name them, and
	// nothing but their owner destroys them.
	TLS []hsm.Object
	// SelfTest is the number of objects of self-tests, which run or were broken off. No row names them,
	// and a later self-test destroys them.
	SelfTest int
}

// LostObject is an object that is not in the token.
type LostObject struct {
	KeyID  string // or the purpose of a service object
	Region string
	Role   service.Role
	ID     service.ObjectID
}

// InventoryStore is the part of a store that an inventory needs.
type InventoryStore interface {
	KeyLister
	// OwnObjects returns the token objects that serve the service itself, by purpose, those that wrap
	// keys included. Those in the tokens of custom key stores are not.
	OwnObjects(ctx context.Context) (map[string]service.ObjectID, error)
}

// ObjectLister is the part of the token that an inventory needs; *hsm.Token implements it.
type ObjectLister interface {
	Objects(ctx context.Context, prefix string) ([]hsm.Object, error)
}

// labelPrefix begins the CKA_LABEL of every object of this service.
const labelPrefix = "verenc/"

// TLSLabelPrefix begins the CKA_LABEL of the private keys of TLS certificates. No KMS key has such a label, since
// the id of a key comes in its place.
const TLSLabelPrefix = labelPrefix + "tls/"

// TakeInventory reads every row and every object. Its time grows with their number. It leaves out keys
// in custom key stores, whose objects are in other tokens.
func TakeInventory(ctx context.Context, store InventoryStore, token ObjectLister) (*Inventory, error) {
	objects, err := token.Objects(ctx, labelPrefix)
	if err != nil {
		return nil, fmt.Errorf("list the token's objects: %w", err)
	}
	inv := &Inventory{Objects: len(objects)}
	present := map[service.ObjectID]bool{}
	for _, o := range objects {
		present[o.ID] = true
	}
	named := map[service.ObjectID]bool{}
	expect := func(o LostObject) {
		if !present[o.ID] {
			inv.Lost = append(inv.Lost, o)
		}
		named[o.ID] = true
	}
	err = EachKey(ctx, store, func(k *service.Key) error {
		inv.Keys++
		if k.CustomKeyStore != "" {
			return nil
		}
		for i := range k.Materials {
			m := &k.Materials[i]
			if isWrapped(m) {
				continue // the object that wraps it is among the service's own
			}
			for role, id := range m.Objects {
				if m.Scrap || k.State == service.StateCreating || k.State == service.StateDeleting {
					named[id] = true // it may be there or not; the reconciler finishes what was begun
					continue
				}
				expect(LostObject{KeyID: k.ID, Region: k.Region, Role: role, ID: id})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	own, err := store.OwnObjects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read service objects: %w", err)
	}
	for purpose, id := range own {
		expect(LostObject{KeyID: purpose, Role: "service", ID: id})
	}
	for _, o := range objects {
		switch {
		case named[o.ID]:
		case o.Label == selftest.Label:
			inv.SelfTest++
		case strings.HasPrefix(o.Label, TLSLabelPrefix):
			inv.TLS = append(inv.TLS, o)
		default:
			inv.OrphanObjects = append(inv.OrphanObjects, o)
		}
	}
	slices.SortFunc(inv.Lost, func(a, b LostObject) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Role, b.Role))
	})
	byLabel := func(a, b hsm.Object) int { return cmp.Compare(a.Label, b.Label) }
	slices.SortFunc(inv.OrphanObjects, byLabel)
	slices.SortFunc(inv.TLS, byLabel)
	return inv, nil
}
