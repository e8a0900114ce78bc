package transport_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/softhsm"
)

// TestKeysRotateBeforeTheirIVsRunOut has a limit of 20 encryptions, leased in blocks of 4.
func TestKeysRotateBeforeTheirIVsRunOut(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.IVLimit, c.IVBlock = 20, 4 }})
	run, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Service.Run(run, time.Hour) })
	t.Cleanup(func() { stop(); running.Wait() })
	id, arn := s.newKey(t)
	materials := map[string]int{}
	var blobs [][]byte
	for range 100 {
		made, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes128})
		if err != nil {
			t.Fatal(err)
		}
		materials[*made.KeyMaterialId]++
		blobs = append(blobs, made.CiphertextBlob)
	}
	if len(materials) < 3 {
		t.Errorf("100 encryptions were done by %d materials", len(materials))
	}
	for material, n := range materials {
		if n > 20+2*4 { // one block is being asked for when the limit is found, and one is left
			t.Errorf("material %s did %d encryptions", material, n)
		}
	}
	for _, blob := range blobs {
		if _, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob}); err != nil {
			t.Fatalf("a ciphertext of an old material: %v", err)
		}
	}
	rotations, err := s.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &arn})
	if err != nil || len(rotations.Rotations) < 2 ||
		rotations.Rotations[0].RotationType != types.RotationTypeAutomatic {
		t.Errorf("%+v, %v", rotations, err)
	}
}

// TestKeysThatCannotRotateStopEncrypting: the service can't replace imported material, nor, as in
// AWS KMS, that of a key in a custom key store. What the key has encrypted stays readable.
func TestKeysThatCannotRotateStopEncrypting(t *testing.T) {
	soft := softhsm.New(t)
	s := newServer(t, options{service: func(c *service.Config) {
		c.IVLimit, c.IVBlock = 20, 4
		c.TokenSources = map[string]service.TokenSource{cluster(0): openToken(soft)}
	}})
	t.Cleanup(s.endKeyStores)
	store := ok(s.CreateCustomKeyStore(t.Context(), &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("store"), CloudHsmClusterId: aws.String(cluster(0)),
		KeyStorePassword: &soft.PIN, TrustAnchorCertificate: aws.String("anchor")}))(t).CustomKeyStoreId
	ok(s.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store}))(t)
	s.connected(t, *store, types.ConnectionStateTypeConnected)
	for cure, key := range map[string]*types.KeyMetadata{
		"Import new key material.": s.importKey(t, kms.CreateKeyInput{}, randomBytes(32)),
		"Create another key.": s.makeKey(t, kms.CreateKeyInput{CustomKeyStoreId: store,
			Origin: types.OriginTypeAwsCloudhsm}),
	} {
		t.Run(string(key.Origin), func(t *testing.T) {
			sealed := s.sealedBy(t, key.KeyId)
			encrypt := func() error {
				_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
				return err
			}
			done := 1
			for encrypt() == nil {
				if done++; done > 100 {
					t.Fatal("it goes on to encrypt")
				}
			}
			if done > 20+4 {
				t.Errorf("it did %d encryptions", done)
			}
			wantError(t, encrypt(), "LimitExceededException",
				"The key material of "+*key.Arn+" has done as many encryptions as it safely can. "+cure)
			opens(t, s.Client, sealed)
		})
	}
}

// TestLeasesAreNotLost: what another process has leased counts, and a store that fails stops the
// encryptions in the end.
func TestLeasesAreNotLost(t *testing.T) {
	broken := &leaselessStore{}
	s := newServer(t, options{service: func(c *service.Config) {
		c.IVLimit, c.IVBlock = 1000, 4
		broken.Store, c.Store = c.Store, broken
	}})
	id, _ := s.newKey(t)
	encrypt := func() error {
		_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		return err
	}
	broken.fail = true
	for i := range 4 {
		if err := encrypt(); err != nil {
			t.Fatalf("encryption %d of the first block: %v", i, err)
		}
	}
	wantError(t, encrypt(), "KMSInternalException", "*")
	broken.fail = false
	if err := encrypt(); err != nil {
		t.Fatal(err)
	}
	described, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String(id)})
	if err != nil {
		t.Fatal(err)
	}
	if totals, err := s.Store.LeaseIVs(t.Context(), []string{*described.KeyMetadata.CurrentKeyMaterialId},
		1); err != nil || totals[0] != 5 {
		t.Errorf("%d leased, %v", totals, err)
	}
}

// TestLeasesAreWrittenAtTheEnd: a service that ends writes the leases that wait.
func TestLeasesAreWrittenAtTheEnd(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) { c.IVLimit, c.IVBlock = 1000, 100 }})
	var materials []string
	for range 3 {
		id, _ := s.newKey(t)
		made := ok(s.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id,
			KeySpec: types.DataKeySpecAes256}))(t)
		materials = append(materials, *made.KeyMaterialId)
	}
	run, stop := context.WithCancel(t.Context())
	stop()
	s.Service.Run(run, time.Hour)
	totals, err := s.Store.LeaseIVs(t.Context(), materials, 0)
	if err != nil || !slices.Equal(totals, []int64{100, 100, 100}) {
		t.Errorf("%d leased, %v", totals, err)
	}
}

// leaselessStore returns no leases while it fails. It is used by one request at a time.
type leaselessStore struct {
	service.Store
	fail bool
}

func (s *leaselessStore) LeaseIVs(ctx context.Context, materials []string, n int64) ([]int64, error) {
	if s.fail {
		return nil, errors.New("disk full")
	}
	return s.Store.LeaseIVs(ctx, materials, n)
}
