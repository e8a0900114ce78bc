package service

import (
	"context"
	"errors"

	"github.com/verenc/kms/hsm"
)

const (
	specSymmetric      = "SYMMETRIC_DEFAULT" // KeySpec and EncryptionAlgorithmSpec
	maxPlaintext       = 4096                // bytes; API Reference, Encrypt
	modifierNoCipher   = "IGNORE_CIPHERTEXT" // DryRunModifierType
	msgDryRun          = "The request would have succeeded, but the DryRun option is set."
	msgUnknownKey      = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
	msgIncorrectKey    = "The key ID in the request does not identify a CMK that can perform this operation."
	msgNoAttestation   = "Recipient is not supported: this service does not verify attestation documents."
	msgWrongAlgorithm  = "Algorithm %s is incompatible with key spec %s."
	msgCiphertextNull  = "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"
	msgModifierWithout = "DryRunModifiers can be specified only when DryRun is true."
)

// RecipientInfo asks for an answer that only an attested enclave can read.
type RecipientInfo struct {
	KeyEncryptionAlgorithm string `shape:"KeyEncryptionMechanism"`
	AttestationDocument    []byte `shape:"AttestationDocumentType"`
}

func refuseRecipient(r *RecipientInfo) error {
	if r == nil {
		return nil
	}
	return refuse(CodeUnsupportedOperation, msgNoAttestation)
}

func dryRun(asked bool) error {
	if !asked {
		return nil
	}
	return refuse(CodeDryRun, msgDryRun)
}

// checkAlgorithm returns the algorithm to use, given the one in the request if any.
func checkAlgorithm(asked string, k *Key) (string, error) {
	if asked != "" && asked != specSymmetric {
		return "", refuse(CodeInvalidKeyUsage, msgWrongAlgorithm, asked, k.Spec)
	}
	return specSymmetric, nil
}

// current is the material that new ciphertexts are made with.
func (k *Key) current() *Material { return &k.Materials[len(k.Materials)-1] }

func (k *Key) material(ordinal uint32) (*Material, bool) {
	for i := range k.Materials {
		if k.Materials[i].Ordinal == ordinal {
			return &k.Materials[i], true
		}
	}
	return nil, false
}

func (m *Material) pair() hsm.Pair {
	return hsm.Pair{Seal: m.Objects[RoleSeal], Wrap: m.Objects[RoleWrap]}
}

// EncryptRequest is the input of Encrypt.
type EncryptRequest struct {
	KeyId               string            `shape:"KeyIdType" required:"true"`
	Plaintext           []byte            `shape:"PlaintextType" required:"true"`
	EncryptionContext   map[string]string `shape:"EncryptionContextType"`
	GrantTokens         []string          `shape:"GrantTokenList"`
	EncryptionAlgorithm string            `shape:"EncryptionAlgorithmSpec"`
	DryRun              bool              `shape:"NullableBooleanType"`
}

// EncryptResponse is the output of Encrypt.
type EncryptResponse struct {
	CiphertextBlob      []byte
	KeyId               string
	EncryptionAlgorithm string
}

// Encrypt seals up to 4096 bytes under a key.
func (s *Service) Encrypt(ctx context.Context, c *Caller, in *EncryptRequest) (*EncryptResponse, error) {
	defer clear(in.Plaintext)
	k, err := s.keyFor(ctx, c, keyUse{op: "Encrypt", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	algorithm, err := checkAlgorithm(in.EncryptionAlgorithm, k)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	blob, err := s.seal(ctx, k, in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	return &EncryptResponse{CiphertextBlob: blob, KeyId: s.arns.key(k), EncryptionAlgorithm: algorithm}, nil
}

// seal makes a blob of form 1.
func (s *Service) seal(ctx context.Context, k *Key, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	m := k.current()
	head := header{form: formSealed, keyID: k.ID, ordinal: m.Ordinal}.encode()
	aad, err := additionalData(head, encryptionContext)
	if err != nil {
		return nil, err
	}
	box, err := s.token.Encrypt(ctx, m.Objects[RoleSeal], plaintext, aad)
	return append(head, box...), tokenError(err)
}

// DecryptRequest is the input of Decrypt.
type DecryptRequest struct {
	CiphertextBlob      []byte            `shape:"CiphertextType"`
	EncryptionContext   map[string]string `shape:"EncryptionContextType"`
	GrantTokens         []string          `shape:"GrantTokenList"`
	KeyId               string            `shape:"KeyIdType"`
	EncryptionAlgorithm string            `shape:"EncryptionAlgorithmSpec"`
	Recipient           *RecipientInfo    `shape:"RecipientInfo"`
	DryRun              bool              `shape:"NullableBooleanType"`
	DryRunModifiers     []string          `shape:"DryRunModifierList"`
}

// DecryptResponse is the output of Decrypt.
type DecryptResponse struct {
	KeyId               string
	Plaintext           Secret
	EncryptionAlgorithm string
	KeyMaterialId       string `json:",omitempty"`
}

// Decrypt opens a blob of Encrypt, ReEncrypt or the GenerateDataKey operations.
func (s *Service) Decrypt(ctx context.Context, c *Caller, in *DecryptRequest) (*DecryptResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	source := ciphertext{use: keyUse{op: "Decrypt", keyID: in.KeyId, grantTokens: in.GrantTokens},
		blob: in.CiphertextBlob, context: in.EncryptionContext, algorithm: in.EncryptionAlgorithm}
	k, err := s.sourceKey(ctx, c, &source, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	plaintext, m, err := s.open(ctx, k, &source)
	if err != nil {
		return nil, err
	}
	return &DecryptResponse{KeyId: s.arns.key(k), Plaintext: plaintext, EncryptionAlgorithm: specSymmetric, KeyMaterialId: m.ID}, nil
}

// ciphertext is what Decrypt and ReEncrypt are asked to open.
type ciphertext struct {
	use       keyUse
	blob      []byte
	context   map[string]string
	algorithm string

	header    header // set by sourceKey, like the rest
	head, box []byte
}

// sourceKey finds and checks the key of a ciphertext: the one the blob names, which must be the one the
// request names if it names one.
func (s *Service) sourceKey(ctx context.Context, c *Caller, src *ciphertext, dry bool, modifiers []string) (*Key, error) {
	if len(modifiers) > 0 && !dry {
		return nil, refuse(CodeValidation, msgModifierWithout)
	}
	if len(modifiers) > 0 && src.use.keyID != "" { // IGNORE_CIPHERTEXT is the only modifier
		k, err := s.keyFor(ctx, c, src.use)
		if err == nil {
			_, err = checkAlgorithm(src.algorithm, k)
		}
		return k, err
	}
	if src.blob == nil {
		return nil, refuse(CodeValidation, msgCiphertextNull)
	}
	var named *Key
	if src.use.keyID != "" {
		var err error
		if named, err = s.keyFor(ctx, c, src.use); err != nil {
			return nil, err
		}
		if _, err = checkAlgorithm(src.algorithm, named); err != nil {
			return nil, err
		}
	}
	var err error
	if src.header, src.head, src.box, err = parseBlob(src.blob); err != nil {
		return nil, &Error{Code: CodeInvalidCiphertext, cause: err}
	}
	if named != nil {
		if named.ID != src.header.keyID {
			return nil, refuse(CodeIncorrectKey, msgIncorrectKey)
		}
		return named, nil
	}
	return s.embeddedKey(ctx, c, src)
}

// embeddedKey is keyFor for the key id inside a blob. A key that is not there and one that is another's are not
// told apart.
func (s *Service) embeddedKey(ctx context.Context, c *Caller, src *ciphertext) (*Key, error) {
	if err := checkGrantTokens(src.use.grantTokens); err != nil {
		return nil, err
	}
	k, err := s.key(ctx, c.Region, src.header.keyID)
	if errors.Is(err, ErrNoRow) {
		return nil, refuse(CodeAccessDenied, msgUnknownKey)
	}
	if err != nil {
		return nil, storeError(err)
	}
	if err := s.mayUse(c, src.use, k); err != nil {
		if e := new(Error); errors.As(err, &e) && e.Code == CodeAccessDenied && k.Account != c.Account {
			return nil, refuse(CodeAccessDenied, msgUnknownKey).because(err)
		}
		return nil, err
	}
	_, err = checkAlgorithm(src.algorithm, k)
	return k, err
}

// open decrypts a ciphertext whose sourceKey is k. The caller clears the plaintext.
func (s *Service) open(ctx context.Context, k *Key, src *ciphertext) ([]byte, *Material, error) {
	m, ok := k.material(src.header.ordinal)
	if !ok {
		return nil, nil, &Error{Code: CodeInvalidCiphertext}
	}
	aad, err := additionalData(src.head, src.context)
	if err != nil {
		return nil, nil, err
	}
	var plaintext []byte
	if src.header.form == formWrapped {
		plaintext, err = s.token.DecryptWrapped(ctx, m.pair(), src.box, src.header.length, aad)
	} else {
		plaintext, err = s.token.Decrypt(ctx, m.Objects[RoleSeal], src.box, aad)
	}
	return plaintext, m, tokenError(err)
}

// ReEncryptRequest is the input of ReEncrypt.
type ReEncryptRequest struct {
	CiphertextBlob                 []byte            `shape:"CiphertextType"`
	SourceEncryptionContext        map[string]string `shape:"EncryptionContextType"`
	SourceKeyId                    string            `shape:"KeyIdType"`
	DestinationKeyId               string            `shape:"KeyIdType" required:"true"`
	DestinationEncryptionContext   map[string]string `shape:"EncryptionContextType"`
	SourceEncryptionAlgorithm      string            `shape:"EncryptionAlgorithmSpec"`
	DestinationEncryptionAlgorithm string            `shape:"EncryptionAlgorithmSpec"`
	GrantTokens                    []string          `shape:"GrantTokenList"`
	DryRun                         bool              `shape:"NullableBooleanType"`
	DryRunModifiers                []string          `shape:"DryRunModifierList"`
}

// ReEncryptResponse is the output of ReEncrypt.
type ReEncryptResponse struct {
	CiphertextBlob                 []byte
	SourceKeyId                    string
	KeyId                          string
	SourceEncryptionAlgorithm      string
	DestinationEncryptionAlgorithm string
	SourceKeyMaterialId            string `json:",omitempty"`
	DestinationKeyMaterialId       string `json:",omitempty"`
}

// ReEncrypt opens a blob and seals its plaintext under another key or context. The plaintext does not leave the service.
func (s *Service) ReEncrypt(ctx context.Context, c *Caller, in *ReEncryptRequest) (*ReEncryptResponse, error) {
	source := ciphertext{use: keyUse{op: "ReEncrypt", action: "ReEncryptFrom", keyID: in.SourceKeyId, grantTokens: in.GrantTokens},
		blob: in.CiphertextBlob, context: in.SourceEncryptionContext, algorithm: in.SourceEncryptionAlgorithm}
	from, err := s.sourceKey(ctx, c, &source, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	to, err := s.keyFor(ctx, c, keyUse{op: "ReEncrypt", action: "ReEncryptTo", keyID: in.DestinationKeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	algorithm, err := checkAlgorithm(in.DestinationEncryptionAlgorithm, to)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	plaintext, m, err := s.open(ctx, from, &source)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	blob, err := s.seal(ctx, to, plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	return &ReEncryptResponse{CiphertextBlob: blob, SourceKeyId: s.arns.key(from), KeyId: s.arns.key(to),
		SourceEncryptionAlgorithm: specSymmetric, DestinationEncryptionAlgorithm: algorithm,
		SourceKeyMaterialId: m.ID, DestinationKeyMaterialId: to.current().ID}, nil
}
