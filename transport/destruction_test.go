package transport_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/destruction"
)

// certified is a server that certifies destructions.
type certified struct {
	*server
	paused *pausedStore
	signed int // certificates
}

func newCertified(t *testing.T, o options) *certified {
	t.Helper()
	c := &certified{paused: &pausedStore{}}
	change := o.service
	o.service = func(sc *service.Config) {
		if change != nil {
			change(sc)
		}
		c.paused.Store, sc.Store = sc.Store, c.paused
		sc.Certify = func(ctx context.Context, d *destruction.Statement) ([]byte, error) {
			origin, signer, err := c.signer(ctx)
			if err != nil {
				return nil, err
			}
			c.signed++
			return d.Sign(ctx, origin, signer)
		}
	}
	c.server = newServer(t, o)
	return c
}

func (c *certified) verifierKey(t *testing.T) string {
	t.Helper()
	origin, signer, err := c.signer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ok(audit.VerifierKey(origin, signer.Public()))(t)
}

// certificates are those of a key, oldest first.
func (c *certified) certificates(t *testing.T, id string) (all []*destruction.Statement, signed [][]byte) {
	t.Helper()
	for _, row := range ok(c.Store.Destructions(t.Context(), time.Time{}, "", 100))(t) {
		d := ok(destruction.Verify(row.Signed, c.verifierKey(t)))(t)
		if row.ID != d.ID || row.KeyID != d.Key.ID || row.Region != d.Key.Region || !row.At.Equal(d.Time) {
			t.Errorf("row %+v of %+v", row, d)
		}
		if d.Key.ID == id {
			all, signed = append(all, d), append(signed, row.Signed)
		}
	}
	return all, signed
}

// delete schedules the deletion of a key, and lets its waiting period pass.
func (c *certified) delete(t *testing.T, id string) {
	t.Helper()
	ok(c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))(t)
	c.age(31 * 24 * time.Hour)
}

// TestDestructionIsCertified: the certificate of a deleted key says what was destroyed and who asked, and verifies
// with the public key alone, and in no other form.
func TestDestructionIsCertified(t *testing.T) {
	c := newCertified(t, options{})
	for _, kind := range []struct {
		spec    types.KeySpec
		usage   types.KeyUsageType
		roles   string
		keyType string
	}{
		{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, "seal wrap", "CKK_AES"},
		{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, "pair", "CKK_EC"},
		{types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac, "mac", "CKK_GENERIC_SECRET"},
	} {
		made := c.makeKey(t, kms.CreateKeyInput{KeySpec: kind.spec, KeyUsage: kind.usage})
		id := *made.KeyId
		objects := c.objectsOf(t, id)
		c.delete(t, id)
		if early, _ := c.certificates(t, id); len(early) != 0 {
			t.Errorf("a certificate before the destruction: %+v", early)
		}
		c.reconcile(t)
		all, signed := c.certificates(t, id)
		if len(all) != 1 || len(all[0].Materials) != 1 || len(c.objectsOf(t, id)) != 0 {
			t.Fatalf("%s: %+v", kind.spec, all)
		}
		d := all[0]
		var roles []string
		for _, o := range d.Materials[0].Objects {
			roles = append(roles, o.Role)
			if a := o.Attributes; a == nil || !a.Local || !a.NeverExtractable || a.KeyType != kind.keyType ||
				!strings.HasPrefix(a.Label, "verenc/"+id) {
				t.Errorf("%s: %+v", kind.spec, a)
			}
		}
		if strings.Join(roles, " ") != kind.roles || len(objects) != len(roles) {
			t.Errorf("%s: %v of %v", kind.spec, roles, objects)
		}
		if r := d.Request; r.Operation != "ScheduleKeyDeletion" || r.Principal != "arn:aws:iam::"+account+":root" ||
			r.At.IsZero() || r.ApprovedBy != nil {
			t.Errorf("%s: %+v", kind.spec, r)
		}
		if k := d.Key; !strings.Contains(k.ARN, id) || k.Account != account || k.Region != region || !k.Deleted ||
			k.Spec != string(kind.spec) || k.Usage != string(kind.usage) ||
			(k.PublicKeySHA256 == "") != (kind.roles != "pair") {
			t.Errorf("%s: %+v", kind.spec, k)
		}
		if d.Token.Serial != c.Soft.Serial {
			t.Errorf("%s: %+v", kind.spec, d.Token)
		}
		forge(t, signed[0], c.verifierKey(t))
	}
	if _, signed := c.certificates(t, ""); signed != nil {
		t.Error("a certificate of no key")
	}
}

// forge changes a certificate in every way that comes to mind. None verifies.
func forge(t *testing.T, signed []byte, key string) {
	t.Helper()
	for i := range signed {
		changed := bytes.Clone(signed)
		changed[i] ^= 1
		if d, err := destruction.Verify(changed, key); err == nil {
			t.Errorf("byte %d is changed: %+v", i, d)
		}
	}
	other := newCertified(t, options{})
	for name, changed := range map[string][]byte{
		"approved by nobody": bytes.Replace(signed, []byte(`"Principal"`), []byte(`"ApprovedBy": [], "Principal"`), 1),
		"cut off":            signed[:len(signed)-10],
		"empty":              nil,
	} {
		if d, err := destruction.Verify(changed, key); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d, err := destruction.Verify(signed, other.verifierKey(t)); err == nil {
		t.Errorf("with another key: %+v", d)
	}
	if d, err := destruction.Verify(signed); err == nil {
		t.Errorf("without a key: %+v", d)
	}
}

// TestImportedMaterialIsCertified: deleted by request or because it has expired, each time that it was imported.
func TestImportedMaterialIsCertified(t *testing.T) {
	c := newCertified(t, options{})
	id := *c.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyId
	material := randomBytes(32)
	load := func(expires bool) {
		in := c.importInput(t, c.Client, id, "RSAES_OAEP_SHA_256", "RSA_2048", material)
		if expires {
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires,
				aws.Time(c.serviceNow().Add(time.Hour))
		}
		ok(c.ImportKeyMaterial(t.Context(), in))(t)
	}
	for n := range 2 {
		load(false)
		ok(c.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: &id}))(t)
		all, _ := c.certificates(t, id)
		if len(all) != n+1 {
			t.Fatalf("%d certificates after %d deletions", len(all), n+1)
		}
		d := all[n]
		if d.Request.Operation != "DeleteImportedKeyMaterial" || d.Request.Principal == "" || d.Key.Deleted ||
			d.Key.Origin != "EXTERNAL" || len(d.Materials) != 1 || len(d.Materials[0].Objects) != 1 {
			t.Errorf("%+v", d)
		}
	}
	load(true)
	c.age(2 * time.Hour)
	c.reconcile(t)
	all, _ := c.certificates(t, id)
	if len(all) != 3 || all[2].Request.Operation != "DeleteExpiredKeyMaterial" || all[2].Request.Principal != "" {
		t.Errorf("%+v", all)
	}
	c.delete(t, id) // which has no material
	c.reconcile(t)
	if all, _ := c.certificates(t, id); len(all) != 3 {
		t.Errorf("a certificate of nothing: %+v", all[3])
	}
}

// TestCertificateOfWhichMaterial: ordinals and times are those of the material that was destroyed, and not those of
// the destruction.
func TestCertificateOfWhichMaterial(t *testing.T) {
	c := newCertified(t, options{})
	id := *c.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyId
	type loaded struct {
		ordinal      uint32
		id           string
		since, until time.Time
	}
	load := func(ordinal uint32, material []byte, kind types.ImportType, validFor time.Duration) loaded {
		in := c.importInput(t, c.Client, id, "RSAES_OAEP_SHA_256", "RSA_2048", material)
		in.ImportType = kind
		if validFor > 0 {
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires,
				aws.Time(c.serviceNow().Add(validFor))
		}
		done := loaded{ordinal: ordinal, since: c.serviceNow()}
		done.id = *ok(c.ImportKeyMaterial(t.Context(), in))(t).KeyMaterialId
		done.until = c.serviceNow()
		c.age(time.Hour)
		return done
	}
	newest := func(n int, want ...loaded) {
		t.Helper()
		all, _ := c.certificates(t, id)
		if len(all) != n {
			t.Fatalf("%d certificates, not %d", len(all), n)
		}
		got := all[n-1].Materials
		if len(got) != len(want) {
			t.Fatalf("%+v", got)
		}
		for i, w := range want {
			if m := got[i]; m.Ordinal != w.ordinal || m.ID != w.id || m.CreatedAt.Before(w.since) ||
				m.CreatedAt.After(w.until) {
				t.Errorf("certificate %d: %+v, not %+v", n, m, w)
			}
		}
	}
	remove := func(m loaded) {
		ok(c.DeleteImportedKeyMaterial(t.Context(),
			&kms.DeleteImportedKeyMaterialInput{KeyId: &id, KeyMaterialId: &m.id}))(t)
	}
	first, second := randomBytes(32), randomBytes(32)

	m := load(1, first, "", 0)
	remove(m)
	newest(1, m)

	m = load(1, first, types.ImportTypeExistingKeyMaterial, 2*time.Hour) // again, and it expires
	c.age(2 * time.Hour)
	c.reconcile(t)
	newest(2, m)

	load(1, first, types.ImportTypeExistingKeyMaterial, 0)
	m = load(1, first, types.ImportTypeExistingKeyMaterial, 0) // in place of objects that are there
	other := load(0, second, types.ImportTypeNewKeyMaterial, 0)
	row := ok(c.Store.Key(t.Context(), region, id))(t)
	other.ordinal = row.Materials[len(row.Materials)-1].Ordinal
	ok(c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t)
	listed := ok(c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &id,
		IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}))(t).Rotations
	if len(listed) != 2 || *listed[0].KeyMaterialId != m.id || *listed[1].KeyMaterialId != other.id {
		t.Fatalf("%+v", listed)
	}
	remove(m) // which is not the newest
	newest(3, m)
	m = load(1, first, types.ImportTypeExistingKeyMaterial, 0)
	c.delete(t, id)
	c.reconcile(t)
	newest(4, m, other)

	// A rotated key of the service's own material.
	made := loaded{ordinal: 1, since: c.serviceNow()}
	id, _ = c.newKey(t)
	made.until = c.serviceNow()
	c.age(time.Hour)
	rotated := loaded{ordinal: 2, since: c.serviceNow()}
	ok(c.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t)
	rotated.until = c.serviceNow()
	listed = ok(c.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &id,
		IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial}))(t).Rotations
	made.id, rotated.id = *listed[0].KeyMaterialId, *listed[1].KeyMaterialId
	c.delete(t, id)
	c.reconcile(t)
	newest(1, made, rotated)
}

// TestWrappedMaterialIsCertified: the certificate says that it was in the database.
func TestWrappedMaterialIsCertified(t *testing.T) {
	c := newCertified(t, options{service: func(sc *service.Config) { sc.Residency = service.ResidencyWrapped }})
	id, _ := c.newKey(t)
	c.delete(t, id)
	c.reconcile(t)
	all, _ := c.certificates(t, id)
	if len(all) != 1 || all[0].Materials[0].WrappedUnder == nil || all[0].Materials[0].Objects != nil {
		t.Errorf("%+v", all)
	}
}

// TestReplicaIsNotCertified: the material is there until the last key of a multi-Region key is deleted.
func TestReplicaIsNotCertified(t *testing.T) {
	c := newCertified(t, options{})
	id := *c.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	ok(c.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String(otherRegion)}))(t)
	there := c.client(c.Secret, otherRegion)
	ok(there.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))(t)
	c.age(31 * 24 * time.Hour)
	c.reconcile(t)
	if all, _ := c.certificates(t, id); len(all) != 0 {
		t.Errorf("%+v", all)
	}
	c.delete(t, id)
	c.reconcile(t)
	if all, _ := c.certificates(t, id); len(all) != 1 || all[0].Key.Region != region {
		t.Errorf("%+v", all)
	}
}

// TestOneCertificate: two servers destroy the same key, and another one is interrupted after the token's answer.
func TestOneCertificate(t *testing.T) {
	c := newCertified(t, options{})
	id, _ := c.newKey(t)
	c.delete(t, id)
	c.paused.meanwhile = func() error { return c.Service.Reconcile(t.Context()) }
	c.reconcile(t)
	if all, _ := c.certificates(t, id); len(all) != 1 || c.signed != 1 {
		t.Errorf("%d of %d: %+v", len(all), c.signed, all)
	}

	// Before the certificate of the first is kept, the second has made one.
	id, _ = c.newKey(t)
	c.delete(t, id)
	c.paused.certificate = func() error { return c.Service.Reconcile(t.Context()) }
	c.reconcile(t)
	if all, _ := c.certificates(t, id); len(all) != 1 {
		t.Errorf("%d: %+v", len(all), all)
	}
}

// TestFailedDestruction: a token that fails, or that claims to have destroyed what it has not, leads to no
// certificate; the key's row stays, and when the token does it there is one.
func TestFailedDestruction(t *testing.T) {
	c := newCertified(t, options{faults: true})
	for name, rv := range map[string]uint{"it fails": pkcs11.CKR_FUNCTION_FAILED, "it lies": pkcs11.CKR_OK} {
		id, _ := c.newKey(t)
		c.delete(t, id)
		c.Faults.Fail("C_DestroyObject", rv)
		if err := c.Service.Reconcile(t.Context()); err == nil {
			t.Errorf("%s: the destruction succeeds", name)
		}
		c.Faults.Clear()
		if all, _ := c.certificates(t, id); len(all) != 0 {
			t.Errorf("%s: %+v", name, all)
		}
		if k := ok(c.Store.Key(t.Context(), region, id))(t); k.State != service.StateDeleting {
			t.Errorf("%s: the key is %s", name, k.State)
		}
		c.reconcile(t)
		if all, _ := c.certificates(t, id); len(all) != 1 || len(c.objectsOf(t, id)) != 0 {
			t.Errorf("%s: %+v", name, all)
		}
		if _, err := c.Store.Key(t.Context(), region, id); !errors.Is(err, service.ErrNoRow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
