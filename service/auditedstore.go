package service

import (
	"context"
	"time"

	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
	"github.com/verenc/kms/service/record"
)

// auditedStore writes the record of a request, an event or a command before the first change that
// it makes, so that no operation can forget it. Changes that belong to none of them (cleaning up
// after an interrupted request) pass through.
type auditedStore struct{ Store }

func (s auditedStore) InsertKey(ctx context.Context, k *Key) error {
	return recorded(ctx, func() error { return s.Store.InsertKey(ctx, k) })
}

func (s auditedStore) UpdateKey(ctx context.Context, region, id string, change func(*Key) error) error {
	return recorded(ctx, func() error { return s.Store.UpdateKey(ctx, region, id, change) })
}

func (s auditedStore) ChangeRelatedKeys(ctx context.Context, id string, change func([]*Key) ([]*Key, error)) error {
	return recorded(ctx, func() error { return s.Store.ChangeRelatedKeys(ctx, id, change) })
}

func (s auditedStore) RemoveKey(ctx context.Context, region, id string) error {
	return recorded(ctx, func() error { return s.Store.RemoveKey(ctx, region, id) })
}

func (s auditedStore) InsertAlias(ctx context.Context, a *Alias, maxPerKey int) error {
	return recorded(ctx, func() error { return s.Store.InsertAlias(ctx, a, maxPerKey) })
}

func (s auditedStore) UpdateAlias(ctx context.Context, a *Alias, maxPerKey int) error {
	return recorded(ctx, func() error { return s.Store.UpdateAlias(ctx, a, maxPerKey) })
}

func (s auditedStore) DeleteAlias(ctx context.Context, account, region, name string) error {
	return recorded(ctx, func() error { return s.Store.DeleteAlias(ctx, account, region, name) })
}

func (s auditedStore) InsertGrant(ctx context.Context, g *Grant, maxPerKey int) error {
	return recorded(ctx, func() error { return s.Store.InsertGrant(ctx, g, maxPerKey) })
}

func (s auditedStore) DeleteGrant(ctx context.Context, g *Grant) error {
	return recorded(ctx, func() error { return s.Store.DeleteGrant(ctx, g) })
}

func (s auditedStore) InsertKeyStore(ctx context.Context, k *KeyStore, max int) error {
	return recorded(ctx, func() error { return s.Store.InsertKeyStore(ctx, k, max) })
}

func (s auditedStore) UpdateKeyStore(ctx context.Context, id string, change func(*KeyStore) error) error {
	return recorded(ctx, func() error { return s.Store.UpdateKeyStore(ctx, id, change) })
}

func (s auditedStore) RemoveKeyStore(ctx context.Context, id string) error {
	return recorded(ctx, func() error { return s.Store.RemoveKeyStore(ctx, id) })
}

func (s auditedStore) InsertWrappingKey(ctx context.Context, k WrappingKey) error {
	return recorded(ctx, func() error { return s.Store.InsertWrappingKey(ctx, k) })
}

func (s auditedStore) PutPrincipal(ctx context.Context, p *iam.Principal) error {
	return recorded(ctx, func() error { return s.Store.PutPrincipal(ctx, p) })
}

func (s auditedStore) RemovePrincipal(ctx context.Context, principal string) error {
	return recorded(ctx, func() error { return s.Store.RemovePrincipal(ctx, principal) })
}

func (s auditedStore) InsertAccessKey(ctx context.Context, k *iam.AccessKey, maxPerUser int) error {
	return recorded(ctx, func() error { return s.Store.InsertAccessKey(ctx, k, maxPerUser) })
}

func (s auditedStore) EnableAccessKey(ctx context.Context, id string, enabled bool) error {
	return recorded(ctx, func() error { return s.Store.EnableAccessKey(ctx, id, enabled) })
}

func (s auditedStore) RemoveAccessKey(ctx context.Context, id string) error {
	return recorded(ctx, func() error { return s.Store.RemoveAccessKey(ctx, id) })
}

func (s auditedStore) PutCertificate(ctx context.Context, c *iam.Certificate) error {
	return recorded(ctx, func() error { return s.Store.PutCertificate(ctx, c) })
}

func (s auditedStore) RemoveCertificate(ctx context.Context, fingerprint string) error {
	return recorded(ctx, func() error { return s.Store.RemoveCertificate(ctx, fingerprint) })
}

func (s auditedStore) PutGuard(ctx context.Context, g *iam.Guard) error {
	return recorded(ctx, func() error { return s.Store.PutGuard(ctx, g) })
}

func (s auditedStore) RemoveGuard(ctx context.Context, account string) error {
	return recorded(ctx, func() error { return s.Store.RemoveGuard(ctx, account) })
}

func (s auditedStore) PutApproval(ctx context.Context, a *approval.Approval, now time.Time) error {
	return recorded(ctx, func() error { return s.Store.PutApproval(ctx, a, now) })
}

func (s auditedStore) RejectApprovalRequest(ctx context.Context, account string, number int64, by string,
	now time.Time) error {
	return recorded(ctx, func() error { return s.Store.RejectApprovalRequest(ctx, account, number, by, now) })
}

func (s auditedStore) InsertDestruction(ctx context.Context, c *DestructionCertificate) error {
	return recorded(ctx, func() error { return s.Store.InsertDestruction(ctx, c) })
}

func (s auditedStore) InsertBreakGlassKey(ctx context.Context, k *breakglass.Key) error {
	return recorded(ctx, func() error { return s.Store.InsertBreakGlassKey(ctx, k) })
}

func (s auditedStore) InsertBreakGlassOpening(ctx context.Context, o *iam.BreakGlassOpening) error {
	return recorded(ctx, func() error { return s.Store.InsertBreakGlassOpening(ctx, o) })
}

func (s auditedStore) UpdateBreakGlassOpening(
	ctx context.Context, id string, change func(*iam.BreakGlassOpening) error,
) error {
	return recorded(ctx, func() error { return s.Store.UpdateBreakGlassOpening(ctx, id, change) })
}

func recorded(ctx context.Context, change func() error) error {
	if err := record.BeforeChange(ctx); err != nil {
		return err
	}
	return change()
}
