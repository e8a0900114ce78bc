package transport_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
)

// TestResidencyWrapped: keys kept outside of the token go through the same life as those in it.
func TestResidencyWrapped(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.Residency = service.ResidencyWrapped }})
	objects := func() int { return len(ok(s.Token.Objects(t.Context(), ""))(t)) }
	before := objects()
	id, _ := s.newKey(t)
	if n := objects(); n != before+1 { // the one that wraps
		t.Fatalf("%d objects more", n-before)
	}
	first := s.sealedBy(t, &id)
	ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t)
	second := s.sealedBy(t, &id)
	opens(t, s.Client, first)
	opens(t, s.Client, second)

	primary := *s.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	ok(s.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &primary, ReplicaRegion: aws.String(otherRegion)}))(t)
	sealed := s.sealedBy(t, &primary)
	opens(t, s.client(s.Secret, otherRegion), sealed)

	// What SoftHSM does not wrap, and what a client brings, is a token object.
	ed := s.makeKey(t, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistEdwards25519,
		KeyUsage: types.KeyUsageTypeSignVerify}).KeyId
	ok(s.Sign(t.Context(), &kms.SignInput{KeyId: ed, Message: []byte("x"),
		SigningAlgorithm: types.SigningAlgorithmSpecEd25519Sha512}))(t)
	if n := objects(); n != before+2 {
		t.Errorf("%d objects more", n-before)
	}

	// The end of a key is the end of its row and of its session objects.
	held := s.Token.Stats().Held
	ok(s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id,
		PendingWindowInDays: aws.Int32(7)}))(t)
	s.advance(8 * 24 * time.Hour)
	s.reconcile(t)
	if now := s.Token.Stats().Held; now >= held {
		t.Errorf("%d keys are held, %d were", now, held)
	}
	if _, err := s.Store.Key(t.Context(), region, id); !errors.Is(err, service.ErrNoRow) {
		t.Errorf("the row of the deleted key: %v", err)
	}
}

// TestResidencyIsRemembered: a key stays where it was made, whatever the setting is later; and MigrateKey moves it.
func TestResidencyIsRemembered(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.Residency = service.ResidencyWrapped }})
	symmetric, _ := s.newKey(t)
	ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &symmetric}))(t)
	primary := *s.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	ok(s.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: &primary, ReplicaRegion: aws.String(otherRegion)}))(t)
	signing := *s.makeKey(t, kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP384,
		KeyUsage: types.KeyUsageTypeSignVerify}).KeyId
	sealed := map[string][]byte{symmetric: s.sealedBy(t, &symmetric), primary: s.sealedBy(t, &primary)}
	for id, want := range map[string]service.Migration{symmetric: {Persisted: 2}, primary: {Persisted: 1},
		signing: {Persisted: 1}} {
		if len(s.objectsOf(t, id)) != 0 {
			t.Errorf("%s is in the token", id)
		}
		for range 2 { // the second time there is nothing left to do
			if done := ok(s.Service.MigrateKey(t.Context(), account, region, id,
				service.ResidencyToken))(t); done != want {
				t.Errorf("%+v, not %+v", done, want)
			}
			want = service.Migration{}
		}
		if len(s.objectsOf(t, id)) == 0 {
			t.Errorf("%s is not in the token", id)
		}
		if k := ok(s.Store.Key(t.Context(), region, id))(t); len(k.Materials[0].Wrapped) > 0 {
			t.Errorf("%s is still outside", id)
		}
	}
	opens(t, s.Client, sealed[symmetric])
	opens(t, s.client(s.Secret, otherRegion), sealed[primary])
	signature := ok(s.Sign(t.Context(), &kms.SignInput{KeyId: &signing, Message: []byte("x"),
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha384}))(t).Signature
	ok(s.Verify(t.Context(), &kms.VerifyInput{KeyId: &signing, Message: []byte("x"),
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha384, Signature: signature}))(t)

	if done := ok(s.Service.MigrateKey(t.Context(), account, region, symmetric,
		service.ResidencyWrapped))(t); !done.Rotated {
		t.Errorf("%+v", done)
	}
	if n := len(s.objectsOf(t, symmetric)); n != 4 {
		t.Errorf("%d objects: those of the two old materials must stay", n)
	}
	opens(t, s.Client, sealed[symmetric])
	opens(t, s.Client, s.sealedBy(t, &symmetric))
	if _, err := s.Service.MigrateKey(t.Context(), account, region, signing, service.ResidencyWrapped); err == nil {
		t.Error("a private key left the token")
	}
	if _, err := s.Service.MigrateKey(t.Context(), account, region, absentKey, service.ResidencyToken); err == nil {
		t.Error("a key that is not there was migrated")
	}
}

// TestResidencyOfASpoiltRow: stored bytes that were changed make a key unusable, and say nothing to
// the client; nothing else suffers.
func TestResidencyOfASpoiltRow(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.Residency = service.ResidencyWrapped }})
	spoilt, _ := s.newKey(t)
	other, _ := s.newKey(t)
	sealed := s.sealedBy(t, &spoilt)
	err := s.Store.UpdateKey(t.Context(), region, spoilt, func(k *service.Key) error {
		m := &k.Materials[0]
		m.Wrapped[service.RoleSeal][5] ^= 1
		m.Objects[service.RoleSeal] = service.ObjectID{1} // or the key that is held would be used
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "KMSInternalException", "*")
	opens(t, s.Client, s.sealedBy(t, &other))
}
