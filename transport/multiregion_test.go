package transport_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
)

const (
	europe = "arn:aws:kms:" + otherRegion + ":" + account + ":key/"
	home   = "arn:aws:kms:" + region + ":" + account + ":key/"
)

// newRegions returns a server whose ARNs contain the region.
func newRegions(t *testing.T) (here *server, there *kms.Client) {
	here = newServer(t, options{service: func(c *service.Config) { c.ARNFormat = arn.AWS }})
	return here, here.client(here.Secret, otherRegion)
}

func describe(t testing.TB, c *kms.Client, id *string) *types.KeyMetadata {
	t.Helper()
	return ok(c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id}))(t).KeyMetadata
}

// wantRegions checks a MultiRegionConfiguration.
func wantRegions(t *testing.T, m *types.KeyMetadata, kind types.MultiRegionKeyType, primary string,
	replicas ...string) {
	t.Helper()
	c := m.MultiRegionConfiguration
	var got []string
	for _, r := range c.ReplicaKeys {
		got = append(got, *r.Arn)
		if !strings.Contains(*r.Arn, ":"+*r.Region+":") {
			t.Errorf("%s in %s", *r.Arn, *r.Region)
		}
	}
	if !*m.MultiRegion || c.MultiRegionKeyType != kind || *c.PrimaryKey.Arn != primary || !slices.Equal(got, replicas) {
		t.Errorf("%s of %s with %v", c.MultiRegionKeyType, *c.PrimaryKey.Arn, got)
	}
}

func TestMultiRegionKeys(t *testing.T) {
	here, there := newRegions(t)
	made := here.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true), Description: aws.String("of home")})
	id := made.KeyId
	if len(*id) != 36 || !strings.HasPrefix(*id, "mrk-") {
		t.Errorf("id %s", *id)
	}
	wantRegions(t, made, "PRIMARY", home+*id)
	sealed := here.sealedBy(t, id)
	without := ok(here.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, KeySpec: "AES_256"}))(t)

	out := ok(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(otherRegion),
		Description: aws.String("of Europe"),
		Tags:        []types.Tag{tag("a", "b")}, Policy: aws.String(openPolicy)}))(t)
	if m := out.ReplicaKeyMetadata; *m.Arn != europe+*id || *m.Description != "of Europe" ||
		m.KeyState != types.KeyStateEnabled && m.KeyState != types.KeyStateCreating ||
		*out.ReplicaPolicy != openPolicy || len(out.ReplicaTags) != 1 ||
		*m.CurrentKeyMaterialId != *made.CurrentKeyMaterialId {
		t.Errorf("%+v, %+v", out, m)
	}
	wantRegions(t, describe(t, here.Client, id), "PRIMARY", home+*id, europe+*id)
	wantRegions(t, describe(t, there, id), "REPLICA", home+*id, europe+*id)
	if got := *describe(t, here.Client, id).Description; got != "of home" {
		t.Error(got)
	}
	// What one key encrypts the other decrypts, and each names itself.
	if o := opens(t, there, sealed); *o.KeyId != europe+*id {
		t.Errorf("%+v", o)
	}
	if o := opens(t, here.Client,
		ok(there.Encrypt(t.Context(), &kms.EncryptInput{KeyId: id, Plaintext: []byte("text")}))(t).
			CiphertextBlob); *o.KeyId != home+*id {
		t.Errorf("%+v", o)
	}
	ok(there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: without.CiphertextBlob}))(t)

	// Rotation is shared, and the primary key's.
	_, err := there.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id})
	wantError(t, err, "UnsupportedOperationException", europe+*id+" is not a multi-region primary key.")
	_, err = there.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id})
	wantError(t, err, "UnsupportedOperationException", "*")
	ok(here.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id}))(t)
	ok(here.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: id,
		RotationPeriodInDays: aws.Int32(100)}))(t)
	for _, c := range []*kms.Client{here.Client, there} {
		wantRotations(t, c, id, "NON_CURRENT///", "CURRENT//ON_DEMAND/")
		if r := ok(c.GetKeyRotationStatus(t.Context(),
			&kms.GetKeyRotationStatusInput{KeyId: id}))(t); *r.RotationPeriodInDays != 100 {
			t.Errorf("%+v", r)
		}
	}
	here.age(101 * days)
	here.reconcile(t)
	for _, c := range []*kms.Client{here.Client, there} {
		wantRotations(t, c, id, "NON_CURRENT///", "NON_CURRENT//ON_DEMAND/", "CURRENT//AUTOMATIC/")
		opens(t, c, sealed)
	}
	// States, descriptions, tags and aliases are each key's own.
	ok(there.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}))(t)
	opens(t, here.Client, sealed)
	_, err = there.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "DisabledException", europe+*id+" is disabled.")
	if tags := ok(here.ListResourceTags(t.Context(), &kms.ListResourceTagsInput{KeyId: id}))(t).Tags; len(tags) != 0 {
		t.Errorf("%v", tags)
	}
}

func TestReplicateKeyRefuses(t *testing.T) {
	here, there := newRegions(t)
	id := here.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	single, singleARN := here.newKey(t)
	replicate := func(c *kms.Client, id *string, to string) error {
		_, err := c.ReplicateKey(t.Context(),
			&kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: &to, Description: aws.String("again")})
		return err
	}
	wantError(t, replicate(here.Client, &single, otherRegion), "UnsupportedOperationException",
		singleARN+" is not a multi-region primary key.")
	wantError(t, replicate(here.Client, id, region), "UnsupportedOperationException", "*")
	wantError(t, replicate(here.Client, id, "ap-south-1"), "UnsupportedOperationException", "*")
	ok(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(otherRegion),
		Description: aws.String("first")}))(t)
	wantError(t, replicate(here.Client, id, otherRegion), "AlreadyExistsException", europe+*id+" already exists.")
	if got := *describe(t, there, id).Description; got != "first" {
		t.Errorf("the replica was overwritten: %s", got)
	}
	wantError(t, replicate(there, id, region), "UnsupportedOperationException",
		europe+*id+" is not a multi-region primary key.")
	// A replica that is being destroyed is still there.
	if err := here.Store.UpdateKey(t.Context(), otherRegion, *id, func(k *service.Key) error {
		k.State = service.StateDeleting
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantError(t, replicate(here.Client, id, otherRegion), "AlreadyExistsException", "*")
	here.reconcile(t)
	if err := replicate(here.Client, id, otherRegion); err != nil {
		t.Error(err)
	}
}

func TestUpdatePrimaryRegion(t *testing.T) {
	here, there := newRegions(t)
	id := here.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	move := func(c *kms.Client, to string) error {
		_, err := c.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: &to})
		return err
	}
	wantError(t, move(here.Client, otherRegion), "NotFoundException", "Key '"+europe+*id+"' does not exist")
	ok(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(otherRegion)}))(t)
	if err := move(here.Client, otherRegion); err != nil {
		t.Fatal(err)
	}
	wantRegions(t, describe(t, here.Client, id), "REPLICA", europe+*id, home+*id)
	wantRegions(t, describe(t, there, id), "PRIMARY", europe+*id, home+*id)
	wantError(t, move(here.Client, otherRegion), "UnsupportedOperationException",
		home+*id+" is not a multi-region primary key.")
	ok(there.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: id}))(t)
	ok(here.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: id}))(t)
	wantError(t, move(there, region), "DisabledException", home+*id+" is disabled.")
	ok(here.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id}))(t)
	if err := move(there, region); err != nil {
		t.Error(err)
	}
	wantRegions(t, describe(t, there, id), "REPLICA", home+*id, europe+*id)
}

// TestDeletionOfMultiRegionKeys: the primary key waits for its replicas; the material goes with the last key.
func TestDeletionOfMultiRegionKeys(t *testing.T) {
	here, there := newRegions(t)
	id := here.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	ok(here.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(otherRegion)}))(t)
	sealed := here.sealedBy(t, id)
	objects := func() int { return len(here.objectsOf(t, *id)) }

	out := ok(here.ScheduleKeyDeletion(t.Context(),
		&kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(10)}))(t)
	if *out.KeyId != home+*id || out.KeyState != types.KeyStatePendingReplicaDeletion || out.DeletionDate != nil ||
		*out.PendingWindowInDays != 10 {
		t.Errorf("%+v", out)
	}
	if m := describe(t, here.Client, id); m.KeyState != types.KeyStatePendingReplicaDeletion ||
		*m.PendingDeletionWindowInDays != 10 || m.DeletionDate != nil || m.Enabled {
		t.Errorf("%+v", m)
	}
	_, err := here.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "KMSInvalidStateException", home+*id+" is pending replica deletion.")
	here.age(20 * days)
	here.reconcile(t)
	opens(t, there, sealed)

	gone := ok(there.ScheduleKeyDeletion(t.Context(),
		&kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)}))(t)
	if gone.KeyState != types.KeyStatePendingDeletion || gone.DeletionDate == nil {
		t.Errorf("%+v", gone)
	}
	here.age(7*days + time.Minute)
	here.reconcile(t)
	_, err = there.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id})
	wantError(t, err, "NotFoundException", "Key '"+europe+*id+"' does not exist")
	m := describe(t, here.Client, id)
	if m.KeyState != types.KeyStatePendingDeletion || m.DeletionDate == nil || m.PendingDeletionWindowInDays != nil ||
		objects() != 2 {
		t.Errorf("%d objects, %+v", objects(), m)
	}
	ok(here.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: id}))(t)
	ok(here.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: id}))(t)
	opens(t, here.Client, sealed)
	ok(here.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: id,
		PendingWindowInDays: aws.Int32(7)}))(t)
	here.age(7*days + time.Minute)
	here.reconcile(t)
	_, err = here.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: id})
	wantError(t, err, "NotFoundException", "*")
	if n := objects(); n != 0 {
		t.Errorf("%d objects are left", n)
	}
}
