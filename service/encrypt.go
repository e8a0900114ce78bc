package service

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/blob"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

const (
	specSymmetric     = "SYMMETRIC_DEFAULT" // KeySpec and EncryptionAlgorithmSpec
	maxPlaintext      = 4096                // bytes; API Reference, Encrypt
	modifierNoCipher  = "IGNORE_CIPHERTEXT" // DryRunModifierType
	msgDryRun         = "The request would have succeeded, but the DryRun option is set."
	msgIncorrectKey   = "The key ID in the request does not identify a CMK that can perform this operation."
	msgNoAttestation  = "Recipient is not supported: this service does not verify attestation documents."
	msgContextWithRSA = "EncryptionContext is not supported with algorithm %s."
	msgCiphertextNull = "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: " +
		"Member must not be null"
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

// encryptionAlgorithm returns the algorithm to use, given the one in the request if any (API
// Reference, Encrypt, EncryptionAlgorithm: SYMMETRIC_DEFAULT is the default).
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

// Encrypt encrypts up to 4096 bytes under a key.
func (s *Service) Encrypt(ctx context.Context, c *iam.Caller, in *EncryptRequest) (*EncryptResponse, error) {
	defer clear(in.Plaintext)
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "Encrypt",
		keyID:       in.KeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{encryptionContext: in.EncryptionContext, conditions: in},
	})
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
	s.recordUse(c, "Encrypt", k)
	return &EncryptResponse{CiphertextBlob: encrypted, KeyId: k.ARN(s.arns(ctx)), EncryptionAlgorithm: algorithm}, nil
}

func (in *EncryptRequest) condition(key string, _ *Key) []string {
	return encryptionCondition(key, in.EncryptionAlgorithm)
}

// checkPlaintext refuses a plaintext that is too long for RSAES-OAEP (RFC 8017 section 7.1.1:
// modulus - 2 * hash - 2).
func checkPlaintext(algorithm string, k *Key, size int) error {
	hash, oaep := oaepHashes[algorithm]
	if !oaep {
		return nil
	}
	if most := rsaSizes[k.Spec] - 2*hash.Size() - 2; size > most {
		return apierror.New(apierror.Validation,
			"Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, k.Spec, most)
	}
	return nil
}

// encrypt returns a blob of form 1 or, for an RSA key, the bare ciphertext, as anyone with the
// public key can make it.
func (s *Service) encrypt(
	ctx context.Context, k *Key, algorithm string, plaintext []byte, encryptionContext map[string]string,
) ([]byte, error) {
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
func (s *Service) seal(
	ctx context.Context, k *Key, plaintext []byte, encryptionContext map[string]string,
) ([]byte, error) {
	m := k.CurrentMaterial()
	record.Add(ctx, "ciphertextForm", int(blob.Sealed))
	record.Add(ctx, "keyMaterialId", m.ID)
	if err := s.spendIV(ctx, k, m); err != nil {
		return nil, err
	}
	head := blob.Header{Form: blob.Sealed, KeyID: k.ID, Ordinal: m.Ordinal}.EncodeFor(len(plaintext))
	aad, err := additionalData(head, encryptionContext)
	if err != nil {
		return nil, err
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	box, err := token.Encrypt(ctx, m.TokenKey(k, RoleSeal), plaintext, aad)
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

// Decrypt decrypts a blob of Encrypt, ReEncrypt or one of the GenerateDataKey operations, or an RSA
// ciphertext.
func (s *Service) Decrypt(ctx context.Context, c *iam.Caller, in *DecryptRequest) (*DecryptResponse, error) {
	if err := refuseRecipient(in.Recipient); err != nil {
		return nil, err
	}
	source := ciphertext{
		request: keyRequest{
			operation:   "Decrypt",
			keyID:       in.KeyId,
			grantTokens: in.GrantTokens,
			policyInput: policyInput{encryptionContext: in.EncryptionContext, conditions: in},
		},
		algorithm: in.EncryptionAlgorithm,
		blob:      in.CiphertextBlob,
	}
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
	s.recordUse(c, "Decrypt", k)
	return &DecryptResponse{
		KeyId:               k.ARN(s.arns(ctx)),
		Plaintext:           plaintext,
		EncryptionAlgorithm: source.algorithm,
		KeyMaterialId:       materialID,
	}, nil
}

func (in *DecryptRequest) condition(key string, _ *Key) []string {
	return encryptionCondition(key, in.EncryptionAlgorithm)
}

// ciphertext is what Decrypt and ReEncrypt decrypt.
type ciphertext struct {
	request   keyRequest
	algorithm string // as the client gave it, or the default once sourceKey has found the key
	blob      []byte

	// Parts of a blob of a symmetric key; sourceKey sets them.
	header    blob.Header
	head, box []byte
}

// sourceKey finds and checks the key of a ciphertext: the one that the blob names. If the request
// names a key, it must be the same. An RSA ciphertext names no key.
func (s *Service) sourceKey(
	ctx context.Context, c *iam.Caller, src *ciphertext, dry bool, modifiers []string,
) (*Key, error) {
	if len(modifiers) > 0 && !dry {
		return nil, apierror.New(apierror.Validation, msgModifierWithout)
	}
	ignoreBlob := len(modifiers) > 0 && src.request.keyID != "" // IGNORE_CIPHERTEXT is the only modifier
	if src.blob == nil && !ignoreBlob {
		return nil, apierror.New(apierror.Validation, msgCiphertextNull)
	}
	var named *Key
	if src.request.keyID != "" {
		var err error
		if named, err = s.keyFor(ctx, c, src.request); err != nil {
			_, _, _, notOurs := blob.Parse(src.blob)
			if apierror.Is(err, apierror.InvalidKeyUsage) && !ignoreBlob && notOurs == nil {
				return nil, apierror.New(apierror.IncorrectKey, msgIncorrectKey) // only symmetric keys make such blobs
			}
			return nil, err
		}
		if src.algorithm, err = s.encryptionAlgorithm(src.algorithm, named); err != nil {
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

// embeddedKey is keyFor for the key id inside a blob. The errors for a key that does not exist and
// for another account's key are the same.
func (s *Service) embeddedKey(ctx context.Context, c *iam.Caller, src *ciphertext) (*Key, error) {
	if err := s.readTokens(ctx, &src.request); err != nil {
		return nil, err
	}
	src.request.fromCiphertext = true
	k, err := s.key(ctx, c.Region, src.header.KeyID)
	if errors.Is(err, ErrNoRow) {
		return nil, s.unknown(ctx, c, src.request, "", "key/"+src.header.KeyID)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if err := s.mayUse(ctx, c, src.request, k); err != nil {
		if apierror.Is(err, apierror.AccessDenied) && k.Account != c.Account {
			return nil, s.unknown(ctx, c, src.request, "", "key/"+src.header.KeyID)
		}
		return nil, err
	}
	src.algorithm, err = s.encryptionAlgorithm(src.algorithm, k)
	return k, err
}

// open decrypts a ciphertext of key k, which sourceKey has found. The caller clears the plaintext.
func (s *Service) open(ctx context.Context, k *Key, src *ciphertext) (plaintext []byte, materialID string, err error) {
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, "", err
	}
	if hash, oaep := oaepHashes[src.algorithm]; oaep {
		if len(src.request.encryptionContext) > 0 {
			return nil, "", apierror.New(apierror.Validation, msgContextWithRSA, src.algorithm)
		}
		plaintext, err = token.DecryptOAEP(ctx, k.CurrentMaterial().TokenKey(k, RolePair), keySpecs[k.Spec].pair,
			hash, src.blob)
		return plaintext, "", tokenError(err)
	}
	m, ok := k.material(src.header.Ordinal)
	if !ok { // another server may have made it a moment ago
		now, err := s.store.KeyNow(ctx, k.Region, k.ID)
		if err != nil {
			return nil, "", apierror.FromStore(err)
		}
		m, ok = now.material(src.header.Ordinal)
	}
	if !ok || !m.present() {
		return nil, "", &apierror.Error{Code: apierror.InvalidCiphertext}
	}
	aad, err := additionalData(src.head, src.request.encryptionContext)
	if err != nil {
		return nil, "", err
	}
	record.Add(ctx, "ciphertextForm", int(src.header.Form))
	record.Add(ctx, "keyMaterialId", m.ID)
	switch src.header.Form {
	case blob.WrappedDataKey:
		plaintext, err = token.DecryptWrapped(ctx, m.pair(k), src.box, src.header.DataKeyBytes, aad)
	case blob.WrappedPrivateKey:
		plaintext, err = token.DecryptWrappedPair(ctx, m.pair(k), src.box, aad)
	default:
		plaintext, err = token.Decrypt(ctx, m.TokenKey(k, RoleSeal), src.box, aad)
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

// ReEncrypt decrypts a ciphertext and encrypts its plaintext under another key or encryption
// context. The plaintext does not leave the service.
func (s *Service) ReEncrypt(ctx context.Context, c *iam.Caller, in *ReEncryptRequest) (*ReEncryptResponse, error) {
	sourceSide := &reEncryptSide{algorithm: in.SourceEncryptionAlgorithm}
	source := ciphertext{
		request: keyRequest{
			operation:   "ReEncrypt",
			permission:  "kms:ReEncryptFrom",
			keyID:       in.SourceKeyId,
			grantTokens: in.GrantTokens,
			policyInput: policyInput{encryptionContext: in.SourceEncryptionContext, conditions: sourceSide},
		},
		algorithm: in.SourceEncryptionAlgorithm,
		blob:      in.CiphertextBlob,
	}
	destinationSide := &reEncryptSide{algorithm: in.DestinationEncryptionAlgorithm}
	destination := keyRequest{
		operation:   "ReEncrypt",
		permission:  "kms:ReEncryptTo",
		keyID:       in.DestinationKeyId,
		grantTokens: in.GrantTokens,
		policyInput: policyInput{encryptionContext: in.DestinationEncryptionContext, conditions: destinationSide},
	}
	if to, err := s.resolve(ctx, c, destination); err == nil { // keyFor will return the error
		sourceSide.otherKey = to.ID
	}
	from, err := s.sourceKey(ctx, c, &source, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	destinationSide.otherKey = from.ID
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
	s.recordUse(c, "ReEncrypt", from)
	s.recordUse(c, "ReEncrypt", to)
	return &ReEncryptResponse{
		CiphertextBlob:                 encrypted,
		SourceKeyId:                    from.ARN(s.arns(ctx)),
		KeyId:                          to.ARN(s.arns(ctx)),
		SourceEncryptionAlgorithm:      source.algorithm,
		DestinationEncryptionAlgorithm: algorithm,
		SourceKeyMaterialId:            sourceMaterial,
		DestinationKeyMaterialId:       to.materialID(),
	}, nil
}

// reEncryptSide is the source or the destination of ReEncrypt, for policies.
type reEncryptSide struct {
	algorithm string
	otherKey  string // id of the key of the other side; empty if it does not exist
}

func (r *reEncryptSide) condition(key string, k *Key) []string {
	if key == "kms:reencryptonsamekey" {
		// A key that does not exist counts as another key. Otherwise a policy could find out which
		// keys exist.
		return one(strconv.FormatBool(r.otherKey != "" && r.otherKey == k.ID))
	}
	return encryptionCondition(key, r.algorithm)
}

// condition gives the values for a side of which nothing is known.
func (*ReEncryptRequest) condition(key string, k *Key) []string {
	return (&reEncryptSide{}).condition(key, k)
}
