package service

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/verenc/kms/hsm"
)

// Inventory compares the store with the token: what a restored backup, or an administrator of the HSM, may have taken apart.
type Inventory struct {
	Keys    int // rows looked at
	Objects int // token objects with a label of this service
	// Lost are objects that a row names and the token does not have: the key can't be used.
	Lost []LostObject
	// OrphanObjects are objects of this service that no row names. Nothing destroys them by itself: they may be the keys of a newer
	// database than this one.
	OrphanObjects []hsm.Object
}

// LostObject is an object that is not in the token.
type LostObject struct {
	KeyID  string // or the purpose of a service object
	Region string
	Role   Role
	ID     ObjectID
}

// ObjectLister is the part of the token that an inventory needs; *hsm.Token implements it.
type ObjectLister interface {
	Objects(ctx context.Context, prefix string) ([]hsm.Object, error)
}

const labelPrefix = "verenc/"

// TakeInventory reads every row and every object. It takes time linear in their number. Keys in custom key stores are
// passed over: their objects are in other tokens.
func TakeInventory(ctx context.Context, store Store, token ObjectLister) (*Inventory, error) {
	objects, err := token.Objects(ctx, labelPrefix)
	if err != nil {
		return nil, fmt.Errorf("list the token's objects: %w", err)
	}
	inv := &Inventory{Objects: len(objects)}
	there := map[ObjectID]hsm.Object{}
	for _, o := range objects {
		there[o.ID] = o
	}
	named := map[ObjectID]bool{}
	look := func(o LostObject) {
		if _, ok := there[o.ID]; !ok {
			inv.Lost = append(inv.Lost, o)
		}
		named[o.ID] = true
	}
	err = EachKey(ctx, store, func(k *Key) error {
		inv.Keys++
		if k.CustomKeyStore != "" {
			return nil
		}
		for i := range k.Materials {
			m := &k.Materials[i]
			for role, id := range m.Objects {
				if m.isWrapped() {
					continue // the object that wrapped it is among the service's own
				}
				if m.Scrap || k.State == StateCreating || k.State == StateDeleting {
					named[id] = true // may be there or not: the reconciler knows
					continue
				}
				look(LostObject{KeyID: k.ID, Region: k.Region, Role: role, ID: id})
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
		look(LostObject{KeyID: purpose, Role: "service", ID: id})
	}
	for _, o := range objects {
		if !named[o.ID] {
			inv.OrphanObjects = append(inv.OrphanObjects, o)
		}
	}
	slices.SortFunc(inv.Lost, func(a, b LostObject) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Role, b.Role))
	})
	slices.SortFunc(inv.OrphanObjects, func(a, b hsm.Object) int { return cmp.Compare(a.Label, b.Label) })
	return inv, nil
}

// EachKey calls f with every key, in order of region and id, until it fails.
func EachKey(ctx context.Context, store Store, f func(*Key) error) error {
	region, id := "", ""
	for {
		keys, err := store.EveryKey(ctx, region, id, reconcileMany)
		if err != nil {
			return fmt.Errorf("read keys: %w", err)
		}
		for _, k := range keys {
			if err := f(k); err != nil {
				return err
			}
			region, id = k.Region, k.ID
		}
		if len(keys) < reconcileMany {
			return nil
		}
	}
}
