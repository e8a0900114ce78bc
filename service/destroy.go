package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/destruction"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/statement"
)

const opScheduleKeyDeletion = "ScheduleKeyDeletion"

// deletionRequest is who asked for the deletion of a key; nil for a key that is not to be deleted, but was not
// finished. Whoever asked before there were certificates is not known.
func (k *Key) deletionRequest() *destruction.Request {
	if k.Deletion == nil && !k.DeletionAt.IsZero() {
		return &destruction.Request{Operation: opScheduleKeyDeletion}
	}
	return k.Deletion
}

// destructionRequest is who asks for a destruction; the service itself when there is no caller.
func (s *Service) destructionRequest(c *iam.Caller, operation string) *destruction.Request {
	asked := &destruction.Request{Operation: operation, At: s.now().UTC()}
	if c != nil {
		asked.Principal, asked.EventID, asked.ApprovedBy = c.Principal, c.EventID, c.Call.ApprovedBy
		if s.cfg.Operator != nil {
			asked.Principal = operatorName(s.cfg.Operator)
		}
	}
	return asked
}

// destroyCertified destroys the objects of materials. If somebody has asked for it, the token has to show that it
// has none of them any more, and a certificate is made, before the caller removes the row. What fails is tried
// again: each step can be repeated.
func (s *Service) destroyCertified(
	ctx context.Context, k *Key, materials []Material, asked *destruction.Request,
) error {
	var d *destruction.Statement
	if s.cfg.Certify != nil && asked != nil {
		var err error
		if d, err = s.describeDestruction(ctx, k, materials, asked); err != nil {
			return fmt.Errorf("certify the destruction: %w", err)
		}
	}
	for i := range materials {
		if err := s.destroyObjects(ctx, k, &materials[i]); err != nil {
			return fmt.Errorf("material %d: %w", materials[i].Ordinal, err)
		}
	}
	if d == nil {
		return nil
	}
	if err := s.certifyDestruction(ctx, k, d); err != nil {
		return fmt.Errorf("certify the destruction: %w", err)
	}
	return nil
}

// describeDestruction is what a certificate will say, before the objects are destroyed. It is nil when nothing is to
// be destroyed, since keys of other regions use the material, or when there is a certificate already.
func (s *Service) describeDestruction(
	ctx context.Context, k *Key, materials []Material, asked *destruction.Request,
) (*destruction.Statement, error) {
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	shared, err := s.sharedObjects(ctx, k)
	if err != nil {
		return nil, err
	}
	d := &destruction.Statement{Request: *asked, Key: destruction.Key{
		ARN: k.ARN(s.canonical), ID: k.ID, Account: k.Account, Region: k.Region, Spec: k.Spec, Usage: k.Usage,
		Origin: k.Origin, CreatedAt: k.CreatedAt.UTC(), Deleted: asked.Operation == opScheduleKeyDeletion,
	}}
	if len(k.PublicKey) > 0 {
		d.Key.PublicKeySHA256 = statement.SHA256(k.PublicKey)
	}
	var names []ObjectID
	for i := range materials {
		m := &materials[i]
		destroyed := destruction.Material{Ordinal: m.Ordinal, ID: m.ID, CreatedAt: m.objectsMadeAt().UTC()}
		if m.Former != 0 { // the scrap itself, with its own ordinal, began when the objects were taken away
			destroyed.Ordinal = m.Former
		}
		for _, role := range slices.Sorted(maps.Keys(m.Objects)) {
			id := m.Objects[role]
			if shared[id] {
				continue
			}
			names = append(names, id)
			if m.isWrapped() {
				destroyed.WrappedUnder = &m.WrappedBy
				continue
			}
			object := destruction.Object{Role: string(role), ID: id}
			attributes, err := token.Attributes(ctx, id)
			switch {
			case err == nil:
				object.Attributes = &attributes
			case !errors.Is(err, hsm.ErrNoObject):
				return nil, err
			}
			destroyed.Objects = append(destroyed.Objects, object)
		}
		if destroyed.Objects != nil || destroyed.WrappedUnder != nil {
			d.Materials = append(d.Materials, destroyed)
		}
	}
	if d.Materials == nil {
		return nil, nil
	}
	d.ID = destruction.NewID(k.Region, k.ID, names)
	if d.Token, err = token.Info(); err != nil {
		return nil, err
	}
	_, err = s.store.Destruction(ctx, d.ID)
	switch {
	case err == nil:
		return nil, nil
	case !errors.Is(err, ErrNoRow):
		return nil, err
	}
	return d, nil
}

// certifyDestruction has the token show that the objects are gone, and keeps the signed certificate.
func (s *Service) certifyDestruction(ctx context.Context, k *Key, d *destruction.Statement) error {
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	var objects []ObjectID
	for _, m := range d.Materials {
		for _, o := range m.Objects {
			objects = append(objects, o.ID)
		}
	}
	missing, err := token.Missing(ctx, objects...)
	if err != nil {
		return err
	}
	if len(missing) != len(objects) {
		return fmt.Errorf("the token still has %d of %d objects that it was asked to destroy",
			len(objects)-len(missing), len(objects))
	}
	d.Time = s.now().UTC()
	signed, err := s.cfg.Certify(ctx, d)
	if err != nil {
		return err
	}
	err = s.recordEvent(ctx, record.CertifyDestruction, k, func(ctx context.Context) error {
		record.Add(ctx, "certificateId", d.ID)
		record.Add(ctx, "certificateSHA256", statement.SHA256(signed))
		record.Add(ctx, "requestEventID", d.Request.EventID)
		return s.store.InsertDestruction(ctx, &DestructionCertificate{ID: d.ID, Region: k.Region, KeyID: k.ID,
			At: d.Time, Signed: signed})
	})
	if errors.Is(err, ErrExists) { // another server was faster; its certificate counts
		return nil
	}
	if err == nil {
		s.log.Info("destruction certified", zap.String("key", k.ID), zap.String("certificate", d.ID))
	}
	return err
}
