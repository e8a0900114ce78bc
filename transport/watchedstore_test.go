package transport_test

import (
	"context"

	"github.com/verenc/kms/service"
)

// watchedStore calls change before each change.
type watchedStore struct {
	service.Store
	a *audited
}

func (s watchedStore) do(method string, change func() error) error {
	if err := s.a.change(method); err != nil {
		return err
	}
	return change()
}

func (s watchedStore) InsertKey(ctx context.Context, k *service.Key) error {
	return s.do("InsertKey", func() error { return s.Store.InsertKey(ctx, k) })
}

func (s watchedStore) UpdateKey(ctx context.Context, region, id string, change func(*service.Key) error) error {
	return s.do("UpdateKey", func() error { return s.Store.UpdateKey(ctx, region, id, change) })
}

func (s watchedStore) ChangeRelatedKeys(ctx context.Context, id string,
	change func([]*service.Key) ([]*service.Key, error)) error {
	return s.do("ChangeRelatedKeys", func() error { return s.Store.ChangeRelatedKeys(ctx, id, change) })
}

func (s watchedStore) RemoveKey(ctx context.Context, region, id string) error {
	return s.do("RemoveKey", func() error { return s.Store.RemoveKey(ctx, region, id) })
}

func (s watchedStore) InsertAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	return s.do("InsertAlias", func() error { return s.Store.InsertAlias(ctx, a, maxPerKey) })
}

func (s watchedStore) UpdateAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	return s.do("UpdateAlias", func() error { return s.Store.UpdateAlias(ctx, a, maxPerKey) })
}

func (s watchedStore) DeleteAlias(ctx context.Context, account, region, name string) error {
	return s.do("DeleteAlias", func() error { return s.Store.DeleteAlias(ctx, account, region, name) })
}

func (s watchedStore) InsertGrant(ctx context.Context, g *service.Grant, maxPerKey int) error {
	return s.do("InsertGrant", func() error { return s.Store.InsertGrant(ctx, g, maxPerKey) })
}

func (s watchedStore) DeleteGrant(ctx context.Context, g *service.Grant) error {
	return s.do("DeleteGrant", func() error { return s.Store.DeleteGrant(ctx, g) })
}

func (s watchedStore) InsertKeyStore(ctx context.Context, k *service.KeyStore, most int) error {
	return s.do("InsertKeyStore", func() error { return s.Store.InsertKeyStore(ctx, k, most) })
}

func (s watchedStore) UpdateKeyStore(ctx context.Context, id string, change func(*service.KeyStore) error) error {
	return s.do("UpdateKeyStore", func() error { return s.Store.UpdateKeyStore(ctx, id, change) })
}

func (s watchedStore) RemoveKeyStore(ctx context.Context, id string) error {
	return s.do("RemoveKeyStore", func() error { return s.Store.RemoveKeyStore(ctx, id) })
}

func (s watchedStore) InsertWrappingKey(ctx context.Context, k service.WrappingKey) error {
	return s.do("InsertWrappingKey", func() error { return s.Store.InsertWrappingKey(ctx, k) })
}
