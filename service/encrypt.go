package service

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
)

const (
	specSymmetric      = "SYMMETRIC_DEFAULT" // KeySpec and EncryptionAlgorithmSpec
	maxPlaintext       = 4096                // bytes; API Reference, Encrypt
	modifierNoCipher   = "IGNORE_CIPHERTEXT" // DryRunModifierType
	msgDryRun          = "The request would have succeeded, but the DryRun option is set."
	msgIncorrectKey    = "The key ID in the request does not identify a CMK that can perform this operation."
	msgNoAttestation   = "Recipient is not supported: this service does not verify attestation documents."
	msgContextWithRSA  = "EncryptionContext is not supported with algorithm %s."
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
	return apierror.New(apierror.UnsupportedOperation, msgNoAttestation)
}

func dryRun(asked bool) error {
	if !asked {
		return nil
	}
	return apierror.New(apierror.DryRun, msgDryRun)
}

// encryptionAlgorithm returns the algorithm to use, given the one in the request if any (API Reference, Encrypt,
// EncryptionAlgorithm: SYMMETRIC_DEFAULT is the default).
func (s *Service) encryptionAlgorithm(asked string, k *Key) (string, error) {
	if asked == "" {
		asked = specSymmetric
	}
	return asked, s.checkAlgorithm(asked, k)
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
	k, err := s.keyFor(ctx, c, keyUse{op: "Encrypt", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext,
		algorithm: in.EncryptionAlgorithm})
	if err != nil {
		return nil, err
	}
	algorithm, err := s.encryptionAlgorithm(in.EncryptionAlgorithm, k)
	if err != nil {
		return nil, err
	}
	if err := checkPlaintext(algorithm, k, len(in.Plaintext)); err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	encrypted, err := s.encrypt(ctx, k, algorithm, in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	s.used(c, "Encrypt", k)
	return &EncryptResponse{CiphertextBlob: encrypted, KeyId: k.ARN(s.arns(ctx)), EncryptionAlgorithm: algorithm}, nil
}

// checkPlaintext refuses what is too long for RSAES-OAEP (RFC 8017 section 7.1.1: modulus - 2 * hash - 2).
func checkPlaintext(algorithm string, k *Key, size int) error {
	hash, oaep := oaepHashes[algorithm]
	if !oaep {
		return nil
	}
	if most := rsaSizes[k.Spec] - 2*hash.Size() - 2; size > most {
		return apierror.New(apierror.Validation, "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, k.Spec, most)
	}
	return nil
}

// encrypt gives a blob of form 1 or, for an RSA key, the bare ciphertext, which anyone with the public key could have made.
func (s *Service) encrypt(ctx context.Context, k *Key, algorithm string, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	hash, oaep := oaepHashes[algorithm]
	if !oaep {
		return s.seal(ctx, k, plaintext, encryptionContext)
	}
	if len(encryptionContext) > 0 {
		return nil, apierror.New(apierror.Validation, msgContextWithRSA, algorithm)
	}
	public, err := rsaPublicKey(k)
	if err != nil {
		return nil, err
	}
	ciphertext, err := rsa.EncryptOAEP(hash.New(), s.cfg.Rand, public, plaintext, nil)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("encrypt with the public key: %w", err))
	}
	return ciphertext, nil
}

func rsaPublicKey(k *Key) (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("read public key: %w", err))
	}
	if public, ok := public.(*rsa.PublicKey); ok {
		return public, nil
	}
	return nil, apierror.InternalError(fmt.Errorf("the public key of key %s is a %T", k.ID, public))
}

// seal makes a blob of form 1.
func (s *Service) seal(ctx context.Context, k *Key, plaintext []byte, encryptionContext map[string]string) ([]byte, error) {
	m := k.current()
	note(ctx, "ciphertextForm", blob.Sealed)
	note(ctx, "keyMaterialId", m.ID)
	if err := s.spendIV(ctx, k, m); err != nil {
		return nil, err
	}
	head := blob.Header{Form: blob.Sealed, KeyID: k.ID, Ordinal: m.Ordinal}.Encode()
	aad, err := additionalData(head, encryptionContext)
	if err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	box, err := token.Encrypt(ctx, m.key(k, RoleSeal), plaintext, aad)
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

// Decrypt opens a blob of Encrypt, ReEncrypt or the GenerateDataKey operations, or an RSA ciphertext.
func (s *Service) Decrypt(ctx context.Context, c *Caller, in *DecryptRequest) (*DecryptResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	source := ciphertext{use: keyUse{op: "Decrypt", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext,
		algorithm: in.EncryptionAlgorithm}, blob: in.CiphertextBlob}
	k, err := s.sourceKey(ctx, c, &source, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	plaintext, materialID, err := s.open(ctx, k, &source)
	if err != nil {
		return nil, err
	}
	s.used(c, "Decrypt", k)
	return &DecryptResponse{KeyId: k.ARN(s.arns(ctx)), Plaintext: plaintext, EncryptionAlgorithm: source.use.algorithm, KeyMaterialId: materialID}, nil
}

// ciphertext is what Decrypt and ReEncrypt are asked to open.
type ciphertext struct {
	use  keyUse // sourceKey sets the default of its algorithm
	blob []byte

	header    blob.Header // set by sourceKey, like the rest, for a symmetric key
	head, box []byte
}

// sourceKey finds and checks the key of a ciphertext: the one the blob names, which must be the one the
// request names if it names one. An RSA ciphertext names none.
func (s *Service) sourceKey(ctx context.Context, c *Caller, src *ciphertext, dry bool, modifiers []string) (*Key, error) {
	if len(modifiers) > 0 && !dry {
		return nil, apierror.New(apierror.Validation, msgModifierWithout)
	}
	ignoreBlob := len(modifiers) > 0 && src.use.keyID != "" // IGNORE_CIPHERTEXT is the only modifier
	if src.blob == nil && !ignoreBlob {
		return nil, apierror.New(apierror.Validation, msgCiphertextNull)
	}
	var named *Key
	if src.use.keyID != "" {
		var err error
		if named, err = s.keyFor(ctx, c, src.use); err != nil {
			if _, _, _, notOurs := blob.Parse(src.blob); apierror.Is(err, apierror.InvalidKeyUsage) && !ignoreBlob && notOurs == nil {
				return nil, apierror.New(apierror.IncorrectKey, msgIncorrectKey) // a ciphertext of a symmetric key, and this is none
			}
			return nil, err
		}
		if src.use.algorithm, err = s.encryptionAlgorithm(src.use.algorithm, named); err != nil {
			return nil, err
		}
		if ignoreBlob || !named.symmetric() {
			return named, nil
		}
	}
	var err error
	if src.header, src.head, src.box, err = blob.Parse(src.blob); err != nil {
		return nil, apierror.NoMessage(apierror.InvalidCiphertext).WithCause(err)
	}
	if named != nil {
		if named.ID != src.header.KeyID {
			return nil, apierror.New(apierror.IncorrectKey, msgIncorrectKey)
		}
		return named, nil
	}
	return s.embeddedKey(ctx, c, src)
}

// embeddedKey is keyFor for the key id inside a blob. A key that is not there and one that is another's are not
// told apart.
func (s *Service) embeddedKey(ctx context.Context, c *Caller, src *ciphertext) (*Key, error) {
	if err := s.readTokens(ctx, &src.use); err != nil {
		return nil, err
	}
	src.use.embedded = true
	k, err := s.key(ctx, c.Region, src.header.KeyID)
	if errors.Is(err, ErrNoRow) {
		return nil, s.unknown(ctx, c, src.use, "", "key/"+src.header.KeyID)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if err := s.mayUse(ctx, c, src.use, k); err != nil {
		if apierror.Is(err, apierror.AccessDenied) && k.Account != c.Account {
			return nil, s.unknown(ctx, c, src.use, "", "key/"+src.header.KeyID)
		}
		return nil, err
	}
	src.use.algorithm, err = s.encryptionAlgorithm(src.use.algorithm, k)
	return k, err
}

// open decrypts a ciphertext whose sourceKey is k. The caller clears the plaintext.
func (s *Service) open(ctx context.Context, k *Key, src *ciphertext) (plaintext []byte, materialID string, err error) {
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, "", err
	}
	if hash, oaep := oaepHashes[src.use.algorithm]; oaep {
		if len(src.use.context) > 0 {
			return nil, "", apierror.New(apierror.Validation, msgContextWithRSA, src.use.algorithm)
		}
		plaintext, err = token.DecryptOAEP(ctx, k.current().key(k, RolePair), keySpecs[k.Spec].pair, hash, src.blob)
		return plaintext, "", tokenError(err)
	}
	m, ok := k.material(src.header.Ordinal)
	if !ok || !m.present() {
		return nil, "", &apierror.Error{Code: apierror.InvalidCiphertext}
	}
	aad, err := additionalData(src.head, src.use.context)
	if err != nil {
		return nil, "", err
	}
	note(ctx, "ciphertextForm", src.header.Form)
	note(ctx, "keyMaterialId", m.ID)
	switch src.header.Form {
	case blob.WrappedDataKey:
		plaintext, err = token.DecryptWrapped(ctx, m.pair(k), src.box, src.header.DataKeyBytes, aad)
	case blob.WrappedPrivateKey:
		plaintext, err = token.DecryptWrappedPair(ctx, m.pair(k), src.box, aad)
	default:
		plaintext, err = token.Decrypt(ctx, m.key(k, RoleSeal), src.box, aad)
	}
	return plaintext, m.ID, tokenError(err)
}

// additionalData binds a blob's header and the encryption context to what is encrypted.
func additionalData(head []byte, encryptionContext map[string]string) ([]byte, error) {
	aad, err := blob.AdditionalData(head, encryptionContext)
	if errors.Is(err, blob.ErrContextTooLarge) {
		const most = blob.MaxContext - 4 // without the number of pairs
		return nil, apierror.New(apierror.Validation, "The encryption context is too large: its keys and values, "+
			"with 8 bytes for each pair, must not be longer than %d bytes.", most)
	}
	return aad, err
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
	source := ciphertext{use: keyUse{op: "ReEncrypt", action: "ReEncryptFrom", keyID: in.SourceKeyId, grantTokens: in.GrantTokens,
		context: in.SourceEncryptionContext, algorithm: in.SourceEncryptionAlgorithm}, blob: in.CiphertextBlob}
	destination := keyUse{op: "ReEncrypt", action: "ReEncryptTo", keyID: in.DestinationKeyId, grantTokens: in.GrantTokens,
		context: in.DestinationEncryptionContext, algorithm: in.DestinationEncryptionAlgorithm}
	if to, err := s.resolve(ctx, c, destination); err == nil { // or keyFor will say it
		source.use.otherKey = to.ID
	}
	from, err := s.sourceKey(ctx, c, &source, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	destination.otherKey = from.ID
	to, err := s.keyFor(ctx, c, destination)
	if err != nil {
		return nil, err
	}
	algorithm, err := s.encryptionAlgorithm(in.DestinationEncryptionAlgorithm, to)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	plaintext, sourceMaterial, err := s.open(ctx, from, &source)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	if err := checkPlaintext(algorithm, to, len(plaintext)); err != nil {
		return nil, err
	}
	encrypted, err := s.encrypt(ctx, to, algorithm, plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	s.used(c, "ReEncrypt", from)
	s.used(c, "ReEncrypt", to)
	return &ReEncryptResponse{CiphertextBlob: encrypted, SourceKeyId: from.ARN(s.arns(ctx)), KeyId: to.ARN(s.arns(ctx)),
		SourceEncryptionAlgorithm: source.use.algorithm, DestinationEncryptionAlgorithm: algorithm,
		SourceKeyMaterialId: sourceMaterial, DestinationKeyMaterialId: to.materialID()}, nil
}
