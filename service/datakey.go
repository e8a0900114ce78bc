package service

import (
	"context"
	"errors"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
)

// maxRandom is the largest NumberOfBytes (API Reference, GenerateDataKey and GenerateRandom).
const maxRandom = 1024 // bytes

// Secret is plaintext in an answer. It never shows in logs and is wiped once the answer is written.
type Secret []byte

func (Secret) String() string { return "[secret]" }

// GoString is String, for %#v.
func (Secret) GoString() string { return "[secret]" }

// Wipe clears the plaintext once the answer is written.
func (r *GenerateDataKeyResponse) Wipe() { clear(r.Plaintext) }

// Wipe clears the plaintext once the answer is written.
func (r *GenerateRandomResponse) Wipe() { clear(r.Plaintext) }

// Wipe clears the plaintext once the answer is written.
func (r *DecryptResponse) Wipe() { clear(r.Plaintext) }

var dataKeySizes = map[string]int{"AES_256": 32, "AES_128": 16} // bytes by DataKeySpec

// dataKeySize tells how long a data key shall be: KeySpec or NumberOfBytes says, and only one of them.
func dataKeySize(spec string, n int32) (int, error) {
	if (spec == "") == (n == 0) {
		return 0, apierror.New(apierror.Validation, "Please specify either number of bytes or key spec.")
	}
	if spec != "" {
		return dataKeySizes[spec], nil
	}
	return int(n), nil
}

// GenerateDataKeyRequest is the input of GenerateDataKey.
type GenerateDataKeyRequest struct {
	KeyId             string            `shape:"KeyIdType" required:"true"`
	EncryptionContext map[string]string `shape:"EncryptionContextType"`
	NumberOfBytes     int32             `shape:"NumberOfBytesType"`
	KeySpec           string            `shape:"DataKeySpec"`
	GrantTokens       []string          `shape:"GrantTokenList"`
	Recipient         *RecipientInfo    `shape:"RecipientInfo"`
	DryRun            bool              `shape:"NullableBooleanType"`
}

// GenerateDataKeyResponse is the output of GenerateDataKey.
type GenerateDataKeyResponse struct {
	CiphertextBlob []byte
	Plaintext      Secret
	KeyId          string
	KeyMaterialId  string `json:",omitempty"`
}

// GenerateDataKey returns random bytes of the token, in clear and sealed under a key.
func (s *Service) GenerateDataKey(ctx context.Context, c *Caller, in *GenerateDataKeyRequest) (*GenerateDataKeyResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	d, err := s.dataKey(ctx, c, keyUse{op: "GenerateDataKey", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext},
		dataKeyWish{spec: in.KeySpec, bytes: in.NumberOfBytes, form: blob.Sealed, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	sealed, err := d.token.GenerateSealed(ctx, d.material.key(d.key, RoleSeal), d.header.DataKeyBytes, d.aad)
	if err != nil {
		return nil, tokenError(err)
	}
	s.used(c, "GenerateDataKey", d.key)
	return &GenerateDataKeyResponse{CiphertextBlob: append(d.head, sealed.Box...), Plaintext: sealed.Plaintext,
		KeyId: d.key.ARN(s.arns(ctx)), KeyMaterialId: d.key.materialID()}, nil
}

// GenerateDataKeyWithoutPlaintextRequest is the input of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextRequest struct {
	KeyId             string            `shape:"KeyIdType" required:"true"`
	EncryptionContext map[string]string `shape:"EncryptionContextType"`
	KeySpec           string            `shape:"DataKeySpec"`
	NumberOfBytes     int32             `shape:"NumberOfBytesType"`
	GrantTokens       []string          `shape:"GrantTokenList"`
	DryRun            bool              `shape:"NullableBooleanType"`
}

// GenerateDataKeyWithoutPlaintextResponse is the output of GenerateDataKeyWithoutPlaintext.
type GenerateDataKeyWithoutPlaintextResponse struct {
	CiphertextBlob []byte
	KeyId          string
	KeyMaterialId  string `json:",omitempty"`
}

// GenerateDataKeyWithoutPlaintext returns a data key sealed under a key. The data key is born and wrapped in the
// token: this process never holds it.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, c *Caller, in *GenerateDataKeyWithoutPlaintextRequest) (*GenerateDataKeyWithoutPlaintextResponse, error) {
	d, err := s.dataKey(ctx, c, keyUse{op: "GenerateDataKeyWithoutPlaintext", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext},
		dataKeyWish{spec: in.KeySpec, bytes: in.NumberOfBytes, form: blob.WrappedDataKey, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	box, err := d.generateHidden(ctx)
	if err != nil {
		return nil, tokenError(err)
	}
	s.used(c, "GenerateDataKeyWithoutPlaintext", d.key)
	return &GenerateDataKeyWithoutPlaintextResponse{CiphertextBlob: append(d.head, box...), KeyId: d.key.ARN(s.arns(ctx)),
		KeyMaterialId: d.key.materialID()}, nil
}

// generateHidden makes a data key whose plaintext nobody takes.
func (d *dataKeyPlan) generateHidden(ctx context.Context) ([]byte, error) {
	if d.header.Form == blob.WrappedDataKey {
		return d.token.GenerateWrapped(ctx, d.material.pair(d.key), d.header.DataKeyBytes, d.aad)
	}
	sealed, err := d.token.GenerateSealed(ctx, d.material.key(d.key, RoleSeal), d.header.DataKeyBytes, d.aad)
	clear(sealed.Plaintext)
	return sealed.Box, err
}

// dataKeyWish is what the data key operations have in common.
type dataKeyWish struct {
	spec   string
	bytes  int32
	form   blob.Form // the best; another is taken where the key's material or its token can't
	dryRun bool
}

// dataKeyPlan is all that the token needs to make one.
type dataKeyPlan struct {
	key      *Key
	material *Material
	token    Token
	header   blob.Header
	head     []byte
	aad      []byte
}

func (s *Service) dataKey(ctx context.Context, c *Caller, use keyUse, wish dataKeyWish) (*dataKeyPlan, error) {
	size, err := dataKeySize(wish.spec, wish.bytes)
	if err != nil {
		return nil, err
	}
	d, err := s.planDataKey(ctx, c, use, blob.Header{Form: wish.form, DataKeyBytes: size})
	if err != nil {
		return nil, err
	}
	if err := dryRun(wish.dryRun); err != nil {
		return nil, err
	}
	return d, s.spendIV(ctx, d.key, d.material)
}

// planDataKey finds the key, and draws up the header of the blob.
func (s *Service) planDataKey(ctx context.Context, c *Caller, use keyUse, h blob.Header) (*dataKeyPlan, error) {
	k, err := s.keyFor(ctx, c, use)
	if err != nil {
		return nil, err
	}
	if !k.symmetric() {
		return nil, apierror.New(apierror.InvalidKeyUsage, "%s key spec is %s which is not valid for %s.", k.ARN(s.arns(ctx)), k.Spec, use.op)
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	m := k.current()
	if h.Form, err = s.bestForm(ctx, token, m, h); err != nil {
		return nil, err
	}
	if err := s.checkHidden(ctx, k, use.op, h.Form); err != nil {
		return nil, err
	}
	h.KeyID, h.Ordinal = k.ID, m.Ordinal
	d := &dataKeyPlan{key: k, material: m, token: token, header: h, head: h.Encode()}
	note(ctx, "ciphertextForm", h.Form)
	note(ctx, "keyMaterialId", m.ID)
	d.aad, err = additionalData(d.head, use.context)
	return d, err
}

// bestForm gives the form of a blob that is asked for, or blob.Sealed where the key's material or its token can't.
func (s *Service) bestForm(ctx context.Context, token Token, m *Material, h blob.Header) (blob.Form, error) {
	// Imported material has no wrap key, so that deleting the material ends its ciphertexts.
	if _, wraps := m.Objects[RoleWrap]; !wraps || h.Form == blob.Sealed {
		return blob.Sealed, nil
	}
	if h.Form == blob.WrappedDataKey {
		if can, err := token.CanGenerateWrapped(ctx, h.DataKeyBytes); err != nil || !can {
			return blob.Sealed, tokenError(err)
		}
	}
	return h.Form, nil
}

// hiddenOperations are those whose plaintext should be in no memory but the token's.
var hiddenOperations = map[string]bool{"GenerateDataKeyWithoutPlaintext": true, "GenerateDataKeyPairWithoutPlaintext": true}

// checkHidden records that the plaintext of a data key passes through this process although nobody takes it, or refuses.
func (s *Service) checkHidden(ctx context.Context, k *Key, op string, form blob.Form) error {
	if !hiddenOperations[op] || form != blob.Sealed {
		return nil
	}
	note(ctx, "plaintextInServerMemory", true)
	if s.cfg.RequireHiddenDataKeys {
		return apierror.New(apierror.UnsupportedOperation, msgTokenCannot, op+" with "+k.ARN(s.arns(ctx)),
			"the plaintext would pass through the server's memory, which token.require_hidden_data_keys forbids")
	}
	return nil
}

// GenerateRandomRequest is the input of GenerateRandom.
type GenerateRandomRequest struct {
	NumberOfBytes    int32          `shape:"NumberOfBytesType"`
	CustomKeyStoreId string         `shape:"CustomKeyStoreIdType"`
	Recipient        *RecipientInfo `shape:"RecipientInfo"`
}

// GenerateRandomResponse is the output of GenerateRandom.
type GenerateRandomResponse struct {
	Plaintext Secret
}

// GenerateRandom returns up to 1024 random bytes of the token.
func (s *Service) GenerateRandom(ctx context.Context, c *Caller, in *GenerateRandomRequest) (*GenerateRandomResponse, error) {
	if err := s.authoriseAccount(ctx, c, "GenerateRandom"); err != nil {
		return nil, err
	}
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	if in.NumberOfBytes == 0 {
		return nil, apierror.New(apierror.Validation, "NumberOfBytes is required.")
	}
	token := s.token
	if in.CustomKeyStoreId != "" {
		store, err := s.keyStore(ctx, c, in.CustomKeyStoreId)
		if err != nil {
			return nil, err
		}
		if token, err = s.keyStores.Token(store.ID); err != nil {
			return nil, wrongKeyStoreState(store.ID, s.keyStores.Status(store.ID).State)
		}
	}
	b, err := token.Random(ctx, int(in.NumberOfBytes))
	if err != nil {
		if errors.Is(err, hsm.ErrUnsupported) {
			return nil, apierror.New(apierror.UnsupportedOperation, "The token has no random number generator.").WithCause(err)
		}
		return nil, dependencyError(err)
	}
	return &GenerateRandomResponse{Plaintext: b}, nil
}
