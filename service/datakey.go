package service

import (
	"context"
	"errors"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

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

// dataKeySize is the length of a data key in bytes. Exactly one of KeySpec and NumberOfBytes must
// give it.
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

// GenerateDataKey returns random bytes from the token, in clear and encrypted under a key.
func (s *Service) GenerateDataKey(
	ctx context.Context, c *iam.Caller, in *GenerateDataKeyRequest,
) (*GenerateDataKeyResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	d, err := s.dataKey(ctx, c, "GenerateDataKey", in, blob.Sealed)
	if err != nil {
		return nil, err
	}
	sealed, err := d.token.GenerateSealed(ctx, d.material.TokenKey(d.key, RoleSeal), d.header.DataKeyBytes, d.aad)
	if err != nil {
		return nil, tokenError(err)
	}
	s.recordUse(c, "GenerateDataKey", d.key)
	return &GenerateDataKeyResponse{
		CiphertextBlob: append(d.head, sealed.Box...),
		Plaintext:      sealed.Plaintext,
		KeyId:          d.key.ARN(s.arns(ctx)),
		KeyMaterialId:  d.key.materialID(),
	}, nil
}

func (*GenerateDataKeyRequest) condition(key string, _ *Key) []string {
	return encryptionCondition(key, specSymmetric)
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

// GenerateDataKeyWithoutPlaintext returns a data key encrypted under a key. The data key is
// generated and wrapped in the token: this process never holds it.
func (s *Service) GenerateDataKeyWithoutPlaintext(
	ctx context.Context, c *iam.Caller, in *GenerateDataKeyWithoutPlaintextRequest,
) (*GenerateDataKeyWithoutPlaintextResponse, error) {
	d, err := s.dataKey(ctx, c, "GenerateDataKeyWithoutPlaintext", &GenerateDataKeyRequest{
		KeyId:             in.KeyId,
		EncryptionContext: in.EncryptionContext,
		NumberOfBytes:     in.NumberOfBytes,
		KeySpec:           in.KeySpec,
		GrantTokens:       in.GrantTokens,
		DryRun:            in.DryRun,
	}, blob.WrappedDataKey)
	if err != nil {
		return nil, err
	}
	box, err := d.generateWrapped(ctx)
	if err != nil {
		return nil, tokenError(err)
	}
	s.recordUse(c, "GenerateDataKeyWithoutPlaintext", d.key)
	return &GenerateDataKeyWithoutPlaintextResponse{
		CiphertextBlob: append(d.head, box...),
		KeyId:          d.key.ARN(s.arns(ctx)),
		KeyMaterialId:  d.key.materialID(),
	}, nil
}

func (*GenerateDataKeyWithoutPlaintextRequest) condition(key string, _ *Key) []string {
	return encryptionCondition(key, specSymmetric)
}

// generateWrapped makes a data key without returning its plaintext.
func (d *dataKeyPlan) generateWrapped(ctx context.Context) ([]byte, error) {
	if d.header.Form == blob.WrappedDataKey {
		return d.token.GenerateWrapped(ctx, d.material.pair(d.key), d.header.DataKeyBytes, d.aad)
	}
	sealed, err := d.token.GenerateSealed(ctx, d.material.TokenKey(d.key, RoleSeal), d.header.DataKeyBytes, d.aad)
	clear(sealed.Plaintext)
	return sealed.Box, err
}

// dataKeyPlan is everything that the token needs to make a data key.
type dataKeyPlan struct {
	key      *Key
	material *Material
	token    Token
	header   blob.Header
	head     []byte
	aad      []byte
}

// dataKey prepares the making of a data key, up to the count of its IV. form is that of the blob;
// blob.Sealed is used where the key's material or its token can't make it.
func (s *Service) dataKey(
	ctx context.Context, c *iam.Caller, op string, in *GenerateDataKeyRequest, form blob.Form,
) (*dataKeyPlan, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, err
	}
	d, err := s.planDataKey(ctx, c, keyRequest{
		operation:   op,
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{encryptionContext: in.EncryptionContext, conditions: in},
	}, blob.Header{Form: form, DataKeyBytes: size})
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	return d, s.spendIV(ctx, d.key, d.material)
}

// planDataKey finds the key and completes the header of the blob.
func (s *Service) planDataKey(ctx context.Context, c *iam.Caller, r keyRequest, h blob.Header) (*dataKeyPlan, error) {
	k, err := s.keyFor(ctx, c, r)
	if err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	m := k.CurrentMaterial()
	if h.Form, err = s.bestForm(ctx, token, m, h); err != nil {
		return nil, err
	}
	if err := s.checkWithoutPlaintext(ctx, k, operations[r.operation], h.Form); err != nil {
		return nil, err
	}
	h.KeyID, h.Ordinal = k.ID, m.Ordinal
	d := &dataKeyPlan{key: k, material: m, token: token, header: h, head: h.EncodeFor(h.DataKeyBytes + 16)}
	record.Add(ctx, "ciphertextForm", int(h.Form))
	record.Add(ctx, "keyMaterialId", m.ID)
	d.aad, err = additionalData(d.head, r.encryptionContext)
	return d, err
}

// bestForm returns the form of blob that h asks for, or blob.Sealed where the key's material or its
// token can't make it.
func (s *Service) bestForm(
	ctx context.Context, token DataKeyToken, m *Material, h blob.Header,
) (blob.Form, error) {
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

// checkWithoutPlaintext records that the plaintext of a data key passes through this process
// although the client does not get it. Where the configuration forbids that, it fails.
func (s *Service) checkWithoutPlaintext(ctx context.Context, k *Key, o *Operation, form blob.Form) error {
	if !o.WithoutPlaintext || form != blob.Sealed {
		return nil
	}
	record.Add(ctx, "plaintextInServerMemory", true)
	if s.cfg.RequireHiddenDataKeys {
		return apierror.New(apierror.UnsupportedOperation, msgTokenCannot, o.Name+" with "+k.ARN(s.arns(ctx)),
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

// GenerateRandom returns up to 1024 random bytes from the token.
func (s *Service) GenerateRandom(
	ctx context.Context, c *iam.Caller, in *GenerateRandomRequest,
) (*GenerateRandomResponse, error) {
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
			return nil, apierror.New(apierror.UnsupportedOperation,
				"The token has no random number generator.").WithCause(err)
		}
		return nil, dependencyError(err)
	}
	return &GenerateRandomResponse{Plaintext: b}, nil
}
