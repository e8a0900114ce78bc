package transport_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/softhsm/faults"
)

// limited returns a server on a token with restrictions, which the self-test finds.
func limited(t *testing.T, tell func(*faults.Module), change func(*service.Config)) *server {
	t.Helper()
	return newServer(t, options{faults: true,
		token: func(c *hsm.Config) {
			m, err := faults.Open(c.Module)
			if err != nil {
				t.Fatal(err)
			}
			tell(m)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		},
		can: func(token *hsm.Token) service.Capabilities {
			return service.CapabilitiesOf(token.SelfTest(t.Context()))
		},
		service: change})
}

// TestImportsThatTheTokenCannotTake: they are refused before anybody prepares key material.
func TestImportsThatTheTokenCannotTake(t *testing.T) {
	s := limited(t, (*faults.Module).ForceExtractable, nil)
	_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048,
		KeyUsage: types.KeyUsageTypeSignVerify, Origin: types.OriginTypeExternal})
	wantError(t, err, "UnsupportedOperationException", "*")
	// SoftHSM refuses OAEP with SHA-256, so that such imports go another way, which works.
	for spec, usage := range map[types.KeySpec]types.KeyUsageType{
		types.KeySpecSymmetricDefault: types.KeyUsageTypeEncryptDecrypt,
		types.KeySpecHmac256:          types.KeyUsageTypeGenerateVerifyMac,
	} {
		made := ok(s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage,
			Origin: types.OriginTypeExternal}))(t)
		for algorithm, works := range map[types.AlgorithmSpec]bool{types.AlgorithmSpecRsaesOaepSha1: false,
			types.AlgorithmSpecRsaesOaepSha256: true} {
			_, err := s.GetParametersForImport(t.Context(),
				&kms.GetParametersForImportInput{KeyId: made.KeyMetadata.KeyId,
					WrappingAlgorithm: algorithm, WrappingKeySpec: types.WrappingKeySpecRsa2048})
			if works && err != nil {
				t.Errorf("%s with %s: %v", spec, algorithm, err)
			} else if !works {
				wantError(t, err, "UnsupportedOperationException", "*")
			}
		}
	}
	ok(s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify, Origin: types.OriginTypeExternal}))(t)
	ok(s.CreateKey(t.Context(), &kms.CreateKeyInput{}))(t)
}

// TestFormBySize: with a token that cannot wrap data keys of one size, those of other sizes are
// still hidden, and the record says which are not.
func TestFormBySize(t *testing.T) {
	refuse32 := func(m *faults.Module) { m.RefuseWrapSizes(32) }
	s := limited(t, refuse32, nil)
	id, _ := s.newKey(t)
	for spec, want := range map[types.DataKeySpec]struct {
		form byte
		size int
	}{types.DataKeySpecAes128: {2, 16}, types.DataKeySpecAes256: {1, 32}} {
		made := ok(s.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: spec}))(t)
		if got := made.CiphertextBlob[1]; got != want.form {
			t.Errorf("%s: a ciphertext of form %d, want %d", spec, got, want.form)
		}
		opened := ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: made.CiphertextBlob}))(t)
		if len(opened.Plaintext) != want.size {
			t.Errorf("%s: %d bytes", spec, len(opened.Plaintext))
		}
	}
	s = limited(t, refuse32, func(c *service.Config) { c.RequireHiddenDataKeys = true })
	id, _ = s.newKey(t)
	_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
	wantError(t, err, "UnsupportedOperationException", "*")
	ok(s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes128}))(t)
	ok(s.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256}))(t)
	_, err = s.GenerateDataKeyPairWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &id,
			KeyPairSpec: types.DataKeyPairSpecEccNistEdwards25519})
	wantError(t, err, "UnsupportedOperationException", "*") // SoftHSM does not wrap it
}

// TestServiceHealsByFinalize loses a token under load whose module only works again after
// C_Finalize. Requests fail in a way that clients retry, and everything that was answered can be
// decrypted afterwards.
func TestServiceHealsByFinalize(t *testing.T) {
	const patience = 30 * time.Second // for a busy machine; otherwise it takes well under a second
	s := newServer(t, options{faults: true, token: func(c *hsm.Config) { c.RetryMin = 10 * time.Millisecond }})
	id, _ := s.newKey(t)
	s.Faults.HealOnlyByFinalize(pkcs11.CKR_DEVICE_ERROR)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	var answered [][]byte
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				made, err := s.GenerateDataKeyWithoutPlaintext(context.Background(),
					&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
				var response *awshttp.ResponseError
				switch {
				case err == nil:
					mu.Lock()
					answered = append(answered, made.CiphertextBlob)
					mu.Unlock()
				case !errors.As(err, &response) || response.HTTPStatusCode() < 500:
					t.Errorf("an answer that nobody retries: %v", err)
				}
			}
		})
	}
	for range 3 {
		s.Faults.Unplug()
		for s.Token.Stats().Connected {
			runtime.Gosched()
		}
		s.Faults.Plug()
		began := time.Now()
		for {
			if _, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}); err == nil {
				break
			}
		}
		took := time.Since(began)
		t.Logf("healed after %v", took)
		if took > patience {
			t.Errorf("healed after %v", took)
		}
	}
	stop()
	all.Wait()
	if len(answered) == 0 {
		t.Error("nothing was answered")
	}
	for _, blob := range answered {
		opened := ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob}))(t)
		if len(opened.Plaintext) != 32 {
			t.Errorf("%d bytes", len(opened.Plaintext))
		}
	}
}
