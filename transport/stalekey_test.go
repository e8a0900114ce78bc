package transport_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
)

// staleStore gives a key as it was, as a server does that has not heard of a change yet.
type staleStore struct {
	service.Store
	old atomic.Pointer[service.Key]
}

func (s *staleStore) Key(ctx context.Context, region, id string) (*service.Key, error) {
	if old := s.old.Load(); old != nil && old.Region == region && old.ID == id {
		return old, nil
	}
	return s.Store.Key(ctx, region, id)
}

// TestDecryptWithNewMaterial: a ciphertext can be opened by a server that has not heard of the rotation before it.
func TestDecryptWithNewMaterial(t *testing.T) {
	var stale staleStore
	s := newServer(t, options{service: func(c *service.Config) { stale.Store, c.Store = c.Store, &stale }})
	id, _ := s.newKey(t)
	old := ok(s.Store.Key(t.Context(), "us-east-1", id))(t)
	ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t)
	sealed := ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("new material")}))(t)
	stale.old.Store(old)
	opened := ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}))(t)
	if !bytes.Equal(opened.Plaintext, []byte("new material")) {
		t.Errorf("%q", opened.Plaintext)
	}
}
